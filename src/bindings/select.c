/* neap.select{a, b, {ch, "put", v}, timeout = s}: waits for several operations, of which exactly
 * one happens.
 *
 * The cases are polled in the order of the list; if none is ready, one waiter per case is queued,
 * and whichever object comes first takes all of them off.  The order of the list is the order of
 * preference: a case that is always ready starves those behind it.  The objects and values lie on
 * the waiting task's stack, so a list that somebody changes meanwhile changes nothing here. */
#include "bindings/select.h"

#include <string.h>

/* Polling is linear in the cases; who has more wants a channel that all of them feed. */
enum { CASES_MAX = 1000 };

typedef struct np_case {
  np_waiter waiter;
  const np_selectable *type;
  void *obj;
  int op;
} np_case;

typedef struct np_select {
  uint64_t deadline_ns;
  int n;
  int won;      /* the case whose object completed it, from 1; 0: none yet */
  bool outside; /* some case can be made ready from outside the process */
  np_case cases[];
} np_select;

/* The stack of a select: 1 the list, 2 the np_select, then object and value (or nil) of each case,
 * then results. */
enum { AT_LIST = 1, AT_SELECT = 2 };

static const char selectable_key = 's'; /* its address is the key in metatables */

void np_selectable_set(lua_State *L, const np_type *type, const np_selectable *s) {
  np_push_metatable(L, type);
  lua_pushlightuserdata(L, (void *)s);
  lua_rawsetp(L, -2, &selectable_key);
  lua_pop(L, 1);
}

static const np_selectable *selectable_of(lua_State *L, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return NULL;
  lua_rawgetp(L, -1, &selectable_key);
  const np_selectable *s = lua_touserdata(L, -1);
  lua_pop(L, 2);
  return s;
}

/* ---- waiters ---- */

static void unlink_all(np_select *s) {
  for (int i = 0; i < s->n; i++) {
    np_case *c = &s->cases[i];
    if (!np_node_linked(&c->waiter.node)) continue;
    if (c->type->remove) c->type->remove(c->obj, &c->waiter);
    else np_node_remove(&c->waiter.node);
  }
}

void np_waiter_give(np_waiter *w) {
  if (w->select) {
    unlink_all(w->select);
    w->select->won = w->which;
  } else {
    np_node_remove(&w->node);
  }
  np_task_wake(w->task);
}

void np_waiter_poke(np_waiter *w) {
  if (w->select) unlink_all(w->select);
  else np_node_remove(&w->node);
  np_task_wake(w->task);
}

void np_waiter_fail(np_waiter *w, int code) {
  if (w->select) {
    np_waiter_poke(w);
  } else {
    np_node_remove(&w->node);
    np_task_wake_code(w->task, code);
  }
}

np_waiter *np_waiter_join(np_task *t, np_node *queue) {
  np_waiter *w = np_task_waiter(t);
  np_node_append(queue, &w->node);
  return w;
}

void np_waiter_forget(np_task *t, void *obj) {
  (void)obj;
  np_node_remove(&np_task_waiter(t)->node);
}

/* ---- waiting ---- */

static void select_abort(np_task *t, void *obj) {
  (void)t;
  unlink_all(obj);
}

static int select_describe(void *obj, char *buf, size_t size) {
  np_select *s = obj;
  return snprintf(buf, size, "%d case%s", s->n, s->n == 1 ? "" : "s");
}

static const np_waitkind wait_inside = {
  .what = "select", .abort = select_abort, .describe = select_describe};
static const np_waitkind wait_outside = {
  .what = "select", .outside = true, .abort = select_abort, .describe = select_describe};

static int poll_all(lua_State *L, np_select *s) {
  for (int i = 1; i <= s->n; i++) {
    np_case *c = &s->cases[i - 1];
    if (c->type->poll(L, c->obj, c->op, c->waiter.value - 1) == NP_NOT_READY) continue;
    return i;
  }
  return 0;
}

static void add_all(np_select *s) {
  for (int i = 0; i < s->n; i++) {
    np_case *c = &s->cases[i];
    c->type->add(c->obj, c->op, &c->waiter);
  }
}

/* ctx is the height of the stack without results. */
static int k_select(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  np_select *s = lua_touserdata(L, AT_SELECT);
  int woken = np_woken(L);
  if (s->won == 0) s->won = poll_all(L, s);
  if (s->won > 0) {
    lua_pushinteger(L, s->won);
    lua_insert(L, (int)ctx + 1);
    return lua_gettop(L) - (int)ctx;
  }
  if (woken < 0) return np_fail(L, woken, "select");
  add_all(s);
  return np_wait(L, s->outside ? &wait_outside : &wait_inside, s, s->deadline_ns, ctx, k_select);
}

/* ---- arguments ---- */

static int bad_case(lua_State *L, int which, const char *what) {
  return luaL_argerror(L, AT_LIST, lua_pushfstring(L, "case %d: %s", which, what));
}

/* Every key is a case's position or "timeout"; anything else is a slip of the pen. */
static void check_keys(lua_State *L, int n) {
  for (lua_pushnil(L); lua_next(L, AT_LIST); lua_pop(L, 1)) {
    if (lua_isinteger(L, -2)) {
      lua_Integer i = lua_tointeger(L, -2);
      if (i >= 1 && i <= n) continue;
      luaL_argerror(L, AT_LIST, lua_pushfstring(L, "case %I stands behind a nil", i));
    }
    if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "timeout") == 0) continue;
    luaL_argerror(
      L, AT_LIST,
      lua_pushfstring(L, "unknown option '%s' (known: timeout)", luaL_tolstring(L, -2, NULL)));
  }
}

static int find_op(lua_State *L, int which, const np_selectable *type) {
  if (lua_type(L, -1) != LUA_TSTRING) return bad_case(L, which, "the operation is not a string");
  const char *name = lua_tostring(L, -1);
  for (int op = 0; type->ops[op].name; op++)
    if (strcmp(type->ops[op].name, name) == 0) return op;
  return bad_case(L, which, lua_pushfstring(L, "no operation '%s' to select", name));
}

/* Reads list[which] and leaves its object and its value (or nil) on the stack. */
static void read_case(lua_State *L, int which, np_case *c) {
  if (lua_rawgeti(L, AT_LIST, which) == LUA_TTABLE) {
    int list = lua_gettop(L);
    lua_rawgeti(L, list, 1);
    c->type = selectable_of(L, -1);
    if (!c->type) bad_case(L, which, "select cannot wait for this");
    if (lua_rawgeti(L, list, 2) != LUA_TNIL) c->op = find_op(L, which, c->type);
    lua_pop(L, 1);
    lua_rawgeti(L, list, 3);
    lua_remove(L, list);
  } else {
    c->type = selectable_of(L, -1);
    if (!c->type) bad_case(L, which, "select cannot wait for this");
    lua_pushnil(L);
  }
  c->obj = lua_touserdata(L, -2);
  const np_selop *op = &c->type->ops[c->op];
  c->waiter.value = lua_gettop(L);
  if (op->takes_value && lua_isnil(L, -1))
    bad_case(L, which, lua_pushfstring(L, "'%s' needs a value that is not nil", op->name));
}

static np_select *new_select(lua_State *L, int n) {
  size_t size = sizeof(np_select) + (size_t)n * sizeof(np_case);
  np_select *s = lua_newuserdatauv(L, size, 0);
  memset(s, 0, size);
  s->n = n;
  for (int i = 0; i < n; i++) np_node_init(&s->cases[i].waiter.node);
  return s;
}

/* select(list) -> index, results of that case...
 *
 * list[i] is an object (its first operation is meant: get of a channel, wait of an event, acquire
 * of a semaphore, join of a task) or {object, operation[, value]}.  list.timeout: seconds, default
 * none. Results: the index of the one case that happened, then what its operation returns.  A
 * closed channel is ready: get gives nil, put gives nil, "closed", "EPIPE". Failure: nil, "select:
 * timed out", "ETIMEDOUT".  Several ready: the first of the list.  At most 1000 cases; an empty
 * list needs a timeout. */
static int f_select(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_Unsigned n = lua_rawlen(L, AT_LIST);
  if (n > CASES_MAX) return luaL_argerror(L, 1, "more than 1000 cases");
  check_keys(L, (int)n);
  luaL_checkstack(L, 2 * (int)n + LUA_MINSTACK, "select");
  np_select *s = new_select(L, (int)n);
  s->deadline_ns = np_deadline_opt(L, AT_LIST, -1);
  if (n == 0 && s->deadline_ns == NP_NEVER) return luaL_argerror(L, 1, "no case and no timeout");
  for (int i = 1; i <= s->n; i++) {
    read_case(L, i, &s->cases[i - 1]);
    s->outside |= s->cases[i - 1].type->outside;
  }
  np_task *t = np_op_begin(L, "select");
  for (int i = 1; i <= s->n; i++) {
    np_waiter *w = &s->cases[i - 1].waiter;
    w->task = t;
    w->select = s;
    w->which = i;
  }
  int height = lua_gettop(L);
  if (np_slice_over(L)) return np_give_way(L, height, k_select);
  return k_select(L, LUA_OK, height);
}

int luaopen_neap_select_core(lua_State *L);
int luaopen_neap_select_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"select", f_select}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
