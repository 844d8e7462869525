/* send(): one message to one destination.
 *
 * The destination last used is remembered as text and as bytes, so an echo does not parse what it
 * has just printed.  A name goes through the resolver that the Lua face sets. */
#include <string.h>

#include "bindings/descriptor.h"
#include "bindings/dgram_impl.h"
#include "bindings/select.h"
#include "core/error.h"

static const char resolver_key; /* registry: the function that makes a destination literal */

static const np_waitkind send_wait = {
  .what = "send", .outside = true, .abort = np_waiter_forget, .describe = np_dgram_describe};

/* The text at index 3 is the one kept in user value `n`. */
static bool is_text(lua_State *L, int n) {
  lua_getiuservalue(L, 1, n);
  bool same = lua_rawequal(L, -1, 3);
  lua_pop(L, 1);
  return same;
}

int np_dgram_parse_to(lua_State *L, dgram *d, int idx, np_sockaddr *to, const char **why,
                      bool *name) {
  size_t len;
  np_addr a;
  const char *s = lua_tolstring(L, idx, &len);
  int r = np_addr_parse(&a, s, len, d->scheme, why);
  *name = false;
  if (r < 0) return r;
  if (a.scheme != d->scheme) {
    *why = "not an address this socket can send to";
    return -EPROTOTYPE;
  }
  if ((a.scheme == NP_UDP || a.scheme == NP_ICMP) && !a.literal) {
    *name = true;
    return 0;
  }
  r = np_addr_sockaddr(&a, np_dgram_domain(d->core) == AF_INET6, to);
  if (r == 0) np_dgram_map(d->core, to);
  return r;
}

/* The bytes of the destination text at index 3: an answer's are the sender's.  0 and *to, or a
 * code, with *why. */
static int find_destination(lua_State *L, dgram *d, const np_sockaddr **dest, const char **why,
                            bool *name) {
  *name = false;
  *why = NULL;
  *dest = &d->from;
  if (d->from.len > 0 && is_text(L, UV_FROM)) return 0;
  *dest = &d->to;
  if (d->to.len > 0 && is_text(L, UV_TO)) return 0;
  d->to.len = 0;
  np_sockaddr to;
  int r = np_names_find(L, d, 3, &to) ? 0 : np_dgram_parse_to(L, d, 3, &to, why, name);
  if (r < 0 || *name) return r;
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 1, UV_TO);
  d->to = to;
  return 0;
}

static int send_failed(lua_State *L, dgram *d, int code, const char *why) {
  if (code == NP_ECLOSED) return np_fail_closed(L, &d->streak);
  lua_pushvalue(L, 3);
  if (lua_type(L, -1) != LUA_TSTRING) np_dgram_push_name(L, d);
  const char *where = lua_tostring(L, -1);
  if (why) return np_fail_text(L, np_error_name(code), "send to %s: %s", where, why);
  return np_fail_code(L, code, &d->streak, "send to %s", where);
}

enum { AS_GIVEN, RESOLVED };

/* Stack: the socket, message, destination or nil, options or nil, the deadline, and what goes along
 * (an np_sendwith) or nil. */
enum { DEADLINE = 5, WITH };

static int k_send(lua_State *L, int status, lua_KContext ctx);

/* The resolver's results are on the stack: a literal, or its failure. */
static int k_resolved(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  if (lua_type(L, WITH + 1) != LUA_TSTRING) return 3;
  lua_pushvalue(L, WITH + 1);
  lua_replace(L, 3);
  lua_settop(L, WITH);
  np_op_begin(L, "send");
  return k_send(L, LUA_OK, RESOLVED);
}

static int resolve(lua_State *L, lua_KContext ctx) {
  if (ctx == RESOLVED || lua_rawgetp(L, LUA_REGISTRYINDEX, &resolver_key) != LUA_TFUNCTION)
    return send_failed(L, lua_touserdata(L, 1), -EINVAL, "a name, not an address");
  dgram *d = lua_touserdata(L, 1);
  bool v4 = d->core && np_dgram_domain(d->core) == AF_INET;
  if (d->scheme == NP_ICMP && strncmp(lua_tostring(L, 3), "icmp:", 5) != 0)
    lua_pushfstring(L, "icmp:%s", lua_tostring(L, 3));
  else lua_pushvalue(L, 3);
  lua_pushvalue(L, 4);
  lua_pushstring(L, v4 ? "inet" : NULL);
  lua_callk(L, 3, 3, RESOLVED, k_resolved);
  return k_resolved(L, LUA_OK, RESOLVED);
}

static int gather(lua_State *L, int fds[NP_FDS_MAX]) {
  if (!lua_istable(L, 4)) return 0;
  int n = lua_getfield(L, 4, "fds") == LUA_TNIL ? 0 : np_gather_fds(L, -1, 4, fds);
  lua_pop(L, 1);
  return n;
}

static int k_send(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L), fds[NP_FDS_MAX];
  const char *why = NULL;
  bool name = false, to = !lua_isnil(L, 3);
  lua_settop(L, WITH);
  if (!d->core) return send_failed(L, d, NP_ECLOSED, NULL);
  if (woken < 0) return send_failed(L, d, woken, NULL);
  const np_sockaddr *dest = NULL;
  int r = to ? find_destination(L, d, &dest, &why, &name) : 0;
  if (r < 0) return send_failed(L, d, r, why);
  if (name) return resolve(L, ctx);
  np_sendwith *with = lua_touserdata(L, WITH);
  if (with) {
    with->fds = fds;
    with->nfds = gather(L, fds);
  }
  if (np_unlikely(!d->core)) return send_failed(L, d, NP_ECLOSED, NULL); /* by a finalizer */
  size_t len;
  const char *p = lua_tolstring(L, 2, &len);
  r = np_dgram_send(d->core, p, len, dest, with);
  if (np_unlikely(np_node_linked(&d->watchers))) np_dgram_poke_watcher(d);
  if (r < 0) return send_failed(L, d, r, NULL);
  if (r > 0) {
    np_waiter_join(np_task_of(L), &d->writers);
    return np_wait(L, &send_wait, d, (uint64_t)lua_tointeger(L, DEADLINE), ctx, k_send);
  }
  d->streak = 0;
  lua_pushboolean(L, 1);
  return 1;
}

static const char *const send_known[] = {"fds", "from", "interface", "timeout", "tos", "ttl", NULL};

/* Pushes what goes along with the message, from the options at 4; nil: nothing. 0, or a code. */
static int push_with(lua_State *L, dgram *d, const char **why) {
  int fds[NP_FDS_MAX];
  np_sendwith with = {.ttl = -1, .tos = -1};
  if (lua_isnil(L, 4) && d->scheme != NP_PACKET) {
    lua_pushnil(L);
    return 0;
  }
  int some = d->core ? np_dgram_read_with(L, d, 4, &with, why) : 0;
  int nfds = gather(L, fds);
  bool unix_ = d->scheme == NP_UNIX_DGRAM || d->scheme == NP_UNIX_SEQPACKET;
  if (some < 0) return some;
  if (d->scheme == NP_PACKET) {
    *why = "captures are for reading only";
    return -EOPNOTSUPP;
  }
  if (nfds > 0 && !unix_) {
    *why = "descriptors travel over AF_UNIX only";
    return -EOPNOTSUPP;
  }
  if (some > 0 || nfds > 0) memcpy(lua_newuserdatauv(L, sizeof with, 0), &with, sizeof with);
  else lua_pushnil(L);
  return 0;
}

/* socket:send(msg [, to] [, opts]) -> true, or nil, message, code.
 *
 * One message, whole or not at all; "" is a message.  to: an address of the socket's kind
 * ("host:port" will do for UDP), nil for a connected socket's peer.  opts: fds (a list of
 * descriptors, AF_UNIX only, at most 253; they stay ours), timeout (seconds); of IP: from (the
 * sender's address, as info.to tells it; its port does not matter), interface (name or number), ttl
 * and tos (0 to 255). Waits while the
 * receiver is full. Codes: EMSGSIZE (longer than the socket can send), ECONNREFUSED, EDESTADDRREQ
 * or ENOTCONN (no destination), EPIPE (a record socket's peer is gone), ENOENT, ETIMEDOUT ... */
int np_dgram_f_send(lua_State *L) {
  dgram *d = np_dgram_check(L);
  luaL_checkstring(L, 2);
  if (lua_istable(L, 3)) {
    lua_settop(L, 3);
    lua_pushnil(L);
    lua_insert(L, 3);
  }
  lua_settop(L, 4);
  luaL_optstring(L, 3, NULL);
  if (!lua_isnil(L, 4)) np_check_options(L, 4, send_known);
  uint64_t deadline = np_deadline_opt(L, 4, d->timeout);
  const char *why = NULL;
  lua_pushinteger(L, (lua_Integer)deadline);
  int r = push_with(L, d, &why);
  if (r < 0) return send_failed(L, d, r, why);
  np_op_begin(L, "send");
  if (np_slice_over(L)) return np_give_way(L, AS_GIVEN, k_send);
  return k_send(L, LUA_OK, AS_GIVEN);
}

/* resolver(f): f(destination, opts of send, family) makes a destination with a name literal, or
 * returns nil, message, code; it may wait.  family is "inet" for a socket that can send to no
 * other, else nil. The Lua face sets it once per state. */
int np_dgram_f_resolver(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &resolver_key);
  return 0;
}
