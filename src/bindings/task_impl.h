/* The inside of tasks, for the scheduler's own files alone: wait.c (waiting, waking), schedule.c
 * (running), threads.c, task.c (their Lua face), group.c, scope.c, deadline.c, coroutine.c,
 * failure.c, require.c, watchdog.c, inspect.c, trace.c, runtime.c, ending.c. */
#ifndef NP_TASK_IMPL_H
#define NP_TASK_IMPL_H

#include "bindings/lua_util.h"
#include "bindings/pace.h"
#include "bindings/task.h"
#include "core/timer.h"

/* What bounds the waits of a task, innermost first: one list per task, each entry owned by the
 * coroutine that opened it.  Entries of a generator that yielded to its user are off the list until
 * it is resumed. */
typedef enum np_scopekind {
  NP_SCOPE_CANCEL,   /* a task's own cancellation, at the bottom, or a group's */
  NP_SCOPE_DEADLINE, /* neap.deadline, neap.timeout */
  NP_SCOPE_SHIELD,   /* hides what is further out until at_ns */
} np_scopekind;

/* Stages of a cancellation; they only go forward. */
typedef enum np_stage { NP_CALM, NP_REQUESTED, NP_GRACE, NP_STRICT } np_stage;

typedef struct np_scope {
  uint8_t kind;  /* np_scopekind */
  uint8_t stage; /* CANCEL: np_stage */
  uint8_t
    streak; /* CANCEL: raises swallowed in the hard stage; DEADLINE: results at once in a row */
  bool hit; /* DEADLINE: a wait ended because of it */
  int line; /* DEADLINE: where it was opened */
  uint64_t at_ns; /* DEADLINE, SHIELD: the instant; CANCEL: the end of grace */
  lua_State *co;  /* the coroutine that opened it */
  np_node node;   /* in a task's list, in a parked generator's, or alone */
} np_scope;

typedef struct np_group {
  const np_type *type;
  np_scope scope; /* CANCEL, in the owner's list while the body runs */
  np_task *owner; /* the task whose body it is; NULL: the main group, or its owner has ended */
  struct np_group *next, **link; /* in owner->groups */
  np_node children;              /* np_task.sibling */
  size_t nchildren;
  bool failed;         /* uservalue 1 is the first error, 2 its traceback */
  bool body_failed;    /* that error is the body's: its traceback has all of the owner's stack */
  bool body_cancelled; /* its body was ended by the group's cancellation */
  bool cancelled;      /* its tasks were told to end; new ones are told at once */
  bool gone; /* forgotten: its tasks have ended or were given away, there can be no new ones */
  bool owner_waits;     /* for the children */
  bool watched;         /* its function is told of each connection's end, not of failures alone */
  uint32_t connections; /* being served */
  uint64_t total;       /* ... and those before them */
  int ended_by;         /* what interrupted that wait: NP_WOKEN_CANCEL, -ETIMEDOUT or 0 */
} np_group;

/* User values of a group: its first error, the error's traceback, and what is called at the end of
 * a connection. */
enum { NP_GROUP_ERROR = 1, NP_GROUP_TRACE, NP_GROUP_CONNECTION_END, NP_GROUP_USERVALUES = 3 };

typedef enum np_taskstate { NP_READY, NP_RUNNING, NP_WAITING, NP_ENDED } np_taskstate;
typedef enum np_outcome { NP_RETURNED, NP_RAISED, NP_WAS_CANCELLED } np_outcome;

/* A userdata, kept alive by its thread, at the bottom of whose stack it lies until it has ended.
 * What goes with one: the results or the error, a connection's before (its user value); the error's
 * traceback or the reason of the cancellation; the name.  Few tasks have the last two: those lie in
 * tables with weak keys (32 bytes less per task). */
typedef enum np_taskvalue { NP_TASK_RESULT, NP_TASK_TRACE, NP_TASK_NAME } np_taskvalue;
struct np_task {
  const np_type *type;
  np_runtime *rt;
  lua_State *T;     /* NULL once ended */
  np_waiter waiter; /* its node is in the queue of the object waited for, or in the ready queue */
  np_node sibling;  /* in home->children */
  np_group *home;
  np_group *groups; /* those it has opened, np_group.next */
  np_node joiners;  /* np_waiter.node of tasks in join() */
  np_scope root; /* the outermost scope; its node is the list's head: innermost first, root last */
  np_timer timer;
  uint64_t deadline_ns;    /* of the wait in hand, without scopes */
  const np_waitkind *kind; /* what it waits for; NULL: not waiting */
  union {
    void *obj;    /* while it waits */
    np_scope *by; /* else: the scope that ended the last wait; NULL */
  };
  lua_State **chain; /* nested coroutines that are active, outermost first */
  uint16_t depth, chain_cap;
  uint16_t stuck;         /* of these, entered where their resumer cannot yield */
  uint8_t state, outcome; /* np_taskstate, np_outcome */
  union {
    int woken;    /* until it has ended */
    int nresults; /* then */
  };
  int place; /* its thread's, see np_thread */
  uint32_t id;
  /* Bits: 16 bytes less per task, with the memory's classes. */
  bool suspending : 1; /* set by np_wait until the scheduler has control */
  bool checkpoint : 1; /* gave way after a call that did not wait: the next call looks for
                          cancellation */
  bool seen : 1;       /* its userdata was given to a script: it is this task for ever */
  bool doomed : 1;     /* close it from outside when it next suspends */
  bool leaving : 1;    /* ... because it called os.exit */
  bool serves : 1;     /* a connection: its end is told, see connection.c */
  bool counted : 1;    /* among the connections of its home, the group of its server */
};

/* A Lua thread that tasks run on, and its place in the table of all threads, which keeps it
 * alive. */
typedef struct np_thread {
  lua_State *T; /* NULL: the place is empty */
  int place;
  np_task *task; /* its last one, alone on its stack: the next served connection's */
} np_thread;

/* What a signal handler asks of the code that runs. */
typedef enum np_interruption {
  NP_NOT_INTERRUPTED,
  NP_INTERRUPT_CANCEL, /* the main group is cancelled, here and now */
  NP_INTERRUPT_ERROR,  /* an error, for a prompt */
} np_interruption;

/* The watchdog's memory; its signal handler runs on the loop's thread. */
typedef struct np_watch {
  int signo; /* the host's; 0: it has not opted in */
  bool on;
  volatile bool idle; /* the timer is disarmed until a task runs */
  void *timer;        /* timer_t */
  uint64_t threshold_ns;
  uint32_t seen, reported; /* slices */
  uint64_t since_ns;       /* the first tick that saw this slice */
  lua_State *volatile L;   /* where the hook is set; NULL: nowhere */
  lua_Hook old;            /* what it replaced */
  int old_mask, old_count;
} np_watch;

struct np_runtime {
  lua_State *L;           /* the main state: lua_resume's `from`, and where the scheduler works */
  struct np_state *state; /* made by us; NULL: L is the host's */
  np_loop *loop;
  np_node ready;             /* np_task.waiter.node */
  np_node sated_ready;       /* the same of those whose slice was used up: after the next poll */
  size_t nready;             /* of both */
  np_task *volatile current; /* as hot and interrupt, read by signal handlers */
  lua_State *volatile hot;   /* the coroutine of `current` that runs */
  np_group *main;            /* registry[&rt->main] anchors it */
  size_t ntasks, nwaiting_outside;
  np_node loading; /* the modules that are being loaded, require.c */
  size_t nparked;  /* generators that hold scopes while they are suspended */
  uint32_t next_id;
  uint32_t slice;  /* counts the resumes */
  np_thread *pool; /* to use again: first places without a thread, then those with one */
  int npool, nempty;
  int pool_cap, nplaces;
  int budget;         /* straight calls left in this slice */
  uint64_t moved;     /* np_loop_moved when it began */
  bool sated;         /* it has used up one of these */
  int closing;        /* coroutine.close calls in progress */
  bool quiet;         /* whoever runs it looks at main->failed itself */
  bool exiting;       /* os.exit was called */
  bool exit_closes;   /* ... with `close` */
  bool freeing;       /* the program's end: what is still open is no leak */
  bool ended;         /* nothing is left; end_by_ns is set */
  uint64_t end_by_ns; /* until when unsent bytes are waited for */
  int status;
  uint64_t stood_ms; /* since when the virtual clock stands, in real ms; for this slice */
  uint32_t stood_slice;
  bool stood_told;
  double grace_s;
  np_watch watch;
  np_pace pace;                       /* of a state of our own */
  volatile np_interruption interrupt; /* not raised yet */
};

extern const np_type np_task_type, np_group_type, np_scope_type;

/* Registry keys: the address of these. */
extern const char np_key_runtime, np_key_cancelled;

enum {
  NP_STREAK_MAX = 100, /* results in a row that came at once and were ignored; raises swallowed */
  NP_SLICE_BYTES = 512 << 10 /* moved before a task gives way: 0.1 ms, or 0.3 ms with TLS */
};

/* wait.c */
void np_task_enqueue(np_task *t);
void np_task_interrupt(
  np_task *t); /* a scope or cancellation changed: end the wait in hand if that is due */
int np_task_refuse(lua_State *L, np_task *t, int code, lua_KContext ctx, lua_KFunction k);
bool np_can_wait(lua_State *L, np_task *t);
np_runtime *np_runtime_find(lua_State *L); /* NULL: none */

/* threads.c: an idle or a new thread, with an empty stack; and back, for the next task, the
 * stack empty but for th.task. Past a limit it is let go. */
np_thread np_thread_get(lua_State *L, np_runtime *rt);
void np_thread_recycle(np_runtime *rt, np_thread th);
void np_threads_init(lua_State *L);
void np_scheduler_forget(lua_State *L);
void np_scheduler_forget_tasks(np_runtime *rt); /* of idle threads: before the state is closed */

/* schedule.c */
np_task *np_task_new(lua_State *L, np_runtime *rt, np_group *home, int nargs);
/* The same for a task that no script sees: function and argument are at f and arg, and the argument
 * is kept as its NP_TASK_RESULT.  Its userdata was another such task's, of which reserve makes
 * sure;
 * after it, nothing is allocated.  A new userdata for each costs 490 instructions more. */
void np_task_reserve(lua_State *L, np_runtime *rt);
np_task *np_task_reserved(lua_State *L, np_runtime *rt, np_group *home, int f, int arg);
int np_task_finish(lua_State *L,
                   np_task *t); /* on its thread: keeps the outcome, tells who waits for it */
void np_task_resume(np_runtime *rt, np_task *t);
void np_drain(np_runtime *rt);
void np_drain_rounds(np_runtime *rt);
/* Ends a task that does not run: its pending <close> variables are closed, innermost coroutine
 * first; warns unless why is NULL. */
void np_task_kill(np_runtime *rt, np_task *t, const char *why);
lua_State *np_task_top(const np_task *t);
/* One that has not ended: found at the bottom of its thread's stack. Never raises; for reports and
 * rare paths. */
void np_push_task(lua_State *L, np_task *t);
/* Pushes a value of the task at index ud; its type.  Pops and sets one, which may raise (no memory)
 * if it is no RESULT and not nil. */
int np_task_get(lua_State *L, int ud, np_taskvalue which);
void np_task_set(lua_State *L, int ud, np_taskvalue which);
void np_scheduler_init(lua_State *L);

/* task.c */
int np_task_push_results(lua_State *L, np_task *t); /* true, ... or false, err[, reason] */

/* group.c */
np_group *np_group_new(lua_State *L, np_task *owner);
void np_group_add(np_group *g, np_task *t);
void np_group_child_ended(lua_State *L, np_group *g, np_task *t, int ud, bool deliver);
void np_group_cancel(np_group *g);
void np_group_adopt(np_group *g, np_task *owner);
bool np_group_contains(const np_group *g, const np_task *t); /* or a group inside it */
/* The body will not end (its coroutine or task was closed): cancels the tasks and gives them to the
 * owner's home. */
void np_group_abandon(lua_State *L, np_group *g);
void np_cancel_scope(np_task *t, np_scope *s);
void np_group_fail(lua_State *L, np_group *g); /* pops error and traceback */
np_group *np_nearest_group(np_task *t);
int np_group_call(lua_State *L);                                                 /* neap.group */
int np_group_wait(lua_State *L, np_group *g, lua_KContext ctx, lua_KFunction k); /* for its tasks */
void np_group_interrupted(np_task *t,
                          np_group *g); /* that wait was ended by t->woken: the rest is cancelled */
void np_group_forget(lua_State *L, np_group *g); /* its tasks have ended */

/* connection.c */
extern const luaL_Reg np_connection_methods[]; /* of a group */
void np_push_serve(lua_State *L);
np_group *np_own_group(lua_State *L,
                       np_task *t); /* of a connection's task; made at its first spawn */
/* The body of a connection's task has ended (task, handler, then results or the error): tells, and
 * ends with np_task_finish. */
int np_connection_end(lua_State *L, np_task *t);
/* A task that cannot tell its end itself (closed from outside, no memory): its server hears of it
 * on the main state, with the error at err (0: none). Never raises. True: it is a connection's, and
 * the error is delivered. The task's userdata is at index ud. */
bool np_connection_lost(lua_State *L, np_task *t, int ud, int err);
/* Its server's group ends before it. */
void np_connection_orphan(np_task *t);

/* failure.c: the error value neap.cancelled, and the traceback kept beside an error while it
 * travels */
void np_push_cancelled(lua_State *L);
int np_raise_cancelled(lua_State *L);
bool np_is_cancelled(lua_State *L, int idx);
int np_stitch_handler(lua_State *L); /* message handler: keeps the traceback beside the error */
/* Pops the traceback on top. `complete`: it has all of this coroutine's stack. */
void np_stitch_set(lua_State *L, int err_idx, bool complete);
void np_stitch_push(lua_State *L, int err_idx); /* the kept traceback of this error, or "" */
void np_stitch_coroutine(lua_State *L, lua_State *co,
                         int err_idx); /* pushes the one of a coroutine that failed */

/* scope.c */
void np_scope_open(lua_State *L, np_task *t, np_scope *s, np_scopekind kind, uint64_t at_ns);
static inline np_scope *np_scope_innermost(const np_task *t) {
  return np_container(t->root.node.next, np_scope, node);
}
static inline np_scope *np_scope_outer(const np_task *t, const np_scope *s) { /* NULL after root */
  return s == &t->root ? NULL : np_container(s->node.next, np_scope, node);
}
static inline void np_scope_close(np_scope *s) { np_node_remove(&s->node); }
/* What the scopes say of a wait with this deadline of its own: 0 and the next instant to look
 * again, -ETIMEDOUT or NP_WOKEN_CANCEL and the scope that says so (NULL: the wait's own
 * deadline). */
enum { NP_WOKEN_CANCEL = -6001 };
int np_scopes_verdict(np_task *t, uint64_t own_ns, uint64_t *next_ns, np_scope **by);
/* A cancellation was delivered (raised): its grace begins. */
void np_scope_delivered(np_task *t);
/* A generator leaves (yields to its user, ends), comes back, or was closed. */
void np_scopes_park(lua_State *L, np_task *t, lua_State *co, bool ended);
bool np_scopes_foreign(lua_State *L, np_task *t, lua_State *co); /* t must not resume it */
void np_scopes_unpark(lua_State *L, np_task *t, lua_State *co);
void np_scopes_closed(lua_State *L, lua_State *co);
void np_scopes_orphan(lua_State *L); /* generators outlive the runtime in a borrowed state */

/* deadline.c */
int np_timeout_call(lua_State *L); /* neap.timeout */

/* coroutine.c */
void np_coroutine_install(lua_State *L); /* the relay's functions into the coroutine table */
void np_coroutine_restore(lua_State *L);
int np_wrap_call(lua_State *L); /* what coroutine.wrap makes */

/* require.c */
void np_require_install(lua_State *L);
void np_require_restore(lua_State *L);

/* watchdog.c */
void np_watchdog_rearm(np_runtime *rt);
void np_watchdog_unhook(np_runtime *rt, lua_State *L);
/* L runs now: the hook, if one is wanted, belongs there. */
void np_watchdog_follow(np_runtime *rt, lua_State *L);
void np_watchdog_off(np_runtime *rt);

/* ending.c */
void np_exit_install(lua_State *L);
void np_exit_restore(lua_State *L);
void np_report_failure(np_runtime *rt);
bool np_next_exit_function(np_runtime *rt); /* false: there is none */
bool np_unsent(np_runtime *rt);             /* bytes are still on their way out */

/* inspect.c */
int np_inspect_deadlock(lua_State *L);
int np_inspect_standing(
  lua_State *L); /* who waits for something outside, under the virtual clock */
void np_task_where(np_task *t, char *buf,
                   size_t size);           /* "file:line" of its innermost Lua frame, or "" */
np_task *np_first_waiting(np_runtime *rt); /* outside group waits; NULL: none */

#endif
