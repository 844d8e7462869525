/* The watcher's front, and its portable implementation over uv_poll_t.
 *
 * uv_poll_t's nature: level-triggered, so interest is dropped as soon as nobody wants a direction;
 * UV_EBADF means "an error is pending" and the handle has stopped: told as ready in every
 * direction, and started again by the next want. */
#include "core/poll.h"

#include <fcntl.h>
#include <stdlib.h>

#include "core/loop_impl.h"

int np_poll_add(np_loop *l, np_poll *p, int fd, int want, int flags) {
  np_assert(p->fd < 0 && fd >= 0);
  p->fd = fd;
  p->want = (uint8_t)want;
  p->flags = (uint8_t)flags;
  p->armed = 0;
  int r = l->poll->add(l, p);
  if (r < 0) p->fd = -1;
  return r;
}

int np_poll_want(np_loop *l, np_poll *p, int want) {
  p->want = (uint8_t)want;
  if (p->fd < 0 || p->armed == want) return 0;
  /* Less than the kernel was told is no reason to tell it: the next event that nobody wanted
   * does. */
  if ((p->armed & want) == want && !(p->flags & NP_POLL_LEVEL)) return 0;
  return l->poll->want(l, p);
}

void np_poll_remove(np_loop *l, np_poll *p, bool closing) {
  if (p->fd < 0) return;
  l->poll->remove(l, p, closing);
  p->fd = -1;
}

/* uv: the handle outlives the watcher until libuv has closed it, so it is its own allocation. */
typedef struct uvwatch {
  uv_poll_t handle;
  np_poll *p; /* NULL once removed */
} uvwatch;

static void uv_on_poll(uv_poll_t *h, int status, int events) {
  np_poll *p = np_container(h, uvwatch, handle)->p;
  np_loop *l = np_container(h->loop, np_loop, uv);
  int ev = 0;
  if (status < 0) {
    ev = NP_READABLE | NP_WRITABLE | NP_ERROR;
    p->armed = 0;
  }
  if (events & UV_READABLE) ev |= NP_READABLE;
  if (events & UV_WRITABLE) ev |= NP_WRITABLE;
  if (events & UV_DISCONNECT) ev |= NP_HANGUP | NP_READABLE;
  if (events & UV_PRIORITIZED) ev |= NP_ERROR;
  uvwatch *w = np_container(h, uvwatch, handle);
  p->on(p, ev);
  np_loop_event_done(l);
  /* Still watched: what nobody asked for again since must not fire again. */
  const int all = NP_READABLE | NP_WRITABLE | NP_ERROR;
  if (w->p && w->p->armed != (w->p->want & all)) l->poll->want(l, w->p);
}

static int uv_want(np_loop *l, np_poll *p) {
  uvwatch *w = p->impl;
  int ev = (p->want & NP_READABLE ? UV_READABLE : 0) | (p->want & NP_WRITABLE ? UV_WRITABLE : 0);
  if (p->want & NP_ERROR) ev |= UV_PRIORITIZED; /* with it libuv does not stop at an error */
  p->armed = p->want;
  np_loop_touch(l);
  return ev ? uv_poll_start(&w->handle, ev, uv_on_poll) : uv_poll_stop(&w->handle);
}

static int uv_add(np_loop *l, np_poll *p) {
  uvwatch *w = calloc(1, sizeof *w);
  if (!w) return -ENOMEM;
  /* uv_poll_init makes the descriptor non-blocking: not those in use by others in the mode they
   * came in */
  int mode = p->flags & NP_POLL_LEVEL ? fcntl(p->fd, F_GETFL) : -1;
  int r = uv_poll_init(&l->uv, &w->handle, p->fd);
  if (r < 0) {
    free(w);
    return r;
  }
  if (mode >= 0 && !(mode & O_NONBLOCK)) fcntl(p->fd, F_SETFL, mode);
  w->p = p;
  p->impl = w;
  return uv_want(l, p);
}

static void uv_closed(uv_handle_t *h) { free(np_container((uv_poll_t *)h, uvwatch, handle)); }

static void uv_remove(np_loop *l, np_poll *p, bool closing) {
  (void)closing;
  uvwatch *w = p->impl;
  w->p = NULL;
  uv_close((uv_handle_t *)&w->handle, uv_closed);
  np_loop_touch(l);
}

/* It only ends the wait. When it is due before uv_run has come to its poll, stopping keeps that
 * from blocking for ever. */
static void uv_on_timer(uv_timer_t *t) { uv_stop(t->loop); }

static int uv_open(np_loop *l) { return uv_timer_init(&l->uv, &l->uv_timer); }

static void uv_shut(np_loop *l) { uv_close((uv_handle_t *)&l->uv_timer, NULL); }

static int uv_wait(np_loop *l, int wait_ms) {
  l->touched = false;
  if (wait_ms == 0) {
    uv_run(&l->uv, UV_RUN_NOWAIT);
    return 0;
  }
  uv_update_time(&l->uv);
  if (wait_ms > 0) uv_timer_start(&l->uv_timer, uv_on_timer, (uint64_t)wait_ms, 0);
  uv_run(&l->uv, UV_RUN_ONCE);
  uv_timer_stop(&l->uv_timer);
  return 0;
}

static int uv_fd(np_loop *l) { return uv_backend_fd(&l->uv); }

const np_pollops np_poll_uv = {"uv", uv_open, uv_shut, uv_add, uv_want, uv_remove, uv_wait, uv_fd};
