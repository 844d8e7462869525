/* Fuzzes the parser of control messages: whatever the bytes say, every descriptor that came is in
 * the result or closed, once.
 *
 * Input: message flags, then the control data.  Descriptors in it are made real (duplicates of one
 * socket), so that a leak and a double close both show as a number of open descriptors. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTROL_MAX = 2048, FDS_FIRST = 100, FDS_END = 1000 };

/* Walks as the parser does and puts a real descriptor, the next number, into every slot. */
static int plant(char *p, size_t left, int from) {
  int next = FDS_FIRST;
  while (left >= sizeof(struct cmsghdr)) {
    struct cmsghdr h;
    size_t len, step;
    memcpy(&h, p, sizeof h);
    if (h.cmsg_len < CMSG_LEN(0)) break;
    len = np_min(h.cmsg_len, left);
    if (h.cmsg_level == SOL_SOCKET && h.cmsg_type == SCM_RIGHTS)
      for (size_t at = CMSG_LEN(0); at + sizeof(int) <= len; at += sizeof(int)) {
        np_assert(next < FDS_END && dup2(from, next) == next);
        memcpy(p + at, &next, sizeof next);
        next++;
      }
    step = np_min(CMSG_ALIGN(len), left);
    p += step;
    left -= step;
  }
  return next;
}

static void build_and_parse(const uint8_t *data, size_t size) {
  _Alignas(struct cmsghdr) char buf[NP_CMSG_SPACE];
  struct msghdr m = {.msg_flags = 0};
  np_ancillary a;
  int fds[NP_FDS_MAX], n = size > 0 ? data[0] % (NP_FDS_MAX + 1) : 0;
  for (int i = 0; i < n; i++) fds[i] = FDS_FIRST + i;
  np_cmsg_put_fds(&m, buf, fds, n);
  np_ancillary_parse(&m, &a);
  np_assert(a.nfds == n && (n == 0 || memcmp(a.fds, fds, (size_t)n * sizeof *fds) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct msghdr m = {.msg_flags = 0};
  np_ancillary a;
  char *control;
  int from, end;
  build_and_parse(data, size);
  if (size < 1 || size - 1 > CONTROL_MAX) return 0;
  from = socket(AF_UNIX, SOCK_DGRAM, 0);
  np_assert(from >= 0);
  control = malloc(size); /* of exact size, so that a read past the end is seen */
  memcpy(control, data + 1, size - 1);
  end = plant(control, size - 1, from);
  m.msg_flags = data[0] & 1 ? MSG_CTRUNC : 0;
  m.msg_control = control;
  m.msg_controllen = size - 1;
  np_ancillary_parse(&m, &a);
  np_assert(a.nfds == (int)np_min((size_t)(end - FDS_FIRST), NP_FDS_MAX));
  np_assert(a.truncated_control == (data[0] & 1));
  np_assert(a.ttl >= -1 && a.ttl <= 255 && a.tos >= -1 && a.tos <= 255);
  np_assert(a.segment >= 0 && a.segment <= UINT16_MAX && a.time_ns >= 0);
  np_assert(!a.has_to || a.to.ss_family == AF_INET || a.to.ss_family == AF_INET6);
  for (int i = 0; i < a.nfds; i++) np_assert(a.fds[i] == FDS_FIRST + i);
  np_ancillary_close(&a);
  np_assert(a.nfds == 0);
  for (int fd = FDS_FIRST; fd < end; fd++) np_assert(dup(fd) < 0);
  close(from);
  free(control);
  return 0;
}
