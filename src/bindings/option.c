/* Socket options at the Lua level.  Types and names come from the core's table alone: a row added there appears
 * here, in every option list and in the message for an unknown name. */
#include "bindings/option.h"

#include <math.h>
#include <string.h>

#include "bindings/lua_util.h"
#include "core/error.h"

/* ---- names ---- */

static void add_names(luaL_Buffer *b, const char *const others[]) {
  const np_option *o;
  const char *sep = "";
  for (int i = 0; others && others[i]; i++, sep = ", ") {
    luaL_addstring(b, sep);
    luaL_addstring(b, others[i]);
  }
  for (size_t i = 0; (o = np_option_at(i)); i++, sep = ", ") {
    luaL_addstring(b, sep);
    luaL_addstring(b, o->name);
  }
}

static int unknown_option(lua_State *L, int arg, const char *name, const char *const others[]) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  add_names(&b, others);
  luaL_pushresult(&b);
  return luaL_argerror(L, arg, lua_pushfstring(L, "unknown option '%s' (known: %s)", name, lua_tostring(L, -1)));
}

/* ---- values ---- */

static const char *type_text(np_opttype t) {
  switch (t) {
    case NP_OPT_BOOL: return "a boolean";
    case NP_OPT_INT: return "an integer";
    case NP_OPT_SECONDS: return "seconds (a number, 0 or more)";
    case NP_OPT_STRING: return "a string of at most 63 bytes";
    case NP_OPT_LINGER: return "seconds (a number, 0 or more) or false";
  }
  return "a value";
}

static bool read_seconds(lua_State *L, int idx, double *s) {
  if (lua_type(L, idx) != LUA_TNUMBER) return false;
  *s = lua_tonumber(L, idx);
  return *s >= 0 && *s <= INT32_MAX; /* NaN is neither */
}

static bool read_int(lua_State *L, int idx, int *i) {
  int exact = 0;
  lua_Integer v = lua_type(L, idx) == LUA_TNUMBER ? lua_tointegerx(L, idx, &exact) : 0;
  *i = (int)v;
  return exact && v >= INT32_MIN && v <= INT32_MAX;
}

static bool read_string(lua_State *L, int idx, np_optval *v) {
  size_t n;
  if (lua_type(L, idx) != LUA_TSTRING) return false;
  const char *s = lua_tolstring(L, idx, &n);
  if (n >= sizeof v->s || strlen(s) != n) return false;
  memcpy(v->s, s, n + 1);
  return true;
}

static bool read_value(lua_State *L, int idx, const np_option *o, np_optval *v) {
  switch (o->type) {
    case NP_OPT_BOOL:
      v->b = lua_toboolean(L, idx);
      return lua_isboolean(L, idx);
    case NP_OPT_INT:
      return read_int(L, idx, &v->i);
    case NP_OPT_SECONDS:
      return read_seconds(L, idx, &v->seconds);
    case NP_OPT_STRING:
      return read_string(L, idx, v);
    case NP_OPT_LINGER:
      v->seconds = -1;
      return (lua_isboolean(L, idx) && !lua_toboolean(L, idx)) || read_seconds(L, idx, &v->seconds);
  }
  return false;
}

static void check_value(lua_State *L, int idx, int arg, const np_option *o, np_optval *v) {
  if (o->readonly) luaL_argerror(L, arg, lua_pushfstring(L, "option '%s' can only be read", o->name));
  if (read_value(L, idx, o, v)) return;
  const char *got = luaL_tolstring(L, idx, NULL);
  luaL_argerror(L, arg, lua_pushfstring(L, "option '%s': %s expected, got %s", o->name, type_text(o->type), got));
}

static void push_value(lua_State *L, const np_option *o, const np_optval *v) {
  switch (o->type) {
    case NP_OPT_BOOL: lua_pushboolean(L, v->b); return;
    case NP_OPT_INT: lua_pushinteger(L, v->i); return;
    case NP_OPT_STRING: lua_pushstring(L, v->s); return;
    case NP_OPT_SECONDS: lua_pushnumber(L, v->seconds); return;
    case NP_OPT_LINGER:
      if (v->seconds < 0) lua_pushboolean(L, 0);
      else lua_pushnumber(L, v->seconds);
      return;
  }
}

/* ---- the calls ---- */

int np_option_call(lua_State *L, int fd, int idx, const char *what) {
  np_optval v;
  memset(&v, 0, sizeof v);
  const char *name = luaL_checkstring(L, idx);
  const np_option *o = np_option_find(name);
  bool set = !lua_isnone(L, idx + 1);
  if (!o) return unknown_option(L, idx, name, NULL);
  if (set) check_value(L, idx + 1, idx + 1, o, &v);
  int r = fd < 0 ? -ENOTSOCK : set ? np_option_set(fd, o, &v) : np_option_get(fd, o, &v);
  if (r < 0) return np_fail(L, r, "option %s of %s", name, what);
  if (set) lua_pushboolean(L, 1);
  else push_value(L, o, &v);
  return 1;
}

static bool is_other(const char *name, const char *const others[]) {
  for (int i = 0; others[i]; i++)
    if (strcmp(name, others[i]) == 0) return true;
  return false;
}

static void check_keys(lua_State *L, int idx, const char *const others[]) {
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    lua_pop(L, 1);
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (!name || (!is_other(name, others) && !np_option_find(name)))
      unknown_option(L, idx, luaL_tolstring(L, -1, NULL), others);
  }
}

int np_option_collect(lua_State *L, int idx, const char *const others[], np_setopt *out) {
  const np_option *o;
  int n = 0;
  if (lua_isnoneornil(L, idx)) return 0;
  luaL_checktype(L, idx, LUA_TTABLE);
  check_keys(L, idx, others);
  for (size_t i = 0; (o = np_option_at(i)); i++) {
    if (lua_getfield(L, idx, o->name) != LUA_TNIL && !is_other(o->name, others)) {
      np_assert(n < NP_OPTIONS_MAX);
      memset(&out[n], 0, sizeof out[n]);
      out[n].opt = o;
      check_value(L, lua_gettop(L), idx, o, &out[n++].val);
    }
    lua_pop(L, 1);
  }
  return n;
}
