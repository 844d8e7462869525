/* Listeners, accepting: how many at a time, and what to do when the kernel is short of something.
 *
 * An event allows a socket some accepts without another event: 1 at first, doubled whenever they
 * were all used, back to 1 when one found nothing.  So a lone connection costs one accept4 and a
 * storm one event for 16. Nothing is accepted ahead of the owner, so nothing accepted can be
 * lost. */
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "core/listener_impl.h"
#include "core/stream.h"

/* Events for which a socket stays at one accept after a guess of two was wrong; doubled with each
 * wrong guess, so connections that come one by one pay for a useless accept once in 32. */
enum { HOLD_MAX = 31 };

int np_listener_open_reserve(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

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

void np_listener_on_rest(np_timer *t) {
  np_listener *s = np_container(t, np_listener, rest);
  s->paused = false;
  if (s->reserve < 0) s->reserve = np_listener_open_reserve();
  if (s->waiting) np_listener_wait(s);
}

/* Nobody can be served: the backlog keeps the others while this rests, and that is said once a
 * second.  Without memory for the timer it goes on at once, which is no worse than the shortage
 * itself. */
int np_listener_starved(np_listener *s, int code) {
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
  s->reserve = np_listener_open_reserve();
}

/* Out of descriptors, which accept(2) says before it looks for a connection: first, whether one is
 * there.  A lingerer is owed less than a new client; when there is none, the oldest in the backlog
 * is turned away, so that it learns of it now instead of waiting for nothing. */
static int no_descriptor(np_listener *s, lsock *k, int code, np_accepted *a) {
  struct pollfd p = {.fd = k->fd, .events = POLLIN};
  if (poll(&p, 1, 0) == 0) {
    found_none(k);
    return -EAGAIN;
  }
  if (np_linger_shed(s->obj.loop)) {
    int r = np_socket_accept(k->fd, &a->peer);
    if (r >= 0) {
      a->fd = r;
      return 0;
    }
    if (r != -EMFILE && r != -ENFILE) return -EAGAIN; /* it has gone: the watcher tells of more */
  }
  shed_one(s, k);
  np_listener_starved(s, code);
  return -EAGAIN;
}

bool np_listener_refused(np_listener *s, int code) {
  if (code != -ENOMEM && code != -ENOSPC && code != -ENOBUFS) return false;
  s->shed++;
  np_listener_starved(s, code);
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
      np_listener_starved(s, r);
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
    a->mem = np_listener_pop(s);
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
