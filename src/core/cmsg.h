/* Control messages: building and parsing the ancillary data of sendmsg and recvmsg.  Pure over the
 * msghdr; the parser is fuzzed. */
#ifndef NP_CMSG_H
#define NP_CMSG_H

#include <sys/socket.h>

#include "core/base.h"

enum { NP_FDS_MAX = 253 }; /* the kernel's SCM_MAX_FD: what one message can carry */

/* Room for a full load of descriptors, credentials and the datagram extras. */
#define NP_CMSG_SPACE (CMSG_SPACE(NP_FDS_MAX * sizeof(int)) + 512)

typedef struct np_cred { /* SCM_CREDENTIALS, SO_PEERCRED */
  int64_t pid;
  uint32_t uid, gid;
} np_cred;

/* What came with one message. */
typedef struct np_ancillary {
  int nfds;
  int fds[NP_FDS_MAX];
  bool has_cred, has_to, truncated_control; /* MSG_CTRUNC */
  np_cred cred;
  struct sockaddr_storage to; /* IP_PKTINFO: the address it was sent to (port 0) */
  unsigned ifindex;           /* 0: unknown */
  int ttl, tos;               /* -1: not told */
} np_ancillary;

/* Reads m's control data after recvmsg. Never fails: what it does not know it skips; descriptors
 * past NP_FDS_MAX are closed. */
void np_ancillary_parse(const struct msghdr *m, np_ancillary *a);

/* Closes a's descriptors. */
void np_ancillary_close(np_ancillary *a);

/* Puts SCM_RIGHTS for fds[0..n) into m's control buffer `buf` (of at least NP_CMSG_SPACE). */
void np_cmsg_put_fds(struct msghdr *m, void *buf, const int *fds, int n);

#endif
