/* Small Lua helpers every binding uses: typed userdata, errors as results, option tables. */
#ifndef NP_LUA_UTIL_H
#define NP_LUA_UTIL_H

#include <lauxlib.h>
#include <lua.h>

#include "core/base.h"

/* A userdata type. Every userdata of ours begins with a pointer to its np_type: checking an
 * argument is one compare. */
typedef struct np_type {
  const char *name;        /* "neap.stream": metatable name and prefix of tostring */
  const luaL_Reg *methods; /* __index */
  const luaL_Reg *meta;    /* __gc, __close, __tostring ... */
  /* for fields: called with (ud, key) when no method has the name; NULL */
  lua_CFunction index;
} np_type;

/* Makes the metatable once per state. */
void np_type_init(lua_State *L, const np_type *type);
/* The table on top, which stays there, is it. */
void np_set_metatable(lua_State *L, const np_type *type);
/* Pushes it, or nil before np_type_init; returns the type of what it pushed. */
int np_push_metatable(lua_State *L, const np_type *type);
/* Gives it to the value on top; makes it if need be. */
void np_give_metatable(lua_State *L, const np_type *type);
/* A new userdata of `size` bytes, zeroed, its first word the type; metatable set. */
void *np_new_object(lua_State *L, const np_type *type, size_t size, int uservalues);
/* Calls make(L), which pushes the object that fd is for; when that raises (no memory), fd is closed
 * and the error goes on. The object, on top. */
void *np_push_for_fd(lua_State *L, int fd, lua_CFunction make);

/* The object at idx; NULL: it is something else.  (A light userdata has no length.) */
static inline void *np_test_object(lua_State *L, int idx, const np_type *type) {
  void *ud = lua_touserdata(L, idx);
  return ud && lua_rawlen(L, idx) >= sizeof type && *(const np_type **)ud == type ? ud : NULL;
}
/* The same; raises an argument error. */
static inline void *np_check_object(lua_State *L, int idx, const np_type *type) {
  void *ud = np_test_object(L, idx, type);
  if (np_unlikely(!ud)) luaL_typeerror(L, idx, type->name);
  return ud;
}

/* nil, "<formatted>: <text of code>", "<NAME>": the triple. Returns 3. */
int np_fail(lua_State *L, int code, const char *fmt, ...);
int np_fail_text(lua_State *L, const char *name, const char *fmt, ...); /* message as given */

/* Raises an error object that prints as its message and has .code (what iterators raise). */
int np_raise(lua_State *L, int code, const char *fmt, ...);
/* the message string at idx, as it is */
int np_raise_message(lua_State *L, int idx, const char *name);

/* Options: raises for a key of the table at idx that is not in the NULL-terminated list, naming all
 * known.  Bit i of the result: known[i] is there (of the first 64). */
uint64_t np_check_options(lua_State *L, int idx, const char *const known[]);
/* The options of a table one by one, beginning with nil on top as lua_next does: the place in the
 * list of the next one, whose value is on top, to be popped; -1: that was the last.  For calls that
 * are made often: to check first and fetch by name then costs 300 instructions more. */
int np_next_option(lua_State *L, int idx, const char *const known[]);
/* The value on top, of the option `key` of the table at idx. */
lua_Integer np_option_integer(lua_State *L, int idx, const char *key, lua_Integer min,
                              lua_Integer max);
double np_option_seconds(lua_State *L, int idx, const char *key);

/* A field of the options table at idx (none and nil: absent), with type checks that name the
 * option. */
lua_Integer np_opt_integer(lua_State *L, int idx, const char *key, lua_Integer def, lua_Integer min,
                           lua_Integer max);
double np_opt_seconds(lua_State *L, int idx, const char *key, double def);
bool np_opt_boolean(lua_State *L, int idx, const char *key, bool def);
/* stays anchored in the table */
const char *np_opt_string(lua_State *L, int idx, const char *key, const char *def);

#endif
