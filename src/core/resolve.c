/* Lookups: one job per name and family, any number of requests (np_resolve) that want its answer.
 *
 * A job waits in the queue, then runs on a thread.  While it runs, `abandoned` (under the lock)
 * decides who frees it. Threads announce their answers through an eventfd, which exists only while
 * somebody wants a job: an idle loop holds no descriptor for names. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include "core/resolve_impl.h"

struct np_resolve {
  np_object obj;
  np_node node;    /* in job.wanters; while answers are told, in a list of those still to tell */
  np_job *job;     /* getaddrinfo's, or */
  np_asked *asked; /* c-ares'; neither: answered */
  np_resolve_fn *fn;
  void *owner;
  int port;
  int code; /* number of addresses or the failure */
  np_sockaddr *addrs;
  char host[NP_HOST_MAX + 1];
};

static int describe(np_object *o, char *buf, size_t size) {
  np_resolve *r = np_container(o, np_resolve, obj);
  return snprintf(buf, size, "%s %s", r->host, r->job || r->asked ? "running" : "answered");
}

static const np_objtype lookup_type = {"lookup", describe};

static bool may_start(np_resolver *res) {
  pthread_mutex_lock(&res->lock);
  bool room = res->threads < NP_RESOLVE_THREADS;
  pthread_mutex_unlock(&res->lock);
  return room && res->nrunning < NP_RESOLVE_RUNNING && np_node_linked(&res->queue);
}

/* ---- the loop's side --------------------------------------------------- */

static void on_answers(np_poll *p, int events);

/* The eventfd lives as long as somebody wants a job. */
static int open_bell(np_resolver *res) {
  if (res->efd >= 0) return 0;
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return -errno;
  np_poll_init(&res->poll, on_answers);
  int r = np_poll_add(res->loop, &res->poll, fd, NP_READABLE, 0);
  if (r < 0) {
    close(fd);
    return r;
  }
  pthread_mutex_lock(&res->lock);
  res->efd = fd;
  pthread_mutex_unlock(&res->lock);
  np_loop_busy_add(res->loop, 1);
  return 0;
}

static void close_bell(np_resolver *res) {
  if (res->efd < 0) return;
  np_poll_remove(res->loop, &res->poll, true);
  pthread_mutex_lock(&res->lock);
  close(res->efd);
  res->efd = -1;
  pthread_mutex_unlock(&res->lock);
  np_loop_busy_add(res->loop, -1);
}

static void pump(np_resolver *res) {
  while (may_start(res)) np_job_start(res, np_container(res->queue.next, np_job, node));
  if (!np_node_linked(&res->queue) && !np_node_linked(&res->running)) close_bell(res);
}

static np_resolver *resolver_of(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_RESOLVE);
  if (*slot) return *slot;
  np_resolver *res = calloc(1, sizeof *res);
  if (!res) return NULL;
  pthread_mutex_init(&res->lock, NULL);
  res->efd = -1;
  res->loop = l;
  np_node_init(&res->answered);
  np_node_init(&res->queue);
  np_node_init(&res->running);
  return *slot = res;
}

void np_resolve_shutdown(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_RESOLVE);
  np_resolver *res = *slot;
  np_ares_shutdown(l);
  if (!res) return;
  *slot = NULL;
  np_assert(res->efd < 0); /* every np_resolve was closed */
  pthread_mutex_lock(&res->lock);
  res->orphan = true;
  bool last = res->threads == 0;
  pthread_mutex_unlock(&res->lock);
  if (last) np_resolver_free(res);
}

/* ---- answers ----------------------------------------------------------- */

static void set_port(np_sockaddr *a, int port) {
  if (a->ss.ss_family == AF_INET6)
    ((struct sockaddr_in6 *)&a->ss)->sin6_port = htons((uint16_t)port);
  else ((struct sockaddr_in *)&a->ss)->sin_port = htons((uint16_t)port);
}

static bool usable(const struct addrinfo *ai) {
  return ai->ai_family == AF_INET || ai->ai_family == AF_INET6;
}

static bool has_addr(const np_sockaddr *a, int n, const struct addrinfo *ai) {
  for (int i = 0; i < n; i++)
    if (a[i].len == ai->ai_addrlen && memcmp(&a[i].ss, ai->ai_addr, ai->ai_addrlen) == 0)
      return true;
  return false;
}

/* r's own copy of the answer; its number of addresses, or -ENOMEM. */
static int copy_answer(np_resolve *r, const struct addrinfo *list) {
  int n = 0;
  for (const struct addrinfo *ai = list; ai; ai = ai->ai_next) n += usable(ai);
  if (n == 0) return UV_EAI_NODATA;
  n = (int)np_min((size_t)n, NP_RESOLVE_ADDRS);
  r->addrs = calloc((size_t)n, sizeof *r->addrs);
  if (!r->addrs) return -ENOMEM;
  int kept = 0;
  for (const struct addrinfo *ai = list; ai && kept < n; ai = ai->ai_next) {
    if (!usable(ai) || has_addr(r->addrs, kept, ai)) continue;
    memcpy(&r->addrs[kept].ss, ai->ai_addr, ai->ai_addrlen);
    r->addrs[kept++].len = ai->ai_addrlen;
  }
  for (int i = 0; i < kept; i++) set_port(&r->addrs[i], r->port);
  return kept;
}

/* The same of c-ares' answer. */
static int copy_asked(np_resolve *r) {
  const np_sockaddr *addrs;
  int n = np_asked_addresses(r->asked, &addrs);
  if (n < 0) return n;
  r->addrs = malloc((size_t)n * sizeof *r->addrs);
  if (!r->addrs) return -ENOMEM;
  memcpy(r->addrs, addrs, (size_t)n * sizeof *r->addrs);
  for (int i = 0; i < n; i++) set_port(&r->addrs[i], r->port);
  return n;
}

/* Takes the answer, if it is there. */
static void take_asked(np_resolve *r) {
  int code = copy_asked(r);
  if (code == -EAGAIN) return;
  r->code = code;
  np_asked_close(r->asked);
  r->asked = NULL;
}

static void on_asked(void *owner) {
  np_resolve *r = owner;
  take_asked(r);
  r->fn(r->owner);
}

static int ask(np_resolve *r, np_ares *via, int family) {
  int err = np_ares_lookup(via, r->host, family, on_asked, r, &r->asked);
  if (err == 0) take_asked(r);
  return err;
}

/* Everybody who wants j gets the answer before anybody is told: a callback may close any
 * request. */
static void answer(np_job *j) {
  np_node tell;
  np_node_init(&tell);
  while (np_node_linked(&j->wanters)) {
    np_resolve *r = np_container(j->wanters.next, np_resolve, node);
    np_node_remove(&r->node);
    np_node_append(&tell, &r->node);
    r->job = NULL;
    r->code = j->code < 0 ? j->code : copy_answer(r, j->list);
  }
  np_job_free(j);
  while (np_node_linked(&tell)) {
    np_resolve *r = np_container(tell.next, np_resolve, node);
    np_node_remove(&r->node);
    np_trace(r->obj.loop, "resolve", &r->obj, r->code < 0 ? r->code : 0);
    r->fn(r->owner);
  }
}

static np_job *next_answer(np_resolver *res) {
  np_job *j = NULL;
  pthread_mutex_lock(&res->lock);
  if (np_node_linked(&res->answered)) {
    j = np_container(res->answered.next, np_job, answered);
    np_node_remove(&j->answered);
  }
  pthread_mutex_unlock(&res->lock);
  return j;
}

static void forget_running(np_resolver *res, np_job *j) {
  np_node_remove(&j->node);
  res->nrunning--;
}

static void on_answers(np_poll *p, int events) {
  (void)events;
  np_resolver *res = np_container(p, np_resolver, poll);
  uint64_t count;
  if (read(res->efd, &count, sizeof count) < 0 && errno != EAGAIN) return;
  for (np_job *j; (j = next_answer(res));) {
    forget_running(res, j);
    answer(j);
  }
  pump(res);
}

/* ---- requests ---------------------------------------------------------- */

static np_job *find_in(np_node *list, const char *host, int family) {
  for (np_node *n = list->next; n != list; n = n->next) {
    np_job *j = np_container(n, np_job, node);
    if (j->family == family && strcasecmp(j->host, host) == 0) return j;
  }
  return NULL;
}

static np_job *job_for(np_resolver *res, const char *host, int family) {
  np_job *j = find_in(&res->running, host, family);
  if (!j) j = find_in(&res->queue, host, family);
  if (j) return j;
  j = calloc(1, sizeof *j);
  if (!j) return NULL;
  np_node_init(&j->node);
  np_node_init(&j->answered);
  np_node_init(&j->wanters);
  j->res = res;
  j->family = family;
  strcpy(j->host, host);
  np_node_append(&res->queue, &j->node);
  return j;
}

static int enqueue(np_resolve *r, int family) {
  np_resolver *res = resolver_of(r->obj.loop);
  if (!res) return -ENOMEM;
  int err = open_bell(res);
  if (err < 0) return err;
  np_job *j = job_for(res, r->host, family);
  if (j) {
    np_node_append(&j->wanters, &r->node);
    r->job = j;
  }
  pump(res);
  return j ? 0 : -ENOMEM;
}

/* RFC 6761 section 6.3: localhost and all names below it. */
static bool is_localhost(const char *host, size_t len) {
  static const char name[] = "localhost";
  size_t n = sizeof name - 1;
  if (len > 0 && host[len - 1] == '.') len--;
  return len >= n && strncasecmp(host + len - n, name, n) == 0 &&
         (len == n || host[len - n - 1] == '.');
}

static int answer_literal(np_resolve *r, const char *host, size_t len, int family) {
  np_addr a = {.scheme = NP_TCP, .host = host, .host_len = len, .port = r->port, .literal = true};
  r->addrs = calloc(1, sizeof *r->addrs);
  if (!r->addrs) return -ENOMEM;
  int err = np_addr_sockaddr(&a, family == AF_INET6, r->addrs);
  if (err < 0) return err;
  return family != AF_UNSPEC && r->addrs->ss.ss_family != family ? UV_EAI_NODATA : 1;
}

static int answer_localhost(np_resolve *r, int family) {
  r->addrs = calloc(2, sizeof *r->addrs);
  if (!r->addrs) return -ENOMEM;
  np_addr a = {.scheme = NP_TCP, .host = "::1", .host_len = 3, .port = r->port, .literal = true};
  int n = 0;
  if (family != AF_INET) np_assert(np_addr_sockaddr(&a, true, &r->addrs[n++]) == 0);
  a.host = "127.0.0.1";
  a.host_len = 9;
  if (family != AF_INET6) np_assert(np_addr_sockaddr(&a, false, &r->addrs[n++]) == 0);
  return n;
}

/* Without the pool: the answer, or -EAGAIN when the name has to be looked up. */
static int answer_now(np_resolve *r, const char *host, size_t len, int family) {
  if (len == 0 || is_localhost(host, len)) return answer_localhost(r, family);
  int n = answer_literal(r, host, len, family);
  if (n != -EINVAL) return n;
  free(r->addrs);
  r->addrs = NULL;
  return -EAGAIN;
}

int np_resolve_open(np_loop *l, np_ares *via, const char *host, size_t len, int port, int family,
                    np_resolve_fn *fn, void *owner, np_resolve **out) {
  if (len > NP_HOST_MAX) return -ENAMETOOLONG;
  if (memchr(host, 0, len)) return -EINVAL;
  np_resolve *r = calloc(1, sizeof *r);
  if (!r) return -ENOMEM;
  *r = (np_resolve){.fn = fn, .owner = owner, .port = port};
  np_node_init(&r->node);
  memcpy(r->host, host, len);
  np_object_init(&r->obj, l, &lookup_type);
  r->code = answer_now(r, host, len, family);
  int err = r->code == -ENOMEM ? -ENOMEM : 0;
  if (r->code == -EAGAIN) err = via ? ask(r, via, family) : enqueue(r, family);
  if (err < 0) np_resolve_close(r);
  else *out = r;
  return err;
}

int np_resolve_result(const np_resolve *r, const np_sockaddr **addrs) {
  if (r->job || r->asked) return -EAGAIN;
  *addrs = r->addrs;
  return r->code;
}

/* Nobody wants j any more. */
static void drop_job(np_resolver *res, np_job *j) {
  bool ours = true;
  if (j->started) {
    forget_running(res, j);
    pthread_mutex_lock(&res->lock);
    ours = np_node_linked(&j->answered);
    if (ours) np_node_remove(&j->answered);
    else j->abandoned = true;
    pthread_mutex_unlock(&res->lock);
  } else {
    np_node_remove(&j->node);
  }
  if (ours) np_job_free(j);
  pump(res);
}

void np_resolve_close(np_resolve *r) {
  np_job *j = r->job;
  np_node_remove(&r->node);
  if (j && !np_node_linked(&j->wanters)) drop_job(j->res, j);
  if (r->asked) np_asked_close(r->asked);
  np_object_done(&r->obj);
  free(r->addrs);
  free(r);
}
