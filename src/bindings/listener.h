/* Listeners at the Lua level. */
#ifndef NP_BIND_LISTENER_H
#define NP_BIND_LISTENER_H

#include <lua.h>

#include "core/listener.h"

/* Pushes a listener over the listening socket fd. Assumes ownership of fd, also on failure and when
 * it raises (no memory).  0; or a negative code and nothing pushed. */
int np_push_fd_listener(lua_State *L, int fd);

/* Accepting for a server (connection.c), whose stack has the listener at 1 and a closed stream on
 * top.  next: 0, and the connection is on top, which is that stream or another object above it;
 * -EAGAIN: there is none; or a code.  await: waits for one, to be returned.  ended: to be returned
 * for a code: false if our side closed the listener, else it raises. */
int np_listener_next(lua_State *L);
int np_listener_await(lua_State *L, lua_KContext ctx, lua_KFunction k);
int np_listener_ended(lua_State *L, int code);

/* The sockets of the listener at idx, which stay its own: their number, 0 when it is closed or
 * mem:.  -1: that is no listener. */
int np_listener_fds(lua_State *L, int idx, int fds[NP_LISTEN_SOCKETS_MAX]);

#endif
