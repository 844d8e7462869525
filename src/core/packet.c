/* AF_PACKET sockets and classic BPF.
 *
 * The filter is set before the socket is bound, and the socket is made for no protocol at all, so
 * nothing gets in that the filter would not have let pass.  It sends nothing. packet(7) */
#include "core/packet.h"

#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#endif

#include "core/socket.h"

#ifdef __linux__
_Static_assert(sizeof(np_bpf) == sizeof(struct sock_filter), "one instruction");

int np_packet_filter(int fd, const np_bpf *prog, int n) {
  struct sock_fprog p = {.len = (unsigned short)n, .filter = (struct sock_filter *)(uintptr_t)prog};
  np_assert(n >= 1 && n <= NP_BPF_MAX);
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p) == 0 ? 0 : -errno;
}

static int set_promiscuous(int fd, int ifindex) {
  struct packet_mreq m = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
  return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m) == 0 ? 0 : -errno;
}

int np_packet_open(const np_sockaddr *at, const np_bpf *prog, int n, bool promiscuous) {
  struct sockaddr_ll ll;
  memcpy(&ll, &at->ss, sizeof ll);
  ll.sll_protocol = htons(ETH_P_ALL);
  int fd = np_socket(AF_PACKET, SOCK_RAW, 0), r = fd;
  if (fd >= 0 && n > 0) r = np_packet_filter(fd, prog, n);
  if (r >= 0 && bind(fd, (struct sockaddr *)&ll, sizeof ll) != 0) r = -errno;
  if (r >= 0 && promiscuous) r = set_promiscuous(fd, ll.sll_ifindex);
  if (r < 0 && fd >= 0) close(fd);
  return r < 0 ? r : fd;
}

bool np_packet_describe(const np_sockaddr *from, np_packet_info *out) {
  static const char *const directions[] = {[PACKET_HOST] = "in",
                                           [PACKET_BROADCAST] = "broadcast",
                                           [PACKET_MULTICAST] = "multicast",
                                           [PACKET_OTHERHOST] = "other",
                                           [PACKET_OUTGOING] = "out"};
  struct sockaddr_ll ll;
  if (from->ss.ss_family != AF_PACKET || from->len < offsetof(struct sockaddr_ll, sll_addr))
    return false;
  memcpy(&ll, &from->ss, sizeof ll);
  out->ifindex = (unsigned)ll.sll_ifindex;
  out->protocol = ntohs(ll.sll_protocol);
  out->direction = ll.sll_pkttype < np_countof(directions) ? directions[ll.sll_pkttype] : "other";
  return true;
}
#else
int np_packet_filter(int fd, const np_bpf *prog, int n) {
  (void)fd, (void)prog, (void)n;
  return -EOPNOTSUPP;
}

int np_packet_open(const np_sockaddr *at, const np_bpf *prog, int n, bool promiscuous) {
  (void)at, (void)prog, (void)n, (void)promiscuous;
  return -EAFNOSUPPORT;
}

bool np_packet_describe(const np_sockaddr *from, np_packet_info *out) {
  (void)from, (void)out;
  return false;
}
#endif
