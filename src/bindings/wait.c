/* Waiting and waking: what every binding calls.
 *
 * A task's waiter node is in the queue of the object it waits for or in the ready queue, never in
 * both, so a wake-up cannot be swallowed.  Nothing here resumes a task: that is schedule.c. */
#include <math.h>
#include <stdarg.h>

#include "bindings/task_impl.h"
#include "core/error.h"

const char np_key_runtime = 'r';

np_task *np_task_of(lua_State *L) { return *(np_task **)lua_getextraspace(L); }

np_runtime *np_runtime_find(lua_State *L) {
  np_task *t = np_task_of(L);
  if (t) return t->rt;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &np_key_runtime);
  np_runtime *rt = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return rt;
}

np_runtime *np_runtime_of(lua_State *L) {
  np_runtime *rt = np_runtime_find(L);
  if (!rt) luaL_error(L, "no neap runtime in this Lua state");
  return rt;
}

np_loop *np_runtime_loop(np_runtime *rt) { return rt->loop; }
np_loop *np_loop_of(lua_State *L) { return np_runtime_of(L)->loop; }
np_waiter *np_task_waiter(np_task *t) { return &t->waiter; }
lua_State *np_task_top(const np_task *t) { return t->depth ? t->chain[t->depth - 1] : t->T; }
lua_State *np_task_thread(np_task *t) { return np_task_top(t); }

bool np_can_wait(lua_State *L, np_task *t) {
  return t && L == np_task_top(t) && t->state == NP_RUNNING && !t->stuck && lua_isyieldable(L);
}

static void cannot_wait(lua_State *L, np_task *t, const char *what) {
  np_runtime *rt = np_runtime_of(L);
  if (rt->closing > 0 && (!t || !rt->current))
    luaL_error(L, "cannot wait (%s) in a coroutine that is being closed", what);
  if (!rt->current) luaL_error(L, "cannot wait (%s) outside a task", what);
  if (!t || L != np_task_top(t) || t->state != NP_RUNNING)
    luaL_error(L,
               "cannot wait here (%s): this coroutine was resumed by something other than neap's "
               "coroutine.resume",
               what);
  luaL_error(L,
             "cannot wait (%s) inside a C function that cannot be suspended "
             "(table.sort, string.gsub, a __gc metamethod ...)",
             what);
}

/* A task that calls and calls without ever having to wait feels its cancellation here. */
static void look_for_cancellation(lua_State *L, np_task *t) {
  uint64_t next;
  t->checkpoint = false;
  if (np_scopes_verdict(t, NP_NEVER, &next, &t->by) != NP_WOKEN_CANCEL) return;
  if (t->by->stage != NP_REQUESTED && ++t->by->streak >= NP_STREAK_MAX) t->doomed = true;
  np_scope_delivered(t);
  np_raise_cancelled(L);
}

np_task *np_op_begin(lua_State *L, const char *what) {
  np_task *t = np_task_of(L);
  if (np_unlikely(!np_can_wait(L, t))) cannot_wait(L, t, what);
  t->woken = 0;
  if (np_unlikely(t->checkpoint)) look_for_cancellation(L, t);
  return t;
}

static void enqueue(np_task *t, np_node *queue) {
  t->state = NP_READY;
  np_node_remove(&t->waiter.node);
  np_node_append(queue, &t->waiter.node);
  t->rt->nready++;
}

void np_task_enqueue(np_task *t) { enqueue(t, &t->rt->ready); }

void np_task_wake_code(np_task *t, int code) {
  np_assert(t->kind && t->state == NP_WAITING);
  if (t->kind->outside) t->rt->nwaiting_outside--;
  t->kind = NULL;
  t->by = NULL;
  t->woken = code;
  np_timer_clear(&t->timer);
  np_task_enqueue(t);
}

void np_task_wake(np_task *t) { np_task_wake_code(t, 0); }

void np_task_interrupt(np_task *t) {
  if (t->state != NP_WAITING || t->kind->deaf) return;
  uint64_t next;
  np_scope *by;
  int code = np_scopes_verdict(t, t->deadline_ns, &next, &by);
  if (code == 0 && np_timer_set(t->rt->loop, &t->timer, next) == 0) return;
  if (by && by->kind == NP_SCOPE_DEADLINE) by->hit = true;
  t->woken = code ? code : -ENOMEM;
  t->kind->abort(t, t->obj);
  np_task_wake_code(t, t->woken);
  t->by = by;
}

/* The wait is over before it began: its object forgets the task, which gives way and finds
 * `code`. */
int np_task_refuse(lua_State *L, np_task *t, int code, lua_KContext ctx, lua_KFunction k) {
  np_scope *s = t->by;
  if (s && s->kind == NP_SCOPE_DEADLINE) {
    s->hit = true;
    if (++s->streak >= NP_STREAK_MAX) {
      s->streak = 0;
      luaL_error(L, "timed out: %d results in a row of an expired deadline were ignored",
                 NP_STREAK_MAX);
    }
  } else if (code == NP_WOKEN_CANCEL) {
    if (s->stage == NP_REQUESTED) {
      t->woken = 0;
      np_scope_delivered(t);
      return np_raise_cancelled(L);
    }
    if (++s->streak >= NP_STREAK_MAX) t->doomed = true;
  }
  t->woken = code;
  t->suspending = true;
  np_timer_clear(&t->timer);
  np_task_enqueue(t);
  return lua_yieldk(L, 0, ctx, k);
}

int np_wait(lua_State *L, const np_waitkind *kind, void *obj, uint64_t deadline_ns,
            lua_KContext ctx, lua_KFunction k) {
  np_task *t = np_task_of(L);
  uint64_t next = NP_NEVER;
#ifdef NP_HARD
  np_assert(np_can_wait(L, t)); /* else it would run on while it counts as waiting */
#endif
  t->by = NULL;
  int code = kind->deaf ? 0 : np_scopes_verdict(t, deadline_ns, &next, &t->by);
  if (code == -ETIMEDOUT && !t->by) code = 0; /* its own instant: one turn of the loop at least */
  if (next != NP_NEVER && np_timer_set(t->rt->loop, &t->timer, next) < 0) code = -ENOMEM;
  if (np_unlikely(code)) {
    t->woken = code;
    kind->abort(t, obj);
    return np_task_refuse(L, t, code, ctx, k);
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

static bool over(np_runtime *rt) {
  if (np_likely(--rt->budget >= 0 && np_loop_moved(rt->loop) - rt->moved < NP_SLICE_BYTES))
    return false;
  rt->sated = true;
  return true;
}

bool np_slice_over(lua_State *L) { return over(np_task_of(L)->rt); }

int np_give_way(lua_State *L, lua_KContext ctx, lua_KFunction k) {
  np_task *t = np_task_of(L);
  t->woken = 0;
  t->checkpoint = true;
  t->suspending = true;
  enqueue(t, t->rt->sated ? &t->rt->sated_ready : &t->rt->ready);
  return lua_yieldk(L, 0, ctx, k);
}

static int k_return(lua_State *L, int status, lua_KContext n) {
  (void)status, (void)L;
  return (int)n;
}

int np_done(lua_State *L, int nresults) {
  np_task *t = np_task_of(L);
  if (np_likely(!t || !over(t->rt))) return nresults;
  if (!np_can_wait(L, t)) return nresults;
  return np_give_way(L, nresults, k_return);
}

int np_task_cause(const np_task *t) { return t->woken == -ETIMEDOUT ? -ETIMEDOUT : -ECANCELED; }

/* Counts a failure that came at once; true: give way before returning it. Raises when ignored too
 * often. */
static bool count_streak(lua_State *L, uint8_t *streak, const char *text) {
  np_task *t = np_task_of(L);
  bool can = np_can_wait(L, t);
  if (can && ++*streak >= NP_STREAK_MAX) {
    *streak = 0;
    luaL_error(L, "%s (%d such results in a row were ignored)", text, NP_STREAK_MAX);
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

int np_fail_why(lua_State *L, int code, uint8_t *streak, const char *message) {
  np_fail_text(L, np_error_name(code), "%s", message);
  return count_streak(L, streak, message) ? np_give_way(L, 3, k_return) : 3;
}

/* Seconds and instants. */

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
