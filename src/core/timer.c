/* The timer heap: 4-ary, keys beside the pointers, stale keys tolerated (see timer.h). */
#include "core/timer.h"

#include <stdlib.h>

#include "core/loop_impl.h"

static bool before(np_heapitem a, np_heapitem b) {
  if (np_likely(a.key != b.key)) return a.key < b.key;
  return (int32_t)(a.timer->order - b.timer->order) < 0;
}

static void place(np_loop *l, uint32_t i, np_heapitem it) {
  l->heap[i] = it;
  it.timer->pos = i + 1;
}

static void sift_up(np_loop *l, uint32_t i, np_heapitem it) {
  while (i > 0) {
    uint32_t parent = (i - 1) / 4;
    if (!before(it, l->heap[parent])) break;
    place(l, i, l->heap[parent]);
    i = parent;
  }
  place(l, i, it);
}

static void sift_down(np_loop *l, uint32_t i, np_heapitem it) {
  for (;;) {
    uint32_t first = 4 * i + 1, least = first;
    if (first >= l->heap_len) break;
    uint32_t end = first + 4 < l->heap_len ? first + 4 : l->heap_len;
    for (uint32_t c = first + 1; c < end; c++)
      if (before(l->heap[c], l->heap[least])) least = c;
    if (!before(l->heap[least], it)) break;
    place(l, i, l->heap[least]);
    i = least;
  }
  place(l, i, it);
}

static int grow(np_loop *l) {
  uint32_t cap = l->heap_cap ? l->heap_cap * 2 : 64;
  np_heapitem *heap = realloc(l->heap, cap * sizeof *heap);
  if (!heap) return -ENOMEM;
  l->heap = heap;
  l->heap_cap = cap;
  return 0;
}

int np_timer_set(np_loop *l, np_timer *t, uint64_t at_ns) {
  t->order = l->timer_order++;
  if (t->pos) {
    t->at_ns = at_ns;
    uint32_t i = t->pos - 1;
    if (at_ns < l->heap[i].key) sift_up(l, i, (np_heapitem){at_ns, t});
    return 0;
  }
  if (at_ns == NP_NEVER) {
    t->at_ns = at_ns;
    return 0;
  }
  if (l->heap_len == l->heap_cap && grow(l) < 0) return -ENOMEM;
  t->at_ns = at_ns;
  sift_up(l, l->heap_len++, (np_heapitem){at_ns, t});
  return 0;
}

void np_timer_remove(np_loop *l, np_timer *t) {
  t->at_ns = NP_NEVER;
  if (!t->pos) return;
  uint32_t i = t->pos - 1;
  t->pos = 0;
  np_heapitem last = l->heap[--l->heap_len];
  if (i == l->heap_len) return;
  if (i > 0 && before(last, l->heap[(i - 1) / 4])) sift_up(l, i, last);
  else sift_down(l, i, last);
}

/* Brings an armed timer with a true key to the top, or empties the heap. */
static np_timer *settle(np_loop *l) {
  while (l->heap_len > 0) {
    np_heapitem top = l->heap[0];
    if (top.timer->at_ns == top.key) return top.timer;
    if (top.timer->at_ns == NP_NEVER) np_timer_remove(l, top.timer);
    else sift_down(l, 0, (np_heapitem){top.timer->at_ns, top.timer});
  }
  return NULL;
}

uint64_t np_timer_next(np_loop *l) {
  np_timer *t = settle(l);
  return t ? t->at_ns : NP_NEVER;
}

/* Those set while it runs wait for the next turn: under the virtual clock, a task that sleeps for 0
 * would else keep the loop from looking outside. */
bool np_timers_run(np_loop *l) {
  bool fired = false;
  uint32_t news = l->timer_order;
  if (l->heap_len == 0) return fired;
  uint64_t now = np_loop_now(l);
  if (l->heap[0].key > now) return fired;
  for (;;) {
    np_timer *t = settle(l);
    if (!t || t->at_ns > now || (int32_t)(t->order - news) >= 0) return fired;
    fired = true;
    np_timer_remove(l, t);
    t->fire(t);
    np_loop_event_done(l);
  }
}

/* The top key is never later than the earliest instant, so a stale one costs one early turn per
 * deadline; settling here instead cost a sift for each read under a deadline (200 of 4800
 * instructions an echo). */
int np_timers_wait_ms(np_loop *l, int wait_ms) {
  if (wait_ms == 0 || l->heap_len == 0) return wait_ms;
  uint64_t at = l->heap[0].key;
  if (l->is_virtual) return at <= l->virtual_ns ? 0 : wait_ms;
  uint64_t now = np_loop_now(l);
  uint64_t ms = at <= now ? 0 : (at - now + NP_MS - 1) / NP_MS;
  if (wait_ms >= 0 && (uint64_t)wait_ms < ms) return wait_ms;
  return ms > 1 << 30 ? 1 << 30 : (int)ms;
}
