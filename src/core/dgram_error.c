/* The error queue of IP datagram sockets: what ICMP said about messages that were sent.
 *
 * Whoever asks for it gets failures apart from messages: recv and send go on, and each report names
 * the destination it is about, which alone makes it useful on a socket with many.  The kernel's
 * queue is moved into a ring at once, because it keeps the socket "in error" while it holds
 * anything; when nobody takes the reports the oldest go. ip(7), IP_RECVERR. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h> /* linux/errqueue.h wants struct timespec */
#ifdef __linux__
#include <linux/errqueue.h>
#endif

#include "core/dgram_impl.h"

enum { RING = 64 };

struct np_errorring {
  int first, count;
  np_dgram_error at[RING];
};

#ifdef __linux__
static void push(np_errorring *q, const np_dgram_error *e) {
  q->at[(q->first + q->count) % RING] = *e;
  if (q->count < RING) q->count++;
  else q->first = (q->first + 1) % RING;
}

/* The offender's address follows the fixed part, if it is known. */
static void read_offender(np_dgram_error *e, const char *p, size_t n) {
  struct sockaddr sa;
  if (n < sizeof sa) return;
  memcpy(&sa, p, sizeof sa);
  size_t len = sa.sa_family == AF_INET    ? sizeof(struct sockaddr_in)
               : sa.sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : 0;
  if (len == 0 || len > n) return;
  memcpy(&e->from.ss, p, len);
  e->from.len = (socklen_t)len;
  np_dgram_unmap(&e->from);
}

static bool read_error(np_dgram_error *e, const char *p, size_t n) {
  struct sock_extended_err x;
  if (n < sizeof x) return false;
  memcpy(&x, p, sizeof x);
  e->origin = x.ee_origin == SO_EE_ORIGIN_ICMP    ? NP_BY_ICMP
              : x.ee_origin == SO_EE_ORIGIN_ICMP6 ? NP_BY_ICMP6
                                                  : NP_BY_US;
  /* others are no failures: timestamps, zero copy */
  if (e->origin == NP_BY_US && x.ee_origin != SO_EE_ORIGIN_LOCAL) return false;
  e->code = -(int)x.ee_errno;
  e->type = x.ee_type;
  e->subtype = x.ee_code;
  e->mtu = x.ee_errno == EMSGSIZE ? x.ee_info : 0;
  read_offender(e, p + sizeof x, n - sizeof x);
  return true;
}

static bool find_error(const struct msghdr *h, np_dgram_error *e) {
  struct msghdr m = *h; /* CMSG_NXTHDR takes no const */
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    bool four = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
    bool six = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
    if ((four || six) && c->cmsg_len >= CMSG_LEN(0))
      return read_error(e, (char *)CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
  }
  return false;
}

/* 1: one more in the ring. 0: one that is no failure. Negative: nothing. */
static int take_one(np_dgram *d) {
  _Alignas(struct cmsghdr) char control[512];
  np_dgram_error e = {.code = 0};
  struct iovec iov = {e.data, sizeof e.data};
  struct msghdr h = {.msg_name = &e.to.ss,
                     .msg_namelen = sizeof e.to.ss,
                     .msg_iov = &iov,
                     .msg_iovlen = 1,
                     .msg_control = control,
                     .msg_controllen = sizeof control};
  ssize_t n = recvmsg(d->fd, &h, MSG_ERRQUEUE | MSG_DONTWAIT);
  if (n < 0) return -errno;
  e.len = (size_t)n;
  e.to.len = h.msg_namelen;
  np_dgram_unmap(&e.to);
  if (!find_error(&h, &e)) return 0;
  push(d->errors, &e);
  return 1;
}

bool np_dgram_drain_errors(np_dgram *d) {
  bool any = false;
  /* bounded by what the kernel may hold meanwhile: another round comes by the next event */
  for (int i = 0; i < RING; i++) {
    if (take_one(d) < 0) break;
    any = true;
  }
  return any;
}

int np_dgram_want_errors(np_dgram *d) {
  int one = 1;
  if (d->errors) return 0;
  if (d->domain != AF_INET && d->domain != AF_INET6) return -EOPNOTSUPP;
  if (d->domain == AF_INET6 && setsockopt(d->fd, IPPROTO_IPV6, IPV6_RECVERR, &one, sizeof one) != 0)
    return -errno;
  /* on an IPv6 socket for the IPv4 it may carry */
  if (setsockopt(d->fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one) != 0 && d->domain == AF_INET)
    return -errno;
  d->errors = calloc(1, sizeof *d->errors);
  if (!d->errors) return -ENOMEM;
  return np_poll_want(d->obj.loop, &d->poll, d->poll.want | NP_ERROR);
}
#else
bool np_dgram_drain_errors(np_dgram *d) { return (void)d, false; }
int np_dgram_want_errors(np_dgram *d) { return (void)d, -EOPNOTSUPP; }
#endif

int np_dgram_recv_error(np_dgram *d, np_dgram_error *e) {
  np_errorring *q = d->errors;
  if (!q) return -EOPNOTSUPP;
  if (q->count == 0) np_dgram_drain_errors(d);
  if (q->count == 0) return 0;
  *e = q->at[q->first];
  q->first = (q->first + 1) % RING;
  q->count--;
  return 1;
}

int np_dgram_errors(const np_dgram *d) { return d->errors ? d->errors->count : 0; }
