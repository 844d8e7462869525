/* Streams for Lua: reads, writes and the waiting around them.  Results follow Lua's io library.
 *
 * Who waits is one pointer per direction in the userdata; the stream tells on_event, which wakes it.  The object
 * lies at index 1 of every waiting call. */
#include "bindings/stream.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lualib.h>

#include "bindings/descriptor.h"
#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/origin.h"
#include "bindings/select.h"
#include "bindings/sockopt.h"
#include "bindings/task.h"
#include "core/cmsg.h"
#include "core/error.h"

enum { UV_ORIGIN = 1, PIECES_MAX = 16, MEM_CAPACITY = 64 << 10 };

typedef struct stream {
  const np_type *type;
  np_stream *s;            /* NULL: closed */
  np_task *reader, *writer;/* who waits; NULL: nobody */
  np_node turns;           /* np_waiter.node: writers whose turn comes after the one that waits */
  np_node flushers;        /* np_waiter.node */
  uint64_t timeout_ns;     /* default of each call; NP_NEVER */
  uint64_t read_by_ns, write_by_ns; /* deadlines of the waiting calls */
  size_t line_max, read_max;
  np_cond cond;            /* of a read with one condition */
  uint8_t streak;          /* failures in a row that came at once */
  bool warned_fds;
  uint8_t peer_len;        /* 0: the kernel is asked */
  struct sockaddr_in6 peer;/* of an accepted connection, also of AF_INET: known after a reset too */
} stream;

extern const np_type np_stream_type;

static stream *self(lua_State *L) { return np_check_object(L, 1, &np_stream_type); }

static void on_event(void *owner, int what) {
  stream *u = owner;
  if (what == NP_STREAM_READ) {
    np_task *t = u->reader;
    u->reader = NULL;
    if (t) np_task_wake(t);
    return;
  }
  np_task *t = u->writer;
  u->writer = NULL;
  if (t) np_task_wake(t);
  while (np_node_linked(&u->flushers)) np_waiter_poke(np_waiter_first(&u->flushers));
}

/* Making. */

static stream *new_closed(lua_State *L) {
  stream *u = np_new_object(L, &np_stream_type, sizeof *u, 1);
  np_node_init(&u->turns);
  np_node_init(&u->flushers);
  u->timeout_ns = NP_NEVER;
  u->line_max = NP_LINE_MAX;
  u->read_max = NP_READ_MAX;
  np_origin_set(L, -1, UV_ORIGIN);
  return u;
}

static int open_over(lua_State *L, stream *u, np_transport *t) {
  int r = np_stream_new(np_loop_of(L), t, &u->s);
  if (r < 0) lua_pop(L, 1);
  else np_stream_own(u->s, on_event, u);
  return r;
}

/* 0, 1 and 2 are never ours to close. */
static void close_fd(int fd) {
  if (fd > 2) close(fd);
}

int np_push_transport_stream(lua_State *L, np_transport *t) { return open_over(L, new_closed(L), t); }

int np_push_socket_stream(lua_State *L, int fd, const np_fdkind *kind, const np_sockaddr *peer) {
  stream *u = new_closed(L);
  if (peer && peer->ss.ss_family != AF_UNIX && peer->len <= sizeof u->peer) {
    memcpy(&u->peer, &peer->ss, peer->len);
    u->peer_len = (uint8_t)peer->len;
  }
  np_transport *t;
  int r = np_transport_fd(np_loop_of(L), fd, kind, &t);
  if (r < 0) {
    lua_pop(L, 1);
    return r;
  }
  return open_over(L, u, t);
}

int np_push_fd_stream(lua_State *L, int fd) {
  np_fdkind kind;
  int r = np_fdkind_of(fd, &kind);
  if (r == 0) return np_push_socket_stream(L, fd, &kind, NULL);
  close_fd(fd);
  return r;
}

np_stream *np_test_stream(lua_State *L, int idx) {
  stream *u = np_test_object(L, idx, &np_stream_type);
  return u ? u->s : NULL;
}

np_stream *np_check_stream(lua_State *L, int idx) {
  stream *u = np_check_object(L, idx, &np_stream_type);
  luaL_argcheck(L, u->s, idx, "the stream is closed");
  return u->s;
}

/* Names for messages. */

static int print_ends(stream *u, char *buf, size_t size) {
  np_sockaddr a;
  char local[NP_ADDR_MAX] = "", peer[NP_ADDR_MAX] = "";
  int fd = np_stream_fd(u->s), scheme = fd >= 0 ? np_socket_scheme(fd) : -1;
  if (scheme < 0) return snprintf(buf, size, "%s", np_stream_transport(u->s)->ops->name);
  if (np_socket_local(fd, &a) == 0) np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, local, sizeof local);
  if (np_socket_peer(fd, &a) == 0) np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, peer, sizeof peer);
  return snprintf(buf, size, "%s<->%s", local, peer);
}

static int describe(void *obj, char *buf, size_t size) {
  stream *u = obj;
  return u->s ? print_ends(u, buf, size) : snprintf(buf, size, "a closed stream");
}

static const char *name_of(lua_State *L, stream *u) {
  char text[2 * NP_ADDR_MAX + 8];
  describe(u, text, sizeof text);
  return lua_pushstring(L, text);
}

static int fail(lua_State *L, stream *u, int code, const char *what) {
  if (!u->s || code == NP_ECLOSED) return np_fail_closed(L, &u->streak);
  return np_fail_code(L, code, &u->streak, "%s %s", what, name_of(L, u));
}

/* Options of a waiting call: a table as the last argument, removed from the stack; its deadline. */
static const char *const timeout_only[] = { "timeout", NULL };

static uint64_t deadline(lua_State *L, stream *u, int idx) {
  double s = idx ? np_opt_seconds(L, idx, "timeout", -1) : -1; /* 0: no options were given */
  uint64_t ns = s < 0 ? u->timeout_ns : np_seconds_ns(s);
  return ns == NP_NEVER ? NP_NEVER : np_deadline_after(np_loop_of(L), ns);
}

static uint64_t take_options(lua_State *L, stream *u) {
  int top = lua_gettop(L);
  if (top < 2 || !lua_istable(L, top)) return deadline(L, u, 0);
  np_check_options(L, top, timeout_only);
  uint64_t at = deadline(L, u, top);
  lua_settop(L, top - 1);
  return at;
}

/* Reading. */

static void read_abort(np_task *t, void *obj) {
  stream *u = obj;
  (void)t;
  u->reader = NULL;
  if (u->s) np_stream_read_abort(u->s);
}
static const np_waitkind read_wait = { "read", true, read_abort, describe, false };

/* How a read ends: the kind of its frames' values and whether failures raise (iterators). */
enum { CTX_RAISE = 1, CTX_FDS = 2, CTX_SHIFT = 4 };

static int push_number(lua_State *L, const char *p, size_t n) {
  char text[256];
  if (n >= sizeof text) return lua_pushnil(L), 1;
  memcpy(text, p, n);
  text[n] = 0;
  if (lua_stringtonumber(L, text) == 0) lua_pushnil(L);
  return 1;
}

static const char key_unpack = 'u';

/* The record at p by string.unpack with the format at index 2: its values. */
static int push_record(lua_State *L, const char *p, size_t n) {
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_unpack);
  lua_pushvalue(L, 2);
  lua_pushlstring(L, p, n);
  lua_call(L, 2, LUA_MULTRET);
  lua_pop(L, 1); /* the position after it */
  return lua_gettop(L) - top;
}

static int push_frame(lua_State *L, const np_cond *c, const char *data) {
  const char *p = data + c->off;
  switch (c->kind) {
    case NP_COND_NUMBER: return push_number(L, p, c->len);
    case NP_COND_PACK: return push_record(L, p, c->len);
    default: lua_pushlstring(L, p, c->len); return 1;
  }
}

static void warn_dropped(lua_State *L, stream *u) {
  unsigned n = np_stream_fds_dropped(u->s);
  if (n == 0 || u->warned_fds) return;
  u->warned_fds = true;
  lua_pushfstring(L, "neap: %d descriptors on %s were closed: a plain read passed them", (int)n, name_of(L, u));
  lua_warning(L, lua_tostring(L, -1), 0);
  lua_pop(L, 2);
}

static int push_frames(lua_State *L, stream *u, np_cond *conds, int n, const char *data) {
  int pushed = 0;
  size_t take = 0;
  luaL_checkstack(L, n + 4, "too many formats");
  for (int i = 0; i < n; i++) {
    pushed += push_frame(L, &conds[i], data);
    take += conds[i].take;
  }
  np_stream_consume(u->s, take);
  u->streak = 0;
  warn_dropped(L, u);
  return np_done(L, pushed);
}

static int push_fds(lua_State *L, stream *u, np_cond *c, const char *data) {
  int fds[NP_FDS_MAX], max = (int)lua_tointeger(L, 2), n = 0;
  size_t barrier = np_stream_barrier(u->s);
  size_t len = np_min(c->len, barrier);
  lua_pushlstring(L, data, len);
  if (len == barrier) n = np_stream_take_fds(u->s, fds, max);
  np_stream_consume(u->s, len);
  if (n > max) {
    np_stream_unread(u->s, lua_tostring(L, -1), len);
    return np_fail(L, -EMSGSIZE, "recv %s: %d descriptors came, %d were asked for", name_of(L, u), n, max);
  }
  np_push_descriptors(L, fds, n);
  u->streak = 0;
  return np_done(L, 2);
}

static int read_failed(lua_State *L, stream *u, int code, int ctx) {
  if (code == NP_COND_END) {
    lua_pushnil(L);
    return ctx & CTX_RAISE ? 1 : np_done(L, 1);
  }
  if (!(ctx & CTX_RAISE)) return fail(L, u, code, "read");
  if (!u->s || code == NP_ECLOSED) return lua_pushnil(L), 1;
  return np_raise(L, code, "read %s", name_of(L, u));
}

static int k_read(lua_State *L, int status, lua_KContext ctx) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  if (!u->s) return read_failed(L, u, NP_ECLOSED, (int)ctx);
  int n = (int)(ctx >> CTX_SHIFT);
  np_cond *conds = n == 1 ? &u->cond : lua_touserdata(L, 2);
  const char *data;
  int r = ctx & CTX_FDS ? np_stream_fd_trouble(u->s) : 0;
  if (r == 0) r = np_stream_read(u->s, conds, n, &data);
  if (np_likely(r == 1)) return ctx & CTX_FDS ? push_fds(L, u, conds, data) : push_frames(L, u, conds, n, data);
  if (r < 0) return read_failed(L, u, r, (int)ctx);
  if (woken) {
    np_stream_read_abort(u->s);
    return read_failed(L, u, woken, (int)ctx);
  }
  u->reader = np_task_of(L);
  return np_wait(L, &read_wait, u, u->read_by_ns, ctx, k_read);
}

static int start_read(lua_State *L, stream *u, int n, int ctx, const char *what) {
  np_op_begin(L, what);
  if (np_unlikely(u->reader)) return luaL_error(L, "another task is already reading %s", name_of(L, u));
  return k_read(L, LUA_OK, n << CTX_SHIFT | ctx);
}

static void line_cond(stream *u, np_cond *c, np_condkind kind) { *c = (np_cond){ .kind = kind, .max = u->line_max }; }

static void format_cond(lua_State *L, stream *u, int arg, np_cond *c) {
  if (lua_type(L, arg) == LUA_TNUMBER) {
    lua_Integer n = luaL_checkinteger(L, arg);
    luaL_argcheck(L, n >= 0, arg, "a count of bytes cannot be negative");
    *c = (np_cond){ .kind = NP_COND_COUNT, .need = (size_t)n, .max = u->read_max };
    return;
  }
  const char *f = luaL_checkstring(L, arg);
  if (*f == '*') f++;
  switch (*f) {
    case 'l': line_cond(u, c, NP_COND_LINE); return;
    case 'L': line_cond(u, c, NP_COND_LINE_EOL); return;
    case 'a': *c = (np_cond){ .kind = NP_COND_ALL, .max = u->read_max }; return;
    case 'n': *c = (np_cond){ .kind = NP_COND_NUMBER, .max = u->line_max }; return;
    default: luaL_argerror(L, arg, "invalid format (l, L, a, n or a count)");
  }
}

/* Formats at first..top become conditions; several are put at stack index 2, below them. Their number. */
static int parse_formats(lua_State *L, stream *u, int first) {
  int n = lua_gettop(L) - first + 1;
  if (n <= 0) {
    line_cond(u, &u->cond, NP_COND_LINE);
    return 1;
  }
  if (n == 1) {
    format_cond(L, u, first, &u->cond);
    return 1;
  }
  np_cond *conds = lua_newuserdatauv(L, (size_t)n * sizeof *conds, 0);
  for (int i = 0; i < n; i++) format_cond(L, u, first + i, &conds[i]);
  lua_replace(L, 2);
  lua_settop(L, 2);
  return n;
}

/* The condition of the userdata is in use while somebody waits with it. */
static void one_reader(lua_State *L, stream *u) {
  if (np_unlikely(u->reader)) luaL_error(L, "another task is already reading %s", name_of(L, u));
}

/* read([fmt...][, {timeout = s}]) */
static int f_read(lua_State *L) {
  stream *u = self(L);
  one_reader(L, u);
  u->read_by_ns = take_options(L, u);
  int n = parse_formats(L, u, 2);
  return start_read(L, u, n, 0, "read");
}

/* Upvalues: the stream, formats ... */
static int lines_next(lua_State *L) {
  stream *u = lua_touserdata(L, lua_upvalueindex(1));
  one_reader(L, u);
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  int nfmt = (int)lua_tointeger(L, lua_upvalueindex(2));
  for (int i = 0; i < nfmt; i++) lua_pushvalue(L, lua_upvalueindex(3 + i));
  u->read_by_ns = deadline(L, u, 0);
  int n = parse_formats(L, u, 2);
  return start_read(L, u, n, CTX_RAISE, "lines");
}

/* lines([fmt...]): iterator of read(fmt...); ends at the end, raises failures. */
static int f_lines(lua_State *L) {
  stream *u = self(L);
  int nfmt = lua_gettop(L) - 1;
  luaL_argcheck(L, nfmt < 200, 2, "too many formats");
  for (int i = 2; i <= nfmt + 1; i++) {
    np_cond c;
    format_cond(L, u, i, &c);
  }
  lua_pushinteger(L, nfmt);
  lua_insert(L, 2);
  lua_pushcclosure(L, lines_next, nfmt + 2);
  return 1;
}

static const char *const recv_options[] = { "timeout", "fds", NULL };

/* recv([max][, {timeout = s, fds = n}]): what is there, at least one byte. With fds: up to the first descriptors. */
static int f_recv(lua_State *L) {
  stream *u = self(L);
  one_reader(L, u);
  int opt = lua_istable(L, 2) ? 2 : 3;
  np_check_options(L, opt, recv_options);
  lua_Integer max = opt == 2 ? 0 : luaL_optinteger(L, 2, 0);
  luaL_argcheck(L, max >= 0, 2, "a count of bytes cannot be negative");
  luaL_argcheck(L, max > 0 || opt == 2 || lua_isnoneornil(L, 2), 2, "cannot receive 0 bytes");
  lua_Integer fds = np_opt_integer(L, opt, "fds", 0, 0, NP_FDS_MAX);
  u->read_by_ns = deadline(L, u, opt);
  u->cond = (np_cond){ .kind = NP_COND_ANY, .need = (size_t)max, .max = SIZE_MAX };
  lua_settop(L, 1);
  if (fds == 0) return start_read(L, u, 1, 0, "recv");
  lua_pushinteger(L, fds);
  return start_read(L, u, 1, CTX_FDS, "recv");
}

/* read_until(delim[, max][, opts]): the bytes before delim, which is taken. */
static int f_read_until(lua_State *L) {
  stream *u = self(L);
  one_reader(L, u);
  u->read_by_ns = take_options(L, u);
  size_t len;
  const char *delim = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len > 0, 2, "an empty delimiter is everywhere");
  lua_Integer max = luaL_optinteger(L, 3, (lua_Integer)u->line_max);
  luaL_argcheck(L, max >= 0, 3, "a count of bytes cannot be negative");
  u->cond = (np_cond){ .kind = NP_COND_DELIM, .delim = delim, .delim_len = len, .max = (size_t)max };
  lua_settop(L, 2);
  return start_read(L, u, 1, 0, "read_until");
}

/* unpack(fmt[, opts]): the values of one string.pack record. */
static int f_unpack(lua_State *L) {
  stream *u = self(L);
  one_reader(L, u);
  u->read_by_ns = take_options(L, u);
  const char *bad, *fmt = luaL_checkstring(L, 2);
  lua_settop(L, 2);
  np_packitem *items = lua_newuserdatauv(L, NP_PACK_ITEMS_MAX * sizeof *items, 0);
  int n = np_pack_compile(fmt, items, &bad);
  if (n < 0) luaL_argerror(L, 2, lua_pushfstring(L, "bad pack format at '%s'", bad));
  u->cond = (np_cond){ .kind = NP_COND_PACK, .items = items, .nitems = n, .max = u->read_max };
  return start_read(L, u, 1, 0, "unpack");
}

/* peek([n][, opts]): at least n bytes (1), fewer at the end, without taking them: all that is here. */
static int f_peek(lua_State *L) {
  stream *u = self(L);
  one_reader(L, u);
  u->read_by_ns = take_options(L, u);
  lua_Integer n = luaL_optinteger(L, 2, 1);
  luaL_argcheck(L, n >= 0, 2, "a count of bytes cannot be negative");
  lua_settop(L, 1);
  u->cond = (np_cond){ .kind = NP_COND_PEEK, .need = (size_t)n, .max = u->read_max };
  return start_read(L, u, 1, 0, "peek");
}

/* unread(s): puts bytes before the unread ones. */
static int f_unread(lua_State *L) {
  stream *u = self(L);
  size_t n;
  const char *p = luaL_checklstring(L, 2, &n);
  one_reader(L, u);
  if (!u->s) return fail(L, u, NP_ECLOSED, "unread");
  luaL_argcheck(L, n + np_stream_in(u->s) <= u->read_max, 2, "more unread bytes than read_max");
  if (np_stream_unread(u->s, p, n) < 0) return luaL_error(L, "not enough memory");
  lua_settop(L, 1);
  return 1;
}

/* Writing. */

static void next_turn(stream *u) {
  if (!u->writer && np_node_linked(&u->turns)) np_waiter_poke(np_waiter_first(&u->turns));
}

static void turn_abort(np_task *t, void *obj) { np_waiter_forget(t, obj); }
static void write_abort(np_task *t, void *obj) {
  stream *u = obj;
  u->writer = NULL;
  if (u->s) np_stream_write_abort(u->s, np_task_cause(t));
  next_turn(u);
}
static const np_waitkind turn_wait = { "write (another task's turn)", true, turn_abort, describe, false };
static const np_waitkind write_wait = { "write", true, write_abort, describe, false };
static const np_waitkind flush_wait = { "flush", true, turn_abort, describe, false };

static int written(lua_State *L, stream *u, int r, const char *what) {
  next_turn(u);
  if (r < 0) return fail(L, u, r, what);
  u->streak = 0;
  lua_settop(L, 1);
  return np_done(L, 1);
}

static int k_written(lua_State *L, int status, lua_KContext ctx) {
  stream *u = lua_touserdata(L, 1);
  int woken = np_woken(L);
  (void)status, (void)ctx;
  if (!u->s) return fail(L, u, NP_ECLOSED, "write");
  int r = woken ? woken : np_stream_write_end(u->s);
  if (r <= 0) return written(L, u, r, "write");
  u->writer = np_task_of(L);
  return np_wait(L, &write_wait, u, u->write_by_ns, 0, k_written);
}

static int write_now(lua_State *L, stream *u) {
  int n = lua_gettop(L) - 1;
  struct iovec few[PIECES_MAX];
  struct iovec *iov = n <= PIECES_MAX ? few : lua_newuserdatauv(L, (size_t)n * sizeof *iov, 0);
  for (int i = 0; i < n; i++) {
    size_t len;
    iov[i].iov_base = (void *)lua_tolstring(L, i + 2, &len);
    iov[i].iov_len = len;
  }
  int r = np_stream_write(u->s, iov, n);
  if (r <= 0) return written(L, u, r, "write");
  u->writer = np_task_of(L);
  return np_wait(L, &write_wait, u, u->write_by_ns, 0, k_written);
}

static int k_turn(lua_State *L, int status, lua_KContext ctx) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  (void)ctx;
  if (!u->s || woken) return fail(L, u, woken ? woken : NP_ECLOSED, "write");
  if (!u->writer) return write_now(L, u);
  np_waiter_join(np_task_of(L), &u->turns);
  return np_wait(L, &turn_wait, u, u->write_by_ns, 0, k_turn);
}

static void check_pieces(lua_State *L) {
  int top = lua_gettop(L);
  for (int i = 2; i <= top; i++) {
    if (lua_type(L, i) == LUA_TSTRING) continue;
    if (lua_type(L, i) != LUA_TNUMBER) luaL_typeerror(L, i, "string or number");
    lua_tolstring(L, i, NULL);
  }
}

/* write(...[, {timeout = s}]): the stream. All pieces or none are taken. */
static int f_write(lua_State *L) {
  stream *u = self(L);
  u->write_by_ns = lua_istable(L, -1) || u->timeout_ns != NP_NEVER ? take_options(L, u) : NP_NEVER;
  check_pieces(L);
  np_op_begin(L, "write");
  return k_turn(L, LUA_OK, 0);
}

static int k_flush(lua_State *L, int status, lua_KContext ctx) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  (void)ctx;
  if (!u->s) return fail(L, u, NP_ECLOSED, "flush");
  int r = np_stream_flush(u->s);
  if (r <= 0) return written(L, u, r, "flush");
  if (woken) return fail(L, u, woken, "flush");
  np_waiter_join(np_task_of(L), &u->flushers);
  return np_wait(L, &flush_wait, u, u->write_by_ns, 0, k_flush);
}

/* flush([{timeout = s}]): waits until the kernel has everything: the stream. */
static int f_flush(lua_State *L) {
  stream *u = self(L);
  u->write_by_ns = take_options(L, u);
  lua_settop(L, 1);
  np_op_begin(L, "flush");
  return k_flush(L, LUA_OK, 0);
}

/* send with descriptors. Stack: stream, message, list of descriptors. */
static int k_send_fds(lua_State *L, int status, lua_KContext ctx) {
  stream *u = lua_touserdata(L, 1);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  (void)ctx;
  if (!u->s) return fail(L, u, NP_ECLOSED, "send");
  if (woken) return fail(L, u, woken, "send");
  size_t len;
  const char *msg = lua_tolstring(L, 2, &len);
  int fds[NP_FDS_MAX], n = np_gather_fds(L, 3, 3, fds);
  int r = u->writer ? 1 : np_stream_flush(u->s);
  ssize_t sent = r == 0 ? np_stream_send_fds(u->s, msg, len, fds, n) : r;
  if (r < 0 || (r == 0 && sent < 0 && sent != -EAGAIN)) return written(L, u, r < 0 ? r : (int)sent, "send");
  if (r == 1 || sent == -EAGAIN) {
    np_waiter_join(np_task_of(L), u->writer ? &u->turns : &u->flushers);
    return np_wait(L, u->writer ? &turn_wait : &flush_wait, u, u->write_by_ns, 0, k_send_fds);
  }
  lua_settop(L, 2);
  lua_pushlstring(L, msg + sent, len - (size_t)sent);
  lua_replace(L, 2);
  return write_now(L, u); /* the rest, as plain bytes */
}

static const char *const send_options[] = { "timeout", "fds", NULL };

/* send(msg[, {fds = {...}, timeout = s}]): the stream. The descriptors go with the first byte, once. */
static int f_send(lua_State *L) {
  stream *u = self(L);
  size_t len;
  luaL_checklstring(L, 2, &len);
  np_check_options(L, 3, send_options);
  u->write_by_ns = deadline(L, u, 3);
  lua_settop(L, 3);
  bool fds = lua_istable(L, 3) && lua_getfield(L, 3, "fds") != LUA_TNIL;
  if (!fds) {
    lua_settop(L, 2);
    np_op_begin(L, "send");
    return k_turn(L, LUA_OK, 0);
  }
  luaL_argcheck(L, len > 0, 2, "descriptors need at least one byte to travel with");
  lua_replace(L, 3);
  int list[NP_FDS_MAX];
  np_gather_fds(L, 3, 3, list);
  if (u->s && !np_transport_fdq(np_stream_transport(u->s)))
    return np_fail(L, -EOPNOTSUPP, "send descriptors on %s", name_of(L, u));
  np_op_begin(L, "send");
  return k_send_fds(L, LUA_OK, 0);
}

/* Ending. */

static void wake_all(stream *u, int code) {
  np_task *r = u->reader, *w = u->writer;
  u->reader = u->writer = NULL;
  if (r) np_task_wake_code(r, code);
  if (w) np_task_wake_code(w, code);
  while (np_node_linked(&u->turns)) np_waiter_fail(np_waiter_first(&u->turns), code);
  while (np_node_linked(&u->flushers)) np_waiter_fail(np_waiter_first(&u->flushers), code);
}

static int end_stream(lua_State *L, stream *u, bool abort) {
  np_stream *s = u->s;
  if (!s) return lua_pushboolean(L, 1), 1;
  const char *name = np_stream_error(s) ? name_of(L, u) : "";
  u->s = NULL;
  wake_all(u, NP_ECLOSED);
  int r = 0;
  if (abort) np_stream_abort(s);
  else r = np_stream_close(s);
  if (r < 0) return np_fail(L, r, "close %s", name);
  lua_pushboolean(L, 1);
  return 1;
}

/* close(): true, or the failure the stream had; what is queued still goes out. Never waits; idempotent. */
static int f_close(lua_State *L) { return end_stream(L, self(L), false); }
/* abort(): RST, now. */
static int f_abort(lua_State *L) { return end_stream(L, self(L), true); }

static int f_gc(lua_State *L) {
  stream *u = self(L);
  if (!u->s) return 0;
  np_origin_warn(L, 1, UV_ORIGIN, "an open stream");
  end_stream(L, u, false);
  return 0;
}

/* shutdown(): half-close; what is queued goes out first. true or the failure. */
static int f_shutdown(lua_State *L) {
  stream *u = self(L);
  if (!u->s) return fail(L, u, NP_ECLOSED, "shutdown");
  int r = np_stream_shutdown(u->s);
  if (r < 0) return fail(L, u, r, "shutdown");
  lua_pushboolean(L, 1);
  return 1;
}

/* take(): the descriptor as an object of its own, and the unread bytes; the stream is closed. */
static int f_take(lua_State *L) {
  stream *u = self(L);
  if (!u->s) return fail(L, u, NP_ECLOSED, "take");
  if (u->reader || u->writer || np_node_linked(&u->flushers))
    return luaL_error(L, "cannot take the descriptor: another task is using %s", name_of(L, u));
  const char *data;
  size_t n = np_stream_peek(u->s, &data);
  lua_pushlstring(L, data, n);
  char *rest;
  size_t rest_len;
  int fd = np_stream_take(u->s, &rest, &rest_len);
  if (fd < 0) return np_fail(L, fd, "take %s", name_of(L, u));
  free(rest);
  u->s = NULL;
  np_push_descriptor(L, fd);
  lua_insert(L, -2);
  return 2;
}

/* What it is. */

/* option(name): its value; option(name, value): true; or the failure. */
static int f_option(lua_State *L) {
  stream *u = self(L);
  const np_option *o = np_check_option(L, 2);
  np_optval v;
  if (!u->s) return fail(L, u, NP_ECLOSED, "option");
  int fd = np_stream_fd(u->s), r;
  if (lua_isnone(L, 3)) {
    r = fd < 0 ? -ENOTSOCK : np_option_get(fd, o, &v);
    if (r < 0) return np_fail(L, r, "option %s of %s", o->name, name_of(L, u));
    np_push_optval(L, o, &v);
    return 1;
  }
  np_check_optval(L, 3, 3, o, &v);
  r = fd < 0 ? -ENOTSOCK : np_option_set(fd, o, &v);
  if (r < 0) return np_fail(L, r, "set option %s of %s", o->name, name_of(L, u));
  lua_pushboolean(L, 1);
  return 1;
}

/* credentials(): { pid, uid, gid } of the peer of an AF_UNIX stream. */
static int f_credentials(lua_State *L) {
  stream *u = self(L);
  if (!u->s) return fail(L, u, NP_ECLOSED, "credentials");
  np_cred c;
  int fd = np_stream_fd(u->s), r = fd < 0 ? -ENOTSOCK : np_socket_credentials(fd, &c);
  if (r < 0) return np_fail(L, r, "credentials of %s", name_of(L, u));
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)c.pid);
  lua_setfield(L, -2, "pid");
  lua_pushinteger(L, c.uid);
  lua_setfield(L, -2, "uid");
  lua_pushinteger(L, c.gid);
  lua_setfield(L, -2, "gid");
  return 1;
}

static int push_peer(lua_State *L, const stream *u) {
  char text[NP_ADDR_MAX];
  np_addr_print(NP_TCP, (const struct sockaddr *)&u->peer, u->peer_len, text, sizeof text);
  lua_pushstring(L, text);
  return 1;
}

static int push_end(lua_State *L, stream *u, int (*get)(int, np_sockaddr *)) {
  np_sockaddr a;
  char text[NP_ADDR_MAX];
  int fd = np_stream_fd(u->s), scheme = fd >= 0 ? np_socket_scheme(fd) : -1;
  if (scheme < 0 || get(fd, &a) < 0) return 0;
  np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, text, sizeof text);
  lua_pushstring(L, text);
  return 1;
}

static void push_seconds(lua_State *L, uint64_t ns) {
  if (ns == NP_NEVER) lua_pushnil(L);
  else lua_pushnumber(L, (lua_Number)ns / 1e9);
}

/* Fields: timeout, line_max, read_max (writable); peer, address, fd, closed, unread_bytes, unsent_bytes. */
static int f_index(lua_State *L) {
  stream *u = self(L);
  const char *k = lua_tostring(L, 2);
  if (!k) return 0;
  if (strcmp(k, "timeout") == 0) return push_seconds(L, u->timeout_ns), 1;
  if (strcmp(k, "line_max") == 0) return lua_pushinteger(L, (lua_Integer)u->line_max), 1;
  if (strcmp(k, "read_max") == 0) return lua_pushinteger(L, (lua_Integer)u->read_max), 1;
  if (strcmp(k, "closed") == 0) return lua_pushboolean(L, !u->s), 1;
  if (u->peer_len && strcmp(k, "peer") == 0) return push_peer(L, u); /* closed or not */
  if (!u->s) return 0;
  if (strcmp(k, "peer") == 0) return push_end(L, u, np_socket_peer);
  if (strcmp(k, "address") == 0) return push_end(L, u, np_socket_local);
  if (strcmp(k, "unread_bytes") == 0) return lua_pushinteger(L, (lua_Integer)np_stream_in(u->s)), 1;
  if (strcmp(k, "unsent_bytes") == 0) return lua_pushinteger(L, (lua_Integer)np_stream_out(u->s)), 1;
  if (strcmp(k, "fd") != 0) return 0;
  int fd = np_stream_fd(u->s);
  if (fd < 0) return 0;
  lua_pushinteger(L, fd);
  return 1;
}

static int f_newindex(lua_State *L) {
  stream *u = self(L);
  const char *k = luaL_checkstring(L, 2);
  if (strcmp(k, "timeout") == 0) {
    u->timeout_ns = lua_isnil(L, 3) ? NP_NEVER : np_check_seconds(L, 3);
    return 0;
  }
  bool line = strcmp(k, "line_max") == 0;
  if (!line && strcmp(k, "read_max") != 0)
    return luaL_error(L, "a stream has no field '%s' to set (timeout, line_max, read_max)", k);
  lua_Integer n = luaL_checkinteger(L, 3);
  luaL_argcheck(L, n > 0, 3, "a limit must be positive");
  if (line) u->line_max = (size_t)n;
  else u->read_max = (size_t)n;
  return 0;
}

static int f_tostring(lua_State *L) {
  stream *u = self(L);
  if (!u->s) return lua_pushliteral(L, "neap.stream{closed}"), 1;
  char ends[2 * NP_ADDR_MAX + 8];
  print_ends(u, ends, sizeof ends);
  const char *error = np_stream_error(u->s) ? np_error_name(np_stream_error(u->s)) : "";
  lua_pushfstring(L, "neap.stream{%s in=%d out=%d%s%s%s%s%s}", ends, (int)np_stream_in(u->s),
                  (int)np_stream_out(u->s), u->reader ? " reading" : "", u->writer ? " writing" : "",
                  np_stream_ended(u->s) ? " ended" : "", *error ? " " : "", error);
  return 1;
}

const np_type np_stream_type = {
  .name = "neap.stream",
  .methods = (const luaL_Reg[]){
    { "read", f_read }, { "lines", f_lines }, { "recv", f_recv }, { "read_until", f_read_until },
    { "unpack", f_unpack }, { "peek", f_peek }, { "unread", f_unread }, { "write", f_write },
    { "flush", f_flush }, { "send", f_send }, { "close", f_close }, { "abort", f_abort },
    { "shutdown", f_shutdown }, { "take", f_take }, { "option", f_option }, { "credentials", f_credentials },
    { NULL, NULL } },
  .meta = (const luaL_Reg[]){ { "__gc", f_gc }, { "__close", f_close }, { "__tostring", f_tostring },
                              { "__newindex", f_newindex }, { NULL, NULL } },
  .index = f_index,
};

/* mem_pair(): two connected streams in memory. */
static int f_mem_pair(lua_State *L) {
  stream *a = new_closed(L), *b = new_closed(L);
  np_transport *t[2];
  int r = np_transport_mem(np_loop_of(L), MEM_CAPACITY, t);
  if (r == 0) {
    r = np_stream_new(np_loop_of(L), t[0], &a->s);
    if (r < 0) t[1]->ops->close(t[1], true);
    else r = np_stream_new(np_loop_of(L), t[1], &b->s);
  }
  if (r < 0) return luaL_error(L, "not enough memory");
  np_stream_own(a->s, on_event, a);
  np_stream_own(b->s, on_event, b);
  return 2;
}

/* stdio(fd): the stream over 0, 1 or 2, in the mode they came in; or the failure. */
static int f_stdio(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= 2, 1, "0, 1 or 2 expected");
  int r = np_push_fd_stream(L, fd);
  return r < 0 ? np_fail(L, r, "standard stream %d", fd) : 1;
}

int luaopen_neap_stream_core(lua_State *L) {
  static const luaL_Reg funcs[] = { { "mem_pair", f_mem_pair }, { "stdio", f_stdio }, { NULL, NULL } };
  np_type_init(L, &np_stream_type);
  lua_getglobal(L, LUA_STRLIBNAME);
  lua_getfield(L, -1, "unpack");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_unpack);
  luaL_newlib(L, funcs);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &np_stream_type);
  lua_getfield(L, -1, "__index");
  lua_getupvalue(L, -1, 1);
  lua_setfield(L, -4, "methods"); /* for methods written in Lua: stdlib/stream.lua */
  lua_pop(L, 2);
  return 1;
}
