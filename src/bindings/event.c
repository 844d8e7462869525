/* neap.event(): a flag that tasks wait for.  set() wakes all of them, in the order in which they
 * came, and each of them has seen it, even if clear() follows before they run.  It counts nothing
 * and carries no value: that is a channel's. */
#include "bindings/select.h"

typedef struct event {
  const np_type *type;
  np_node waiters; /* empty while set */
  bool set;
} event;

static const np_type event_type;

static event *check_event(lua_State *L) { return np_check_object(L, 1, &event_type); }

static int describe(void *obj, char *buf, size_t size) {
  (void)obj;
  return snprintf(buf, size, "event");
}

static const np_waitkind wait_event = {
  .what = "wait", .abort = np_waiter_forget, .describe = describe};

enum { AT_DEADLINE = 2 };

static int k_wait(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  event *e = lua_touserdata(L, 1);
  int woken = np_woken(L);
  if (woken < 0) return np_fail(L, woken, "wait for an event");
  if (lua_gettop(L) > AT_DEADLINE) return 1; /* the true that set() pushed */
  if (e->set) {
    lua_pushboolean(L, 1);
    return 1;
  }
  uint64_t deadline = (uint64_t)lua_tointeger(L, AT_DEADLINE);
  np_waiter_join(np_task_of(L), &e->waiters);
  return np_wait(L, &wait_event, e, deadline, 0, k_wait);
}

/* event:wait([{timeout = seconds}]) -> true
 *
 * At once if it is set.  Past the deadline: nil, "wait for an event: timed out", "ETIMEDOUT". */
static int f_wait(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  check_event(L);
  lua_settop(L, 2);
  np_check_options(L, 2, known);
  uint64_t deadline = np_deadline_opt(L, 2, -1);
  np_op_begin(L, "wait");
  lua_pushinteger(L, (lua_Integer)deadline);
  lua_replace(L, AT_DEADLINE);
  if (np_slice_over(L)) return np_give_way(L, 0, k_wait);
  return k_wait(L, LUA_OK, 0);
}

/* event:set() -> true. Never waits; again is fine. */
static int f_set(lua_State *L) {
  event *e = check_event(L);
  e->set = true;
  for (np_waiter *w; (w = np_waiter_first(&e->waiters));) {
    lua_pushboolean(np_task_thread(w->task), 1);
    np_waiter_give(w);
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* event:clear() -> true: whoever waits from now on waits for the next set(). */
static int f_clear(lua_State *L) {
  check_event(L)->set = false;
  lua_pushboolean(L, 1);
  return 1;
}

/* event:is_set() -> boolean */
static int f_is_set(lua_State *L) {
  lua_pushboolean(L, check_event(L)->set);
  return 1;
}

static int f_tostring(lua_State *L) {
  event *e = check_event(L);
  int waiting = 0;
  for (np_node *n = e->waiters.next; n != &e->waiters; n = n->next) waiting++;
  lua_pushfstring(L, "neap.event{%s waiting=%d}", e->set ? "set" : "clear", waiting);
  return 1;
}

/* ---- select ---- */

static const np_selop ops[] = {{"wait", false}, {NULL, false}};

static int poll_event(lua_State *L, void *obj, int op, int at) {
  (void)op, (void)at;
  event *e = obj;
  if (!e->set) return NP_NOT_READY;
  lua_pushboolean(L, 1);
  return 1;
}

static void add_waiter(void *obj, int op, np_waiter *w) {
  (void)op;
  event *e = obj;
  np_node_append(&e->waiters, &w->node);
}

static const np_selectable selectable = {.ops = ops, .poll = poll_event, .add = add_waiter};

/* ---- the object ---- */

static const luaL_Reg methods[] = {
  {"wait", f_wait}, {"set", f_set}, {"clear", f_clear}, {"is_set", f_is_set}, {NULL, NULL},
};

static const luaL_Reg meta[] = {{"__tostring", f_tostring}, {NULL, NULL}};

static const np_type event_type = {.name = "neap.event", .methods = methods, .meta = meta};

/* event() -> event, not set */
static int f_event(lua_State *L) {
  event *e = np_new_object(L, &event_type, sizeof *e, 0);
  np_node_init(&e->waiters);
  return 1;
}

int luaopen_neap_event_core(lua_State *L);
int luaopen_neap_event_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"event", f_event}, {NULL, NULL}};
  np_type_init(L, &event_type);
  np_selectable_set(L, &event_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
