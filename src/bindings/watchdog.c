/* What reaches a task that computes: the watchdog, which names the line of one that keeps the loop
 * longer than a threshold, and the interruption that INT and TERM are. There is one hook for both,
 * on one coroutine; it goes along when another one of the task runs.
 *
 * A timer aimed at the loop's own thread ticks four times per threshold. Its signal handler, which
 * the host installs (main.c), sees whether the same slice still runs and then sets a hook on the
 * running coroutine: lua_sethook may be called from a signal handler (lua.c does). The hook
 * reports. Off, it costs a load and a branch per slice; on and idle, the timer is disarmed. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "neap.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { TICKS = 4 };

/* The real clock: a task keeps the loop in real time, whatever the virtual one says. */
static uint64_t real_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * NP_SEC + (uint64_t)t.tv_nsec;
}

static void set_timer(np_watch *w, uint64_t ns) {
  struct itimerspec its = {.it_interval = {(time_t)(ns / NP_SEC), (long)(ns % NP_SEC)}};
  its.it_value = its.it_interval;
  timer_settime(w->timer, 0, &its, NULL);
}

static uint64_t tick_ns(const np_watch *w) {
  return w->threshold_ns / TICKS < NP_MS ? NP_MS : w->threshold_ns / TICKS;
}

void np_watchdog_rearm(np_runtime *rt) {
  rt->watch.idle = false;
  set_timer(&rt->watch, tick_ns(&rt->watch));
}

static void on_hook(lua_State *L, lua_Debug *ar);

/* A signal may come at any line of these three. */
static void hook(np_runtime *rt, lua_State *L) {
  np_watch *w = &rt->watch;
  if (w->L) return;
  if (lua_gethook(L) != on_hook) {
    w->old = lua_gethook(L);
    w->old_mask = lua_gethookmask(L);
    w->old_count = lua_gethookcount(L);
  }
  w->L = L;
  lua_sethook(L, on_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* Puts back what the hook replaced, a script's own hook perhaps. */
void np_watchdog_unhook(np_runtime *rt, lua_State *L) {
  np_watch *w = &rt->watch;
  lua_sethook(L, w->old, w->old_mask, w->old_count);
  w->L = NULL;
}

void np_watchdog_follow(np_runtime *rt, lua_State *L) {
  if (rt->watch.L) np_watchdog_unhook(rt, rt->watch.L);
  hook(rt, L);
}

static void push_report(lua_State *L, np_runtime *rt) {
  np_task *t = rt->current;
  char where[LUA_IDSIZE + 16], seconds[32];
  np_task_where(t, where, sizeof where);
  snprintf(seconds, sizeof seconds, "%.2f", (double)(real_ns() - rt->watch.since_ns) / 1e9);
  np_push_task(L, t);
  const char *name = np_task_get(L, -1, NP_TASK_NAME) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  lua_pushfstring(L, "neap: task %d%s%s%s has kept the loop for %s s at %s", (int)t->id,
                  name ? " (" : "", name ? name : "", name ? ")" : "", seconds, where);
  luaL_traceback(L, L, lua_tostring(L, -1), 0);
}

/* The main group is cancelled, and this task feels it here as if it waited. In a nested group it
 * would be told by its owner, which cannot run now. */
static void cancel_here(lua_State *L, np_runtime *rt) {
  np_task *t = np_task_of(L);
  uint64_t next;
  np_group_cancel(rt->main);
  if (!t) return;
  np_cancel_scope(t, &t->root);
  if (np_scopes_verdict(t, NP_NEVER, &next, &t->by) != NP_WOKEN_CANCEL) return; /* shielded */
  if (t->by->stage != NP_REQUESTED) return;
  np_scope_delivered(t);
  np_raise_cancelled(L);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
  np_runtime *rt = np_runtime_find(L);
  if (!rt || rt->watch.L != L) return;
  /* not where a call begins or ends: its results would be lost */
  if (rt->interrupt && ar->event != LUA_HOOKCOUNT && ar->event != LUA_HOOKLINE) return;
  np_watchdog_unhook(rt, L);
  np_interruption what = rt->interrupt;
  rt->interrupt = NP_NOT_INTERRUPTED;
  if (what == NP_INTERRUPT_CANCEL) cancel_here(L, rt);
  if (what == NP_INTERRUPT_ERROR) luaL_error(L, "interrupted!");
  if (!rt->current || rt->watch.seen != rt->slice) return;
  rt->watch.reported = rt->slice;
  int top = lua_gettop(L);
  luaL_checkstack(L, 10, NULL);
  push_report(L, rt);
  lua_warning(L, lua_tostring(L, -1), 0);
  lua_settop(L, top);
}

void np_watchdog_tick(void *arg) {
  np_runtime *rt = arg;
  np_watch *w = &rt->watch;
  if (!w->on) return;
  if (w->seen != rt->slice) {
    w->seen = rt->slice;
    w->since_ns = real_ns();
  } else if (!rt->current) {
    w->idle = true;
    set_timer(w, 0);
  } else if (!w->L && w->reported != rt->slice && real_ns() - w->since_ns >= w->threshold_ns) {
    hook(rt, rt->hot);
  }
}

/* Noted first: a slice that begins meanwhile looks for it. */
void np_interrupt(np_runtime *rt) {
  rt->interrupt = NP_INTERRUPT_CANCEL;
  if (rt->current) hook(rt, rt->hot);
  np_wake(rt);
}

int np_interrupt_code(np_runtime *rt) {
  if (rt->interrupt) return -1;
  if (!rt->current) return 0;
  rt->interrupt = NP_INTERRUPT_ERROR;
  hook(rt, rt->hot);
  return 1;
}

void np_watchdog_off(np_runtime *rt) {
  np_watch *w = &rt->watch;
  if (!w->on) return;
  w->on = false;
  w->idle = false;
  timer_delete(w->timer);
  if (w->L) np_watchdog_unhook(rt, w->L);
}

static int turn_on(np_runtime *rt, uint64_t threshold_ns) {
  np_watch *w = &rt->watch;
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = w->signo};
  ev.sigev_value.sival_ptr = rt;
  ev.sigev_notify_thread_id = gettid();
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0) return -errno;
  w->timer = timer;
  w->threshold_ns = threshold_ns;
  w->seen = w->reported = rt->slice - 1;
  w->on = true;
  np_watchdog_rearm(rt);
  return 0;
}

/* watchdog(seconds): warns, once per slice, of a task that keeps the loop longer; nil or false
 * turns it off. True, or nil, message, "EOPNOTSUPP" where the host has not opted in (neap.h). */
static int f_watchdog(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  uint64_t ns = lua_toboolean(L, 1) ? np_check_seconds(L, 1) : 0;
  luaL_argcheck(L, !lua_toboolean(L, 1) || (ns > 0 && ns != NP_NEVER), 1,
                "a number of seconds above 0 expected");
  np_watchdog_off(rt);
  if (ns > 0) {
    int r = rt->watch.signo ? turn_on(rt, ns) : -EOPNOTSUPP;
    if (r < 0) return np_fail(L, r, "watchdog");
  }
  lua_pushboolean(L, 1);
  return 1;
}

int luaopen_neap_watchdog_core(lua_State *L) {
  static const luaL_Reg funcs[] = {{"watchdog", f_watchdog}, {NULL, NULL}};
  luaL_newlib(L, funcs);
  return 1;
}
