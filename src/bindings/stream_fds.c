/* Streams for Lua, receiving descriptors: what recv with fds asks for and gets.
 *
 * The list and its objects are made before the descriptors are taken, and what makes them may run a
 * finalizer that reads or closes this very stream: then it all begins again. */
#include "bindings/descriptor.h"
#include "bindings/stream_impl.h"
#include "core/fdq.h"

int np_stream_recv_options(lua_State *L, stream *u, int opt) {
  enum { TIMEOUT, FDS };
  static const char *const known[] = {[TIMEOUT] = "timeout", [FDS] = "fds", NULL};
  int fds = 0;
  u->read_by_ns = NP_BY_DEFAULT;
  if (lua_isnoneornil(L, opt)) return 0;
  luaL_checktype(L, opt, LUA_TTABLE);
  lua_pushnil(L);
  for (int i; (i = np_next_option(L, opt, known)) >= 0; lua_pop(L, 1)) {
    if (i == FDS) fds = (int)np_option_integer(L, opt, known[i], 0, NP_FDS_MAX);
    else u->read_by_ns = np_stream_deadline(L, u->timeout_ns, np_option_seconds(L, opt, known[i]));
  }
  return fds;
}

/* More of them than asked for: all stays as it is. */
static int too_many(lua_State *L, stream *u, int n, int max) {
  return np_fail_text(L, "EMSGSIZE", "recv %s: %d descriptors came, at most %d are asked for",
                      np_stream_name(L, u), n, max);
}

int np_stream_push_fds(lua_State *L, stream *u, size_t len, const char *data) {
  const np_stream *s = u->s;
  uint32_t moves = np_stream_moves(s);
  int fds[NP_FDS_MAX], max = (int)lua_tointeger(L, 2), n = 0, trouble = np_stream_fd_trouble(u->s);
  if (trouble) return trouble;
  size_t barrier = np_stream_barrier(u->s);
  len = np_min(len, barrier);
  if (len == barrier) n = np_stream_take_fds(u->s, fds, 0);
  if (n > max) return too_many(L, u, n, max);
  lua_pushlstring(L, data, len);
  if (np_unlikely(u->s != s || np_stream_moves(s) != moves)) return -EAGAIN;
  np_push_closed_descriptors(L, n);
  if (np_unlikely(u->s != s || np_stream_moves(s) != moves)) return -EAGAIN;
  if (n > 0) np_stream_take_fds(u->s, fds, n);
  np_open_descriptors(L, fds, n);
  np_stream_consume(u->s, len);
  u->streak = 0;
  return 2;
}
