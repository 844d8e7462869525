/* The watcher: the only place that knows what readiness comes from.
 *
 * Two implementations stand behind these calls: an edge-triggered epoll set of our own (Linux; each
 * descriptor is registered once) and uv_poll_t (portable). Users treat both alike: after an event a
 * direction counts as ready until a read or write says EAGAIN; before waiting, np_poll_want names
 * the directions waited for. */
#ifndef NP_POLL_H
#define NP_POLL_H

#include "core/loop.h"

enum { NP_READABLE = 1, NP_WRITABLE = 2, NP_HANGUP = 4, NP_ERROR = 8 };

/* Flags of np_poll_add. */
enum {
  NP_POLL_LEVEL = 1, /* keep telling while it is ready: listeners, descriptors in blocking mode */
  /* With LEVEL, for reading only: of the processes that wait, an event wakes one, where the watcher
   * can do that (EPOLLEXCLUSIVE). Whoever has left and comes back is the last to be woken. */
  NP_POLL_ONE = 2,
};

typedef struct np_poll {
  /* NP_* bits; HANGUP: the peer finished writing or is gone */
  void (*on)(struct np_poll *p, int events);
  int fd;        /* -1: not watched */
  uint8_t flags; /* NP_POLL_* */
  uint8_t want;  /* what np_poll_want said last */
  uint8_t armed; /* what the kernel was told */
  uint32_t gen;  /* tells a stale event of a reused number from ours */
  void *impl;    /* uv: its handle */
} np_poll;

static inline void np_poll_init(np_poll *p, void (*on)(np_poll *, int)) {
  *p = (np_poll){.on = on, .fd = -1};
}

/* Watches fd for `want`.  0, -EPERM (a regular file: always ready), or another error. */
int np_poll_add(np_loop *l, np_poll *p, int fd, int want, int flags);

/* Names the directions the owner waits for now.  Free where the kernel need not be told. NP_ERROR
 * among them: an error is told even while no direction is wanted (datagrams' error queues). */
int np_poll_want(np_loop *l, np_poll *p, int want);

/* Stops watching. Call it before the descriptor is closed, passed or given to a child; `closing`
 * says that close(2) of an unshared descriptor follows at once, which lets the kernel forget it by
 * itself. */
void np_poll_remove(np_loop *l, np_poll *p, bool closing);

#endif
