/* neap.hub.core: hub(options), one message for many streams.  The bytes exist once and are
 * counted; each member's queue is flushed when the sending task's slice ends.  A policy says what
 * happens to a member that does not keep up. */
#include <stdlib.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/stream_impl.h"

enum { UV_MEMBERS = 1 }; /* a list: member i of the array at i + 1 */

typedef enum policy { WAIT, DROP, DISCONNECT } policy;

typedef struct hub {
  const np_type *type;
  stream **members; /* in the order of joining; anchored by the list */
  int n, cap;
  policy policy;
  size_t limit; /* bytes a member's queue may hold when a message is to be added */
  uint64_t timeout_ns;
  uint64_t sent, dropped, disconnected;
  uint8_t streak;
} hub;

static const np_type hub_type;

static hub *self(lua_State *L) { return np_check_object(L, 1, &hub_type); }

static bool gone(const stream *u) { return !u->s || np_stream_error(u->s); }

/* Keeps the members for which keep says so, in their order. */
static void sift(lua_State *L, hub *h, bool (*keep)(const stream *u, const void *arg),
                 const void *arg) {
  int kept = 0;
  lua_getiuservalue(L, 1, UV_MEMBERS);
  for (int i = 0; i < h->n; i++) {
    if (!keep(h->members[i], arg)) continue;
    if (kept != i) {
      lua_rawgeti(L, -1, i + 1);
      lua_rawseti(L, -2, kept + 1);
      h->members[kept] = h->members[i];
    }
    kept++;
  }
  int had = h->n;
  h->n = kept;
  for (int i = kept; i < had; i++) {
    lua_pushnil(L);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pop(L, 1);
}

static bool present(const stream *u, const void *arg) {
  (void)arg;
  return !gone(u);
}
static bool other(const stream *u, const void *arg) { return u != arg; }

/* Members that were closed or failed leave. */
static void prune(lua_State *L, hub *h) {
  for (int i = 0; i < h->n; i++) {
    if (!gone(h->members[i])) continue;
    sift(L, h, present, NULL);
    return;
  }
}

/* add(stream): the hub. A stream is a member once; it stays its owner's, who reads, writes and
 * closes it. */
static int f_add(lua_State *L) {
  hub *h = self(L);
  stream *u = np_check_object(L, 2, &np_stream_type);
  lua_settop(L, 2);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "add");
  prune(L, h);
  for (int i = 0; i < h->n; i++) {
    if (h->members[i] == u) return lua_settop(L, 1), 1;
  }
  if (h->n == h->cap) {
    int cap = h->cap ? 2 * h->cap : 8;
    stream **m = realloc(h->members, (size_t)cap * sizeof *m);
    if (!m) return luaL_error(L, "not enough memory");
    h->members = m;
    h->cap = cap;
  }
  lua_getiuservalue(L, 1, UV_MEMBERS);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, h->n + 1);
  h->members[h->n++] = u;
  lua_settop(L, 1);
  return 1;
}

/* remove(stream): the hub. */
static int f_remove(lua_State *L) {
  hub *h = self(L);
  stream *u = np_check_object(L, 2, &np_stream_type);
  sift(L, h, other, u);
  lua_settop(L, 1);
  return 1;
}

/* ---- sending. Stack: hub, message, except, and while it waits the slow member ---- */

enum { AT_TEXT = 2, AT_EXCEPT = 3, AT_SLOW = 4 };

static bool slow(const hub *h, const stream *u) { return np_stream_out(u->s) > h->limit; }

static void slow_abort(np_task *t, void *obj) { np_waiter_forget(t, obj); }
static const np_waitkind slow_wait = {"hub send", true, slow_abort, np_stream_describe, false};

/* The first member whose queue is above the limit, pushed at AT_SLOW; NULL: there is none. */
static stream *find_slow(lua_State *L, hub *h, const stream *except) {
  for (int i = 0; i < h->n; i++) {
    stream *u = h->members[i];
    if (u == except || gone(u) || !slow(h, u)) continue;
    np_stream_flush(u->s); /* what was queued in this slice has not been tried yet */
    if (gone(u) || !slow(h, u)) continue;
    lua_settop(L, AT_SLOW - 1);
    lua_getiuservalue(L, 1, UV_MEMBERS);
    lua_rawgeti(L, -1, i + 1);
    lua_replace(L, AT_SLOW);
    return u;
  }
  return NULL;
}

static void disconnect(hub *h, stream *u) {
  np_stream_fail(u->s, -ENOBUFS);
  h->disconnected++;
}

static int deliver(lua_State *L, hub *h, const stream *except) {
  size_t len;
  const char *p = lua_tolstring(L, AT_TEXT, &len);
  np_payload *y = np_payload_new(p, len);
  if (!y) return luaL_error(L, "not enough memory");
  int count = 0;
  for (int i = 0; i < h->n; i++) {
    stream *u = h->members[i];
    if (u == except || gone(u)) continue;
    if (slow(h, u) && h->policy != WAIT) np_stream_flush(u->s);
    if (gone(u)) continue;
    if (!slow(h, u) || h->policy == WAIT) count += np_stream_write_shared(u->s, y) >= 0;
    else if (h->policy == DROP) h->dropped++;
    else disconnect(h, u);
  }
  np_payload_unref(y);
  h->sent++;
  h->streak = 0;
  prune(L, h);
  lua_pushinteger(L, count);
  return np_done(L, 1);
}

static int k_send(lua_State *L, int status, lua_KContext by) {
  hub *h = lua_touserdata(L, 1);
  stream *except = lua_touserdata(L, AT_EXCEPT), *u;
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  prune(L, h);
  if (h->policy != WAIT || !(u = find_slow(L, h, except))) return deliver(L, h, except);
  if (woken && woken != NP_ECLOSED)
    return np_fail_code(L, woken, &h->streak, "hub send: %s", np_stream_name(L, u));
  np_stream_write_end(u->s); /* tells below NP_WRITE_LOW; the flush before it when all is out */
  np_waiter_join(np_task_of(L), &u->flushers);
  return np_wait(L, &slow_wait, u, (uint64_t)by, by, k_send);
}

static const char *const send_options[] = {"timeout", "except", NULL};

/* send(text[, {except = stream, timeout = s}]): how many members it was queued for.  Whole
 * messages, in the same order for all.  Policy "wait": waits before it queues for anybody; past
 * the deadline nobody got it: nil, message, ETIMEDOUT. */
static int f_send(lua_State *L) {
  hub *h = self(L);
  luaL_checkstring(L, AT_TEXT);
  np_check_options(L, 3, send_options);
  double s = np_opt_seconds(L, 3, "timeout", -1);
  uint64_t ns = s < 0 ? h->timeout_ns : np_seconds_ns(s);
  uint64_t by = ns == NP_NEVER ? NP_NEVER : np_deadline_after(np_loop_of(L), ns);
  if (lua_istable(L, 3)) lua_getfield(L, 3, "except");
  else lua_pushnil(L);
  if (!lua_isnil(L, -1) && !np_test_object(L, -1, &np_stream_type))
    return luaL_argerror(L, 3, "option 'except': a stream expected");
  lua_insert(L, AT_EXCEPT);
  lua_settop(L, AT_EXCEPT);
  np_op_begin(L, "hub send");
  return k_send(L, LUA_OK, (lua_KContext)by);
}

/* ---- the object ---- */

static int f_gc(lua_State *L) {
  hub *h = self(L);
  free(h->members);
  h->members = NULL;
  h->n = h->cap = 0;
  return 0;
}

static int f_len(lua_State *L) {
  hub *h = self(L);
  lua_settop(L, 1);
  prune(L, h);
  lua_pushinteger(L, h->n);
  return 1;
}

/* members(): a list of them, in the order of joining. */
static int f_members(lua_State *L) {
  hub *h = self(L);
  lua_settop(L, 1);
  prune(L, h);
  lua_getiuservalue(L, 1, UV_MEMBERS);
  lua_createtable(L, h->n, 0);
  for (int i = 1; i <= h->n; i++) {
    lua_rawgeti(L, 2, i);
    lua_rawseti(L, 3, i);
  }
  return 1;
}

/* stats(): { members, sent, dropped, disconnected }: messages sent; not queued for a slow member;
 * members cut off. */
static int f_stats(lua_State *L) {
  hub *h = self(L);
  lua_settop(L, 1);
  prune(L, h);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, h->n);
  lua_setfield(L, -2, "members");
  lua_pushinteger(L, (lua_Integer)h->sent);
  lua_setfield(L, -2, "sent");
  lua_pushinteger(L, (lua_Integer)h->dropped);
  lua_setfield(L, -2, "dropped");
  lua_pushinteger(L, (lua_Integer)h->disconnected);
  lua_setfield(L, -2, "disconnected");
  return 1;
}

static const char *const policies[] = {"wait", "drop", "disconnect", NULL};

static int f_tostring(lua_State *L) {
  hub *h = self(L);
  lua_pushfstring(L, "neap.hub{%s members=%d dropped=%d}", policies[h->policy], h->n,
                  (int)h->dropped);
  return 1;
}

static const luaL_Reg methods[] = {{"add", f_add},         {"remove", f_remove}, {"send", f_send},
                                   {"members", f_members}, {"stats", f_stats},   {NULL, NULL}};
static const luaL_Reg meta[] = {
  {"__gc", f_gc}, {"__len", f_len}, {"__tostring", f_tostring}, {NULL, NULL}};
static const np_type hub_type = {.name = "neap.hub", .methods = methods, .meta = meta};

static policy check_policy(lua_State *L) {
  const char *name = np_opt_string(L, 1, "policy", "disconnect");
  for (int i = 0; policies[i]; i++)
    if (strcmp(name, policies[i]) == 0) return (policy)i;
  return luaL_argerror(L, 1, "option 'policy': \"wait\", \"drop\" or \"disconnect\" expected");
}

static const char *const known[] = {"policy", "limit", "timeout", NULL};

/* hub([{policy = "disconnect", limit = 262144, timeout = s}]): a member whose queue holds more
 * than `limit` bytes when a message comes is slow: "wait" holds the sender, "drop" leaves the
 * message out for it, "disconnect" fails its stream with ENOBUFS.  So a member costs at most limit
 * and one message. */
static int f_hub(lua_State *L) {
  np_check_options(L, 1, known);
  policy p = check_policy(L);
  lua_Integer limit = np_opt_integer(L, 1, "limit", NP_WRITE_HIGH, 0, LUA_MAXINTEGER);
  double s = np_opt_seconds(L, 1, "timeout", -1);
  hub *h = np_new_object(L, &hub_type, sizeof *h, 1);
  h->policy = p;
  h->limit = (size_t)limit;
  h->timeout_ns = s < 0 ? NP_NEVER : np_seconds_ns(s);
  lua_newtable(L);
  lua_setiuservalue(L, -2, UV_MEMBERS);
  return 1;
}

int luaopen_neap_hub_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"hub", f_hub}, {NULL, NULL}};
  np_type_init(L, &hub_type);
  luaL_newlib(L, functions);
  return 1;
}
