/* Fuzzes what a WebSocket connection receives: the same frames, pieces and refusals in one piece
 * and byte by byte, heads written again to the same bytes, masks that come off again; and UTF-8,
 * checked the same however it is cut. */
#include <string.h>

#include "core/cond.h"
#include "core/utf8.h"
#include "core/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX = 1000, ROOM = 2048 };

static void check_frame(const char *p, size_t n, unsigned expect) {
  char out[ROOM], again[ROOM];
  np_ws_head h;
  np_assert(np_ws_head_read(p, n, expect, &h) == 1 && h.size + h.length == n && !h.why);
  size_t head = np_ws_head_write(out, h.bits, h.length, expect & NP_WS_MASKED ? h.mask : NULL);
  np_assert(head == h.size && memcmp(out, p, head) == 0);
  np_ws_mask(out, p + head, n - head, h.mask);
  np_ws_mask(again, out, n - head, h.mask);
  np_assert(memcmp(again, p + head, n - head) == 0);
  for (size_t i = 0; i < n - head; i++)
    np_assert((out[i] ^ p[head + i]) == (char)h.mask[i % NP_WS_MASK]);
}

static void check_utf8(const char *p, size_t n, size_t cut) {
  uint32_t whole = 0, pieces = 0;
  bool a = np_utf8(&whole, p, n);
  bool b = np_utf8(&pieces, p, cut) && np_utf8(&pieces, p + cut, n - cut);
  np_assert(a == b && (!a || whole == pieces));
}

/* What codec_websocket.c does with a piece: 1, or refused. */
static int take(np_cond *c, const char *p) {
  np_ws_reader *r = c->ws;
  uint32_t state = c->scanned ? (uint32_t)c->aux : r->utf8;
  size_t at = c->scanned, n = c->len - r->frame.size;
  if (np_ws_reader_text(r) &&
      !np_ws_reader_check_masked(r, &state, p + r->frame.size + at, at, n - at))
    return NP_EBADMSG;
  np_ws_reader_take(r, state);
  return 1;
}

static np_cond cond_of(np_ws_reader *r) {
  return (np_cond){.kind = NP_COND_WEBSOCKET, .ws = r, .max = MAX};
}

/* A frame, given one byte more each time. */
static int byte_by_byte(np_cond *c, const char *p, size_t n) {
  int r = 0;
  for (size_t i = 0; i <= n && r == 0; i++) r = np_cond_check(c, p, i, false);
  return r == 1 ? take(c, p) : r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  unsigned expect = data[0] & (NP_WS_MASKED | NP_WS_DEFLATE);
  const char *p = (const char *)data + 1, *end = p + size - 1;
  np_ws_reader a = {.expect = expect}, b = a;
  check_utf8(p, size - 1, np_min(size - 1, data[0] >> 2));
  for (int r = 1; r == 1;) {
    np_cond whole = cond_of(&a), pieces = cond_of(&b);
    size_t n = (size_t)(end - p);
    r = np_cond_check(&whole, p, n, false);
    if (r == 1) r = take(&whole, p);
    np_assert(r == byte_by_byte(&pieces, p, n));
    np_assert(a.close == b.close && a.bits == b.bits && a.left == b.left && a.utf8 == b.utf8);
    np_assert(r != NP_EBADMSG || (a.why && a.close));
    if (r != 1) break;
    np_assert(whole.take == pieces.take && whole.len == whole.take && whole.take <= n);
    check_frame(p, whole.take, expect);
    p += whole.take;
  }
  return 0;
}
