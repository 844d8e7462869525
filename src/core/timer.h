/* Timers: one 4-ary heap per loop, nodes embedded in their owners, 1 ms granularity, never early,
 * first set first among equals.
 *
 * The one idea: a node already in the heap is not moved when its instant moves later or is cleared;
 * the stale key comes up once, and the node is put back at its true place or dropped.  So an idle
 * deadline that is pushed forward by every message costs a store. */
#ifndef NP_TIMER_H
#define NP_TIMER_H

#include "core/loop.h"

typedef struct np_timer {
  uint64_t at_ns;                  /* when to fire; NP_NEVER: not armed */
  void (*fire)(struct np_timer *); /* called from the loop; the timer is disarmed before the call */
  uint32_t pos;                    /* index in the heap + 1; 0: not in it */
  uint32_t order;                  /* among timers of one instant: when it was set, modulo 2^32 */
} np_timer;

static inline void np_timer_init(np_timer *t, void (*fire)(np_timer *)) {
  t->at_ns = NP_NEVER;
  t->fire = fire;
  t->pos = 0;
}

/* Arms t for the absolute instant at_ns. 0, or -ENOMEM (the heap could not grow; t is not
 * armed). */
int np_timer_set(np_loop *l, np_timer *t, uint64_t at_ns);

/* Disarms; the node may stay in the heap (its memory must live until np_timer_remove). */
static inline void np_timer_clear(np_timer *t) { t->at_ns = NP_NEVER; }

/* Disarms and takes the node out of the heap: before its memory goes. */
void np_timer_remove(np_loop *l, np_timer *t);

/* The earliest armed instant, NP_NEVER if none. */
uint64_t np_timer_next(np_loop *l);

#endif
