/* A WebSocket frame, whole: the head, and as many bytes as it says.
 *
 * A frame longer than the limit is refused before its bytes come; a control frame is short anyhow.
 * State: aux2 is the bytes needed in all. */
#include "core/cond_impl.h"
#include "core/websocket.h"

int np_cond_websocket(np_cond *c, const char *p, size_t n, bool eof) {
  np_ws_head h;
  int r = np_ws_head_read(p, n, (unsigned)c->need, &h);
  if (r < 0) return r;
  if (h.length > c->max && !(h.bits & 0x08)) return -EMSGSIZE; /* known before the mask is there */
  if (r == 1) {
    c->aux2 = plus((size_t)h.length, h.size);
    if (n >= c->aux2) return done(c, 0, c->aux2, c->aux2);
  }
  return !eof ? 0 : n == 0 ? NP_COND_END : -EPIPE;
}
