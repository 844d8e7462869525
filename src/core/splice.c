/* Moving bytes by splice(2) (see splice.h). Elsewhere than on Linux no pipe is lent. */
#include "core/splice.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/stream_impl.h"

enum { IDLE_MAX = 4 }; /* a pump takes one and mostly gives it back empty */
#ifdef NP_HARD
enum { AT_ONCE_IN = 7, AT_ONCE_OUT = 1 };
#else
enum { AT_ONCE_IN = NP_SPLICE_MOST, AT_ONCE_OUT = NP_SPLICE_MOST };
#endif

typedef struct pool {
  np_splice *idle;
  int nidle, nall, users;
} pool;

static pool *of(np_loop *l) { return *np_loop_slot(l, NP_SLOT_SPLICE); }

int np_splice_enter(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_SPLICE);
  if (!*slot) *slot = calloc(1, sizeof(pool));
  if (!*slot) return -ENOMEM;
  of(l)->users++;
  return 0;
}

static void drop(pool *g, np_splice *p) {
  close(p->fds[0]);
  close(p->fds[1]);
  free(p);
  g->nall--;
}

void np_splice_leave(np_loop *l) {
  pool *g = of(l);
  if (--g->users > 0) return;
  for (np_splice *p; (p = g->idle);) {
    g->idle = p->next;
    drop(g, p);
  }
  np_assert(g->nall == 0);
  free(g);
  *np_loop_slot(l, NP_SLOT_SPLICE) = NULL;
}

void np_splice_give(np_loop *l, np_splice *p) {
  pool *g = of(l);
  if (p->len > 0 || g->nidle == IDLE_MAX) {
    drop(g, p);
    return;
  }
  p->next = g->idle;
  g->idle = p;
  g->nidle++;
}

static int raw_fd(np_stream *s) { return s->t->ops->raw ? s->t->ops->raw(s->t) : -1; }

int np_splice_raw(np_stream *s) {
  struct sigaction on_pipe;
  int fd = raw_fd(s);
  if (fd < 0 || sigaction(SIGPIPE, NULL, &on_pipe) < 0) return -1;
  return on_pipe.sa_handler == SIG_DFL ? -1 : fd;
}

bool np_splice_can(np_stream *from, np_stream *to) {
  return raw_fd(from) >= 0 && np_splice_raw(to) >= 0;
}

#ifdef __linux__

np_splice *np_splice_take(np_loop *l) {
  pool *g = of(l);
  np_splice *p = g->idle;
  if (p) {
    g->idle = p->next;
    g->nidle--;
    return p;
  }
  if (g->nall == NP_SPLICE_PIPES || !(p = calloc(1, sizeof *p))) return NULL;
  if (pipe2(p->fds, O_NONBLOCK | O_CLOEXEC) < 0) {
    free(p);
    return NULL;
  }
  /* Refused past the user's share of pipe memory (pipe(7)): a small pipe works too. */
  (void)fcntl(p->fds[1], F_SETPIPE_SZ, (int)NP_SPLICE_MOST);
  g->nall++;
  return p;
}

static ssize_t move(int from, int to, size_t n) {
  ssize_t r;
  do r = splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  while (r < 0 && errno == EINTR);
  if (r >= 0) return r;
  bool refused = errno == EINVAL || errno == ENOSYS || errno == EPERM || errno == ENOMEM;
  return refused ? NP_SPLICE_REFUSED : -errno;
}

#else

np_splice *np_splice_take(np_loop *l) {
  (void)l;
  return NULL;
}

static ssize_t move(int from, int to, size_t n) {
  (void)from, (void)to, (void)n;
  return NP_SPLICE_REFUSED;
}

#endif

/* Bytes were taken that lie behind descriptors, which nobody can ask for any more. */
static ssize_t arrived(np_stream *s, ssize_t n) {
  struct np_fdq *q = np_transport_fdq(s->t);
  s->t->in_total += (uint64_t)n;
  if (q) np_fdq_drop(q, s->t->in_total);
  return n;
}

ssize_t np_splice_in(np_splice *p, np_stream *s) {
  np_assert(p->len == 0 && s->in_len == 0);
  if (s->rerror) return s->rerror;
  if (s->eof) return 0;
  ssize_t n = s->t->readable ? move(raw_fd(s), p->fds[1], AT_ONCE_IN) : -EAGAIN;
  if (n > 0) {
    p->len = (size_t)n;
    return arrived(s, n);
  }
  if (n == NP_SPLICE_REFUSED) return n;
  if (n == -EAGAIN) {
    s->t->readable = false;
    s->ready_waits = true;
    np_stream_want_now(s);
    return n;
  }
  if (n == 0 && s->werror && s->werror != -EPIPE) n = s->werror; /* as stream.c's fill */
  if (n == 0) s->eof = s->t->peer_done = true;
  else s->rerror = (int)n;
  return n;
}

/* Where the watcher goes on telling though nobody waits, it is told to stop. */
void np_splice_ready(np_stream *s) {
  bool waits = s->ready_waits;
  s->ready_waits = false;
  np_stream_want_now(s);
  if (waits) s->fn(s->owner, NP_STREAM_READ);
}

ssize_t np_splice_out(np_splice *p, np_stream *s) {
  np_assert(np_stream_unsent(s) == 0);
  if (s->werror) return s->werror;
  size_t most = np_min(p->len, AT_ONCE_OUT);
  ssize_t n = s->t->writable ? move(p->fds[0], raw_fd(s), most) : -EAGAIN;
  if (n == 0) n = NP_SPLICE_REFUSED; /* never seen; it must not spin */
  if (n > 0) {
    p->len -= (size_t)n;
    s->out_total += (uint64_t)n;
  } else if (n == -EAGAIN) {
    s->t->writable = false;
    s->flush_waits = true;
    np_stream_want_now(s);
  } else if (n != NP_SPLICE_REFUSED) {
    s->werror = (int)n;
  }
  return n;
}

ssize_t np_splice_unload(np_splice *p, np_stream *s) {
  if (s->werror) return s->werror;
  s->flush_waits = false;
  size_t len = 0;
  char *bytes = malloc(p->len);
  while (bytes && len < p->len) {
    ssize_t n = read(p->fds[0], bytes + len, p->len - len);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    len += (size_t)n;
  }
  struct iovec iov = {bytes, len};
  int r = bytes && len == p->len ? np_stream_write(s, &iov, 1) : -ENOMEM;
  if (r == 1) np_stream_settle(s, SIZE_MAX); /* a hub's message was before it */
  if (r == 1) r = s->werror;
  s->write_waits = false;
  free(bytes);
  if (r < 0 && !s->werror) np_stream_fail(s, r);
  if (r < 0) return r;
  p->len = 0;
  return (ssize_t)len;
}
