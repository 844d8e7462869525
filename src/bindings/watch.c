/* neap.fs.watch: what happens to a file or in a directory. */
#include "bindings/fs_impl.h"
#include "bindings/origin.h"
#include "bindings/select.h"
#include "core/watch.h"

enum { UV_PATH = 1, UV_ORIGIN, USERVALUES = 2 };

/* How a wait ends: failures raise (the iterator). */
enum { CTX_RAISE = 1 };

typedef struct watch {
  const np_type *type;
  np_watcher *core; /* NULL: closed */
  np_node waiters;  /* np_waiter.node; each event wakes the first */
  uint64_t by_ns;   /* of the iterator's present wait: none */
  uint8_t streak;
} watch;

static watch *check(lua_State *L) { return np_check_object(L, 1, &np_watch_type); }

static void on_event(void *owner) {
  np_waiter *next = np_waiter_first(&((watch *)owner)->waiters);
  if (next) np_waiter_poke(next);
}

static int describe(void *obj, char *buf, size_t size) {
  (void)obj;
  return snprintf(buf, size, "a watch");
}

static const np_waitkind event_wait = {"event", true, np_waiter_forget, describe, false};

static int failed(lua_State *L, watch *w, int code, bool raises) {
  if (code == NP_WATCH_END || (raises && (!w->core || code == NP_ECLOSED))) {
    lua_pushnil(L);
    return raises ? 1 : np_done(L, 1);
  }
  lua_getiuservalue(L, 1, UV_PATH);
  const char *path = lua_tostring(L, -1);
  if (raises) return np_raise(L, code, "watch %s", path);
  if (!w->core || code == NP_ECLOSED) return np_fail_closed(L, &w->streak);
  return np_fail_code(L, code, &w->streak, "watch %s", path);
}

/* Stack: the watch, the deadline. */
static int k_event(lua_State *L, int status, lua_KContext ctx) {
  watch *w = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  np_watched e;
  if (!w->core) return failed(L, w, NP_ECLOSED, ctx);
  int r = np_watcher_next(w->core, &e);
  if (r < 0) return failed(L, w, r, ctx);
  if (r == 0 && woken) return failed(L, w, woken, ctx);
  if (r == 0) {
    np_waiter_join(np_task_of(L), &w->waiters);
    return np_wait(L, &event_wait, w, (uint64_t)lua_tointeger(L, 2), ctx, k_event);
  }
  w->streak = 0;
  lua_pushstring(L, e.what);
  if (e.name) lua_pushstring(L, e.name);
  else lua_pushnil(L);
  lua_pushboolean(L, e.directory);
  on_event(w); /* there may be more for another */
  return np_done(L, 3);
}

static const char *const options[] = {"timeout", NULL};

/* event([{timeout = s}]) -> what, name, is_directory; nil when what was watched is gone. */
static int f_event(lua_State *L) {
  check(L);
  lua_settop(L, 2);
  np_check_options(L, 2, options);
  uint64_t by = np_deadline_opt(L, 2, -1);
  np_op_begin(L, "event");
  lua_pushinteger(L, (lua_Integer)by);
  lua_replace(L, 2);
  return k_event(L, LUA_OK, 0);
}

static int next_event(lua_State *L) {
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushinteger(L, (lua_Integer)NP_NEVER);
  np_op_begin(L, "event");
  return k_event(L, LUA_OK, CTX_RAISE);
}

/* events() -> an iterator of event(); ends when what was watched is gone or our side closes. */
static int f_events(lua_State *L) {
  check(L);
  lua_settop(L, 1);
  lua_pushcclosure(L, next_event, 1);
  return 1;
}

/* close() -> true. Idempotent. */
static int f_close(lua_State *L) {
  watch *w = check(L);
  if (w->core) np_watcher_close(w->core);
  w->core = NULL;
  while (np_node_linked(&w->waiters)) np_waiter_fail(np_waiter_first(&w->waiters), NP_ECLOSED);
  lua_pushboolean(L, 1);
  return 1;
}

static int f_gc(lua_State *L) {
  watch *w = lua_touserdata(L, 1);
  if (w->core) np_origin_warn(L, 1, UV_ORIGIN, "an open watch");
  return f_close(L);
}

static int f_tostring(lua_State *L) {
  watch *w = check(L);
  lua_getiuservalue(L, 1, UV_PATH);
  lua_pushfstring(L, "neap.watch{%s%s}", lua_tostring(L, -1), w->core ? "" : " closed");
  return 1;
}

const np_type np_watch_type = {
  .name = "neap.watch",
  .methods =
    (const luaL_Reg[]){{"event", f_event}, {"events", f_events}, {"close", f_close}, {NULL, NULL}},
  .meta =
    (const luaL_Reg[]){
      {"__gc", f_gc}, {"__close", f_close}, {"__tostring", f_tostring}, {NULL, NULL}},
};

/* watch(path) -> watch, or the failure. Never waits. */
int np_fs_watch(lua_State *L) {
  const char *path = np_check_path(L, 1);
  watch *w = np_new_object(L, &np_watch_type, sizeof *w, USERVALUES);
  np_node_init(&w->waiters);
  np_origin_set(L, -1, UV_ORIGIN);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, UV_PATH);
  int r = np_watcher_open(np_loop_of(L), path, on_event, w, &w->core);
  return r < 0 ? np_fail(L, r, "watch %s", path) : 1;
}
