/* Lookups: one job per name and family, any number of requests (np_resolve) that want its answer.
 *
 * A job waits in the queue, then runs on a thread.  While it runs, `abandoned` (under the lock)
 * decides who frees it. Threads announce their answers through an eventfd, which exists only while
 * somebody wants a job: an idle loop holds no descriptor for names. */
#include "core/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include "core/poll.h"

/* What a loop and its lookup threads share; freed by the last of them. */
typedef struct resolver {
  pthread_mutex_t lock;
  int threads;      /* under lock: lookups that run, abandoned ones included */
  int efd;          /* written under lock: wakes the loop; -1: nobody wants anything */
  bool orphan;      /* under lock: the loop is gone */
  np_node answered; /* under lock: job.answered */

  np_loop *loop;   /* from here on the loop's thread only */
  np_poll poll;    /* of efd */
  np_node queue;   /* job.node, in order */
  np_node running; /* job.node: with a thread, and wanted */
  int nrunning;    /* length of running */
} resolver;

typedef struct job {
  np_node node;     /* in queue or running */
  np_node answered; /* under lock: in resolver.answered */
  np_node wanters;  /* np_resolve.node; never empty while the job is in a list */
  resolver *res;
  struct addrinfo *list;
  int code;
  bool started;   /* in running */
  bool abandoned; /* under lock: the thread frees it */
  int family;
  char host[NP_HOST_MAX + 1];
} job;

struct np_resolve {
  np_object obj;
  np_node node; /* in job.wanters; while answers are told, in a list of those still to tell */
  job *job;     /* NULL: answered */
  np_resolve_fn *fn;
  void *owner;
  int port;
  int code; /* number of addresses or the failure */
  np_sockaddr *addrs;
  char host[NP_HOST_MAX + 1];
};

static int describe(np_object *o, char *buf, size_t size) {
  np_resolve *r = np_container(o, np_resolve, obj);
  return snprintf(buf, size, "%s %s", r->host, r->job ? "running" : "answered");
}

static const np_objtype lookup_type = {"lookup", describe};

/* libc's EAI_* -> libuv's, which the error table knows. */
static int eai_code(int eai) {
  static const struct {
    int eai, code;
  } map[] = {
    {EAI_ADDRFAMILY, UV_EAI_ADDRFAMILY}, {EAI_AGAIN, UV_EAI_AGAIN},
    {EAI_BADFLAGS, UV_EAI_BADFLAGS},     {EAI_FAIL, UV_EAI_FAIL},
    {EAI_FAMILY, UV_EAI_FAMILY},         {EAI_MEMORY, UV_EAI_MEMORY},
    {EAI_NODATA, UV_EAI_NODATA},         {EAI_NONAME, UV_EAI_NONAME},
    {EAI_OVERFLOW, UV_EAI_OVERFLOW},     {EAI_SERVICE, UV_EAI_SERVICE},
    {EAI_SOCKTYPE, UV_EAI_SOCKTYPE},
  };
  for (size_t i = 0; i < np_countof(map); i++)
    if (map[i].eai == eai) return map[i].code;
  return UV_EAI_FAIL;
}

static void job_free(job *j) {
  if (j->list) freeaddrinfo(j->list);
  free(j);
}

static void resolver_free(resolver *res) {
  pthread_mutex_destroy(&res->lock);
  free(res);
}

/* ---- threads ----------------------------------------------------------- */

/* Under the lock. */
static void announce(resolver *res, job *j) {
  uint64_t one = 1;
  if (j->abandoned) job_free(j);
  else np_node_append(&res->answered, &j->answered);
  if (res->efd >= 0 && write(res->efd, &one, sizeof one) < 0)
    np_assert(errno == EAGAIN); /* full: it rings */
}

static void *thread_main(void *arg) {
  job *j = arg;
  resolver *res = j->res;
  struct addrinfo hints = {.ai_family = j->family, .ai_socktype = SOCK_STREAM};
  int eai = getaddrinfo(j->host, NULL, &hints, &j->list);
  j->code = eai == EAI_SYSTEM ? -errno : eai ? eai_code(eai) : 0;

  pthread_mutex_lock(&res->lock);
  res->threads--;
  announce(res, j);
  bool last = res->orphan && res->threads == 0;
  pthread_mutex_unlock(&res->lock);
  if (last) resolver_free(res);
  return NULL;
}

/* Signals are for the thread that runs the loop. */
static int start_thread(job *j) {
  pthread_attr_t attr;
  pthread_t thread;
  sigset_t all, old;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int err = pthread_create(&thread, &attr, thread_main, j);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  return -err;
}

/* From the queue to a thread.  A job that gets none is answered with that failure, in the usual
 * way. */
static void start(resolver *res, job *j) {
  np_node_remove(&j->node);
  np_node_append(&res->running, &j->node);
  res->nrunning++;
  j->started = true;
  pthread_mutex_lock(&res->lock);
  res->threads++;
  pthread_mutex_unlock(&res->lock);
  int r = start_thread(j);
  if (r == 0) return;
  pthread_mutex_lock(&res->lock);
  res->threads--;
  j->code = r;
  announce(res, j);
  pthread_mutex_unlock(&res->lock);
}

static bool may_start(resolver *res) {
  pthread_mutex_lock(&res->lock);
  bool room = res->threads < NP_RESOLVE_THREADS;
  pthread_mutex_unlock(&res->lock);
  return room && res->nrunning < NP_RESOLVE_RUNNING && np_node_linked(&res->queue);
}

/* ---- the loop's side --------------------------------------------------- */

static void on_answers(np_poll *p, int events);

/* The eventfd lives as long as somebody wants a job. */
static int open_bell(resolver *res) {
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

static void close_bell(resolver *res) {
  if (res->efd < 0) return;
  np_poll_remove(res->loop, &res->poll, true);
  pthread_mutex_lock(&res->lock);
  close(res->efd);
  res->efd = -1;
  pthread_mutex_unlock(&res->lock);
  np_loop_busy_add(res->loop, -1);
}

static void pump(resolver *res) {
  while (may_start(res)) start(res, np_container(res->queue.next, job, node));
  if (!np_node_linked(&res->queue) && !np_node_linked(&res->running)) close_bell(res);
}

static resolver *resolver_of(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_RESOLVE);
  if (*slot) return *slot;
  resolver *res = calloc(1, sizeof *res);
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
  resolver *res = *slot;
  if (!res) return;
  *slot = NULL;
  np_assert(res->efd < 0); /* every np_resolve was closed */
  pthread_mutex_lock(&res->lock);
  res->orphan = true;
  bool last = res->threads == 0;
  pthread_mutex_unlock(&res->lock);
  if (last) resolver_free(res);
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

/* Everybody who wants j gets the answer before anybody is told: a callback may close any
 * request. */
static void answer(job *j) {
  np_node tell;
  np_node_init(&tell);
  while (np_node_linked(&j->wanters)) {
    np_resolve *r = np_container(j->wanters.next, np_resolve, node);
    np_node_remove(&r->node);
    np_node_append(&tell, &r->node);
    r->job = NULL;
    r->code = j->code < 0 ? j->code : copy_answer(r, j->list);
  }
  job_free(j);
  while (np_node_linked(&tell)) {
    np_resolve *r = np_container(tell.next, np_resolve, node);
    np_node_remove(&r->node);
    np_trace(r->obj.loop, "resolve", &r->obj, r->code < 0 ? r->code : 0);
    r->fn(r->owner);
  }
}

static job *next_answer(resolver *res) {
  job *j = NULL;
  pthread_mutex_lock(&res->lock);
  if (np_node_linked(&res->answered)) {
    j = np_container(res->answered.next, job, answered);
    np_node_remove(&j->answered);
  }
  pthread_mutex_unlock(&res->lock);
  return j;
}

static void forget_running(resolver *res, job *j) {
  np_node_remove(&j->node);
  res->nrunning--;
}

static void on_answers(np_poll *p, int events) {
  (void)events;
  resolver *res = np_container(p, resolver, poll);
  uint64_t count;
  if (read(res->efd, &count, sizeof count) < 0 && errno != EAGAIN) return;
  for (job *j; (j = next_answer(res));) {
    forget_running(res, j);
    answer(j);
  }
  pump(res);
}

/* ---- requests ---------------------------------------------------------- */

static job *find_in(np_node *list, const char *host, int family) {
  for (np_node *n = list->next; n != list; n = n->next) {
    job *j = np_container(n, job, node);
    if (j->family == family && strcasecmp(j->host, host) == 0) return j;
  }
  return NULL;
}

static job *job_for(resolver *res, const char *host, int family) {
  job *j = find_in(&res->running, host, family);
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
  resolver *res = resolver_of(r->obj.loop);
  if (!res) return -ENOMEM;
  int err = open_bell(res);
  if (err < 0) return err;
  job *j = job_for(res, r->host, family);
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

int np_resolve_open(np_loop *l, const char *host, size_t len, int port, int family,
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
  int err = r->code == -EAGAIN ? enqueue(r, family) : r->code == -ENOMEM ? -ENOMEM : 0;
  if (err < 0) np_resolve_close(r);
  else *out = r;
  return err;
}

int np_resolve_result(const np_resolve *r, const np_sockaddr **addrs) {
  if (r->job) return -EAGAIN;
  *addrs = r->addrs;
  return r->code;
}

/* Nobody wants j any more. */
static void drop_job(resolver *res, job *j) {
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
  if (ours) job_free(j);
  pump(res);
}

void np_resolve_close(np_resolve *r) {
  job *j = r->job;
  np_node_remove(&r->node);
  np_object_done(&r->obj);
  free(r->addrs);
  free(r);
  if (j && !np_node_linked(&j->wanters)) drop_job(j->res, j);
}
