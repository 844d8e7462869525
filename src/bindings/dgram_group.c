/* join() and leave(): membership of datagram sockets in multicast groups.
 *
 * A group is a bare address ("239.1.2.3", "ff02::1", "[ff02::1%eth0]"), because a membership has no
 * port; what is received is by the port the socket is bound to. */
#include <netinet/in.h>

#include "bindings/dgram_impl.h"
#include "core/multicast.h"

typedef int change_fn(int fd, const np_sockaddr *group, const np_sockaddr *source,
                      unsigned ifindex);

static int failed(lua_State *L, int code, const char *verb, const char *what) {
  return np_fail(L, code, "%s %s%s", verb, lua_tostring(L, 2), what);
}

static int change(lua_State *L, const char *verb, change_fn *f) {
  static const char *const known[] = {"interface", "source", NULL};
  dgram *d = np_dgram_check(L);
  np_sockaddr group, source;
  unsigned ifindex = 0;
  luaL_checkstring(L, 2);
  lua_settop(L, 3);
  if (!lua_isnil(L, 3)) np_check_options(L, 3, known);
  bool sourced = np_opt_string(L, 3, "source", NULL) != NULL;
  if (!d->core) return np_fail_closed(L, &d->streak);
  int r = np_dgram_parse_host(L, 2, &group);
  if (r < 0) return failed(L, r, verb, ": not an address of a group");
  if (!lua_isnil(L, 3) && lua_getfield(L, 3, "interface") != LUA_TNIL) {
    r = np_dgram_interface(L, -1, 3, &ifindex);
    if (r < 0) return failed(L, r, verb, lua_pushfstring(L, " on %s", lua_tostring(L, -1)));
  }
  if (sourced) {
    lua_getfield(L, 3, "source");
    r = np_dgram_parse_host(L, -1, &source);
    if (r < 0) return failed(L, r, verb, lua_pushfstring(L, ": source %s", lua_tostring(L, -1)));
  }
  /* a scope names the interface as well */
  if (ifindex == 0 && group.ss.ss_family == AF_INET6)
    ifindex = ((struct sockaddr_in6 *)&group.ss)->sin6_scope_id;
  r = f(np_dgram_fd(d->core), &group, sourced ? &source : NULL, ifindex);
  if (r < 0) return failed(L, r, verb, "");
  lua_pushboolean(L, 1);
  return 1;
}

/* socket:join(group [, opts]) -> true, or nil, message, code.
 *
 * opts: interface (name or number; default: the system's choice), source (an address: only what it
 * sends to the group; several such calls add up). Codes: EINVAL (no group), ENODEV (no such
 * interface), EADDRINUSE (joined already), ENOBUFS (more than the system allows). */
int np_dgram_f_join(lua_State *L) { return change(L, "join", np_multicast_join); }

/* socket:leave(group [, opts]) -> true, or nil, message, code. As it was joined; "EADDRNOTAVAIL":
 * it was not. Closing leaves by itself. */
int np_dgram_f_leave(lua_State *L) { return change(L, "leave", np_multicast_leave); }
