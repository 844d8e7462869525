/* A WebSocket frame, whole, or a long one in pieces: which one may come, and how long it is, is
 * the reader's matter (core/websocket.h).
 *
 * A frame longer than the limit is refused before its bytes come; a control frame is short anyhow.
 * Text is checked as it comes, so a peer that sends the rest slowly is refused at once; what came
 * with the last byte is left to who takes the frame, and looks at it anyway. State: aux2 is the
 * bytes needed in all; of the piece's own, `scanned` were checked, aux is the text's state then. */
#include "core/cond_impl.h"
#include "core/websocket.h"

static bool check_text(np_cond *c, const char *p, size_t n) {
  uint32_t state = c->scanned ? (uint32_t)c->aux : c->ws->utf8;
  size_t at = c->scanned;
  if (!np_ws_reader_check_masked(c->ws, &state, p + at, at, n - at)) return false;
  c->aux = state;
  c->scanned = n;
  return true;
}

int np_cond_websocket(np_cond *c, const char *p, size_t n, bool eof) {
  np_ws_reader *r = c->ws;
  int got = np_ws_reader_look(r, p, n);
  if (got < 0) return got;
  const np_ws_head *h = &r->frame;
  if (h->length > c->max && !(h->bits & 0x08))
    return -EMSGSIZE; /* known before the mask is there */
  if (got == 1) {
    c->aux2 = plus(np_ws_reader_piece(r), h->size);
    if (n >= c->aux2) return done(c, 0, c->aux2, c->aux2);
    size_t came = n - h->size;
    if (came > c->scanned && np_ws_reader_text(r) && !check_text(c, p + h->size, came))
      return NP_EBADMSG;
  }
  return !eof ? 0 : n == 0 && r->left == 0 ? NP_COND_END : -EPIPE;
}
