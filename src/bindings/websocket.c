/* neap.websocket.core: frames to write, text that is checked, keys of the handshake.
 *
 * Reading frames is a codec's (codec.websocket). A message goes to its stream with a head in front
 * that was never a Lua string. */
#include "core/websocket.h"

#include <string.h>

#include "bindings/codec.h"
#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/stream.h"
#include "core/random.h"
#include "core/tls.h"
#include "core/utf8.h"

/* What masks are drawn from: one of each runtime, the upvalue of the functions. */
typedef struct randomness {
  np_random *core;
} randomness;

static int randomness_gc(lua_State *L) {
  randomness *r = lua_touserdata(L, 1);
  np_random_free(r->core);
  r->core = NULL;
  return 0;
}

static int draw(lua_State *L, void *out, size_t n) {
  const randomness *r = lua_touserdata(L, lua_upvalueindex(1));
  return np_random_draw(r->core, out, n);
}

static void push_randomness(lua_State *L) {
  randomness *r = lua_newuserdatauv(L, sizeof *r, 0);
  r->core = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, randomness_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  r->core = np_random_new();
}

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

/* Sends a client's frame, which has its mask on: bytes to make first. */
static int send_masked(lua_State *L, unsigned bits, const char *s, size_t len) {
  enum { SMALL = 4096 };
  unsigned char mask[NP_WS_MASK];
  char small[NP_WS_HEAD_MAX + SMALL], *out = small;
  int err = draw(L, mask, sizeof mask);
  if (err < 0) return np_fail(L, err, "mask");
  luaL_Buffer b;
  if (len > SMALL) out = luaL_buffinitsize(L, &b, NP_WS_HEAD_MAX + len);
  size_t n = np_ws_head_write(out, bits, len, mask);
  np_ws_mask(out + n, s, len, mask);
  if (out == small) lua_pushliteral(L, "");
  else luaL_pushresultsize(&b, n + len);
  lua_replace(L, 2);
  lua_settop(L, 2);
  return np_stream_write_behind(L, small, out == small ? n + len : 0);
}

/* send(conn, payload, bits, masked): conn:write of a frame with that first byte; EINVAL: a text in
 * one frame that is no UTF-8. */
static int f_send(lua_State *L) {
  char head[NP_WS_HEAD_MAX];
  size_t len;
  uint32_t state = 0;
  const char *s = luaL_checklstring(L, 2, &len);
  unsigned bits = check_bits(L, 3);
  if (bits == (NP_WS_FIN | NP_WS_TEXT) && (!np_utf8(&state, s, len) || state != 0))
    return np_fail_text(L, "EINVAL", "send: text that is not UTF-8");
  if (lua_toboolean(L, 4)) return send_masked(L, bits, s, len);
  lua_settop(L, 2);
  return np_stream_write_behind(L, head, np_ws_head_write(head, bits, len, NULL));
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

/* refusal(codec) -> close code and reason of what its frames were refused for; nothing: they were
 * not. */
static int f_refusal(lua_State *L) {
  np_cond c;
  if (!np_codec_cond(L, 1, &c) || c.kind != NP_COND_WEBSOCKET)
    return luaL_typeerror(L, 1, "codec of WebSocket");
  if (!c.ws->why) return 0;
  lua_pushinteger(L, c.ws->close);
  lua_pushstring(L, c.ws->why);
  return 2;
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
  int err = draw(L, bytes, sizeof bytes);
  if (err < 0) return np_fail(L, err, "key");
  lua_pushlstring(L, out, (size_t)np_base64(bytes, sizeof bytes, out));
  return 1;
}

static const luaL_Reg functions[] = {
  {"accept", f_accept}, {"head", f_head}, {"key", f_key}, {"refusal", f_refusal},
  {"send", f_send},     {"utf8", f_utf8}, {NULL, NULL},
};

int luaopen_neap_websocket_core(lua_State *L) {
  luaL_newlibtable(L, functions);
  push_randomness(L);
  luaL_setfuncs(L, functions, 1);
  return 1;
}
