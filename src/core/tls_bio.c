/* Between OpenSSL and the transport below: ciphertext buffers, and the BIO that reads and writes
 * them without ever waiting. */
#include <stdlib.h>
#include <string.h>

#include "core/tls_impl.h"

#ifdef NP_HARD
enum { READ_SIZE = 7 };
#else
enum { READ_SIZE = 64 << 10 }; /* ciphertext read at once */
#endif
enum {
  BUFFER_SIZE = 72 << 10, /* spare ones: 64 KiB of plaintext and what four records add */
  SPARES = 2,             /* reading and writing; more only where TLS runs in TLS */
  OUT_MAX = 256 << 10     /* handshake answers to a peer that does not read */
};

/* ---- buffers ---- */

typedef struct spares {
  int n;
  char *p[SPARES];
} spares;

static char *take_buffer(np_loop *l) {
  spares *s = *np_loop_slot(l, NP_SLOT_TLS);
  return s && s->n > 0 ? s->p[--s->n] : malloc(BUFFER_SIZE);
}

void np_bytes_drop(np_loop *l, np_bytes *b) {
  void **slot = np_loop_slot(l, NP_SLOT_TLS);
  if (!*slot) *slot = calloc(1, sizeof(spares));
  spares *s = *slot;
  if (s && s->n < SPARES && b->cap == BUFFER_SIZE) s->p[s->n++] = b->p;
  else free(b->p);
  *b = (np_bytes){0};
}

void np_tls_shutdown(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_TLS);
  spares *s = *slot;
  while (s && s->n > 0) free(s->p[--s->n]);
  free(s);
  *slot = NULL;
}

/* Between two calls a buffer is as small as what it holds; without memory it stays. */
void np_bytes_shrink(np_loop *l, np_bytes *b) {
  if (!b->p) return;
  char *p = b->len > 0 && b->cap == BUFFER_SIZE ? malloc(b->len) : NULL;
  if (b->len > 0 && !p) return;
  if (p) memcpy(p, b->p + b->off, b->len);
  np_bytes kept = {p, 0, b->len, b->len};
  np_bytes_drop(l, b);
  if (p) *b = kept;
}

int np_bytes_append(np_loop *l, np_bytes *b, const char *p, size_t n) {
  if (!b->p) {
    b->p = take_buffer(l);
    if (!b->p) return -ENOMEM;
    b->cap = BUFFER_SIZE;
  }
  if (b->off + b->len + n > b->cap) {
    size_t cap = np_max(2 * b->cap, b->len + n);
    char *bigger = malloc(cap);
    if (!bigger) return -ENOMEM;
    memcpy(bigger, b->p + b->off, b->len);
    np_bytes moved = {bigger, 0, b->len, cap};
    np_bytes_drop(l, b);
    *b = moved;
  }
  memcpy(b->p + b->off + b->len, p, n);
  b->len += n;
  return 0;
}

void np_bytes_consume(np_bytes *b, size_t n) {
  b->off += n;
  b->len -= n;
  if (b->len == 0) b->off = 0;
}

/* ---- the side of the transport below ---- */

/* Sends what it can. A failure of the transport below is remembered, for who writes: what the peer
 * said before it went away can still be read. */
void np_tls_flush(np_tls *x) {
  x->held = false;
  np_later_remove(&x->push);
  x->below->last = x->notified;
  while (x->out.len > 0 && x->below->writable) {
    struct iovec v = {x->out.p + x->out.off, x->out.len};
    ssize_t n = x->below->ops->writev(x->below, &v, 1);
    if (n == -EAGAIN) return;
    if (n < 0) {
      x->out_code = (int)n;
      x->out.len = 0;
      return;
    }
    np_bytes_consume(&x->out, (size_t)n);
  }
}

/* ---- OpenSSL's side ---- */

size_t np_tls_below_pending(np_tls *x) {
  return x->below->ops->pending ? x->below->ops->pending(x->below) : 0;
}

/* 1, 0: nothing now; the end and failures are remembered. */
static int refill(np_tls *x) {
  if (x->below_eof || x->below_code) return 0;
  if (!x->below->readable && np_tls_below_pending(x) == 0) return 0;
  if (x->in.cap != BUFFER_SIZE) {
    np_bytes_drop(x->t.loop, &x->in);
    x->in.p = take_buffer(x->t.loop);
    x->in.cap = x->in.p ? BUFFER_SIZE : 0;
  }
  x->in.off = 0;
  ssize_t n = x->in.p ? x->below->ops->read(x->below, x->in.p, READ_SIZE) : -ENOMEM;
  if (n > 0) x->in.len = (size_t)n;
  else if (n == 0) x->below_eof = true;
  else if (n != -EAGAIN) x->below_code = (int)n;
  return n > 0;
}

static int bio_read(BIO *b, char *buf, size_t size, size_t *done) {
  np_tls *x = BIO_get_data(b);
  BIO_clear_retry_flags(b);
  *done = 0;
  if (x->in.len == 0 && !refill(x)) {
    if (!x->below_eof && !x->below_code) BIO_set_retry_read(b);
    return 0;
  }
  *done = np_min(size, x->in.len);
  memcpy(buf, x->in.p + x->in.off, *done);
  np_bytes_consume(&x->in, *done);
  return 1;
}

static int bio_write(BIO *b, const char *p, size_t n, size_t *done) {
  np_tls *x = BIO_get_data(b);
  BIO_clear_retry_flags(b);
  *done = 0;
  x->flooded = x->out.len > OUT_MAX;
  if (x->flooded) BIO_set_retry_write(b);
  else if (x->out_code) *done = n; /* into nothing: it must not keep anybody from reading on */
  else if (np_bytes_append(x->t.loop, &x->out, p, n) < 0) x->out_code = -ENOMEM;
  else *done = n;
  return *done > 0;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr) {
  np_tls *x = BIO_get_data(b);
  (void)num, (void)ptr;
  if (cmd == BIO_CTRL_EOF) return x->below_eof;
  return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *b) {
  BIO_set_init(b, 1);
  return 1;
}

BIO_METHOD *np_tls_bio_method(void) {
  BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "neap transport");
  if (!m) return NULL;
  BIO_meth_set_read_ex(m, bio_read);
  BIO_meth_set_write_ex(m, bio_write);
  BIO_meth_set_ctrl(m, bio_ctrl);
  BIO_meth_set_create(m, bio_create);
  return m;
}
