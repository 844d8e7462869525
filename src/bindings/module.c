/* build/neap.so: the same modules for a stock Lua. require "neap".run(f) runs f as the main task of
 * a runtime that lives in the calling state, until its group has ended. Outside run everything is
 * as it was. */
#include <string.h>

#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "neap.h"

/* What the main group failed with, as an error of run's caller. */
static int raise_failure(lua_State *L) {
  lua_getiuservalue(L, -1, 1);
  return lua_error(L);
}

/* run(f, ...): f's results; raises what left the main group. os.exit inside ends the process in
 * order. */
static int f_run(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (np_task_of(L))
    return luaL_error(L, "neap is running already: run is for a stock interpreter");
  np_runtime *rt = np_new(&(np_config){.L = L});
  if (!rt && errno == EINVAL) return luaL_error(L, "cannot start neap: NEAP_POLL names no watcher");
  if (!rt) return luaL_error(L, "cannot start neap: %s", strerror(errno));
  np_task *t = np_task_new(L, rt, rt->main, lua_gettop(L) - 1);
  rt->quiet = true; /* the caller gets the failure itself */
  while (np_step(rt, -1)) continue;
  lua_rawgetp(L, LUA_REGISTRYINDEX, rt->main);
  bool failed = rt->main->failed, exiting = rt->exiting;
  int status = rt->status;
  np_free(rt);
  if (exiting) {
    lua_getglobal(L, "os");
    lua_getfield(L, -1, "exit");
    lua_pushinteger(L, status);
    lua_call(L, 1, 0);
  }
  if (failed) return raise_failure(L);
  lua_pop(L, 1);
  int n = np_task_push_results(L, t);
  return n - 1; /* without the leading true */
}

int luaopen_neap(lua_State *L) {
  /* the stock interpreter leaves it as it found the memory */
  *(np_task **)lua_getextraspace(L) = NULL;
  np_modules_install(L, NULL);
  lua_pushcfunction(L, np_modules_search);
  lua_pushliteral(L, "neap");
  lua_call(L, 1, 2);
  lua_pop(L, 1);
  lua_pushliteral(L, "neap");
  lua_call(L, 1, 1);
  lua_pushcfunction(L, f_run);
  lua_setfield(L, -2, "run");
  return 1;
}
