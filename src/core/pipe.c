/* The pipe between two streams (see pipe.h).
 *
 * Each direction starts by copying. One whose reads keep filling the buffer goes over to splicing,
 * and comes back when what it moves at a time has become small: a message that fits one read is
 * cheaper to copy. */
#include "core/pipe.h"

#include <stdlib.h>

#include "core/splice.h"
#include "core/stream_impl.h"

enum {
  PIECE =
    64
    << 10, /* one read's worth: with NP_WRITE_LOW before it, the queue stays below NP_WRITE_HIGH */
  SLICE = 16,    /* pieces before others get their turn */
  FULL = 2,      /* full reads in a row, then it is worth splicing */
  NO_PIPE = -64, /* where that count begins when there was no pipe to lend */
  THIN = 8,      /* moves in a row of less than NP_SPLICE_WORTH, then it is not */
  FULL_READ = NP_SCRATCH_USE < PIECE ? NP_SCRATCH_USE : PIECE,
};

/* States go forward only. */
typedef enum state { FLOWING, FLUSHING, ENDED } state;

typedef struct way {
  struct np_pipe *pipe;
  np_stream *from, *to;
  np_cond cond;
  state state;
  uint64_t bytes;
  bool can_splice;
  bool splices;    /* by splice from now on */
  int full, thin;  /* in a row */
  np_splice *lent; /* empty only while it is pumped */
} way;

struct np_pipe {
  np_loop *loop;
  way ways[2];
  np_later again;
  np_pipe_fn *fn; /* NULL: told already */
  void *owner;
};

/* What a direction waits for; the stream keeps its state there until it is met. */
static const np_cond piece = {.kind = NP_COND_ANY, .need = PIECE, .max = SIZE_MAX};

static void give_back(way *w) {
  if (w->lent) np_splice_give(w->pipe->loop, w->lent);
  w->lent = NULL;
}

/* Goes over to copying: what is on its way goes to the queue, where such bytes lie. */
static int copy_on(way *w, int full) {
  ssize_t n = w->lent && w->lent->len > 0 ? np_splice_unload(w->lent, w->to) : 0;
  give_back(w);
  w->splices = false;
  w->full = full;
  if (n < 0) return (int)n;
  w->bytes += (uint64_t)n;
  return 1;
}

static void end(np_pipe *p, int code) {
  np_pipe_fn *fn = p->fn;
  p->fn = NULL;
  np_later_remove(&p->again);
  for (int i = 0; i < 2; i++) {
    np_stream_read_abort(p->ways[i].from);
    (void)copy_on(&p->ways[i], 0);
  }
  if (fn) fn(p->owner, code);
}

static int pass_end(way *w) {
  w->state = FLUSHING;
  int r = np_stream_shutdown(w->to);
  return r < 0 ? r : 1;
}

/* Whether to splice from now on, after a piece of n bytes; what is unread is copied first. */
static void consider(way *w, size_t n) {
  if (w->splices) return;
  if (n >= FULL_READ) w->full++;
  else if (w->full > 0) w->full = 0;
  w->splices = w->can_splice && w->full >= FULL;
  w->thin = 0;
}

/* One piece: 1 passed on, 0 wait, or the failure; at the end the half-close. */
static int copy(way *w) {
  const char *data;
  int r = np_stream_write_end(w->to);
  if (r < 0) return r;
  if (r == 1) return 0;
  r = np_stream_read(w->from, &w->cond, 1, &data);
  if (r == NP_COND_END) return pass_end(w);
  if (r <= 0) return r;
  struct iovec iov = {(char *)data + w->cond.off, w->cond.len};
  r = np_stream_write(w->to, &iov, 1);
  np_assert(r <= 0); /* all of it fits: see PIECE */
  if (r < 0) return r;
  w->bytes += w->cond.len;
  np_stream_consume(w->from, w->cond.take);
  consider(w, w->cond.len);
  w->cond = piece;
  return 1;
}

/* The kernel does not do it with these two. */
static int refused(way *w) {
  w->can_splice = false;
  return copy_on(w, 0);
}

/* A hub may have put a message of its own in front. */
static int deliver(way *w) {
  while (w->lent->len > 0) {
    int r = np_stream_flush(w->to);
    if (r != 0) return r < 0 ? r : 0;
    ssize_t n = np_splice_out(w->lent, w->to);
    if (n == NP_SPLICE_REFUSED) return refused(w);
    if (n < 0) return n == -EAGAIN ? 0 : (int)n;
    w->bytes += (uint64_t)n;
  }
  return 1;
}

/* As copy, by splice. */
static int move(way *w) {
  if (w->lent && w->lent->len > 0) return deliver(w);
  int r = np_stream_flush(w->to);
  if (r != 0) return r < 0 ? r : 0;
  if (!w->lent) w->lent = np_splice_take(w->pipe->loop);
  if (!w->lent) return copy_on(w, NO_PIPE);
  ssize_t n = np_splice_in(w->lent, w->from);
  if (n == NP_SPLICE_REFUSED) return refused(w);
  if (n == 0) return pass_end(w);
  if (n < 0) return n == -EAGAIN ? 0 : (int)n;
  w->thin = n < NP_SPLICE_WORTH ? w->thin + 1 : 0;
  r = deliver(w);
  return r == 1 && w->thin >= THIN ? copy_on(w, 0) : r;
}

/* Moves what can be moved now. 0 or the failure. */
static int pump(way *w) {
  int r = 1;
  for (int i = 0; i < SLICE && r == 1 && w->state == FLOWING; i++)
    r = w->splices && np_stream_in(w->from) == 0 ? move(w) : copy(w);
  if (r < 0) return r;
  if (w->lent && w->lent->len > 0) return 0;
  give_back(w);
  if (r == 1 && w->state == FLOWING) np_soon_add(w->pipe->loop, &w->pipe->again);
  r = np_stream_flush(w->to);
  if (r == 0 && w->state == FLUSHING) w->state = ENDED;
  return r < 0 ? r : 0;
}

static void run(np_pipe *p) {
  if (!p->fn) return;
  for (int i = 0; i < 2; i++) {
    int r = pump(&p->ways[i]);
    if (r < 0) {
      end(p, r);
      return;
    }
  }
  if (p->ways[0].state == ENDED && p->ways[1].state == ENDED) end(p, 0);
}

static void on_stream(void *owner, int what) {
  (void)what;
  run(owner);
}

static void on_again(np_later *w) { run(np_container(w, np_pipe, again)); }

int np_pipe_new(np_stream *a, np_stream *b, np_pipe_fn *fn, void *owner, np_pipe **out) {
  np_pipe *p = calloc(1, sizeof *p);
  if (!p) return -ENOMEM;
  p->loop = np_stream_loop(a);
  if (np_splice_enter(p->loop) < 0) {
    free(p);
    return -ENOMEM;
  }
  p->fn = fn;
  p->owner = owner;
  p->ways[0] = (way){.pipe = p, .from = a, .to = b, .cond = piece};
  p->ways[1] = (way){.pipe = p, .from = b, .to = a, .cond = piece};
  for (int i = 0; i < 2; i++) p->ways[i].can_splice = np_splice_can(p->ways[i].from, p->ways[i].to);
  np_stream_own(a, on_stream, p);
  np_stream_own(b, on_stream, p);
  np_later_init(&p->again, on_again);
  np_soon_add(p->loop, &p->again);
  *out = p;
  return 0;
}

void np_pipe_free(np_pipe *p, np_stream_fn *fn, void *a_owner, void *b_owner, uint64_t bytes[2]) {
  p->fn = NULL;
  end(p, 0);
  for (int i = 0; i < 2 && bytes; i++) bytes[i] = p->ways[i].bytes;
  np_stream_own(p->ways[0].from, fn, a_owner);
  np_stream_own(p->ways[1].from, fn, b_owner);
  np_splice_leave(p->loop);
  free(p);
}
