/* The head of an HTTP message as a Lua table: the parts of its first line, the fields by their
 * names in lower case, and what core/http.c makes of them. */
#include <strings.h>

#include "bindings/codec.h"
#include "bindings/lua_util.h"
#include "core/http.h"

/* False: the bytes have moved, nothing was pushed. */
static bool push_span(lua_State *L, np_span s, const np_bytes *b) {
  if (np_unlikely(np_bytes_moved(b))) return false;
  if (s.p) lua_pushlstring(L, s.p, s.n);
  else lua_pushnil(L);
  return true;
}

static bool set_span(lua_State *L, const char *key, np_span s, const np_bytes *b) {
  if (!push_span(L, s, b)) return false;
  lua_setfield(L, -2, key);
  return true;
}

static void set_flag(lua_State *L, const char *key, bool on) {
  if (!on) return;
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, key);
}

/* "Accept-Encoding" -> "accept-encoding". */
static void push_lower(lua_State *L, np_span name) {
  char low[NP_HTTP_NAME_MAX];
  for (size_t i = 0; i < name.n; i++) {
    char c = name.p[i];
    low[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
  }
  lua_pushlstring(L, low, name.n);
}

/* A field that stands there twice is a list in two pieces (RFC 9110 5.2), but cookies have signs of
 * their own (RFC 6265). */
static const char *separator(np_span name) {
  if (name.n == 6 && (name.p[0] | 0x20) == 'c' && strncasecmp(name.p, "cookie", 6) == 0)
    return "; ";
  if (name.n == 10 && strncasecmp(name.p, "set-cookie", 10) == 0) return "\n";
  return ", ";
}

/* Stack: the table of fields. */
static bool set_field(lua_State *L, np_span name, np_span value, const np_bytes *b) {
  if (np_unlikely(np_bytes_moved(b))) return false;
  push_lower(L, name);
  if (!push_span(L, value, b)) return false;
  lua_pushvalue(L, -2);
  if (np_unlikely(lua_rawget(L, -4) != LUA_TNIL)) {
    if (np_bytes_moved(b)) return false;
    lua_insert(L, -2);
    lua_pushstring(L, separator(name));
    lua_insert(L, -2);
    lua_concat(L, 3);
  } else {
    lua_pop(L, 1);
  }
  lua_rawset(L, -3);
  return true;
}

static bool push_fields(lua_State *L, const char *s, const char *end, const np_bytes *b) {
  np_span name, value;
  lua_newtable(L);
  while (np_http_field(&s, end, &name, &value))
    if (name.n > NP_HTTP_NAME_MAX || !set_field(L, name, value, b)) return false;
  return true;
}

/* raw: as they are. A server's handler that asks for none saves their table, which costs more than
 * all else about the head. */
static bool set_fields(lua_State *L, const np_http_head *h, const char *end, bool raw,
                       const np_bytes *b) {
  if (raw) return set_span(L, "fields", (np_span){h->fields, (size_t)(end - h->fields)}, b);
  if (!push_fields(L, h->fields, end, b)) return false;
  lua_setfield(L, -2, "headers");
  return true;
}

/* http_fields(lines): the table of the field lines of a raw head. */
int np_codec_http_fields(lua_State *L) {
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  luaL_argcheck(L, push_fields(L, s, s + n, NULL), 1, "the field lines of a head expected");
  return 1;
}

static bool set_request(lua_State *L, const np_http_head *h, const np_bytes *b) {
  return set_span(L, "method", h->method, b) && set_span(L, "target", h->target, b) &&
         set_span(L, "path", h->path, b) && set_span(L, "query", h->query, b) &&
         set_span(L, "host", h->host, b);
}

int np_push_http_head(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b) {
  np_http_head h;
  bool request = c->kind == NP_COND_HTTP_REQUEST;
  if (request) np_http_request(frame, c->len, &h);
  else np_http_response(frame, c->len, &h);
  lua_createtable(L, 0, 12);
  if (h.refusal) {
    lua_pushinteger(L, h.refusal);
    lua_setfield(L, -2, "refusal");
    lua_pushstring(L, h.why);
    lua_setfield(L, -2, "why");
    return 1;
  }
  if (np_unlikely(np_bytes_moved(b))) return -EAGAIN;
  bool whole = request ? set_request(L, &h, b) : set_span(L, "reason", h.reason, b);
  if (!whole || !set_fields(L, &h, frame + c->len, c->need > 0, b)) return -EAGAIN;
  lua_pushinteger(L, h.version);
  lua_setfield(L, -2, "version");
  if (!request) {
    lua_pushinteger(L, h.status);
    lua_setfield(L, -2, "status");
  }
  if (h.sized) {
    lua_pushinteger(L, (lua_Integer)h.length);
    lua_setfield(L, -2, "length");
  }
  set_flag(L, "keep_alive", h.keep_alive);
  set_flag(L, "chunked", h.chunked);
  set_flag(L, "expects", h.expects);
  set_flag(L, "upgrade", h.upgrade);
  return 1;
}
