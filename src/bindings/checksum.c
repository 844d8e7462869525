/* neap.checksum.core: the internet checksum, for scripts that make packets. Pure. */
#include "core/checksum.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"

/* internet(bytes [, sum]) -> the checksum, 0 to 65535. sum: of what comes before (pseudo). */
static int f_internet(lua_State *L) {
  size_t n;
  const char *p = luaL_checklstring(L, 1, &n);
  lua_Integer sum = luaL_optinteger(L, 2, 0);
  luaL_argcheck(L, sum >= 0 && sum <= UINT32_MAX, 2, "not a sum of pseudo()");
  lua_pushinteger(L, np_checksum_end(np_checksum_add((uint32_t)sum, p, n)));
  return 1;
}

/* The 4 or 16 bytes of the literal address at arg: their number. */
static size_t check_address(lua_State *L, int arg, unsigned char out[16]) {
  const char *s = luaL_checkstring(L, arg);
  if (inet_pton(AF_INET, s, out) == 1) return 4;
  if (inet_pton(AF_INET6, s, out) == 1) return 16;
  return (size_t)luaL_argerror(L, arg, "not an IPv4 or IPv6 address");
}

/* pseudo(source, destination, protocol, length) -> the sum of the pseudo header: RFC 768, RFC 9293
 * (IPv4), RFC 8200 section 8.1 (IPv6). Addresses are literals of one family, without brackets. */
static int f_pseudo(lua_State *L) {
  unsigned char from[16], to[16];
  size_t n = check_address(L, 1, from), m = check_address(L, 2, to);
  lua_Integer protocol = luaL_checkinteger(L, 3), length = luaL_checkinteger(L, 4);
  luaL_argcheck(L, n == m, 2, "the addresses are of two families");
  luaL_argcheck(L, protocol >= 0 && protocol <= 255, 3, "not a protocol from 0 to 255");
  luaL_argcheck(L, length >= 0 && length <= (n == 4 ? UINT16_MAX : UINT32_MAX), 4,
                "not the length of a packet");
  uint32_t tail[2] = {htonl((uint32_t)length), htonl((uint32_t)protocol)};
  uint32_t sum = np_checksum_add(np_checksum_add(0, from, n), to, n);
  lua_pushinteger(L, np_checksum_add(sum, tail, sizeof tail));
  return 1;
}

static const luaL_Reg functions[] = {
  {"internet", f_internet},
  {"pseudo", f_pseudo},
  {NULL, NULL},
};

int luaopen_neap_checksum_core(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
