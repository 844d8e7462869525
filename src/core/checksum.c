/* The internet checksum: the ones' complement of the ones' complement sum of 16-bit words. RFC
 * 1071.
 *
 * Words are added as this machine reads them and swapped at the end, which gives the same (RFC
 * 1071, section 2 B); carries collect in the upper half of 64 bits and are folded once per call. */
#include "core/checksum.h"

#include <arpa/inet.h>
#include <string.h>

static uint32_t fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  return (uint32_t)sum;
}

uint32_t np_checksum_add(uint32_t sum, const void *p, size_t n) {
  const char *s = p;
  uint64_t total = sum;
  for (; n >= 4; s += 4, n -= 4) { /* at most 2^30 words for 4 GiB: no overflow */
    uint32_t word;
    memcpy(&word, s, sizeof word);
    total += word;
  }
  uint32_t rest = 0;
  memcpy(&rest, s, n); /* an odd byte counts as if a zero followed */
  return fold(total + rest);
}

uint16_t np_checksum_end(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ntohs((uint16_t)~sum);
}
