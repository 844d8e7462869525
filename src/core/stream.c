/* Streams, the reading half: the unread bytes, the condition a reader waits for, and the scratch
 * lease.
 *
 * Bytes land in the loop's scratch buffer while nothing is unread, and move to memory of the
 * stream's own only if they outlive the event; an idle stream holds no buffer. */
#include "core/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/stream_impl.h"

enum { FILLS_PER_TURN = 16 }; /* reads before others get their turn: 1 to 4 MiB */

static bool leased(const np_stream *s) { return s->in && s->in != s->own; }

static void free_own(np_stream *s) {
  free(s->own);
  s->own = s->in = NULL;
  s->own_cap = s->in_off = s->in_len = 0;
}

/* Room for `size` bytes from the first unread one on, in own memory. */
static int own_room(np_stream *s, size_t size) {
  s->moves++;
  if (size <= s->own_cap) {
    if (s->in_off > 0) memmove(s->own, s->own + s->in_off, s->in_len);
    s->in_off = 0;
    s->in = s->own;
    return 0;
  }
  size_t cap = np_max(NP_OWN_MIN, np_max(size, s->own_cap * 2));
  char *own = malloc(cap);
  if (!own) return -ENOMEM;
  if (s->in_len > 0) memcpy(own, s->in + s->in_off, s->in_len);
  free(s->own);
  s->own = s->in = own;
  s->own_cap = cap;
  s->in_off = 0;
  return 0;
}

static void move_from_scratch(np_stream *s) {
  if (s->in_len == 0) {
    s->in = NULL;
    s->in_off = 0;
  } else if (own_room(s, s->in_len) < 0) {
    s->in = NULL;
    s->in_off = s->in_len = 0;
    np_stream_fail(s, -ENOMEM);
  }
}

static void start_over(np_stream *s, np_cond *conds, int n) {
  for (int i = 0; i < n; i++) conds[i].scanned = conds[i].aux = conds[i].aux2 = 0;
  s->at_cond = 0;
  s->at_byte = 0;
}

/* The bytes of an answered condition move: it is checked again from its beginning. */
static void forget_met(np_stream *s) {
  if (s->met) start_over(s, s->met, s->nwant);
  s->met = NULL;
}

static void on_evict(np_lease *lease) {
  np_stream *s = np_container(lease, np_stream, lease);
  if (leased(s)) move_from_scratch(s);
  forget_met(s);
}

static size_t at_once(const np_stream *s, size_t room) {
  return s->t->at_once > 0 ? np_min(s->t->at_once, room) : room;
}

/* Where the next bytes go: *room bytes at the result, NULL without memory. `hint` is how many the
 * reader needs. */
static char *place_for(np_stream *s, size_t hint, size_t *room) {
  if (s->in_len == 0 && !s->own) {
    char *p = np_scratch_take(s->obj.loop, &s->lease);
    s->in = p;
    s->in_off = 0;
    *room = at_once(s, NP_SCRATCH_USE);
    return p;
  }
  if (leased(s)) {
    size_t used = s->in_off + s->in_len;
    *room = used < NP_SCRATCH_USE ? at_once(s, NP_SCRATCH_USE - used) : 0;
    if (*room > 0) return s->in + used;
  }
  /* A frame longer than scratch: doubling bounds what a hostile length prefix makes us reserve. */
  size_t need = np_max(s->in_len + NP_OWN_MIN, np_min(hint, 2 * s->in_len));
  if (own_room(s, np_max(need, s->in_len + s->in_len / 2)) < 0) return NULL;
  if (s->in == s->own) np_scratch_drop(s->obj.loop, &s->lease);
  *room = s->own_cap - s->in_len;
  return s->own + s->in_len;
}

/* The kernel tells the end of a connection once, to whoever asks first: writing fails by it too. */
static void read_failed(np_stream *s, int code) {
  s->rerror = code;
  if ((code != -ECONNRESET && code != -ETIMEDOUT) || s->werror) return;
  s->werror = code;
  np_stream_drop_out(s);
  if (s->write_waits || s->flush_waits) np_soon_add(s->obj.loop, &s->again);
}

/* One read of the transport. > 0, 0 end, -EAGAIN, or the failure, which is remembered. */
static ssize_t fill(np_stream *s, const np_cond *c) {
  size_t room;
  char *p = place_for(s, s->at_byte + np_cond_hint(c), &room);
  ssize_t n = p ? s->t->ops->read(s->t, p, room) : -ENOMEM;
  /* A write that met the reset took the error with it, and reading now shows a proper end, which it
   * was not. */
  if (n == 0 && s->werror && s->werror != -EPIPE) n = s->werror;
  if (n > 0) s->in_len += (size_t)n, np_loop_move(s->obj.loop, (size_t)n);
  else if (n == 0) s->eof = true;
  else if (n != -EAGAIN) read_failed(s, (int)n);
  if (n <= 0 && s->in_len == 0 && leased(s)) {
    s->in = NULL;
    np_scratch_drop(s->obj.loop, &s->lease);
  }
  return n;
}

/* All conditions in a row over what is here: 1, 0, or the first that cannot be met. */
static int check(np_stream *s, np_cond *conds, int n) {
  static const char none[1] = "";
  const char *p = s->in ? s->in + s->in_off : none;
  for (; s->at_cond < n; s->at_cond++) {
    np_cond *c = &conds[s->at_cond];
    int r = np_cond_check(c, p + s->at_byte, s->in_len - s->at_byte, s->eof);
    if (r != 1) return r;
    c->off += s->at_byte;
    s->at_byte += c->take;
  }
  return 1;
}

static bool more_inside(np_stream *s) { return s->t->ops->pending && s->t->ops->pending(s->t) > 0; }
bool np_stream_may_read(np_stream *s) { return s->t->readable || more_inside(s); }

/* Reads until the conditions are answered or nothing is ready. As np_stream_read, 0 meaning
 * wait. */
static int answer(np_stream *s, np_cond *conds, int n) {
  for (int fills = 0;; fills++) {
    int r = check(s, conds, n);
    if (r != 0) return r;
    if (s->rerror) return s->rerror;
    np_assert(!s->eof);
    if (!np_stream_may_read(s)) return 0;
    if (fills == FILLS_PER_TURN) {
      np_soon_add(s->obj.loop, &s->again);
      return 0;
    }
    if (fill(s, &conds[s->at_cond]) == -EAGAIN && !more_inside(s)) return 0;
  }
}

/* What is queued while the transport is writable goes out at the slice's end, unasked. */
void np_stream_want_now(np_stream *s) {
  int want = (s->want || s->ready_waits ? NP_READABLE : 0) |
             (np_stream_wants_out(s) && !s->t->writable ? NP_WRITABLE : 0);
  if (s->t->ops->want) s->t->ops->want(s->t, want);
}

int np_stream_read(np_stream *s, np_cond *conds, int n, const char **data) {
  int r = 1;
  if (s->met != conds) {
    start_over(s, conds, n);
    r = answer(s, conds, n);
  }
  s->met = NULL;
  *data = s->in ? s->in + s->in_off : "";
  s->want = r == 0 ? conds : NULL;
  s->nwant = n;
  if (r == 0) np_stream_want_now(s);
  return r;
}

bool np_stream_have(np_stream *s, np_cond *c, const char **data) {
  if (s->in_len == 0) return false;
  *data = s->in + s->in_off;
  if (np_cond_check(c, *data, s->in_len, s->eof) != 1) return false;
  s->met = NULL;
  return true;
}

static void read_event(np_stream *s) {
  if (!s->want) {
    np_splice_ready(s);
    return;
  }
  np_cond *conds = s->want;
  int r = answer(s, conds, s->nwant);
  if (r == 0) {
    np_stream_want_now(s);
    return;
  }
  s->want = NULL;
  s->met = r == 1 ? conds : NULL;
  s->fn(s->owner, NP_STREAM_READ);
}

static void on_again(np_later *w) {
  np_stream *s = np_container(w, np_stream, again);
  if (!s->fn) {
    np_linger_event(s);
    return;
  }
  read_event(s);
  if (s->werror && (s->write_waits || s->flush_waits)) np_stream_push_out(s, false);
}

void np_stream_read_abort(np_stream *s) { s->want = s->met = NULL, s->ready_waits = false; }

void np_stream_consume(np_stream *s, size_t n) {
  np_assert(n <= s->in_len);
  s->moves++;
  s->in_off += n;
  s->in_len -= n;
  s->met = NULL;
  struct np_fdq *q = np_transport_fdq(s->t);
  if (q && q->len > 0) np_stream_drop_fds(s, q);
  if (s->in_len > 0) return;
  if (leased(s)) {
    s->in = NULL;
    s->in_off = 0;
    np_scratch_drop(s->obj.loop, &s->lease);
  } else {
    free_own(s);
  }
}

size_t np_stream_peek(np_stream *s, const char **data) {
  *data = s->in ? s->in + s->in_off : "";
  return s->in_len;
}

int np_stream_unread(np_stream *s, const char *p, size_t n) {
  if (n == 0) return 0;
  s->moves++;
  if (n <= s->in_off && s->in) {
    s->in_off -= n;
  } else {
    size_t len = s->in_len + n;
    char *own = malloc(np_max(len, NP_OWN_MIN));
    if (!own) return -ENOMEM;
    if (s->in_len > 0) memcpy(own + n, s->in + s->in_off, s->in_len);
    bool was_leased = leased(s);
    free(s->own);
    s->own = s->in = own;
    s->own_cap = np_max(len, NP_OWN_MIN);
    s->in_off = 0;
    if (was_leased) np_scratch_drop(s->obj.loop, &s->lease);
  }
  memmove(s->in + s->in_off, p, n);
  s->in_len += n;
  s->met = NULL;
  return 0;
}

static void on_transport(np_transport *t, int events) {
  np_stream *s = t->above;
  if (!s->fn) {
    np_linger_event(s);
    return;
  }
  if (events & NP_READABLE) read_event(s);
  if ((events & NP_WRITABLE) && np_stream_wants_out(s)) np_stream_push_out(s, false);
}

static void on_flush(np_later *w) { np_stream_push_out(np_container(w, np_stream, flush), false); }

static int describe(np_object *o, char *buf, size_t size);
static const np_objtype stream_type = {"stream", describe};

int np_stream_new(np_loop *l, np_transport *t, np_stream **out) {
  np_stream *s = np_spare_take(l, NP_SPARE_STREAM, sizeof *s);
  if (!s) {
    t->ops->close(t, false);
    return -ENOMEM;
  }
  s->lease.evict = on_evict;
  np_later_init(&s->flush, on_flush);
  np_later_init(&s->again, on_again);
  np_node_init(&s->linger);
  np_stream_set_transport(s, t);
  np_object_init(&s->obj, l, &stream_type);
  *out = s;
  return 0;
}

void np_stream_own(np_stream *s, np_stream_fn *fn, void *owner) {
  s->fn = fn;
  s->owner = owner;
}

void np_stream_fail(np_stream *s, int code) {
  if (!s->rerror) s->rerror = code;
  if (!s->werror) s->werror = code;
  np_stream_drop_out(s);
  np_soon_add(s->obj.loop, &s->again); /* tells who waits */
}

/* The loop goes with its last object. */
static void give_back(np_stream *s) {
  np_loop *l = s->obj.loop;
  bool last = np_loop_freed(l);
  np_object_done(&s->obj);
  if (last) free(s);
  else np_spare_give(l, NP_SPARE_STREAM, s);
}

void np_stream_free(np_stream *s, bool abort) {
  np_loop *l = s->obj.loop;
  np_trace(l, abort ? "abort" : "close", &s->obj, s->werror);
  s->want = NULL;
  if (leased(s)) s->in = NULL, s->in_len = 0;
  np_scratch_drop(l, &s->lease);
  np_later_remove(&s->flush);
  np_later_remove(&s->again);
  np_timer_remove(l, &s->timer);
  np_stream_drop_out(s);
  free_own(s);
  s->t->ops->close(s->t, abort);
  give_back(s);
}

void np_stream_abort(np_stream *s) { np_stream_free(s, true); }

int np_stream_take(np_stream *s, char **rest, size_t *rest_len) {
  *rest = NULL;
  *rest_len = 0;
  if (!s->t->ops->take) return -EOPNOTSUPP;
  if (np_stream_unsent(s) > 0) np_stream_push_out(s, true);
  if (np_stream_unsent(s) > 0) return -EBUSY;
  if (s->in_len > 0) {
    *rest = malloc(s->in_len);
    if (!*rest) return -ENOMEM;
    memcpy(*rest, s->in + s->in_off, s->in_len);
    *rest_len = s->in_len;
  }
  np_loop *l = s->obj.loop;
  if (leased(s)) s->in = NULL, s->in_len = 0;
  np_scratch_drop(l, &s->lease);
  np_later_remove(&s->flush);
  np_later_remove(&s->again);
  np_timer_remove(l, &s->timer);
  free_own(s);
  int fd = s->t->ops->take(s->t);
  give_back(s);
  return fd;
}

np_transport *np_stream_transport(np_stream *s) { return s->t; }
void np_stream_set_transport(np_stream *s, np_transport *t) {
  s->t = t;
  t->above = s;
  t->notify = on_transport;
}

int np_stream_error(const np_stream *s) { return s->werror ? s->werror : s->rerror; }
bool np_stream_ended(const np_stream *s) { return s->eof && s->in_len == 0; }
size_t np_stream_in(const np_stream *s) { return s->in_len; }
uint32_t np_stream_moves(const np_stream *s) { return s->moves; }
size_t np_stream_out(const np_stream *s) { return np_stream_unsent(s); }
uint64_t np_stream_total_in(const np_stream *s) { return s->t->in_total; }
uint64_t np_stream_total_out(const np_stream *s) { return s->out_total; }
int np_stream_fd(const np_stream *s) { return s->t->ops->fd ? s->t->ops->fd(s->t) : -1; }
bool np_stream_inside(const np_stream *s) { return s->t->inside; }
int np_stream_pass_fd(np_stream *s) {
  np_transport_pass(s->t);
  return np_stream_fd(s);
}
np_loop *np_stream_loop(const np_stream *s) { return s->obj.loop; }
np_object *np_stream_object(np_stream *s) { return &s->obj; }
np_stream *np_stream_of(np_object *o) {
  return o && o->type == &stream_type ? np_container(o, np_stream, obj) : NULL;
}

static int describe(np_object *o, char *buf, size_t size) {
  np_stream *s = np_container(o, np_stream, obj);
  return snprintf(buf, size, "%s in=%zu out=%zu%s%s%s", s->t->ops->name, s->in_len,
                  np_stream_unsent(s), s->want ? " reading" : "", s->fn ? "" : " lingering",
                  s->werror || s->rerror ? " failed" : "");
}
