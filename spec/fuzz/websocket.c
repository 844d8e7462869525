/* Fuzzes WebSocket frames: found the same in one piece and byte by byte, written again to the same
 * bytes, unmasked and masked to the same payload; and UTF-8, checked the same however it is cut. */
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
  size_t head = np_ws_head_write(out, h.bits, h.length, expect ? h.mask : NULL);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  unsigned expect = data[0] & NP_WS_MASKED;
  const char *p = (const char *)data + 1;
  np_cond whole = {.kind = NP_COND_WEBSOCKET, .need = expect, .max = MAX}, pieces = whole;
  size_t n = size - 1;
  check_utf8(p, n, np_min(n, data[0] >> 1));
  int r = np_cond_check(&whole, p, n, false), q = 0;
  for (size_t i = 0; i <= n && q == 0; i++) q = np_cond_check(&pieces, p, i, false);
  np_assert(r == q);
  if (r != 1) return 0;
  np_assert(whole.take == pieces.take && whole.len == whole.take && whole.take <= n);
  check_frame(p, whole.take, expect);
  return 0;
}
