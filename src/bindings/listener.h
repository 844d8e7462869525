/* Listeners at the Lua level. */
#ifndef NP_BIND_LISTENER_H
#define NP_BIND_LISTENER_H

#include <lua.h>

#include "core/listener.h"

/* Pushes a listener over the listening socket fd. Assumes ownership of fd, also on failure and when
 * it raises (no memory).  0; or a negative code and nothing pushed. */
int np_push_fd_listener(lua_State *L, int fd);

/* The sockets of the listener at idx, which stay its own: their number, 0 when it is closed or
 * mem:.  -1: that is no listener. */
int np_listener_fds(lua_State *L, int idx, int fds[NP_LISTEN_SOCKETS_MAX]);

#endif
