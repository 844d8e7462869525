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
  int segment;                /* UDP_GRO: datagrams of this size were joined; 0: it is one */
  int64_t time_ns;            /* SCM_TIMESTAMPNS: when the kernel had it, Unix time; 0: not told */
} np_ancillary;

/* Reads m's control data after recvmsg. Never fails: what it does not know it skips; descriptors
 * past NP_FDS_MAX are closed. */
void np_ancillary_parse(const struct msghdr *m, np_ancillary *a);

/* Closes a's descriptors. */
void np_ancillary_close(np_ancillary *a);

/* Adds a control message to m's control data, which lies in `buf` (of at least NP_CMSG_SPACE) and
 * is empty at first: m->msg_controllen is 0. */
void np_cmsg_put(struct msghdr *m, void *buf, int level, int type, const void *p, size_t n);

/* The same of SCM_RIGHTS for fds[0..n); none: nothing is added. */
void np_cmsg_put_fds(struct msghdr *m, void *buf, const int *fds, int n);

#endif
