/* Multicast membership, by the calls of RFC 3678 that are one for IPv4 and IPv6.
 *
 * The level is the group's family, not the socket's: an IPv6 socket of both families joins IPv4
 * groups, too. */
#include "core/multicast.h"

#include <netinet/in.h>
#include <string.h>

static int change(int fd, const np_sockaddr *group, const np_sockaddr *source, unsigned ifindex,
                  const int names[2]) {
  int level = group->ss.ss_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
  if (!source) {
    struct group_req r = {.gr_interface = ifindex};
    memcpy(&r.gr_group, &group->ss, sizeof r.gr_group);
    return setsockopt(fd, level, names[0], &r, sizeof r) == 0 ? 0 : -errno;
  }
  struct group_source_req r = {.gsr_interface = ifindex};
  if (source->ss.ss_family != group->ss.ss_family) return -EINVAL;
  memcpy(&r.gsr_group, &group->ss, sizeof r.gsr_group);
  memcpy(&r.gsr_source, &source->ss, sizeof r.gsr_source);
  return setsockopt(fd, level, names[1], &r, sizeof r) == 0 ? 0 : -errno;
}

int np_multicast_join(int fd, const np_sockaddr *group, const np_sockaddr *source,
                      unsigned ifindex) {
  static const int names[] = {MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP};
  return change(fd, group, source, ifindex, names);
}

int np_multicast_leave(int fd, const np_sockaddr *group, const np_sockaddr *source,
                       unsigned ifindex) {
  static const int names[] = {MCAST_LEAVE_GROUP, MCAST_LEAVE_SOURCE_GROUP};
  return change(fd, group, source, ifindex, names);
}
