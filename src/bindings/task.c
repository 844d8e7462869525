/* Tasks for Lua: spawn, join, cancel, sleep, yield, and what a task tells about itself. */
#include <stdio.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/select.h"
#include "bindings/task_impl.h"

int np_task_push_results(lua_State *L, np_task *t) {
  int ud = lua_gettop(L); /* the task is on top */
  lua_pushboolean(L, t->outcome == NP_RETURNED);
  if (t->nresults == 0) return 1;
  np_task_get(L, ud, NP_TASK_RESULT);
  if (t->outcome == NP_WAS_CANCELLED && np_task_get(L, ud, NP_TASK_TRACE) != LUA_TNIL) return 3;
  lua_settop(L, ud + 2);
  if (t->outcome != NP_RETURNED || t->nresults == 1) return 2;
  int table = lua_gettop(L);
  luaL_checkstack(L, t->nresults, "too many results");
  for (int i = 1; i <= t->nresults; i++) lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return 1 + t->nresults;
}

static void join_abort(np_task *t, void *obj) {
  (void)obj;
  np_node_remove(&t->waiter.node);
}
static int describe_task(void *obj, char *buf, size_t size) {
  return snprintf(buf, size, "task %u", ((np_task *)obj)->id);
}
static const np_waitkind join_wait = {"join", false, join_abort, describe_task, false};

static int k_join(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  np_task *t = lua_touserdata(L, 1);
  int woken = np_woken(L);
  if (t->state == NP_ENDED) {
    lua_settop(L, 1);
    return np_task_push_results(L, t);
  }
  if (woken) return np_fail(L, woken, "join");
  np_task *me = np_task_of(L);
  np_node_append(&t->joiners, &me->waiter.node);
  uint64_t at = np_deadline_opt(L, 2, -1);
  return np_wait(L, &join_wait, t, at, 0, k_join);
}

static const char *const timeout_only[] = {"timeout", NULL};

static int f_join(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  np_check_options(L, 2, timeout_only);
  np_deadline_opt(L, 2, -1);
  if (t == np_task_of(L)) return luaL_error(L, "a task cannot join itself");
  if (t->state == NP_ENDED) {
    lua_settop(L, 1);
    return np_done(L, np_task_push_results(L, t));
  }
  np_op_begin(L, "join");
  return k_join(L, LUA_OK, 0);
}

/* task:cancel([reason]): true, or false if it had ended or was cancelled before. The reason is
 * join's third result. */
static int f_cancel(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  lua_settop(L, 2);
  bool now = t->state != NP_ENDED && t->root.stage == NP_CALM;
  if (now) {
    np_task_set(L, 1, NP_TASK_TRACE);
    np_cancel_scope(t, &t->root);
  }
  lua_pushboolean(L, now);
  return 1;
}

static const char *state_name(const np_task *t) {
  static const char *const names[] = {"ready", "running", "waiting", "ended"};
  static const char *const ends[] = {"returned", "failed", "cancelled"};
  return t->state == NP_ENDED ? ends[t->outcome] : names[t->state];
}

static int f_index(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  const char *key = lua_tostring(L, 2);
  if (!key) return 0;
  if (strcmp(key, "name") == 0) np_task_get(L, 1, NP_TASK_NAME);
  else if (strcmp(key, "id") == 0) lua_pushinteger(L, t->id);
  else if (strcmp(key, "state") == 0) lua_pushstring(L, state_name(t));
  else return 0;
  return 1;
}

static int f_newindex(lua_State *L) {
  np_check_object(L, 1, &np_task_type);
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "name") != 0)
    return luaL_error(L, "a task has no field '%s' to set (only name)", key);
  luaL_checkstring(L, 3);
  np_task_set(L, 1, NP_TASK_NAME);
  return 0;
}

static int f_tostring(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  const char *name = np_task_get(L, 1, NP_TASK_NAME) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pushfstring(L, "neap.task{%d%s%s %s%s%s}", (int)t->id, name ? " " : "", name ? name : "",
                  state_name(t), t->kind ? " for " : "", t->kind ? t->kind->what : "");
  return 1;
}

const np_type np_task_type = {
  .name = "neap.task",
  .methods = (const luaL_Reg[]){{"join", f_join}, {"cancel", f_cancel}, {NULL, NULL}},
  .meta = (const luaL_Reg[]){{"__tostring", f_tostring}, {"__newindex", f_newindex}, {NULL, NULL}},
  .index = f_index,
};

static int f_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  np_task_spawn(L, lua_gettop(L) - 1);
  return 1;
}

static void sleep_abort(np_task *t, void *obj) { (void)t, (void)obj; }
static const np_waitkind sleep_wait = {"sleep", false, sleep_abort, NULL, false};

/* The end of a sleep is its own deadline; a scope's is a timeout. */
static int k_sleep(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  int woken = np_woken(L);
  if (woken == -ETIMEDOUT && np_task_of(L)->by) return np_fail(L, woken, "sleep");
  lua_pushboolean(L, 1);
  return 1;
}

/* sleep(seconds): true, or the ETIMEDOUT triple when a deadline scope ended it. 1 ms granularity,
 * never early. */
static int f_sleep(lua_State *L) {
  uint64_t ns = np_check_seconds(L, 1);
  np_op_begin(L, "sleep");
  return np_wait(L, &sleep_wait, NULL, np_deadline_after(np_loop_of(L), ns), 0, k_sleep);
}

static int k_yield(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  np_woken(L);
  return 0;
}

/* yield(): lets the other ready tasks run; a point where cancellation is raised. */
static int f_yield(lua_State *L) {
  np_task *t = np_op_begin(L, "yield");
  uint64_t next;
  int code = np_scopes_verdict(t, NP_NEVER, &next, &t->by);
  if (code == NP_WOKEN_CANCEL) return np_task_refuse(L, t, code, 0, k_yield);
  return np_give_way(L, 0, k_yield);
}

static int f_now(lua_State *L) {
  lua_pushnumber(L, (lua_Number)np_loop_now(np_loop_of(L)) / 1e9);
  return 1;
}

static int f_current(lua_State *L) {
  np_task *t = np_runtime_of(L)->current;
  if (!t) return 0;
  np_push_task(L, t);
  return 1;
}

/* select waits for a task as join does. */
static int select_poll(lua_State *L, void *obj, int op, int at) {
  np_task *t = obj;
  (void)op;
  if (t->state != NP_ENDED) return NP_NOT_READY;
  lua_pushvalue(L, at);
  int ud = lua_gettop(L), n = np_task_push_results(L, t);
  lua_remove(L, ud);
  return n;
}
static void select_add(void *obj, int op, np_waiter *w) {
  (void)op;
  np_node_append(&((np_task *)obj)->joiners, &w->node);
}
static const np_selop task_ops[] = {{"join", false}, {NULL, false}};
static const np_selectable task_selectable = {task_ops, false, select_poll, select_add, NULL};

int luaopen_neap_task_core(lua_State *L) {
  static const luaL_Reg funcs[] = {
    {"spawn", f_spawn}, {"sleep", f_sleep},     {"yield", f_yield},
    {"now", f_now},     {"current", f_current}, {NULL, NULL},
  };
  np_type_init(L, &np_task_type);
  np_selectable_set(L, &np_task_type, &task_selectable);
  luaL_newlib(L, funcs);
  return 1;
}
