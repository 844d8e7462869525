/* The inside of tasks, groups and scopes, for task.c, group.c, scope.c, coroutine.c, inspect.c and runtime.c alone. */
#ifndef NP_TASK_IMPL_H
#define NP_TASK_IMPL_H

#include "bindings/lua_util.h"
#include "bindings/task.h"
#include "core/timer.h"

/* What bounds the waits of a task, innermost first: one list per task, each entry owned by the coroutine that
 * opened it.  Entries of a generator that yielded to its user are off the list until it is resumed. */
typedef enum np_scopekind {
  NP_SCOPE_CANCEL,   /* a task's own cancellation, at the bottom, or a group's */
  NP_SCOPE_DEADLINE, /* neap.deadline, neap.timeout */
  NP_SCOPE_SHIELD,   /* hides what is further out until at_ns */
} np_scopekind;

/* Stages of a cancellation; they only go forward. */
typedef enum np_stage { NP_CALM, NP_REQUESTED, NP_GRACE, NP_STRICT } np_stage;

typedef struct np_scope {
  uint8_t kind;    /* np_scopekind */
  uint8_t stage;   /* CANCEL: np_stage */
  uint8_t streak;  /* CANCEL: raises swallowed in the hard stage; DEADLINE: results at once in a row */
  bool hit;        /* DEADLINE: a wait ended because of it */
  uint64_t at_ns;  /* DEADLINE, SHIELD: the instant; CANCEL: the end of grace */
  lua_State *co;   /* the coroutine that opened it */
  np_node node;    /* in np_task.scopes, in a parked generator's list, or alone */
} np_scope;

typedef struct np_group {
  const np_type *type;
  np_scope scope;      /* CANCEL, in the owner's list while the body runs */
  np_task *owner;      /* the task whose body it is; NULL: the main group */
  np_node children;    /* np_task.sibling */
  np_node owned;       /* in owner->groups, from np_group_open to np_group_forget */
  size_t nchildren;
  bool failed;         /* uservalue 1 is the first error, 2 its traceback */
  bool cancelled;      /* children were told to end; new ones are refused */
  bool owner_waits;    /* for the children */
  int ended_by;        /* what interrupted that wait: NP_WOKEN_CANCEL, -ETIMEDOUT or 0 */
} np_group;

typedef enum np_taskstate { NP_READY, NP_RUNNING, NP_WAITING, NP_ENDED } np_taskstate;
typedef enum np_outcome { NP_RETURNED, NP_RAISED, NP_WAS_CANCELLED } np_outcome;

/* A userdata; lies on its own thread's stack at index 1. User values: 1 results or error, 2 traceback or name ... */
enum { NP_TASK_RESULT = 1, NP_TASK_TRACE, NP_TASK_NAME, NP_TASK_USERVALUES = 3 };
struct np_task {
  const np_type *type;
  np_runtime *rt;
  lua_State *T;            /* NULL once ended */
  np_waiter waiter;        /* its node is in the queue of the object waited for, or in the ready queue */
  np_node sibling;         /* in home->children */
  np_group *home;
  np_group *own;           /* made at the first spawn of a task that is a group of its own; else NULL */
  np_node scopes;          /* np_scope.node, innermost first; root is the last */
  np_scope root;
  np_node groups;          /* np_group.owned: those whose bodies or children it waits for */
  np_timer timer;
  uint64_t deadline_ns;    /* of the wait in hand, without scopes */
  const np_waitkind *kind; /* what it waits for; NULL: not waiting */
  void *obj;
  np_scope *by;            /* the scope that ended the last wait; NULL */
  lua_State **chain;       /* nested coroutines that are active, outermost first */
  uint16_t depth, chain_cap;
  uint16_t stuck;          /* of these, entered where their resumer cannot yield */
  int woken;
  int anchor;              /* index of T in the anchors table */
  int nresults;
  uint32_t id;
  uint8_t state, outcome;
  bool leaving;            /* called os.exit: closed from outside, no line of it runs again */
  bool suspending;         /* set by np_wait until the scheduler has control */
  bool is_group;           /* spawns inside belong to it */
  np_node joiners;         /* np_waiter.node of tasks in join() */
  void (*on_end)(lua_State *L, np_task *t); /* runs on T before the task ends, results at 2..top or the error on top */
};

struct np_runtime {
  lua_State *L;            /* the main state: lua_resume's `from`, and where the scheduler works */
  bool owns_L;
  np_loop *loop;
  np_node ready;           /* np_task.waiter.node */
  size_t nready;
  np_task *current;
  np_group *main;          /* registry[&rt->main] anchors it */
  size_t ntasks, nwaiting_outside;
  uint32_t next_id;
  int *pool;               /* anchors of threads to use again */
  int npool, pool_cap;
  int nanchors;
  int budget;              /* straight calls left in this slice */
  int closing;             /* coroutine.close calls in progress */
  bool exiting, reported;
  int status;
  double grace_s;
  void *host;              /* runtime.c's own */
};

extern const np_type np_task_type, np_group_type, np_scope_type;

/* Registry keys: the address of these. */
extern const char np_key_runtime, np_key_anchors, np_key_cancelled, np_key_stitch;

/* task.c */
np_task *np_task_new(lua_State *L, np_runtime *rt, np_group *home, int nargs);
void np_task_resume(np_runtime *rt, np_task *t);
void np_drain(np_runtime *rt);
void np_drain_rounds(np_runtime *rt);
void np_task_kill(np_runtime *rt, np_task *t);
void np_task_interrupt(np_task *t);  /* a scope or cancellation changed: end the wait in hand if that is due */
lua_State *np_task_top(const np_task *t);
np_group *np_nearest_group(lua_State *L, np_task *t);
int np_task_push_results(lua_State *L, np_task *t); /* true, ... or false, err[, reason] */
int np_push_task(lua_State *L, np_task *t);

/* group.c */
np_group *np_group_new(lua_State *L, np_task *owner);
void np_group_open(lua_State *L, np_group *g);   /* its userdata is on top, and is popped */
void np_group_forget(lua_State *L, np_group *g);
void np_group_orphans(lua_State *L, np_task *t); /* t ends: its groups' children move to its own group */
void np_group_add(np_group *g, np_task *t);
void np_group_child_ended(lua_State *L, np_group *g, np_task *t, bool deliver);
void np_group_cancel(np_group *g);
void np_cancel_scope(np_task *t, np_scope *s);
void np_group_fail(lua_State *L, np_group *g); /* pops error and traceback */
int np_raise_cancelled(lua_State *L);
int np_group_wait(lua_State *L, np_group *g, lua_KContext ctx, lua_KFunction k);
bool np_is_cancelled(lua_State *L, int idx);
int np_stitch_handler(lua_State *L); /* message handler: keeps the traceback beside the error */
void np_stitch_set(lua_State *L, int err_idx);    /* pops the traceback on top */
void np_push_stitch(lua_State *L, int err_idx);   /* "" or the kept traceback for this error */

/* scope.c */
void np_scope_open(lua_State *L, np_task *t, np_scope *s, np_scopekind kind, uint64_t at_ns);
static inline void np_scope_close(np_scope *s) { np_node_remove(&s->node); }
/* What the scopes say of a wait with this deadline of its own: 0 and the next instant to look again, -ETIMEDOUT or
 * NP_WOKEN_CANCEL and the scope that says so (NULL: the wait's own deadline). */
enum { NP_WOKEN_CANCEL = -6001 };
int np_scopes_verdict(np_task *t, uint64_t own_ns, uint64_t *next_ns, np_scope **by);
/* A cancellation was delivered (raised): its grace begins. */
void np_scope_delivered(np_task *t);
/* A generator leaves (yields to its user, ends) or comes back. */
void np_scopes_park(lua_State *L, np_task *t, lua_State *co, bool ended);
void np_scopes_unpark(lua_State *L, np_task *t, lua_State *co);

/* coroutine.c */
void np_coroutine_install(lua_State *L); /* the relay's functions into the coroutine table */
void np_coroutine_restore(lua_State *L);

/* inspect.c */
int np_inspect_deadlock(lua_State *L);

#endif
