/* Streams for Lua: reading. A call becomes a condition (core/cond.h); the core tells when it is
 * met, and the frame is taken from where it lies.  Results follow Lua's io library. */
#include <string.h>

#include "bindings/codec.h"
#include "bindings/stream_impl.h"
#include "core/error.h"

static void read_abort(np_task *t, void *obj) {
  stream *u = obj;
  (void)t;
  u->reader = NULL;
  if (u->s) np_stream_read_abort(u->s);
}

static const np_waitkind read_wait = {"read", true, read_abort, np_stream_describe, false};
/* Only tasks of this process can end it: two that wait for each other are a deadlock. */
static const np_waitkind read_wait_inside = {"read", false, read_abort, np_stream_describe, false};

/* How a read ends: failures raise (iterators), descriptors come along; above CTX_SHIFT the number
 * of conditions. */
enum { CTX_RAISE = 1, CTX_FDS = 2, CTX_SHIFT = 4 };

enum { LINES_FORMATS_MAX = 250 }; /* upvalues of an iterator: Lua's limit is 255 */

/* ---- results ---- */

static int read_failed(lua_State *L, stream *u, int code, int ctx) {
  if (code == NP_COND_END) {
    lua_pushnil(L);
    return ctx & CTX_RAISE ? 1 : np_done(L, 1);
  }
  if (!(ctx & CTX_RAISE)) return np_stream_failed(L, u, code, "read");
  if (!u->s || code == NP_ECLOSED) return lua_pushnil(L), 1;
  const char *name = np_stream_name(L, u), *why = np_transport_reason(np_stream_transport(u->s));
  if (!why || code == -ETIMEDOUT) return np_raise(L, code, "read %s", name);
  lua_pushfstring(L, "read %s: %s", name, why);
  return np_raise_message(L, -1, np_error_name(code));
}

static void warn_dropped(lua_State *L, stream *u) {
  unsigned n = np_stream_fds_dropped(u->s);
  if (np_likely(n == 0) || u->warned_fds) return;
  u->warned_fds = true;
  lua_pushfstring(L, "neap: %d descriptor%s on %s closed: a plain read passed %s", (int)n,
                  n == 1 ? "" : "s", np_stream_name(L, u), n == 1 ? "it" : "them");
  lua_warning(L, lua_tostring(L, -1), 0);
  lua_pop(L, 2);
}

/* The unread bytes of a stream while they are made values. */
typedef struct held {
  np_bytes bytes;
  const stream *u;
  const np_stream *s;
  uint32_t moves;
} held;

static bool moved(const np_bytes *b) {
  const held *h = np_container(b, held, bytes);
  return h->u->s != h->s || np_stream_moves(h->s) != h->moves;
}

static held hold(const stream *u) { return (held){{moved}, u, u->s, np_stream_moves(u->s)}; }

static int k_read(lua_State *L, int status, lua_KContext ctx);

/* A finalizer closed this very stream, or put bytes before those that are read: the call begins
 * again, its results so far dropped. */
static int read_again(lua_State *L, int top, int ctx) {
  lua_settop(L, top);
  return k_read(L, LUA_OK, ctx);
}

/* No read can begin meanwhile, which would change the conditions: see reader(). */
static int push_frames(lua_State *L, stream *u, np_cond *conds, int n, const char *data, int ctx) {
  int pushed = 0, top = lua_gettop(L);
  size_t take = 0;
  held h = hold(u);
  for (int i = 0; i < n; i++) {
    if (n > 1) luaL_checkstack(L, 4, "too many values");
    if (conds[i].kind == NP_COND_PEEK && conds[i].delim_len > 0)
      conds[i].len = np_min(conds[i].len, conds[i].delim_len);
    if (np_unlikely(i > 0 && moved(&h.bytes))) return read_again(L, top, ctx);
    int k = np_push_frame(L, &conds[i], data + conds[i].off, &h.bytes);
    if (np_unlikely(k == -EAGAIN)) return read_again(L, top, ctx);
    if (np_unlikely(k < 0)) return read_failed(L, u, k, ctx);
    pushed += k;
    take += conds[i].take;
  }
  if (np_unlikely(u->s != h.s)) return np_done(L, pushed); /* closed, but all were taken */
  if (np_unlikely(moved(&h.bytes))) return read_again(L, top, ctx);
  np_stream_consume(u->s, take);
  u->streak = 0;
  warn_dropped(L, u);
  return np_done(L, pushed);
}

static int push_fds(lua_State *L, stream *u, const np_cond *c, const char *data, int ctx) {
  int top = lua_gettop(L), n = np_stream_push_fds(L, u, c->len, data);
  if (np_unlikely(n == -EAGAIN)) return read_again(L, top, ctx);
  return n < 0 ? read_failed(L, u, n, ctx) : np_done(L, n);
}

/* ---- waiting ---- */

static int k_read(lua_State *L, int status, lua_KContext ctx) {
  stream *u = lua_touserdata(L, 1);
  int woken = 0;
  if (status == LUA_YIELD) {
    woken = np_woken(L);
    if (woken == 0) u->reader = NULL; /* it was this task, woken */
  }
  if (!u->s) return read_failed(L, u, NP_ECLOSED, (int)ctx);
  /* Its time ran out, and before it could say so another task has begun to read. */
  if (np_unlikely(u->reader || u->holder)) return read_failed(L, u, woken, (int)ctx);
  int n = (int)(ctx >> CTX_SHIFT);
  np_cond *conds = n == 1 ? &u->cond : lua_touserdata(L, 2);
  const char *data;
  int r = np_stream_read(u->s, conds, n, &data);
  if (np_likely(r == 1))
    return ctx & CTX_FDS ? push_fds(L, u, conds, data, (int)ctx)
                         : push_frames(L, u, conds, n, data, (int)ctx);
  if (r < 0) return read_failed(L, u, r, (int)ctx);
  if (woken) {
    np_stream_read_abort(u->s);
    return read_failed(L, u, woken, (int)ctx);
  }
  if (u->read_by_ns == NP_BY_DEFAULT) u->read_by_ns = np_stream_deadline(L, u->timeout_ns, -1);
  u->reader = np_task_of(L);
  u->reader_woken = false;
  return np_wait(L, np_stream_inside(u->s) ? &read_wait_inside : &read_wait, u, u->read_by_ns, ctx,
                 k_read);
}

/* What u->cond asks for is here already: the number of its values, which were pushed; 0: that is
 * for k_read to find.  The way of most frames of a busy connection: 3730 -> 3300 instructions per
 * pipelined line. */
static int push_here(lua_State *L, stream *u) {
  const char *data;
  const np_cond *c = &u->cond;
  if (!u->s || c->kind == NP_COND_PEEK || !np_stream_have(u->s, &u->cond, &data)) return 0;
  held h = hold(u);
  int top = lua_gettop(L), n = np_push_frame(L, c, data + c->off, &h.bytes);
  if (np_unlikely(n > 0 && u->s != h.s)) return n; /* closed by a finalizer, but all was taken */
  if (np_unlikely(n <= 0 || moved(&h.bytes))) {
    lua_settop(L, top);
    return 0;
  }
  np_stream_consume(u->s, c->take);
  u->streak = 0;
  warn_dropped(L, u);
  return n;
}

/* Stack: the stream at 1. */
static int start_read(lua_State *L, stream *u, int n, int ctx) {
  int pushed = n == 1 && !(ctx & CTX_FDS) ? push_here(L, u) : 0;
  if (pushed > 0) return np_done(L, pushed);
  return k_read(L, LUA_OK, n << CTX_SHIFT | ctx);
}

static void check_not_busy(lua_State *L, stream *u) {
  if (np_unlikely(u->reader || u->holder))
    np_stream_busy(L, u, u->holder ? u->holder->doing : "reading");
}

/* The first check of every read: the condition in the object is in use while somebody waits with
 * it, and while its frame is made a value: a finalizer, which cannot wait, may run then. */
static void begin(lua_State *L, stream *u, const char *what) {
  check_not_busy(L, u);
  np_op_begin(L, what);
}

static stream *reader(lua_State *L, const char *what) {
  stream *u = np_stream_self(L);
  begin(L, u, what);
  return u;
}

/* ---- formats ---- */

static size_t check_count(lua_State *L, int arg, lua_Integer def) {
  lua_Integer n = luaL_optinteger(L, arg, def);
  luaL_argcheck(L, n >= 0, arg, "a count of bytes cannot be negative");
  return (size_t)n;
}

static void format_cond(lua_State *L, stream *u, int arg, np_cond *c) {
  *c = (np_cond){.max = u->line_max};
  if (lua_type(L, arg) == LUA_TNUMBER) {
    *c = (np_cond){.kind = NP_COND_COUNT, .need = check_count(L, arg, 0), .max = u->read_max};
    return;
  }
  if (lua_isuserdata(L, arg) && np_codec_cond(L, arg, c)) return;
  const char *f = luaL_checkstring(L, arg);
  if (*f == '*') f++;
  switch (*f) {
  case 'l': c->kind = NP_COND_LINE; return;
  case 'L': c->kind = NP_COND_LINE_EOL; return;
  case 'n': c->kind = NP_COND_NUMBER; return;
  case 'a':
    c->kind = NP_COND_ALL;
    c->max = u->read_max;
    return;
  default: luaL_argerror(L, arg, "invalid format (l, L, a, n, a count or a codec)");
  }
}

/* Formats at 2..top become conditions; several are put at index 2, below the formats, which they
 * refer to. */
static int parse_formats(lua_State *L, stream *u) {
  int n = lua_gettop(L) - 1;
  if (n <= 0) {
    u->cond = (np_cond){.kind = NP_COND_LINE, .max = u->line_max};
    return 1;
  }
  if (n == 1) {
    format_cond(L, u, 2, &u->cond);
    return 1;
  }
  np_cond *conds = lua_newuserdatauv(L, (size_t)n * sizeof *conds, 0);
  for (int i = 0; i < n; i++) format_cond(L, u, 2 + i, &conds[i]);
  lua_insert(L, 2);
  return n;
}

/* read([fmt...][, {timeout = s}]): a value per format, all or none: "l" (default), "L", "a", "n", a
 * count, or a codec. nil at the end; nil, message, code: ETIMEDOUT (the bytes stay), EMSGSIZE (past
 * line_max or read_max; they stay), ECANCELED (closed), EPIPE (the end inside a record), or what
 * the kernel said. */
int np_f_read(lua_State *L) {
  stream *u = reader(L, "read");
  u->read_by_ns = np_stream_take_options(L, u->timeout_ns);
  return start_read(L, u, parse_formats(L, u), 0);
}

/* The next value of an iterator whose condition is in the object; upvalue 1: the stream. */
static int next_frame(lua_State *L, stream *u) {
  u->read_by_ns = NP_BY_DEFAULT;
  int n = push_here(L, u);
  if (n > 0) return np_done(L, n);
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  return k_read(L, LUA_OK, 1 << CTX_SHIFT | CTX_RAISE);
}

/* Upvalue: the stream. */
static int line_next(lua_State *L) {
  stream *u = lua_touserdata(L, lua_upvalueindex(1));
  begin(L, u, "lines");
  u->cond = (np_cond){.kind = NP_COND_LINE, .max = u->line_max};
  return next_frame(L, u);
}

/* Upvalues: the stream, the one format. */
static int format_next(lua_State *L) {
  stream *u = lua_touserdata(L, lua_upvalueindex(1));
  begin(L, u, "lines");
  format_cond(L, u, lua_upvalueindex(2), &u->cond);
  return next_frame(L, u);
}

/* Upvalues: the stream, the formats. */
static int formats_next(lua_State *L) {
  stream *u = lua_touserdata(L, lua_upvalueindex(1));
  begin(L, u, "lines");
  lua_settop(L, 0);
  luaL_checkstack(L, LINES_FORMATS_MAX + 4, "too many formats");
  for (int i = 1; !lua_isnone(L, lua_upvalueindex(i)); i++) lua_pushvalue(L, lua_upvalueindex(i));
  u->read_by_ns = NP_BY_DEFAULT;
  return start_read(L, u, parse_formats(L, u), CTX_RAISE);
}

/* lines([fmt...]): iterator of read(fmt...). Ends at the end and when our side closes; raises
 * failures. */
int np_f_lines(lua_State *L) {
  stream *u = np_stream_self(L);
  int nfmt = lua_gettop(L) - 1;
  luaL_argcheck(L, nfmt <= LINES_FORMATS_MAX, LINES_FORMATS_MAX + 2, "too many formats");
  for (int i = 2; i <= nfmt + 1; i++) {
    np_cond c;
    format_cond(L, u, i, &c);
  }
  lua_pushcclosure(L, nfmt == 0 ? line_next : nfmt == 1 ? format_next : formats_next, nfmt + 1);
  return 1;
}

/* messages(codec): iterator of the codec's messages, as lines(codec). */
int np_f_messages(lua_State *L) {
  np_cond c;
  lua_settop(L, 2);
  if (!np_codec_cond(L, 2, &c)) return luaL_typeerror(L, 2, "codec");
  return np_f_lines(L);
}

/* recv([max][, {timeout = s, fds = n}]): what is there, at least one byte, at most max. With fds:
 * the bytes up to the first descriptors and a list of these, to be closed; EMSGSIZE if more than n
 * came (all stays), once EMFILE or EMSGSIZE if the kernel had to drop some (the bytes stay). */
int np_f_recv(lua_State *L) {
  stream *u = reader(L, "recv");
  if (lua_gettop(L) == 1) {
    u->read_by_ns = NP_BY_DEFAULT;
    u->cond = (np_cond){.kind = NP_COND_ANY, .max = SIZE_MAX};
    return start_read(L, u, 1, 0);
  }
  int opt = lua_istable(L, 2) ? 2 : 3;
  bool all = opt == 2 || lua_isnoneornil(L, 2);
  size_t max = all ? 0 : check_count(L, 2, 0);
  luaL_argcheck(L, all || max > 0, 2, "cannot receive 0 bytes");
  int fds = np_stream_recv_options(L, u, opt);
  u->cond = (np_cond){.kind = NP_COND_ANY, .need = max, .max = SIZE_MAX};
  lua_settop(L, 1);
  if (fds == 0) return start_read(L, u, 1, 0);
  lua_pushinteger(L, fds);
  return start_read(L, u, 1, CTX_FDS);
}

/* read_until(delim[, max][, opts]): the bytes before delim, which is taken; the rest at the end;
 * EMSGSIZE past max (line_max). */
int np_f_read_until(lua_State *L) {
  stream *u = reader(L, "read_until");
  u->read_by_ns = np_stream_take_options(L, u->timeout_ns);
  size_t len;
  const char *delim = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len > 0, 2, "an empty delimiter is everywhere");
  size_t max = check_count(L, 3, (lua_Integer)u->line_max);
  u->cond = (np_cond){.kind = NP_COND_DELIM, .delim = delim, .delim_len = len, .max = max};
  lua_settop(L, 2);
  return start_read(L, u, 1, 0);
}

/* unpack(fmt[, opts]): the values of one string.pack record; EPIPE if the end comes inside it,
 * EBADMSG for an integer that does not fit. */
int np_f_unpack(lua_State *L) {
  stream *u = reader(L, "unpack");
  u->read_by_ns = np_stream_take_options(L, u->timeout_ns);
  size_t len;
  const char *bad, *fmt = luaL_checklstring(L, 2, &len);
  lua_settop(L, 2);
  np_packitem *items = lua_newuserdatauv(L, NP_PACK_ITEMS_MAX * sizeof *items, 0);
  int n = np_pack_compile(fmt, items, &bad);
  if (n == -E2BIG) luaL_argerror(L, 2, "too many items");
  if (n < 0) luaL_argerror(L, 2, lua_pushfstring(L, "bad pack format at '%s'", bad));
  u->cond = (np_cond){.kind = NP_COND_PACK,
                      .items = items,
                      .nitems = n,
                      .max = u->read_max,
                      .delim = fmt,
                      .delim_len = len};
  return start_read(L, u, 1, 0);
}

/* peek([n [, max]][, opts]): the next n bytes, fewer at the end, without taking them, and what else
 * is here up to max (n); without n all that is here, at least one. */
int np_f_peek(lua_State *L) {
  stream *u = reader(L, "peek");
  u->read_by_ns = np_stream_take_options(L, u->timeout_ns);
  size_t n = check_count(L, 2, 0), most = np_max(n, check_count(L, 3, 0));
  lua_settop(L, 1);
  u->cond = (np_cond){.kind = NP_COND_PEEK, .need = n, .delim_len = most, .max = u->read_max};
  return start_read(L, u, 1, 0);
}

/* unread(s): puts bytes before the unread ones; the stream. Raises if read_max would be passed. */
int np_f_unread(lua_State *L) {
  stream *u = np_stream_self(L);
  check_not_busy(L, u);
  size_t n;
  const char *p = luaL_checklstring(L, 2, &n);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "unread");
  luaL_argcheck(L, n + np_stream_in(u->s) <= u->read_max, 2, "more unread bytes than read_max");
  if (np_stream_unread(u->s, p, n) < 0) return luaL_error(L, "not enough memory");
  lua_settop(L, 1);
  return 1;
}
