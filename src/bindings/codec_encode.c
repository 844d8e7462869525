/* codec:encode(message...): the bytes that decode to the message.
 *
 * The one idea: what was written is checked by the codec's own condition.  An encoder refuses what
 * its decoder would read otherwise (a delimiter inside, a message past the limit), and no rule is
 * written twice. */
#include <string.h>

#include "bindings/codec.h"
#include "bindings/lua_util.h"

enum { SELF = 1, MESSAGE = 2 };

static int too_long(lua_State *L, const np_cond *c) {
  return np_fail_text(L, "EMSGSIZE", "encode %s: longer than %I bytes", np_cond_name(c),
                      (LUAI_UACINT)np_min(c->max, INT64_MAX));
}

static int refused(lua_State *L, const np_cond *c) {
  return np_fail_text(L, "EINVAL", "encode %s: it would be read as another message",
                      np_cond_name(c));
}

/* The string on top is the encoding if the condition takes all of it as one frame. */
static int checked(lua_State *L, const np_cond *blank) {
  np_cond c = *blank;
  size_t len;
  const char *s = lua_tolstring(L, -1, &len);
  bool eof = c.kind == NP_COND_ALL;
  int r = np_cond_check(&c, s, len, eof);
  if (r == -EMSGSIZE) return too_long(L, blank);
  bool blank_left = c.kind == NP_COND_NUMBER && r == 1 && c.take + 1 == len;
  if (r != 1 || (c.take != len && !blank_left)) return refused(L, blank);
  return 1;
}

/* message .. rest; nothing where the message is bytes with an end of their own. */
static int encode_text(lua_State *L, const np_cond *c, const char *rest, size_t rest_len) {
  size_t len;
  luaL_Buffer b;
  const char *s = luaL_checklstring(L, MESSAGE, &len);
  luaL_buffinitsize(L, &b, len + rest_len);
  luaL_addlstring(&b, s, len);
  luaL_addlstring(&b, rest, rest_len);
  luaL_pushresult(&b);
  return checked(L, c);
}

/* 17 digits read back as the same number; the line's end, which is a blank, ends it. */
static int encode_number(lua_State *L, const np_cond *c) {
  luaL_checknumber(L, MESSAGE);
  if (lua_isinteger(L, MESSAGE)) lua_pushfstring(L, "%I\n", (LUAI_UACINT)lua_tointeger(L, MESSAGE));
  else {
    char text[64];
    snprintf(text, sizeof text, "%.17g\n", (double)lua_tonumber(L, MESSAGE));
    lua_pushstring(L, text);
  }
  return checked(L, c);
}

static int encode_netstring(lua_State *L, const np_cond *c) {
  size_t len;
  luaL_Buffer b;
  const char *s = luaL_checklstring(L, MESSAGE, &len);
  if (len > c->max) return too_long(L, c);
  char head[32];
  int n = snprintf(head, sizeof head, "%zu:", len);
  luaL_buffinitsize(L, &b, len + (size_t)n + 1);
  luaL_addlstring(&b, head, (size_t)n);
  luaL_addlstring(&b, s, len);
  luaL_addchar(&b, ',');
  luaL_pushresult(&b);
  return 1;
}

static int encode_resp(lua_State *L, const np_cond *c) {
  luaL_checktype(L, MESSAGE, LUA_TTABLE);
  lua_Integer n = luaL_len(L, MESSAGE);
  luaL_Buffer b;
  luaL_argcheck(L, n >= 1, MESSAGE, "a request has at least one string");
  luaL_buffinit(L, &b);
  lua_pushfstring(L, "*%I\r\n", (LUAI_UACINT)n);
  luaL_addvalue(&b);
  for (lua_Integer i = 1; i <= n; i++) {
    size_t len;
    lua_geti(L, MESSAGE, i);
    if (!lua_tolstring(L, -1, &len)) return luaL_argerror(L, MESSAGE, "a list of strings expected");
    lua_pushfstring(L, "$%I\r\n", (LUAI_UACINT)len);
    lua_insert(L, -2);
    lua_concat(L, (lua_pushliteral(L, "\r\n"), 3));
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  return checked(L, c);
}

/* A list of values in place of the values: what codec.sequence has. */
static void spread(lua_State *L) {
  if (lua_gettop(L) != MESSAGE || !lua_istable(L, MESSAGE)) return;
  lua_Integer n = luaL_len(L, MESSAGE);
  luaL_argcheck(L, n <= 250, MESSAGE, "too many values");
  luaL_checkstack(L, (int)n + 8, NULL);
  for (lua_Integer i = 1; i <= n; i++) lua_geti(L, MESSAGE, i);
  lua_remove(L, MESSAGE);
}

static int encode_record(lua_State *L, const np_cond *c) {
  spread(L);
  np_push_string_function(L, true);
  lua_pushlstring(L, c->delim, c->delim_len);
  lua_rotate(L, MESSAGE, 2);
  int status = lua_pcall(L, lua_gettop(L) - MESSAGE, 1, 0);
  if (status == LUA_ERRMEM) return lua_error(L);
  if (status != LUA_OK)
    return np_fail_text(L, "EINVAL", "encode record: %s", luaL_tolstring(L, -1, NULL));
  return checked(L, c);
}

/* Writes v as the field has it; false: it does not fit. */
static bool put_field(const np_headfield *f, lua_Integer v, char *header) {
  for (unsigned i = 0; i < f->size; i++) {
    size_t at = f->little ? i : f->size - 1u - i;
    header[f->at + at] = (char)(v >> 8 * i & 0xff);
  }
  return np_head_value(f, header) == v;
}

static int encode_headed(lua_State *L, const np_cond *c) {
  const np_head *h = c->head;
  char header[16];
  size_t len;
  int at = h->tag.size ? MESSAGE + 1 : MESSAGE;
  if (h->tag.size) spread(L);
  lua_Integer tag = h->tag.size ? luaL_checkinteger(L, MESSAGE) : 0;
  const char *s = luaL_checklstring(L, at, &len);
  if (h->tag.size && !put_field(&h->tag, tag, header))
    return np_fail_text(L, "EINVAL", "encode %s: the tag %I has no room in its %d bytes",
                        np_cond_name(c), (LUAI_UACINT)tag, (int)h->tag.size);
  if (len > c->max) return too_long(L, c);
  lua_Integer said = (lua_Integer)len - h->adjust;
  if (said < 0 || !put_field(&h->length, said, header))
    return np_fail_text(L, "EMSGSIZE", "encode %s: the length %I has no room in its %d bytes",
                        np_cond_name(c), (LUAI_UACINT)said, (int)h->length.size);
  luaL_Buffer b;
  luaL_buffinitsize(L, &b, len + h->size);
  luaL_addlstring(&b, header, h->size);
  luaL_addlstring(&b, s, len);
  luaL_pushresult(&b);
  return 1;
}

/* codec:encode(message...) -> bytes; nil, message, code: EMSGSIZE past the limit, EINVAL what would
 * be read as another message, or values that do not fit their record. */
int np_codec_encode(lua_State *L) {
  np_cond c;
  if (!np_codec_cond(L, SELF, &c)) return luaL_typeerror(L, SELF, "neap.codec");
  switch (c.kind) {
  case NP_COND_LINE: return encode_text(L, &c, "\n", 1);
  case NP_COND_DELIM: return encode_text(L, &c, c.delim, c.delim_len);
  case NP_COND_NUMBER: return encode_number(L, &c);
  case NP_COND_NETSTRING: return encode_netstring(L, &c);
  case NP_COND_RESP: return encode_resp(L, &c);
  case NP_COND_PACK: return encode_record(L, &c);
  case NP_COND_HEADED: return encode_headed(L, &c);
  default: return encode_text(L, &c, "", 0);
  }
}
