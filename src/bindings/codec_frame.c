/* What a met read condition means to Lua: frames to strings, numbers, tables and unpacked values.
 *
 * Frames were checked by core/cond.c; nothing is checked again here, so this is only for conditions
 * that were met. */
#include <string.h>

#include "bindings/codec.h"
#include "bindings/lua_util.h"

static const char *const names[] = {
  [NP_COND_ANY] = "bytes",
  [NP_COND_COUNT] = "bytes",
  [NP_COND_LINE] = "line",
  [NP_COND_LINE_EOL] = "line",
  [NP_COND_ALL] = "everything",
  [NP_COND_DELIM] = "delimited text",
  [NP_COND_NUMBER] = "number",
  [NP_COND_PACK] = "record",
  [NP_COND_RESP] = "RESP request",
  [NP_COND_PEEK] = "bytes",
  [NP_COND_FIXED] = "bytes",
  [NP_COND_NETSTRING] = "netstring",
  [NP_COND_HEADED] = "prefixed bytes",
  [NP_COND_HTTP_REQUEST] = "HTTP request",
  [NP_COND_HTTP_RESPONSE] = "HTTP response",
  [NP_COND_WEBSOCKET] = "WebSocket frame",
};

const char *np_cond_name(const np_cond *c) { return names[c->kind]; }

/* io's rule: the numeral, or nil. */
static void push_number(lua_State *L, const char *s, size_t len) {
  char text[256]; /* a numeral has at most 200 bytes */
  len = np_min(len, sizeof text - 1);
  memcpy(text, s, len);
  text[len] = 0;
  if (lua_stringtonumber(L, text) == 0) lua_pushnil(L);
}

/* Decimal digits and the two bytes after them. */
static size_t read_length(const char **s) {
  size_t v = 0;
  for (; **s != '\r'; (*s)++) v = v * 10 + (size_t)(**s - '0');
  *s += 2;
  return v;
}

static int push_array(lua_State *L, const char *s, const np_bytes *b) {
  size_t n = (s++, read_length(&s));
  lua_createtable(L, (int)n, 0);
  for (size_t i = 1; i <= n; i++) {
    if (np_unlikely(np_bytes_moved(b))) return -EAGAIN;
    size_t len = (s++, read_length(&s));
    lua_pushlstring(L, s, len);
    lua_rawseti(L, -2, (lua_Integer)i);
    s += len + 2;
  }
  return 1;
}

/* False: the bytes moved. */
static bool push_quoted(lua_State *L, const char *arg, size_t len, const np_bytes *bytes) {
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, len);
  if (np_unlikely(np_bytes_moved(bytes))) return false;
  luaL_pushresultsize(&b, np_resp_unquote(arg, len, out));
  return true;
}

static int push_inline(lua_State *L, const char *s, const char *end, const np_bytes *b) {
  const char *arg;
  size_t len;
  bool quoted;
  lua_createtable(L, 4, 0);
  for (lua_Integer i = 1;; i++) {
    if (np_unlikely(np_bytes_moved(b))) return -EAGAIN;
    if (np_resp_inline(&s, end, &arg, &len, &quoted) != 1) return 1;
    if (!quoted) lua_pushlstring(L, arg, len);
    else if (!push_quoted(L, arg, len, b)) return -EAGAIN;
    lua_rawseti(L, -2, i);
  }
}

void np_push_string_function(lua_State *L, bool pack) {
  static const char keys[2] = {0};
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &keys[pack]) != LUA_TNIL) return;
  lua_pop(L, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "string");
  lua_getfield(L, -1, pack ? "pack" : "unpack");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &keys[pack]);
  lua_replace(L, -3);
  lua_pop(L, 1);
}

static int push_unpacked(lua_State *L, const np_cond *c, const char *frame) {
  int base = lua_gettop(L), status;
  lua_pushlstring(L, frame,
                  c->len); /* first: the collector may run a finalizer that closes the stream */
  np_push_string_function(L, false);
  lua_pushlstring(L, c->delim, c->delim_len);
  lua_rotate(L, -3, -1);
  /* it raises for an integer of 9 to 16 bytes that does not fit, which is the peer's doing */
  status = lua_pcall(L, 2, LUA_MULTRET, 0);
  if (status == LUA_ERRMEM) return lua_error(L);
  lua_pop(L, 1); /* the message, or the position after the record */
  return status == LUA_OK ? lua_gettop(L) - base : NP_EBADMSG;
}

static int push_record(lua_State *L, const np_cond *c, const char *frame) {
  const np_packitem *it = c->items;
  /* the usual ones, a prefixed string and a terminated one, need no unpacking */
  if (c->nitems == 1 && it->kind == 's') lua_pushlstring(L, frame + it->size, c->len - it->size);
  else if (c->nitems == 1 && it->kind == 'z') lua_pushlstring(L, frame, c->len - 1);
  else return push_unpacked(L, c, frame);
  return 1;
}

/* The bytes behind a header, and before them its tag. */
static int push_headed(lua_State *L, const np_cond *c, const char *frame) {
  const np_head *h = c->head;
  if (h->tag.size == 0) return lua_pushlstring(L, frame, c->len), 1;
  lua_pushinteger(L, np_head_value(&h->tag, frame));
  lua_pushlstring(L, frame + h->size, c->len - h->size);
  return 2;
}

int np_push_frame(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b) {
  if (c->kind < NP_COND_NUMBER) { /* the bytes themselves */
    lua_pushlstring(L, frame, c->len);
    return 1;
  }
  luaL_checkstack(L, 8, NULL);
  switch (c->kind) {
  case NP_COND_PACK: return push_record(L, c, frame);
  case NP_COND_HEADED: return push_headed(L, c, frame);
  case NP_COND_HTTP_REQUEST:
  case NP_COND_HTTP_RESPONSE: return np_push_http_head(L, c, frame, b);
  case NP_COND_WEBSOCKET: return np_push_ws_frame(L, c, frame, b);
  case NP_COND_NUMBER: push_number(L, frame, c->len); return 1;
  case NP_COND_RESP:
    if (*frame == '*') return push_array(L, frame, b);
    return push_inline(L, frame, frame + c->len, b);
  default: lua_pushlstring(L, frame, c->len); return 1;
  }
}

int np_push_unmet(lua_State *L, const np_cond *c, int outcome, size_t n) {
  const char *name = np_cond_name(c);
  size_t want = outcome == 0 ? np_cond_hint(c) : 0;
  switch (outcome) {
  case 0:
    lua_pushnil(L);
    lua_pushliteral(L, "more");
    lua_pushinteger(L, want > n ? (lua_Integer)np_min(want - n, INT64_MAX) : 1);
    return 3;
  case NP_COND_END: lua_pushnil(L); return 1;
  case -EPIPE: return np_fail_text(L, "EPIPE", "decode %s: the end came inside it", name);
  case -EMSGSIZE:
    return np_fail_text(L, "EMSGSIZE", "decode %s: longer than %I bytes", name,
                        (LUAI_UACINT)np_min(c->max, INT64_MAX));
  default: return np_fail(L, outcome, "decode %s", name);
  }
}
