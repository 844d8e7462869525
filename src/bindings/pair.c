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

static int pair_unix(lua_State *L) {
  int fds[2];
  int r = np_socket_pair(SOCK_STREAM, fds);
  if (r < 0) return np_fail(L, r, "pair");
  r = np_push_fd_stream(L, fds[0]);
  if (r < 0) close(fds[1]);
  else r = np_push_fd_stream(L, fds[1]);
  return r < 0 ? np_fail(L, r, "pair") : 2;
}

static int pair_mem(lua_State *L) {
  np_transport *ends[2];
  int r = np_transport_mem(np_loop_of(L), NP_MEM_CAPACITY, ends);
  if (r < 0) return np_fail(L, r, "pair");
  r = np_push_transport_stream(L, ends[0]);
  if (r < 0) ends[1]->ops->close(ends[1], true);
  else r = np_push_transport_stream(L, ends[1]);
  return r < 0 ? np_fail(L, r, "pair") : 2;
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
