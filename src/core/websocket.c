/* Heads and masks of WebSocket frames: RFC 6455 section 5.
 *
 * Strict: what the RFC forbids is refused with a reason, as soon as the byte that says it is there;
 * lengths that could have been shorter among it. No extension is known here, so no reserved bit is
 * allowed. Messages, which are made of frames, are the connection's (lua/stdlib/websocket). */
#include "core/websocket.h"

#include <string.h>
#include <uv.h>

static const char *refuse_first(unsigned bits) {
  unsigned opcode = bits & 0x0f;
  if (bits & 0x70) return "a reserved bit is set";
  if ((opcode > NP_WS_BINARY && opcode < NP_WS_CLOSE) || opcode > NP_WS_PONG)
    return "a reserved opcode";
  if (opcode >= NP_WS_CLOSE && !(bits & 0x80)) return "a control frame in fragments";
  return NULL;
}

static const char *refuse_second(unsigned bits, unsigned second, unsigned expect) {
  bool masked = second & 0x80;
  if ((bits & 0x08) && (second & 0x7f) > NP_WS_CONTROL_MAX) return "a long control frame";
  if (masked && !(expect & NP_WS_MASKED)) return "a masked frame from a server";
  if (!masked && (expect & NP_WS_MASKED)) return "a frame without mask from a client";
  return NULL;
}

static const char *refuse_length(uint64_t length, unsigned size) {
  if (length >> 63) return "a length past 63 bits";
  if (size == 2 ? length < 126 : length < 65536) return "a length that is not in its shortest form";
  return NULL;
}

int np_ws_head_read(const char *p, size_t n, unsigned expect, np_ws_head *out) {
  const unsigned char *s = (const unsigned char *)p;
  *out = (np_ws_head){.bits = n > 0 ? s[0] : 0};
  if (n > 0 && (out->why = refuse_first(s[0]))) return NP_EBADMSG;
  if (n < 2) return 0;
  if ((out->why = refuse_second(s[0], s[1], expect))) return NP_EBADMSG;
  unsigned len = s[1] & 0x7f, wide = len == 126 ? 2 : len == 127 ? 8 : 0, at = 2;
  if (n < at + wide) return 0;
  out->length = wide ? 0 : len;
  for (; at < 2 + wide; at++) out->length = out->length << 8 | s[at];
  if (wide && (out->why = refuse_length(out->length, wide))) return NP_EBADMSG;
  if (s[1] & 0x80) {
    if (n < at + NP_WS_MASK) return 0;
    memcpy(out->mask, s + at, NP_WS_MASK);
    at += NP_WS_MASK;
  }
  out->size = (uint8_t)at;
  return 1;
}

size_t np_ws_head_write(char out[NP_WS_HEAD_MAX], unsigned bits, uint64_t length,
                        const unsigned char *mask) {
  unsigned wide = length < 126 ? 0 : length < 65536 ? 2 : 8;
  unsigned len = wide == 0 ? (unsigned)length : wide == 2 ? 126 : 127;
  size_t n = 2;
  out[0] = (char)bits;
  out[1] = (char)(len | (mask ? 0x80 : 0));
  for (unsigned i = wide; i-- > 0;) out[n++] = (char)(length >> 8 * i & 0xff);
  if (mask) memcpy(out + n, mask, NP_WS_MASK);
  return mask ? n + NP_WS_MASK : n;
}

void np_ws_mask(char *out, const char *in, size_t n, const unsigned char mask[NP_WS_MASK]) {
  uint64_t wide, v;
  size_t i = 0;
  memcpy(&wide, mask, NP_WS_MASK);
  memcpy((char *)&wide + NP_WS_MASK, mask, NP_WS_MASK);
  for (; n - i >= 8; i += 8) {
    memcpy(&v, in + i, 8);
    v ^= wide;
    memcpy(out + i, &v, 8);
  }
  for (; i < n; i++) out[i] = (char)(in[i] ^ (char)mask[i % NP_WS_MASK]);
}

int np_ws_random(void *out, size_t n) { return uv_random(NULL, NULL, out, n, 0, NULL); }
