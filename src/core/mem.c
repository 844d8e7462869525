/* Memory transports: a connected pair, each direction a bounded ring.
 *
 * What one end writes, the other is told of in the loop's next turn, never inside the write. A
 * closed end leaves its bytes to be read, then the end. */
#include <stdlib.h>
#include <string.h>

#include "core/transport.h"

typedef struct memt {
  np_transport t;
  struct memt *peer; /* NULL once it closed */
  char *ring;        /* bytes for us to read */
  size_t cap, head, len;
  bool ended; /* the peer finished writing */
  bool reset; /* the peer aborted */
  int events; /* to be told */
  np_later tell;
} memt;

static memt *self(np_transport *t) { return np_container(t, memt, t); }

static void tell(memt *m, int events) {
  m->events |= events;
  np_soon_add(m->t.loop, &m->tell);
}

static void on_tell(np_later *w) {
  memt *m = np_container(w, memt, tell);
  int events = m->events;
  m->events = 0;
  if (events & NP_READABLE) m->t.readable = true;
  if (events & NP_WRITABLE) m->t.writable = true;
  if (m->t.notify) m->t.notify(&m->t, events); /* not yet while it waits to be accepted */
}

static size_t copy_out(memt *m, char *buf, size_t n) {
  size_t k = np_min(n, m->cap - m->head);
  memcpy(buf, m->ring + m->head, k);
  memcpy(buf + k, m->ring, n - k);
  m->head = (m->head + n) % m->cap;
  m->len -= n;
  return n;
}

static void copy_in(memt *m, const char *p, size_t n) {
  size_t at = (m->head + m->len) % m->cap, k = np_min(n, m->cap - at);
  memcpy(m->ring + at, p, k);
  memcpy(m->ring, p + k, n - k);
  m->len += n;
}

static ssize_t mem_read(np_transport *t, void *buf, size_t size) {
  memt *m = self(t);
  if (m->len == 0) {
    if (m->reset) return -ECONNRESET;
    if (m->ended) {
      t->peer_done = true;
      return 0;
    }
    t->readable = false;
    return -EAGAIN;
  }
  bool was_full = m->len == m->cap;
  size_t n = copy_out(m, buf, np_min(size, m->len));
  if (was_full && m->peer) tell(m->peer, NP_WRITABLE);
  t->in_total += n;
  return (ssize_t)n;
}

static ssize_t mem_writev(np_transport *t, const struct iovec *iov, int n) {
  memt *m = self(t), *p = m->peer;
  if (m->reset) return -ECONNRESET;
  if (!p) return -EPIPE;
  size_t done = 0;
  for (int i = 0; i < n && p->len < p->cap; i++) {
    size_t k = np_min(iov[i].iov_len, p->cap - p->len);
#ifdef NP_HARD
    k = np_min(k, 1);
#endif
    copy_in(p, iov[i].iov_base, k);
    done += k;
    if (k < iov[i].iov_len) break;
  }
  if (done > 0) {
    tell(p, NP_READABLE);
    return (ssize_t)done;
  }
  t->writable = false;
  return -EAGAIN;
}

static int mem_finish(np_transport *t) {
  memt *p = self(t)->peer;
  if (p) {
    p->ended = true;
    tell(p, NP_READABLE | NP_HANGUP);
  }
  return 0;
}

static void mem_close(np_transport *t, bool abort) {
  memt *m = self(t), *p = m->peer;
  if (p) {
    p->peer = NULL;
    p->ended = true;
    p->reset = abort || m->len > 0; /* unread bytes at close: as a socket would */
    tell(p, NP_READABLE | NP_WRITABLE | NP_HANGUP);
  }
  np_later_remove(&m->tell);
  free(m->ring);
  free(m);
}

static bool mem_lingers(np_transport *t) {
  (void)t;
  return true;
}

static const np_transport_ops mem_ops = {
  .name = "mem",
  .read = mem_read,
  .writev = mem_writev,
  .finish = mem_finish,
  .close = mem_close,
  .lingers = mem_lingers,
};

static memt *new_end(np_loop *l, size_t cap) {
  memt *m = calloc(1, sizeof *m);
  if (!m) return NULL;
  m->ring = malloc(cap);
  if (!m->ring) {
    free(m);
    return NULL;
  }
  m->cap = cap;
  m->t.ops = &mem_ops;
  m->t.loop = l;
  m->t.writable = m->t.inside = true;
  np_later_init(&m->tell, on_tell);
  return m;
}

int np_transport_mem(np_loop *l, size_t cap, np_transport *out[2]) {
  memt *a = new_end(l, cap), *b = new_end(l, cap);
  if (!a || !b) {
    if (a) free(a->ring);
    if (b) free(b->ring);
    free(a);
    free(b);
    return -ENOMEM;
  }
  a->peer = b;
  b->peer = a;
  out[0] = &a->t;
  out[1] = &b->t;
  return 0;
}
