/* Closing politely: what is queued goes out, then FIN, then what the peer still sends is dropped
 * until its FIN.
 *
 * A bare close(2) with unread bytes sends RST, which destroys the answer on its way. A lingerer is
 * the stream itself without an owner; it ends 2 s after the last byte either way and 10 s in all,
 * without a cap on bytes. What it could not give to the kernel until then is lost, by a reset. */
#include <stdlib.h>

#include "core/stream_impl.h"

enum { DROP_SIZE = 16 << 10 };

typedef struct lingerers {
  np_node list; /* oldest first */
  size_t count;
} lingerers;

static lingerers *of(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_LINGER);
  if (!*slot) {
    lingerers *g = malloc(sizeof *g);
    if (!g) return NULL;
    np_node_init(&g->list);
    g->count = 0;
    *slot = g;
  }
  return *slot;
}

static void leave(np_stream *s, bool abort) {
  np_loop *l = s->obj.loop;
  np_node_remove(&s->linger);
  of(l)->count--;
  np_loop_busy_add(l, -1);
  np_stream_free(s, abort);
}

static bool sent(const np_stream *s) {
  return np_stream_unsent(s) == 0 && (!s->fin || s->fin_sent);
}

/* What the kernel has, a slow reader still gets from it after close(2), which is no reset once the
 * peer's bytes have been read. */
static void on_timer(np_timer *t) {
  np_stream *s = np_container(t, np_stream, timer);
  leave(s, !sent(s));
}

/* Nothing is left to wait for: the peer's end was seen, or it does not matter. */
static bool over(np_stream *s) {
  if (s->werror || s->rerror) return true;
  return sent(s) && (s->eof || !s->t->ops->lingers || !s->t->ops->lingers(s->t));
}

/* Not into the loop's scratch: a collected stream is closed while another's frames are being taken
 * from there. */
static bool drop_input(np_stream *s) {
  bool any = false;
  char dropped[DROP_SIZE];
  for (int i = 0; i < 32 && !s->eof && !s->rerror && np_stream_may_read(s); i++) {
    ssize_t n = s->t->ops->read(s->t, dropped, sizeof dropped);
    if (n == 0) s->eof = true;
    else if (n < 0 && n != -EAGAIN) s->rerror = (int)n;
    any |= n > 0;
    struct np_fdq *q = np_transport_fdq(s->t);
    if (q) np_fdq_done(q);
  }
  if (np_stream_may_read(s) && !s->eof && !s->rerror) np_soon_add(s->obj.loop, &s->again);
  return any;
}

static void arm(np_stream *s) {
  np_loop *l = s->obj.loop;
  uint64_t idle = np_loop_now(l) + NP_LINGER_IDLE_MS * NP_MS;
  if (np_timer_set(l, &s->timer, idle < s->linger_end_ns ? idle : s->linger_end_ns) < 0)
    s->rerror = -ENOMEM;
}

/* After the peer's FIN reading would be told of for ever. */
static void watch(np_stream *s) {
  int out = np_stream_wants_out(s) && !s->t->writable ? NP_WRITABLE : 0;
  if (s->t->ops->want) s->t->ops->want(s->t, (s->eof ? 0 : NP_READABLE) | out);
}

/* The peer has ended already: no FIN of our own before close(2), it sends one. */
static bool simple(const np_stream *s) {
  return s->eof || s->rerror || !s->t->ops->lingers || !s->t->ops->lingers(s->t);
}

void np_stream_end(np_stream *s) {
  if (!simple(s)) s->fin = true;
  np_stream_push_out(s, true);
}

static void last_words(np_stream *s) {
  np_stream_end(s);
  np_stream_settle(s, SIZE_MAX); /* the memory of a waiting writer goes with it */
  if (s->fin && !over(s)) drop_input(s);
}

/* A failed layer is taken off: what it still had to say goes out, and its transport lingers in its
 * place. What was queued above it goes nowhere. */
static bool peel(np_stream *s) {
  char *last;
  size_t len;
  if (!(s->werror || s->rerror) || !s->t->ops->peel) return false;
  np_transport *below = s->t->ops->peel(s->t, &last, &len);
  if (!below) return false;
  np_stream_set_transport(s, below);
  np_stream_drop_out(s);
  s->rerror = s->werror = 0;
  s->eof = s->fin = s->fin_sent = false;
  if (len > 0) np_stream_write(s, &(struct iovec){last, len}, 1);
  np_stream_settle(s, SIZE_MAX);
  s->write_waits = false;
  free(last);
  return true;
}

void np_linger_event(np_stream *s) {
  size_t before = np_stream_unsent(s);
  if (np_stream_wants_out(s)) np_stream_push_out(s, true);
  bool moved = np_stream_unsent(s) != before;
  if (drop_input(s) || moved) arm(s);
  while (peel(s)) last_words(s);
  if (over(s)) leave(s, false);
  else watch(s);
}

static void forget_input(np_stream *s) {
  np_loop *l = s->obj.loop;
  s->want = s->met = NULL;
  s->in_len = 0;
  if (s->in != s->own) s->in = NULL;
  np_scratch_drop(l, &s->lease);
  free(s->own);
  s->own = s->in = NULL;
  s->own_cap = s->in_off = 0;
  struct np_fdq *q = np_transport_fdq(s->t);
  if (q) np_fdq_done(q);
}

int np_stream_close(np_stream *s) {
  np_loop *l = s->obj.loop;
  np_trace(l, "closing", &s->obj, 0);
  s->fn = NULL;
  s->owner = NULL;
  s->write_waits = s->flush_waits = false;
  forget_input(s);
  last_words(s);
  int code = np_stream_error(s);
  while (peel(s)) last_words(s);
  if (over(s) || np_loop_freed(l)) {
    np_stream_free(s, false);
    return code;
  }
  lingerers *g = of(l);
  np_timer_init(&s->timer, on_timer);
  s->linger_end_ns = np_loop_now(l) + NP_LINGER_ALL_MS * NP_MS;
  if (!g) {
    np_stream_free(s, true);
    return -ENOMEM;
  }
  if (g->count >= NP_LINGER_MAX) np_linger_shed(l);
  np_node_append(&g->list, &s->linger);
  g->count++;
  np_loop_busy_add(l, 1);
  arm(s);
  if (s->rerror) leave(s, true); /* no memory for its timer */
  else watch(s);
  return code;
}

size_t np_linger_count(np_loop *l) {
  lingerers *g = *np_loop_slot(l, NP_SLOT_LINGER);
  return g ? g->count : 0;
}

bool np_linger_shed(np_loop *l) {
  if (np_linger_count(l) == 0) return false;
  leave(np_container(of(l)->list.next, np_stream, linger), true);
  return true;
}

void np_linger_shutdown(np_loop *l) {
  while (np_linger_shed(l)) continue;
  void **slot = np_loop_slot(l, NP_SLOT_LINGER);
  free(*slot);
  *slot = NULL;
}
