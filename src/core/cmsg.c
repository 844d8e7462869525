/* Control messages, read and built.
 *
 * The parser trusts no length: each message is clamped to the buffer, its content is copied out by
 * the size it has, and descriptors are either in the result or closed. */
#include "core/cmsg.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- one function per kind; `n` is what the message really holds ---- */

typedef void read_fn(np_ancillary *a, const char *p, size_t n);

static void read_rights(np_ancillary *a, const char *p, size_t n) {
  for (; n >= sizeof(int); p += sizeof(int), n -= sizeof(int)) {
    int fd;
    memcpy(&fd, p, sizeof fd);
    if (fd < 0) continue;
    if (a->nfds < NP_FDS_MAX) a->fds[a->nfds++] = fd;
    else close(fd);
  }
}

#ifdef SCM_CREDENTIALS
static void read_credentials(np_ancillary *a, const char *p, size_t n) {
  struct ucred c;
  if (n < sizeof c) return;
  memcpy(&c, p, sizeof c);
  a->cred = (np_cred){.pid = c.pid, .uid = c.uid, .gid = c.gid};
  a->has_cred = true;
}
#endif

static void read_pktinfo(np_ancillary *a, const char *p, size_t n) {
  struct in_pktinfo info;
  struct sockaddr_in *in = (struct sockaddr_in *)&a->to;
  if (n < sizeof info) return;
  memcpy(&info, p, sizeof info);
  memset(in, 0, sizeof *in);
  in->sin_family = AF_INET;
  in->sin_addr = info.ipi_addr;
  a->ifindex = (unsigned)info.ipi_ifindex;
  a->has_to = true;
}

static void read_pktinfo6(np_ancillary *a, const char *p, size_t n) {
  struct in6_pktinfo info;
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->to;
  if (n < sizeof info) return;
  memcpy(&info, p, sizeof info);
  memset(in6, 0, sizeof *in6);
  in6->sin6_family = AF_INET6;
  in6->sin6_addr = info.ipi6_addr;
  if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) in6->sin6_scope_id = info.ipi6_ifindex;
  a->ifindex = info.ipi6_ifindex;
  a->has_to = true;
}

/* The kernel tells IP_TOS in one byte, the others in an int; -1: neither. */
static int small_number(const char *p, size_t n) {
  int v = -1;
  if (n >= sizeof v) memcpy(&v, p, sizeof v);
  else if (n >= 1) v = (unsigned char)*p;
  return v >= 0 && v <= 255 ? v : -1;
}

static void read_ttl(np_ancillary *a, const char *p, size_t n) { a->ttl = small_number(p, n); }

static void read_tos(np_ancillary *a, const char *p, size_t n) { a->tos = small_number(p, n); }

#ifdef SCM_TIMESTAMPNS
static void read_time(np_ancillary *a, const char *p, size_t n) {
  struct timespec t;
  if (n < sizeof t) return;
  memcpy(&t, p, sizeof t);
  const int64_t second = 1000000000;
  if (t.tv_sec < 0 || t.tv_sec >= INT64_MAX / second || t.tv_nsec < 0 || t.tv_nsec >= second)
    return;
  a->time_ns = (int64_t)t.tv_sec * second + t.tv_nsec;
}
#endif

#ifdef UDP_GRO
static void read_segment(np_ancillary *a, const char *p, size_t n) {
  int v;
  if (n < sizeof v) return;
  memcpy(&v, p, sizeof v);
  if (v > 0 && v <= UINT16_MAX) a->segment = v;
}
#endif

static const struct row {
  int level, type;
  read_fn *read;
} rows[] = {
  {SOL_SOCKET, SCM_RIGHTS, read_rights},
#ifdef SCM_CREDENTIALS
  {SOL_SOCKET, SCM_CREDENTIALS, read_credentials},
#endif
  {IPPROTO_IP, IP_PKTINFO, read_pktinfo},
  {IPPROTO_IP, IP_TTL, read_ttl},
  {IPPROTO_IP, IP_TOS, read_tos},
  {IPPROTO_IPV6, IPV6_PKTINFO, read_pktinfo6},
  {IPPROTO_IPV6, IPV6_HOPLIMIT, read_ttl},
  {IPPROTO_IPV6, IPV6_TCLASS, read_tos},
#ifdef SCM_TIMESTAMPNS
  {SOL_SOCKET, SCM_TIMESTAMPNS, read_time},
#endif
#ifdef UDP_GRO
  {IPPROTO_UDP, UDP_GRO, read_segment},
#endif
};

static void read_message(np_ancillary *a, const struct cmsghdr *h, const char *p, size_t n) {
  for (size_t i = 0; i < np_countof(rows); i++)
    if (rows[i].level == h->cmsg_level && rows[i].type == h->cmsg_type) rows[i].read(a, p, n);
}

void np_ancillary_parse(const struct msghdr *m, np_ancillary *a) {
  const char *p = m->msg_control;
  size_t left = m->msg_controllen;
  /* not a->fds and a->to: a kilobyte that is seldom used, and this runs for every datagram */
  a->nfds = 0;
  a->has_cred = a->has_to = false;
  a->truncated_control = (m->msg_flags & MSG_CTRUNC) != 0;
  a->cred = (np_cred){.pid = 0};
  a->to.ss_family = AF_UNSPEC;
  a->ifindex = 0;
  a->ttl = a->tos = -1;
  a->segment = 0;
  a->time_ns = 0;
  while (left >= sizeof(struct cmsghdr)) {
    struct cmsghdr h;
    size_t len, step;
    memcpy(&h, p, sizeof h);
    if (h.cmsg_len < CMSG_LEN(0)) return;
    len = np_min(h.cmsg_len, left);
    if (len > CMSG_LEN(0)) read_message(a, &h, p + CMSG_LEN(0), len - CMSG_LEN(0));
    step = np_min(CMSG_ALIGN(len), left);
    p += step;
    left -= step;
  }
}

void np_ancillary_close(np_ancillary *a) {
  for (int i = 0; i < a->nfds; i++) close(a->fds[i]);
  a->nfds = 0;
}

void np_cmsg_put(struct msghdr *m, void *buf, int level, int type, const void *p, size_t n) {
  struct cmsghdr h = {.cmsg_len = CMSG_LEN(n), .cmsg_level = level, .cmsg_type = type};
  size_t at = m->msg_controllen;
  char *to = (char *)buf + at;
  np_assert(at + CMSG_SPACE(n) <= NP_CMSG_SPACE);
  memset(to, 0, CMSG_SPACE(n));
  memcpy(to, &h, sizeof h);
  memcpy(to + CMSG_LEN(0), p, n);
  m->msg_control = buf;
  m->msg_controllen = at + CMSG_SPACE(n);
}

void np_cmsg_put_fds(struct msghdr *m, void *buf, const int *fds, int n) {
  np_assert(n >= 0 && n <= NP_FDS_MAX);
  if (n > 0) np_cmsg_put(m, buf, SOL_SOCKET, SCM_RIGHTS, fds, (size_t)n * sizeof(int));
}
