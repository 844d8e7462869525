/* Membership in multicast groups. */
#ifndef NP_MULTICAST_H
#define NP_MULTICAST_H

#include "core/address.h"

/* Joins a group on an interface (0: the system chooses), or only what `source` sends to it (NULL:
 * any; RFC 3678).  0 or -errno: -EINVAL no multicast address, -EADDRINUSE joined already,
 * -EADDRNOTAVAIL to be left and never joined, -ENODEV no such interface. */
int np_multicast_join(int fd, const np_sockaddr *group, const np_sockaddr *source,
                      unsigned ifindex);
int np_multicast_leave(int fd, const np_sockaddr *group, const np_sockaddr *source,
                       unsigned ifindex);

#endif
