/* neap.websocket.core: frames as strings, text that is checked, keys of the handshake. No I/O.
 *
 * Reading frames is a codec's (codec.websocket), writing is a stream's; this makes what is written.
 */
#include "core/websocket.h"

#include <string.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "core/tls.h"
#include "core/utf8.h"

static unsigned check_bits(lua_State *L, int arg) {
  lua_Integer bits = luaL_checkinteger(L, arg);
  luaL_argcheck(L, bits >= 0 && bits <= 0xff, arg, "a byte expected");
  return (unsigned)bits;
}

/* head(bits, length) -> the head of a frame without mask. */
static int f_head(lua_State *L) {
  char out[NP_WS_HEAD_MAX];
  lua_Integer length = luaL_checkinteger(L, 2);
  luaL_argcheck(L, length >= 0, 2, "length must not be negative");
  size_t n = np_ws_head_write(out, check_bits(L, 1), (uint64_t)length, NULL);
  lua_pushlstring(L, out, n);
  return 1;
}

/* masked(bits, payload) -> a whole frame with a random mask; nil, message, code. */
static int f_masked(lua_State *L) {
  unsigned char mask[NP_WS_MASK];
  char head[NP_WS_HEAD_MAX];
  luaL_Buffer b;
  size_t len;
  unsigned bits = check_bits(L, 1);
  const char *s = luaL_checklstring(L, 2, &len);
  int err = np_ws_random(mask, sizeof mask);
  if (err < 0) return np_fail(L, err, "mask");
  size_t n = np_ws_head_write(head, bits, len, mask);
  char *out = luaL_buffinitsize(L, &b, n + len);
  memcpy(out, head, n);
  np_ws_mask(out + n, s, len, mask);
  luaL_pushresultsize(&b, n + len);
  return 1;
}

/* utf8(bytes [, state [, last]]) -> the state for the next piece; nil: no UTF-8, or (last) its end
 * is inside a character. */
static int f_utf8(lua_State *L) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  uint32_t state = (uint32_t)luaL_optinteger(L, 2, 0);
  if (!np_utf8(&state, s, len) || (state != 0 && lua_toboolean(L, 3))) return 0;
  lua_pushinteger(L, state);
  return 1;
}

/* why(bytes, masked) -> what is wrong with the frame that they begin, if anything is. */
static int f_why(lua_State *L) {
  np_ws_head h;
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len);
  if (np_ws_head_read(s, len, lua_toboolean(L, 2) ? NP_WS_MASKED : 0, &h) >= 0) return 0;
  lua_pushstring(L, h.why);
  return 1;
}

/* accept(key) -> what Sec-WebSocket-Accept has to be (RFC 6455 4.2.2). */
static int f_accept(lua_State *L) {
  char out[NP_SHA1_BASE64];
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lua_pushliteral(L, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  lua_concat(L, 2);
  size_t len;
  const char *s = lua_tolstring(L, 1, &len);
  int n = np_sha1_base64(s, len, out);
  if (n < 0) return np_fail(L, n, "SHA-1");
  lua_pushlstring(L, out, (size_t)n);
  return 1;
}

/* key() -> a Sec-WebSocket-Key; nil, message, code. */
static int f_key(lua_State *L) {
  char bytes[16], out[32];
  int err = np_ws_random(bytes, sizeof bytes);
  if (err < 0) return np_fail(L, err, "key");
  lua_pushlstring(L, out, (size_t)np_base64(bytes, sizeof bytes, out));
  return 1;
}

static const luaL_Reg functions[] = {
  {"accept", f_accept}, {"head", f_head}, {"key", f_key}, {"masked", f_masked},
  {"utf8", f_utf8},     {"why", f_why},   {NULL, NULL},
};

int luaopen_neap_websocket_core(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
