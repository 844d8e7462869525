/* Listeners for scripts: accept, accepts, and the object itself; listening is in listener_open.c.
 *
 * Tasks that wait in accept stand in a queue; an event of the core wakes as many as it expects
 * connections, and each takes its own from the kernel. */
#include "bindings/inherit.h"
#include "bindings/listener_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bindings/dgram.h"
#include "bindings/modules.h"
#include "bindings/option.h"
#include "bindings/origin.h"
#include "bindings/select.h"
#include "bindings/stream.h"
#include "bindings/tls.h"

static listener *check(lua_State *L) { return np_check_object(L, 1, &np_listener_type); }

/* ---- addresses, as text ---- */

/* Pushes the first address; it survives the close. */
static const char *push_first(lua_State *L, int idx) {
  lua_getiuservalue(L, idx, NP_LISTENER_ADDRESSES);
  if (lua_istable(L, -1)) {
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  if (lua_type(L, -1) != LUA_TSTRING) {
    lua_pop(L, 1);
    lua_pushliteral(L, "(nothing)");
  }
  return lua_tostring(L, -1);
}

/* ---- the object ---- */

static void on_event(void *owner, int what) {
  listener *l = owner;
  if (what == NP_LISTENER_STARVED) {
    int lack = np_listener_lack(l->core);
    char buf[160];
    snprintf(buf, sizeof buf,
             "neap: no %s is left to accept with; %llu connections were turned away so far",
             lack == -EMFILE || lack == -ENFILE ? "descriptor" : "memory",
             (unsigned long long)np_listener_shed(l->core));
    lua_warning(l->main, buf, 0);
    return;
  }
  for (int n = np_listener_ready(l->core); n > 0 && np_node_linked(&l->waiters); n--)
    np_waiter_poke(np_waiter_first(&l->waiters));
  if (np_node_linked(&l->waiters)) np_listener_wait(l->core);
}

listener *np_listener_make(lua_State *L) {
  listener *l = np_new_object(L, &np_listener_type, sizeof *l, NP_LISTENER_USERVALUES);
  np_node_init(&l->waiters);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  l->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  np_origin_set(L, -1, NP_LISTENER_ORIGIN);
  return l;
}

int np_listener_start(lua_State *L, listener *l) {
  int r = np_listener_new(np_loop_of(L), &l->core);
  if (r == 0) np_listener_own(l->core, on_event, l);
  return r;
}

void np_listener_end(listener *l) {
  np_listener *core = l->core;
  l->core = NULL;
  while (np_node_linked(&l->waiters)) np_waiter_fail(np_waiter_first(&l->waiters), NP_ECLOSED);
  if (core) np_listener_close(core);
}

int np_listener_fds(lua_State *L, int idx, int fds[NP_LISTEN_SOCKETS_MAX]) {
  const listener *l = np_test_object(L, idx, &np_listener_type);
  int n = !l ? -1 : l->core ? np_listener_count(l->core) : 0;
  for (int i = 0; i < n; i++) fds[i] = np_listener_fd(l->core, i);
  return n;
}

/* ---- accept ---- */

static int wait_describe(void *obj, char *buf, size_t size) {
  listener *l = obj;
  np_object *o = l->core ? np_listener_object(l->core) : NULL;
  return o ? o->type->describe(o, buf, size) : 0;
}

static const np_waitkind accept_wait = {
  .what = "accept", .outside = true, .abort = np_waiter_forget, .describe = wait_describe};
static const np_waitkind accept_mem_wait = {
  .what = "accept", .abort = np_waiter_forget, .describe = wait_describe};

/* The stream on top, just accepted, speaks TLS if the listener does; the handshake begins with its
 * first use, in the connection's own task. 0 or a code, and the stream is closed. */
static int secure(lua_State *L, const listener *l) {
  if (np_likely(!l->tls)) return 0;
  int r = np_tls_put(np_check_stream(L, -1), np_tls_box_core(l->tls), NULL, NULL);
  if (r < 0) np_stream_abort_object(L, -1);
  return r;
}

/* Pushes the connection: a stream or a record socket. 0 or a code, nothing pushed. */
static int push_accepted(lua_State *L, listener *l, const np_accepted *a) {
  const accepts *what = &l->socks[a->which];
  if (!a->mem && what->records) return np_push_fd_dgram(L, a->fd);
  int r = a->mem ? np_push_transport_stream(L, a->mem)
                 : np_push_socket_stream(L, a->fd, &what->kind, &a->peer);
  if (r < 0) return r;
  r = secure(L, l);
  if (r < 0) lua_pop(L, 1);
  return r;
}

enum { ACCEPT, ITERATE };

static int accept_failed(lua_State *L, listener *l, int code, lua_KContext ctx) {
  if (code == NP_ECLOSED) return ctx == ITERATE ? 0 : np_fail_closed(L, &l->streak);
  const char *addr = push_first(L, 1);
  if (ctx == ITERATE) return np_raise(L, code, "accept on %s", addr);
  return np_fail_code(L, code, &l->streak, "accept on %s", addr);
}

/* Opens the stream that was made for it, on top, or pushes what else comes. */
static int open_accepted(lua_State *L, listener *l, const np_accepted *a) {
  if (np_unlikely(a->mem || l->socks[a->which].records)) return push_accepted(L, l, a);
  int r = np_open_socket_stream(L, -1, a->fd, &l->socks[a->which].kind, &a->peer);
  return r < 0 ? r : secure(L, l);
}

/* As np_listener_next.  force: the kernel is asked though no event told. */
static int next(lua_State *L, listener *l, bool force) {
  np_accepted a;
  int r = np_listener_accept(l->core, force, &a);
  if (r < 0) return r;
  r = open_accepted(L, l, &a);
  if (r == 0) l->streak = 0;
  else if (l->core && np_listener_refused(l->core, r)) r = -EAGAIN;
  return r;
}

/* Waits for a connection; */
static int await(lua_State *L, listener *l, uint64_t deadline, lua_KContext ctx, lua_KFunction k) {
  np_waiter_join(np_task_of(L), &l->waiters);
  const np_waitkind *kind = np_listener_mem_name(l->core) ? &accept_mem_wait : &accept_wait;
  return np_wait(L, kind, l, deadline, ctx, k);
}

/* Stack: the listener, the deadline, a closed stream.  Past the deadline the kernel is asked once
 * more, so a timeout of 0 polls. */
static int k_accept(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  listener *l = lua_touserdata(L, 1);
  int woken = np_woken(L);
  lua_settop(L, 3);
  if (!l->core) return accept_failed(L, l, NP_ECLOSED, ctx);
  if (woken < 0 && woken != -ETIMEDOUT) return accept_failed(L, l, woken, ctx);
  int r = next(L, l, woken < 0);
  if (r == 0) return 1;
  if (r == -EAGAIN && woken < 0) r = woken;
  if (r == -EAGAIN) r = np_listener_wait(l->core);
  if (r < 0) return accept_failed(L, l, r, ctx);
  return await(L, l, (uint64_t)lua_tointeger(L, 2), ctx, k_accept);
}

int np_listener_next(lua_State *L) {
  listener *l = check(L);
  return l->core ? next(L, l, false) : NP_ECLOSED;
}

int np_listener_ended(lua_State *L, int code) {
  if (code != NP_ECLOSED) return accept_failed(L, check(L), code, ITERATE);
  lua_pushboolean(L, 0);
  return 1;
}

int np_listener_await(lua_State *L, lua_KContext ctx, lua_KFunction k) {
  listener *l = check(L);
  int r = l->core ? np_listener_wait(l->core) : NP_ECLOSED;
  return r < 0 ? np_listener_ended(L, r) : await(L, l, NP_NEVER, ctx, k);
}

/* `origin`: as np_push_closed_stream. */
static int start_accept(lua_State *L, uint64_t deadline, int origin, lua_KContext ctx) {
  np_op_begin(L, "accept");
  lua_settop(L, 1);
  lua_pushinteger(L, (lua_Integer)deadline);
  np_push_closed_stream(L, origin);
  if (np_slice_over(L)) return np_give_way(L, ctx, k_accept);
  return k_accept(L, LUA_OK, ctx);
}

static const char *const accept_known[] = {"timeout", NULL};

static uint64_t accept_deadline(lua_State *L, int idx) {
  if (lua_isnoneornil(L, idx)) return NP_NEVER;
  np_check_options(L, idx, accept_known);
  return np_deadline_opt(L, idx, -1);
}

/* listener:accept([{timeout = seconds}]) -> stream (record socket for unix-seqpacket:), or nil,
 * message, code: "ETIMEDOUT", "ECANCELED" when the listener was closed by our side. Timeout 0 asks
 * the kernel once. */
static int f_accept(lua_State *L) {
  check(L);
  return start_accept(L, accept_deadline(L, 2), 0, ACCEPT);
}

/* The iterator's step; upvalues: the options table or nil, the line that made it. The control
 * variable at index 2 is the previous connection. */
static int f_next(lua_State *L) {
  check(L);
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  return start_accept(L, accept_deadline(L, 2), lua_upvalueindex(2), ITERATE);
}

/* for conn in listener:accepts([{timeout = seconds per connection}]): ends when our side closes the
 * listener, raises everything else. */
static int f_accepts(lua_State *L) {
  check(L);
  accept_deadline(L, 2);
  lua_settop(L, 2);
  np_origin_push(L); /* once, not for each connection: 1350 instructions where a server serves */
  lua_pushcclosure(L, f_next, 2);
  lua_insert(L, 1);
  return 2;
}

/* ---- the rest ---- */

/* listener:close() -> true. Wakes the tasks in accept with nil, "closed", "ECANCELED". Connections
 * in the backlog are refused; the file of an AF_UNIX path stays (others may hold the socket) and is
 * replaced by the next listen. */
static int f_close(lua_State *L) {
  np_listener_end(check(L));
  lua_pushboolean(L, 1);
  return 1;
}

/* listener:take() -> fd, ...: its sockets' numbers, the caller's from here on; the listener is
 * closed.  nil, message, "EOPNOTSUPP" for mem:. */
static int f_take(lua_State *L) {
  listener *l = check(L);
  if (!l->core) return np_fail(L, NP_ECLOSED, "take %s", push_first(L, 1));
  int n = np_listener_count(l->core);
  if (n == 0) return np_fail(L, -EOPNOTSUPP, "take %s", push_first(L, 1));
  luaL_checkstack(L, n, NULL);
  for (int i = 0; i < n; i++) lua_pushinteger(L, np_listener_take(l->core, 0));
  np_listener_end(l);
  return n;
}

/* listener:option(name [, value]): of all its sockets; reading asks the first. */
static int f_option(lua_State *L) {
  listener *l = check(L);
  char addr[NP_ADDR_MAX];
  snprintf(addr, sizeof addr, "%s", push_first(L, 1));
  lua_pop(L, 1);
  int n = l->core ? np_listener_count(l->core) : 0, results = 0;
  if (n == 0) return np_option_call(L, -1, 2, addr);
  if (lua_isnone(L, 3)) return np_option_call(L, np_listener_fd(l->core, 0), 2, addr);
  for (int i = 0; i < n && l->core && results <= 1; i++) {
    lua_settop(L, 3);
    results = np_option_call(L, np_listener_fd(l->core, i), 2, addr);
  }
  return results;
}

static int f_gc(lua_State *L) {
  listener *l = check(L);
  if (!l->core) return 0;
  char what[NP_ADDR_MAX + 16] = "listener ";
  wait_describe(l, what + 9, sizeof what - 9);
  np_origin_warn(L, 1, NP_LISTENER_ORIGIN, what);
  np_listener_end(l);
  return 0;
}

static int f_tostring(lua_State *L) {
  listener *l = check(L);
  int waiting = 0;
  for (np_node *n = l->waiters.next; n != &l->waiters; n = n->next) waiting++;
  const char *addr = push_first(L, 1);
  lua_pushfstring(L, l->core ? "neap.listener{%s waiting=%d}" : "neap.listener{%s closed}", addr,
                  waiting);
  return 1;
}

static int push_addresses(lua_State *L) {
  lua_getiuservalue(L, 1, NP_LISTENER_ADDRESSES);
  lua_newtable(L);
  for (lua_Integer i = 1, n = luaL_len(L, -2); i <= n; i++) {
    lua_rawgeti(L, -2, i);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/* Fields: address, addresses (a copy), fd (nil when closed or mem:), shed (connections turned away
 * at EMFILE). */
static int f_index(lua_State *L) {
  listener *l = check(L);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "address") == 0) {
    push_first(L, 1);
    return 1;
  }
  if (strcmp(key, "addresses") == 0) return push_addresses(L);
  if (strcmp(key, "fd") == 0 && l->core && np_listener_count(l->core) > 0) {
    lua_pushinteger(L, np_listener_fd(l->core, 0));
    return 1;
  }
  if (strcmp(key, "shed") == 0) {
    lua_pushinteger(L, l->core ? (lua_Integer)np_listener_shed(l->core) : 0);
    return 1;
  }
  return 0;
}

/* ---- select ---- */

static const np_selop ops[] = {{"accept", false}, {NULL, false}};

static int sel_poll(lua_State *L, void *obj, int op, int at) {
  (void)op, (void)at;
  listener *l = obj;
  np_accepted a;
  if (!l->core) return np_fail(L, NP_ECLOSED, "accept");
  int r = np_listener_accept(l->core, false, &a);
  if (r == -EAGAIN) return NP_NOT_READY;
  if (r == 0) r = push_accepted(L, l, &a);
  if (r < 0 && l->core && np_listener_refused(l->core, r)) return NP_NOT_READY;
  return r < 0 ? np_fail(L, r, "accept") : 1;
}

/* A watcher that cannot be set up shows in the next plain accept. */
static void sel_add(void *obj, int op, np_waiter *w) {
  (void)op;
  listener *l = obj;
  np_node_append(&l->waiters, &w->node);
  np_listener_wait(l->core);
}

static const np_selectable selectable = {ops, true, sel_poll, sel_add, NULL};

static const luaL_Reg methods[] = {
  {"accept", f_accept}, {"accepts", f_accepts}, {"close", f_close},
  {"take", f_take},     {"option", f_option},   {NULL, NULL},
};

static const luaL_Reg meta[] = {
  {"__gc", f_gc}, {"__close", f_close}, {"__tostring", f_tostring}, {NULL, NULL}};

const np_type np_listener_type = {"neap.listener", methods, meta, f_index};

static const luaL_Reg functions[] = {{"listen", np_listen},
                                     {"tls", np_listener_tls},
                                     {"inherited", np_inherited_f_list},
                                     {NULL, NULL}};

int luaopen_neap_listener_core(lua_State *L) {
  np_type_init(L, &np_listener_type);
  np_selectable_set(L, &np_listener_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
