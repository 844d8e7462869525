/* A WebSocket frame for Lua: its payload without mask, and the first byte of its head. */
#include "bindings/codec.h"
#include "bindings/lua_util.h"
#include "core/websocket.h"

int np_push_ws_frame(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b) {
  np_ws_head h;
  luaL_Buffer buffer;
  np_ws_head_read(frame, c->len, (unsigned)c->need, &h);
  size_t n = c->len - h.size;
  if (c->need & NP_WS_MASKED) {
    char *out = luaL_buffinitsize(L, &buffer, n);
    if (np_unlikely(np_bytes_moved(b))) return -EAGAIN;
    np_ws_mask(out, frame + h.size, n, h.mask);
    luaL_pushresultsize(&buffer, n);
  } else {
    lua_pushlstring(L, frame + h.size, n);
  }
  lua_pushinteger(L, h.bits);
  return 2;
}
