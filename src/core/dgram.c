/* Datagram and record sockets: recvmsg and sendmsg, and the few things the kernel does not tell.
 *
 * Three traps are dealt with here.  A record socket's reset overtakes the records that came before
 * it: they are read first.  An AF_UNIX datagram socket without a peer polls writable even when the
 * receiver is full: such a send is tried again by the clock.  An empty record looks like the end:
 * credentials tell. */
#include "core/dgram.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cond.h"
#include "core/poll.h"
#include "core/timer.h"

/* The clock's tries at a full AF_UNIX receiver: from 1 ms doubling to 16 ms, a human would not
 * notice. */
enum { RETRY_FIRST_MS = 1, RETRY_LAST_MS = 16 };

struct np_dgram {
  np_object obj;
  np_poll poll;
  np_dgram_fn *fn;
  void *owner;
  int fd;
  int domain, type;
  bool was_blocking; /* inherited so; put back when it goes */
  bool readable;     /* recvmsg is worth trying */
  bool writable;     /* sendmsg is worth trying */
  bool info;         /* np_dgram_want_info was called */
  bool ended;        /* the end of records was read */
  int held;          /* a reset that waits until the records before it are read */
  np_lease lease;    /* of the scratch buffer that messages land in */
  char *big; /* the buffer of a message that did not fit there, or that is kept; freed by the next
                call */
  np_message *kept; /* a message whose failure was told first */
  np_timer retry;
  uint32_t retry_ms; /* the next try's distance; 0: none is planned */
};

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
  d->fd = fd;
  d->readable = d->writable = true;
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

static void drop_buffers(np_dgram *d) {
  free(d->big);
  d->big = NULL;
  np_scratch_drop(d->obj.loop, &d->lease);
}

int np_dgram_take(np_dgram *d) {
  int fd = d->fd;
  np_trace(d->obj.loop, "close", &d->obj, 0);
  np_poll_remove(d->obj.loop, &d->poll, false); /* never "closing": the socket may be shared */
  np_timer_remove(d->obj.loop, &d->retry);
  if (d->was_blocking) np_reblock(fd);
  drop_buffers(d);
  free(d->kept);
  np_object_done(&d->obj);
  free(d);
  return fd;
}

void np_dgram_close(np_dgram *d) { close(np_dgram_take(d)); }

/* ---- receiving ---- */

static int set_on(int fd, int level, int name) {
  return setsockopt(fd, level, name, &(int){1}, sizeof(int)) == 0 ? 0 : -errno;
}

int np_dgram_want_info(np_dgram *d) {
  if (d->info || (d->domain != AF_INET && d->domain != AF_INET6)) return 0;
  d->info = true;
  int r = 0;
  if (d->domain == AF_INET6) {
    r = set_on(d->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
    if (r == 0) r = set_on(d->fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
#ifdef __linux__ /* for what reaches a dual-stack socket over IPv4; others tell that by the IPv6   \
                    messages */
    if (r == 0) r = set_on(d->fd, IPPROTO_IP, IP_RECVTTL);
#endif
    return r;
  }
#ifdef IP_PKTINFO
  r = set_on(d->fd, IPPROTO_IP, IP_PKTINFO);
#endif
  return r < 0 ? r : set_on(d->fd, IPPROTO_IP, IP_RECVTTL);
}

static char *room_for(np_dgram *d, size_t max) {
  drop_buffers(d);
  if (max <= NP_SCRATCH_SIZE) return np_scratch_take(d->obj.loop, &d->lease);
  return d->big = malloc(max);
}

/* An IPv4 peer of an IPv6 socket is shown as what it is. */
static void unmap(np_sockaddr *a) {
  struct sockaddr_in6 six;
  if (a->ss.ss_family != AF_INET6) return;
  memcpy(&six, &a->ss, sizeof six);
  if (!IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) return;
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = six.sin6_port};
  memcpy(&four.sin_addr, &six.sin6_addr.s6_addr[12], 4);
  memset(&a->ss, 0, sizeof a->ss);
  memcpy(&a->ss, &four, sizeof four);
  a->len = sizeof four;
}

static ssize_t receive(np_dgram *d, char *buf, size_t max, np_message *m) {
  _Alignas(struct cmsghdr) char control[NP_CMSG_SPACE];
  struct iovec iov = {buf, max};
  struct msghdr h = {.msg_name = &m->from.ss,
                     .msg_namelen = sizeof m->from.ss,
                     .msg_iov = &iov,
                     .msg_iovlen = 1,
                     .msg_control = control,
                     .msg_controllen = sizeof control};
  int flags = MSG_DONTWAIT | MSG_TRUNC;
#ifdef MSG_CMSG_CLOEXEC
  flags |= MSG_CMSG_CLOEXEC;
#endif
  ssize_t n;
  do n = recvmsg(d->fd, &h, flags);
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
  unmap(&m->from);
  return n;
}

/* The kernel had descriptors for us but could not install all.  What came is useless as a set. */
static int keep_after_ctrunc(np_dgram *d, np_message *m) {
  int probe = fcntl(d->fd, F_DUPFD_CLOEXEC, 0); /* while those that came still take their places */
  np_ancillary_close(&m->with);
  m->with.nfds = 0;
  if (probe >= 0) close(probe);
  np_message *kept = malloc(sizeof *kept + m->len);
  if (kept) {
    *kept = *m;
    kept->data = memcpy(kept + 1, m->data, m->len);
    d->kept = kept;
  }
  return probe < 0 ? -EMFILE : -EMSGSIZE;
}

static int give_kept(np_dgram *d, size_t max, np_message *m) {
  drop_buffers(d);
  *m = *d->kept;
  d->big = (char *)d->kept; /* freed by the next call */
  d->kept = NULL;
  m->len = np_min(m->len, max);
  return 1;
}

static int wait_readable(np_dgram *d) {
  d->readable = false;
  drop_buffers(d);
  int r = np_poll_want(d->obj.loop, &d->poll, d->poll.want | NP_READABLE);
  return r < 0 ? r : 0;
}

static int end_of_records(np_dgram *d) {
  int held = d->held;
  d->ended = true;
  d->held = 0;
  return held < 0 ? held : NP_COND_END;
}

int np_dgram_recv(np_dgram *d, size_t max, np_message *m) {
  if (d->kept) return give_kept(d, max, m);
  if (d->ended) return NP_COND_END;
  if (!d->readable) return wait_readable(d);
  char *buf = room_for(d, max);
  if (!buf) return -ENOMEM;
  bool records = np_dgram_records(d);
  ssize_t n = receive(d, buf, max, m);
  if (n == -ECONNRESET &&
      records) { /* told once by the kernel, before the records that precede it */
    d->held = (int)n;
    n = receive(d, buf, max, m);
  }
  if (n == -EAGAIN) return d->held < 0 ? end_of_records(d) : wait_readable(d);
  if (n < 0) return (int)n;
  if (m->with.truncated_control) return keep_after_ctrunc(d, m);
  if (n == 0 && records && !m->with.has_cred) return end_of_records(d);
  return 1;
}

/* ---- sending ---- */

void np_dgram_map(const np_dgram *d, np_sockaddr *a) {
  struct sockaddr_in four;
  if (d->domain != AF_INET6 || a->ss.ss_family != AF_INET) return;
  memcpy(&four, &a->ss, sizeof four);
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four.sin_port};
  memset(&six.sin6_addr.s6_addr[10], 0xff, 2);
  memcpy(&six.sin6_addr.s6_addr[12], &four.sin_addr, 4);
  memset(&a->ss, 0, sizeof a->ss);
  memcpy(&a->ss, &six, sizeof six);
  a->len = sizeof six;
}

void np_dgram_sent_to(const np_dgram *d, const np_ancillary *w, np_sockaddr *out) {
  np_sockaddr local;
  bool six = w->to.ss_family == AF_INET6;
  *out = (np_sockaddr){w->to, six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)};
  unmap(out);
  if (np_socket_local(d->fd, &local) < 0) return;
  /* the port lies at the same place in both families */
  size_t at = offsetof(struct sockaddr_in, sin_port);
  memcpy((char *)&out->ss + at, (char *)&local.ss + at, sizeof(in_port_t));
}

/* poll(2) tells about the room at a connected AF_UNIX peer, not about any other's. */
static bool by_clock(const np_dgram *d, const np_sockaddr *to) {
  return d->domain == AF_UNIX && to;
}

static int wait_writable(np_dgram *d, const np_sockaddr *to) {
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

int np_dgram_send(np_dgram *d, const void *p, size_t n, const np_sockaddr *to, const int *fds,
                  int nfds) {
  _Alignas(struct cmsghdr) char control[NP_CMSG_SPACE];
  struct iovec iov = {(void *)(uintptr_t)p, n};
  struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
  if (to) {
    h.msg_name = (void *)(uintptr_t)&to->ss;
    h.msg_namelen = to->len;
  }
  if (nfds > 0) np_cmsg_put_fds(&h, control, fds, nfds);
  if (!d->writable && !by_clock(d, to)) return wait_writable(d, to);
  ssize_t r;
  do r = sendmsg(d->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (r < 0 && errno == EINTR);
  if (r < 0 && errno == EAGAIN) return wait_writable(d, to);
  d->retry_ms = 0;
  return r < 0 ? -errno : 0;
}

/* ---- state ---- */

int np_dgram_fd(const np_dgram *d) { return d->fd; }

np_scheme np_dgram_scheme(const np_dgram *d) {
  int s = np_scheme_of(d->domain, d->type);
  return s < 0 ? NP_RAW : (np_scheme)s;
}

bool np_dgram_records(const np_dgram *d) { return d->type == SOCK_SEQPACKET; }
np_object *np_dgram_object(np_dgram *d) { return &d->obj; }
