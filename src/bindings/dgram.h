/* Datagram and record sockets at the Lua level. */
#ifndef NP_BIND_DGRAM_H
#define NP_BIND_DGRAM_H

#include <lua.h>

/* Pushes a datagram or record socket over fd. Assumes ownership of fd, also on failure and when it
 * raises (no memory). 0; or a negative code and nothing pushed. */
int np_push_fd_dgram(lua_State *L, int fd);

#endif
