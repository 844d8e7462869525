/* c-ares on the loop: its sockets are ours, each with a watcher; its timeouts are one timer.
 *
 * c-ares calls back from anywhere inside its own functions, also for other questions than the one
 * in hand. So a callback only notes the answer and queues the question to be told; owners are told
 * when c-ares has returned, from the event, or from the loop's next turn. */
#include "core/ares.h"

#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "core/poll.h"
#include "core/resolve.h"
#include "core/socket.h"
#include "core/timer.h"

enum { TIMEOUT_MS = 2000, TRIES = 3 };

struct np_ares {
  np_object obj; /* of those made by np_ares_open */
  np_loop *loop;
  ares_channel channel; /* NULL: closed */
  np_timer timer;       /* c-ares' next timeout */
  np_later soon;        /* tells what was answered outside of an event */
  np_node told;         /* np_asked.node: answered, still to be told */
  np_node sockets;      /* asocket.node */
  np_node asked;        /* np_asked.sibling */
  size_t nasked;        /* questions that are not freed: they keep this memory */
  size_t ninside;       /* of these, with c-ares */
  size_t nwanted;       /* of these, wanted */
  int unsent;     /* inside ares_send: why a socket was not opened or connected; 0: all were */
  bool sending;   /* inside ares_send */
  int timeout_ms; /* of a first try: the least time until a timeout */
  int held;       /* in use by a function that calls owners */
  bool own;       /* made by np_ares_open */
  bool retired;   /* was the loop's: ends with its last question */
  struct timespec conf; /* of the loop's: when resolv.conf was written */
};

typedef struct asocket {
  np_poll poll;
  np_node node;
  np_ares *ares;
} asocket;

struct np_asked {
  np_object obj;
  np_node node;    /* in ares.told, else alone */
  np_node sibling; /* in ares.asked while c-ares has it */
  np_ares *ares;
  np_asked_fn *fn;
  void *owner;
  uint8_t id[2];  /* of the query; 0 for lookups, which have their own */
  int refusal;    /* what a server said instead of an answer; 0: none did */
  bool inside;    /* c-ares has it and will call back once */
  bool forgotten; /* nobody wants it: the callback frees it */
  int code;       /* -EAGAIN; 0; a failure; of a lookup the number of addresses */
  void *data;     /* the message, or the addresses */
  size_t len;     /* bytes of the message */
  char what[NP_ARES_WHAT];
};

static int describe_asked(np_object *o, char *buf, size_t size) {
  return snprintf(buf, size, "%s", np_container(o, np_asked, obj)->what);
}

static int describe_ares(np_object *o, char *buf, size_t size) {
  return snprintf(buf, size, "%zu questions", np_container(o, np_ares, obj)->nwanted);
}

static const np_objtype asked_type = {"question", describe_asked};
static const np_objtype ares_type = {"resolver", describe_ares};

/* ---- sockets ----------------------------------------------------------- */

static void settle(np_ares *a);

static void on_socket(np_poll *p, int events) {
  np_ares *a = np_container(p, asocket, poll)->ares;
  int fd = p->fd; /* the watcher may go while c-ares reads */
  ares_process_fd(a->channel, events & NP_READABLE ? fd : ARES_SOCKET_BAD,
                  events & NP_WRITABLE ? fd : ARES_SOCKET_BAD);
  settle(a);
}

static asocket *find_socket(np_ares *a, int fd) {
  for (np_node *n = a->sockets.next; n != &a->sockets; n = n->next) {
    asocket *s = np_container(n, asocket, node);
    if (s->poll.fd == fd) return s;
  }
  return NULL;
}

static void drop_socket(np_ares *a, asocket *s) {
  np_poll_remove(a->loop, &s->poll, true);
  np_node_remove(&s->node);
  free(s);
}

/* c-ares says what it waits for on fd; neither: it is about to close it. A socket that cannot be
 * watched is as one that stays silent. Level-triggered: c-ares reads a stream once per event. */
static void on_state(void *data, ares_socket_t fd, int readable, int writable) {
  np_ares *a = data;
  int want = (readable ? NP_READABLE : 0) | (writable ? NP_WRITABLE : 0);
  asocket *s = find_socket(a, fd);
  if (s && want) np_poll_want(a->loop, &s->poll, want);
  else if (s) drop_socket(a, s);
  if (s || !want || !(s = calloc(1, sizeof *s))) return;
  s->ares = a;
  np_poll_init(&s->poll, on_socket);
  if (np_poll_add(a->loop, &s->poll, fd, want, NP_POLL_LEVEL) < 0) free(s);
  else np_node_append(&a->sockets, &s->node);
}

static ares_socket_t open_socket(int domain, int type, int protocol, void *data) {
  np_ares *a = data;
  int fd = np_socket(domain, type, protocol);
  if (fd >= 0) return fd;
  a->unsent = fd;
  errno = -fd;
  return ARES_SOCKET_BAD;
}

static int close_socket(ares_socket_t fd, void *data) {
  (void)data;
  return close(fd);
}

/* A datagram socket's first connect tells whether there is a way to its server. */
static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t len,
                          void *data) {
  np_ares *a = data;
  if (connect(fd, to, len) == 0) return 0;
  if (errno != EINPROGRESS && a->sending) a->unsent = -errno;
  return -1;
}

/* c-ares goes on to another server after SERVFAIL, NOTIMP and REFUSED, and when none is left says
 * "connection refused". What they said is noted here as it comes; a piece of a stream that only
 * looks like a header can at most give a failure a wrong name. */
static void note_refusal(np_ares *a, const uint8_t *p, ares_ssize_t n) {
  static const int codes[16] = {[2] = NP_ESERVFAIL, [4] = NP_ENOTIMP, [5] = NP_EREFUSED};
  if (n < 12 || !(p[2] & 0x80) || codes[p[3] & 15] == 0) return;
  for (np_node *i = a->asked.next; i != &a->asked; i = i->next) {
    np_asked *q = np_container(i, np_asked, sibling);
    if (q->id[0] == p[0] && q->id[1] == p[1]) q->refusal = codes[p[3] & 15];
  }
}

static ares_ssize_t receive(ares_socket_t fd, void *buf, size_t size, int flags,
                            struct sockaddr *from, ares_socklen_t *len, void *data) {
  ares_ssize_t n = recvfrom(fd, buf, size, flags, from, len);
  note_refusal(data, buf, n);
  /* it takes an echo of its query for the answer */
  if (from && n > 2 && !(((uint8_t *)buf)[2] & 0x80)) {
    errno = EAGAIN;
    return -1;
  }
  return n;
}

static ares_ssize_t transmit(ares_socket_t fd, const struct iovec *iov, int n, void *data) {
  (void)data;
  struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
  return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static const struct ares_socket_functions socket_functions = {open_socket, close_socket,
                                                              connect_socket, receive, transmit};

/* ---- telling ----------------------------------------------------------- */

static void free_if_done(np_ares *a) {
  if (a->channel || a->nasked > 0 || a->held > 0) return;
  np_later_remove(&a->soon);
  np_timer_remove(a->loop, &a->timer);
  free(a);
}

/* No timeout of c-ares is earlier than a first one from now: the timer is right or too early, and
 * finds the true instant when it comes (ares_timeout looks at every question). Without memory for
 * it the questions wait for their owners' deadlines. */
static void arm_timer(np_ares *a) {
  uint64_t at = np_loop_now(a->loop) + (uint64_t)a->timeout_ms * NP_MS;
  if (!a->channel || a->ninside == 0) np_timer_clear(&a->timer);
  else if (a->timer.at_ns > at) np_timer_set(a->loop, &a->timer, at);
}

static void rearm_timer(np_ares *a) {
  struct timeval tv;
  if (!a->channel || !ares_timeout(a->channel, NULL, &tv)) return;
  uint64_t ns = (uint64_t)tv.tv_sec * NP_SEC + (uint64_t)tv.tv_usec * 1000 + NP_MS;
  np_timer_set(a->loop, &a->timer, np_loop_now(a->loop) + ns);
}

/* After c-ares ran from an event: tells the owners of what was answered. */
static void settle(np_ares *a) {
  a->held++;
  arm_timer(a);
  while (np_node_linked(&a->told)) {
    np_asked *q = np_container(a->told.next, np_asked, node);
    np_node_remove(&q->node);
    np_trace(a->loop, "resolve", &q->obj, q->code < 0 ? q->code : 0);
    q->fn(q->owner);
  }
  if (a->retired && a->nwanted == 0 && a->channel) np_ares_close(a);
  a->held--;
  free_if_done(a);
}

static void on_soon(np_later *w) { settle(np_container(w, np_ares, soon)); }

static void on_timer(np_timer *t) {
  np_ares *a = np_container(t, np_ares, timer);
  ares_process_fd(a->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  rearm_timer(a);
  settle(a);
}

/* ---- resolvers --------------------------------------------------------- */

/* c-ares' codes for making a channel and for questions to servers. */
static int code_of(int status) {
  switch (status) {
  case ARES_SUCCESS: return 0;
  case ARES_ESERVFAIL: return NP_ESERVFAIL;
  case ARES_ENOTIMP: return NP_ENOTIMP;
  case ARES_EREFUSED: return NP_EREFUSED;
  case ARES_ECONNREFUSED: return -ECONNREFUSED;
  case ARES_ETIMEOUT: return -ETIMEDOUT;
  case ARES_ENOMEM: return -ENOMEM;
  case ARES_EFILE: return -ENOENT;
  case ARES_EDESTRUCTION:
  case ARES_ECANCELLED: return NP_ECLOSED;
  case ARES_EBADSTR:
  case ARES_EBADNAME: return -EINVAL;
  default: return NP_EBADMSG;
  }
}

/* The same for names, in getaddrinfo's words: no server that answers is a failure that may pass. */
static int lookup_code(int status) {
  switch (status) {
  case ARES_ENOTFOUND:
  case ARES_ENONAME:
  case ARES_EBADNAME: return UV_EAI_NONAME;
  case ARES_ENODATA: return UV_EAI_NODATA;
  case ARES_ENOMEM: return -ENOMEM;
  case ARES_EDESTRUCTION:
  case ARES_ECANCELLED: return NP_ECLOSED;
  default: return UV_EAI_AGAIN;
  }
}

static int open_channel(np_ares *a, const np_aresopts *o) {
  struct ares_options opts = {
    .flags = (o->edns_size ? ARES_FLAG_EDNS : 0) | (o->tcp ? ARES_FLAG_USEVC : 0),
    .timeout = a->timeout_ms,
    .tries = o->tries ? o->tries : TRIES,
    .ednspsz = o->edns_size,
    .sock_state_cb = on_state,
    .sock_state_cb_data = a,
  };
  int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
  if (o->edns_size) mask |= ARES_OPT_EDNSPSZ;
  int status = ares_init_options(&a->channel, &opts, mask);
  if (status != ARES_SUCCESS) {
    a->channel = NULL;
    return code_of(status);
  }
  ares_set_socket_functions(a->channel, &socket_functions, a);
  status = o->servers ? ares_set_servers_ports_csv(a->channel, o->servers) : ARES_SUCCESS;
  return code_of(status);
}

static void close_channel(np_ares *a) {
  ares_channel channel = a->channel;
  a->channel = NULL;
  if (channel) ares_destroy(channel); /* questions end with ARES_EDESTRUCTION */
}

static int new_ares(np_loop *l, const np_aresopts *o, np_ares **out) {
  np_ares *a = calloc(1, sizeof *a);
  if (!a) return -ENOMEM;
  a->loop = l;
  a->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_MS;
  np_timer_init(&a->timer, on_timer);
  np_later_init(&a->soon, on_soon);
  np_node_init(&a->told);
  np_node_init(&a->sockets);
  np_node_init(&a->asked);
  int err = open_channel(a, o);
  if (err < 0) {
    close_channel(a);
    free(a);
    return err;
  }
  *out = a;
  return 0;
}

int np_ares_open(np_loop *l, const np_aresopts *o, np_ares **out) {
  int err = new_ares(l, o, out);
  if (err < 0) return err;
  (*out)->own = true;
  np_object_init(&(*out)->obj, l, &ares_type);
  return 0;
}

void np_ares_close(np_ares *a) {
  if (!a->channel) return;
  close_channel(a);
  np_timer_clear(&a->timer);
  if (a->own) np_object_done(&a->obj);
  if (np_node_linked(&a->told)) np_soon_add(a->loop, &a->soon);
  free_if_done(a);
}

static struct timespec conf_time(void) {
  struct stat st;
  if (stat("/etc/resolv.conf", &st) < 0) return (struct timespec){0};
  return st.st_mtim;
}

int np_ares_default(np_loop *l, np_ares **out) {
  void **slot = np_loop_slot(l, NP_SLOT_ARES);
  struct timespec now = conf_time();
  np_ares *a = *slot;
  if (a && (a->conf.tv_sec != now.tv_sec || a->conf.tv_nsec != now.tv_nsec)) {
    *slot = NULL;
    a->retired = true;
    if (a->nwanted == 0) np_ares_close(a);
  }
  if (!*slot) {
    np_aresopts o = {.edns_size = NP_ARES_EDNS};
    int err = new_ares(l, &o, &a);
    if (err < 0) return err;
    a->conf = now;
    *slot = a;
  }
  *out = *slot;
  return 0;
}

void np_ares_shutdown(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_ARES);
  np_ares *a = *slot;
  *slot = NULL;
  if (a) np_ares_close(a);
}

/* ---- questions --------------------------------------------------------- */

static void free_asked(np_asked *q) {
  np_ares *a = q->ares;
  free(q->data);
  free(q);
  a->nasked--;
}

/* c-ares is done with q: its answer is noted, its owner told later. */
static void answered(np_asked *q, int code) {
  np_ares *a = q->ares;
  q->inside = false;
  np_node_remove(&q->sibling);
  a->ninside--;
  if (q->forgotten) {
    free_asked(q);
    return;
  }
  q->code = code;
  a->nwanted--;
  np_node_append(&a->told, &q->node);
}

static void on_answer(void *arg, int status, int timeouts, unsigned char *bytes, int len) {
  (void)timeouts;
  np_asked *q = arg;
  int code = code_of(status);
  if (status == ARES_ECONNREFUSED && q->refusal) code = q->refusal;
  else if (status == ARES_ECONNREFUSED && q->ares->sending && q->ares->unsent)
    code = q->ares->unsent;
  if (code == 0 && !q->forgotten) {
    q->data = malloc((size_t)len);
    if (q->data) memcpy(q->data, bytes, q->len = (size_t)len);
    else code = -ENOMEM;
  }
  answered(q, code);
}

static int copy_addresses(np_asked *q, const struct ares_addrinfo *ai) {
  np_sockaddr *list = calloc(NP_RESOLVE_ADDRS, sizeof *list);
  int n = 0;
  if (!list) return -ENOMEM;
  for (const struct ares_addrinfo_node *p = ai->nodes; p && n < NP_RESOLVE_ADDRS; p = p->ai_next) {
    if (p->ai_family != AF_INET && p->ai_family != AF_INET6) continue;
    memcpy(&list[n].ss, p->ai_addr, p->ai_addrlen);
    list[n++].len = p->ai_addrlen;
  }
  q->data = list;
  return n > 0 ? n : UV_EAI_NODATA;
}

static void on_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *ai) {
  (void)timeouts;
  np_asked *q = arg;
  int code = status == ARES_SUCCESS ? 0 : lookup_code(status);
  if (code == 0 && !q->forgotten) code = copy_addresses(q, ai);
  if (ai) ares_freeaddrinfo(ai);
  answered(q, code);
}

static int new_asked(np_ares *a, const char *what, np_asked_fn *fn, void *owner, np_asked **out) {
  if (!a->channel) return NP_ECLOSED;
  if (a->nasked >= NP_ARES_ASKED) return -ENOBUFS;
  np_asked *q = calloc(1, sizeof *q);
  if (!q) return -ENOMEM;
  *q = (np_asked){.ares = a, .fn = fn, .owner = owner, .inside = true, .code = -EAGAIN};
  np_node_init(&q->node);
  np_node_init(&q->sibling);
  snprintf(q->what, sizeof q->what, "%s", what);
  np_object_init(&q->obj, a->loop, &asked_type);
  a->nasked++;
  a->ninside++;
  a->nwanted++;
  *out = q;
  return 0;
}

/* After a call of c-ares from outside of an event: q itself is asked, not told; others are told
 * from the loop's next turn. */
static void after_asking(np_ares *a, np_asked *q) {
  np_node_remove(&q->node);
  arm_timer(a);
  if (np_node_linked(&a->told)) np_soon_add(a->loop, &a->soon);
}

int np_ares_ask(np_ares *a, const void *query, size_t len, const char *what, np_asked_fn *fn,
                void *owner, np_asked **out) {
  int err = new_asked(a, what, fn, owner, out);
  if (err < 0) return err;
  memcpy((*out)->id, query, sizeof(*out)->id);
  np_node_append(&a->asked, &(*out)->sibling);
  a->unsent = 0;
  a->sending = true;
  ares_send(a->channel, query, (int)len, on_answer, *out);
  a->sending = false;
  after_asking(a, *out);
  return 0;
}

int np_ares_lookup(np_ares *a, const char *host, int family, np_asked_fn *fn, void *owner,
                   np_asked **out) {
  struct ares_addrinfo_hints hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
  int err = new_asked(a, host, fn, owner, out);
  if (err < 0) return err;
  ares_getaddrinfo(a->channel, (*out)->what, NULL, &hints, on_addresses, *out);
  after_asking(a, *out);
  return 0;
}

int np_asked_answer(const np_asked *q, const void **bytes, size_t *len) {
  *bytes = q->data;
  *len = q->len;
  return q->code;
}

int np_asked_addresses(const np_asked *q, const np_sockaddr **addrs) {
  *addrs = q->data;
  return q->code;
}

const char *np_asked_what(const np_asked *q) { return q->what; }

void np_asked_close(np_asked *q) {
  np_ares *a = q->ares;
  np_node_remove(&q->node);
  np_object_done(&q->obj);
  q->forgotten = true;
  if (q->inside) a->nwanted--;
  else free_asked(q);
  /* all that is left was forgotten */
  if (a->nwanted == 0 && a->ninside > 0 && a->channel) ares_cancel(a->channel);
  arm_timer(a);
  if (a->retired && a->nwanted == 0 && a->held == 0) np_ares_close(a);
  else free_if_done(a);
}
