/* The loop: clock, objects, scratch lease, deferred work, and one turn of waiting.
 *
 * What readiness comes from is behind l->poll; libuv runs beside it for children, signals, lookups
 * and files. */
#include "core/loop.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/loop_impl.h"
#include "core/fs.h"
#include "core/process.h"
#include "core/resolve.h"
#include "core/signal.h"
#include "core/tls.h"
#include "core/stream.h"

static const np_pollops *choose_poll(const char *name) {
#ifdef __linux__
  if (!name || strcmp(name, "epoll") == 0) return &np_poll_epoll;
#endif
  return !name || strcmp(name, "uv") == 0 ? &np_poll_uv : NULL;
}

/* The wake-up itself is the event: whoever woke us left word elsewhere, or is a thread of fs.c. */
static void on_wake(uv_async_t *a) {
  np_loop *l = np_container(a, np_loop, wake);
  np_fs_answers(l);
  np_loop_event_done(l);
}

static int open_uv(np_loop *l) {
  int r = uv_loop_init(&l->uv);
  if (r < 0) return r;
  r = uv_async_init(&l->uv, &l->wake, on_wake);
  if (r < 0) {
    uv_loop_close(&l->uv);
    return r;
  }
  l->touched = true;
  return 0;
}

static void close_uv(np_loop *l) {
  uv_close((uv_handle_t *)&l->wake, NULL);
  while (uv_run(&l->uv, UV_RUN_NOWAIT) != 0) continue;
  uv_loop_close(&l->uv);
}

int np_loop_new(np_loop **out, const char *poll) {
  const np_pollops *ops = choose_poll(poll);
  if (!ops) return -EINVAL;
  np_loop *l = calloc(1, sizeof *l);
  if (!l) return -ENOMEM;
  l->poll = ops;
  l->epfd = -1;
  np_node_init(&l->objects);
  np_node_init(&l->later);
  np_node_init(&l->soon);
  l->scratch = malloc(NP_SCRATCH_SIZE);
  int r = l->scratch ? open_uv(l) : -ENOMEM;
  if (r == 0) {
    r = l->poll->open(l);
    if (r < 0) close_uv(l);
  }
  if (r < 0) {
    free(l->scratch);
    free(l);
    return r;
  }
  *out = l;
  return 0;
}

#if NP_POOLED
enum { SPARES_MAX = 64 }; /* of each: 30 KiB */
#else
enum { SPARES_MAX = 0 };
#endif

void *np_spare_take(np_loop *l, int which, size_t size) {
  struct np_spares *s = &l->spares[which];
  void *p = s->first;
  if (!p) return calloc(1, size);
  memcpy(&s->first, p, sizeof s->first);
  s->count--;
  return memset(p, 0, size);
}

uint64_t np_loop_moved(const np_loop *l) { return l->moved; }
void np_loop_move(np_loop *l, size_t n) { l->moved += n; }

void np_spare_give(np_loop *l, int which, void *p) {
  struct np_spares *s = &l->spares[which];
  if (s->count >= SPARES_MAX) {
    free(p);
    return;
  }
  memcpy(p, &s->first, sizeof s->first);
  s->first = p;
  s->count++;
}

static void free_spares(struct np_spares *s) {
  while (s->first) {
    void *p = s->first;
    memcpy(&s->first, p, sizeof s->first);
    free(p);
  }
}

static void destroy(np_loop *l) {
  for (int i = 0; i < NP_SPARES; i++) free_spares(&l->spares[i]);
  np_resolve_shutdown(l);
  np_fs_shutdown(l);
  np_signal_shutdown(l);
  np_tls_shutdown(l);
  free(l->slot[NP_SLOT_POOL]); /* stream_out.c's spare chunk */
  l->poll->close(l);
  close_uv(l);
  free(l->heap);
  free(l->watch);
  free(l->scratch);
  free(l);
}

int np_loop_free(np_loop *l) {
  np_linger_shutdown(l);
  np_process_shutdown(l);
  np_loop_on_event(l, NULL, NULL);
  np_loop_on_trace(l, NULL, NULL);
  l->freed = true;
  int left = (int)l->nobjects;
  if (left == 0) destroy(l);
  return left;
}

bool np_loop_freed(const np_loop *l) { return l->freed; }

static uint64_t clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * NP_SEC + (uint64_t)t.tv_nsec;
}

uint64_t np_loop_now(np_loop *l) { return l->is_virtual ? l->virtual_ns : clock_ns(); }

void np_loop_virtual(np_loop *l, bool on) {
  if (on && !l->is_virtual) l->virtual_ns = clock_ns();
  l->is_virtual = on;
}

bool np_loop_is_virtual(np_loop *l) { return l->is_virtual; }

bool np_loop_advance(np_loop *l) {
  uint64_t at = np_timer_next(l);
  if (at == NP_NEVER) return false;
  if (at > l->virtual_ns) l->virtual_ns = at;
  return true;
}

/* The callbacks of one turn: what they add waits for the next. */
static void run_soon(np_loop *l) {
  np_node last;
  np_node_append(&l->soon, &last);
  while (l->soon.next != &last) {
    np_later *w = np_container(l->soon.next, np_later, node);
    np_node_remove(&w->node);
    w->run(w);
    np_loop_event_done(l);
  }
  np_node_remove(&last);
}

int np_loop_step(np_loop *l, int wait_ms) {
  if (np_node_linked(&l->soon)) {
    run_soon(l);
    wait_ms = 0;
  }
  /* what a timer woke may be ready still after its one drain */
  if (np_timers_run(l) || np_soon_any(l)) wait_ms = 0;
  int r = l->poll->wait(l, np_timers_wait_ms(l, wait_ms));
  np_timers_run(l);
  return r;
}

void np_loop_wake(np_loop *l) { uv_async_send(&l->wake); }

int np_loop_fd(np_loop *l) { return l->poll->fd(l); }

int np_loop_timeout_ms(np_loop *l) {
  if (np_node_linked(&l->soon) || l->touched) return 0;
  int uv_ms = uv_backend_timeout(&l->uv);
  int ms = np_timers_wait_ms(l, -1);
  return uv_ms >= 0 && (ms < 0 || uv_ms < ms) ? uv_ms : ms;
}

void np_loop_on_event(np_loop *l, void (*after)(void *), void *ctx) {
  l->after = after;
  l->after_ctx = ctx;
}

void np_loop_event_done(np_loop *l) {
  if (l->after) l->after(l->after_ctx);
  if (l->lease) np_scratch_drop(l, l->lease);
}

void np_loop_touch(np_loop *l) { l->touched = true; }
struct uv_loop_s *np_loop_uv(np_loop *l) {
  return &l->uv;
}
void **np_loop_slot(np_loop *l, int which) { return &l->slot[which]; }

void np_object_init(np_object *o, np_loop *l, const np_objtype *type) {
  o->loop = l;
  o->type = type;
  np_node_append(&l->objects, &o->node);
  l->nobjects++;
  np_trace(l, "new", o, 0);
}

void np_object_done(np_object *o) {
  np_loop *l = o->loop;
  np_node_remove(&o->node);
  if (--l->nobjects == 0 && np_unlikely(l->freed)) destroy(l);
}

np_node *np_loop_objects(np_loop *l) { return &l->objects; }

void np_loop_on_trace(np_loop *l, np_trace_fn *fn, void *ctx) {
  l->trace = fn;
  l->trace_ctx = ctx;
}

void np_trace(np_loop *l, const char *event, np_object *o, int code) {
  if (np_unlikely(l->trace)) l->trace(l->trace_ctx, event, o, code);
}

bool np_tracing(const np_loop *l) { return l->trace != NULL; }

bool np_loop_busy(np_loop *l) { return l->busy > 0; }
void np_loop_busy_add(np_loop *l, int delta) { l->busy += delta; }

char *np_scratch_take(np_loop *l, np_lease *holder) {
  if (l->lease && l->lease != holder) np_scratch_drop(l, l->lease);
  l->lease = holder;
  return l->scratch;
}

void np_scratch_drop(np_loop *l, np_lease *holder) {
  if (l->lease != holder) return;
  l->lease = NULL;
  if (holder->evict) holder->evict(holder);
}

void np_later_init(np_later *w, void (*run)(np_later *)) {
  np_node_init(&w->node);
  w->run = run;
}

void np_later_add(np_loop *l, np_later *w) {
  if (!np_node_linked(&w->node)) np_node_append(&l->later, &w->node);
}

void np_later_remove(np_later *w) { np_node_remove(&w->node); }

void np_loop_run_later(np_loop *l) {
  while (np_node_linked(&l->later)) {
    np_later *w = np_container(l->later.next, np_later, node);
    np_node_remove(&w->node);
    w->run(w);
  }
}

void np_soon_add(np_loop *l, np_later *w) {
  if (!np_node_linked(&w->node)) np_node_append(&l->soon, &w->node);
}

bool np_soon_any(np_loop *l) { return np_node_linked(&l->soon); }
