/* Tasks for the other bindings: who am I, wait, wake, give way.
 *
 * The shape of every waiting call:
 *
 *   static int k_recv(lua_State *L, int status, lua_KContext ctx) {
 *     np_thing *th = lua_touserdata(L, 1);
 *     int woken = np_woken(L);                      // raises when cancelled
 *     int r = np_thing_recv(th->core, ...);         // check for completion before waiting
 *     if (r == 0 && woken == 0) return np_wait(L, &recv_wait, th, deadline, ctx, k_recv);
 *     ... push results, or np_fail(L, r or woken, "recv on %s", ...)
 *   }
 *   static int f_recv(lua_State *L) { check arguments; np_op_begin(L, "recv"); return k_recv(L,
 *   LUA_OK, ctx); }
 *
 * One ending for the straight and the resumed path. The object lies on the waiting task's stack
 * (index 1), which keeps it alive; nobody takes references. */
#ifndef NP_TASK_H
#define NP_TASK_H

#include <lua.h>

#include "core/loop.h"

typedef struct np_task np_task;
typedef struct np_runtime np_runtime;

/* A kind of wait: one static const per waiting operation. */
typedef struct np_waitkind {
  const char *what; /* "read", "sleep", "accept": for errors and reports */
  /* something outside the process can end it (no deadlock) */
  bool outside;
  void (*abort)(np_task *t, void *obj); /* make the object forget this waiter. Called at most once,
                                           when a deadline or cancellation ends the wait; afterwards
                                           nobody wakes t for it */
  int (*describe)(void *obj, char *buf, size_t size); /* what is waited on; NULL: nothing to say */
  /* neither deadline nor cancellation ends it: for waits that are sure to end */
  bool deaf;
} np_waitkind;

/* The runtime of a Lua state; the calling task, or NULL outside any. */
np_runtime *np_runtime_of(lua_State *L);
np_task *np_task_of(lua_State *L);
np_loop *np_runtime_loop(np_runtime *rt);
np_loop *np_loop_of(lua_State *L);

/* At the end of the runtime what is collected open is no leak: nobody is warned. */
bool np_runtime_freeing(lua_State *L);
/* The state was made by a runtime, which says np_young_end before it closes it: not yet. */
bool np_runtime_owns(lua_State *L);

/* Call at the beginning of an operation that may wait, after its arguments are checked: forgets an
 * old wake code. Raises if this coroutine cannot wait here (not a task, a foreign resume,
 * table.sort ...). */
np_task *np_op_begin(lua_State *L, const char *what);

/* Suspends the calling task until np_task_wake, the instant `deadline_ns` (NP_NEVER: none), a
 * deadline scope, or cancellation. Use as `return np_wait(...)`. k runs when the task is resumed;
 * it calls np_woken first. */
int np_wait(lua_State *L, const np_waitkind *kind, void *obj, uint64_t deadline_ns,
            lua_KContext ctx, lua_KFunction k);

/* Why k runs: 0 (straight call, or woken by its object), -ETIMEDOUT (deadline), or the code given
 * to np_task_wake_code. Raises neap.cancelled when the task was cancelled while it waited. The wake
 * decides: a task that its object has woken completes this call even if a deadline or a
 * cancellation comes before it runs; those count from its next wait. */
int np_woken(lua_State *L);

/* Puts a waiting task on the ready queue; its object must have forgotten it already (one waiter,
 * one wake). */
void np_task_wake(np_task *t);
void np_task_wake_code(np_task *t, int code);

/* A place in an object's queue of waiters. A task waits for one thing at a time, so it brings one
 * of its own; select brings one per case (bindings/select.h). */
typedef struct np_waiter {
  np_node node;             /* in the object's queue, else alone */
  np_task *task;            /* who waits; never changes */
  struct np_select *select; /* whose case this is; NULL: the task's own waiter */
  int value;                /* a put: where its value lies on the stack of np_task_thread(task) */
  int which;                /* of a select: the case, from 1 */
} np_waiter;
np_waiter *np_task_waiter(np_task *t);

/* The innermost coroutine of a waiting task, suspended in np_wait: the object may read its stack
 * and push results on it (at most 8: every C function has that room) before it wakes the task; k
 * finds them on top. */
lua_State *np_task_thread(np_task *t);

/* For a call that never had to wait: true once per slice when it should give way; then `return
 * np_give_way(L, ctx, k)`. */
bool np_slice_over(lua_State *L);
int np_give_way(lua_State *L, lua_KContext ctx, lua_KFunction k);

/* The usual end of a call that succeeded: its nresults are on top; gives way first if the slice is
 * over. */
int np_done(lua_State *L, int nresults);

/* For an abort function: why the wait ends, -ETIMEDOUT or -ECANCELED. */
int np_task_cause(const np_task *t);

/* nil, "closed", "ECANCELED": what waiters and callers of an object closed by our own side get. */
int np_fail_closed(lua_State *L, uint8_t *streak);

/* A failure that returns at once (closed or failed object, expired scope): gives way, counts on
 * *streak, and at 100 in a row raises instead. Use as `return np_fail_streak(...)`; success resets
 * *streak to 0. */
int np_fail_code(lua_State *L, int code, uint8_t *streak, const char *fmt, ...);

/* The same with a message of its own. */
int np_fail_why(lua_State *L, int code, uint8_t *streak, const char *message);

/* Adds a task running the function with nargs arguments on top of L's stack (they stay there); it
 * belongs to the nearest enclosing group of L's task. Pushes the task object. */
np_task *np_task_spawn(lua_State *L, int nargs);

/* The instant that an options table's `timeout` (seconds) at idx means, else now + default_s
 * (negative: none). Raises on a bad value. idx may be none or nil. */
uint64_t np_deadline_opt(lua_State *L, int idx, double default_s);

uint64_t np_seconds_ns(double s);
uint64_t np_deadline_after(np_loop *l, uint64_t ns); /* now + ns; NP_NEVER stays */

/* Seconds as scripts give them -> ns, rounded up; NP_NEVER for infinity; raises for NaN and
 * negatives. */
uint64_t np_check_seconds(lua_State *L, int idx);

#endif
