/* The fault layer (see fault.h).  Bytes that were unread when it came are kept here and given
 * first. */
#include "core/fault.h"

#include <stdlib.h>
#include <string.h>

#include "core/timer.h"

typedef struct fault {
  np_transport t;
  np_transport *below; /* owned */
  np_faults f;
  uint64_t state; /* of the generator */
  uint64_t moved; /* bytes so far */
  char *first;    /* unread when the layer came */
  size_t first_off, first_len;
  int paused;  /* NP_READABLE | NP_WRITABLE: directions that pretend not to be ready */
  bool passed; /* the last try was let through: refusals never come twice in a row */
  bool broken;
  int events; /* to be told in the next turn */
  np_later tell;
  np_timer timer;
} fault;

static fault *self(np_transport *t) { return np_container(t, fault, t); }

/* splitmix64 (Steele, Lea, Flood 2014): any seed will do, 0 too. */
static uint64_t next_random(fault *x) {
  uint64_t z = x->state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static double fraction(fault *x) { return (double)(next_random(x) >> 11) / 9007199254740992.0; }

static size_t cut(fault *x, size_t n) {
  return x->f.cut > 0 && n > 1 ? np_min(n, 1 + next_random(x) % x->f.cut) : n;
}

static void refresh(fault *x) {
  x->t.readable =
    !(x->paused & NP_READABLE) && (x->below->readable || x->first_len > 0 || x->broken);
  x->t.writable = !(x->paused & NP_WRITABLE) && (x->below->writable || x->broken);
  x->t.peer_done = x->below->peer_done && x->first_len == 0;
}

static void resume(fault *x) {
  int events = x->events | x->paused;
  x->events = x->paused = 0;
  refresh(x);
  x->t.notify(&x->t, events);
}

static void on_tell(np_later *w) { resume(np_container(w, fault, tell)); }
static void on_timer(np_timer *t) { resume(np_container(t, fault, timer)); }

static void pause_now(fault *x, int direction) {
  np_loop *l = x->t.loop;
  uint64_t ns = (uint64_t)(x->f.delay_s * 1e9 * fraction(x));
  x->paused |= direction;
  refresh(x);
  if (x->timer.at_ns != NP_NEVER) return;
  if (ns == 0 || np_timer_set(l, &x->timer, np_loop_now(l) + ns) < 0) np_soon_add(l, &x->tell);
}

/* True: this call answers -EAGAIN. */
static bool refuse(fault *x, int direction) {
  if (x->paused & direction) return true;
  if (!x->passed || fraction(x) >= x->f.again) {
    x->passed = true;
    return false;
  }
  x->passed = false;
  pause_now(x, direction);
  return true;
}

static size_t allowed(fault *x, size_t n) {
  n = cut(x, n);
  return x->f.reset_after > 0 ? np_min(n, x->f.reset_after - x->moved) : n;
}

static ssize_t moved(fault *x, ssize_t n) {
  if (n > 0) x->moved += (uint64_t)n;
  if (x->f.reset_after > 0 && x->moved >= x->f.reset_after && !x->broken) {
    x->broken = true; /* who waits hears of it in the next turn */
    x->events = NP_READABLE | NP_WRITABLE;
    np_soon_add(x->t.loop, &x->tell);
  }
  refresh(x);
  return n;
}

static ssize_t read_first(fault *x, char *buf, size_t n) {
  n = np_min(n, x->first_len);
  memcpy(buf, x->first + x->first_off, n);
  x->first_off += n;
  x->first_len -= n;
  if (x->first_len == 0) {
    free(x->first);
    x->first = NULL;
  }
  return (ssize_t)n;
}

static ssize_t fault_read(np_transport *t, void *buf, size_t size) {
  fault *x = self(t);
  if (refuse(x, NP_READABLE)) return -EAGAIN;
  if (x->broken) return -ECONNRESET;
  size_t n = allowed(x, size);
  if (x->first_len > 0) return moved(x, read_first(x, buf, n));
  ssize_t r = moved(x, x->below->ops->read(x->below, buf, n));
  t->in_total = x->below->in_total;
  return r;
}

static ssize_t fault_writev(np_transport *t, const struct iovec *iov, int n) {
  fault *x = self(t);
  if (refuse(x, NP_WRITABLE)) return -EAGAIN;
  if (x->broken) return -ECONNRESET;
  if (x->f.cut == 0 && x->f.reset_after == 0)
    return moved(x, x->below->ops->writev(x->below, iov, n));
  int i = 0;
  while (i < n - 1 && iov[i].iov_len == 0) i++;
  struct iovec one = {iov[i].iov_base, allowed(x, iov[i].iov_len)};
  return moved(x, x->below->ops->writev(x->below, &one, 1));
}

static int fault_finish(np_transport *t) {
  fault *x = self(t);
  if (refuse(x, NP_WRITABLE)) return -EAGAIN;
  if (x->broken) return -ECONNRESET;
  int r = x->below->ops->finish ? x->below->ops->finish(x->below) : 0;
  refresh(x);
  return r;
}

static void fault_want(np_transport *t, int events) {
  fault *x = self(t);
  if (x->below->ops->want) x->below->ops->want(x->below, events & ~x->paused);
}

static size_t fault_pending(np_transport *t) {
  fault *x = self(t);
  if (x->paused & NP_READABLE) return 0;
  return x->first_len + (x->below->ops->pending ? x->below->ops->pending(x->below) : 0);
}

static int fault_fd(np_transport *t) {
  fault *x = self(t);
  return x->below->ops->fd ? x->below->ops->fd(x->below) : -1;
}

static void fault_pass(np_transport *t) { np_transport_pass(self(t)->below); }

static bool fault_lingers(np_transport *t) {
  fault *x = self(t);
  return x->below->ops->lingers && x->below->ops->lingers(x->below);
}

static struct np_fdq *fault_fdq(np_transport *t) { return np_transport_fdq(self(t)->below); }

static ssize_t fault_send_fds(np_transport *t, const char *p, size_t n, const int *fds, int nfds) {
  fault *x = self(t);
  if (!x->below->ops->send_fds) return -EOPNOTSUPP;
  if (refuse(x, NP_WRITABLE)) return -EAGAIN;
  if (x->broken) return -ECONNRESET;
  return moved(x, x->below->ops->send_fds(x->below, p, allowed(x, n), fds, nfds));
}

static const char *fault_reason(np_transport *t) { return np_transport_reason(self(t)->below); }

static void leave(fault *x) {
  np_later_remove(&x->tell);
  np_timer_remove(x->t.loop, &x->timer);
  free(x->first);
  free(x);
}

static void fault_close(np_transport *t, bool abort) {
  fault *x = self(t);
  x->below->ops->close(x->below, abort || x->broken);
  leave(x);
}

static const np_transport_ops ops = {
  .name = "fault",
  .read = fault_read,
  .writev = fault_writev,
  .finish = fault_finish,
  .want = fault_want,
  .pending = fault_pending,
  .fd = fault_fd,
  .close = fault_close,
  .pass = fault_pass,
  .reason = fault_reason,
  .lingers = fault_lingers,
  .fdq = fault_fdq,
  .send_fds = fault_send_fds,
};

/* The transport below says that it is worth trying again. */
static void on_below(np_transport *below, int events) {
  fault *x = below->above;
  refresh(x);
  x->events |= events & x->paused;
  events &= ~x->paused;
  if (events) x->t.notify(&x->t, events);
}

static int take_unread(fault *x, np_stream *s) {
  const char *p;
  size_t n = np_stream_peek(s, &p);
  if (n == 0) return 0;
  x->first = malloc(n);
  if (!x->first) return -ENOMEM;
  memcpy(x->first, p, n);
  x->first_len = n;
  return 0;
}

int np_fault_put(np_stream *s, const np_faults *f) {
  fault *x = calloc(1, sizeof *x);
  if (!x) return -ENOMEM;
  x->below = np_stream_transport(s);
  /* Descriptors lie at positions of the bytes: where these may come, unread bytes stay where they
   * are. */
  if (!np_transport_fdq(x->below) && take_unread(x, s) < 0) {
    free(x);
    return -ENOMEM;
  }
  x->t = (np_transport){.ops = &ops,
                        .loop = x->below->loop,
                        .inside = x->below->inside,
                        .in_total = x->below->in_total};
  x->f = *f;
  x->state = f->seed;
  x->passed = true;
  np_later_init(&x->tell, on_tell);
  np_timer_init(&x->timer, on_timer);
  if (x->first_len > 0) np_stream_consume(s, x->first_len);
  x->below->above = x;
  x->below->notify = on_below;
  refresh(x);
  np_stream_set_transport(s, &x->t);
  return 0;
}
