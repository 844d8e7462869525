/* What goes and comes with datagrams besides their bytes: addresses, interface, TTL, TOS, time.
 *
 * An IPv6 socket may carry IPv4 as well (its peers are shown as what they are), so whatever is
 * asked of it is asked of both; what one family does not know of the other it ignores. */
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#include "core/dgram_impl.h"

static int set_on(int fd, int level, int name) {
  return setsockopt(fd, level, name, &(int){1}, sizeof(int)) == 0 ? 0 : -errno;
}

static int want_four(int fd) {
  int r = 0;
#ifdef IP_PKTINFO
  r = set_on(fd, IPPROTO_IP, IP_PKTINFO);
#endif
  if (r == 0) r = set_on(fd, IPPROTO_IP, IP_RECVTTL);
  return r < 0 ? r : set_on(fd, IPPROTO_IP, IP_RECVTOS);
}

static int want_six(int fd) {
  int r = set_on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
  if (r == 0) r = set_on(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
  if (r == 0) r = set_on(fd, IPPROTO_IPV6, IPV6_RECVTCLASS);
#ifdef __linux__ /* others tell what came over IPv4 by the IPv6 messages; raw sockets carry none */
  set_on(fd, IPPROTO_IP, IP_RECVTTL);
  set_on(fd, IPPROTO_IP, IP_RECVTOS);
#endif
  return r;
}

int np_dgram_want_info(np_dgram *d) {
  int r = 0;
  if (d->info || d->domain == AF_UNIX) return 0;
  if (d->domain == AF_INET) r = want_four(d->fd);
  if (d->domain == AF_INET6) r = want_six(d->fd);
#ifdef SO_TIMESTAMPNS
  if (r == 0) r = set_on(d->fd, SOL_SOCKET, SO_TIMESTAMPNS);
#endif
  d->info = r == 0;
  d->bare = false;
  return r;
}

/* Limit: UDP_GRO that another process turns on later, in a socket that is shared, is not seen. */
void np_dgram_look(np_dgram *d) {
#ifdef __linux__ /* recvfrom tells the length of what was cut there */
  int joined = 0;
#ifdef UDP_GRO
  socklen_t len = sizeof joined;
  getsockopt(d->fd, IPPROTO_UDP, UDP_GRO, &joined, &len);
#endif
  d->bare = d->scheme == NP_UDP && !d->info && !joined;
#else
  (void)d;
#endif
}

/* ---- IPv4 on IPv6 sockets ---- */

void np_dgram_unmap(np_sockaddr *a) {
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
  np_dgram_unmap(out);
  if (np_socket_local(d->fd, &local) < 0) return;
  /* the port lies at the same place in both families */
  size_t at = offsetof(struct sockaddr_in, sin_port);
  memcpy((char *)&out->ss + at, (char *)&local.ss + at, sizeof(in_port_t));
}

/* ---- sending ---- */

bool np_dgram_over_four(const np_dgram *d, const np_sockaddr *to) {
  struct sockaddr_in6 six;
  np_sockaddr peer;
  if (d->domain != AF_INET6 || (to && to->ss.ss_family == AF_INET)) return d->domain != AF_UNIX;
  if (!to && np_socket_peer(d->fd, &peer) < 0) return false;
  memcpy(&six, to ? &to->ss : &peer.ss, sizeof six);
  return IN6_IS_ADDR_V4MAPPED(&six.sin6_addr);
}

static void put_number(struct msghdr *h, void *buf, int level, int type, int v) {
  if (v >= 0) np_cmsg_put(h, buf, level, type, &v, sizeof v);
}

static void put_source_four(const np_sendwith *with, struct msghdr *h, void *buf) {
#ifdef IP_PKTINFO
  struct in_pktinfo info = {.ipi_ifindex = (int)with->ifindex};
  struct sockaddr_in in;
  if (with->from.len > 0) {
    memcpy(&in, &with->from.ss, sizeof in);
    info.ipi_spec_dst = in.sin_addr;
  }
  np_cmsg_put(h, buf, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
#endif
}

static void put_source_six(const np_sendwith *with, bool four, struct msghdr *h, void *buf) {
  struct in6_pktinfo info = {.ipi6_ifindex = with->ifindex};
  struct sockaddr_in6 in6;
  if (four) memset(&info.ipi6_addr.s6_addr[10], 0xff, 2); /* ::ffff:0.0.0.0: any of IPv4 */
  if (with->from.len > 0) {
    memcpy(&in6, &with->from.ss, sizeof in6);
    info.ipi6_addr = in6.sin6_addr;
    if (info.ipi6_ifindex == 0) info.ipi6_ifindex = in6.sin6_scope_id;
  }
  np_cmsg_put(h, buf, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
}

void np_dgram_put_with(const np_dgram *d, const np_sendwith *with, bool four, struct msghdr *h,
                       void *buf) {
  np_cmsg_put_fds(h, buf, with->fds, with->nfds);
  if (d->domain == AF_INET || d->domain == AF_INET6) {
    put_number(h, buf, IPPROTO_IP, IP_TTL, with->ttl);
    put_number(h, buf, IPPROTO_IP, IP_TOS, with->tos);
  }
  if (d->domain == AF_INET6) {
    put_number(h, buf, IPPROTO_IPV6, IPV6_HOPLIMIT, with->ttl);
    put_number(h, buf, IPPROTO_IPV6, IPV6_TCLASS, with->tos);
  }
  if (with->from.len == 0 && with->ifindex == 0) return;
  if (d->domain == AF_INET) put_source_four(with, h, buf);
  if (d->domain == AF_INET6) put_source_six(with, four, h, buf);
}
