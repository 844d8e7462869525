/* Typed userdata, error results and option tables (see lua_util.h). */
#include "bindings/lua_util.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "bindings/task.h"
#include "core/error.h"

/* __index for types with fields: a method if there is one, else type->index. Upvalues: methods,
 * type->index. */
static int index_field(lua_State *L) {
  lua_pushvalue(L, 2);
  if (np_likely(lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)) return 1;
  lua_settop(L, 2);
  return lua_tocfunction(L, lua_upvalueindex(2))(L);
}

/* Its key in the registry.  Lua finds an integer without the generic comparison that a light
 * userdata needs: 90 instructions less per object. */
static lua_Integer key_of(const np_type *type) { return (lua_Integer)(intptr_t)type; }

int np_push_metatable(lua_State *L, const np_type *type) {
  return lua_rawgeti(L, LUA_REGISTRYINDEX, key_of(type));
}

void np_set_metatable(lua_State *L, const np_type *type) {
  lua_pushvalue(L, -1);
  lua_rawseti(L, LUA_REGISTRYINDEX, key_of(type));
}

void np_type_init(lua_State *L, const np_type *type) {
  if (np_push_metatable(L, type) != LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  lua_pop(L, 1);
  lua_newtable(L);
  if (type->meta) luaL_setfuncs(L, type->meta, 0);
  lua_pushstring(L, type->name);
  lua_setfield(L, -2, "__name");
  if (type->methods || type->index) {
    lua_newtable(L);
    if (type->methods) luaL_setfuncs(L, type->methods, 0);
    if (type->index) {
      lua_pushcfunction(L, type->index);
      lua_pushcclosure(L, index_field, 2);
    }
    lua_setfield(L, -2, "__index");
  }
  lua_rawseti(L, LUA_REGISTRYINDEX, key_of(type));
}

void np_give_metatable(lua_State *L, const np_type *type) {
  if (np_unlikely(np_push_metatable(L, type) == LUA_TNIL)) {
    lua_pop(L, 1);
    np_type_init(L, type);
    np_push_metatable(L, type);
  }
  lua_setmetatable(L, -2);
}

void *np_new_object(lua_State *L, const np_type *type, size_t size, int uservalues) {
  void *ud = lua_newuserdatauv(L, size, uservalues);
  memset(ud, 0, size);
  *(const np_type **)ud = type;
  np_give_metatable(L, type);
  return ud;
}

void *np_push_for_fd(lua_State *L, int fd, lua_CFunction make) {
  if (!lua_checkstack(L, 8)) {
    close(fd);
    luaL_error(L, "stack overflow");
  }
  lua_pushcfunction(L, make);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    close(fd);
    lua_error(L);
  }
  return lua_touserdata(L, -1);
}

int np_fail(lua_State *L, int code, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  luaL_checkstack(L, 6, NULL);
  lua_pushnil(L);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_pushfstring(L, "%s: %s", lua_tostring(L, -1), np_error_text(code));
  lua_remove(L, -2);
  lua_pushstring(L, np_error_name(code));
  if (np_unlikely(code == -ETIMEDOUT) && np_task_of(L) && np_tracing(np_loop_of(L))) {
    np_trace(np_loop_of(L), lua_pushfstring(L, "timeout %s", lua_tostring(L, -2)), NULL, 0);
    lua_pop(L, 1);
  }
  return 3;
}

int np_fail_text(lua_State *L, const char *name, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  luaL_checkstack(L, 6, NULL);
  lua_pushnil(L);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_pushstring(L, name);
  return 3;
}

static int error_tostring(lua_State *L) {
  lua_getfield(L, 1, "message");
  return 1;
}

int np_raise_message(lua_State *L, int idx, const char *name) {
  idx = lua_absindex(L, idx);
  lua_createtable(L, 0, 2);
  lua_pushvalue(L, idx);
  lua_setfield(L, -2, "message");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "code");
  if (luaL_newmetatable(L, "neap.error")) {
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
  }
  lua_setmetatable(L, -2);
  return lua_error(L);
}

int np_raise(lua_State *L, int code, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_pushfstring(L, "%s: %s", lua_tostring(L, -1), np_error_text(code));
  return np_raise_message(L, -1, np_error_name(code));
}

/* The key is below the top. */
static int unknown_option(lua_State *L, int idx, const char *const known[]) {
  luaL_Buffer b;
  const char *key = luaL_tolstring(L, -2, NULL);
  luaL_buffinit(L, &b);
  for (int i = 0; known[i]; i++) {
    if (i) luaL_addstring(&b, ", ");
    luaL_addstring(&b, known[i]);
  }
  luaL_pushresult(&b);
  return luaL_argerror(
    L, idx, lua_pushfstring(L, "unknown option '%s' (known: %s)", key, lua_tostring(L, -1)));
}

int np_next_option(lua_State *L, int idx, const char *const known[]) {
  if (!lua_next(L, idx)) return -1;
  const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
  for (int i = 0; key && known[i]; i++)
    if (*key == *known[i] && strcmp(key, known[i]) == 0) return i;
  return unknown_option(L, idx, known);
}

uint64_t np_check_options(lua_State *L, int idx, const char *const known[]) {
  uint64_t there = 0;
  if (lua_isnoneornil(L, idx)) return 0;
  luaL_checktype(L, idx, LUA_TTABLE);
  lua_pushnil(L);
  for (int i; (i = np_next_option(L, idx, known)) >= 0; lua_pop(L, 1))
    if (i < 64) there |= UINT64_C(1) << i;
  return there;
}

/* Pushes the field; false (nothing pushed) when it is absent. */
static bool option(lua_State *L, int idx, const char *key) {
  if (lua_isnoneornil(L, idx)) return false;
  luaL_checktype(L, idx, LUA_TTABLE);
  if (lua_getfield(L, idx, key) != LUA_TNIL) return true;
  lua_pop(L, 1);
  return false;
}

static int bad_option(lua_State *L, int idx, const char *key, const char *want) {
  return luaL_argerror(
    L, idx,
    lua_pushfstring(L, "option '%s': %s expected, got %s", key, want, luaL_tolstring(L, -1, NULL)));
}

lua_Integer np_option_integer(lua_State *L, int idx, const char *key, lua_Integer min,
                              lua_Integer max) {
  int is_int;
  lua_Integer v = lua_tointegerx(L, -1, &is_int);
  if (!is_int || lua_type(L, -1) != LUA_TNUMBER) bad_option(L, idx, key, "an integer");
  if (v < min || v > max)
    luaL_argerror(L, idx,
                  lua_pushfstring(L, "option '%s': %I is not from %I to %I", key, (LUAI_UACINT)v,
                                  (LUAI_UACINT)min, (LUAI_UACINT)max));
  return v;
}

lua_Integer np_opt_integer(lua_State *L, int idx, const char *key, lua_Integer def, lua_Integer min,
                           lua_Integer max) {
  if (!option(L, idx, key)) return def;
  lua_Integer v = np_option_integer(L, idx, key, min, max);
  lua_pop(L, 1);
  return v;
}

double np_option_seconds(lua_State *L, int idx, const char *key) {
  double s = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER || isnan(s) || s < 0)
    bad_option(L, idx, key, "seconds (a number, 0 or more)");
  return s;
}

double np_opt_seconds(lua_State *L, int idx, const char *key, double def) {
  if (!option(L, idx, key)) return def;
  double s = np_option_seconds(L, idx, key);
  lua_pop(L, 1);
  return s;
}

bool np_opt_boolean(lua_State *L, int idx, const char *key, bool def) {
  if (!option(L, idx, key)) return def;
  if (!lua_isboolean(L, -1)) bad_option(L, idx, key, "a boolean");
  bool b = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return b;
}

const char *np_opt_string(lua_State *L, int idx, const char *key, const char *def) {
  if (!option(L, idx, key)) return def;
  if (lua_type(L, -1) != LUA_TSTRING) bad_option(L, idx, key, "a string");
  const char *s = lua_tostring(L, -1);
  lua_pop(L, 1);
  return s;
}
