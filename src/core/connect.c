/* The race of RFC 8305: attempts start in order, each at the latest a delay after the one before.
 *
 * The object leaves the loop (no timer, no watcher, not on its list) as soon as the race has
 * ended; what stays until np_connect_close is the record of the candidates. */
#include "core/connect.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/poll.h"
#include "core/timer.h"

typedef struct attempt {
  np_poll poll;
  np_connect *race;
  int fd; /* -1: none */
} attempt;

struct np_connect {
  np_object obj;
  np_connectopts o;
  np_sockaddr from; /* what o.from points to */
  np_connect_fn *fn;
  void *owner;
  np_timer timer; /* the next attempt, or the retry of an AF_UNIX one */
  int retry_ms;   /* AF_UNIX: the last wait */
  int n, next;    /* candidates; the first one not started */
  int pending;    /* attempts under way */
  int fd;         /* the winner's, until np_connect_result */
  const char *bad;
  bool ended;
  bool quiet;        /* inside np_connect_open: the result is asked for, not told */
  attempt *attempts; /* n of them, after the candidates */
  np_candidate cand[];
};

static int describe(np_object *o, char *buf, size_t size) {
  np_connect *c = np_container(o, np_connect, obj);
  const np_sockaddr *to = &c->cand[c->next > 0 ? c->next - 1 : 0].to;
  int scheme = np_scheme_of(to->ss.ss_family, c->o.type, 0);
  char at[NP_ADDR_MAX];
  np_addr_print(scheme < 0 ? NP_TCP : (np_scheme)scheme, (const struct sockaddr *)&to->ss, to->len,
                at, sizeof at);
  return snprintf(buf, size, "%s (%d of %d)", at, c->next, c->n);
}

static const np_objtype connect_type = {"connect", describe};

static void drop_attempt(np_connect *c, attempt *a) {
  np_poll_remove(c->obj.loop, &a->poll, true);
  close(a->fd);
  a->fd = -1;
  c->pending--;
}

/* Ends the race: whatever is under way fails with `code`. */
static void end(np_connect *c, int code) {
  if (c->ended) return;
  c->ended = true;
  for (int i = 0; i < c->next; i++) {
    if (c->attempts[i].fd >= 0) drop_attempt(c, &c->attempts[i]);
    if (c->cand[i].code == -EINPROGRESS) c->cand[i].code = code;
  }
  np_timer_remove(c->obj.loop, &c->timer);
  np_object_done(&c->obj);
}

/* How much an error says about the other side: an answer, silence, then what never left this
 * host. */
static int telling(int code) {
  switch (code) {
  case -ECONNREFUSED:
  case -ECONNRESET:
  case -EACCES:
  case -EPERM:
  case -ENOENT: return 3;
  case -ETIMEDOUT: return 2;
  case -ENETUNREACH:
  case -EADDRNOTAVAIL:
  case -EAFNOSUPPORT: return 0;
  default: return 1;
  }
}

static int failure(const np_connect *c) {
  int best = c->cand[0].code;
  for (int i = 1; i < c->n; i++)
    if (c->cand[i].code < 0 && telling(c->cand[i].code) > telling(best)) best = c->cand[i].code;
  return best;
}

static void tell(np_connect *c) {
  np_trace(c->obj.loop, "connect", &c->obj, c->fd >= 0 ? 0 : failure(c));
  if (!c->quiet) c->fn(c->owner);
}

/* fd is connected: it has left its attempt. */
static void win(np_connect *c, int fd) {
  c->fd = fd;
  end(c, -ECANCELED);
  tell(c);
}

/* A port that nobody listens on may be picked as our own local port: TCP then connects the socket
 * to itself. */
static bool to_itself(const np_connect *c, int i, int fd) {
  const np_sockaddr *to = &c->cand[i].to;
  np_sockaddr local;
  if (c->o.type != SOCK_STREAM || to->ss.ss_family == AF_UNIX) return false;
  if (np_socket_local(fd, &local) < 0 || local.ss.ss_family != to->ss.ss_family) return false;
  if (to->ss.ss_family == AF_INET) {
    const struct sockaddr_in *a = (const struct sockaddr_in *)&to->ss,
                             *b = (const struct sockaddr_in *)&local.ss;
    return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
  }
  const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)&to->ss,
                            *b = (const struct sockaddr_in6 *)&local.ss;
  return a->sin6_port == b->sin6_port &&
         memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0;
}

static void on_writable(np_poll *p, int events);

static int watch(np_connect *c, int i, int fd) {
  attempt *a = &c->attempts[i];
  np_poll_init(&a->poll, on_writable);
  int r = np_poll_add(c->obj.loop, &a->poll, fd, NP_WRITABLE, 0);
  if (r < 0) return r;
  a->fd = fd;
  c->pending++;
  return 0;
}

/* Starts attempt i: 1 it is connected and the race has ended, 0 under way, or how it failed. */
static int attempt_start(np_connect *c, int i) {
  const np_sockaddr *to = &c->cand[i].to;
  if (c->o.from && c->o.from->ss.ss_family != to->ss.ss_family) return -EAFNOSUPPORT;
  bool pending = false;
  int fd = np_socket_connect(c->o.type, to, c->o.from, c->o.opts, c->o.nopts, &pending, &c->bad);
  if (fd < 0) return fd;
  if (!pending && to_itself(c, i, fd)) {
    close(fd);
    return -ECONNREFUSED;
  }
  if (!pending) {
    win(c, fd);
    return 1;
  }
  int r = watch(c, i, fd);
  if (r < 0) close(fd);
  return r;
}

static void arm(np_connect *c, int ms) {
  /* Without a timer the next attempt waits for this one to fail: slower, not wrong. */
  (void)np_timer_set(c->obj.loop, &c->timer, np_loop_now(c->obj.loop) + (uint64_t)ms * NP_MS);
}

/* AF_UNIX with a full backlog: the same candidate again, later. */
static void retry(np_connect *c) {
  c->next--;
  c->cand[c->next].code = -EAGAIN;
  c->retry_ms = c->retry_ms ? (int)np_min((size_t)c->retry_ms * 2, NP_CONNECT_RETRY_MAX_MS)
                            : NP_CONNECT_RETRY_MS;
  arm(c, c->retry_ms);
}

static bool backlog_full(const np_connect *c, int i, int code) {
  return code == -EAGAIN && c->cand[i].to.ss.ss_family == AF_UNIX;
}

/* Starts candidates until one is under way or none is left; the race ends when nothing is. */
static void advance(np_connect *c) {
  np_timer_clear(&c->timer);
  while (c->next < c->n) {
    int i = c->next++;
    c->cand[i].code = -EINPROGRESS;
    int r = attempt_start(c, i);
    if (r > 0) return;
    if (r == 0) {
      if (c->next < c->n) arm(c, NP_CONNECT_DELAY_MS);
      return;
    }
    if (backlog_full(c, i, r)) {
      retry(c);
      return;
    }
    c->cand[i].code = r;
  }
  if (c->pending > 0) return;
  end(c, 0);
  tell(c);
}

static void on_timer(np_timer *t) { advance(np_container(t, np_connect, timer)); }

static void on_writable(np_poll *p, int events) {
  (void)events;
  attempt *a = np_container(p, attempt, poll);
  np_connect *c = a->race;
  int i = (int)(a - c->attempts), fd = a->fd;
  int r = np_socket_connected(fd);
  if (r == -EINPROGRESS || r == -EAGAIN) return;
  if (r == 0 && to_itself(c, i, fd)) r = -ECONNREFUSED;
  if (r < 0) {
    drop_attempt(c, a);
    c->cand[i].code = r;
    advance(c);
    return;
  }
  np_poll_remove(c->obj.loop, &a->poll, false);
  a->fd = -1;
  c->pending--;
  win(c, fd);
}

/* RFC 8305 section 4: families take turns, beginning with the first address's. */
static void interleave(np_connect *c, const np_sockaddr *to) {
  int family = to[0].ss.ss_family, same = 0, other = 0;
  for (int i = 0; i < c->n; i++) {
    while (same < c->n && to[same].ss.ss_family != family) same++;
    while (other < c->n && to[other].ss.ss_family == family) other++;
    bool first = (i % 2 == 0 && same < c->n) || other >= c->n;
    c->cand[i].to = to[first ? same++ : other++];
  }
}

static np_connect *allocate(const np_connectopts *o, int n) {
  size_t cand = sizeof(np_candidate) * (size_t)n;
  np_connect *c = calloc(1, sizeof *c + cand);
  attempt *attempts = calloc((size_t)n, sizeof *attempts);
  if (!c || !attempts) {
    free(c);
    free(attempts);
    return NULL;
  }
  c->o = *o;
  c->n = n;
  c->fd = -1;
  c->attempts = attempts;
  for (int i = 0; i < n; i++) {
    np_poll_init(&attempts[i].poll, on_writable);
    attempts[i].race = c;
    attempts[i].fd = -1;
  }
  return c;
}

int np_connect_open(np_loop *l, const np_connectopts *o, const np_sockaddr *to, int n,
                    np_connect_fn *fn, void *owner, np_connect **out) {
  np_assert(n > 0);
  np_connect *c = allocate(o, n);
  if (!c) return -ENOMEM;
  if (o->from) {
    c->from = *o->from;
    c->o.from = &c->from;
  }
  c->fn = fn;
  c->owner = owner;
  interleave(c, to);
  np_timer_init(&c->timer, on_timer);
  np_object_init(&c->obj, l, &connect_type);
  c->quiet = true;
  advance(c);
  c->quiet = false;
  *out = c;
  return 0;
}

int np_connect_result(np_connect *c, const char **bad) {
  *bad = NULL;
  if (!c->ended) return -EAGAIN;
  int fd = c->fd;
  if (fd >= 0) {
    c->fd = -1;
    return fd;
  }
  *bad = c->bad;
  return failure(c);
}

const np_candidate *np_connect_candidates(const np_connect *c, int *n) {
  *n = c->n;
  return c->cand;
}

void np_connect_stop(np_connect *c, int code) {
  for (int i = 0; i < c->n; i++)
    if (c->cand[i].code == -EAGAIN) c->cand[i].code = code;
  end(c, code);
}

void np_connect_close(np_connect *c) {
  end(c, -ECANCELED);
  if (c->fd >= 0) close(c->fd);
  free(c->attempts);
  free(c);
}
