/* neap.codec.core: framing without I/O.  A codec is a read condition as a value; decode runs it
 * over a string, a scanner over bytes that come in pieces, a stream over what the peer sends.
 *
 *   local codec = require "neap.codec.core"
 *   codec.line():decode("one\ntwo\n")      --> "one", 5
 *   codec.record(">s2"):decode("\0")       --> nil, "more", 1
 *   codec.netstring():encode("abc")        --> "3:abc,"
 *
 * Codecs do not change: one may serve any number of streams, but for WebSocket's, which follows one
 * connection. */
#include "bindings/codec.h"

#include <string.h>

#include "bindings/lua_util.h"
#include "core/stream.h"
#include "core/websocket.h"

typedef struct codec {
  const np_type *type;
  np_cond cond; /* before its first check; delim points to the string in user value 1 */
  union {
    np_packitem items[NP_PACK_ITEMS_MAX];
    np_head head;
    np_ws_reader ws;
  };
} codec;

static int f_decode(lua_State *L);
static int f_tostring(lua_State *L);

static const luaL_Reg methods[] = {
  {"decode", f_decode},
  {"encode", np_codec_encode},
  {"scanner", np_new_scanner},
  {NULL, NULL},
};
static const luaL_Reg meta[] = {{"__tostring", f_tostring}, {NULL, NULL}};
static const np_type codec_type = {.name = "neap.codec", .methods = methods, .meta = meta};

bool np_codec_cond(lua_State *L, int idx, np_cond *out) {
  codec *c = np_test_object(L, idx, &codec_type);
  if (c) *out = c->cond;
  return c != NULL;
}

/* A size argument, 0 or more; `def` when it is absent. */
static size_t opt_size(lua_State *L, int arg, lua_Integer def) {
  lua_Integer n = luaL_optinteger(L, arg, def);
  luaL_argcheck(L, n >= 0, arg, "size must not be negative");
  return (size_t)n;
}

static int new_codec(lua_State *L, np_condkind kind, size_t need, size_t max) {
  codec *c = np_new_object(L, &codec_type, sizeof *c, 1);
  c->cond = (np_cond){.kind = kind, .need = need, .max = max};
  return 1;
}

/* codec.any([max]): whatever is there, at most max bytes (no limit). */
static int f_any(lua_State *L) { return new_codec(L, NP_COND_ANY, opt_size(L, 1, 0), SIZE_MAX); }

/* codec.count(n): n bytes, fewer only at the end. */
static int f_count(lua_State *L) {
  size_t n = (luaL_checkinteger(L, 1), opt_size(L, 1, 0));
  return new_codec(L, NP_COND_COUNT, n, n);
}

/* codec.fixed(n): n bytes (>= 1), also at the end. */
static int f_fixed(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 1, 1, "size must be positive");
  return new_codec(L, NP_COND_FIXED, (size_t)n, (size_t)n);
}

/* codec.netstring([max]): "3:abc,", at most max bytes within (16 MiB). */
static int f_netstring(lua_State *L) {
  return new_codec(L, NP_COND_NETSTRING, 0, opt_size(L, 1, NP_READ_MAX));
}

/* A message behind a header: codec.prefixed, codec.tlv. */
static int new_headed(lua_State *L, bool tagged) {
  size_t len, max = opt_size(L, 2, NP_READ_MAX);
  const char *fmt = luaL_checklstring(L, 1, &len), *bad;
  lua_Integer adjust = luaL_optinteger(L, 3, 0);
  luaL_argcheck(L, adjust >= -INT16_MAX && adjust <= INT16_MAX, 3, "adjustment is out of range");
  new_codec(L, NP_COND_HEADED, 0, max);
  codec *c = lua_touserdata(L, -1);
  if (strlen(fmt) != len || np_head_compile(fmt, tagged, &c->head, &bad) < 0) {
    const char *what = tagged ? "format must be two integers of at most 8 bytes: tag and length"
                              : "format must be one integer of at most 8 bytes";
    return luaL_argerror(L, 1, what);
  }
  c->head.adjust = (int32_t)adjust;
  c->cond.head = &c->head;
  return 1;
}

/* codec.prefixed(fmt [, max [, adjust]]): bytes behind their length, an integer of string.pack; at
 * most max (16 MiB); adjust is added to the length that was read. */
static int f_prefixed(lua_State *L) { return new_headed(L, false); }

/* codec.tlv(fmt [, max [, adjust]]): a tag, a length, as many bytes: two values. */
static int f_tlv(lua_State *L) { return new_headed(L, true); }

/* codec.line([max [, keep]]): a line without its "\n", with it if keep; at most max bytes (64 KiB)
 * before the "\n". */
static int f_line(lua_State *L) {
  size_t max = opt_size(L, 1, NP_LINE_MAX);
  return new_codec(L, lua_toboolean(L, 2) ? NP_COND_LINE_EOL : NP_COND_LINE, 0, max);
}

/* codec.all([max]): everything until the end, at most max bytes (16 MiB). */
static int f_all(lua_State *L) { return new_codec(L, NP_COND_ALL, 0, opt_size(L, 1, NP_READ_MAX)); }

/* codec.number([max]): what io.read("n") reads, after at most max blanks (64 KiB). */
static int f_number(lua_State *L) {
  return new_codec(L, NP_COND_NUMBER, 0, opt_size(L, 1, NP_LINE_MAX));
}

/* codec.resp([max]): a RESP2 request as a table of its arguments, at most max bytes (16 MiB). */
static int f_resp(lua_State *L) {
  return new_codec(L, NP_COND_RESP, 0, opt_size(L, 1, NP_READ_MAX));
}

/* codec.http_request([max [, parts]]), codec.http_response([max]): the head of an HTTP/1 message as
 * a table; at most max bytes (16 KiB). parts: method, path, the head's bytes, for codec.http_fields
 * and http_part, version, keep_alive, and the body's length, true (chunked) or false (none); or
 * false, the status that refuses it, and why. */
enum { HTTP_HEAD_MAX = 16 << 10 };
static int f_http_request(lua_State *L) {
  size_t max = opt_size(L, 1, HTTP_HEAD_MAX);
  return new_codec(L, NP_COND_HTTP_REQUEST, (size_t)lua_toboolean(L, 2), max);
}
static int f_http_response(lua_State *L) {
  return new_codec(L, NP_COND_HTTP_RESPONSE, 0, opt_size(L, 1, HTTP_HEAD_MAX));
}

/* codec.websocket(masked [, max [, deflate]]): the frames that one connection receives; at most max
 * bytes of payload (1 MiB), given as codec_websocket.c says. masked: from a client. */
static int f_websocket(lua_State *L) {
  size_t max = opt_size(L, 2, 1 << 20);
  unsigned masked = lua_toboolean(L, 1) ? NP_WS_MASKED : 0;
  unsigned deflate = lua_toboolean(L, 3) ? NP_WS_DEFLATE : 0;
  new_codec(L, NP_COND_WEBSOCKET, 0, max);
  codec *c = lua_touserdata(L, -1);
  c->ws = (np_ws_reader){.expect = masked | deflate};
  c->cond.ws = &c->ws;
  return 1;
}

/* codec.delim(d [, max]): bytes up to d, which is taken and not given; at most max (64 KiB) before
 * it. */
static int f_delim(lua_State *L) {
  size_t len, max = opt_size(L, 2, NP_LINE_MAX);
  const char *d = luaL_checklstring(L, 1, &len);
  luaL_argcheck(L, len > 0, 1, "delimiter is empty");
  new_codec(L, NP_COND_DELIM, 0, max);
  codec *c = lua_touserdata(L, -1);
  c->cond.delim = d;
  c->cond.delim_len = len;
  lua_pushvalue(L, 1); /* keeps d where it is */
  lua_setiuservalue(L, -2, 1);
  return 1;
}

/* True if string.unpack gives no value for fmt: x gives none, nor X and what it refers to. */
static bool gives_nothing(const char *fmt) {
  for (; *fmt; fmt++) {
    if (*fmt == 'X' && fmt[1]) fmt++;
    else if (strchr("bBhHlLjJTiIfdnscz", *fmt)) return false;
  }
  return true;
}

/* codec.record(fmt [, max]): a string.pack record of at most max bytes (16 MiB), unpacked; raises
 * for a format that string.unpack would not take, that reads nothing, or of more than 32 parts. */
static int f_record(lua_State *L) {
  size_t len, max = opt_size(L, 2, NP_READ_MAX);
  const char *fmt = luaL_checklstring(L, 1, &len), *bad = fmt;
  luaL_argcheck(L, strlen(fmt) == len, 1, "format contains a zero byte");
  new_codec(L, NP_COND_PACK, 0, max);
  codec *c = lua_touserdata(L, -1);
  int n = np_pack_compile(fmt, c->items, &bad);
  if (n == -E2BIG) return luaL_argerror(L, 1, "format has too many parts");
  if (n >= 0 ? gives_nothing(fmt) : *bad == 0) return luaL_argerror(L, 1, "format reads nothing");
  if (n < 0) {
    lua_pushfstring(L, "invalid format option '%c' at position %d", *bad, (int)(bad - fmt) + 1);
    return luaL_argerror(L, 1, lua_tostring(L, -1));
  }
  c->cond.items = c->items;
  c->cond.nitems = n;
  c->cond.delim = fmt;
  c->cond.delim_len = len;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

/* codec:decode(bytes [, pos [, eof]]) -> message..., the position after it; nil, "more", n:
 * the message is not complete, at least n bytes are missing (never when eof); nil: eof and nothing
 * left; nil, message, code:
 * EMSGSIZE past the limit, EBADMSG not such a message, EPIPE the end inside it. */
static int f_decode(lua_State *L) {
  codec *self = np_check_object(L, 1, &codec_type);
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_Integer pos = luaL_optinteger(L, 3, 1);
  bool eof = lua_toboolean(L, 4);
  np_cond c = self->cond;
  luaL_argcheck(L, pos >= 1 && (lua_Unsigned)pos <= len + 1, 3, "position is outside the string");
  s += pos - 1;
  int r = np_cond_check(&c, s, len - (size_t)pos + 1, eof);
  if (r == 1) r = np_push_frame(L, &c, s + c.off, NULL);
  if (r <= 0) return np_push_unmet(L, &c, r, len - (size_t)pos + 1);
  lua_pushinteger(L, pos + (lua_Integer)c.take);
  return r + 1;
}

static int f_tostring(lua_State *L) {
  codec *c = np_check_object(L, 1, &codec_type);
  lua_pushfstring(L, "neap.codec{%s}", np_cond_name(&c->cond));
  return 1;
}

/* codec.is_codec(v): whether it is one of these. */
static int f_is_codec(lua_State *L) {
  lua_pushboolean(L, np_test_object(L, 1, &codec_type) != NULL);
  return 1;
}

int luaopen_neap_codec_core(lua_State *L);
int luaopen_neap_codec_core(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"address", np_codec_address},
    {"all", f_all},
    {"any", f_any},
    {"canonical", np_codec_canonical},
    {"count", f_count},
    {"delim", f_delim},
    {"error", np_codec_error},
    {"fixed", f_fixed},
    {"http_request", f_http_request},
    {"http_response", f_http_response},
    {"http_fields", np_codec_http_fields},
    {"http_part", np_codec_http_part},
    {"is_codec", f_is_codec},
    {"line", f_line},
    {"netstring", f_netstring},
    {"number", f_number},
    {"options", np_codec_options},
    {"prefixed", f_prefixed},
    {"record", f_record},
    {"resp", f_resp},
    {"tlv", f_tlv},
    {"websocket", f_websocket},
    {NULL, NULL},
  };
  np_type_init(L, &codec_type);
  luaL_newlib(L, functions);
  np_push_metatable(L, &codec_type);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "methods"); /* for methods written in Lua: stdlib/codec/compose.lua */
  lua_pop(L, 1);
  return 1;
}
