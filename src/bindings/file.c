/* Open files for Lua: a userdata that joins a stream for reading (core/file.h: the same framing as
 * a connection's) and requests for the rest.
 *
 * One position, as io has it: where the next unread byte is. Calls that write, move or ask take
 * turns; whoever reads is alone, as on any stream. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/fs_impl.h"
#include "bindings/select.h"
#include "core/file.h"

static fsfile *check(lua_State *L) { return np_check_object(L, 1, &np_file_type); }

void np_file_push_name(lua_State *L, fsfile *f) {
  (void)f;
  if (lua_getiuservalue(L, 1, NP_FILE_PATH) == LUA_TSTRING) return;
  lua_pop(L, 1);
  lua_pushliteral(L, "a file");
}

bool np_file_closed(const fsfile *f) { return !f->core; }

bool np_file_turn(np_task *t, fsfile *f) {
  if (!f->busy) return f->busy = true;
  np_waiter_join(t, &f->turns);
  return false;
}

void np_file_hand_over(fsfile *f) {
  np_waiter *next = np_waiter_first(&f->turns);
  f->busy = next != NULL;
  if (next) np_waiter_poke(next);
}

/* ---- reading: the stream's own methods ---------------------------------- */

static int delegate(lua_State *L, lua_CFunction method) {
  fsfile *f = check(L);
  if (f->in->s && !f->in->reader) np_file_again(f->in->s);
  lua_getiuservalue(L, 1, NP_FILE_STREAM);
  lua_replace(L, 1);
  return method(L);
}

static int f_read(lua_State *L) { return delegate(L, np_f_read); }
static int f_lines(lua_State *L) { return delegate(L, np_f_lines); }
static int f_recv(lua_State *L) { return delegate(L, np_f_recv); }
static int f_peek(lua_State *L) { return delegate(L, np_f_peek); }
static int f_read_until(lua_State *L) { return delegate(L, np_f_read_until); }

/* unread(s) -> the file: the position goes back. */
static int f_unread(lua_State *L) {
  fsfile *f = check(L);
  size_t n;
  const char *p = luaL_checklstring(L, 2, &n);
  if (!f->core || !f->in->s) return np_fail_closed(L, &f->streak);
  if (f->in->reader) np_stream_busy(L, f->in, "reading");
  luaL_argcheck(L, n + np_stream_in(f->in->s) <= f->in->read_max, 2,
                "more unread bytes than read_max");
  if (np_stream_unread(f->in->s, p, n) < 0) return luaL_error(L, "not enough memory");
  lua_settop(L, 1);
  return 1;
}

static int f_unpack(lua_State *L) { return delegate(L, np_f_unpack); }

/* ---- writing, moving, asking ------------------------------------------- */

/* A table of `timeout` as the last argument, which is removed. */
static uint64_t take_timeout(lua_State *L, fsfile *f) {
  return np_stream_take_options(L, f->in->timeout_ns);
}

static fscall *new_call(lua_State *L, fsfile *f, np_fsop op, const char *what, uint64_t by) {
  fscall *c = np_fs_push_call(L, op, NULL, NULL, what);
  c->r->file = np_fsfile_ref(f->core);
  c->on = f;
  c->by_ns = by;
  return c;
}

static int push_self(lua_State *L, fscall *c) {
  (void)c;
  lua_pushvalue(L, 1);
  return 1;
}

static void begin_write(lua_State *L, fscall *c) {
  (void)L;
  if (!c->on->append && c->on->in->s) c->r->at = np_file_position(c->on->in->s);
}

static void write_done(fscall *c) {
  np_stream *s = c->on->in->s;
  bool answered = c->r->result != -EINPROGRESS;
  if (answered && s && !c->on->append && !c->on->in->reader)
    np_file_seek(s, c->r->at + (int64_t)c->r->len);
}

/* The strings at 2..top as one piece of memory that the request owns. */
static void gather(lua_State *L, np_fsreq *r, int top) {
  size_t total = 0, len;
  for (int i = 2; i <= top; i++) lua_tolstring(L, i, &len), total += len;
  r->data = malloc(total + 1);
  if (!r->data) luaL_error(L, "not enough memory");
  for (int i = 2; i <= top; i++) {
    const char *p = lua_tolstring(L, i, &len);
    memcpy(r->data + r->len, p, len);
    r->len += len;
  }
}

/* write(...[, {timeout = s}]) -> the file */
static int f_write(lua_State *L) {
  fsfile *f = check(L);
  if (!f->core) return np_fail_closed(L, &f->streak);
  uint64_t by = take_timeout(L, f);
  int top = lua_gettop(L);
  for (int i = 2; i <= top; i++) luaL_checkstring(L, i);
  if (f->in->reader) np_stream_busy(L, f->in, "reading");
  fscall *c = new_call(L, f, NP_FS_WRITE, "write", by);
  gather(L, c->r, top);
  c->r->flags = f->append ? O_APPEND : 0;
  c->begin = begin_write;
  c->done = write_done;
  c->push = push_self;
  return np_fs_call(L, c);
}

static int simple(lua_State *L, np_fsop op, const char *what, int flags,
                  int (*push)(lua_State *, fscall *)) {
  fsfile *f = check(L);
  if (!f->core) return np_fail_closed(L, &f->streak);
  uint64_t by = take_timeout(L, f);
  fscall *c = new_call(L, f, op, what, by);
  c->r->flags = flags;
  c->push = push;
  return np_fs_call(L, c);
}

static int push_stat(lua_State *L, fscall *c) { return np_fs_push_stat(L, &c->r->st); }

/* sync([{timeout = s}]) -> the file: it is on the disk. datasync: without times. */
static int f_sync(lua_State *L) { return simple(L, NP_FS_SYNC, "sync", 0, push_self); }
static int f_datasync(lua_State *L) { return simple(L, NP_FS_SYNC, "datasync", 1, push_self); }
static int f_stat(lua_State *L) { return simple(L, NP_FS_FSTAT, "stat", 0, push_stat); }

/* truncate([size][, opts]) -> the file; to the position by default. */
static int f_truncate(lua_State *L) {
  fsfile *f = check(L);
  if (!f->core) return np_fail_closed(L, &f->streak);
  uint64_t by = take_timeout(L, f);
  lua_Integer size = luaL_optinteger(L, 2, np_file_position(f->in->s));
  luaL_argcheck(L, size >= 0, 2, "a size cannot be negative");
  fscall *c = new_call(L, f, NP_FS_TRUNCATE, "truncate", by);
  c->r->at = size;
  c->push = push_self;
  return np_fs_call(L, c);
}

/* flush() -> the file: nothing is kept back, so there is nothing to do. */
static int f_flush(lua_State *L) {
  fsfile *f = check(L);
  if (!f->core) return np_fail_closed(L, &f->streak);
  lua_settop(L, 1);
  return 1;
}

static int move_to(lua_State *L, fsfile *f, int64_t from, int64_t offset) {
  int64_t at;
  if (!f->core || !f->in->s) return np_fail_text(L, "ECANCELED", "closed");
  if (__builtin_add_overflow(from, offset, &at) || at < 0) {
    np_file_push_name(L, f);
    return np_fail(L, -EINVAL, "seek %s", lua_tostring(L, -1));
  }
  if (at != np_file_position(f->in->s)) np_file_seek(f->in->s, at);
  lua_pushinteger(L, (lua_Integer)at);
  return 1;
}

static int push_end(lua_State *L, fscall *c) {
  return move_to(L, c->on, c->r->st.st_size, c->number);
}

/* seek([whence = "cur"[, offset = 0]]) -> the position from the beginning; "end" waits. */
static int f_seek(lua_State *L) {
  static const char *const whences[] = {"set", "cur", "end", NULL};
  fsfile *f = check(L);
  if (!f->core) return np_fail_closed(L, &f->streak);
  uint64_t by = take_timeout(L, f);
  int whence = luaL_checkoption(L, 2, "cur", whences);
  lua_Integer offset = luaL_optinteger(L, 3, 0);
  if (f->in->reader) np_stream_busy(L, f->in, "reading");
  if (whence < 2) return move_to(L, f, whence ? np_file_position(f->in->s) : 0, offset);
  fscall *c = new_call(L, f, NP_FS_FSTAT, "seek", by);
  c->number = offset;
  c->push = push_end;
  return np_fs_call(L, c);
}

/* ---- ending ------------------------------------------------------------ */

static void close_input(lua_State *L) {
  if (lua_getiuservalue(L, 1, NP_FILE_STREAM) == LUA_TUSERDATA) {
    lua_getfield(L, -1, "close");
    lua_insert(L, -2);
    lua_call(L, 1, 0);
  } else {
    lua_pop(L, 1);
  }
}

static int push_closed_file(lua_State *L, fscall *c) {
  (void)c;
  lua_pushboolean(L, 1);
  return 1;
}

/* close([{timeout = s}]) -> true, or what the system said at the end (ENOSPC, EIO ...). Waits;
 * where that is impossible the rest goes on by itself. Idempotent; the same for <close>. */
static int f_close(lua_State *L) {
  fsfile *f = check(L);
  np_fsfile *core = f->core;
  if (!core) return lua_pushboolean(L, 1), 1;
  bool can = lua_isyieldable(L) && np_task_of(L);
  uint64_t by = lua_istable(L, 2) ? take_timeout(L, f) : NP_NEVER;
  lua_settop(L, 1);
  fscall *c = can ? np_fs_push_call(L, NP_FS_CLOSE, NULL, NULL, "close") : NULL;
  f->core = NULL;
  if (c) c->r->file = core;
  while (np_node_linked(&f->turns)) np_waiter_fail(np_waiter_first(&f->turns), NP_ECLOSED);
  close_input(L);
  if (!c) {
    np_fsfile_drop(np_loop_of(L), core);
    return lua_pushboolean(L, 1), 1;
  }
  lua_getiuservalue(L, 1, NP_FILE_PATH);
  lua_setiuservalue(L, -2, 1);
  c->by_ns = by;
  c->push = push_closed_file;
  return np_fs_call(L, c);
}

/* The second argument of <close> is the error, if there is one. */
static int f_block_end(lua_State *L) {
  lua_settop(L, 1);
  return f_close(L);
}

/* The stream may outlive it, in the hands of a task that reads; it has its own count, and warns
 * when it is collected open. */
static int f_gc(lua_State *L) {
  fsfile *f = lua_touserdata(L, 1);
  if (f->core) np_fsfile_unref(f->core);
  f->core = NULL;
  return 0;
}

/* ---- what it is -------------------------------------------------------- */

static bool is_streams(const char *k) {
  static const char *const fields[] = {"timeout", "line_max", "read_max", "unread_bytes", NULL};
  for (int i = 0; fields[i]; i++)
    if (strcmp(k, fields[i]) == 0) return true;
  return false;
}

/* Fields: fd, path, closed, and the stream's timeout, line_max, read_max, unread_bytes. */
static int f_index(lua_State *L) {
  fsfile *f = check(L);
  const char *k = lua_tostring(L, 2);
  if (!k) return 0;
  if (strcmp(k, "path") == 0) return lua_getiuservalue(L, 1, NP_FILE_PATH), 1;
  if (strcmp(k, "closed") == 0) return lua_pushboolean(L, !f->core), 1;
  if (!f->core) return 0;
  if (strcmp(k, "fd") == 0) return lua_pushinteger(L, f->core->fd), 1;
  if (!is_streams(k)) return 0;
  lua_getiuservalue(L, 1, NP_FILE_STREAM);
  lua_getfield(L, -1, k);
  return 1;
}

static int f_newindex(lua_State *L) {
  check(L);
  const char *k = luaL_checkstring(L, 2);
  if (!is_streams(k) || strcmp(k, "unread_bytes") == 0)
    return luaL_error(L, "a file has no field '%s' to set (timeout, line_max, read_max)", k);
  lua_getiuservalue(L, 1, NP_FILE_STREAM);
  lua_insert(L, 2);
  lua_settable(L, 2);
  return 0;
}

static int f_tostring(lua_State *L) {
  fsfile *f = check(L);
  lua_getiuservalue(L, 1, NP_FILE_PATH);
  if (f->core)
    lua_pushfstring(L, "neap.file{%s fd %d at %I}", lua_tostring(L, -1), f->core->fd,
                    (LUAI_UACINT)(f->in->s ? np_file_position(f->in->s) : 0));
  else lua_pushfstring(L, "neap.file{%s closed}", lua_tostring(L, -1));
  return 1;
}

/* input(file) -> the stream it reads through, for methods written in Lua. */
static int f_input(lua_State *L) {
  fsfile *f = check(L);
  if (f->core && f->in->s && !f->in->reader) np_file_again(f->in->s);
  lua_getiuservalue(L, 1, NP_FILE_STREAM);
  return 1;
}

const np_type np_file_type = {
  .name = "neap.file",
  .methods = (const luaL_Reg[]){{"read", f_read},
                                {"lines", f_lines},
                                {"recv", f_recv},
                                {"peek", f_peek},
                                {"read_until", f_read_until},
                                {"unread", f_unread},
                                {"unpack", f_unpack},
                                {"write", f_write},
                                {"flush", f_flush},
                                {"sync", f_sync},
                                {"datasync", f_datasync},
                                {"truncate", f_truncate},
                                {"stat", f_stat},
                                {"seek", f_seek},
                                {"close", f_close},
                                {NULL, NULL}},
  .meta = (const luaL_Reg[]){{"__gc", f_gc},
                             {"__close", f_block_end},
                             {"__tostring", f_tostring},
                             {"__newindex", f_newindex},
                             {NULL, NULL}},
  .index = f_index,
};

void np_fs_types(lua_State *L) {
  np_type_init(L, &np_file_type);
  np_type_init(L, &np_watch_type);
  lua_pushcfunction(L, f_input);
  lua_setfield(L, -2, "input");
  np_push_metatable(L, &np_file_type);
  lua_getfield(L, -1, "__index");
  lua_getupvalue(L, -1, 1);
  lua_setfield(L, -4, "methods"); /* for methods written in Lua: stdlib/fs */
  lua_pop(L, 2);
}
