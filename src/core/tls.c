/* The TLS layer: plaintext above, records below, OpenSSL between two buffers.
 *
 * OpenSSL reads and writes by a BIO that never waits: it takes from the ciphertext that one read of
 * the transport below brought, and what it writes is gathered, so that several records leave in one
 * system call. A connection holds such a buffer only while bytes are stuck in it. Plaintext counts
 * as written when its records have left: flush() keeps its meaning. */
#include "core/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "core/tls_impl.h"

enum {
  RECORDS_AT_ONCE = 128, /* taken by one read: a peer may put a single byte into each */
  AHEAD_MAX = 4 << 10    /* of the handshake's last bytes, before plaintext in one send: a ticket */
};

static np_tls *self(np_transport *t) { return np_container(t, np_tls, t); }

SSL *np_tls_ssl(np_transport *t) { return self(t)->ssl; }
np_tls *np_tls_of_ssl(const SSL *ssl) { return BIO_get_data(SSL_get_rbio(ssl)); }

/* What cannot be a host name (RFC 1035 2.3.4) counts as not given. */
bool np_tls_hello(np_tls *x, const unsigned char *sni, size_t len) {
  if (x->named) return false;
  if (len > 0 && len < 256 && !memchr(sni, 0, len)) {
    x->name = strndup((const char *)sni, len);
    if (!x->name) x->failed = -ENOMEM; /* not "no name", whose context may ask for less */
  }
  x->asking = !x->failed;
  return true;
}

/* ---- what went wrong ---- */

static int fail(np_tls *x, int code) {
  if (!x->failed) x->failed = code;
  return x->failed;
}

static void say(np_tls *x, const char *why) {
  if (!x->reason) x->reason = strdup(why);
}

static int fail_tls(np_tls *x) {
  char why[NP_TLS_REASON_MAX];
  long verdict = SSL_get_verify_result(x->ssl);
  if (!x->shaken && verdict != X509_V_OK && SSL_get_verify_mode(x->ssl) != SSL_VERIFY_NONE) {
    say(x, X509_verify_cert_error_string(verdict));
    ERR_clear_error();
    return fail(x, NP_ECERT);
  }
  np_tls_openssl_reason(why, sizeof why);
  say(x, why);
  return fail(x, NP_ETLS);
}

/* After a call of OpenSSL that did not succeed: -EAGAIN, 0 (the peer's close_notify), or the
 * failure. */
int np_tls_outcome(np_tls *x) {
  switch (SSL_get_error(x->ssl, 0)) {
  case SSL_ERROR_WANT_READ:
  case SSL_ERROR_WANT_WRITE: return -EAGAIN;
  case SSL_ERROR_WANT_CLIENT_HELLO_CB: return x->failed ? x->failed : NP_TLS_NAME;
  case SSL_ERROR_ZERO_RETURN: x->ended = true; return 0;
  default: break;
  }
  if (x->below_code) return fail(x, x->below_code);
  if (x->below_eof && x->shaken) return fail(x, NP_ETRUNCATED); /* whatever became of writing */
  if (x->below_eof) say(x, "the peer closed the connection during the handshake");
  if (x->below_eof) return fail(x, NP_ETLS);
  return x->out_code ? fail(x, x->out_code) : fail_tls(x);
}

/* ---- moving ---- */

static void tls_want(np_transport *t, int events) {
  np_tls *x = self(t);
  x->wants = events;
  if (!x->below->ops->want) return;
  int w = x->out.len > 0 && !x->below->writable ? NP_WRITABLE : 0;
  if (!x->shaken && !x->asking && !x->failed) w |= NP_READABLE;
  x->below->ops->want(x->below, w | (x->shaken ? events & NP_READABLE : 0));
}

/* The end of each call: nothing large stays behind. OpenSSL's own two buffers, of 16 KiB each, go
 * when nothing is in them: it drops the one for reading by itself, the other one only after a
 * write, and at the end of a handshake and after a ticket (RFC 8446 4.6.1) there is none. */
static void settle(np_tls *x) {
  if (!x->held) np_tls_flush(x);
  if (x->first->free_buffers) SSL_free_buffers(x->ssl);
  np_bytes_shrink(x->t.loop, &x->in);
  np_bytes_shrink(x->t.loop, &x->out);
  x->t.peer_done = x->ended || x->below->peer_done;
}

static int step(np_tls *x) {
  if (x->failed) return x->failed;
  if (x->shaken) return 0;
  if (x->asking) return NP_TLS_NAME;
  ERR_clear_error();
  int r = SSL_do_handshake(x->ssl) == 1 ? 0 : np_tls_outcome(x);
  x->shaken = r == 0;
  x->held = r == 0;
  if (!x->held) np_tls_flush(x); /* an alert goes out, too */
  if (r == -EAGAIN && x->out_code) r = fail(x, x->out_code);
  if (r != -EAGAIN) np_soon_add(x->t.loop, &x->tell);
  return r;
}

/* For reads and writes: 0: go on; -EAGAIN or the failure. */
static int shaken(np_tls *x) {
  int r = x->shaken && !x->failed ? 0 : step(x);
  if (r == NP_TLS_NAME) r = -EAGAIN;
  if (r < 0) settle(x);
  return r;
}

static void on_push(np_later *w) {
  np_tls *x = np_container(w, np_tls, push);
  np_tls_flush(x);
  settle(x);
  tls_want(&x->t, x->wants);
}

/* What is held goes in the next turn, or along with what the task says before. */
static void on_tell(np_later *w) {
  np_tls *x = np_container(w, np_tls, tell);
  if (!x->asking) x->t.readable = x->t.writable = true;
  if (x->held) np_soon_add(x->t.loop, &x->push);
  if (x->fn) x->fn(x->owner);
  if (!x->asking) x->t.notify(&x->t, NP_READABLE | NP_WRITABLE);
}

static ssize_t tls_read(np_transport *t, void *buf, size_t size) {
  np_tls *x = self(t);
  int r = shaken(x);
  if (r == -EAGAIN) t->readable = false;
  if (r < 0) return r;
  if (x->ended) return 0;
  size_t n = 0, k = 1;
  ERR_clear_error();
  for (int i = 0; i < RECORDS_AT_ONCE && n < size && k > 0; i++, n += k)
    if (!SSL_read_ex(x->ssl, (char *)buf + n, size - n, &k)) k = 0;
  r = k == 0 ? np_tls_outcome(x) : -EAGAIN;
  if (k == 0 && r == -EAGAIN) t->readable = false;
  settle(x);
  t->in_total += n;
  return n > 0 ? (ssize_t)n : r;
}

static ssize_t tls_writev(np_transport *t, const struct iovec *iov, int n) {
  np_tls *x = self(t);
  int r = shaken(x);
  if (r == 0 && (x->owed > 0 || x->out.len > AHEAD_MAX)) np_tls_flush(x);
  if (r == 0 && x->out.len <= AHEAD_MAX && x->owed == 0 && !x->out_code) {
    r = np_tls_encrypt(x, iov, n);
    np_tls_flush(x);
  }
  if (r == 0 && x->out_code) r = x->out_code;
  if (r == 0 && x->out.len > 0) r = -EAGAIN;
  if (r == -EAGAIN) t->writable = false;
  settle(x);
  if (r < 0) return r;
  size_t written = x->owed;
  x->owed = 0;
  return (ssize_t)written;
}

static int tls_finish(np_transport *t) {
  np_tls *x = self(t);
  if (x->failed) return x->failed == NP_ETRUNCATED ? 0 : x->failed;
  np_tls_goodbye(x);
  np_tls_flush(x);
  settle(x);
  if (x->out_code) return x->out_code;
  if (x->out.len > 0) {
    t->writable = false;
    return -EAGAIN;
  }
  int r = x->below->ops->finish ? x->below->ops->finish(x->below) : 0;
  if (r == -EAGAIN) t->writable = false;
  return r;
}

static size_t tls_pending(np_transport *t) {
  np_tls *x = self(t);
  if (!x->shaken || x->failed || x->flooded) return 0;
  return (size_t)SSL_pending(x->ssl) + x->in.len + np_tls_below_pending(x);
}

static int tls_fd(np_transport *t) {
  np_transport *below = self(t)->below;
  return below->ops->fd ? below->ops->fd(below) : -1;
}

static bool tls_lingers(np_transport *t) {
  np_transport *below = self(t)->below;
  return below->ops->lingers && below->ops->lingers(below);
}

static void tls_pass(np_transport *t) { np_transport_pass(self(t)->below); }

static const char *tls_reason(np_transport *t) {
  np_tls *x = self(t);
  return x->failed ? x->reason : NULL;
}

static void leave(np_tls *x) {
  np_later_remove(&x->tell);
  np_later_remove(&x->push);
  if (x->ssl) {
    SSL_set_shutdown(x->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* keeps the session */
    SSL_free(x->ssl);
  }
  np_bytes_drop(x->t.loop, &x->in);
  np_bytes_drop(x->t.loop, &x->out);
  np_tls_context_unref(x->ctx);
  np_tls_context_unref(x->first);
  free(x->session);
  free(x->name);
  free(x->reason);
  free(x);
}

static void tls_close(np_transport *t, bool abort) {
  np_tls *x = self(t);
  np_transport *below = x->below;
  if (!abort) {
    np_tls_goodbye(x);
    np_tls_flush(x);
  }
  leave(x);
  below->ops->close(below, abort);
}

/* Refused, or broken by bytes that are no TLS: the alert that says so must not be overtaken by the
 * reset that close(2) sends while bytes are unread. */
static np_transport *tls_peel(np_transport *t, char **last, size_t *len) {
  np_tls *x = self(t);
  np_transport *below = x->below;
  if (!x->failed || x->below_code || x->out_code || x->below_eof) return NULL;
  *len = x->out.len;
  *last = malloc(x->out.len + 1);
  if (!*last) return NULL;
  if (x->out.len > 0) memcpy(*last, x->out.p + x->out.off, x->out.len);
  leave(x);
  return below;
}

static const np_transport_ops ops = {
  .name = "tls",
  .read = tls_read,
  .writev = tls_writev,
  .finish = tls_finish,
  .want = tls_want,
  .pending = tls_pending,
  .fd = tls_fd,
  .close = tls_close,
  .lingers = tls_lingers,
  .peel = tls_peel,
  .pass = tls_pass,
  .reason = tls_reason,
};

/* The transport below says that it is worth trying again. */
static void on_below(np_transport *below, int events) {
  np_tls *x = below->above;
  int tell = events & ~(NP_READABLE | NP_WRITABLE);
  if (!x->shaken || x->failed) { /* it begins when somebody asks for it, not by itself */
    if (x->fn || x->wants) step(x);
    settle(x);
    tls_want(&x->t, x->wants);
    if (np_node_linked(&x->tell.node)) {
      np_later_remove(&x->tell);
      on_tell(&x->tell); /* this is an event: no need for a turn */
    }
    return;
  }
  np_tls_flush(x);
  if (x->out.len == 0) x->flooded = false;
  bool broken = x->failed || x->out_code;
  if (below->readable || broken || tls_pending(&x->t) > 0) x->t.readable = true;
  if (x->out.len == 0 || broken) x->t.writable = below->writable || broken;
  settle(x);
  tls_want(&x->t, x->wants);
  if (x->t.readable) tell |= NP_READABLE;
  if (x->t.writable) tell |= NP_WRITABLE;
  if (tell) x->t.notify(&x->t, tell);
}

/* ---- making ---- */

static int take_unread(np_tls *x, np_stream *s) {
  const char *p;
  size_t n = np_stream_peek(s, &p);
  if (n == 0) return 0;
  int r = np_bytes_append(x->t.loop, &x->in, p, n);
  if (r == 0) np_stream_consume(s, n);
  return r;
}

int np_tls_put(np_stream *s, np_tls_context *ctx, const char *name, const char *session) {
  int r = np_stream_flush(s);
  if (r != 0) return r < 0 ? r : -EBUSY;
  if (np_stream_ended(s)) return -EPIPE;
  np_tls *x = calloc(1, sizeof *x);
  if (!x) return -ENOMEM;
  x->below = np_stream_transport(s);
  x->t = (np_transport){.ops = &ops,
                        .loop = x->below->loop,
                        .inside = x->below->inside,
                        .readable = true,
                        .writable = true};
  x->ctx = np_tls_context_ref(ctx);
  x->first = np_tls_context_ref(ctx);
  np_later_init(&x->tell, on_tell);
  np_later_init(&x->push, on_push);
  r = np_tls_open(x, name, session);
  if (r == 0) r = take_unread(x, s);
  if (r < 0) {
    leave(x);
    return r;
  }
  np_bytes_shrink(x->t.loop, &x->in);
  x->below->above = x;
  x->below->notify = on_below;
  np_stream_set_transport(s, &x->t);
  return 0;
}

np_transport *np_tls_of(np_stream *s) {
  np_transport *t = np_stream_transport(s);
  return t->ops == &ops ? t : NULL;
}

int np_tls_handshake(np_transport *t) {
  np_tls *x = self(t);
  int r = step(x);
  settle(x);
  tls_want(t, x->wants);
  return r;
}

void np_tls_on_handshake(np_transport *t, np_tls_fn *fn, void *owner) {
  self(t)->fn = fn;
  self(t)->owner = owner;
}

const char *np_tls_client_name(np_transport *t) { return self(t)->name; }

int np_tls_use(np_transport *t, np_tls_context *ctx) {
  np_tls *x = self(t);
  if (!x->asking) return 0; /* nobody asked, or it is over */
  x->asking = false;
  x->named = true;
  if (!ctx || ctx == x->ctx) return 0;
  if (!np_tls_switch(x, ctx)) return fail(x, -ENOMEM);
  np_tls_context_unref(x->ctx);
  x->ctx = np_tls_context_ref(ctx);
  return 0;
}
