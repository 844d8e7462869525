/* Streams, the writing half: a queue of chunks flushed when the writing task's slice ends.
 *
 * Small pieces are copied, so a batch of answers is one system call; large ones go out at once from
 * the caller's memory, and what the kernel does not take stays there while the writer waits. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/stream_impl.h"

enum { IOV_AT_ONCE = 64 };

np_payload *np_payload_new(const char *p, size_t n) {
  np_payload *y = malloc(sizeof *y + n);
  if (!y) return NULL;
  y->refs = 1;
  y->len = n;
  memcpy(y->data, p, n);
  return y;
}

void np_payload_unref(np_payload *p) {
  if (--p->refs == 0) free(p);
}

/* The loop keeps one chunk of the usual size: a task's answer is flushed before the next task makes
 * its own, so a busy server allocates none. */
static void free_chunk(np_stream *s, np_chunk *c) {
  void **spare = np_loop_slot(s->obj.loop, NP_SLOT_POOL);
  if (c->shared) np_payload_unref(c->shared);
  if (c->cap == NP_CHUNK_MIN && !*spare) *spare = c;
  else free(c);
}

static void append(np_stream *s, np_chunk *c) {
  c->next = NULL;
  if (s->out) s->out_last->next = c;
  else s->out = c;
  s->out_last = c;
}

static np_chunk *new_chunk(np_stream *s, size_t cap) {
  void **spare = np_loop_slot(s->obj.loop, NP_SLOT_POOL);
  np_chunk *c = cap == NP_CHUNK_MIN ? *spare : NULL;
  if (c) *spare = NULL;
  else c = malloc(sizeof *c + cap);
  if (!c) return NULL;
  *c = (np_chunk){.cap = cap};
  c->p = c->data;
  append(s, c);
  return c;
}

/* Copies into the last chunk, then into one new one. */
static int copy_in(np_stream *s, const char *p, size_t n) {
  np_chunk *c = s->out_last;
  if (s->out && c->cap > c->len) {
    size_t k = np_min(n, c->cap - c->len);
    memcpy(c->data + c->len, p, k);
    c->len += k;
    s->out_len += k;
    p += k;
    n -= k;
  }
  if (n == 0) return 0;
  /* The first chunk is small, later ones grow with the queue: few pieces, little waste. */
  c = new_chunk(s, np_max(n, np_min(np_max(NP_CHUNK_MIN, 2 * s->out_len), NP_WRITE_LOW)));
  if (!c) return -ENOMEM;
  memcpy(c->data, p, n);
  c->len = n;
  s->out_len += n;
  return 0;
}

static void drop_ext(np_stream *s) {
  free(s->ext);
  s->ext = NULL;
  s->ext_at = s->ext_n = 0;
  s->ext_len = 0;
}

void np_stream_drop_out(np_stream *s) {
  while (s->out) {
    np_chunk *c = s->out;
    s->out = c->next;
    free_chunk(s, c);
  }
  s->out_last = NULL;
  s->out_len = 0;
  drop_ext(s);
}

/* Without memory for what was accepted, perhaps long ago, the peer waits for bytes that never come:
 * whoever reads hears of it, too. */
static void write_failed(np_stream *s, int code) {
  if (code == -ENOMEM) np_stream_fail(s, code);
  if (!s->werror) s->werror = code;
  np_stream_drop_out(s);
}

/* Takes n sent bytes off the chunks; what is over belongs to the pieces that follow. */
static size_t sent_chunks(np_stream *s, size_t n) {
  while (n > 0 && s->out) {
    np_chunk *c = s->out;
    size_t k = np_min(n, c->len - c->off);
    c->off += k;
    n -= k;
    s->out_len -= k;
    if (c->off < c->len) return 0;
    s->out = c->next;
    free_chunk(s, c);
  }
  if (!s->out) s->out_last = NULL;
  return n;
}

static int gather(np_stream *s, struct iovec *v, int max) {
  int n = 0;
  for (np_chunk *c = s->out; c && n < max; c = c->next)
    v[n++] = (struct iovec){(char *)c->p + c->off, c->len - c->off};
  return n;
}

/* Skips n bytes of pieces: the index of the first unsent one, which is cut to its rest. */
static int skip_pieces(struct iovec *iov, int at, int n, size_t bytes) {
  for (; at < n && bytes >= iov[at].iov_len; at++) bytes -= iov[at].iov_len;
  if (at < n && bytes > 0) {
    iov[at].iov_base = (char *)iov[at].iov_base + bytes;
    iov[at].iov_len -= bytes;
  }
  return at;
}

/* Writes queue and pieces until everything is out or the transport says stop. pieces[*at..n) are
 * cut to what is unsent. 0 (all out), -EAGAIN or a failure. */
static int send_all(np_stream *s, struct iovec *pieces, int *at, int n) {
  for (;;) {
    struct iovec v[IOV_AT_ONCE];
    int k = gather(s, v, IOV_AT_ONCE);
    for (int i = *at; i < n && k < IOV_AT_ONCE; i++) v[k++] = pieces[i];
    if (k == 0) return 0;
    if (!s->t->writable) return -EAGAIN;
    s->t->last = s->fin && k < IOV_AT_ONCE;
    ssize_t w = s->t->ops->writev(s->t, v, k);
    if (w < 0) return (int)w;
    np_loop_move(s->t->loop, (size_t)w);
    s->out_total += (uint64_t)w;
    *at = skip_pieces(pieces, *at, n, sent_chunks(s, (size_t)w));
  }
}

static size_t pieces_len(const struct iovec *iov, int at, int n) {
  size_t len = 0;
  for (int i = at; i < n; i++) len += iov[i].iov_len;
  return len;
}

static int copy_all(np_stream *s, const struct iovec *iov, int at, int n) {
  int r = 0;
  for (int i = at; i < n && r == 0; i++) r = copy_in(s, iov[i].iov_base, iov[i].iov_len);
  return r;
}

/* The usual write: few bytes that fit the last chunk, or the first one. */
static int copy_few(np_stream *s, const struct iovec *iov, int n, size_t total) {
  if (total == 0) return 0;
  np_chunk *c = s->out ? s->out_last : total <= NP_CHUNK_MIN ? new_chunk(s, NP_CHUNK_MIN) : NULL;
  if (!c || c->len + total > c->cap) return copy_all(s, iov, 0, n);
  char *to = c->data + c->len;
  for (int i = 0; i < n; i++) {
    memcpy(to, iov[i].iov_base, iov[i].iov_len);
    to += iov[i].iov_len;
  }
  c->len += total;
  s->out_len += total;
  return 0;
}

static void finish(np_stream *s) {
  if (!s->fin || s->fin_sent || s->werror) return;
  int r = s->t->ops->finish ? s->t->ops->finish(s->t) : 0;
  if (r == 0) s->fin_sent = true;
  else if (r != -EAGAIN) write_failed(s, r);
}

/* Copies the waiting writer's rest, if it has at most `most` bytes: its memory becomes free. */
void np_stream_settle(np_stream *s, size_t most) {
  if (s->ext_len == 0 || s->ext_len > most) return;
  if (copy_all(s, s->ext, s->ext_at, s->ext_n) < 0) write_failed(s, -ENOMEM);
  else drop_ext(s);
}

void np_stream_push_out(np_stream *s, bool quiet) {
  np_later_remove(&s->flush);
  if (!s->werror) {
    int r = send_all(s, s->ext, &s->ext_at, s->ext_n);
    s->ext_len = pieces_len(s->ext, s->ext_at, s->ext_n);
    if (r < 0 && r != -EAGAIN) write_failed(s, r);
  }
  if (np_stream_unsent(s) == 0) {
    drop_ext(s);
    finish(s);
  } else {
    np_stream_settle(s, NP_WRITE_LOW);
  }
  np_stream_want_now(s);
  if (quiet || !s->fn) return;
  bool done = np_stream_unsent(s) == 0;
  bool low = !s->ext && s->out_len <= NP_WRITE_LOW;
  if ((s->write_waits && (low || s->werror)) || (s->flush_waits && (done || s->werror))) {
    s->write_waits = s->flush_waits = false;
    s->fn(s->owner, NP_STREAM_WRITE);
  }
}

/* Pieces that the kernel did not take: copied if few, else left where they are while the writer
 * waits. */
static int keep_rest(np_stream *s, const struct iovec *iov, int at, int n) {
  size_t rest = pieces_len(iov, at, n);
  if (rest + s->out_len <= NP_WRITE_HIGH) return copy_all(s, iov, at, n);
  s->ext = malloc((size_t)(n - at) * sizeof *iov);
  if (!s->ext) return -ENOMEM;
  memcpy(s->ext, iov + at, (size_t)(n - at) * sizeof *iov);
  s->ext_at = 0;
  s->ext_n = n - at;
  s->ext_len = rest;
  return 1;
}

static int write_direct(np_stream *s, const struct iovec *iov, int n) {
  struct iovec few[IOV_AT_ONCE];
  struct iovec *v = n <= IOV_AT_ONCE ? few : malloc((size_t)n * sizeof *v);
  if (!v) return -ENOMEM;
  int at = 0, k = 0;
  for (int i = 0; i < n; i++) /* without the empty ones: a writev of nothing says nothing */
    if (iov[i].iov_len > 0) v[k++] = iov[i];
  int r = send_all(s, v, &at, k);
  if (r == -EAGAIN) r = keep_rest(s, v, at, k);
  if (v != few) free(v);
  if (r < 0) write_failed(s, r);
  else np_stream_want_now(s);
  return r;
}

int np_stream_write(np_stream *s, const struct iovec *iov, int n) {
  if (s->werror) return s->werror;
  if (s->fin) return -EPIPE;
  size_t total = pieces_len(iov, 0, n);
  int r;
  if (total >= NP_WRITE_DIRECT) {
    r = write_direct(s, iov, n);
  } else {
    r = copy_few(s, iov, n, total);
    if (r < 0) write_failed(s, r); /* part of it may be queued: nobody could know */
    else if (s->out_len > NP_WRITE_HIGH) np_stream_push_out(s, true);
    else np_later_add(s->obj.loop, &s->flush);
    if (r == 0 && s->out_len > NP_WRITE_HIGH) r = 1;
    if (r == 0) r = s->werror;
  }
  s->write_waits = r == 1;
  return r;
}

int np_stream_write_shared(np_stream *s, np_payload *p) {
  if (s->werror) return s->werror;
  if (s->fin) return -EPIPE;
  if (p->len == 0) return 0;
  np_stream_settle(s, SIZE_MAX); /* a write that waits goes first, whole */
  if (s->werror) return s->werror;
  np_chunk *c = new_chunk(s, 0);
  if (!c) return -ENOMEM;
  p->refs++;
  c->shared = p;
  c->p = p->data;
  c->len = p->len;
  s->out_len += p->len;
  np_later_add(s->obj.loop, &s->flush);
  s->write_waits = s->out_len > NP_WRITE_HIGH;
  return s->write_waits;
}

int np_stream_write_end(np_stream *s) {
  if (s->werror) return s->werror;
  bool waits = s->ext || s->out_len > NP_WRITE_LOW;
  s->write_waits = waits;
  return waits;
}

int np_stream_flush(np_stream *s) {
  if (np_stream_unsent(s) > 0 && !s->werror) np_stream_push_out(s, true);
  if (s->werror) return s->werror;
  s->flush_waits = np_stream_unsent(s) > 0;
  return s->flush_waits;
}

void np_stream_write_abort(np_stream *s, int code) {
  s->write_waits = false;
  np_stream_fail(s, code);
}

int np_stream_shutdown(np_stream *s) {
  if (s->werror) return s->werror;
  s->fin = true;
  np_stream_push_out(s, true);
  return s->werror;
}

ssize_t np_stream_send_fds(np_stream *s, const char *p, size_t n, const int *fds, int nfds) {
  if (s->werror) return s->werror;
  if (s->fin) return -EPIPE;
  if (!s->t->ops->send_fds) return -EOPNOTSUPP;
  ssize_t r = np_stream_unsent(s) > 0 ? -EAGAIN : s->t->ops->send_fds(s->t, p, n, fds, nfds);
  if (r > 0) s->out_total += (uint64_t)r;
  if (r == -EAGAIN) {
    s->flush_waits = true;
    np_stream_want_now(s);
  }
  return r;
}
