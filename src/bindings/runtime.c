/* A runtime: a Lua state, a loop and a scheduler joined; the turns it makes, and how it ends.
 *
 * It ends when the main group has no tasks left, the exit functions have run and nothing lingers.
 * When every task waits and nothing outside can wake any of them, it says so and fails instead of
 * waiting for ever. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lualib.h>

#include "bindings/baked.h"
#include "bindings/modules.h"
#include "bindings/state.h"
#include "bindings/task_impl.h"
#include "bindings/young.h"
#include "core/stream.h"
#include "neap.h"

static const char key_stdlib = 'd';

/* Finding neap.* : a directory of sources first, then what is baked in. */

static int load_source(lua_State *L, const char *dir, const char *path) {
  char file[4096];
  snprintf(file, sizeof file, "%s/%s", dir, path);
  return luaL_loadfile(L, file);
}

/* "neap.net" -> net/init.lua or net.lua below dir; pushes the chunk and its path. 0: there is no
 * such file. */
static int search_directory(lua_State *L, const char *dir, const char *name) {
  static const char *const forms[] = {"%s/init.lua", "%s.lua"};
  const char *rest =
    strcmp(name, "neap") == 0 ? "" : luaL_gsub(L, name + strlen("neap."), ".", "/");
  for (size_t i = 0; i < np_countof(forms); i++) {
    char path[1024], file[4096];
    if (*rest) snprintf(path, sizeof path, forms[i], rest);
    else snprintf(path, sizeof path, "init.lua");
    snprintf(file, sizeof file, "%s/%s", dir, path);
    FILE *f = fopen(file, "r");
    if (!f) continue;
    fclose(f);
    if (load_source(L, dir, path) != LUA_OK) return lua_error(L);
    lua_pushstring(L, file);
    return 2;
  }
  return 0;
}

/* A package searcher. */
int np_modules_search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (strcmp(name, "neap") != 0 && strncmp(name, "neap.", 5) != 0) return 0;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_stdlib) == LUA_TSTRING) {
    int n = search_directory(L, lua_tostring(L, -1), name);
    if (n) return n;
  }
  const np_baked *b = np_baked_find(name);
  if (!b) {
    lua_pushfstring(L, "no module '%s' in neap's standard library", name);
    return 1;
  }
  lua_pushfstring(L, "@%s", b->path);
  if (luaL_loadbufferx(L, b->source, b->len, lua_tostring(L, -1), "t") != LUA_OK)
    return lua_error(L);
  lua_pushstring(L, b->path);
  return 2;
}

void np_modules_install(lua_State *L, const char *stdlib) {
  if (stdlib) lua_pushstring(L, stdlib);
  else lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_stdlib);
  if (lua_getfield(L, LUA_REGISTRYINDEX, "neap.modules") == LUA_TBOOLEAN) {
    lua_pop(L, 1);
    return; /* by an earlier runtime of this state */
  }
  lua_pushboolean(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.modules");
  lua_pop(L, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  luaL_setfuncs(L, np_modules, 0);
  lua_pop(L, 1);
  lua_getglobal(L, LUA_LOADLIBNAME);
  lua_getfield(L, -1, "searchers");
  lua_Integer n = luaL_len(L, -1);
  for (lua_Integer i = n; i >= 2; i--) { /* after preload, before files */
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushcfunction(L, np_modules_search);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

static int f_virtual_clock(lua_State *L) {
  np_loop_virtual(np_loop_of(L), lua_toboolean(L, 1));
  return 0;
}

int luaopen_neap_runtime_core(lua_State *L) {
  static const luaL_Reg funcs[] = {
    {"virtual_clock", f_virtual_clock},
    {NULL, NULL},
  };
  luaL_newlib(L, funcs);
  lua_pushliteral(L, NEAP_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}

/* Making and freeing. */

static void after_event(void *ctx) {
  np_runtime *rt = ctx;
  if (rt->nready > 0) np_drain(rt);
}

static int init_state(lua_State *L) {
  np_runtime *rt = lua_touserdata(L, 1);
  const char *stdlib = lua_touserdata(L, 2);
  lua_settop(L, 0);
  lua_pushlightuserdata(L, rt);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &np_key_runtime);
  np_scheduler_init(L);
  np_push_cancelled(L); /* made now: later there may be no memory to cancel with */
  rt->main = np_group_new(L, NULL);
  lua_rawsetp(L, LUA_REGISTRYINDEX, rt->main);
  np_modules_install(L, stdlib);
  np_coroutine_install(L);
  np_require_install(L);
  np_exit_install(L);
#ifndef NP_HARD
  if (rt->state) np_pace_begin(L, &rt->pace);
#endif
  return 0;
}

static int open_libs(lua_State *L) {
  if (lua_toboolean(L, 1)) { /* where loadlib.c looks for it */
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  luaL_openlibs(L);
  return 0;
}

static int open_state(np_runtime *rt, const np_config *c) {
  rt->state = c->L ? NULL : np_state_new();
  rt->L = rt->state ? np_state_lua(rt->state) : c->L;
  if (!rt->L) return -ENOMEM;
  lua_State *L = rt->L;
  *(np_task **)lua_getextraspace(L) = NULL;
  if (rt->state) {
    lua_pushcfunction(L, open_libs);
    lua_pushboolean(L, c->no_environment);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) return -ENOMEM;
  }
#ifdef NP_HARD
  lua_gc(L, LUA_GCINC, 1, 1000, 2); /* a collector that never rests */
#endif
  lua_pushcfunction(L, init_state);
  lua_pushlightuserdata(L, rt);
  lua_pushlightuserdata(L, (void *)c->stdlib);
  return lua_pcall(L, 2, 0, 0) == LUA_OK ? 0 : -ENOMEM;
}

np_runtime *np_new(const np_config *config) {
  np_config c = config ? *config : (np_config){0};
  np_runtime *rt = calloc(1, sizeof *rt);
  if (!rt) return NULL;
  np_node_init(&rt->ready);
  np_node_init(&rt->sated_ready);
  np_node_init(&rt->loading);
  rt->grace_s = 1;
  rt->watch.signo = c.watchdog_signal;
  const char *env = getenv("NEAP_POLL");
  int r = np_loop_new(&rt->loop, c.poll ? c.poll : env && *env ? env : NULL);
  if (r < 0) {
    free(rt);
    errno = -r;
    return NULL;
  }
  np_loop_on_event(rt->loop, after_event, rt);
  if (open_state(rt, &c) == 0) return rt;
  if (rt->state) np_state_free(rt->state);
  np_loop_free(rt->loop);
  free(rt->pool);
  free(rt);
  errno = ENOMEM;
  return NULL;
}

lua_State *np_lua(np_runtime *rt) { return rt->L; }

static void end_tasks(np_runtime *rt) {
  np_group_cancel(rt->main);
  for (int i = 0; i < 8 && rt->ntasks > 0 && rt->nready > 0; i++) {
    np_node_append_all(&rt->ready, &rt->sated_ready);
    np_drain(rt);
  }
  while (np_node_linked(&rt->main->children)) {
    np_task *t = np_container(rt->main->children.next, np_task, sibling);
    np_task_kill(rt, t, NULL); /* the tasks of its groups become the main group's */
  }
}

static int shut_state(lua_State *L) {
  np_coroutine_restore(L);
  np_require_restore(L);
  np_exit_restore(L);
  np_scheduler_forget(L);
  lua_settop(L, 0);
  lua_gc(L, LUA_GCCOLLECT); /* objects of this runtime that were not closed go before their loop */
  lua_gc(L, LUA_GCCOLLECT);
  np_scopes_orphan(L);
  return 0;
}

static void forget_runtime(lua_State *L) {
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &np_key_runtime);
}

bool np_runtime_freeing(lua_State *L) {
  np_runtime *rt = np_runtime_find(L);
  return !rt || rt->freeing;
}

bool np_runtime_owns(lua_State *L) {
  np_runtime *rt = np_runtime_find(L);
  return rt && rt->state && !rt->freeing;
}

void np_free(np_runtime *rt) {
  lua_State *L = rt->L;
  rt->freeing = true;
  end_tasks(rt);
  np_watchdog_off(rt);
  np_scheduler_forget_tasks(rt);
  if (rt->state) {
    np_young_end(L);
    np_state_free(rt->state);
  } else {
    lua_pushcfunction(L, shut_state);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
    forget_runtime(L);
  }
  np_loop_free(rt->loop); /* objects that a script in a borrowed state still holds keep it */
  free(rt->pool);
  free(rt);
}

/* Running. */

static int start(lua_State *L) { /* the function and its arguments */
  np_runtime *rt = np_runtime_of(L);
  lua_pushliteral(L, "main"); /* first: after the task there is no failing */
  lua_insert(L, 1);
  np_task_new(L, rt, rt->main, lua_gettop(L) - 2);
  lua_pushvalue(L, 1);
  np_task_set(L, -2, NP_TASK_NAME);
  return 0;
}

int np_start(np_runtime *rt, int nargs) {
  lua_State *L = rt->L;
  lua_pushcfunction(L, start);
  lua_insert(L, -(nargs + 2));
  return lua_pcall(L, nargs + 1, 0, 0) == LUA_OK ? 0 : -1;
}

int np_dostring(np_runtime *rt, const char *code) {
  if (luaL_loadstring(rt->L, code) != LUA_OK) return -1;
  return np_start(rt, 0);
}

static bool outside_can_wake(np_runtime *rt) {
  return rt->nwaiting_outside > 0 || np_loop_busy(rt->loop) || np_soon_any(rt->loop) ||
         np_timer_next(rt->loop) != NP_NEVER;
}

/* Every task waits for another one: the main group fails with a list of who waits for what,
 * where. */
static void deadlock(np_runtime *rt) {
  lua_State *L = rt->L;
  lua_pushcfunction(L, np_inspect_deadlock);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    lua_pushliteral(L, "deadlock");
  }
  lua_pushliteral(L, "");
  np_group_fail(L, rt->main);
}

/* Nothing can wake any task. A cancelled one that waits on regardless (a shield without end) is
 * closed. */
static void stuck(np_runtime *rt) {
  np_task *t = rt->main->cancelled ? np_first_waiting(rt) : NULL;
  if (t) np_task_kill(rt, t, "waited for ever, though cancelled,");
  else if (!rt->main->cancelled) deadlock(rt);
}

static uint64_t real_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int warn_standing(lua_State *L) {
  np_inspect_standing(L);
  lua_warning(L, lua_tostring(L, -1), 0);
  return 0;
}

/* The virtual clock stands while something outside may still come.  When nothing came for a second:
 * lingerers and lookups are no longer waited for, and for tasks that wait outside it says who they
 * are. Returns how long to poll. */
enum { STANDING_MS = 1000 };
static int stand(np_runtime *rt, int ms) {
  uint64_t now = real_ms();
  if (rt->slice != rt->stood_slice || rt->stood_ms == 0) {
    rt->stood_slice = rt->slice;
    rt->stood_ms = now;
    rt->stood_told = false;
  }
  int left = STANDING_MS - (int)(now - rt->stood_ms);
  if (left > 0) return ms < 0 || ms > left ? left : ms;
  if (rt->nwaiting_outside == 0) {
    np_loop_advance(rt->loop);
    return ms;
  }
  if (!rt->stood_told) {
    rt->stood_told = true;
    lua_pushcfunction(rt->L, warn_standing);
    if (lua_pcall(rt->L, 0, 0, 0) != LUA_OK) lua_pop(rt->L, 1);
  }
  return ms;
}

static int advance_virtual(np_runtime *rt, int ms) {
  if (rt->nready > 0 || np_soon_any(rt->loop) || np_timer_next(rt->loop) == NP_NEVER) return ms;
  if (rt->nwaiting_outside > 0 || np_loop_busy(rt->loop)) return stand(rt, ms);
  np_loop_advance(rt->loop);
  return ms;
}

enum { UNSENT_LOOK_MS = 50 };

/* The ready tasks run last, so that a host sees all they did before the next step waits. */
int np_step(np_runtime *rt, int ms) {
  if (rt->ntasks == 0) {
    np_report_failure(rt);
    if (!np_next_exit_function(rt) && !np_loop_busy(rt->loop)) {
      if (!np_unsent(rt)) return 0;
      if (ms < 0 || ms > UNSENT_LOOK_MS) ms = UNSENT_LOOK_MS;
    }
  } else if (rt->nready == 0 && !outside_can_wake(rt)) {
    stuck(rt);
    ms = 0;
  }
  if (np_loop_is_virtual(rt->loop)) ms = advance_virtual(rt, ms);
  np_loop_step(rt->loop, rt->nready > 0 ? 0 : ms);
  np_drain_rounds(rt);
  np_loop_run_later(rt->loop);
  if (np_unlikely(rt->pace.cycle_ended)) np_pace_set(rt->L, &rt->pace);
  return 1;
}

int np_run(np_runtime *rt) {
  while (np_step(rt, -1)) continue;
  return rt->status;
}

int np_status(np_runtime *rt) { return rt->status; }
int np_exited(np_runtime *rt) { return rt->exiting && !rt->exit_closes; }
int np_fd(np_runtime *rt) { return np_loop_fd(rt->loop); }
int np_timeout_ms(np_runtime *rt) { return rt->nready > 0 ? 0 : np_loop_timeout_ms(rt->loop); }
void np_wake(np_runtime *rt) { np_loop_wake(rt->loop); }
void np_cancel(np_runtime *rt) { np_group_cancel(rt->main); }
