/* The loop: waits for descriptors, timers and libuv, and hands each event to the object it
 * concerns.
 *
 * After each event the loop calls the one `after` hook (the scheduler drains its ready queue
 * there), then goes on to the next event. It never calls an object from inside a call of that
 * object. */
#ifndef NP_LOOP_H
#define NP_LOOP_H

#include "core/base.h"

typedef struct np_loop np_loop;

#define NP_NEVER UINT64_MAX
#define NP_MS UINT64_C(1000000)
#define NP_SEC UINT64_C(1000000000)

/* Head of every core object: one node on its loop's list, and what it is. Tasks(), leak reports,
 * the inspector and --trace come from this list and the trace hook. */
typedef struct np_object {
  np_node node;
  struct np_loop *loop;
  const struct np_objtype *type;
} np_object;

typedef struct np_objtype {
  const char *name; /* "stream", "listener" ... */
  /* one line, as snprintf; may be NULL */
  int (*describe)(np_object *o, char *buf, size_t size);
} np_objtype;

/* 0 and *out, or a negative code. `poll` names the watcher: NULL (the platform's best), "epoll",
 * "uv". */
int np_loop_new(np_loop **out, const char *poll);

/* Aborts lingerers, ends children nobody holds.  Objects that are open still (in a borrowed Lua
 * state a script may hold some longer) keep the loop's memory: no event comes any more, they can be
 * closed, which never lingers then, and the last one takes the loop along.  Returns how many. */
int np_loop_free(np_loop *l);
bool np_loop_freed(const np_loop *l); /* so what is closed must not wait for events */

/* The monotonic clock in ns, read now; the virtual clock when that is on. */
uint64_t np_loop_now(np_loop *l);

/* Waits at most `wait_ms` (-1: until something happens) and dispatches what there is. 0 or an
 * error. */
int np_loop_step(np_loop *l, int wait_ms);

/* Ends a wait of np_loop_step from another thread or a signal handler: the one thread-safe call. */
void np_loop_wake(np_loop *l);

/* For embedding: a descriptor that polls readable when np_loop_step has work, and how many ms until
 * it has some even if the descriptor stays silent (-1: never). */
int np_loop_fd(np_loop *l);
int np_loop_timeout_ms(np_loop *l);

/* Called after each event; set once by the scheduler. */
void np_loop_on_event(np_loop *l, void (*after)(void *ctx), void *ctx);

/* Ends the event in hand: the after hook, then the scratch lease. Core files that libuv calls back
 * use it. */
void np_loop_event_done(np_loop *l);

/* Says that a libuv handle or request was started or closed, so that the next wait lets libuv see
 * it. */
void np_loop_touch(np_loop *l);
struct uv_loop_s *np_loop_uv(np_loop *l);

/* Objects. np_object_init links o; np_object_done unlinks it, and has to be the last that it does
 * with the loop. */
void np_object_init(np_object *o, np_loop *l, const np_objtype *type);
void np_object_done(np_object *o);
/* the list's head; walk with ->next, container np_object.node */
np_node *np_loop_objects(np_loop *l);

/* The one trace hook: accept, connect, listen, timeout, close ...; NULL turns it off. `code` is 0
 * or an error. "new" comes from np_object_init, when o cannot be described yet; "timeout" comes
 * without an object. */
typedef void np_trace_fn(void *ctx, const char *event, np_object *o, int code);
void np_loop_on_trace(np_loop *l, np_trace_fn *fn, void *ctx);
void np_trace(np_loop *l, const char *event, np_object *o, int code);
bool np_tracing(const np_loop *l);

/* The virtual clock: time stands still until np_loop_advance jumps to the earliest timer (false:
 * none). */
void np_loop_virtual(np_loop *l, bool on);
bool np_loop_is_virtual(np_loop *l);
bool np_loop_advance(np_loop *l);

/* True while something outside the process can still cause an event that nobody waits for by task:
 * lingerers, running lookups. */
bool np_loop_busy(np_loop *l);
void np_loop_busy_add(np_loop *l, int delta);

/* The scratch buffer that reads land in. `holder` is told (evict) before the bytes are overwritten
 * and at the end of the event; at most one holder at a time. */
#define NP_SCRATCH_SIZE (256 << 10)
typedef struct np_lease {
  void (*evict)(struct np_lease *holder);
} np_lease;
char *np_scratch_take(np_loop *l, np_lease *holder); /* evicts the previous holder */
void np_scratch_drop(np_loop *l, np_lease *holder);  /* no-op if another holds it */

/* Work to do when the running task's slice ends and before the poll: a flush of queued writes. */
typedef struct np_later {
  np_node node;
  void (*run)(struct np_later *);
} np_later;
void np_later_init(np_later *w, void (*run)(np_later *));
void np_later_add(np_loop *l, np_later *w); /* idempotent while it waits */
void np_later_remove(np_later *w);
void np_loop_run_later(np_loop *l); /* the scheduler calls it after each slice */

/* Per-loop state of other core files, freed by their own shutdown. */
enum {
  NP_SLOT_RESOLVE,
  NP_SLOT_ARES,
  NP_SLOT_MEM,
  NP_SLOT_SIGNAL,
  NP_SLOT_PROCESS,
  NP_SLOT_LINGER,
  NP_SLOT_POOL,
  NP_SLOT_SPLICE,
  NP_SLOT_TLS,
  NP_SLOT_FS,
  NP_SLOTS
};
void **np_loop_slot(np_loop *l, int which);

/* Memory for the objects of connections, which come and go: some blocks of each size are kept.
 * take: zeroed, or NULL.  calloc and free instead: 730 instructions more per connection. */
enum { NP_SPARE_STREAM, NP_SPARE_FD, NP_SPARES };
void *np_spare_take(np_loop *l, int which, size_t size);
void np_spare_give(np_loop *l, int which, void *p);

/* Bytes that streams have read and written, in all: how long a slice lasts is also a matter of
 * these. */
uint64_t np_loop_moved(const np_loop *l);
void np_loop_move(np_loop *l, size_t n);

/* Soon: a callback from the loop's next turn, in order; how mem: delivers without calling back
 * inside write. */
void np_soon_add(np_loop *l, np_later *w);
bool np_soon_any(np_loop *l);

#endif
