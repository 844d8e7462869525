/* neap.signal.core: signals(name, ...), an iterator over the signals that come.
 *
 * Any number of iterators may name the same signal; each gets it.  One that is waited for by
 * several tasks gives each signal to one of them, first come, first served. */
#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/select.h"
#include "bindings/task.h"
#include "core/signal.h"

typedef struct signals {
  const np_type *type;
  np_signal *core; /* NULL: closed */
  np_node waiters;
} signals;

static const np_type signals_type;

static signals *check_signals(lua_State *L) { return np_check_object(L, 1, &signals_type); }

/* The core tells: there is one more. */
static void on_signal(void *owner) {
  np_waiter *w = np_waiter_first(&((signals *)owner)->waiters);
  if (w) np_waiter_poke(w);
}

static int describe_wait(void *obj, char *buf, size_t size) {
  (void)obj;
  return snprintf(buf, size, "signals");
}

static const np_waitkind signals_wait = {
  .what = "wait", .outside = true, .abort = np_waiter_forget, .describe = describe_wait};

enum { AT_DEADLINE = 2, AS_ITERATOR = 1 };

/* The last word of an iterator differs from that of a plain wait: closed is its end, the rest is
 * raised. */
static int finish(lua_State *L, int code, lua_KContext ctx) {
  if (ctx != AS_ITERATOR) return np_fail(L, code, "wait for a signal");
  if (code != NP_ECLOSED) return np_raise(L, code, "wait for a signal");
  lua_pushnil(L);
  return 1;
}

static int k_next(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  signals *s = lua_touserdata(L, 1);
  int woken = np_woken(L);
  if (!s->core) return finish(L, NP_ECLOSED, ctx);
  int signum = np_signal_next(s->core);
  if (signum > 0) {
    lua_pushstring(L, np_signal_name(signum));
    return 1;
  }
  if (woken < 0) return finish(L, woken, ctx);
  np_waiter_join(np_task_of(L), &s->waiters);
  return np_wait(L, &signals_wait, s, (uint64_t)lua_tointeger(L, AT_DEADLINE), ctx, k_next);
}

/* Leaves the object and the deadline on the stack. */
static int begin(lua_State *L, uint64_t deadline_ns, lua_KContext ctx) {
  lua_settop(L, 1);
  lua_pushinteger(L, (lua_Integer)deadline_ns);
  np_op_begin(L, "wait");
  if (np_slice_over(L)) return np_give_way(L, ctx, k_next);
  return k_next(L, LUA_OK, ctx);
}

/* signals() -> name: the iterator. nil once it was closed. */
static int f_call(lua_State *L) {
  check_signals(L);
  return begin(L, NP_NEVER, AS_ITERATOR);
}

/* signals:wait([{timeout = seconds}]) -> name; nil, message, "ETIMEDOUT" or (closed) "ECANCELED" */
static int f_wait(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  check_signals(L);
  lua_settop(L, 2);
  np_check_options(L, 2, known);
  return begin(L, np_deadline_opt(L, 2, -1), 0);
}

static void stop(signals *s) {
  np_signal *core = s->core;
  if (!core) return;
  s->core = NULL;
  np_signal_close(core);
  for (np_waiter *w; (w = np_waiter_first(&s->waiters));) np_waiter_fail(w, NP_ECLOSED);
}

/* signals:close() -> true: what comes from now on is not for it. Idempotent. */
static int f_close(lua_State *L) {
  stop(check_signals(L));
  lua_pushboolean(L, 1);
  return 1;
}

static int f_gc(lua_State *L) {
  signals *s = lua_touserdata(L, 1);
  if (s->core) np_signal_close(s->core);
  s->core = NULL;
  return 0;
}

static int f_tostring(lua_State *L) {
  signals *s = check_signals(L);
  char text[256] = "closed";
  if (s->core) np_signal_describe(s->core, text, sizeof text);
  lua_pushfstring(L, "neap.signals{%s}", text);
  return 1;
}

/* select: {signals} or {signals, "wait"} */
static int poll_signals(lua_State *L, void *obj, int op, int at) {
  (void)op, (void)at;
  signals *s = obj;
  if (!s->core) return np_fail(L, NP_ECLOSED, "wait for a signal");
  int signum = np_signal_next(s->core);
  if (signum < 0) return NP_NOT_READY;
  lua_pushstring(L, np_signal_name(signum));
  return 1;
}

static void add_waiter(void *obj, int op, np_waiter *w) {
  (void)op;
  np_node_append(&((signals *)obj)->waiters, &w->node);
}

static const np_selop ops[] = {{"wait", false}, {NULL, false}};
static const np_selectable selectable = {
  .ops = ops, .outside = true, .poll = poll_signals, .add = add_waiter};

static const luaL_Reg methods[] = {{"wait", f_wait}, {"close", f_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {
  {"__call", f_call},         {"__close", f_close}, {"__gc", f_gc},
  {"__tostring", f_tostring}, {NULL, NULL},
};
static const np_type signals_type = {.name = "neap.signals", .methods = methods, .meta = meta};

static int unknown_signal(lua_State *L, int arg) {
  luaL_Buffer b;
  const char *got = luaL_tolstring(L, arg, NULL);
  luaL_buffinit(L, &b);
  for (int i = 0; np_signal_at(i); i++) {
    if (i) luaL_addstring(&b, ", ");
    luaL_addstring(&b, np_signal_at(i));
  }
  luaL_pushresult(&b);
  return luaL_argerror(
    L, arg, lua_pushfstring(L, "unknown signal '%s' (known: %s)", got, lua_tostring(L, -1)));
}

static int check_signal(lua_State *L, int arg) {
  int signum = -1;
  if (lua_isinteger(L, arg))
    signum = np_signal_name((int)lua_tointeger(L, arg)) ? (int)lua_tointeger(L, arg) : -1;
  else if (lua_type(L, arg) == LUA_TSTRING) signum = np_signal_number(lua_tostring(L, arg));
  else luaL_typeerror(L, arg, "signal name or number");
  if (signum < 0) unknown_signal(L, arg);
  if (!np_signal_catchable(signum))
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "signal '%s' cannot be caught", np_signal_name(signum)));
  return signum;
}

/* signals(name, ...) -> iterator (and what a generic `for` needs to close it)
 *
 * Names as "TERM" or "SIGTERM", or numbers; it gives names without SIG. A signal that comes
 * several times before it is asked for counts once. Raises for unknown names, listing the known.
 * Errors: ENOMEM. */
static int f_signals(lua_State *L) {
  int signums[NP_SIGNALS_MAX], n = lua_gettop(L);
  luaL_argcheck(L, n > 0, 1, "a signal name expected");
  luaL_argcheck(L, n <= NP_SIGNALS_MAX, NP_SIGNALS_MAX + 1, "too many signals");
  for (int i = 0; i < n; i++) signums[i] = check_signal(L, i + 1);
  signals *s = np_new_object(L, &signals_type, sizeof *s, 0);
  np_node_init(&s->waiters);
  int r = np_signal_open(np_loop_of(L), signums, n, on_signal, s, &s->core);
  if (r < 0) return np_fail(L, r, "signals");
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, -3);
  return 4;
}

int luaopen_neap_signal_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"signals", f_signals}, {NULL, NULL}};
  np_type_init(L, &signals_type);
  np_selectable_set(L, &signals_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
