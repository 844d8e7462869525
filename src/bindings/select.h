/* What select can wait for: an object with ready-or-not operations and queues of np_waiter nodes
 * (bindings/task.h).
 *
 * The one idea: single waits and select use the same queues and the same nodes, so an object wakes
 * "the first waiter" without knowing whether a plain call or a select stands behind it.  In the
 * step that wakes a waiter it leaves every queue, so exactly one case of a select happens and no
 * wake-up is lost on one that has gone. */
#ifndef NP_SELECT_H
#define NP_SELECT_H

#include "bindings/lua_util.h"
#include "bindings/task.h"

enum { NP_NOT_READY = -1 };

/* An operation of a selectable object, as scripts name it: {ch, "put", v}. */
typedef struct np_selop {
  const char *name;
  bool takes_value; /* the case has a third field, which may not be nil */
} np_selop;

typedef struct np_selectable {
  const np_selop *ops; /* ends with a NULL name; the first row is what the bare object means */
  bool outside;        /* something outside the process can make it ready (no deadlock) */

  /* If the operation can complete at once: completes it, pushes its results on L and returns their
   * number; else NP_NOT_READY, nothing changed.  The object lies at stack index `at`, the case's
   * value at `at + 1`.  May raise before anything has changed, never afterwards. */
  int (*poll)(lua_State *L, void *obj, int op, int at);

  /* Queues w, for an operation that has just been polled and is not ready; w->value is where the
   * case's value lies. */
  void (*add)(void *obj, int op, np_waiter *w);

  /* Unlinks w from obj's queue.  NULL: np_node_remove(&w->node) is all. */
  void (*remove)(void *obj, np_waiter *w);
} np_selectable;

/* Makes the objects of a type selectable; after np_type_init.  `s` lives as long as the state. */
void np_selectable_set(lua_State *L, const np_type *type, const np_selectable *s);

/* For objects, on the first waiter of a queue.  Each unlinks w, and with it all other cases of its
 * select, and wakes the task.
 *   give: the operation is done, its results were pushed on np_task_thread(w->task); a single wait
 *         sees code 0.
 *   fail: a single wait sees `code` (negative); a select polls its cases again, in order.
 *   poke: something may be ready: a single wait sees code 0 with nothing pushed, a select polls
 *         again. */
void np_waiter_give(np_waiter *w);
void np_waiter_fail(np_waiter *w, int code);
void np_waiter_poke(np_waiter *w);

/* The first waiter of a queue, NULL: none. */
static inline np_waiter *np_waiter_first(const np_node *queue) {
  return np_node_linked(queue) ? np_container(queue->next, np_waiter, node) : NULL;
}

/* The calling task's own waiter, at the tail of `queue`.  Follow with np_wait, whose abort unlinks
 * it: np_waiter_forget serves where that is all. */
np_waiter *np_waiter_join(np_task *t, np_node *queue);
void np_waiter_forget(np_task *t, void *obj);

#endif
