/* Socket options as Lua sees them: booleans, integers, seconds, strings, by the option's row. */
#include "bindings/sockopt.h"

#include <math.h>
#include <string.h>

#include "bindings/lua_util.h"

static const char *const type_names[] = {
  [NP_OPT_BOOL] = "a boolean",
  [NP_OPT_INT] = "an integer",
  [NP_OPT_SECONDS] = "seconds (a number, 0 or more)",
  [NP_OPT_STRING] = "a string of at most 63 bytes",
  [NP_OPT_LINGER] = "seconds (a number, 0 or more) or false",
  [NP_OPT_INTERFACE] = "an interface's name or number",
};

static bool read_integer(lua_State *L, int idx, int *out) {
  int is_int = 0;
  lua_Integer i = lua_type(L, idx) == LUA_TNUMBER ? lua_tointegerx(L, idx, &is_int) : 0;
  if (!is_int || i < INT32_MIN || i > INT32_MAX) return false;
  *out = (int)i;
  return true;
}

static bool read_seconds(lua_State *L, int idx, double *out) {
  if (lua_type(L, idx) != LUA_TNUMBER) return false;
  *out = lua_tonumber(L, idx);
  return *out >= 0 && isfinite(*out);
}

static bool read_string(lua_State *L, int idx, char *out, size_t size) {
  size_t len;
  if (lua_type(L, idx) != LUA_TSTRING) return false;
  const char *s = lua_tolstring(L, idx, &len);
  if (len >= size || memchr(s, 0, len)) return false;
  memcpy(out, s, len + 1);
  return true;
}

static bool read_word(lua_State *L, int idx, const np_option *o, np_optval *v) {
  return read_string(L, idx, v->s, sizeof v->s) && np_option_has_word(o, v->s);
}

static bool read_interface(lua_State *L, int idx, np_optval *v) {
  int i;
  if (!read_integer(L, idx, &i)) return read_string(L, idx, v->s, sizeof v->s);
  if (i >= 0) snprintf(v->s, sizeof v->s, "%d", i);
  return i >= 0;
}

static bool read_value(lua_State *L, int idx, const np_option *o, np_optval *v) {
  switch (o->type) {
  case NP_OPT_BOOL: v->b = lua_toboolean(L, idx); return lua_isboolean(L, idx);
  case NP_OPT_INT: return read_integer(L, idx, &v->i);
  case NP_OPT_SECONDS: return read_seconds(L, idx, &v->seconds);
  case NP_OPT_STRING: return read_string(L, idx, v->s, sizeof v->s);
  case NP_OPT_LINGER:
    v->seconds = -1;
    return (lua_isboolean(L, idx) && !lua_toboolean(L, idx)) || read_seconds(L, idx, &v->seconds);
  case NP_OPT_WORD: return read_word(L, idx, o, v);
  case NP_OPT_INTERFACE: return read_interface(L, idx, v);
  }
  return false;
}

void np_check_optval(lua_State *L, int arg, int idx, const np_option *o, np_optval *v) {
  memset(v, 0, sizeof *v);
  if (o->readonly)
    luaL_argerror(L, arg, lua_pushfstring(L, "option '%s' can only be read", o->name));
  if (read_value(L, idx, o, v)) return;
  const char *got = luaL_tolstring(L, idx, NULL), *wanted = type_names[o->type];
  char words[128];
  if (o->type == NP_OPT_WORD) {
    np_option_words(o, words, sizeof words);
    wanted = lua_pushfstring(L, "one of %s", words);
  }
  luaL_argerror(L, arg,
                lua_pushfstring(L, "option '%s': %s expected, got %s", o->name, wanted, got));
}

void np_push_optval(lua_State *L, const np_option *o, const np_optval *v) {
  switch (o->type) {
  case NP_OPT_BOOL: lua_pushboolean(L, v->b); break;
  case NP_OPT_INT: lua_pushinteger(L, v->i); break;
  case NP_OPT_SECONDS: lua_pushnumber(L, v->seconds); break;
  case NP_OPT_STRING:
  case NP_OPT_WORD:
  case NP_OPT_INTERFACE: lua_pushstring(L, v->s); break;
  case NP_OPT_LINGER:
    if (v->seconds < 0) lua_pushboolean(L, 0);
    else lua_pushnumber(L, v->seconds);
    break;
  }
}

/* Pushes "bind, timeout, nodelay, ...": the list `own` (may be NULL), then the table. */
static const char *push_known(lua_State *L, const char *const own[]) {
  luaL_Buffer b;
  const np_option *o;
  const char *separator = "";
  luaL_buffinit(L, &b);
  for (; own && *own; own++, separator = ", ") {
    luaL_addstring(&b, separator);
    luaL_addstring(&b, *own);
  }
  for (size_t i = 0; (o = np_option_at(i)); i++, separator = ", ") {
    luaL_addstring(&b, separator);
    luaL_addstring(&b, o->name);
  }
  luaL_pushresult(&b);
  return lua_tostring(L, -1);
}

const np_option *np_check_option(lua_State *L, int arg) {
  const char *name = luaL_checkstring(L, arg);
  const np_option *o = np_option_find(name);
  if (!o)
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "unknown option '%s' (known: %s)", name, push_known(L, NULL)));
  return o;
}

static bool in_list(const char *key, const char *const own[]) {
  for (; *own; own++)
    if (strcmp(key, *own) == 0) return true;
  return false;
}

static void check_keys(lua_State *L, int arg, const char *const own[]) {
  lua_pushnil(L);
  while (lua_next(L, arg)) {
    lua_pop(L, 1);
    const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (key && (in_list(key, own) || np_option_find(key))) continue;
    key = luaL_tolstring(L, -1, NULL);
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "unknown option '%s' (known: %s)", key, push_known(L, own)));
  }
}

int np_check_setopts(lua_State *L, int arg, const char *const own[], np_setopt *out) {
  int n = 0;
  const np_option *o;
  if (lua_isnoneornil(L, arg)) return 0;
  luaL_checktype(L, arg, LUA_TTABLE);
  check_keys(L, arg, own);
  for (size_t i = 0; (o = np_option_at(i)) && n < NP_SETOPTS_MAX; i++) {
    if (in_list(o->name, own)) continue;
    if (lua_getfield(L, arg, o->name) != LUA_TNIL) {
      out[n].opt = o;
      np_check_optval(L, arg, lua_gettop(L), o, &out[n++].val);
    }
    lua_pop(L, 1);
  }
  return n;
}
