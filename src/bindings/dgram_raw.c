/* What datagram() needs for sockets below UDP: filters from tables, captures, and what to do when
 * the system does not let us. */
#include <netinet/in.h>

#include "bindings/dgram_impl.h"
#include "bindings/dgram_raw.h"

static const char *const fields = "a filter's instruction is {code, jt, jf, k}";

/* Field number i of the instruction at the top of the stack. */
static lua_Integer field(lua_State *L, int arg, lua_Integer at, int i, lua_Integer max) {
  int is_int;
  lua_rawgeti(L, -1, i);
  lua_Integer v = lua_tointegerx(L, -1, &is_int);
  if (lua_type(L, -1) != LUA_TNUMBER || !is_int || v < 0 || v > max)
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "filter[%d][%d]: an integer from 0 to %I expected; %s",
                                  (int)at, i, max, fields));
  lua_pop(L, 1);
  return v;
}

int np_dgram_read_filter(lua_State *L, int arg, np_bpf **prog) {
  *prog = NULL;
  if (lua_isnoneornil(L, arg) || lua_getfield(L, arg, "filter") == LUA_TNIL) return 0;
  if (!lua_istable(L, -1)) luaL_argerror(L, arg, "filter: a list of instructions expected");
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  if (n < 1 || n > NP_BPF_MAX) luaL_argerror(L, arg, "filter: not from 1 to 4096 instructions");
  int list = lua_gettop(L);
  *prog = lua_newuserdatauv(L, (size_t)n * sizeof **prog, 0);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, list, i) != LUA_TTABLE)
      luaL_argerror(L, arg, lua_pushfstring(L, "filter[%d]: %s", (int)i, fields));
    (*prog)[i - 1] = (np_bpf){.code = (uint16_t)field(L, arg, i, 1, UINT16_MAX),
                              .jt = (uint8_t)field(L, arg, i, 2, UINT8_MAX),
                              .jf = (uint8_t)field(L, arg, i, 3, UINT8_MAX),
                              .k = (uint32_t)field(L, arg, i, 4, UINT32_MAX)};
    lua_pop(L, 1);
  }
  lua_remove(L, list);
  return (int)n;
}

const char *np_dgram_advice(np_scheme scheme, int code) {
  bool refused = code == -EPERM || code == -EACCES;
  if (refused && scheme == NP_ICMP)
    return "not permitted: this group may not ping "
           "(sysctl -w net.ipv4.ping_group_range='0 2147483647', ip(7) and icmp(7))";
  if (refused && (scheme == NP_RAW || scheme == NP_PACKET))
    return "not permitted: needs CAP_NET_RAW (be root, or setcap cap_net_raw+ep neap)";
  return NULL;
}

int np_dgram_open_icmp(const np_addr *at, np_bindopts *o, const char **bad) {
  np_sockaddr a;
  int r = np_addr_sockaddr(at, false, &a);
  if (r < 0) return r;
  o->protocol = a.ss.ss_family == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
  r = np_socket_bind(SOCK_DGRAM, &a, o, bad);
  o->protocol = 0;
  return r;
}
