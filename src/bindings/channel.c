/* neap.channel([n]): values handed from task to task, through a buffer of n or directly (n = 0:
 * rendezvous).
 *
 * The one idea: whoever arrives second does the work of both and wakes the first.  A put that finds
 * a waiting get pushes the value on that task's stack, a get that finds a waiting put takes it from
 * there; so values live on stacks or in the buffer (a ring in the channel's user value), never in
 * the registry, and a wait allocates nothing.
 *
 * Who owns a value: the hand-over happens at the wake.  A get that times out or is cancelled has
 * taken nothing; one that was woken has its value and returns it, and a cancellation that comes in
 * between counts from its next wait. Waiters are served first come, first served.  It does not wait
 * for readers: closing never blocks. */
#include "bindings/ring.h"
#include "bindings/select.h"

/* A channel of more is a queue without back-pressure; the ring grows as it is used, so a generous n
 * costs nothing. */
enum { CAPACITY_MAX = 1 << 24 };

/* As many ends in a row from one channel to one task are a loop that ignores results. */
enum { ENDS_MAX = 100 };

typedef struct channel {
  const np_type *type;
  np_node getters;   /* waiting only while nothing is buffered and nobody else puts */
  np_node putters;   /* waiting only while the buffer is full */
  uint32_t capacity; /* values it buffers; 0: rendezvous */
  np_ring ring;      /* of the buffered values, in user value 1; at most `capacity` */
  bool closed;       /* no puts any more; never goes back */
  uint8_t ends;      /* ends in a row that `ended` was told */
  const void *ended; /* the task; only compared */
} channel;

static const np_type channel_type;

static channel *check_channel(lua_State *L) { return np_check_object(L, 1, &channel_type); }

/* ---- giving and taking without waiting ---- */

typedef enum outcome { FULL, DONE, ENDED } outcome;

/* Puts the value at `value` if a get waits or the buffer has room. */
static outcome offer(lua_State *L, int at, channel *c, int value) {
  if (c->closed) return ENDED;
  np_waiter *w = np_waiter_first(&c->getters);
  if (!w && c->ring.count == c->capacity) return FULL;
  lua_pushvalue(L, value);
  if (w) {
    lua_xmove(L, np_task_thread(w->task), 1);
    np_waiter_give(w);
  } else {
    np_ring_push(L, at, &c->ring, c->capacity);
  }
  c->ends = 0;
  return DONE;
}

/* Moves the value of the first waiting put to the top of L and completes that put. False: nobody
 * waits. */
static bool take_from_putter(lua_State *L, channel *c) {
  np_waiter *w = np_waiter_first(&c->putters);
  if (!w) return false;
  lua_State *co = np_task_thread(w->task);
  lua_pushvalue(co, w->value);
  lua_xmove(co, L, 1);
  lua_pushboolean(co, 1);
  np_waiter_give(w);
  return true;
}

/* Pushes the next value. FULL stands for "nothing there" here. A free slot goes to the first
 * waiting put at once. */
static outcome take(lua_State *L, int at, channel *c) {
  if (c->ring.count > 0) {
    np_ring_pop(L, at, &c->ring);
    if (take_from_putter(L, c)) np_ring_push(L, at, &c->ring, c->capacity);
  } else if (!take_from_putter(L, c)) {
    return c->closed ? ENDED : FULL;
  }
  c->ends = 0;
  return DONE;
}

/* Counts the ends that one task gets in a row and raises at the hundredth. Several tasks that see
 * the end once each, as the workers of one queue do, are not a loop. */
static void count_end(lua_State *L, channel *c) {
  const np_task *t = np_task_of(L);
  if (c->ended != t) c->ends = 0;
  c->ended = t;
  if (++c->ends < ENDS_MAX) return;
  c->ends = 0;
  luaL_error(L, "this task ignores that the channel is closed (%d results in a row)", ENDS_MAX);
}

static int push_closed(lua_State *L) { return np_fail_text(L, "EPIPE", "closed"); }

/* ---- waiting ---- */

static int describe(void *obj, char *buf, size_t size) {
  channel *c = obj;
  if (c->capacity == 0) return snprintf(buf, size, "rendezvous channel");
  return snprintf(buf, size, "channel with %u of %u", c->ring.count, c->capacity);
}

static const np_waitkind wait_put = {
  .what = "put", .abort = np_waiter_forget, .describe = describe};
static const np_waitkind wait_get = {
  .what = "get", .abort = np_waiter_forget, .describe = describe};

/* Option tables of put and get; the stack has the channel, for put the value, and perhaps the
 * options at `opts`: nothing above that afterwards. */
static uint64_t deadline_arg(lua_State *L, int opts) {
  static const char *const known[] = {"timeout", NULL};
  if (np_likely(lua_gettop(L) < opts)) return NP_NEVER;
  lua_settop(L, opts);
  if (lua_isnil(L, opts)) return NP_NEVER;
  np_check_options(L, opts, known);
  return np_deadline_opt(L, opts, -1);
}

enum { PUT_VALUE = 2, PUT_OPTS = 3, GET_OPTS = 2 };

static int k_put(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  int woken = np_woken(L);
  if (woken == 0) return 1; /* the true that the getter pushed */
  return woken == -EPIPE ? push_closed(L) : np_fail(L, woken, "put on a channel");
}

static int k_put_ended(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  np_woken(L);
  return push_closed(L);
}

static int put(lua_State *L, channel *c, uint64_t deadline) {
  switch (offer(L, 1, c, PUT_VALUE)) {
  case DONE: lua_pushboolean(L, 1); return 1;
  case ENDED: count_end(L, c); return np_give_way(L, 0, k_put_ended);
  case FULL: break;
  }
  np_waiter_join(np_task_of(L), &c->putters)->value = PUT_VALUE;
  return np_wait(L, &wait_put, c, deadline, 0, k_put);
}

/* Giving way comes before the operation, so a task that is cancelled meanwhile has put or taken
 * nothing.  The deadline goes onto the stack: a context is too narrow for it on some machines. */
static int give_way(lua_State *L, uint64_t deadline, lua_KContext ctx, lua_KFunction k) {
  lua_pushinteger(L, (lua_Integer)deadline);
  return np_give_way(L, ctx, k);
}

static uint64_t deadline_again(lua_State *L) {
  np_woken(L);
  return (uint64_t)lua_tointeger(L, -1);
}

static int k_put_again(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  uint64_t deadline = deadline_again(L);
  return put(L, lua_touserdata(L, 1), deadline);
}

/* channel:put(value[, {timeout = seconds}]) -> true
 *
 * Hands the value to the first waiting get, else to the buffer, else waits for a get.  Any value
 * but nil (nil is how get says "closed").  Closed, before or while waiting: nil, "closed", "EPIPE".
 * Past the deadline: nil, "put on a channel: timed out", "ETIMEDOUT"; then, and when cancelled,
 * nothing was put. */
static int f_put(lua_State *L) {
  channel *c = check_channel(L);
  luaL_argcheck(L, !lua_isnoneornil(L, PUT_VALUE), PUT_VALUE,
                "a channel cannot carry nil: get returns nil when the channel is closed");
  uint64_t deadline = deadline_arg(L, PUT_OPTS);
  np_op_begin(L, "put");
  if (np_slice_over(L)) return give_way(L, deadline, 0, k_put_again);
  return put(L, c, deadline);
}

/* get and iteration differ in how a failure is told: ctx. */
enum { RETURNS, RAISES };

static int k_get(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  int woken = np_woken(L);
  if (woken == 0) return 1; /* the value that the putter pushed, or close's nil */
  return ctx == RAISES ? np_raise(L, woken, "get from a channel")
                       : np_fail(L, woken, "get from a channel");
}

static int k_get_ended(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  np_woken(L);
  lua_pushnil(L);
  return 1;
}

static int get(lua_State *L, channel *c, uint64_t deadline, lua_KContext ctx) {
  switch (take(L, 1, c)) {
  case DONE: return 1;
  case ENDED: count_end(L, c); return np_give_way(L, 0, k_get_ended);
  case FULL: break;
  }
  np_waiter_join(np_task_of(L), &c->getters);
  return np_wait(L, &wait_get, c, deadline, ctx, k_get);
}

static int k_get_again(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  uint64_t deadline = deadline_again(L);
  return get(L, lua_touserdata(L, 1), deadline, ctx);
}

static int begin_get(lua_State *L, channel *c, uint64_t deadline, lua_KContext ctx) {
  np_op_begin(L, "get");
  if (np_slice_over(L)) return give_way(L, deadline, ctx, k_get_again);
  return get(L, c, deadline, ctx);
}

/* channel:get([{timeout = seconds}]) -> value
 *
 * The oldest value, waiting for one.  nil alone: the channel is closed and drained.  Past the
 * deadline: nil, "get from a channel: timed out", "ETIMEDOUT". */
static int f_get(lua_State *L) {
  channel *c = check_channel(L);
  return begin_get(L, c, deadline_arg(L, GET_OPTS), RETURNS);
}

/* for value in channel do ... end -- until it is closed and drained; raises when a deadline scope
 * ends it. Called as an iterator function: (channel, state, control), of which the last two mean
 * nothing. */
static int f_next(lua_State *L) {
  channel *c = check_channel(L);
  lua_settop(L, 1);
  return begin_get(L, c, NP_NEVER, RAISES);
}

/* channel:iter() -> what `for` wants; the same as the channel itself: `for v in ch:iter()`, `for v
 * in ch`. */
static int f_iter(lua_State *L) {
  check_channel(L);
  lua_pushcfunction(L, f_next);
  lua_pushvalue(L, 1);
  return 2;
}

/* channel:close() -> true
 *
 * Ends the putting: waiting puts fail with EPIPE, waiting gets return nil; buffered values can
 * still be got.  Never waits; again is fine; also by <close>. */
static int f_close(lua_State *L) {
  channel *c = check_channel(L);
  c->closed = true;
  for (np_waiter *w; (w = np_waiter_first(&c->getters));) {
    lua_pushnil(np_task_thread(w->task));
    np_waiter_give(w);
  }
  for (np_waiter *w; (w = np_waiter_first(&c->putters));) np_waiter_fail(w, -EPIPE);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- select ---- */

enum { OP_GET, OP_PUT };
static const np_selop ops[] = {[OP_GET] = {"get", false}, [OP_PUT] = {"put", true}, {NULL, false}};

static int poll_channel(lua_State *L, void *obj, int op, int at) {
  channel *c = obj;
  outcome r = op == OP_PUT ? offer(L, at, c, at + 1) : take(L, at, c);
  if (r == FULL) return NP_NOT_READY;
  if (r == ENDED) {
    count_end(L, c);
    if (op == OP_PUT) return push_closed(L);
    lua_pushnil(L);
  } else if (op == OP_PUT) {
    lua_pushboolean(L, 1);
  }
  return 1;
}

static void add_waiter(void *obj, int op, np_waiter *w) {
  channel *c = obj;
  np_node_append(op == OP_PUT ? &c->putters : &c->getters, &w->node);
}

static const np_selectable selectable = {.ops = ops, .poll = poll_channel, .add = add_waiter};

/* ---- the object ---- */

static int f_len(lua_State *L) {
  lua_pushinteger(L, check_channel(L)->ring.count);
  return 1;
}

static int f_tostring(lua_State *L) {
  channel *c = check_channel(L);
  int gets = 0, puts = 0;
  for (np_node *n = c->getters.next; n != &c->getters; n = n->next) gets++;
  for (np_node *n = c->putters.next; n != &c->putters; n = n->next) puts++;
  lua_pushfstring(L, "neap.channel{%d/%d gets=%d puts=%d%s}", (int)c->ring.count, (int)c->capacity,
                  gets, puts, c->closed ? " closed" : "");
  return 1;
}

/* channel:is_closed() -> boolean */
static int f_is_closed(lua_State *L) {
  lua_pushboolean(L, check_channel(L)->closed);
  return 1;
}

/* channel:capacity() -> how many values it buffers, 0: a rendezvous */
static int f_capacity(lua_State *L) {
  lua_pushinteger(L, check_channel(L)->capacity);
  return 1;
}

/* No fields: with an __index function every method call would pay a C call more. */
static const luaL_Reg methods[] = {
  {"put", f_put},
  {"get", f_get},
  {"close", f_close},
  {"iter", f_iter},
  {"is_closed", f_is_closed},
  {"capacity", f_capacity},
  {NULL, NULL},
};

static const luaL_Reg meta[] = {
  {"__len", f_len},           {"__call", f_next}, {"__close", f_close},
  {"__tostring", f_tostring}, {NULL, NULL},
};

static const np_type channel_type = {.name = "neap.channel", .methods = methods, .meta = meta};

/* channel([n = 0]) -> channel
 *
 * n: how many values it buffers, 0 to 2^24; 0: put and get meet. */
static int f_channel(lua_State *L) {
  lua_Integer capacity = luaL_optinteger(L, 1, 0);
  luaL_argcheck(L, capacity >= 0 && capacity <= CAPACITY_MAX, 1, "capacity is not from 0 to 2^24");
  channel *c = np_new_object(L, &channel_type, sizeof *c, capacity > 0);
  c->capacity = (uint32_t)capacity;
  np_node_init(&c->getters);
  np_node_init(&c->putters);
  return 1;
}

int luaopen_neap_channel_core(lua_State *L);
int luaopen_neap_channel_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"channel", f_channel}, {NULL, NULL}};
  np_type_init(L, &channel_type);
  np_selectable_set(L, &channel_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
