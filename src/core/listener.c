/* Listeners: their sockets, and when accepting is worth a call.
 *
 * Accepting itself, with every shortage of the kernel, is listener_accept.c; mem: names, which
 * need no socket, are listener_mem.c. */
#include "core/listener.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/listener_impl.h"

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

static void on_deliver(np_later *w);

int np_listener_new(np_loop *l, np_listener **out) {
  int reserve = np_listener_open_reserve();
  if (reserve < 0) return -errno;
  np_listener *s = calloc(1, sizeof *s);
  if (!s) {
    close(reserve);
    return -ENOMEM;
  }
  s->reserve = reserve;
  np_node_init(&s->queue);
  np_timer_init(&s->rest, np_listener_on_rest);
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

void np_listener_close(np_listener *s) {
  np_loop *l = s->obj.loop;
  np_trace(l, "close", &s->obj, 0);
  for (int i = 0; i < s->n; i++) close(release(s, s->socks[i]));
  while (np_node_linked(&s->queue)) {
    np_transport *t = np_listener_pop(s);
    t->ops->close(t, true);
  }
  if (s->name) np_listener_forget_name(s);
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

void np_listener_tell(np_listener *s, int what) {
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
  np_listener_tell(s, NP_LISTENER_ACCEPT);
}

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
    if (r == -ENOMEM || r == -ENOSPC) r = np_listener_starved(s, r);
    if (r < 0) return r;
  }
  return 0;
}

int np_listener_ready(const np_listener *s) {
  int n = s->queued;
  for (int i = 0; !s->paused && i < s->n; i++) n += s->socks[i]->left;
  return n;
}

/* What has to be told from the loop: connections to a mem: name, and the shortage of
 * descriptors. */
static void on_deliver(np_later *w) {
  np_listener *s = np_container(w, np_listener, deliver);
  if (s->lack) np_listener_tell(s, NP_LISTENER_STARVED);
  s->lack = 0;
  if (!s->waiting || s->queued == 0) return;
  s->waiting = false;
  np_listener_tell(s, NP_LISTENER_ACCEPT);
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
