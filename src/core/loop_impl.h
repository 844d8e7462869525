/* The loop's inside, for loop.c, timer.c and poll*.c alone. */
#ifndef NP_LOOP_IMPL_H
#define NP_LOOP_IMPL_H

#include <uv.h>

#include "core/loop.h"
#include "core/poll.h"
#include "core/timer.h"

/* What a watcher implementation provides; chosen once per loop. */
typedef struct np_pollops {
  const char *name;
  int (*open)(np_loop *l);
  void (*close)(np_loop *l);
  int (*add)(np_loop *l, np_poll *p);
  int (*want)(np_loop *l, np_poll *p);
  void (*remove)(np_loop *l, np_poll *p, bool closing);
  /* Waits at most wait_ms for descriptors and libuv and dispatches; -1: no limit. */
  int (*wait)(np_loop *l, int wait_ms);
  int (*fd)(np_loop *l); /* for embedding: readable when wait would dispatch */
} np_pollops;

extern const np_pollops np_poll_uv;
#ifdef __linux__
extern const np_pollops np_poll_epoll;
#endif

typedef struct np_heapitem {
  uint64_t key;
  np_timer *timer;
} np_heapitem;

struct np_loop {
  uv_loop_t uv;
  uv_async_t wake; /* np_loop_wake */
  bool touched;    /* libuv has new handles or requests: run it before blocking */
  const np_pollops *poll;

  /* epoll: the outer set; watch[fd] is the watcher registered under a number. */
  int epfd;
  np_poll **watch;
  int nwatch;
  uint32_t gen;

  /* uv: one timer carries the earliest of ours. */
  uv_timer_t uv_timer;

  np_heapitem *heap; /* 4-ary; every timer's pos is its index + 1 */
  uint32_t heap_len, heap_cap;
  uint32_t timer_order; /* the next np_timer.order */

  uint64_t virtual_ns; /* the virtual clock's now */
  bool is_virtual;

  void (*after)(void *ctx);
  void *after_ctx;
  np_trace_fn *trace;
  void *trace_ctx;

  np_node objects; /* np_object.node */
  size_t nobjects;
  np_node later;  /* np_later.node: run at the end of the slice */
  np_node soon;   /* np_later.node: run from the next turn */
  long busy;      /* np_loop_busy_add */
  uint64_t moved; /* np_loop_move */
  bool freed;     /* np_loop_free was called: goes with its last object */
  void *slot[NP_SLOTS];
  struct np_spares {
    void *first; /* each begins with the next's address */
    int count;
  } spares[NP_SPARES];

  np_lease *lease; /* whose bytes are in scratch */
  char *scratch;
};

/* Fires the timers that are due; the heap's order, then insertion. True: some fired. */
bool np_timers_run(np_loop *l);
/* wait_ms capped by the earliest timer, rounded up */
int np_timers_wait_ms(np_loop *l, int wait_ms);

#endif
