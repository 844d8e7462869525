/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing past U+10FFFF.
 *
 * The first byte of a character says how many follow and what the next one may be; the ones behind
 * it may be 0x80..0xbf. So a wrong byte is found when it comes, not at the character's end. */
#include "core/utf8.h"

#include <string.h>

/* A state: bytes missing, lowest and highest next one. */
static inline uint32_t awaiting(unsigned missing, unsigned low, unsigned high) {
  return missing | low << 8 | high << 16;
}

/* The state after a first byte >= 0x80; 0: there is no such one. */
static uint32_t first(unsigned char c) {
  if (c < 0xc2) return 0; /* a later byte, or an overlong form */
  if (c < 0xe0) return awaiting(1, 0x80, 0xbf);
  if (c == 0xe0) return awaiting(2, 0xa0, 0xbf); /* overlong below */
  if (c == 0xed) return awaiting(2, 0x80, 0x9f); /* surrogates above */
  if (c < 0xf0) return awaiting(2, 0x80, 0xbf);
  if (c == 0xf0) return awaiting(3, 0x90, 0xbf);
  if (c < 0xf4) return awaiting(3, 0x80, 0xbf);
  return c == 0xf4 ? awaiting(3, 0x80, 0x8f) : 0;
}

/* Past the ASCII at p, eight at a time. */
static const char *skip_ascii(const char *p, const char *end) {
  for (uint64_t v; end - p >= 8; p += 8) {
    memcpy(&v, p, 8);
    if (v & UINT64_C(0x8080808080808080)) break;
  }
  while (p < end && (unsigned char)*p < 0x80) p++;
  return p;
}

bool np_utf8(uint32_t *state, const char *p, size_t n) {
  uint32_t s = *state;
  for (const char *end = p + n;;) {
    if (s == 0) {
      p = skip_ascii(p, end);
      if (p == end) break;
      s = first((unsigned char)*p++);
      if (s == 0) return false;
    }
    if (p == end) break;
    unsigned char c = (unsigned char)*p++;
    if (c < (s >> 8 & 0xff) || c > s >> 16) return false;
    s = (s & 0xff) > 1 ? awaiting((s & 0xff) - 1, 0x80, 0xbf) : 0;
  }
  *state = s;
  return true;
}
