/* Streams for Lua: writing. One task writes at a time; the others stand in a queue of turns, so
 * whole writes never interleave, and a turn is handed over by name: whoever comes later cannot take
 * it. */
#include <string.h>

#include "bindings/descriptor.h"
#include "bindings/stream_impl.h"

enum { PIECES_MAX = 16 };

void np_stream_poke_flushers(stream *u) {
  while (np_node_linked(&u->flushers)) np_waiter_poke(np_waiter_first(&u->flushers));
}

/* The present writer is done: the next one in the queue is the writer from now on, and is woken. */
void np_stream_hand_over(stream *u) {
  np_waiter *next = np_waiter_first(&u->turns);
  u->writer = next ? next->task : NULL;
  u->writer_woken = next != NULL;
  if (next) np_waiter_poke(next);
}

static void turn_abort(np_task *t, void *obj) { np_waiter_forget(t, obj); }

static void write_abort(np_task *t, void *obj) {
  stream *u = obj;
  if (u->s) np_stream_write_abort(u->s, np_task_cause(t));
  np_stream_hand_over(u);
}

static void send_abort(np_task *t, void *obj) {
  (void)t;
  np_stream_hand_over(obj);
}

static const np_waitkind turn_wait = {"write (another task's turn)", true, turn_abort,
                                      np_stream_describe, false};
static const np_waitkind write_wait = {"write", true, write_abort, np_stream_describe, false};
static const np_waitkind flush_wait = {"flush", true, turn_abort, np_stream_describe, false};
static const np_waitkind send_wait = {"send", true, send_abort, np_stream_describe, false};
static const np_waitkind turn_wait_inside = {"write (another task's turn)", false, turn_abort,
                                             np_stream_describe, false};
static const np_waitkind write_wait_inside = {"write", false, write_abort, np_stream_describe,
                                              false};
static const np_waitkind flush_wait_inside = {"flush", false, turn_abort, np_stream_describe,
                                              false};

static const np_waitkind *where(stream *u, const np_waitkind *outside, const np_waitkind *inside) {
  return np_stream_inside(u->s) ? inside : outside;
}

/* A deadline travels as the continuation's context: several tasks may be in these calls at once. */
_Static_assert(sizeof(lua_KContext) >= sizeof(uint64_t), "a deadline fits in a context");

/* The end of a call that held the turn. */
static int written(lua_State *L, stream *u, int r, const char *what) {
  np_stream_hand_over(u);
  if (r < 0) return np_stream_failed(L, u, r, what);
  u->streak = 0;
  lua_settop(L, 1);
  return np_done(L, 1);
}

static int wait_as_writer(lua_State *L, stream *u, const np_waitkind *kind, lua_KContext by,
                          lua_KFunction k) {
  if (by == NP_BY_DEFAULT) by = (lua_KContext)np_stream_deadline(L, np_stream_write_timeout(u), -1);
  u->writer = np_task_of(L);
  u->writer_woken = false;
  return np_wait(L, kind, u, (uint64_t)by, by, k);
}

static int k_written(lua_State *L, int status, lua_KContext by) {
  stream *u = lua_touserdata(L, 1);
  int woken = np_woken(L);
  (void)status;
  if (!u->s || woken)
    return np_stream_failed(L, u, woken, "write"); /* its turn has passed on already */
  int r = np_stream_write_end(u->s);
  if (r <= 0) return written(L, u, r, "write");
  return wait_as_writer(L, u, where(u, &write_wait, &write_wait_inside), by, k_written);
}

static int queue_pieces(lua_State *L, stream *u, const struct iovec *iov, int n, lua_KContext by) {
  int r = np_stream_write(u->s, iov, n);
  if (r <= 0) return written(L, u, r, "write");
  return wait_as_writer(L, u, where(u, &write_wait, &write_wait_inside), by, k_written);
}

/* Writes the strings at 2..top; the caller has the turn. */
static int write_now(lua_State *L, stream *u, lua_KContext by) {
  int n = lua_gettop(L) - 1;
  struct iovec few[PIECES_MAX];
  struct iovec *iov = n <= PIECES_MAX ? few : lua_newuserdatauv(L, (size_t)n * sizeof *iov, 0);
  for (int i = 0; i < n; i++) iov[i].iov_base = (void *)lua_tolstring(L, i + 2, &iov[i].iov_len);
  if (np_unlikely(!u->s)) return np_stream_failed(L, u, NP_ECLOSED, "write"); /* by a finalizer */
  return queue_pieces(L, u, iov, n, by);
}

bool np_stream_must_queue(const stream *u) { return u->writer || np_node_linked(&u->turns); }

static int wait_for_turn(lua_State *L, stream *u, lua_KContext by, lua_KFunction k) {
  if (by == NP_BY_DEFAULT) by = (lua_KContext)np_stream_deadline(L, np_stream_write_timeout(u), -1);
  np_waiter_join(np_task_of(L), &u->turns);
  return np_wait(L, where(u, &turn_wait, &turn_wait_inside), u, (uint64_t)by, by, k);
}

static int k_turn(lua_State *L, int status, lua_KContext by) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  if (!u->s || woken) return np_stream_failed(L, u, woken, "write");
  if (status == LUA_OK && np_stream_must_queue(u)) return wait_for_turn(L, u, by, k_turn);
  return write_now(L, u, by);
}

/* An integer as text at the end of buf: a length in a reply needs neither printf nor a string. */
typedef char digits[24];

static struct iovec print_integer(lua_Integer i, digits buf) {
  char *p = buf + sizeof(digits);
  lua_Unsigned u = i < 0 ? 0 - (lua_Unsigned)i : (lua_Unsigned)i;
  do *--p = (char)('0' + u % 10);
  while ((u /= 10) > 0);
  if (i < 0) *--p = '-';
  return (struct iovec){p, (size_t)(buf + sizeof(digits) - p)};
}

/* The strings and numbers at 2..top, of which the first PIECES_MAX go to iov; raises for anything
 * else.  Integers among those lie in bufs: good for bytes that are copied at once. */
static int check_pieces(lua_State *L, struct iovec iov[PIECES_MAX], digits bufs[PIECES_MAX]) {
  int n = lua_gettop(L) - 1;
  for (int i = 0; i < n; i++) {
    int at = i < PIECES_MAX ? i : PIECES_MAX - 1;
    if (lua_isinteger(L, i + 2)) {
      iov[at] = print_integer(lua_tointeger(L, i + 2), bufs[at]);
      continue;
    }
    iov[at].iov_base = (void *)lua_tolstring(L, i + 2, &iov[at].iov_len);
    if (np_unlikely(!iov[at].iov_base)) luaL_typeerror(L, i + 2, "string or number");
  }
  return n;
}

static size_t length(const struct iovec *iov, int n) {
  size_t len = 0;
  for (int i = 0; i < n; i++) len += iov[i].iov_len;
  return len;
}

static stream *writer(lua_State *L) {
  stream *u = np_stream_self(L);
  if (np_unlikely(u->holder)) np_stream_busy(L, u, u->holder->doing);
  return u;
}

/* write(...[, {timeout = s}]): the stream. Takes all pieces (strings and numbers) or none; waits
 * only while more than NP_WRITE_HIGH bytes are queued. A deadline or cancellation that ends the
 * wait breaks the stream. */
int np_f_write(lua_State *L) {
  stream *u = writer(L);
  struct iovec iov[PIECES_MAX];
  digits bufs[PIECES_MAX];
  uint64_t by =
    lua_istable(L, -1) ? np_stream_take_options(L, np_stream_write_timeout(u)) : NP_BY_DEFAULT;
  int n = check_pieces(L, iov, bufs);
  np_op_begin(L, "write");
  if (n <= PIECES_MAX && u->s && !np_stream_must_queue(u) && length(iov, n) < NP_WRITE_DIRECT)
    return queue_pieces(L, u, iov, n, (lua_KContext)by);
  return k_turn(L, LUA_OK, (lua_KContext)by);
}

int np_stream_write_behind(lua_State *L, const char *head, size_t n) {
  stream *u = writer(L);
  struct iovec iov[2] = {{(void *)head, n}};
  iov[1].iov_base = (void *)luaL_checklstring(L, 2, &iov[1].iov_len);
  np_op_begin(L, "write");
  if (u->s && !np_stream_must_queue(u) && length(iov, 2) < NP_WRITE_DIRECT)
    return queue_pieces(L, u, iov, 2, NP_BY_DEFAULT);
  lua_pushlstring(L, head, n);
  lua_insert(L, 2);
  return k_turn(L, LUA_OK, NP_BY_DEFAULT);
}

static int k_flush(lua_State *L, int status, lua_KContext by) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "flush");
  int r = np_stream_flush(u->s);
  if (r < 0) return np_stream_failed(L, u, r, "flush");
  if (r > 0 && woken) return np_stream_failed(L, u, woken, "flush");
  if (r > 0) {
    np_waiter_join(np_task_of(L), &u->flushers);
    return np_wait(L, where(u, &flush_wait, &flush_wait_inside), u, (uint64_t)by, by, k_flush);
  }
  u->streak = 0;
  lua_settop(L, 1);
  return np_done(L, 1);
}

/* flush([{timeout = s}]): waits until the kernel has everything: the stream. A deadline breaks
 * nothing. */
int np_f_flush(lua_State *L) {
  stream *u = writer(L);
  uint64_t by = np_stream_take_options(L, np_stream_write_timeout(u));
  lua_settop(L, 1);
  np_op_begin(L, "flush");
  return k_flush(L, LUA_OK, (lua_KContext)by);
}

/* ---- descriptors. Stack: stream, message, list of descriptors ---- */

static int p_gather(lua_State *L) {
  lua_pushinteger(L, np_gather_fds(L, 1, 1, lua_touserdata(L, 2)));
  return 1;
}

/* np_gather_fds of the list, which may have changed during the wait; the turn is passed on before
 * it raises. */
static int gather(lua_State *L, stream *u, int fds[NP_FDS_MAX]) {
  lua_pushcfunction(L, p_gather);
  lua_pushvalue(L, 3);
  lua_pushlightuserdata(L, fds);
  if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
    np_stream_hand_over(u);
    lua_error(L);
  }
  int n = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return n;
}

static int k_send(lua_State *L, int status, lua_KContext by);

/* The caller has the turn. The descriptors go with the first byte that goes; the rest is plain
 * bytes. */
static int send_now(lua_State *L, stream *u, const int *fds, int n, lua_KContext by) {
  size_t len;
  const char *msg = lua_tolstring(L, 2, &len);
  int r = np_stream_flush(u->s);
  ssize_t sent = r == 0 ? np_stream_send_fds(u->s, msg, len, fds, n) : r > 0 ? -EAGAIN : r;
  if (sent == -EAGAIN) return wait_as_writer(L, u, &send_wait, by, k_send);
  if (sent < 0 || (size_t)sent == len) return written(L, u, sent < 0 ? (int)sent : 0, "send");
  lua_settop(L, 2);
  lua_pushlstring(L, msg + sent, len - (size_t)sent);
  lua_replace(L, 2);
  return write_now(L, u, by);
}

static int k_send(lua_State *L, int status, lua_KContext by) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  if (!u->s || woken) return np_stream_failed(L, u, woken, "send");
  if (status == LUA_OK && np_stream_must_queue(u)) return wait_for_turn(L, u, by, k_send);
  int fds[NP_FDS_MAX], n = gather(L, u, fds);
  if (np_unlikely(!u->s)) return np_stream_failed(L, u, NP_ECLOSED, "send"); /* by a finalizer */
  return send_now(L, u, fds, n, by);
}

/* The options of send at index 3 give way to the list of descriptors, or to nothing. The
 * deadline. */
static uint64_t send_options(lua_State *L, stream *u) {
  enum { TIMEOUT, FDS };
  static const char *const known[] = {[TIMEOUT] = "timeout", [FDS] = "fds", NULL};
  enum { OPTS = 3, LIST };
  uint64_t by = NP_BY_DEFAULT;
  lua_settop(L, LIST);
  if (lua_isnil(L, OPTS)) return by;
  luaL_checktype(L, OPTS, LUA_TTABLE);
  lua_pushnil(L);
  for (int i; (i = np_next_option(L, OPTS, known)) >= 0; lua_pop(L, 1)) {
    if (i == FDS) lua_copy(L, -1, LIST);
    else
      by = np_stream_deadline(L, np_stream_write_timeout(u), np_option_seconds(L, OPTS, known[i]));
  }
  lua_replace(L, OPTS);
  return by;
}

/* send(msg[, {fds = {...}, timeout = s}]): the stream. Up to 253 descriptors travel with the first
 * byte of msg, once; ours stay ours. A deadline before anything went breaks nothing. EOPNOTSUPP:
 * not AF_UNIX. */
int np_f_send(lua_State *L) {
  stream *u = writer(L);
  size_t len;
  luaL_checklstring(L, 2, &len);
  lua_KContext by = (lua_KContext)send_options(L, u);
  if (lua_isnil(L, 3)) {
    lua_settop(L, 2);
    np_op_begin(L, "send");
    return k_turn(L, LUA_OK, by);
  }
  luaL_argcheck(L, len > 0, 2, "descriptors need at least one byte to travel with");
  int list[NP_FDS_MAX];
  int n = np_gather_fds(L, 3, 3, list);
  np_op_begin(L, "send");
  if (n > 0 && u->s && !np_stream_must_queue(u)) return send_now(L, u, list, n, by);
  if (n > 0) return k_send(L, LUA_OK, by);
  lua_settop(L, 2);
  return k_turn(L, LUA_OK, by);
}
