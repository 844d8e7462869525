/* recv_error(): what ICMP and our own kernel said about datagrams that were sent, one report each,
 * as a table. Apart from recv, because it is about other messages than those that come. */
#include "bindings/dgram_impl.h"
#include "bindings/select.h"
#include "core/error.h"

static const np_waitkind error_wait = {
  .what = "recv_error", .outside = true, .abort = np_waiter_forget, .describe = np_dgram_describe};

static void set_integer(lua_State *L, const char *key, lua_Integer v) {
  lua_pushinteger(L, v);
  lua_setfield(L, -2, key);
}

static void push_error(lua_State *L, dgram *d, const np_dgram_error *e) {
  static const char *const origins[] = {
    [NP_BY_US] = "local", [NP_BY_ICMP] = "icmp", [NP_BY_ICMP6] = "icmpv6"};
  lua_createtable(L, 0, 8);
  lua_pushstring(L, np_error_name(e->code));
  lua_setfield(L, -2, "code");
  lua_pushstring(L, np_error_text(e->code));
  lua_setfield(L, -2, "message");
  lua_pushstring(L, origins[e->origin]);
  lua_setfield(L, -2, "origin");
  if (e->to.len > 0) {
    np_dgram_push_sockaddr(L, d->scheme, &e->to);
    lua_setfield(L, -2, "to");
  }
  if (e->from.len > 0) { /* a router or host, not a socket: without a port */
    np_dgram_push_sockaddr(L, NP_ICMP, &e->from);
    lua_setfield(L, -2, "from");
  }
  if (e->origin != NP_BY_US) {
    set_integer(L, "icmp_type", e->type);
    set_integer(L, "icmp_code", e->subtype);
  }
  if (e->mtu > 0) set_integer(L, "mtu", e->mtu);
  lua_pushlstring(L, e->data, e->len);
  lua_setfield(L, -2, "data");
}

static int error_failed(lua_State *L, dgram *d, int code) {
  if (code == NP_ECLOSED) return np_fail_closed(L, &d->streak);
  const char *name = np_dgram_push_name(L, d);
  if (code == -EOPNOTSUPP)
    return np_fail_text(L, np_error_name(code),
                        "recv_error on %s: the socket was opened without {errors = true}", name);
  return np_fail_code(L, code, &d->streak, "recv_error on %s", name);
}

/* Stack: the socket, options, the deadline. */
static int k_error(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L);
  np_dgram_error e;
  lua_settop(L, 3);
  if (!d->core) return error_failed(L, d, NP_ECLOSED);
  if (woken < 0 && woken != -ETIMEDOUT) return error_failed(L, d, woken);
  int r = np_dgram_recv_error(d->core, &e);
  if (r == 0 && woken == 0) {
    np_waiter_join(np_task_of(L), &d->watchers);
    return np_wait(L, &error_wait, d, (uint64_t)lua_tointeger(L, 3), ctx, k_error);
  }
  if (r <= 0) return error_failed(L, d, r < 0 ? r : woken);
  np_dgram_poke_watcher(d);
  d->streak = 0;
  push_error(L, d, &e);
  return np_done(L, 1);
}

/* socket:recv_error([opts]) -> {code, message, origin, to, from, icmp_type, icmp_code, mtu, data},
 * or nil, message, code ("EOPNOTSUPP": opened without {errors = true}). opts: timeout (seconds). */
int np_dgram_f_recv_error(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  dgram *d = np_dgram_check(L);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) np_check_options(L, 2, known);
  uint64_t deadline = np_deadline_opt(L, 2, d->timeout);
  np_op_begin(L, "recv_error");
  lua_pushinteger(L, (lua_Integer)deadline);
  return k_error(L, LUA_OK, 0);
}
