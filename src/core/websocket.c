/* Heads and masks of WebSocket frames, and their order: RFC 6455 section 5.
 *
 * Strict: what the RFC forbids is refused with a reason, as soon as the byte that says it is there;
 * lengths that could have been shorter among it, and text from its first wrong byte on. Inflating,
 * joining and answering are the connection's (lua/stdlib/websocket). */
#include "core/websocket.h"

#include <string.h>

#include "core/utf8.h"

static const char *refuse_first(unsigned bits, unsigned expect) {
  unsigned opcode = bits & NP_WS_OPCODE;
  bool may_deflate = expect & NP_WS_DEFLATE && (opcode == NP_WS_TEXT || opcode == NP_WS_BINARY);
  if (bits & 0x70 & ~(may_deflate ? (unsigned)NP_WS_RSV1 : 0)) return "a reserved bit is set";
  if ((opcode > NP_WS_BINARY && opcode < NP_WS_CLOSE) || opcode > NP_WS_PONG)
    return "a reserved opcode";
  if (opcode >= NP_WS_CLOSE && !(bits & NP_WS_FIN)) return "a control frame in fragments";
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
  if (n > 0 && (out->why = refuse_first(s[0], expect))) return NP_EBADMSG;
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

/* ---- the receiving half ---- */

int np_ws_reader_refuse(np_ws_reader *r, int close, const char *why) {
  r->close = (uint16_t)close;
  r->why = why;
  return NP_EBADMSG;
}

static bool is_control(const np_ws_reader *r) { return r->frame.bits & 0x08; }

int np_ws_reader_look(np_ws_reader *r, const char *p, size_t n) {
  if (r->left > 0) {
    r->frame.size = 0;
    return 1;
  }
  int got = np_ws_head_read(p, n, r->expect, &r->frame);
  if (got < 0) return np_ws_reader_refuse(r, 1002, r->frame.why);
  if (n == 0 || is_control(r)) return got;
  bool goes_on = (r->frame.bits & NP_WS_OPCODE) == 0;
  if (goes_on && !r->bits) return np_ws_reader_refuse(r, 1002, "a continuation of nothing");
  if (!goes_on && r->bits) return np_ws_reader_refuse(r, 1002, "a new message inside another");
  return got;
}

static uint64_t ahead(const np_ws_reader *r) { return r->left > 0 ? r->left : r->frame.length; }

size_t np_ws_reader_piece(const np_ws_reader *r) { return (size_t)np_min(ahead(r), NP_WS_PIECE); }

/* What the message of this frame began with. */
static unsigned message_bits(const np_ws_reader *r) { return r->bits ? r->bits : r->frame.bits; }

bool np_ws_reader_text(const np_ws_reader *r) {
  return !is_control(r) && (message_bits(r) & ~NP_WS_FIN) == NP_WS_TEXT;
}

/* The text's end must be a character's: known with the last byte. */
static bool ends(const np_ws_reader *r, size_t at) {
  return r->frame.bits & NP_WS_FIN && at == ahead(r);
}

bool np_ws_reader_check(np_ws_reader *r, uint32_t *state, const char *p, size_t at, size_t n) {
  if (np_utf8(state, p, n) && !(ends(r, at + n) && *state != 0)) return true;
  np_ws_reader_refuse(r, 1007, "text that is not UTF-8");
  return false;
}

bool np_ws_reader_check_masked(np_ws_reader *r, uint32_t *state, const char *p, size_t at,
                               size_t n) {
  enum { CHUNK = 1024 };
  char plain[CHUNK];
  unsigned char mask[NP_WS_MASK];
  if (!(r->expect & NP_WS_MASKED)) return np_ws_reader_check(r, state, p, at, n);
  for (size_t i = 0; i < NP_WS_MASK; i++) mask[i] = r->frame.mask[(at + i) % NP_WS_MASK];
  for (size_t end = at + n, k; at < end; at += k, p += k) {
    k = np_min(end - at, CHUNK);
    np_ws_mask(plain, p, k, mask);
    if (!np_ws_reader_check(r, state, plain, at, k)) return false;
  }
  return true;
}

unsigned np_ws_reader_take(np_ws_reader *r, uint32_t utf8) {
  unsigned bits = is_control(r) ? r->frame.bits : message_bits(r) & ~NP_WS_FIN;
  r->left = ahead(r) - np_ws_reader_piece(r);
  if (is_control(r)) return bits;
  bool last = r->frame.bits & NP_WS_FIN && r->left == 0;
  r->bits = last ? 0 : (uint8_t)bits;
  r->utf8 = last ? 0 : utf8;
  return last ? bits | NP_WS_FIN : bits;
}
