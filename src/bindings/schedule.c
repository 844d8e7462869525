/* The scheduler: tasks made, ended and run, the ready queue, and the one lua_resume.
 *
 * Every body runs under a protected call at the base of its thread, so an error ends its task and
 * nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/select.h"
#include "bindings/task_impl.h"

#ifdef NP_HARD
enum { SLICE_BUDGET = 2 };
#else
enum {
  SLICE_BUDGET = 128
}; /* straight calls before a task gives way: about 0.1 ms of small ones */
#endif
enum {
  ROUNDS_MAX = 64, /* instead of 16: channel round trip -4 % */
  CLOCK_EVERY = 8, /* tasks; instead of 4: spawn and switch -3 % */
};
#define DRAIN_NS NP_MS /* of ready tasks between two events */

/* The weak tables of traces and names. */
static const char key_values[] = {[NP_TASK_TRACE] = 't', [NP_TASK_NAME] = 'n'};

static np_task *from_waiter(np_node *n) { return np_container(n, np_task, waiter.node); }

void np_scheduler_init(lua_State *L) {
  np_threads_init(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  for (np_taskvalue v = NP_TASK_TRACE; v <= NP_TASK_NAME; v++) {
    lua_createtable(L, 0, 1); /* room for the first task's name: see runtime.c */
    lua_pushvalue(L, -2);
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_values[v]);
  }
  lua_pop(L, 1);
}

int np_task_get(lua_State *L, int ud, np_taskvalue which) {
  if (which == NP_TASK_RESULT) return lua_getiuservalue(L, ud, 1);
  ud = lua_absindex(L, ud);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_values[which]);
  lua_pushvalue(L, ud);
  int type = lua_rawget(L, -2);
  lua_remove(L, -2);
  return type;
}

void np_task_set(lua_State *L, int ud, np_taskvalue which) {
  if (which == NP_TASK_RESULT) {
    lua_setiuservalue(L, ud, 1);
    return;
  }
  ud = lua_absindex(L, ud);
  if (lua_isnil(L, -1)) { /* without a key that would have to be made */
    bool there = np_task_get(L, ud, which) != LUA_TNIL;
    lua_pop(L, there ? 1 : 2);
    if (!there) return;
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_values[which]);
  lua_pushvalue(L, ud);
  lua_rotate(L, -3, -1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* The outermost frame of T, task_body's. False: its task has not begun. */
static bool outermost(lua_State *T, lua_Debug *ar) {
  int below = 0, above = 1;
  while (lua_getstack(T, above, ar)) {
    below = above;
    above *= 2;
  }
  while (above - below > 1) {
    int middle = (below + above) / 2;
    if (lua_getstack(T, middle, ar)) below = middle;
    else above = middle;
  }
  return lua_getstack(T, below, ar) != 0;
}

void np_push_task(lua_State *L, np_task *t) {
  lua_Debug ar;
  t->seen = true;
  lua_checkstack(L, 1);
  lua_checkstack(t->T, 1);
  if (outermost(t->T, &ar)) lua_getlocal(t->T, &ar, 1);
  else lua_pushvalue(t->T, 2); /* above task_body */
  lua_xmove(t->T, L, 1);
}

/* ---- the body ---- */

static int on_error(lua_State *L) {
  np_stitch_handler(L);
  lua_settop(L, 1);
  return 1;
}

/* Its userdata can be another task: no script has ever had it in its hands. */
static bool unseen(const np_task *t) { return !t->seen && t->outcome == NP_RETURNED; }

/* Wakes those in join, tells the group, leaves every list. Allocates nothing. The task is at
 * index ud. */
static void end_task(lua_State *L, np_task *t, int ud) {
  np_runtime *rt = t->rt;
  bool delivered = np_node_linked(&t->joiners);
  t->state = NP_ENDED;
  while (np_node_linked(&t->joiners)) np_waiter_poke(np_waiter_first(&t->joiners));
  np_node_remove(&t->waiter.node);
  if (unseen(t)) np_timer_clear(&t->timer); /* its next wait moves it */
  else np_timer_remove(rt->loop, &t->timer);
  while (t->groups) np_group_abandon(L, t->groups);
  while (np_node_linked(&t->root.node)) np_node_remove(t->root.node.next);
  free(t->chain);
  t->chain = NULL;
  t->depth = t->chain_cap = t->stuck = 0;
  *(np_task **)lua_getextraspace(t->T) = NULL;
  t->T = NULL;
  rt->ntasks--;
  np_group_child_ended(L, t->home, t, ud, !delivered);
  t->home = NULL;
}

/* Results at 3..top, or the error on top, become user values of the task at index 1. */
static void keep_outcome(lua_State *L, np_task *t) {
  int n = lua_gettop(L) - 2;
  if (t->outcome != NP_RETURNED) {
    n = 1;
    if (t->outcome == NP_RAISED) {
      np_stitch_push(L, -1);
      np_task_set(L, 1, NP_TASK_TRACE);
    }
  } else if (n > 1) {
    lua_createtable(L, n, 0);
    lua_insert(L, 3);
    for (int i = n; i > 0; i--) lua_rawseti(L, 3, i);
  }
  t->nresults = n;
  if (n > 0) np_task_set(L, 1, NP_TASK_RESULT);
}

int np_task_finish(lua_State *L, np_task *t) {
  keep_outcome(L, t);
  end_task(L, t, 1);
  if (!unseen(t)) return 0;
  lua_pushnil(L);
  np_task_set(L, 1, NP_TASK_RESULT);
  lua_settop(L, 1);
  return 1; /* stays on the idle thread's stack */
}

static int k_body(lua_State *L, int status, lua_KContext ctx) {
  np_task *t = lua_touserdata(L, 1);
  (void)ctx;
  if (np_unlikely(lua_gettop(L) > LUA_MINSTACK - 8)) luaL_checkstack(L, 8, NULL);
  if (status == LUA_OK || status == LUA_YIELD) t->outcome = NP_RETURNED;
  else
    t->outcome = np_is_cancelled(L, -1) && t->root.stage != NP_CALM ? NP_WAS_CANCELLED : NP_RAISED;
  return t->serves ? np_connection_end(L, t) : np_task_finish(L, t);
}

/* Stack: task, message handler, function, arguments. */
static int task_body(lua_State *L) {
  int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 2, 0, k_body);
  return k_body(L, status, 0);
}

static void on_timer(np_timer *tm) { np_task_interrupt(np_container(tm, np_task, timer)); }

static void init_task(np_task *t, np_runtime *rt) {
  t->rt = rt;
  np_node_init(&t->waiter.node);
  np_node_init(&t->sibling);
  np_node_init(&t->joiners);
  t->waiter.task = t;
  t->root.kind = NP_SCOPE_CANCEL;
  np_node_init(&t->root.node);
  np_timer_init(&t->timer, on_timer);
  t->id = ++rt->next_id;
}

/* It begins with the next drain. */
static void start_task(np_runtime *rt, np_task *t, np_group *home) {
  *(np_task **)lua_getextraspace(t->T) = t;
  rt->ntasks++;
  if (np_unlikely(home->gone)) {
    /* A finalizer ended the group during our allocations: this task goes the way of its others. */
    home = rt->main;
    np_cancel_scope(t, &t->root);
  }
  np_group_add(home, t);
  np_task_enqueue(t);
}

/* A new task for the function and nargs arguments on top of L, which stay there below the task.  L
 * has the room that every C function begins with. */
np_task *np_task_new(lua_State *L, np_runtime *rt, np_group *home, int nargs) {
  np_task *t = np_new_object(L, &np_task_type, sizeof *t, 1);
  init_task(t, rt);
  np_thread th = np_thread_get(L, rt);
  lua_State *T = th.T;
  if (nargs > LUA_MINSTACK - 8 && !(lua_checkstack(T, nargs + 8) && lua_checkstack(L, nargs + 2))) {
    np_thread_recycle(rt, th);
    luaL_error(L, "too many arguments for a task");
  }
  t->T = T;
  t->place = th.place;
  lua_pushcfunction(T, task_body);
  lua_pushvalue(L, -1);
  lua_xmove(L, T, 1);
  lua_pushcfunction(T, on_error);
  for (int i = 0; i <= nargs; i++) lua_pushvalue(L, -(nargs + 2));
  lua_xmove(L, T, nargs + 1);
  t->seen = true;
  start_task(rt, t, home);
  return t;
}

void np_task_reserve(lua_State *L, np_runtime *rt) {
  while (rt->npool == rt->nempty || !rt->pool[rt->npool - 1].task) {
    np_task *t = np_new_object(L, &np_task_type, sizeof *t, 1);
    np_timer_init(&t->timer, on_timer);
    np_thread th = np_thread_get(L, rt);
    lua_xmove(L, th.T, 1);
    th.task = t;
    np_thread_recycle(rt, th);
  }
}

np_task *np_task_reserved(lua_State *L, np_runtime *rt, np_group *home, int f, int arg) {
  np_task_reserve(L, rt); /* does nothing, unless a finalizer was faster */
  np_thread th = rt->pool[--rt->npool];
  np_task *t = th.task;
  np_timer timer = t->timer; /* may be in the heap still */
  memset(t, 0, sizeof *t);
  t->type = &np_task_type;
  init_task(t, rt);
  t->timer = timer;
  t->T = th.T;
  t->place = th.place;
  lua_pushcfunction(th.T, task_body);
  lua_insert(th.T, 1);
  lua_pushcfunction(th.T, on_error);
  lua_pushvalue(L, f);
  lua_pushvalue(L, arg);
  lua_xmove(L, th.T, 2);
  lua_pushvalue(L, arg);
  lua_xmove(L, th.T, 1);
  np_task_set(th.T, 2, NP_TASK_RESULT);
  start_task(rt, t, home);
  return t;
}

np_task *np_task_spawn(lua_State *L, int nargs) {
  np_task *t = np_task_of(L);
  np_runtime *rt = t ? t->rt : np_runtime_of(L);
  np_group *g = t ? np_nearest_group(t) : rt->main;
  if (t && t->serves && g == t->home) g = np_own_group(L, t);
  return np_task_new(L, rt, g, nargs);
}

/* ---- ending from outside ---- */

/* What follows runs on the main state, outside protected calls: nothing in it allocates. */

/* The base itself failed (no memory): the thread is reset, its error is the task's. */
static void base_failed(np_runtime *rt, np_task *t, lua_State *T) {
  lua_State *L = rt->L;
  np_thread th = {.T = T, .place = t->place};
  np_push_task(L, t);
  lua_xmove(T, L, 1);
  int err = lua_gettop(L);
  t->outcome = np_connection_lost(L, t, err - 1, err) ? NP_RETURNED : NP_RAISED;
  t->nresults = 1;
  np_task_set(L, -2, NP_TASK_RESULT);
  lua_pushnil(L); /* no traceback: it would need memory */
  np_task_set(L, -2, NP_TASK_TRACE);
  end_task(L, t, lua_gettop(L));
  lua_pop(L, 1);
  lua_resetthread(T);
  lua_settop(T, 0);
  np_thread_recycle(rt, th);
}

static void warn_killed(np_runtime *rt, np_task *t, const char *why) {
  char text[512], where[LUA_IDSIZE + 16];
  np_task_where(t, where, sizeof where);
  bool named = np_task_get(rt->L, -1, NP_TASK_NAME) == LUA_TSTRING;
  snprintf(text, sizeof text, "neap: task %u%s%.100s%s %s and was closed%s%s", t->id,
           named ? " (" : "", named ? lua_tostring(rt->L, -1) : "", named ? ")" : "", why,
           *where ? " at " : "", where);
  lua_pop(rt->L, 1);
  lua_warning(rt->L, text, 0);
}

static void close_coroutine(lua_State *co) {
  *(np_task **)lua_getextraspace(co) = NULL;
  lua_resetthread(co);
}

void np_task_kill(np_runtime *rt, np_task *t, const char *why) {
  lua_State *L = rt->L;
  np_thread th = {.T = t->T, .place = t->place};
  np_push_task(L, t);
  if (why) warn_killed(rt, t, why);
  if (t->kind) {
    t->kind->abort(t, t->obj);
    np_task_wake_code(t, 0);
  }
  if (t->state == NP_READY) rt->nready--;
  np_node_remove(&t->waiter.node);
  t->state = NP_RUNNING;
  rt->closing++;
  while (t->depth > 0) close_coroutine(t->chain[--t->depth]);
  close_coroutine(th.T);
  rt->closing--;
  np_connection_lost(L, t, lua_gettop(L), 0);
  t->outcome = NP_WAS_CANCELLED;
  t->nresults = 1;
  np_push_cancelled(L);
  np_task_set(L, -2, NP_TASK_RESULT);
  end_task(L, t, lua_gettop(L));
  lua_pop(L, 1);
  lua_settop(th.T, 0);
  np_thread_recycle(rt, th);
}

/* ---- running ---- */

static void close_doomed(np_runtime *rt, np_task *t) {
  np_task_kill(rt, t, t->leaving ? NULL : "ignored its cancellation");
}

void np_task_resume(np_runtime *rt, np_task *t) {
  lua_State *T = t->T;
  int nres, fresh = lua_status(T) == LUA_YIELD ? 0 : lua_gettop(T) - 1, place = t->place;
  if (np_unlikely(rt->watch.idle)) np_watchdog_rearm(rt);
  t->state = NP_RUNNING;
  t->suspending = false;
  rt->budget = SLICE_BUDGET;
  rt->moved = np_loop_moved(rt->loop);
  rt->sated = false;
  rt->slice++;
  rt->hot = T;
  rt->current = t;
  if (np_unlikely(rt->interrupt)) np_watchdog_follow(rt, T);
  int status = lua_resume(T, rt->L, fresh, &nres);
  rt->current = NULL;
  if (np_unlikely(rt->watch.L != NULL)) np_watchdog_unhook(rt, rt->watch.L);
  if (status == LUA_OK) np_thread_recycle(rt, (np_thread){T, place, nres > 0 ? t : NULL});
  else if (status != LUA_YIELD) base_failed(rt, t, T);
  else if (np_unlikely(t->doomed)) close_doomed(rt, t);
  np_loop_run_later(rt->loop);
}

/* Runs those that are ready now. Whose slice was used up is not among them: it has its turn once a
 * poll, and not after each event. */
void np_drain(np_runtime *rt) {
  uint64_t end = 0;
  size_t n = rt->nready;
  for (size_t i = 0; i < n && np_node_linked(&rt->ready); i++) {
    if (i % CLOCK_EVERY == CLOCK_EVERY - 1) {
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

/* Before a poll, which costs a system call: tasks that only wake each other need it once in a while
 * (two of them over a channel: 340 ns a round trip instead of 590); after whole slices it is
 * cheap. */
void np_drain_rounds(np_runtime *rt) {
  uint64_t end = rt->nready > 0 ? np_loop_now(rt->loop) + DRAIN_NS : 0;
  np_node_append_all(&rt->ready, &rt->sated_ready);
  for (int i = 0; i < ROUNDS_MAX; i++) {
    np_loop_event_done(rt->loop);
    if (rt->nready == 0 || np_node_linked(&rt->sated_ready)) return;
    if (i % 8 == 7 && np_loop_now(rt->loop) > end) return;
  }
}
