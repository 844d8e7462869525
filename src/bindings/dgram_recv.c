/* recv() and records(): a message and what came with it, as Lua values.
 *
 * The sender last seen is remembered as bytes and as text, those before it by dgram_names.c, so an
 * address is not printed per message.
 * Descriptors are never without an owner, whatever allocation fails. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bindings/descriptor.h"
#include "bindings/dgram_impl.h"
#include "bindings/select.h"
#include "core/cond.h"

static const np_waitkind recv_wait = {
  .what = "recv", .outside = true, .abort = np_waiter_forget, .describe = np_dgram_describe};

void np_dgram_push_from(lua_State *L, dgram *d, const np_sockaddr *from) {
  if (from->len == 0 || (d->connected && d->scheme == NP_UNIX_SEQPACKET)) {
    if (lua_getiuservalue(L, 1, UV_PEER) == LUA_TSTRING) return;
    lua_pop(L, 1);
  }
  if (from->len == d->from.len && from->len > 0 && memcmp(&from->ss, &d->from.ss, from->len) == 0) {
    lua_getiuservalue(L, 1, UV_FROM);
    return;
  }
  bool second = d->from.len > 0; /* the first sender is often the only one */
  d->from.len = 0;
  if (!np_names_push(L, d, from)) {
    np_dgram_push_sockaddr(L, d->scheme, from);
    if (second) np_names_put(L, d, from);
  }
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, UV_FROM);
  d->from = *from;
}

/* What recv was asked for, packed into one integer that waits on the task's stack. */
enum { WANT_INFO = 1 << 16, WANT_FDS = 1 << 17, FDS_MASK = 0xffff };

typedef struct result {
  dgram *d;
  np_message *m;
  int want;
} result;

/* Pushes msg, from[, info]. May raise (no memory); descriptors are still m's then. */
static int push_message(lua_State *L, const result *r) {
  lua_pushlstring(L, r->m->data, r->m->len);
  np_dgram_push_from(L, r->d, &r->m->from);
  if (!(r->want & (WANT_INFO | WANT_FDS))) return 2;
  np_dgram_push_info(L, r->d, r->m);
  return 3;
}

static int p_message(lua_State *L) { return push_message(L, lua_touserdata(L, 2)); }

static void warn_unwanted(lua_State *L, dgram *d, int n) {
  char buf[NP_ADDR_MAX + 100], where[NP_ADDR_MAX];
  if (d->warned) return;
  d->warned = true;
  np_dgram_describe(d, where, sizeof where);
  snprintf(buf, sizeof buf,
           "neap: %s: %d received descriptors nobody asked for were closed (recv with {fds = n})",
           where, n);
  lua_warning(L, buf, 0);
}

void np_dgram_close_unwanted(lua_State *L, dgram *d, np_message *m, int keep) {
  if (m->with.nfds <= keep) return;
  warn_unwanted(L, d, m->with.nfds - keep);
  for (int i = keep; i < m->with.nfds; i++) close(m->with.fds[i]);
  m->with.nfds = keep;
}

/* The results of a message with descriptors: nothing may be lost on the way. */
static int give_with_fds(lua_State *L, result *r) {
  np_ancillary *w = &r->m->with;
  int top = lua_gettop(L);
  lua_pushcfunction(L, p_message);
  lua_pushvalue(L, 1);
  lua_pushlightuserdata(L, r);
  if (lua_pcall(L, 2, LUA_MULTRET, 0) != LUA_OK) {
    np_ancillary_close(w);
    return lua_error(L);
  }
  np_push_descriptors(L, w->fds, w->nfds);
  lua_setfield(L, -2, "fds");
  return lua_gettop(L) - top;
}

static int give(lua_State *L, dgram *d, np_message *m, int want) {
  result r = {d, m, want};
  np_dgram_close_unwanted(L, d, m, want & WANT_FDS ? want & FDS_MASK : 0);
  if (want & WANT_FDS) return give_with_fds(L, &r);
  return push_message(L, &r);
}

enum { RECV, ITERATE };

int np_dgram_recv_failed(lua_State *L, dgram *d, int code, bool iterate) {
  if (code == NP_ECLOSED) return iterate ? 0 : np_fail_closed(L, &d->streak);
  const char *name = np_dgram_push_name(L, d);
  if (iterate) return np_raise(L, code, "recv on %s", name);
  return np_fail_code(L, code, &d->streak, "recv on %s", name);
}

int np_dgram_cut_failed(lua_State *L, dgram *d, size_t full, size_t len, bool iterate) {
  static const char text[] = "recv on %s: %d bytes came, %d were asked for";
  const char *name = np_dgram_push_name(L, d);
  d->cut_full = 0;
  if (iterate) return np_raise(L, -EMSGSIZE, text, name, (int)full, (int)len);
  return np_fail(L, -EMSGSIZE, text, name, (int)full, (int)len);
}

/* Stack: the socket, max, what is wanted, the deadline. */
static int k_recv(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L);
  np_message m;
  lua_settop(L, 4);
  if (woken == NP_ECLOSED) d->streak = 0; /* each of many waiters hears it once */
  if (!d->core) return np_dgram_recv_failed(L, d, NP_ECLOSED, ctx);
  if (woken < 0 && woken != -ETIMEDOUT) return np_dgram_recv_failed(L, d, woken, ctx);
  if (np_unlikely(d->cut_full)) return np_dgram_cut_failed(L, d, d->cut_full, d->cut_len, ctx);
  int r = np_dgram_recv(d->core, (size_t)lua_tointeger(L, 2), &m);
  if (r == 0 && woken == 0) {
    np_waiter_join(np_task_of(L), &d->readers);
    return np_wait(L, &recv_wait, d, (uint64_t)lua_tointeger(L, 4), ctx, k_recv);
  }
  if (r != 0)
    if (np_node_linked(&d->readers))
      np_waiter_poke(
        np_waiter_first(&d->readers)); /* there may be more, or an end that all must see */
  if (np_unlikely(np_node_linked(&d->watchers))) np_dgram_poke_watcher(d);
  if (r == NP_COND_END) return lua_pushnil(L), 1;
  if (r <= 0) return np_dgram_recv_failed(L, d, r < 0 ? r : woken, ctx);
  d->streak = 0;
  int want = (int)lua_tointeger(L, 3);
  if (m.full > m.len && !want) { /* what lost its end is not passed off as whole */
    np_dgram_close_unwanted(L, d, &m, 0);
    return np_dgram_cut_failed(L, d, m.full, m.len, ctx);
  }
  return give(L, d, &m, want);
}

static const char *const recv_known[] = {"fds", "info", "timeout", NULL};

/* Leaves what k_recv needs on the stack; arguments: [max,] [opts]. */
static void read_recv(lua_State *L, dgram *d) {
  if (lua_gettop(L) == 1) {
    lua_pushinteger(L, NP_DGRAM_DEFAULT);
    lua_pushinteger(L, 0);
    lua_pushinteger(L, (lua_Integer)np_deadline_opt(L, 4, d->timeout));
    return;
  }
  if (lua_istable(L, 2)) {
    lua_settop(L, 2);
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  lua_settop(L, 3);
  lua_Integer max = luaL_optinteger(L, 2, NP_DGRAM_DEFAULT);
  luaL_argcheck(L, max >= 1 && max <= NP_DGRAM_MAX, 2, "not from 1 to 16777216 bytes");
  if (!lua_isnil(L, 3)) np_check_options(L, 3, recv_known);
  lua_Integer want = np_opt_integer(L, 3, "fds", -1, 0, NP_FDS_MAX);
  want = want < 0 ? 0 : want | WANT_FDS;
  if (np_opt_boolean(L, 3, "info", false)) want |= WANT_INFO;
  uint64_t deadline = np_deadline_opt(L, 3, d->timeout);
  lua_pushinteger(L, max);
  lua_replace(L, 2);
  lua_pushinteger(L, want);
  lua_replace(L, 3);
  lua_pushinteger(L, (lua_Integer)deadline);
}

static int start_recv(lua_State *L, dgram *d, lua_KContext ctx) {
  np_op_begin(L, "recv");
  if (d->core && lua_tointeger(L, 3) & WANT_INFO) {
    int r = np_dgram_want_info(d->core);
    if (r < 0) return np_dgram_recv_failed(L, d, r, ctx);
  }
  if (np_slice_over(L)) return np_give_way(L, ctx, k_recv);
  return k_recv(L, LUA_OK, ctx);
}

/* socket:recv([max,] [opts]) -> msg, from[, info]; nil at the end of a record socket; or nil,
 * message, code.
 *
 * One message of at most max bytes (65536).  A longer one is an error, "EMSGSIZE", and gone; with
 * {info = true} it is given cut, info.truncated being its real length.  from is the sender's
 * address, of a record socket its peer's.  opts: info (true: a table {truncated, to, ifindex, ttl,
 * tos, ecn, time, credentials = {pid, uid, gid}}; of UDP, messages that came before the first such
 * call may lack some), fds (n: AF_UNIX, up to n descriptors in info.fds, a to-be-closed list;
 * others are closed), timeout (seconds). "ECONNREFUSED": an earlier send of a connected socket
 * found nobody; the socket goes on. "EMFILE": the descriptors of a message could not be had; the
 * next recv gives its bytes. */
int np_dgram_f_recv(lua_State *L) {
  dgram *d = np_dgram_check(L);
  read_recv(L, d);
  return start_recv(L, d, RECV);
}

/* Upvalues: max, opts. The control variable at index 2 is the previous message. */
static int f_next(lua_State *L) {
  dgram *d = np_dgram_check(L);
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  read_recv(L, d);
  return start_recv(L, d, ITERATE);
}

/* for msg, from[, info] in socket:records([max,] [opts]): ends with the peer's end, or when our
 * side closes the socket; raises everything else.  Of datagrams it has no end. */
int np_dgram_f_records(lua_State *L) {
  np_dgram_check(L);
  if (lua_istable(L, 2)) {
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  lua_settop(L, 3);
  lua_pushcclosure(L, f_next, 2);
  lua_insert(L, 1);
  return 2;
}
