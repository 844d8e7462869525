/* How failures look: the error value neap.cancelled, and tracebacks that go on through coroutines
 * and groups.
 *
 * A traceback is kept beside its error value while that is on its way; it belongs to the error only
 * as long as it is our own wrap, group or timeout that raises it further. Caught and raised again
 * by a script, it is a new error, as in stock Lua: otherwise two errors with one text would share a
 * traceback. */
#include "bindings/task_impl.h"

const char np_key_cancelled = 'c';
static const char key_stitch = 's';

static int cancelled_tostring(lua_State *L) {
  lua_pushliteral(L, "cancelled");
  return 1;
}

void np_push_cancelled(lua_State *L) {
  luaL_checkstack(L, 4, NULL);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &np_key_cancelled) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, cancelled_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "neap.cancelled");
  lua_setfield(L, -2, "__name");
  lua_setmetatable(L, -2);
  lua_pushliteral(L, "ECANCELED");
  lua_setfield(L, -2, "code");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &np_key_cancelled);
}

int np_raise_cancelled(lua_State *L) {
  np_push_cancelled(L);
  return lua_error(L);
}

bool np_is_cancelled(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  if (lua_type(L, idx) != LUA_TTABLE) return false;
  np_push_cancelled(L);
  bool same = lua_rawequal(L, idx, -1);
  lua_pop(L, 1);
  return same;
}

/* registry[&key_stitch] = { error value, traceback, whether it has all of the stack of the
 * coroutine it is in } */
enum { AT_ERROR = 1, AT_TEXT, AT_COMPLETE };

void np_stitch_set(lua_State *L, int err_idx, bool complete) {
  err_idx = lua_absindex(L, err_idx);
  if (!lua_isstring(L, -1)) { /* there was no memory for one */
    lua_pop(L, 1);
    lua_pushliteral(L, "");
  }
  lua_createtable(L, 3, 0);
  lua_pushvalue(L, err_idx);
  lua_rawseti(L, -2, AT_ERROR);
  lua_insert(L, -2);
  lua_rawseti(L, -2, AT_TEXT);
  lua_pushboolean(L, complete);
  lua_rawseti(L, -2, AT_COMPLETE);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_stitch);
}

/* Pushes what is kept for this error: true, and the text and `complete` are on top; false: nothing
 * is. */
static bool kept(lua_State *L, int err_idx) {
  err_idx = lua_absindex(L, err_idx);
  luaL_checkstack(L, 6, NULL);
  int top = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_stitch) == LUA_TTABLE) {
    lua_rawgeti(L, -1, AT_ERROR);
    if (lua_rawequal(L, -1, err_idx)) {
      lua_rawgeti(L, -2, AT_TEXT);
      lua_rawgeti(L, -3, AT_COMPLETE);
      lua_remove(L, -3);
      lua_remove(L, -3);
      return true;
    }
  }
  lua_settop(L, top);
  return false;
}

void np_stitch_push(lua_State *L, int err_idx) {
  if (kept(L, err_idx)) lua_pop(L, 1);
  else lua_pushliteral(L, "");
}

/* Did the function at this level of co, the one that raised, only pass the error on? */
static bool passed_on(lua_State *co, int level) {
  lua_Debug ar;
  if (!lua_checkstack(co, 1) || !lua_getstack(co, level, &ar)) return false;
  lua_getinfo(co, "f", &ar);
  lua_CFunction f = lua_tocfunction(co, -1);
  lua_pop(co, 1);
  return f == np_wrap_call || f == np_group_call || f == np_timeout_call;
}

/* Pushes the traceback of an error raised at `level` of co: what is kept of it, then co's own
 * stack. */
static void push_traceback(lua_State *L, lua_State *co, int level, int err_idx) {
  err_idx = lua_absindex(L, err_idx);
  if (!passed_on(co, level) || !kept(L, err_idx)) {
    luaL_traceback(L, co, NULL, level);
    return;
  }
  bool complete = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (complete) return;
  lua_pushliteral(L, "\n");
  luaL_traceback(L, co, NULL, level);
  lua_concat(L, 3);
}

int np_stitch_handler(lua_State *L) {
  if (np_is_cancelled(L, 1)) return 1;
  push_traceback(L, L, 1, 1);
  np_stitch_set(L, 1, true);
  lua_settop(L, 1);
  return 1;
}

void np_stitch_coroutine(lua_State *L, lua_State *co, int err_idx) {
  push_traceback(L, co, 0, err_idx);
}
