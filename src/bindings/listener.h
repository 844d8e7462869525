/* Listeners at the Lua level. */
#ifndef NP_BIND_LISTENER_H
#define NP_BIND_LISTENER_H

#include <lua.h>

/* Pushes a listener over the listening socket fd. Assumes ownership of fd, also on failure and when
 * it raises (no memory).  0; or a negative code and nothing pushed. */
int np_push_fd_listener(lua_State *L, int fd);

#endif
