/* The head of an HTTP message as a Lua table: the parts of its first line, the fields by their
 * names in lower case, and what core/http.c makes of them.  Or, for who needs little of it each
 * time, its bytes with the few parts that nearly everybody asks for; the others are read from those
 * bytes when they are asked for. */
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

static bool set_request(lua_State *L, const np_http_head *h, const np_bytes *b) {
  return set_span(L, "method", h->method, b) && set_span(L, "target", h->target, b) &&
         set_span(L, "path", h->path, b) && set_span(L, "query", h->query, b) &&
         set_span(L, "host", h->host, b);
}

static int push_table(lua_State *L, const np_http_head *h, const char *end, bool request,
                      const np_bytes *b) {
  lua_createtable(L, 0, 12);
  if (np_unlikely(np_bytes_moved(b))) return -EAGAIN;
  bool whole = request ? set_request(L, h, b) : set_span(L, "reason", h->reason, b);
  if (!whole || !push_fields(L, h->fields, end, b)) return -EAGAIN;
  lua_setfield(L, -2, "headers");
  lua_pushinteger(L, h->version);
  lua_setfield(L, -2, "version");
  if (!request) {
    lua_pushinteger(L, h->status);
    lua_setfield(L, -2, "status");
  }
  if (h->sized) {
    lua_pushinteger(L, (lua_Integer)h->length);
    lua_setfield(L, -2, "length");
  }
  set_flag(L, "keep_alive", h->keep_alive);
  set_flag(L, "chunked", h->chunked);
  set_flag(L, "expects", h->expects);
  set_flag(L, "upgrade", h->upgrade);
  return 1;
}

static int push_refused(lua_State *L, const np_http_head *h) {
  lua_createtable(L, 0, 2);
  lua_pushinteger(L, h->refusal);
  lua_setfield(L, -2, "refusal");
  lua_pushstring(L, h->why);
  lua_setfield(L, -2, "why");
  return 1;
}

/* A server's handler that asks for no field saves their table, which costs more than all else about
 * the head; and values cost less than the fields of a table. */
static int push_parts(lua_State *L, const char *frame, size_t n) {
  np_http_head h;
  const char *s = lua_pushlstring(L, frame, n); /* first: this one does not move */
  np_http_request(s, n, &h);
  if (h.refusal) {
    lua_pop(L, 1);
    lua_pushboolean(L, 0);
    lua_pushinteger(L, h.refusal);
    lua_pushstring(L, h.why);
    return 3;
  }
  lua_pushlstring(L, h.method.p, h.method.n);
  lua_pushlstring(L, h.path.p, h.path.n);
  lua_rotate(L, -3, -1); /* method, path, head */
  lua_pushinteger(L, h.version);
  lua_pushboolean(L, h.keep_alive);
  if (h.sized) lua_pushinteger(L, (lua_Integer)h.length);
  else lua_pushboolean(L, h.chunked);
  return 6;
}

int np_push_http_head(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b) {
  np_http_head h;
  bool request = c->kind == NP_COND_HTTP_REQUEST;
  if (request && c->need > 0) return push_parts(L, frame, c->len);
  if (request) np_http_request(frame, c->len, &h);
  else np_http_response(frame, c->len, &h);
  if (h.refusal) return push_refused(L, &h);
  return push_table(L, &h, frame + c->len, request, b);
}

/* ---- what is asked for later ---- */

/* The head of a request at 1, which was not refused. */
static np_http_head check_head(lua_State *L, const char **end) {
  np_http_head h;
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  np_http_request(s, n, &h);
  luaL_argcheck(L, !h.refusal, 1, "the head of a request expected");
  *end = s + n;
  return h;
}

/* http_fields(head): the table of its fields. */
int np_codec_http_fields(lua_State *L) {
  const char *end;
  np_http_head h = check_head(L, &end);
  push_fields(L, h.fields, end, NULL);
  return 1;
}

/* http_part(head, name): a part of its first lines, nil if it is not there; or a flag. */
int np_codec_http_part(lua_State *L) {
  static const char *const names[] = {"target", "query", "host", "expects", "upgrade", NULL};
  const char *end;
  np_http_head h = check_head(L, &end);
  switch (luaL_checkoption(L, 2, NULL, names)) {
  case 0: push_span(L, h.target, NULL); break;
  case 1: push_span(L, h.query, NULL); break;
  case 2: push_span(L, h.host, NULL); break;
  case 3: lua_pushboolean(L, h.expects); break;
  default: lua_pushboolean(L, h.upgrade);
  }
  return 1;
}
