/* Datagram and record sockets: recvmsg and sendmsg, and the few things the kernel does not tell.
 *
 * Three traps are dealt with here.  A record socket's reset overtakes the records that came before
 * it: they are read first.  An AF_UNIX datagram socket without a peer polls writable even when the
 * receiver is full: such a send is tried again by the clock.  An empty record looks like the end:
 * credentials tell. */
#include "core/dgram_impl.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cond.h"

/* The clock's tries at a full AF_UNIX receiver: from 1 ms doubling to 16 ms, a human would not
 * notice. */
enum { RETRY_FIRST_MS = 1, RETRY_LAST_MS = 16 };

/* ---- life ---- */

static int describe(np_object *o, char *buf, size_t size) {
  np_dgram *d = np_container(o, np_dgram, obj);
  np_sockaddr a;
  if (np_socket_local(d->fd, &a) < 0) return snprintf(buf, size, "fd %d", d->fd);
  return np_addr_print(np_dgram_scheme(d), (struct sockaddr *)&a.ss, a.len, buf, size);
}

static const np_objtype dgram_type = {"dgram", describe};

static void on_poll(np_poll *p, int events) {
  np_dgram *d = np_container(p, np_dgram, poll);
  int what = 0, fired = 0;
  if (events & (NP_READABLE | NP_HANGUP | NP_ERROR)) {
    d->readable = true;
    what |= NP_DGRAM_READ;
    fired |= NP_READABLE;
  }
  if (events & (NP_WRITABLE | NP_ERROR)) {
    d->writable = true;
    what |= NP_DGRAM_WRITE;
    fired |= NP_WRITABLE;
  }
  if (events & NP_ERROR && d->errors) {
    np_dgram_drain_errors(d);
    what |= NP_DGRAM_ERROR;
  }
  np_poll_want(d->obj.loop, p, p->want & ~fired);
  if (d->fn) d->fn(d->owner, what);
}

static void on_retry(np_timer *t) {
  np_dgram *d = np_container(t, np_dgram, retry);
  if (d->fn) d->fn(d->owner, NP_DGRAM_WRITE);
}

static void on_evict(np_lease *l) {
  (void)l;
} /* messages are copied out before anybody else runs */

static int examine(int fd, int *domain, int *type, bool *was_blocking) {
  *type = np_socket_type(fd);
  if (*type < 0) return *type;
  if (*type == SOCK_STREAM) return -EPROTOTYPE;
  *domain = np_socket_domain(fd);
  return *domain < 0 ? *domain : np_unblock(fd, was_blocking);
}

int np_dgram_new(np_loop *l, int fd, np_dgram **out) {
  np_dgram *d = calloc(1, sizeof *d);
  int r = d ? examine(fd, &d->domain, &d->type, &d->was_blocking) : -ENOMEM;
  if (r == 0) {
    np_poll_init(&d->poll, on_poll);
    r = np_poll_add(l, &d->poll, fd, 0, 0);
  }
  if (r < 0) {
    if (d && d->was_blocking) np_reblock(fd);
    free(d);
    close(fd);
    return r;
  }
#ifdef SO_PASSCRED
  if (d->domain == AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
#endif
  int scheme = np_scheme_of(d->domain, d->type, np_socket_protocol(fd));
  d->scheme = scheme < 0 ? NP_RAW : (np_scheme)scheme;
  d->flags = MSG_DONTWAIT | MSG_TRUNC;
#ifdef MSG_CMSG_CLOEXEC
  if (d->domain == AF_UNIX) d->flags |= MSG_CMSG_CLOEXEC;
#endif
  d->fd = fd;
  d->readable = d->writable = true;
  np_dgram_look(d);
  d->lease.evict = on_evict;
  np_timer_init(&d->retry, on_retry);
  np_object_init(&d->obj, l, &dgram_type);
  np_trace(l, "datagram", &d->obj, 0);
  *out = d;
  return 0;
}

void np_dgram_own(np_dgram *d, np_dgram_fn *fn, void *owner) {
  d->fn = fn;
  d->owner = owner;
}

void np_dgram_drop(np_dgram *d) {
  free(d->big);
  d->big = NULL;
  np_scratch_drop(d->obj.loop, &d->lease);
}

/* Messages that nobody took may have descriptors. */
static void drop_kept(np_dgram *d) {
  np_message m;
  while (np_dgram_next(d, 0, &m)) np_ancillary_close(&m.with);
  np_batch_free(d->batch);
}

int np_dgram_take(np_dgram *d) {
  int fd = d->fd;
  np_trace(d->obj.loop, "close", &d->obj, 0);
  np_poll_remove(d->obj.loop, &d->poll, false); /* never "closing": the socket may be shared */
  np_timer_remove(d->obj.loop, &d->retry);
  if (d->was_blocking) np_reblock(fd);
  np_dgram_drop(d);
  drop_kept(d);
  free(d->errors);
  np_object_done(&d->obj);
  free(d);
  return fd;
}

void np_dgram_close(np_dgram *d) { close(np_dgram_take(d)); }

/* ---- receiving ---- */

/* What was joined by UDP_GRO comes in one piece, however little is asked for. */
static size_t room_of(const np_dgram *d, size_t max) {
  return d->scheme == NP_UDP ? np_max(max, UINT16_MAX) : max;
}

static char *room_for(np_dgram *d, size_t size) {
  np_dgram_drop(d);
  if (size <= NP_SCRATCH_SIZE) return np_scratch_take(d->obj.loop, &d->lease);
  return d->big = malloc(size);
}

/* recvfrom and sendto instead of recvmsg and sendmsg, which read a header and write it back:
 * 9 % less CPU time per datagram and answer. */
static ssize_t receive_bare(np_dgram *d, char *buf, size_t size, size_t max, np_message *m) {
  static const struct msghdr nothing = {.msg_controllen = 0};
  socklen_t len = sizeof m->from.ss;
  ssize_t n;
  do n = recvfrom(d->fd, buf, size, d->flags, (struct sockaddr *)&m->from.ss, &len);
  while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  m->data = buf;
  m->full = (size_t)n;
  m->len = np_min((size_t)n, max);
  m->from.len = len;
  np_ancillary_parse(&nothing, &m->with);
  np_dgram_unmap(&m->from);
  return n;
}

static ssize_t receive_whole(np_dgram *d, char *buf, size_t size, size_t max, np_message *m) {
  _Alignas(struct cmsghdr) char control[NP_CMSG_SPACE];
  struct iovec iov = {buf, size};
  struct msghdr h = {.msg_name = &m->from.ss,
                     .msg_namelen = sizeof m->from.ss,
                     .msg_iov = &iov,
                     .msg_iovlen = 1,
                     .msg_control = control,
                     .msg_controllen = sizeof control};
  ssize_t n;
  do n = recvmsg(d->fd, &h, d->flags);
  while (n < 0 && errno == EINTR);
  if (n < 0) return -errno;
  m->data = buf;
  m->full = (size_t)n; /* MSG_TRUNC: the real length (Linux; elsewhere the length that fitted) */
  m->len = np_min((size_t)n, max);
  if (m->full == m->len && (h.msg_flags & MSG_TRUNC)) m->full = m->len + 1;
  m->from.len = h.msg_namelen;
  if (h.msg_namelen == 0)
    m->from.ss.ss_family = (sa_family_t)d->domain; /* an unnamed AF_UNIX socket */
  np_ancillary_parse(&h, &m->with);
  np_dgram_unmap(&m->from);
  return n;
}

static ssize_t receive(np_dgram *d, char *buf, size_t size, size_t max, np_message *m) {
  return np_likely(d->bare) ? receive_bare(d, buf, size, max, m)
                            : receive_whole(d, buf, size, max, m);
}

/* The kernel had descriptors for us but could not install all.  What came is useless as a set. */
static int keep_after_ctrunc(np_dgram *d, np_message *m) {
  int probe = fcntl(d->fd, F_DUPFD_CLOEXEC, 0); /* while those that came still take their places */
  np_ancillary_close(&m->with);
  m->with.nfds = 0;
  if (probe >= 0) close(probe);
  np_batch_keep(d, m); /* without memory for them its bytes are lost, too */
  return probe < 0 ? -EMFILE : -EMSGSIZE;
}

int np_dgram_wait_readable(np_dgram *d) {
  d->readable = false;
  np_dgram_drop(d);
  int r = np_poll_want(d->obj.loop, &d->poll, d->poll.want | NP_READABLE);
  return r < 0 ? r : 0;
}

static int end_of_records(np_dgram *d) {
  int held = d->held;
  d->ended = true;
  d->held = 0;
  return held < 0 ? held : NP_COND_END;
}

/* Several datagrams that UDP_GRO joined: they are given one by one. */
static int split(np_dgram *d, size_t max, np_message *m) {
  m->len = m->full; /* room_of left room for all of it */
  int r = np_batch_keep(d, m);
  if (r == 0) np_dgram_next(d, max, m);
  return r < 0 ? r : 1;
}

static ssize_t receive_any(np_dgram *d, char *buf, size_t size, size_t max, np_message *m) {
  ssize_t n = receive(d, buf, size, max, m);
  /* the kernel tells it once, before the records that precede it */
  if (n == -ECONNRESET && np_dgram_records(d)) {
    d->held = (int)n;
    n = receive(d, buf, size, max, m);
  }
  /* ICMP errors are told by their queue */
  while (n < 0 && n != -EAGAIN && d->errors && np_dgram_drain_errors(d))
    n = receive(d, buf, size, max, m);
  return n;
}

int np_dgram_recv(np_dgram *d, size_t max, np_message *m) {
  if (np_unlikely(d->kept) && np_dgram_next(d, max, m)) return 1;
  if (d->ended) return NP_COND_END;
  if (!d->readable) return np_dgram_wait_readable(d);
  size_t size = room_of(d, max);
  char *buf = room_for(d, size);
  if (!buf) return -ENOMEM;
  ssize_t n = receive_any(d, buf, size, max, m);
  if (n == -EAGAIN) return d->held < 0 ? end_of_records(d) : np_dgram_wait_readable(d);
  if (n < 0) return (int)n;
  if (m->with.truncated_control) return keep_after_ctrunc(d, m);
  if (n == 0 && np_dgram_records(d) && !m->with.has_cred) return end_of_records(d);
  return np_unlikely(m->with.segment > 0) ? split(d, max, m) : 1;
}

/* ---- sending ---- */

/* poll(2) tells about the room at a connected AF_UNIX peer, not about any other's. */
static bool by_clock(const np_dgram *d, const np_sockaddr *to) {
  return d->domain == AF_UNIX && to;
}

int np_dgram_wait_writable(np_dgram *d, const np_sockaddr *to) {
  np_loop *l = d->obj.loop;
  if (!by_clock(d, to)) {
    d->writable = false;
    int r = np_poll_want(l, &d->poll, d->poll.want | NP_WRITABLE);
    return r < 0 ? r : 1;
  }
  d->retry_ms = d->retry_ms ? (uint32_t)np_min(d->retry_ms * 2, RETRY_LAST_MS) : RETRY_FIRST_MS;
  int r = np_timer_set(l, &d->retry, np_loop_now(l) + d->retry_ms * NP_MS);
  return r < 0 ? r : 1;
}

static ssize_t transmit(np_dgram *d, const struct msghdr *h) {
  ssize_t r;
  const struct iovec *v = h->msg_iov;
  int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  do
    r = h->msg_controllen > 0
          ? sendmsg(d->fd, h, flags)
          : sendto(d->fd, v->iov_base, v->iov_len, flags, h->msg_name, h->msg_namelen);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : r;
}

int np_dgram_send(np_dgram *d, const void *p, size_t n, const np_sockaddr *to,
                  const np_sendwith *with) {
  _Alignas(struct cmsghdr) char control[NP_CMSG_SPACE];
  struct iovec iov = {(void *)(uintptr_t)p, n};
  struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
  if (to) {
    h.msg_name = (void *)(uintptr_t)&to->ss;
    h.msg_namelen = to->len;
  }
  if (with) np_dgram_put_with(d, with, np_dgram_over_four(d, to), &h, control);
  if (!d->writable && !by_clock(d, to)) return np_dgram_wait_writable(d, to);
  ssize_t r = transmit(d, &h);
  /* an earlier message's failure is not this one's; -EMSGSIZE is always its own */
  if (r < 0 && r != -EAGAIN && r != -EMSGSIZE && d->errors && np_dgram_drain_errors(d))
    r = transmit(d, &h);
  if (r == -EAGAIN) return np_dgram_wait_writable(d, to);
  d->retry_ms = 0;
  return r < 0 ? (int)r : 0;
}

/* ---- state ---- */

int np_dgram_fd(const np_dgram *d) { return d->fd; }
int np_dgram_domain(const np_dgram *d) { return d->domain; }

np_scheme np_dgram_scheme(const np_dgram *d) { return d->scheme; }

bool np_dgram_records(const np_dgram *d) { return d->type == SOCK_SEQPACKET; }
np_object *np_dgram_object(np_dgram *d) { return &d->obj; }
