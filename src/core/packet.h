/* Captures (AF_PACKET) and filters: what arrives at and leaves by an interface, to be read only. */
#ifndef NP_PACKET_H
#define NP_PACKET_H

#include "core/address.h"

/* One instruction of a classic BPF program, as the kernel and tcpdump -dd have it. */
typedef struct np_bpf {
  uint16_t code;
  uint8_t jt, jf;
  uint32_t k;
} np_bpf;

enum { NP_BPF_MAX = 4096 }; /* the kernel's BPF_MAXINSNS */

/* Lets a socket receive only what the program accepts: 0, or -errno (-EINVAL: no valid program). */
int np_packet_filter(int fd, const np_bpf *prog, int n);

/* A socket for whole frames of the interface `at` names (index 0: of all), with a filter from the
 * first one on when n > 0: fd, or -errno. */
int np_packet_open(const np_sockaddr *at, const np_bpf *prog, int n, bool promiscuous);

typedef struct np_packet_info {
  unsigned ifindex;
  unsigned protocol;     /* ETH_P_*: 0x0800 is IPv4 */
  const char *direction; /* "in", "broadcast", "multicast", "other" (to another host), "out" */
} np_packet_info;

/* What the sender's address says of a captured frame; false: it is no such address. */
bool np_packet_describe(const np_sockaddr *from, np_packet_info *out);

#endif
