/* How a program ends: os.exit from inside a task, the functions of on_exit, the report of what
 * failed.
 *
 * os.exit does not return: its task is closed where it stands, so no pcall can catch it; the others
 * are cancelled, what was written is sent, lingerers are awaited. Finalizers run only if `close` is
 * given, as in stock Lua. */
#include <stdio.h>
#include <stdlib.h>

#include <lualib.h>

#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "core/stream.h"

static const char key_os_exit = 'e', key_on_exit = 'o';
enum { UNSENT_MAX_MS = NP_LINGER_ALL_MS };

static int stock_exit(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_os_exit);
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

static int f_exit(lua_State *L) {
  np_runtime *rt = np_runtime_find(L);
  if (!rt || !rt->current) return stock_exit(L);
  rt->status =
    lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
  rt->exit_closes = lua_toboolean(L, 2);
  rt->exiting = true;
  np_task *t = np_task_of(L);
  bool can = np_can_wait(L, t);
  np_group_cancel(rt->main);
  if (!can) return np_raise_cancelled(L); /* inside table.sort and the like */
  t->doomed = t->leaving = t->suspending = true;
  return lua_yield(L, 0);
}

void np_exit_install(lua_State *L) {
  lua_getglobal(L, LUA_OSLIBNAME);
  lua_getfield(L, -1, "exit");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_os_exit);
  lua_pushcfunction(L, f_exit);
  lua_setfield(L, -2, "exit");
  lua_pop(L, 1);
}

void np_exit_restore(lua_State *L) {
  lua_getglobal(L, LUA_OSLIBNAME);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_os_exit);
  lua_setfield(L, -2, "exit");
  lua_pop(L, 1);
}

/* on_exit(f): f runs in a task of its own after the main group has ended; last registered first. */
static int f_on_exit(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_on_exit) != LUA_TTABLE) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_on_exit);
  }
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  return 0;
}

static int run_exit_function(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_on_exit);
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  np_runtime *rt = np_runtime_of(L);
  lua_rawgeti(L, 1, n);
  lua_pushnil(L);
  lua_rawseti(L, 1, n);
  np_task_new(L, rt, rt->main, 0);
  return 0;
}

/* They run after a failure or os.exit too. */
bool np_next_exit_function(np_runtime *rt) {
  lua_State *L = rt->L;
  bool more =
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_on_exit) == LUA_TTABLE && lua_rawlen(L, -1) > 0;
  lua_pop(L, 1);
  if (!more) return false;
  rt->main->cancelled = false;
  rt->interrupt = NP_NOT_INTERRUPTED;
  lua_pushcfunction(L, run_exit_function);
  if (lua_pcall(L, 0, 0, 0) == LUA_OK) return true;
  lua_pop(L, 1);
  return false;
}

/* As stock lua reports an uncaught error. Group at 1. */
static int report(lua_State *L) {
  lua_getiuservalue(L, 1, 1);
  lua_getiuservalue(L, 1, 2);
  const char *msg = lua_tostring(L, 2), *trace = lua_tostring(L, 3);
  if (!msg && luaL_callmeta(L, 2, "__tostring") && lua_type(L, -1) == LUA_TSTRING) {
    msg = lua_tostring(L, -1);
    trace = NULL;
  } else if (!msg) {
    msg = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 2));
  }
  fflush(stdout);
  fprintf(stderr, "neap: %s%s%s\n", msg, trace && *trace ? "\n" : "", trace ? trace : "");
  fflush(stderr);
  return 0;
}

void np_report_failure(np_runtime *rt) {
  if (!rt->main->failed) return;
  lua_State *L = rt->L;
  if (!rt->exiting) rt->status = 1;
  if (rt->quiet) return;
  rt->main->failed = false;
  lua_pushcfunction(L, report);
  lua_rawgetp(L, LUA_REGISTRYINDEX, rt->main);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
}

bool np_unsent(np_runtime *rt) {
  uint64_t now = np_loop_now(rt->loop);
  if (!rt->ended) {
    rt->ended = true;
    rt->end_by_ns = now + UNSENT_MAX_MS * NP_MS;
  }
  if (now >= rt->end_by_ns) return false;
  np_node *list = np_loop_objects(rt->loop);
  for (np_node *n = list->next; n != list; n = n->next) {
    const np_stream *s = np_stream_of(np_container(n, np_object, node));
    if (s && np_stream_out(s) > 0 && np_stream_error(s) == 0) return true;
  }
  return false;
}

int luaopen_neap_ending_core(lua_State *L) {
  static const luaL_Reg funcs[] = {{"on_exit", f_on_exit}, {NULL, NULL}};
  luaL_newlib(L, funcs);
  return 1;
}
