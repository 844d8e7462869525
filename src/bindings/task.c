/* The scheduler: tasks, their ready queue, and the one lua_resume that runs them.
 *
 * A task is a thread (reused) and a userdata that lies on that thread's stack.  Its waiter node is in the queue of
 * the object it waits for or in the ready queue, never in both, so a wake-up cannot be swallowed. */
#include "bindings/select.h"
#include "bindings/modules.h"
#include "bindings/task_impl.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#ifdef NP_HARD
enum { SLICE_BUDGET = 2 };
#else
enum { SLICE_BUDGET = 128 }; /* straight calls before a task gives way: about 0.1 ms */
#endif
enum { STREAK_MAX = 100, POOL_MAX = 1024, ROUNDS_MAX = 16 };
#define DRAIN_NS NP_MS /* of ready tasks between two events */

const char np_key_runtime = 'r', np_key_anchors = 'a';

static np_task *from_waiter(np_node *n) { return np_container(n, np_task, waiter.node); }

np_task *np_task_of(lua_State *L) { return *(np_task **)lua_getextraspace(L); }

np_runtime *np_runtime_of(lua_State *L) {
  np_task *t = np_task_of(L);
  if (t) return t->rt;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &np_key_runtime);
  np_runtime *rt = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (!rt) luaL_error(L, "no neap runtime in this Lua state");
  return rt;
}

np_loop *np_runtime_loop(np_runtime *rt) { return rt->loop; }
np_loop *np_loop_of(lua_State *L) { return np_runtime_of(L)->loop; }
np_waiter *np_task_waiter(np_task *t) { return &t->waiter; }
lua_State *np_task_top(const np_task *t) { return t->depth ? t->chain[t->depth - 1] : t->T; }
lua_State *np_task_thread(np_task *t) { return np_task_top(t); }

/* Waiting and waking. */

np_task *np_op_begin(lua_State *L, const char *what) {
  np_task *t = np_task_of(L);
  if (np_unlikely(!t)) {
    np_runtime *rt = np_runtime_of(L);
    if (rt->closing > 0) luaL_error(L, "cannot wait (%s) in a coroutine that is being closed", what);
    if (!rt->current) luaL_error(L, "cannot wait (%s) outside a task", what);
    luaL_error(L, "cannot wait here (%s): this coroutine was resumed by something other than neap's coroutine.resume", what);
  }
  if (np_unlikely(L != np_task_top(t) || t->state != NP_RUNNING))
    luaL_error(L, "cannot wait here (%s): this coroutine was resumed by something other than neap's coroutine.resume", what);
  if (np_unlikely(t->stuck || !lua_isyieldable(L)))
    luaL_error(L, "cannot wait (%s) inside a C function that cannot be suspended "
               "(table.sort, string.gsub, a __gc metamethod, a module loader ...)", what);
  t->woken = 0;
  return t;
}

static void enqueue(np_task *t) {
  t->state = NP_READY;
  np_node_remove(&t->waiter.node);
  np_node_append(&t->rt->ready, &t->waiter.node);
  t->rt->nready++;
}

void np_task_wake_code(np_task *t, int code) {
  np_assert(t->kind && t->state == NP_WAITING);
  if (t->kind->outside) t->rt->nwaiting_outside--;
  t->kind = NULL;
  t->obj = NULL;
  t->woken = code;
  np_timer_clear(&t->timer);
  enqueue(t);
}

void np_task_wake(np_task *t) { np_task_wake_code(t, 0); }

void np_task_interrupt(np_task *t) {
  if (t->state != NP_WAITING || t->kind->deaf) return;
  uint64_t next;
  int code = np_scopes_verdict(t, t->deadline_ns, &next, &t->by);
  if (code == 0 && np_timer_set(t->rt->loop, &t->timer, next) == 0) return;
  if (t->by && t->by->kind == NP_SCOPE_DEADLINE) t->by->hit = true;
  t->woken = code ? code : -ENOMEM;
  t->kind->abort(t, t->obj);
  np_task_wake_code(t, t->woken);
}

static void on_timer(np_timer *tm) { np_task_interrupt(np_container(tm, np_task, timer)); }

/* The wait is over before it began: its object forgets the task, which gives way and finds `code`. */
static int refuse(lua_State *L, np_task *t, int code, lua_KContext ctx, lua_KFunction k) {
  np_scope *s = t->by;
  if (s && s->kind == NP_SCOPE_DEADLINE) {
    s->hit = true;
    if (++s->streak >= STREAK_MAX) {
      s->streak = 0;
      luaL_error(L, "timed out: %d results in a row of an expired deadline were ignored", STREAK_MAX);
    }
  } else if (code == NP_WOKEN_CANCEL) {
    if (s->stage == NP_REQUESTED) {
      np_scope_delivered(t);
      return np_raise_cancelled(L);
    }
    s->streak++;
  }
  t->woken = code;
  t->suspending = true;
  enqueue(t);
  return lua_yieldk(L, 0, ctx, k);
}

int np_wait(lua_State *L, const np_waitkind *kind, void *obj, uint64_t deadline_ns, lua_KContext ctx, lua_KFunction k) {
  np_task *t = np_task_of(L);
  uint64_t next = NP_NEVER;
  t->by = NULL;
  int code = kind->deaf ? 0 : np_scopes_verdict(t, deadline_ns, &next, &t->by);
  if (code == -ETIMEDOUT && !t->by) code = 0; /* its own instant: one turn of the loop at least */
  if (next != NP_NEVER && np_timer_set(t->rt->loop, &t->timer, next) < 0) code = -ENOMEM;
  if (np_unlikely(code)) {
    t->woken = code;
    kind->abort(t, obj);
    return refuse(L, t, code, ctx, k);
  }
  t->kind = kind;
  t->obj = obj;
  t->deadline_ns = deadline_ns;
  t->state = NP_WAITING;
  t->suspending = true;
  if (kind->outside) t->rt->nwaiting_outside++;
  return lua_yieldk(L, 0, ctx, k);
}

int np_woken(lua_State *L) {
  np_task *t = np_task_of(L);
  int code = t->woken;
  t->woken = 0;
  if (np_unlikely(code == NP_WOKEN_CANCEL)) {
    np_scope_delivered(t);
    np_raise_cancelled(L);
  }
  return code;
}

bool np_slice_over(lua_State *L) { return --np_task_of(L)->rt->budget < 0; }

int np_give_way(lua_State *L, lua_KContext ctx, lua_KFunction k) {
  np_task *t = np_task_of(L);
  t->woken = 0;
  t->suspending = true;
  enqueue(t);
  return lua_yieldk(L, 0, ctx, k);
}

static int k_return(lua_State *L, int status, lua_KContext n) {
  (void)status, (void)L;
  return (int)n;
}

int np_done(lua_State *L, int nresults) {
  np_task *t = np_task_of(L);
  if (np_likely(!t || --t->rt->budget >= 0)) return nresults;
  if (L != np_task_top(t) || t->state != NP_RUNNING || t->stuck || !lua_isyieldable(L)) return nresults;
  return np_give_way(L, nresults, k_return);
}

int np_task_cause(const np_task *t) { return t->woken == -ETIMEDOUT ? -ETIMEDOUT : -ECANCELED; }

/* Counts a failure that came at once; true: give way before returning it. Raises when ignored too often. */
static bool count_streak(lua_State *L, uint8_t *streak, const char *text) {
  np_task *t = np_task_of(L);
  bool can = t && L == np_task_top(t) && t->state == NP_RUNNING && !t->stuck && lua_isyieldable(L);
  if (can && ++*streak >= STREAK_MAX) {
    *streak = 0;
    luaL_error(L, "%s (%d such results in a row were ignored)", text, STREAK_MAX);
  }
  return can;
}

int np_fail_closed(lua_State *L, uint8_t *streak) {
  bool can = count_streak(L, streak, "closed");
  np_fail_text(L, "ECANCELED", "closed");
  return can ? np_give_way(L, 3, k_return) : 3;
}

int np_fail_code(lua_State *L, int code, uint8_t *streak, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  luaL_checkstack(L, 6, NULL);
  const char *what = lua_pushvfstring(L, fmt, args);
  va_end(args);
  np_fail(L, code, "%s", what);
  bool can = count_streak(L, streak, lua_tostring(L, -2));
  return can ? np_give_way(L, 3, k_return) : 3;
}

/* Running. */

static int on_error(lua_State *L) {
  if (!np_is_cancelled(L, 1)) np_stitch_handler(L);
  lua_settop(L, 1);
  return 1;
}

/* Wakes those in join, tells the group, leaves every list. Runs on the task's thread, or on the main state. */
static void end_task(lua_State *L, np_task *t) {
  np_runtime *rt = t->rt;
  bool delivered = np_node_linked(&t->joiners);
  np_group_orphans(L, t);
  while (np_node_linked(&t->joiners)) np_waiter_poke(np_waiter_first(&t->joiners));
  np_node_remove(&t->waiter.node);
  np_timer_remove(rt->loop, &t->timer);
  while (np_node_linked(&t->scopes)) np_node_remove(t->scopes.next);
  free(t->chain);
  t->chain = NULL;
  t->depth = t->chain_cap = t->stuck = 0;
  t->state = NP_ENDED;
  *(np_task **)lua_getextraspace(t->T) = NULL;
  t->T = NULL;
  rt->ntasks--;
  np_group_child_ended(L, t->home, t, !delivered);
  t->home = NULL;
}

/* Results at 3..top, or the error on top, become user values of the task at index 1. */
static void keep_outcome(lua_State *L, np_task *t) {
  int n = lua_gettop(L) - 2;
  if (t->outcome != NP_RETURNED) {
    np_push_stitch(L, -1);
    lua_setiuservalue(L, 1, NP_TASK_TRACE);
    n = 1;
  } else if (n > 1) {
    lua_createtable(L, n, 0);
    lua_insert(L, 3);
    for (int i = n; i > 0; i--) lua_rawseti(L, 3, i);
  }
  t->nresults = n;
  if (n > 0) lua_setiuservalue(L, 1, NP_TASK_RESULT);
}

static int finish_body(lua_State *L, np_task *t) {
  if (t->on_end) t->on_end(L, t);
  keep_outcome(L, t);
  end_task(L, t);
  return 0;
}

/* A task that is a group of its own waits for the tasks spawned in it. */
static int k_children(lua_State *L, int status, lua_KContext ctx) {
  np_task *t = lua_touserdata(L, 1);
  np_group *g = t->own;
  if (status == LUA_YIELD && t->woken) {
    t->woken = 0;
    np_scope_delivered(t);
    np_group_cancel(g);
    g->ended_by = NP_WOKEN_CANCEL;
  }
  if (g->nchildren > 0) return np_group_wait(L, g, ctx, k_children);
  if (g->failed && t->outcome != NP_RAISED) {
    t->outcome = NP_RAISED;
    lua_settop(L, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, g);
    lua_getiuservalue(L, -1, 1);
    lua_getiuservalue(L, -2, 2);
    np_stitch_set(L, -2);
  }
  np_group_forget(L, g);
  t->own = NULL;
  return finish_body(L, t);
}

static int k_body(lua_State *L, int status, lua_KContext ctx) {
  np_task *t = lua_touserdata(L, 1);
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD) t->outcome = NP_RETURNED;
  else t->outcome = np_is_cancelled(L, -1) && t->root.stage != NP_CALM ? NP_WAS_CANCELLED : NP_RAISED;
  if (!t->own) return finish_body(L, t);
  if (t->outcome != NP_RETURNED) np_group_cancel(t->own);
  return k_children(L, LUA_OK, 0);
}

/* Stack: task, message handler, function, arguments. */
static int task_body(lua_State *L) {
  int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 2, 0, k_body);
  return k_body(L, status, 0);
}

static lua_State *get_thread(lua_State *L, np_runtime *rt, int *anchor) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &np_key_anchors);
  lua_State *T;
  if (rt->npool > 0) {
    *anchor = rt->pool[--rt->npool];
    lua_rawgeti(L, -1, *anchor);
    T = lua_tothread(L, -1);
    lua_pop(L, 2);
    return T;
  }
  T = lua_newthread(L);
  lua_rawseti(L, -2, rt->nanchors + 1);
  *anchor = ++rt->nanchors;
  lua_pop(L, 1);
  return T;
}

/* Keeps the thread for the next task; past POOL_MAX it is let go, its place in the anchors is kept. */
static void recycle(np_runtime *rt, lua_State *T, int anchor) {
  lua_settop(T, 0);
  if (rt->npool == rt->pool_cap) {
    int cap = rt->pool_cap ? rt->pool_cap * 2 : 64;
    int *pool = realloc(rt->pool, (size_t)cap * sizeof *pool);
    if (!pool) return; /* the thread stays anchored and unused */
    rt->pool = pool;
    rt->pool_cap = cap;
  }
  rt->pool[rt->npool++] = anchor;
}

static void init_task(np_task *t, np_runtime *rt) {
  t->rt = rt;
  np_node_init(&t->waiter.node);
  np_node_init(&t->sibling);
  np_node_init(&t->joiners);
  np_node_init(&t->scopes);
  np_node_init(&t->groups);
  t->waiter.task = t;
  t->root.kind = NP_SCOPE_CANCEL;
  np_node_append(&t->scopes, &t->root.node);
  np_timer_init(&t->timer, on_timer);
  t->id = ++rt->next_id;
}

/* Moves the function and nargs arguments on top of L to a new task and leaves the task there. */
np_task *np_task_new(lua_State *L, np_runtime *rt, np_group *home, int nargs) {
  luaL_checkstack(L, 6, NULL);
  np_task *t = np_new_object(L, &np_task_type, sizeof *t, NP_TASK_USERVALUES);
  init_task(t, rt);
  int anchor;
  lua_State *T = get_thread(L, rt, &anchor);
  if (!lua_checkstack(T, nargs + 8)) {
    recycle(rt, T, anchor);
    luaL_error(L, "too many arguments for a task");
  }
  t->T = T;
  t->anchor = anchor;
  lua_pushcfunction(T, task_body);
  lua_pushvalue(L, -1);
  lua_xmove(L, T, 1);
  lua_pushcfunction(T, on_error);
  lua_insert(L, -(nargs + 2));
  lua_xmove(L, T, nargs + 1);
  *(np_task **)lua_getextraspace(T) = t;
  rt->ntasks++;
  np_group_add(home, t);
  enqueue(t);
  return t;
}

np_task *np_task_spawn(lua_State *L, int nargs) {
  np_runtime *rt = np_runtime_of(L);
  np_task *t = np_task_of(L);
  return np_task_new(L, rt, t ? np_nearest_group(L, t) : rt->main, nargs);
}

/* The base itself failed (no memory): the thread is reset, the error is the task's. */
static void base_failed(np_runtime *rt, np_task *t, lua_State *T) {
  lua_State *L = rt->L;
  lua_checkstack(L, 4);
  lua_xmove(T, L, 1);
  t->outcome = NP_RAISED;
  t->nresults = 1;
  lua_pushfstring(L, ""); /* no traceback: it would need memory */
  if (t->home) np_group_fail(L, t->home);
  end_task(L, t);
  lua_resetthread(T);
}

void np_task_kill(np_runtime *rt, np_task *t) {
  lua_State *T = t->T;
  int anchor = t->anchor;
  if (t->kind) {
    t->kind->abort(t, t->obj);
    np_task_wake_code(t, 0);
  }
  if (t->state == NP_READY) rt->nready--;
  np_node_remove(&t->waiter.node);
  t->state = NP_RUNNING;
  if (!t->leaving) lua_warning(rt->L, "neap: a task that ignored its cancellation was closed", 0);
  rt->closing++;
  while (t->depth > 0) {
    lua_State *co = t->chain[--t->depth];
    *(np_task **)lua_getextraspace(co) = NULL;
    lua_resetthread(co);
  }
  *(np_task **)lua_getextraspace(T) = NULL;
  t->outcome = NP_WAS_CANCELLED;
  lua_checkstack(rt->L, 4);
  lua_resetthread(T);
  rt->closing--;
  end_task(rt->L, t);
  recycle(rt, T, anchor);
}

static bool must_die(const np_task *t) {
  for (np_node *n = t->scopes.next; n != &t->scopes; n = n->next) {
    np_scope *s = np_container(n, np_scope, node);
    if (s->kind == NP_SCOPE_CANCEL && s->streak >= STREAK_MAX) return true;
  }
  return false;
}

void np_task_resume(np_runtime *rt, np_task *t) {
  lua_State *T = t->T;
  int anchor = t->anchor, nres;
  t->state = NP_RUNNING;
  t->suspending = false;
  rt->current = t;
  rt->budget = SLICE_BUDGET;
  int fresh = lua_status(T) == LUA_YIELD ? 0 : lua_gettop(T) - 1;
  int status = lua_resume(T, rt->L, fresh, &nres);
  rt->current = NULL;
  if (status == LUA_OK) recycle(rt, T, anchor);
  else if (status != LUA_YIELD) base_failed(rt, t, T);
  else if (np_unlikely(t->leaving || (t->woken == NP_WOKEN_CANCEL && must_die(t)))) np_task_kill(rt, t);
  np_loop_run_later(rt->loop);
}

void np_drain(np_runtime *rt) {
  uint64_t end = 0;
  size_t n = rt->nready;
  for (size_t i = 0; i < n && rt->nready > 0; i++) {
    if (i % 4 == 3) { /* a clock read for every few tasks */
      uint64_t now = np_loop_now(rt->loop);
      if (end == 0) end = now + DRAIN_NS;
      else if (now > end) return;
    }
    np_task *t = from_waiter(rt->ready.next);
    np_node_remove(&t->waiter.node);
    rt->nready--;
    np_task_resume(rt, t);
  }
}

/* Before a poll, which costs a system call: tasks that only wake each other need it once in a while (two of them over a
 * channel: 340 ns a round trip instead of 590). */
void np_drain_rounds(np_runtime *rt) {
  uint64_t end = rt->nready > 0 ? np_loop_now(rt->loop) + DRAIN_NS : 0;
  for (int i = 0; i < ROUNDS_MAX; i++) {
    np_loop_event_done(rt->loop);
    if (rt->nready == 0 || (i % 4 == 3 && np_loop_now(rt->loop) > end)) return;
  }
}

/* The Lua face. */

int np_task_push_results(lua_State *L, np_task *t) {
  int ud = lua_gettop(L); /* the task is on top */
  lua_pushboolean(L, t->outcome == NP_RETURNED);
  if (t->nresults == 0) return 1;
  lua_getiuservalue(L, ud, NP_TASK_RESULT);
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
static int describe_task(void *obj, char *buf, size_t size) { return snprintf(buf, size, "task %u", ((np_task *)obj)->id); }
static const np_waitkind join_wait = { "join", false, join_abort, describe_task, false };

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

static const char *const timeout_only[] = { "timeout", NULL };

static int f_join(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  np_check_options(L, 2, timeout_only);
  np_deadline_opt(L, 2, -1);
  if (t == np_task_of(L)) return luaL_error(L, "a task cannot join itself");
  if (t->state == NP_ENDED) {
    lua_settop(L, 1);
    return np_task_push_results(L, t);
  }
  np_op_begin(L, "join");
  return k_join(L, LUA_OK, 0);
}

/* task:cancel([reason]): true, or false if it had ended. The reason is join's third result. */
static int f_cancel(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  lua_pushboolean(L, t->state != NP_ENDED);
  if (t->state != NP_ENDED) np_cancel_scope(t, &t->root);
  return 1;
}

static const char *state_name(const np_task *t) {
  static const char *const names[] = { "ready", "running", "waiting", "ended" };
  static const char *const ends[] = { "returned", "failed", "cancelled" };
  return t->state == NP_ENDED ? ends[t->outcome] : names[t->state];
}

static int f_index(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  const char *key = lua_tostring(L, 2);
  if (!key) return 0;
  if (strcmp(key, "name") == 0) lua_getiuservalue(L, 1, NP_TASK_NAME);
  else if (strcmp(key, "id") == 0) lua_pushinteger(L, t->id);
  else if (strcmp(key, "state") == 0) lua_pushstring(L, state_name(t));
  else return 0;
  return 1;
}

static int f_newindex(lua_State *L) {
  np_check_object(L, 1, &np_task_type);
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "name") != 0) return luaL_error(L, "a task has no field '%s' to set (only name)", key);
  luaL_checkstring(L, 3);
  lua_setiuservalue(L, 1, NP_TASK_NAME);
  return 0;
}

static int f_tostring(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  const char *name = lua_getiuservalue(L, 1, NP_TASK_NAME) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pushfstring(L, "neap.task{%d%s%s %s%s%s}", (int)t->id, name ? " " : "", name ? name : "", state_name(t),
                  t->kind ? " for " : "", t->kind ? t->kind->what : "");
  return 1;
}

const np_type np_task_type = {
  .name = "neap.task",
  .methods = (const luaL_Reg[]){ { "join", f_join }, { "cancel", f_cancel }, { NULL, NULL } },
  .meta = (const luaL_Reg[]){ { "__tostring", f_tostring }, { "__newindex", f_newindex }, { NULL, NULL } },
  .index = f_index,
};

static int f_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  np_task_spawn(L, lua_gettop(L) - 1);
  return 1;
}

uint64_t np_seconds_ns(double s) { return s >= 9e9 ? NP_NEVER : (uint64_t)ceil(s * 1e9); }

uint64_t np_check_seconds(lua_State *L, int idx) {
  double s = luaL_checknumber(L, idx);
  luaL_argcheck(L, s >= 0, idx, "seconds must be a number of 0 or more");
  return np_seconds_ns(s);
}

uint64_t np_deadline_after(np_loop *l, uint64_t ns) {
  return ns == NP_NEVER ? NP_NEVER : np_loop_now(l) + ns;
}

uint64_t np_deadline_opt(lua_State *L, int idx, double default_s) {
  double s = np_opt_seconds(L, idx, "timeout", default_s);
  return s < 0 ? NP_NEVER : np_deadline_after(np_loop_of(L), np_seconds_ns(s));
}

static void sleep_abort(np_task *t, void *obj) { (void)t, (void)obj; }
static const np_waitkind sleep_wait = { "sleep", false, sleep_abort, NULL, false };

/* The end of a sleep is its own deadline; a scope's is a timeout. */
static int k_sleep(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  int woken = np_woken(L);
  if (woken == -ETIMEDOUT && np_task_of(L)->by) return np_fail(L, woken, "sleep");
  lua_pushboolean(L, 1);
  return 1;
}

/* sleep(seconds): true, or the ETIMEDOUT triple when a deadline scope ended it. 1 ms granularity, never early. */
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
  if (code == NP_WOKEN_CANCEL) return refuse(L, t, code, 0, k_yield);
  return np_give_way(L, 0, k_yield);
}

static int f_now(lua_State *L) {
  lua_pushnumber(L, (lua_Number)np_loop_now(np_loop_of(L)) / 1e9);
  return 1;
}

static int f_current(lua_State *L) {
  np_task *t = np_runtime_of(L)->current;
  return t ? np_push_task(L, t) : 0;
}

/* A task's userdata is the first argument of its thread's base function, or waits there for the first resume. */
int np_push_task(lua_State *L, np_task *t) {
  lua_State *T = t->T;
  lua_Debug ar;
  int level = 0;
  luaL_checkstack(L, 2, NULL);
  lua_checkstack(T, 2);
  if (!lua_getstack(T, 0, &ar)) {
    lua_pushvalue(T, 2);
  } else {
    while (lua_getstack(T, level + 1, &ar)) level++;
    lua_getstack(T, level, &ar);
    lua_getlocal(T, &ar, 1);
  }
  lua_xmove(T, L, 1);
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
static const np_selop task_ops[] = { { "join", false }, { NULL, false } };
static const np_selectable task_selectable = { task_ops, false, select_poll, select_add, NULL };

int luaopen_neap_task_core(lua_State *L) {
  static const luaL_Reg funcs[] = {
    { "spawn", f_spawn }, { "sleep", f_sleep }, { "yield", f_yield }, { "now", f_now }, { "current", f_current },
    { NULL, NULL },
  };
  np_type_init(L, &np_task_type);
  np_selectable_set(L, &np_task_type, &task_selectable);
  luaL_newlib(L, funcs);
  return 1;
}
