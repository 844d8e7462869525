/* Listeners: when to call accept, and what to do when it cannot.
 *
 * An event allows a socket some accepts without another event: 1 at first, doubled whenever they
 * were all used, back to 1 when one found nothing.  So a lone connection costs one accept4 and a
 * storm one event for 16. Nothing is accepted ahead of the owner, so nothing accepted can be
 * lost. */
#include "core/listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/stream.h"
#include "core/timer.h"

/* Events for which a socket stays at one accept after a guess of two was wrong; doubled with each
 * wrong guess, so connections that come one by one pay for a useless accept once in 32. */
enum { HOLD_MAX = 31 };

typedef struct lsock {
  np_poll poll; /* level-triggered; added when somebody first waits */
  np_listener *listener;
  int fd;
  uint8_t batch;     /* accepts that one event allows, 1..NP_ACCEPTS_MAX */
  uint8_t left;      /* of the last event's, those not used yet */
  uint8_t hold;      /* events to go before batch may grow from 1 */
  uint8_t hold_next; /* what hold will be after the next wrong guess */
  bool was_blocking; /* inherited so; put back when it goes */
} lsock;

typedef struct memconn {
  np_node node;
  np_transport *t;
} memconn;

struct np_listener {
  np_object obj;
  np_listener_fn *fn;
  void *owner;
  lsock *socks[NP_LISTEN_SOCKETS_MAX];
  int n;
  int turn;     /* the socket to look at first: no family starves the other */
  bool waiting; /* the owner wants NP_LISTENER_ACCEPT */
  bool paused;  /* out of descriptors: `rest` resumes */
  bool shared;  /* other processes accept from the same sockets */
  int reserve;  /* a descriptor to give up at EMFILE; -1 while it could not be had back */
  np_timer rest;
  int lack;         /* why NP_LISTENER_STARVED is due: -EMFILE, -ENOMEM ...; 0: it is not */
  uint64_t told_ns; /* when it was last told; 0 never */
  uint64_t shed;
  char *name;            /* mem: without the scheme; NULL: sockets */
  np_listener *next_mem; /* in the loop's list of names */
  np_node queue;         /* memconn */
  int queued, backlog;
  np_later deliver; /* mem: connects tell from the loop, not from inside the connect */
};

/* ---- life ---- */

static int describe(np_object *o, char *buf, size_t size) {
  np_listener *s = np_container(o, np_listener, obj);
  if (s->name) return snprintf(buf, size, "mem:%s", s->name);
  np_sockaddr a;
  if (s->n == 0 || np_socket_local(s->socks[0]->fd, &a) < 0)
    return snprintf(buf, size, "no socket");
  int scheme = np_socket_scheme(s->socks[0]->fd);
  return np_addr_print((np_scheme)(scheme < 0 ? NP_TCP : scheme), (struct sockaddr *)&a.ss, a.len,
                       buf, size);
}

static const np_objtype type = {"listener", describe};

static int open_reserve(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

static void on_rest(np_timer *t);
static void on_deliver(np_later *w);

int np_listener_new(np_loop *l, np_listener **out) {
  int reserve = open_reserve();
  if (reserve < 0) return -errno;
  np_listener *s = calloc(1, sizeof *s);
  if (!s) {
    close(reserve);
    return -ENOMEM;
  }
  s->reserve = reserve;
  np_node_init(&s->queue);
  np_timer_init(&s->rest, on_rest);
  np_later_init(&s->deliver, on_deliver);
  np_object_init(&s->obj, l, &type);
  *out = s;
  return 0;
}

void np_listener_own(np_listener *s, np_listener_fn *fn, void *owner) {
  s->fn = fn;
  s->owner = owner;
}

static void on_poll(np_poll *p, int events);

int np_listener_add(np_listener *s, int fd) {
  lsock *k = NULL;
  int t = np_socket_type(fd);
  int r = t < 0 ? t : !np_socket_listens(fd) ? -EINVAL : s->n == NP_LISTEN_SOCKETS_MAX ? -E2BIG : 0;
  if (r == 0 && !(k = calloc(1, sizeof *k))) r = -ENOMEM;
  if (r == 0) r = np_unblock(fd, &k->was_blocking);
  if (r < 0) {
    free(k);
    close(fd);
    return r;
  }
  np_poll_init(&k->poll, on_poll);
  k->listener = s;
  k->fd = fd;
  k->batch = 1;
  k->hold_next = 1;
  s->socks[s->n++] = k;
  np_trace(s->obj.loop, "listen", &s->obj, 0);
  return 0;
}

/* Always told to the kernel before the close: a listening socket is often shared with other
 * processes. */
static int release(np_listener *s, lsock *k) {
  int fd = k->fd;
  np_poll_remove(s->obj.loop, &k->poll, false);
  if (k->was_blocking) np_reblock(fd);
  free(k);
  return fd;
}

static void forget_name(np_listener *s) {
  void **slot = np_loop_slot(s->obj.loop, NP_SLOT_MEM);
  np_listener **at = (np_listener **)slot;
  while (*at != s) at = &(*at)->next_mem;
  *at = s->next_mem;
  free(s->name);
}

static np_transport *pop(np_listener *s) {
  memconn *c = np_container(s->queue.next, memconn, node);
  np_transport *t = c->t;
  np_node_remove(&c->node);
  free(c);
  s->queued--;
  return t;
}

void np_listener_close(np_listener *s) {
  np_loop *l = s->obj.loop;
  np_trace(l, "close", &s->obj, 0);
  for (int i = 0; i < s->n; i++) close(release(s, s->socks[i]));
  while (np_node_linked(&s->queue)) {
    np_transport *t = pop(s);
    t->ops->close(t, true);
  }
  if (s->name) forget_name(s);
  if (s->reserve >= 0) close(s->reserve);
  np_later_remove(&s->deliver);
  np_timer_remove(l, &s->rest);
  np_object_done(&s->obj);
  free(s);
}

int np_listener_take(np_listener *s, int i) {
  if (i < 0 || i >= s->n) return -1;
  int fd = release(s, s->socks[i]);
  memmove(&s->socks[i], &s->socks[i + 1], (size_t)(s->n - i - 1) * sizeof s->socks[0]);
  s->n--;
  s->turn = 0;
  return fd;
}

void np_listener_share(np_listener *s) { s->shared = true; }

/* ---- readiness ---- */

static void tell(np_listener *s, int what) {
  if (s->fn) s->fn(s->owner, what);
}

/* A shared socket is watched only while somebody waits: whoever is woken is one that accepts, and
 * comes back at the end of the kernel's queue. So processes take turns, at two epoll_ctl per
 * connection; without this, four idle workers made two useless accepts per connection. */
static void leave_queue(np_listener *s) {
  for (int i = 0; i < s->n; i++)
    if (s->socks[i]->poll.fd >= 0) np_poll_want(s->obj.loop, &s->socks[i]->poll, 0);
}

/* Level-triggered, so an event that nobody waits for turns the watcher off until
 * np_listener_wait. */
static void on_poll(np_poll *p, int events) {
  (void)events;
  lsock *k = np_container(p, lsock, poll);
  np_listener *s = k->listener;
  if (!s->waiting || s->paused) {
    np_poll_want(s->obj.loop, p, 0);
    return;
  }
  s->waiting = false;
  if (s->shared) leave_queue(s);
  k->left = k->batch;
  tell(s, NP_LISTENER_ACCEPT);
}

static int starved(np_listener *s, int code);

static int watch(np_listener *s, lsock *k) {
  if (k->poll.fd >= 0) return np_poll_want(s->obj.loop, &k->poll, NP_READABLE);
  int flags = s->shared ? NP_POLL_LEVEL | NP_POLL_ONE : NP_POLL_LEVEL;
  return np_poll_add(s->obj.loop, &k->poll, k->fd, NP_READABLE, flags);
}

int np_listener_wait(np_listener *s) {
  s->waiting = true;
  if (s->queued > 0) np_soon_add(s->obj.loop, &s->deliver);
  for (int i = 0; !s->paused && i < s->n; i++) {
    int r = watch(s, s->socks[i]);
    if (r == -ENOMEM || r == -ENOSPC) r = starved(s, r);
    if (r < 0) return r;
  }
  return 0;
}

int np_listener_ready(const np_listener *s) {
  int n = s->queued;
  for (int i = 0; !s->paused && i < s->n; i++) n += s->socks[i]->left;
  return n;
}

/* ---- accepting ---- */

static void used_up(lsock *k) {
  if (k->listener->shared) return; /* one at a time: the others are there for the next */
  if (k->batch == 1 && k->hold > 0) {
    k->hold--;
    return;
  }
  if (k->batch < NP_ACCEPTS_MAX) k->batch *= 2;
  if (k->batch == NP_ACCEPTS_MAX) k->hold_next = 1;
}

static void found_none(lsock *k) {
  if (k->batch > 1) {
    k->hold = k->hold_next;
    if (k->hold_next < HOLD_MAX) k->hold_next = (uint8_t)(k->hold_next * 2 + 1);
  }
  k->left = 0;
  k->batch = 1;
}

/* Errors of the connection, not of the listener (accept(2), "Error handling"): try the next one. */
static bool is_transient(int code) {
  static const int codes[] = {EINTR,        ECONNABORTED, EPROTO,      ENOPROTOOPT, EHOSTDOWN,
                              EHOSTUNREACH, ENETDOWN,     ENETUNREACH, EPERM,       ETIMEDOUT};
  for (size_t i = 0; i < np_countof(codes); i++)
    if (code == -codes[i]) return true;
  return false;
}

static void on_rest(np_timer *t) {
  np_listener *s = np_container(t, np_listener, rest);
  s->paused = false;
  if (s->reserve < 0) s->reserve = open_reserve();
  if (s->waiting) np_listener_wait(s);
}

/* Nobody can be served: the backlog keeps the others while this rests, and that is said once a
 * second.  Without memory for the timer it goes on at once, which is no worse than the shortage
 * itself. */
static int starved(np_listener *s, int code) {
  np_loop *l = s->obj.loop;
  uint64_t now = np_loop_now(l);
  if (s->told_ns == 0 || now - s->told_ns >= NP_STARVED_TELL_MS * NP_MS) {
    s->told_ns = now;
    np_trace(l, "starved", &s->obj, code);
    s->lack = code;
    np_soon_add(l, &s->deliver);
  }
  if (np_timer_set(l, &s->rest, now + NP_STARVED_PAUSE_MS * NP_MS) < 0) return code;
  s->paused = true;
  for (int i = 0; i < s->n; i++) {
    s->socks[i]->left = 0;
    if (s->socks[i]->poll.fd >= 0) np_poll_want(l, &s->socks[i]->poll, 0);
  }
  return 0;
}

static void shed_one(np_listener *s, lsock *k) {
  np_sockaddr ignored;
  if (s->reserve >= 0) close(s->reserve);
  int c = np_socket_accept(k->fd, &ignored);
  if (c >= 0) {
    close(c);
    s->shed++;
  }
  s->reserve = open_reserve();
}

/* Out of descriptors.  A lingerer is owed less than a new client; when there is none, the oldest in
 * the backlog is turned away, so that it learns of it now instead of waiting for nothing. */
static int no_descriptor(np_listener *s, lsock *k, int code, np_accepted *a) {
  if (np_linger_shed(s->obj.loop)) {
    a->fd = np_socket_accept(k->fd, &a->peer);
    if (a->fd >= 0) return 0;
  }
  shed_one(s, k);
  starved(s, code);
  return -EAGAIN;
}

bool np_listener_refused(np_listener *s, int code) {
  if (code != -ENOMEM && code != -ENOSPC && code != -ENOBUFS) return false;
  s->shed++;
  starved(s, code);
  return true;
}

static int take_one(np_listener *s, lsock *k, np_accepted *a) {
  for (int tries = NP_ACCEPTS_MAX; tries > 0; tries--) {
    if (k->left > 0) k->left--;
    int r = np_socket_accept(k->fd, &a->peer);
    if (r >= 0) {
      a->fd = r;
      if (k->left == 0) used_up(k);
      return 0;
    }
    if (r == -EMFILE || r == -ENFILE) return no_descriptor(s, k, r, a);
    if (r == -ENOBUFS || r == -ENOMEM) {
      starved(s, r);
      return -EAGAIN;
    }
    if (is_transient(r)) continue;
    if (r == -EAGAIN) found_none(k);
    return r;
  }
  return -EAGAIN; /* a storm of aborted ones: the level-triggered watcher tells again */
}

int np_listener_accept(np_listener *s, bool force, np_accepted *a) {
  *a = (np_accepted){.fd = -1};
  int r = -EAGAIN;
  if (s->queued > 0) {
    a->mem = pop(s);
    r = 0;
  }
  for (int i = 0; r == -EAGAIN && !s->paused && i < s->n; i++) {
    a->which = (s->turn + i) % s->n;
    lsock *k = s->socks[a->which];
    if (k->left > 0 || force) r = take_one(s, k, a);
  }
  if (s->n > 0) s->turn = (s->turn + 1) % s->n;
  if (r != -EAGAIN) np_trace(s->obj.loop, "accept", &s->obj, r);
  return r;
}

/* ---- mem: ---- */

static np_listener *find(np_loop *l, const char *name, size_t len) {
  np_listener *s = *np_loop_slot(l, NP_SLOT_MEM);
  while (s && (strlen(s->name) != len || memcmp(s->name, name, len) != 0)) s = s->next_mem;
  return s;
}

int np_listener_add_mem(np_listener *s, const char *name, size_t len, int backlog) {
  np_loop *l = s->obj.loop;
  np_assert(s->n == 0 && !s->name);
  if (find(l, name, len)) return -EADDRINUSE;
  s->name = strndup(name, len);
  if (!s->name) return -ENOMEM;
  s->backlog = backlog;
  void **slot = np_loop_slot(l, NP_SLOT_MEM);
  s->next_mem = *slot;
  *slot = s;
  np_trace(l, "listen", &s->obj, 0);
  return 0;
}

/* What has to be told from the loop: connections to a mem: name, and the shortage of
 * descriptors. */
static void on_deliver(np_later *w) {
  np_listener *s = np_container(w, np_listener, deliver);
  if (s->lack) tell(s, NP_LISTENER_STARVED);
  s->lack = 0;
  if (!s->waiting || s->queued == 0) return;
  s->waiting = false;
  tell(s, NP_LISTENER_ACCEPT);
}

int np_mem_connect(np_loop *l, const char *name, size_t len, np_transport **client) {
  np_listener *s = find(l, name, len);
  if (!s) return -ECONNREFUSED;
  if (s->queued >= s->backlog) return -EAGAIN;
  memconn *c = malloc(sizeof *c);
  if (!c) return -ENOMEM;
  np_transport *ends[2];
  int r = np_transport_mem(l, NP_MEM_CAPACITY, ends);
  if (r < 0) {
    free(c);
    return r;
  }
  c->t = ends[1];
  np_node_init(&c->node);
  np_node_append(&s->queue, &c->node);
  s->queued++;
  np_soon_add(l, &s->deliver);
  *client = ends[0];
  return 0;
}

/* ---- state ---- */

int np_listener_count(const np_listener *s) { return s->n; }
int np_listener_fd(const np_listener *s, int i) {
  return i >= 0 && i < s->n ? s->socks[i]->fd : -1;
}
const char *np_listener_mem_name(const np_listener *s) { return s->name; }
uint64_t np_listener_shed(const np_listener *s) { return s->shed; }
int np_listener_lack(const np_listener *s) { return s->lack; }
np_object *np_listener_object(np_listener *s) { return &s->obj; }
