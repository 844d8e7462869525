/* neap.pair.core: pair(kind), two streams that are connected to each other.
 *
 * Pairs of datagram and record sockets are bindings/dgram.c's. */
#include <unistd.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/stream.h"
#include "bindings/task.h"
#include "core/listener.h"
#include "core/socket.h"

/* One end on its way to its stream. */
typedef struct half {
  np_transport *t; /* NULL: the descriptor */
  int fd;
  bool taken; /* it is the stream's, even if that could not be made */
  int r;
} half;

static int push(lua_State *L, half *h) {
  h->taken = true;
  h->r = h->t ? np_push_transport_stream(L, h->t) : np_push_fd_stream(L, h->fd);
  return h->r;
}

static int p_push(lua_State *L) { return push(L, lua_touserdata(L, 1)) < 0 ? 0 : 1; }

static void drop(const half *h) {
  if (h->taken) return;
  if (h->t) h->t->ops->close(h->t, true);
  else close(h->fd);
}

/* While the first stream is made nobody owns the second end: protected. */
static int push_both(lua_State *L, half *a, half *b) {
  lua_pushcfunction(L, p_push);
  lua_pushlightuserdata(L, a);
  bool made = lua_pcall(L, 1, 1, 0) == LUA_OK;
  if (made && a->r == 0 && push(L, b) == 0) return 2;
  drop(a);
  drop(b);
  return made ? np_fail(L, a->r < 0 ? a->r : b->r, "pair") : lua_error(L);
}

static int pair_unix(lua_State *L) {
  int fds[2];
  int r = np_socket_pair(SOCK_STREAM, fds);
  if (r < 0) return np_fail(L, r, "pair");
  return push_both(L, &(half){.fd = fds[0]}, &(half){.fd = fds[1]});
}

static int pair_mem(lua_State *L) {
  np_transport *ends[2];
  int r = np_transport_mem(np_loop_of(L), NP_MEM_CAPACITY, ends);
  if (r < 0) return np_fail(L, r, "pair");
  return push_both(L, &(half){.t = ends[0]}, &(half){.t = ends[1]});
}

/* pair([kind = "unix"]) -> two streams; "unix": an AF_UNIX socket pair, "mem": memory of this
 * process. Errors: EMFILE, ENOMEM. */
static int f_pair(lua_State *L) {
  static const char *const kinds[] = {"unix", "mem", NULL};
  return luaL_checkoption(L, 1, "unix", kinds) == 0 ? pair_unix(L) : pair_mem(L);
}

int luaopen_neap_pair_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"pair", f_pair}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
