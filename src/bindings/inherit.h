/* Sockets that this process was started with: fd:N, and systemd:NAME (listener_inherit.c). */
#ifndef NP_INHERIT_H
#define NP_INHERIT_H

#include <lua.h>

#include "core/listener.h"

/* 0: fd is a listening socket, which has FD_CLOEXEC now.  Else a code, the reason in why[size], and
 * nothing was changed. */
int np_inherited_check(int fd, char *why, size_t size);

/* The sockets that were passed to this process under the name of the systemd: address, all checked
 * as above: their number, or a code and the reason.  They are the caller's to close, and are given
 * once: -EADDRINUSE for a second time.  -ENOENT: none of that name, or none for this process. */
int np_inherited_take(lua_State *L, const np_addr *a, int fds[NP_LISTEN_SOCKETS_MAX], char *why,
                      size_t size);

/* The next socket of that name, which has to be one of datagrams or packets: fd, or a code as
 * above. */
int np_inherited_take_dgram(lua_State *L, const np_addr *a, char *why, size_t size);

/* The Lua function inherited([name]). */
int np_inherited_f_list(lua_State *L);

/* fd is about to be taken as fd:N, so no systemd: name gives it any more. */
void np_inherited_note(lua_State *L, int fd);

#endif
