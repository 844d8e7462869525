/* neap.so: the runtime as a module of a stock interpreter, whose state it borrows while run(f) lasts.
 *
 * require "neap" gives the same table as in the command, with run added.  Signals, limits and exit stay the host's. */
#include <lualib.h>

#include "bindings/baked.h"
#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "neap.h"

int luaopen_neap(lua_State *L);

/* Upvalue 1: the table that gets f's results. */
static int k_body(lua_State *L, int status, lua_KContext ctx) {
  int n = lua_gettop(L);
  (void)status, (void)ctx;
  luaL_checkstack(L, 2, NULL);
  for (int i = n; i >= 1; i--) lua_rawseti(L, lua_upvalueindex(1), i);
  lua_pushinteger(L, n);
  lua_setfield(L, lua_upvalueindex(1), "n");
  return 0;
}

static int f_body(lua_State *L) {
  lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, k_body);
  return k_body(L, LUA_OK, 0);
}

/* Puts the main group's error on the stack; 0: there is none. */
static int push_failure(lua_State *L, np_runtime *rt) {
  if (!rt->main->failed) return 0;
  lua_rawgetp(L, LUA_REGISTRYINDEX, rt->main);
  lua_getiuservalue(L, -1, 1);
  lua_remove(L, -2);
  return 1;
}

static int exit_process(lua_State *L, int status) {
  lua_getglobal(L, LUA_OSLIBNAME);
  lua_getfield(L, -1, "exit");
  lua_pushinteger(L, status);
  lua_call(L, 1, 0);
  return 0;
}

/* run(f, ...): runs f as the main task of a runtime in this state until it and its group have ended: f's results. Raises
 * what left the main group, and if a runtime is running already. */
static int f_run(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &np_key_runtime) != LUA_TNIL) return luaL_error(L, "neap.run: a runtime is running already");
  lua_pop(L, 1);
  int nargs = lua_gettop(L) - 1;
  np_runtime *rt = np_new(&(np_config){.L = L});
  if (!rt) return luaL_error(L, "neap.run: out of memory or descriptors");
  rt->reported = true; /* the caller is told, not standard error */
  lua_newtable(L);
  lua_insert(L, 1);
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, f_body, 1);
  lua_insert(L, 2);
  bool failed = np_start(rt, nargs + 1) != 0;
  if (!failed) {
    np_run(rt);
    failed = push_failure(L, rt);
  }
  bool exiting = rt->exiting;
  int status = rt->status;
  np_free(rt);
  if (exiting) return exit_process(L, status);
  if (failed) return lua_error(L);
  lua_getfield(L, 1, "n");
  int n = (int)lua_tointeger(L, -1);
  luaL_checkstack(L, n, "too many results");
  for (int i = 1; i <= n; i++) lua_rawgeti(L, 1, i);
  return n;
}

int luaopen_neap(lua_State *L) {
  const np_baked *b = np_baked_find("neap");
  *(np_task **)lua_getextraspace(L) = NULL; /* the stock interpreter leaves it as it found the memory */
  np_install_modules(L, NULL);
  lua_pushfstring(L, "@%s", b->path);
  if (luaL_loadbufferx(L, b->source, b->len, lua_tostring(L, -1), "t") != LUA_OK) return lua_error(L);
  lua_pushliteral(L, "neap");
  lua_call(L, 1, 1);
  lua_pushcfunction(L, f_run);
  lua_setfield(L, -2, "run");
  return 1;
}
