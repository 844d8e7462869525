/* neap.semaphore(n): n permits, first come, first served.
 *
 * The one idea: a release hands its permit straight to the first waiter, so nobody who comes later
 * can take it away and the count stays 0 while anybody waits.  A permit is a number here, not a
 * property of a task: whoever likes may release it; `permit()` is the scope that releases exactly
 * once. */
#include "bindings/select.h"

/* What callers may add up to; far from the counter's own end. */
#define PERMITS_MAX INT64_C(0x7fffffff)

typedef struct semaphore {
  const np_type *type;
  np_node waiters; /* empty while there are permits */
  int64_t permits; /* free ones */
} semaphore;

/* A held permit, for `local permit <close> = sem:permit()`. Its user value keeps the semaphore. */
typedef struct permit {
  const np_type *type;
  semaphore *held; /* NULL: not acquired yet, or released */
} permit;

static const np_type semaphore_type, permit_type;

static semaphore *check_semaphore(lua_State *L) { return np_check_object(L, 1, &semaphore_type); }

static bool try_take(semaphore *s) {
  if (s->permits == 0) return false;
  s->permits--;
  return true;
}

static void release_one(semaphore *s) {
  np_waiter *w = np_waiter_first(&s->waiters);
  if (!w) {
    s->permits++;
    return;
  }
  lua_pushboolean(np_task_thread(w->task), 1);
  np_waiter_give(w);
}

/* ---- acquiring ---- */

static int describe(void *obj, char *buf, size_t size) {
  (void)obj;
  return snprintf(buf, size, "semaphore");
}

static const np_waitkind wait_acquire = {
  .what = "acquire", .abort = np_waiter_forget, .describe = describe};

/* The stack of acquire and permit: 1 the semaphore, 2 the deadline, 3 the permit (acquire: true),
 * which is the result; on top of that, what release pushed. */
enum { AT_DEADLINE = 2, AT_RESULT = 3 };

static int acquired(lua_State *L, semaphore *s) {
  permit *p = np_test_object(L, AT_RESULT, &permit_type);
  if (p) p->held = s;
  lua_settop(L, AT_RESULT);
  return 1;
}

static int k_acquire(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  semaphore *s = lua_touserdata(L, 1);
  int woken = np_woken(L);
  if (woken < 0) return np_fail(L, woken, "acquire a semaphore");
  if (lua_gettop(L) > AT_RESULT || try_take(s)) return acquired(L, s);
  np_waiter_join(np_task_of(L), &s->waiters);
  uint64_t deadline = (uint64_t)lua_tointeger(L, AT_DEADLINE);
  return np_wait(L, &wait_acquire, s, deadline, 0, k_acquire);
}

/* The options lie at 2, the result at 3. */
static int acquire(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  np_check_options(L, 2, known);
  uint64_t deadline = np_deadline_opt(L, 2, -1);
  np_op_begin(L, "acquire");
  lua_pushinteger(L, (lua_Integer)deadline);
  lua_replace(L, AT_DEADLINE);
  if (np_slice_over(L)) return np_give_way(L, 0, k_acquire);
  return k_acquire(L, LUA_OK, 0);
}

/* semaphore:acquire([{timeout = seconds}]) -> true
 *
 * Takes a permit, waiting for one in turn.  Past the deadline: nil, "acquire a semaphore: timed
 * out", "ETIMEDOUT". */
static int f_acquire(lua_State *L) {
  check_semaphore(L);
  lua_settop(L, 2);
  lua_pushboolean(L, 1);
  return acquire(L);
}

/* semaphore:permit([{timeout = seconds}]) -> permit, or acquire's failure
 *
 * For a block: `local permit <close> = sem:permit()`.  permit:release() gives it back earlier. */
static int f_permit(lua_State *L) {
  check_semaphore(L);
  lua_settop(L, 2);
  np_new_object(L, &permit_type, sizeof(permit), 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  return acquire(L);
}

/* semaphore:try_acquire() -> boolean. Never waits, and never overtakes a task that does. */
static int f_try_acquire(lua_State *L) {
  lua_pushboolean(L, try_take(check_semaphore(L)));
  return 1;
}

/* semaphore:release([n = 1]) -> true. Gives n permits back (or adds them); never waits. */
static int f_release(lua_State *L) {
  semaphore *s = check_semaphore(L);
  lua_Integer n = luaL_optinteger(L, 2, 1);
  luaL_argcheck(L, n >= 1 && n <= PERMITS_MAX - s->permits, 2, "not a number of permits");
  for (; n > 0 && np_node_linked(&s->waiters); n--) release_one(s);
  s->permits += n;
  lua_pushboolean(L, 1);
  return 1;
}

/* semaphore:available() -> the number of free permits */
static int f_available(lua_State *L) {
  lua_pushinteger(L, check_semaphore(L)->permits);
  return 1;
}

static int f_tostring(lua_State *L) {
  semaphore *s = check_semaphore(L);
  int waiting = 0;
  for (np_node *n = s->waiters.next; n != &s->waiters; n = n->next) waiting++;
  lua_pushfstring(L, "neap.semaphore{free=%I waiting=%d}", (LUAI_UACINT)s->permits, waiting);
  return 1;
}

/* ---- the permit ---- */

static void permit_release(permit *p) {
  semaphore *s = p->held;
  p->held = NULL;
  if (s) release_one(s);
}

/* permit:release() -> true; again is fine; also by <close>. */
static int f_permit_release(lua_State *L) {
  permit_release(np_check_object(L, 1, &permit_type));
  lua_pushboolean(L, 1);
  return 1;
}

static int f_permit_gc(lua_State *L) {
  permit *p = np_check_object(L, 1, &permit_type);
  if (p->held && !np_runtime_freeing(L))
    lua_warning(L, "neap: a semaphore's permit was collected before it was released", 0);
  permit_release(p);
  return 0;
}

static int f_permit_tostring(lua_State *L) {
  permit *p = np_check_object(L, 1, &permit_type);
  lua_pushfstring(L, "neap.permit{%s}", p->held ? "held" : "released");
  return 1;
}

static const luaL_Reg permit_methods[] = {{"release", f_permit_release}, {NULL, NULL}};

static const luaL_Reg permit_meta[] = {
  {"__close", f_permit_release},
  {"__gc", f_permit_gc},
  {"__tostring", f_permit_tostring},
  {NULL, NULL},
};

static const np_type permit_type = {
  .name = "neap.permit", .methods = permit_methods, .meta = permit_meta};

/* ---- select ---- */

static const np_selop ops[] = {{"acquire", false}, {NULL, false}};

static int poll_semaphore(lua_State *L, void *obj, int op, int at) {
  (void)op, (void)at;
  if (!try_take(obj)) return NP_NOT_READY;
  lua_pushboolean(L, 1);
  return 1;
}

static void add_waiter(void *obj, int op, np_waiter *w) {
  (void)op;
  semaphore *s = obj;
  np_node_append(&s->waiters, &w->node);
}

static const np_selectable selectable = {.ops = ops, .poll = poll_semaphore, .add = add_waiter};

/* ---- the object ---- */

static const luaL_Reg methods[] = {
  {"acquire", f_acquire}, {"permit", f_permit},       {"try_acquire", f_try_acquire},
  {"release", f_release}, {"available", f_available}, {NULL, NULL},
};

static const luaL_Reg meta[] = {{"__tostring", f_tostring}, {NULL, NULL}};

static const np_type semaphore_type = {.name = "neap.semaphore", .methods = methods, .meta = meta};

/* semaphore(n) -> semaphore with n permits, 0 or more */
static int f_semaphore(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0 && n <= PERMITS_MAX, 1, "not a number of permits");
  semaphore *s = np_new_object(L, &semaphore_type, sizeof *s, 0);
  s->permits = n;
  np_node_init(&s->waiters);
  return 1;
}

int luaopen_neap_semaphore_core(lua_State *L);
int luaopen_neap_semaphore_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"semaphore", f_semaphore}, {NULL, NULL}};
  np_type_init(L, &semaphore_type);
  np_type_init(L, &permit_type);
  np_selectable_set(L, &semaphore_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
