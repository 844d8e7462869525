/* The pipe between two streams (see pipe.h). */
#include "core/pipe.h"

#include <stdlib.h>

enum {
  PIECE =
    64
    << 10, /* one read's worth: with NP_WRITE_LOW before it, the queue stays below NP_WRITE_HIGH */
  SLICE = 16, /* pieces before others get their turn */
};

/* States go forward only. */
typedef enum state { FLOWING, FLUSHING, ENDED } state;

typedef struct way {
  struct np_pipe *pipe;
  np_stream *from, *to;
  np_cond cond;
  state state;
  uint64_t bytes;
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

static void end(np_pipe *p, int code) {
  np_pipe_fn *fn = p->fn;
  p->fn = NULL;
  np_later_remove(&p->again);
  for (int i = 0; i < 2; i++) np_stream_read_abort(p->ways[i].from);
  if (fn) fn(p->owner, code);
}

/* One piece: 1 passed on, 0 wait, or the failure; at the end the half-close. */
static int pass(way *w) {
  const char *data;
  int r = np_stream_write_end(w->to);
  if (r < 0) return r;
  if (r == 1) return 0;
  r = np_stream_read(w->from, &w->cond, 1, &data);
  if (r == NP_COND_END) {
    w->state = FLUSHING;
    r = np_stream_shutdown(w->to);
    return r < 0 ? r : 1;
  }
  if (r <= 0) return r;
  struct iovec iov = {(char *)data + w->cond.off, w->cond.len};
  r = np_stream_write(w->to, &iov, 1);
  np_assert(r <= 0); /* all of it fits: see PIECE */
  if (r < 0) return r;
  w->bytes += w->cond.len;
  np_stream_consume(w->from, w->cond.take);
  w->cond = piece;
  return 1;
}

/* Moves what can be moved now. 0 or the failure. */
static int pump(way *w) {
  int r = 1;
  for (int i = 0; i < SLICE && r == 1 && w->state == FLOWING; i++) r = pass(w);
  if (r < 0) return r;
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
  p->fn = fn;
  p->owner = owner;
  p->ways[0] = (way){.pipe = p, .from = a, .to = b, .cond = piece};
  p->ways[1] = (way){.pipe = p, .from = b, .to = a, .cond = piece};
  np_stream_own(a, on_stream, p);
  np_stream_own(b, on_stream, p);
  np_later_init(&p->again, on_again);
  np_soon_add(p->loop, &p->again);
  *out = p;
  return 0;
}

uint64_t np_pipe_bytes(const np_pipe *p, int direction) { return p->ways[direction].bytes; }

void np_pipe_free(np_pipe *p, np_stream_fn *fn, void *a_owner, void *b_owner) {
  p->fn = NULL;
  end(p, 0);
  np_stream_own(p->ways[0].from, fn, a_owner);
  np_stream_own(p->ways[1].from, fn, b_owner);
  free(p);
}
