/* recv_batch() and send_batch(): many datagrams in one call, as parallel lists: messages,
 * addresses, infos.  What the one returns the other takes, so an echo of many is one line. */
#include <stdio.h>

#include "bindings/dgram_impl.h"
#include "bindings/select.h"
#include "core/cond.h"
#include "core/error.h"

static const np_waitkind recv_wait = {
  .what = "recv_batch", .outside = true, .abort = np_waiter_forget, .describe = np_dgram_describe};
static const np_waitkind send_wait = {
  .what = "send_batch", .outside = true, .abort = np_waiter_forget, .describe = np_dgram_describe};

/* ---- recv_batch ---- */

enum { MANY = 64 }; /* messages when not told */

/* Stack of recv_batch. */
enum { AT_COUNT = 2, AT_INFO, AT_MAX, AT_RECV_DEADLINE, MSGS, FROMS, INFOS };

/* Fills the lists with what the core has. A cut message ends them: it is told by the next call.  0:
 * a finalizer that ran while they were made has closed the socket, or was faster. */
static int give(lua_State *L, dgram *d, int n, int found) {
  np_message m;
  int i;
  bool info = lua_toboolean(L, AT_INFO);
  size_t max = (size_t)lua_tointeger(L, AT_MAX);
  lua_createtable(L, found, 0);
  lua_createtable(L, found, 0);
  if (info) lua_createtable(L, found, 0);
  for (i = 1; i <= n && d->core && np_dgram_next(d->core, max, &m); i++) {
    np_dgram_close_unwanted(L, d, &m, 0);
    if (m.full > m.len && !info) {
      d->cut_full = m.full;
      d->cut_len = m.len;
      if (i == 1) return np_dgram_cut_failed(L, d, m.full, m.len, false);
      break;
    }
    lua_pushlstring(L, m.data, m.len);
    lua_rawseti(L, MSGS, i);
    np_dgram_push_from(L, d, &m.from);
    lua_rawseti(L, FROMS, i);
    if (!info) continue;
    np_dgram_push_info(L, d, &m);
    lua_rawseti(L, INFOS, i);
  }
  return i == 1 ? 0 : np_done(L, info ? 3 : 2);
}

static int k_recv_batch(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L), n = (int)lua_tointeger(L, AT_COUNT);
  lua_settop(L, AT_RECV_DEADLINE);
  if (!d->core) return np_dgram_recv_failed(L, d, NP_ECLOSED, false);
  if (woken < 0 && woken != -ETIMEDOUT) return np_dgram_recv_failed(L, d, woken, false);
  if (d->cut_full) return np_dgram_cut_failed(L, d, d->cut_full, d->cut_len, false);
  int r = np_dgram_recv_batch(d->core, (size_t)lua_tointeger(L, AT_MAX), n);
  if (r == 0 && woken == 0) {
    np_waiter_join(np_task_of(L), &d->readers);
    return np_wait(L, &recv_wait, d, (uint64_t)lua_tointeger(L, AT_RECV_DEADLINE), ctx,
                   k_recv_batch);
  }
  /* there may be more, or an end that all must see */
  if (r != 0 && np_node_linked(&d->readers)) np_waiter_poke(np_waiter_first(&d->readers));
  if (np_node_linked(&d->watchers)) np_dgram_poke_watcher(d);
  if (r == NP_COND_END) return lua_pushnil(L), 1;
  if (r <= 0) return np_dgram_recv_failed(L, d, r < 0 ? r : woken, false);
  d->streak = 0;
  int given = give(L, d, n, r);
  return given ? given : k_recv_batch(L, LUA_OK, ctx);
}

/* socket:recv_batch([n] [, opts]) -> msgs, froms[, infos]; nil at the end of a record socket; or
 * nil, message, code.
 *
 * Waits until there is a message and takes up to n (64, at most 1024) that are there.  opts: info
 * (true: the third list), max (bytes of a message, 65536; n times max is at most 64 MiB), timeout
 * (seconds).  A message longer than max ends the batch before it and is the next call's failure,
 * "EMSGSIZE"; with info it is given cut. Descriptors that came are closed. */
int np_dgram_f_recv_batch(lua_State *L) {
  static const char *const known[] = {"info", "max", "timeout", NULL};
  dgram *d = np_dgram_check(L);
  if (lua_istable(L, 2)) {
    lua_settop(L, 2);
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  lua_settop(L, 3);
  lua_Integer n = luaL_optinteger(L, 2, MANY);
  luaL_argcheck(L, n >= 1 && n <= NP_BATCH_MAX, 2, "not from 1 to 1024 messages");
  if (!lua_isnil(L, 3)) np_check_options(L, 3, known);
  lua_Integer max = np_opt_integer(L, 3, "max", NP_DGRAM_DEFAULT, 1, NP_DGRAM_MAX);
  luaL_argcheck(L, (size_t)n * (size_t)max <= NP_BATCH_BYTES, 3,
                "option 'max': more than 64 MiB with all messages");
  bool info = np_opt_boolean(L, 3, "info", false);
  uint64_t deadline = np_deadline_opt(L, 3, d->timeout);
  np_op_begin(L, "recv_batch");
  int r = info && d->core ? np_dgram_want_info(d->core) : 0;
  if (r < 0) return np_dgram_recv_failed(L, d, r, false);
  lua_settop(L, 1);
  lua_pushinteger(L, n);
  lua_pushboolean(L, info);
  lua_pushinteger(L, max);
  lua_pushinteger(L, (lua_Integer)deadline);
  if (np_slice_over(L)) return np_give_way(L, 0, k_recv_batch);
  return k_recv_batch(L, LUA_OK, 0);
}

/* ---- send_batch ---- */

enum { CALLS = 16 }; /* of the kernel, before other tasks have a turn */

/* Stack of send_batch: SENT counts what is gone. */
enum { OUT = 2, TO, OPTS, AT_SEND_DEADLINE, AT_WITH, SENT };

typedef struct outgoing { /* one call's worth */
  int n;
  np_outgoing m[NP_SEND_BATCH];
  np_sockaddr to[NP_SEND_BATCH];
  int code; /* why there are no more: the address of the next is bad */
  const char *why;
} outgoing;

static int send_failed(lua_State *L, dgram *d, int code, const char *why) {
  lua_Integer sent = lua_tointeger(L, SENT);
  if (sent > 0) { /* the next call will find the reason */
    lua_pushinteger(L, sent);
    return np_done(L, 1);
  }
  if (code == NP_ECLOSED) return np_fail_closed(L, &d->streak);
  if (lua_istable(L, TO)) lua_rawgeti(L, TO, 1);
  else lua_pushvalue(L, TO);
  if (lua_type(L, -1) != LUA_TSTRING) np_dgram_push_name(L, d);
  const char *where = lua_tostring(L, -1);
  if (why) return np_fail_text(L, np_error_name(code), "send to %s: %s", where, why);
  return np_fail_code(L, code, &d->streak, "send to %s", where);
}

/* The address of message i; that of the one before where it is the same text. The previous text is
 * at the top of the stack and is replaced. */
static int find_to(lua_State *L, dgram *d, outgoing *o, lua_Integer i, const np_sockaddr **to) {
  bool name = false;
  if (lua_isnil(L, TO)) return 0;
  if (lua_istable(L, TO)) lua_rawgeti(L, TO, i);
  else lua_pushvalue(L, TO);
  bool same = o->n > 0 && lua_rawequal(L, -1, -2);
  lua_remove(L, -2);
  *to = same ? o->m[o->n - 1].to : &o->to[o->n];
  if (same) return 0;
  if (lua_type(L, -1) != LUA_TSTRING)
    return luaL_error(L, "send_batch: address #%d is not a string", (int)i);
  if (np_names_find(L, d, -1, &o->to[o->n])) return 0;
  int r = np_dgram_parse_to(L, d, -1, &o->to[o->n], &o->why, &name);
  if (!name) return r;
  o->why = "a name, not an address";
  return -EINVAL;
}

/* Gathers messages from number `first` on. They stay where they are: in the table. */
static void gather(lua_State *L, dgram *d, outgoing *o, lua_Integer first, lua_Integer last) {
  o->n = o->code = 0;
  o->why = NULL;
  lua_pushnil(L);
  for (lua_Integer i = first; i <= last && o->n < NP_SEND_BATCH; i++) {
    const np_sockaddr *to = NULL;
    size_t len;
    o->code = find_to(L, d, o, i, &to);
    if (o->code < 0) break;
    if (lua_rawgeti(L, OUT, i) != LUA_TSTRING)
      luaL_error(L, "send_batch: message #%d is not a string", (int)i);
    const char *p = lua_tolstring(L, -1, &len);
    o->m[o->n++] = (np_outgoing){p, len, to};
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* ALL are sent; WAIT: no room; PAUSE: others should have their turn; or a code. */
enum { WAIT, ALL, PAUSE };

static int send_all(lua_State *L, dgram *d, outgoing *o) {
  lua_Integer total = (lua_Integer)lua_rawlen(L, OUT), sent = lua_tointeger(L, SENT);
  for (int calls = 0; sent < total; calls++) {
    if (calls == CALLS) return PAUSE;
    gather(L, d, o, sent + 1, total);
    if (o->n == 0) return o->code;
    int r = np_dgram_send_batch(d->core, o->m, o->n, lua_touserdata(L, AT_WITH));
    o->why = NULL;
    if (r <= 0) return r == 0 ? WAIT : r;
    sent += r;
    lua_pushinteger(L, sent);
    lua_replace(L, SENT);
  }
  return ALL;
}

static int k_send_batch(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L);
  outgoing o;
  lua_settop(L, SENT);
  if (!d->core) return send_failed(L, d, NP_ECLOSED, NULL);
  if (woken < 0) return send_failed(L, d, woken, NULL);
  o.why = NULL;
  int r = send_all(L, d, &o);
  if (np_node_linked(&d->watchers)) np_dgram_poke_watcher(d);
  if (r < 0) return send_failed(L, d, r, o.why);
  if (r == PAUSE) return np_give_way(L, ctx, k_send_batch);
  if (r == WAIT) {
    np_waiter_join(np_task_of(L), &d->writers);
    return np_wait(L, &send_wait, d, (uint64_t)lua_tointeger(L, AT_SEND_DEADLINE), ctx,
                   k_send_batch);
  }
  d->streak = 0;
  lua_pushvalue(L, SENT);
  return np_done(L, 1);
}

static void check_list(lua_State *L, int idx, const char *what) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, idx, i) != LUA_TSTRING)
      luaL_argerror(L, idx, lua_pushfstring(L, "%s #%d is not a string", what, (int)i));
    lua_pop(L, 1);
  }
}

/* socket:send_batch(msgs [, to] [, opts]) -> number sent, or nil, message, code.
 *
 * msgs: a list of messages, sent in order.  to: the address of all, a literal, or a list of as many
 * (what recv_batch returned); nil: the connected peer.  opts: timeout (seconds), and for all: from,
 * interface, ttl, tos as send.  Waits until all are sent.  A failure or the deadline after some
 * were sent gives their number; the next call finds the reason.  Codes: as send. */
int np_dgram_f_send_batch(lua_State *L) {
  static const char *const known[] = {"from", "interface", "timeout", "tos", "ttl", NULL};
  dgram *d = np_dgram_check(L);
  np_sendwith with;
  const char *why = NULL;
  lua_settop(L, OPTS);
  luaL_checktype(L, OUT, LUA_TTABLE);
  check_list(L, OUT, "message");
  if (lua_istable(L, TO)) {
    check_list(L, TO, "address");
    luaL_argcheck(L, lua_rawlen(L, TO) == lua_rawlen(L, OUT), TO,
                  "as many addresses as messages expected");
  } else {
    luaL_optstring(L, TO, NULL);
  }
  if (!lua_isnil(L, OPTS)) np_check_options(L, OPTS, known);
  uint64_t deadline = np_deadline_opt(L, OPTS, d->timeout);
  lua_pushinteger(L, (lua_Integer)deadline);
  int some = d->core ? np_dgram_read_with(L, d, OPTS, &with, &why) : 0;
  if (some > 0) *(np_sendwith *)lua_newuserdatauv(L, sizeof with, 0) = with;
  else lua_pushnil(L);
  lua_pushinteger(L, 0);
  if (d->scheme == NP_PACKET)
    return send_failed(L, d, -EOPNOTSUPP, "captures are for reading only");
  if (some < 0) return send_failed(L, d, some, why);
  np_op_begin(L, "send_batch");
  if (np_slice_over(L)) return np_give_way(L, 0, k_send_batch);
  return k_send_batch(L, LUA_OK, 0);
}
