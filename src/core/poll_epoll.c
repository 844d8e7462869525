/* The watcher on Linux: an edge-triggered epoll set of our own.
 *
 * Each descriptor is registered once, for reading; writing is added the first time it is waited for
 * and then stays. libuv's set is a member: when it fires, libuv runs once without waiting. Events
 * carry the descriptor number and a generation, so one that belongs to a closed descriptor is
 * recognised and dropped, and closing needs no EPOLL_CTL_DEL. */
#ifdef __linux__
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/loop_impl.h"

enum { BATCH = 128 }; /* events per wait: more only delays timers */

/* The generation of libuv's set: ours begin at 1. */
enum { GEN_UV = 0 };

static uint32_t events_of(const np_poll *p) {
  if (p->flags & NP_POLL_ONE) return EPOLLIN | EPOLLEXCLUSIVE; /* takes no EPOLLRDHUP, and no MOD */
  uint32_t ev = EPOLLRDHUP;
  if (!(p->flags & NP_POLL_LEVEL)) ev |= EPOLLET | EPOLLIN | EPOLLPRI;
  else if (p->want & NP_READABLE) ev |= EPOLLIN;
  if (p->want & NP_WRITABLE) ev |= EPOLLOUT;
  return ev;
}

static int control(np_loop *l, np_poll *p, int op) {
  struct epoll_event ev = {.events = events_of(p)};
  ev.data.u64 = (uint64_t)p->gen << 32 | (uint32_t)p->fd;
  if (epoll_ctl(l->epfd, op, p->fd, &ev) < 0) return -errno;
  p->armed = p->want;
  if (!(p->flags & NP_POLL_LEVEL)) p->armed |= NP_READABLE;
  return 0;
}

static int ep_open(np_loop *l) {
  l->epfd = epoll_create1(EPOLL_CLOEXEC);
  if (l->epfd < 0) return -errno;
  struct epoll_event ev = {.events = EPOLLIN};
  ev.data.u64 = (uint64_t)GEN_UV << 32;
  if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, uv_backend_fd(&l->uv), &ev) == 0) return 0;
  int err = -errno;
  close(l->epfd);
  return err;
}

static void ep_close(np_loop *l) { close(l->epfd); }

static int make_room(np_loop *l, int fd) {
  if (fd < l->nwatch) return 0;
  int n = l->nwatch ? l->nwatch : 64;
  while (n <= fd) n *= 2;
  np_poll **watch = realloc(l->watch, (size_t)n * sizeof *watch);
  if (!watch) return -ENOMEM;
  memset(watch + l->nwatch, 0, (size_t)(n - l->nwatch) * sizeof *watch);
  l->watch = watch;
  l->nwatch = n;
  return 0;
}

static int ep_add(np_loop *l, np_poll *p) {
  int r = make_room(l, p->fd);
  if (r < 0) return r;
  if (++l->gen == GEN_UV) l->gen = 1;
  p->gen = l->gen;
  p->impl = l; /* in the kernel's set; NULL: level-triggered and out of it */
  r = control(l, p, EPOLL_CTL_ADD);
  if (r == 0) l->watch[p->fd] = p;
  return r;
}

static int ep_want(np_loop *l, np_poll *p) {
  if (!(p->flags & NP_POLL_LEVEL)) {
    int only_more = p->want | p->armed;
    p->want = (uint8_t)only_more;
    return control(l, p, EPOLL_CTL_MOD);
  }
  if (!p->want) { /* hang-ups cannot be masked: it has to leave the set */
    if (p->impl && epoll_ctl(l->epfd, EPOLL_CTL_DEL, p->fd, NULL) < 0) return -errno;
    p->armed = 0;
    p->impl = NULL;
    return 0;
  }
  int r = control(l, p, p->impl ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
  if (r == 0) p->impl = l;
  return r;
}

static void ep_remove(np_loop *l, np_poll *p, bool closing) {
  l->watch[p->fd] = NULL;
  if (!closing && p->impl) epoll_ctl(l->epfd, EPOLL_CTL_DEL, p->fd, NULL);
}

static int translate(uint32_t e) {
  int ev = 0;
  if (e & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) ev |= NP_READABLE;
  if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR)) ev |= NP_WRITABLE;
  /* at an urgent byte too a read stops short though more is there (tcp(7)) */
  if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLPRI)) ev |= NP_HANGUP;
  if (e & EPOLLERR) ev |= NP_ERROR;
  return ev;
}

static void dispatch(np_loop *l, const struct epoll_event *e) {
  uint32_t gen = (uint32_t)(e->data.u64 >> 32), fd = (uint32_t)e->data.u64;
  np_poll *p = l->watch[fd];
  if (!p || p->gen != gen) return; /* stale: the number was closed or reused since */
  p->on(p, translate(e->events));
  np_loop_event_done(l);
}

static int ep_wait(np_loop *l, int wait_ms) {
  int uv_ms = uv_backend_timeout(&l->uv);
  bool run_uv = l->touched || uv_ms == 0;
  if (run_uv) {
    l->touched = false;
    uv_run(&l->uv, UV_RUN_NOWAIT);
    uv_ms = uv_backend_timeout(&l->uv);
    wait_ms = 0; /* its callbacks may have made work */
  } else if (uv_ms > 0 && (wait_ms < 0 || uv_ms < wait_ms)) {
    wait_ms = uv_ms;
  }
  struct epoll_event ev[BATCH];
  int n = epoll_wait(l->epfd, ev, BATCH, wait_ms);
  if (n < 0) return errno == EINTR ? 0 : -errno;
  bool uv_due = false;
  for (int i = 0; i < n; i++) {
    if ((uint32_t)(ev[i].data.u64 >> 32) == GEN_UV) uv_due = true;
    else dispatch(l, &ev[i]);
  }
  if (uv_due || (uv_ms >= 0 && wait_ms == uv_ms)) uv_run(&l->uv, UV_RUN_NOWAIT);
  return 0;
}

static int ep_fd(np_loop *l) { return l->epfd; }

const np_pollops np_poll_epoll = {"epoll", ep_open,   ep_close, ep_add,
                                  ep_want, ep_remove, ep_wait,  ep_fd};
#endif
