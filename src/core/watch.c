/* Watching files by inotify(7) (see watch.h): one descriptor per watcher, so closing one is all. */
#include "core/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/poll.h"

#ifdef __linux__
#include <limits.h>
#include <sys/inotify.h>

struct np_watcher {
  np_object obj;
  np_poll poll;
  int fd;
  bool readable, ended;
  np_watcher_fn *fn;
  void *owner;
  size_t off, len; /* events read and not told: buf[off..len) */
  _Alignas(struct inotify_event) char buf[4096];
};

_Static_assert(sizeof(((np_watcher *)0)->buf) > sizeof(struct inotify_event) + NAME_MAX,
               "one fits");

static int describe(np_object *o, char *buf, size_t size) {
  return snprintf(buf, size, "inotify %d", np_container(o, np_watcher, obj)->fd);
}

static const np_objtype watcher_type = {"watcher", describe};

/* In the order of asking: IN_IGNORED comes with or after the others that end it. */
static const struct {
  uint32_t bit;
  const char *what;
} names[] = {
  {IN_CREATE, "create"},       {IN_DELETE, "delete"},       {IN_MODIFY, "modify"},
  {IN_CLOSE_WRITE, "written"}, {IN_ATTRIB, "attrib"},       {IN_MOVED_FROM, "moved_from"},
  {IN_MOVED_TO, "moved_to"},   {IN_MOVE_SELF, "moved"},     {IN_DELETE_SELF, "gone"},
  {IN_UNMOUNT, "gone"},        {IN_Q_OVERFLOW, "overflow"},
};

static void on_poll(np_poll *p, int events) {
  np_watcher *w = np_container(p, np_watcher, poll);
  w->readable = true;
  np_poll_want(w->obj.loop, p, p->want & ~events);
  w->fn(w->owner);
}

int np_watcher_open(np_loop *l, const char *path, np_watcher_fn *fn, void *owner,
                    np_watcher **out) {
  np_watcher *w = calloc(1, sizeof *w);
  if (!w) return -ENOMEM;
  w->fn = fn;
  w->owner = owner;
  np_poll_init(&w->poll, on_poll);
  uint32_t mask = 0;
  for (size_t i = 0; i < np_countof(names); i++) mask |= names[i].bit;
  w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  int r = w->fd < 0 || inotify_add_watch(w->fd, path, mask & IN_ALL_EVENTS) < 0 ? -errno : 0;
  if (r == 0) r = np_poll_add(l, &w->poll, w->fd, NP_READABLE, 0);
  if (r < 0) {
    if (w->fd >= 0) close(w->fd);
    free(w);
    return r;
  }
  np_object_init(&w->obj, l, &watcher_type);
  *out = w;
  return 0;
}

void np_watcher_close(np_watcher *w) {
  np_poll_remove(w->obj.loop, &w->poll, true);
  close(w->fd);
  np_object_done(&w->obj);
  free(w);
}

/* > 0: events are here. 0: none yet. */
static int fill(np_watcher *w) {
  w->off = w->len = 0;
  if (!w->readable) return 0;
  ssize_t n;
  do n = read(w->fd, w->buf, sizeof w->buf);
  while (n < 0 && errno == EINTR);
  if (n > 0) w->len = (size_t)n;
  if (n < 0 && errno == EAGAIN) {
    w->readable = false;
    np_poll_want(w->obj.loop, &w->poll, NP_READABLE);
    return 0;
  }
  return n < 0 ? -errno : n > 0;
}

/* The event's name; false: it says nothing. */
static bool take(np_watcher *w, const struct inotify_event *e, np_watched *out) {
  if (e->mask & IN_IGNORED) w->ended = true;
  for (size_t i = 0; i < np_countof(names); i++) {
    if (!(e->mask & names[i].bit)) continue;
    *out = (np_watched){names[i].what, e->len > 0 ? e->name : NULL, e->mask & IN_ISDIR};
    return true;
  }
  return false;
}

int np_watcher_next(np_watcher *w, np_watched *out) {
  for (;;) {
    if (w->ended) return NP_WATCH_END;
    int r = w->off < w->len ? 1 : fill(w);
    if (r <= 0) return r;
    const struct inotify_event *e = (const void *)(w->buf + w->off);
    w->off += sizeof *e + e->len;
    if (take(w, e, out)) return 1;
  }
}

#else

int np_watcher_open(np_loop *l, const char *path, np_watcher_fn *fn, void *owner,
                    np_watcher **out) {
  (void)l, (void)path, (void)fn, (void)owner, (void)out;
  return -ENOSYS;
}

int np_watcher_next(np_watcher *w, np_watched *out) {
  (void)w, (void)out;
  return -ENOSYS;
}

void np_watcher_close(np_watcher *w) { (void)w; }

#endif
