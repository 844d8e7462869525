/* A WebSocket frame for Lua: its payload without mask, what message it is of, and, unless that is
 * all there is to say, its bits. Unmasking and the check of text are one pass each over bytes that
 * are in the cache. */
#include "bindings/codec.h"
#include "bindings/lua_util.h"
#include "core/websocket.h"

/* Pushes n bytes of the piece without their mask. True, or: nothing to rely on was pushed. */
static bool push_plain(lua_State *L, const np_ws_reader *r, const char *p, size_t n,
                       const np_bytes *b) {
  luaL_Buffer buffer;
  if (!(r->expect & NP_WS_MASKED)) return lua_pushlstring(L, p, n), true;
  char *out = luaL_buffinitsize(L, &buffer, n);
  if (np_unlikely(np_bytes_moved(b))) return false;
  np_ws_mask(out, p, n, r->frame.mask);
  luaL_pushresultsize(&buffer, n);
  return true;
}

static void push_kind(lua_State *L, unsigned bits) {
  if (bits & 0x08) lua_pushboolean(L, 0);
  else if ((bits & NP_WS_OPCODE) == NP_WS_TEXT) lua_pushliteral(L, "text");
  else lua_pushliteral(L, "binary");
}

/* payload, "text", "binary" or (a control frame) false, and nil for a message in one piece that is
 * not compressed, else its bits (np_ws_reader_take). */
int np_push_ws_frame(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b) {
  np_ws_reader *r = c->ws;
  const np_ws_head *h = &r->frame;
  uint32_t state = c->scanned ? (uint32_t)c->aux : r->utf8;
  size_t at = c->scanned, n = c->len - h->size;
  bool whole = !r->bits && r->left == 0 && h->bits & NP_WS_FIN && n == h->length;
  if (!push_plain(L, r, frame + h->size, n, b)) return -EAGAIN;
  if (np_ws_reader_text(r)) {
    const char *s = lua_tostring(L, -1);
    if (!np_ws_reader_check(r, &state, s + at, at, n - at)) return lua_pop(L, 1), NP_EBADMSG;
  }
  push_kind(L, r->bits && !(h->bits & 0x08) ? r->bits : h->bits);
  if (np_unlikely(np_bytes_moved(b))) return -EAGAIN;
  unsigned bits = np_ws_reader_take(r, state);
  if (whole && !(bits & (0x08 | NP_WS_RSV1))) return 2;
  lua_pushinteger(L, bits);
  return 3;
}
