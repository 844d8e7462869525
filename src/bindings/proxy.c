/* neap.proxy.core: what the PROXY protocol needs of addresses: whether one lies in a network, and
 * another one as a stream's peer. Headers are read in lua/stdlib/net/proxy.lua. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/stream_impl.h"
#include "core/address.h"

/* The 16 bytes of an address, an IPv4 one as mapped (RFC 4291 2.5.5.2), and how many of their bits
 * an IPv4 prefix does not count; -1: none. */
static int bytes_of(const char *s, uint8_t out[16]) {
  if (inet_pton(AF_INET6, s, out) == 1) return 0;
  memset(out, 0, 10);
  memset(out + 10, 0xff, 2);
  return inet_pton(AF_INET, s, out + 12) == 1 ? 96 : -1;
}

/* "10.0.0.0/8", "::1": the number of bits that count; -1: neither. */
static int prefix_of(const char *s, uint8_t out[16]) {
  char text[INET6_ADDRSTRLEN];
  size_t n = strcspn(s, "/");
  if (n >= sizeof text) return -1;
  memcpy(text, s, n);
  text[n] = '\0';
  int skipped = bytes_of(text, out);
  if (skipped < 0 || s[n] == '\0') return skipped < 0 ? -1 : 128;
  char *end;
  long bits = strtol(s + n + 1, &end, 10);
  bool digits = s[n + 1] >= '0' && s[n + 1] <= '9' && *end == '\0';
  return digits && bits <= 128 - skipped ? (int)bits + skipped : -1;
}

/* within(ip, prefix): a boolean; nil: the prefix is none. */
static int f_within(lua_State *L) {
  uint8_t ip[16], net[16];
  int known = bytes_of(luaL_checkstring(L, 1), ip), bits = prefix_of(luaL_checkstring(L, 2), net);
  if (bits < 0) return 0;
  int whole = bits / 8, rest = bits % 8;
  bool same = known >= 0 && memcmp(ip, net, (size_t)whole) == 0;
  if (same && rest > 0) same = (ip[whole] ^ net[whole]) >> (8 - rest) == 0;
  lua_pushboolean(L, same);
  return 1;
}

/* set_peer(stream, "tcp://1.2.3.4:5"): false when that is no such address. */
static int f_set_peer(lua_State *L) {
  stream *u = np_stream_self(L);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len), *why;
  np_addr a;
  np_sockaddr sa;
  bool ok = np_addr_parse(&a, s, len, NP_TCP, &why) == 0 && a.scheme == NP_TCP && a.literal &&
            a.host_len > 0 && np_addr_sockaddr(&a, false, &sa) == 0;
  if (ok) {
    memcpy(&u->peer, &sa.ss, sa.len);
    u->peer_len = (uint8_t)sa.len;
  }
  lua_pushboolean(L, ok);
  return 1;
}

int luaopen_neap_proxy_core(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"within", f_within}, {"set_peer", f_set_peer}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
