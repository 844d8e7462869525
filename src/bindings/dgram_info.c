/* What comes and goes with datagrams besides their bytes, as Lua values: the info table of recv,
 * the options from, interface, ttl and tos of send. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "bindings/credentials.h"
#include "bindings/dgram_impl.h"
#include "core/packet.h"

static void set_integer(lua_State *L, const char *key, lua_Integer v) {
  lua_pushinteger(L, v);
  lua_setfield(L, -2, key);
}

static void set_address(lua_State *L, dgram *d, const np_message *m) {
  np_sockaddr to;
  if (!m->with.has_to || !d->core) return; /* a finalizer may have closed it meanwhile */
  np_dgram_sent_to(d->core, &m->with, &to);
  np_dgram_push_sockaddr(L, d->scheme, &to);
  lua_setfield(L, -2, "to");
}

void np_dgram_push_info(lua_State *L, dgram *d, const np_message *m) {
  const np_ancillary *w = &m->with;
  lua_createtable(L, 0, 8);
  if (m->full > m->len) set_integer(L, "truncated", (lua_Integer)m->full);
  set_address(L, d, m);
  np_packet_info packet;
  if (np_packet_describe(&m->from, &packet)) {
    set_integer(L, "ifindex", packet.ifindex);
    set_integer(L, "protocol", packet.protocol);
    lua_pushstring(L, packet.direction);
    lua_setfield(L, -2, "direction");
  }
  if (w->ifindex) set_integer(L, "ifindex", w->ifindex);
  if (w->ttl >= 0) set_integer(L, "ttl", w->ttl);
  if (w->tos >= 0) {
    set_integer(L, "tos", w->tos);
    set_integer(L, "ecn", w->tos & 3); /* RFC 3168 */
  }
  if (w->time_ns > 0) {
    lua_pushnumber(L, (double)w->time_ns / 1e9);
    lua_setfield(L, -2, "time");
  }
  if (!w->has_cred) return;
  np_push_cred(L, &w->cred);
  lua_setfield(L, -2, "credentials");
}

int np_dgram_interface(lua_State *L, int idx, int arg, unsigned *out) {
  size_t len;
  int is_int;
  lua_Integer i = lua_tointegerx(L, idx, &is_int);
  if (lua_type(L, idx) == LUA_TNUMBER && is_int && i > 0 && i <= INT32_MAX) {
    *out = (unsigned)i;
    return 0;
  }
  const char *s = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : NULL;
  if (!s) {
    const char *got = luaL_tolstring(L, idx, NULL);
    return luaL_argerror(
      L, arg, lua_pushfstring(L, "interface: a name or a number above 0 expected, got %s", got));
  }
  return np_addr_interface(s, len, out);
}

int np_dgram_parse_host(lua_State *L, int idx, np_sockaddr *out) {
  size_t len;
  np_addr a;
  struct in6_addr ignored;
  char six[INET6_ADDRSTRLEN + 2];
  const char *s = lua_tolstring(L, idx, &len), *why;
  if (inet_pton(AF_INET6, s, &ignored) == 1 && len < INET6_ADDRSTRLEN) {
    len = (size_t)snprintf(six, sizeof six, "[%s]", s);
    s = six;
  }
  int r = np_addr_parse(&a, s, len, NP_ICMP, &why); /* a host alone; else with a port: */
  if (r < 0) r = np_addr_parse(&a, s, len, NP_UDP, &why);
  bool ip = r == 0 && (np_scheme_inet(a.scheme) || np_scheme_portless(a.scheme));
  return ip && a.literal && a.host_len > 0 ? np_addr_sockaddr(&a, false, out) : -EINVAL;
}

static int read_from(lua_State *L, dgram *d, np_sockaddr *from, const char **why) {
  int r = np_dgram_parse_host(L, -1, from);
  if (r == 0) np_dgram_map(d->core, from);
  if (r == 0 && from->ss.ss_family != np_dgram_domain(d->core)) r = -EAFNOSUPPORT;
  if (r < 0) *why = "from is not an address this socket could have";
  return r;
}

int np_dgram_read_with(lua_State *L, dgram *d, int idx, np_sendwith *with, const char **why) {
  *with = (np_sendwith){.ttl = -1, .tos = -1};
  if (lua_isnil(L, idx)) return 0;
  with->ttl = (int)np_opt_integer(L, idx, "ttl", -1, 0, 255);
  with->tos = (int)np_opt_integer(L, idx, "tos", -1, 0, 255);
  int r = 0;
  bool from = np_opt_string(L, idx, "from", NULL) != NULL;
  if (lua_getfield(L, idx, "interface") != LUA_TNIL) {
    r = np_dgram_interface(L, -1, idx, &with->ifindex);
    if (r < 0) *why = "no such interface";
  }
  lua_getfield(L, idx, "from");
  bool ip = d->scheme == NP_UDP || np_scheme_portless(d->scheme);
  bool some = from || with->ifindex || with->ttl >= 0 || with->tos >= 0;
  if (r == 0 && some && !ip) {
    *why = "from, interface, ttl and tos are IP's";
    r = -EOPNOTSUPP;
  }
  if (r == 0 && from) r = read_from(L, d, &with->from, why);
  lua_pop(L, 2);
  return r < 0 ? r : some;
}
