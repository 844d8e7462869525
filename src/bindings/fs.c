/* neap.fs.core: calls on paths, each one request to the threads of core/fs.h and one wait.
 *
 * What they take and give is rows in a table. A call that is cancelled leaves its request to
 * itself: what was begun may still happen. */
#include "bindings/fs_impl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/select.h"

/* ---- a call ------------------------------------------------------------ */

static int call_gc(lua_State *L) {
  fscall *c = lua_touserdata(L, 1);
  if (c->r) np_fs_free(c->r);
  c->r = NULL;
  return 0;
}

fscall *np_fs_push_call(lua_State *L, np_fsop op, const char *path, const char *to,
                        const char *what) {
  fscall *c = lua_newuserdatauv(L, sizeof *c, 1);
  *c = (fscall){.by_ns = NP_NEVER, .what = what};
  if (luaL_newmetatable(L, "neap.fs.call")) {
    lua_pushcfunction(L, call_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  c->r = np_fs_new(op, path, to);
  if (!c->r) luaL_error(L, "not enough memory");
  return c;
}

static void on_answer(void *owner) {
  fscall *c = owner;
  np_task *t = c->task;
  c->task = NULL;
  np_task_wake(t);
}

/* Before anything that may raise. */
static void finish(fscall *c) {
  if (!c->started || c->finished) return;
  c->finished = true;
  if (c->r && c->done) c->done(c);
  if (c->on) np_file_hand_over(c->on);
}

static void end_call(fscall *c) {
  finish(c);
  if (c->r) np_fs_free(c->r);
  c->r = NULL;
}

static void request_abort(np_task *t, void *obj) {
  fscall *c = obj;
  (void)t;
  c->task = NULL;
  end_call(c);
}

static int describe(void *obj, char *buf, size_t size) {
  fscall *c = obj;
  return snprintf(buf, size, "%s %s", c->what, c->r && c->r->path ? c->r->path : "a file");
}

static void turn_abort(np_task *t, void *obj) {
  np_waiter_forget(t, obj);
  end_call(obj);
}

static const np_waitkind request_wait = {"file", true, request_abort, describe, false};
static const np_waitkind turn_wait = {"file (another task's turn)", true, turn_abort, describe,
                                      false};

static int fail_call(lua_State *L, fscall *c, int code) {
  if (c->on) np_file_push_name(L, c->on);
  else if (c->r && c->r->to) {
    const char *how = c->r->op == NP_FS_OPEN ? "beneath" : "to";
    lua_pushfstring(L, "%s %s %s", c->r->path, how, c->r->to);
  } else if (c->r && c->r->path) lua_pushstring(L, c->r->path);
  else lua_getiuservalue(L, -1, 1);
  const char *name = lua_tostring(L, -1);
  return np_fail(L, code, "%s %s", c->what, name ? name : "a file");
}

static int k_call(lua_State *L, int status, lua_KContext at) {
  fscall *c = lua_touserdata(L, (int)at);
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  lua_settop(L, (int)at);
  if (woken == NP_ECLOSED) return np_fail_text(L, "ECANCELED", "closed");
  if (woken) return fail_call(L, c, woken);
  if (c->on && np_file_closed(c->on) && !c->started) {
    np_file_hand_over(c->on);
    return np_fail_text(L, "ECANCELED", "closed");
  }
  if (status == LUA_OK && c->on && !np_file_turn(np_task_of(L), c->on))
    return np_wait(L, &turn_wait, c, c->by_ns, at, k_call);
  if (!c->started) {
    c->started = true;
    if (c->begin) c->begin(L, c);
  }
  if (c->r && !c->task && c->r->result == -EINPROGRESS) {
    int r = np_fs_start(np_loop_of(L), c->r, on_answer, c);
    if (r < 0) c->r = NULL;
    if (r < 0) end_call(c);
    if (r < 0) return fail_call(L, c, r);
    c->task = np_task_of(L);
    return np_wait(L, &request_wait, c, c->by_ns, at, k_call);
  }
  finish(c);
  int n = c->r && c->r->result < 0 ? fail_call(L, c, (int)c->r->result) : c->push(L, c);
  end_call(c);
  return n;
}

int np_fs_call(lua_State *L, fscall *c) {
  if (c->r && c->r->path) {
    lua_pushstring(L, c->r->path);
    lua_setiuservalue(L, -2, 1);
  }
  np_op_begin(L, c->what);
  return k_call(L, LUA_OK, lua_gettop(L));
}

/* ---- results ----------------------------------------------------------- */

static int push_true(lua_State *L, fscall *c) {
  (void)c;
  lua_pushboolean(L, 1);
  return 1;
}

static int push_data(lua_State *L, fscall *c) {
  lua_pushlstring(L, c->r->data ? c->r->data : "", (size_t)c->r->result);
  return 1;
}

static const char *type_name(mode_t mode) {
  switch (mode & S_IFMT) {
  case S_IFREG: return "file";
  case S_IFDIR: return "directory";
  case S_IFLNK: return "link";
  case S_IFIFO: return "fifo";
  case S_IFSOCK: return "socket";
  case S_IFCHR: return "character";
  case S_IFBLK: return "block";
  default: return "unknown";
  }
}

static void set_integer(lua_State *L, const char *key, int64_t n) {
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, key);
}

static void set_time(lua_State *L, const char *key, struct timespec t) {
  lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9);
  lua_setfield(L, -2, key);
}

int np_fs_push_stat(lua_State *L, const struct stat *st) {
  lua_createtable(L, 0, 13);
  lua_pushstring(L, type_name(st->st_mode));
  lua_setfield(L, -2, "type");
  set_integer(L, "size", st->st_size);
  set_integer(L, "mode", st->st_mode & 07777);
  set_integer(L, "uid", st->st_uid);
  set_integer(L, "gid", st->st_gid);
  set_integer(L, "nlink", (int64_t)st->st_nlink);
  set_integer(L, "ino", (int64_t)st->st_ino);
  set_integer(L, "dev", (int64_t)st->st_dev);
  set_integer(L, "rdev", (int64_t)st->st_rdev);
  set_integer(L, "blocks", st->st_blocks);
  set_time(L, "atime", st->st_atim);
  set_time(L, "mtime", st->st_mtim);
  set_time(L, "ctime", st->st_ctim);
  return 1;
}

static int push_stat(lua_State *L, fscall *c) { return np_fs_push_stat(L, &c->r->st); }

static const char *letter_name(char letter) {
  switch (letter) {
  case 'f': return "file";
  case 'd': return "directory";
  case 'l': return "link";
  case 'p': return "fifo";
  case 's': return "socket";
  case 'c': return "character";
  case 'b': return "block";
  default: return "unknown";
  }
}

/* Upvalues: the names as NP_FS_SCANDIR gives them, the offset of the next. */
static int next_name(lua_State *L) {
  size_t len;
  const char *names = lua_tolstring(L, lua_upvalueindex(1), &len);
  size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(2));
  if (at >= len) return 0;
  const char *name = names + at + 1;
  size_t n = strlen(name);
  lua_pushinteger(L, (lua_Integer)(at + n + 2));
  lua_replace(L, lua_upvalueindex(2));
  lua_pushlstring(L, name, n);
  lua_pushstring(L, letter_name(names[at]));
  return 2;
}

static int push_names(lua_State *L, fscall *c) {
  push_data(L, c);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_name, 2);
  return 1;
}

/* ---- arguments --------------------------------------------------------- */

const char *np_check_path(lua_State *L, int idx) {
  size_t len;
  const char *path = luaL_checklstring(L, idx, &len);
  luaL_argcheck(L, strlen(path) == len, idx, "a path cannot contain a NUL");
  return path;
}

static int check_mode(lua_State *L, int idx, lua_Integer none) {
  lua_Integer mode = none < 0 ? luaL_checkinteger(L, idx) : luaL_optinteger(L, idx, none);
  luaL_argcheck(L, mode >= 0 && mode <= 07777, idx, "permissions are from 0 to 07777 (octal)");
  return (int)mode;
}

static int64_t check_id(lua_State *L, int idx) {
  lua_Integer id = luaL_optinteger(L, idx, -1);
  luaL_argcheck(L, id >= -1 && id < UINT32_MAX, idx, "not an id");
  return id;
}

static double check_time(lua_State *L, int idx) {
  double s = luaL_checknumber(L, idx);
  luaL_argcheck(L, s > -1e11 && s < 1e11, idx, "not a time in seconds since 1970");
  return s;
}

/* A call in a row: what its arguments are, after the path: t another path, M a mode, m a mode that
 * may be missing, o owner and group, u two times, e the option `exclusive`. */
typedef struct row {
  const char *name;
  np_fsop op;
  const char *args;
  int (*push)(lua_State *L, fscall *c);
} row;

static const row rows[] = {
  {"stat", NP_FS_STAT, "", push_stat},         {"lstat", NP_FS_LSTAT, "", push_stat},
  {"scandir", NP_FS_SCANDIR, "", push_names},  {"mkdir", NP_FS_MKDIR, "m", push_true},
  {"mkdtemp", NP_FS_MKDTEMP, "", push_data},   {"rmdir", NP_FS_RMDIR, "", push_true},
  {"unlink", NP_FS_UNLINK, "", push_true},     {"rename", NP_FS_RENAME, "t", push_true},
  {"link", NP_FS_LINK, "t", push_true},        {"symlink", NP_FS_SYMLINK, "t", push_true},
  {"readlink", NP_FS_READLINK, "", push_data}, {"realpath", NP_FS_REALPATH, "", push_data},
  {"chmod", NP_FS_CHMOD, "M", push_true},      {"chown", NP_FS_CHOWN, "o", push_true},
  {"utime", NP_FS_UTIME, "u", push_true},      {"copyfile", NP_FS_COPYFILE, "te", push_true},
};

static const char *const plain_options[] = {"timeout", NULL};
static const char *const copy_options[] = {"timeout", "exclusive", NULL};

/* Reads the arguments of args from index 2 on into q; the index of the options after them. */
static int read_args(lua_State *L, const char *args, np_fsreq *q) {
  int at = 2;
  for (; *args && *args != 'e'; args++) {
    if (*args == 't') q->to = np_check_path(L, at++);
    else if (*args == 'M') q->mode = check_mode(L, at++, -1);
    else if (*args == 'm') q->mode = lua_istable(L, at) ? 0777 : check_mode(L, at++, 0777);
    else if (*args == 'o') q->uid = check_id(L, at), q->gid = check_id(L, at + 1), at += 2;
    else if (*args == 'u')
      q->atime_s = check_time(L, at), q->mtime_s = check_time(L, at + 1), at += 2;
  }
  np_check_options(L, at, *args == 'e' ? copy_options : plain_options);
  if (*args == 'e' && np_opt_boolean(L, at, "exclusive", false)) q->flags = O_EXCL;
  return at;
}

/* Upvalue: the index of its row. */
static int f_row(lua_State *L) {
  const row *w = &rows[lua_tointeger(L, lua_upvalueindex(1))];
  np_fsreq asked = {.op = w->op};
  const char *path = np_check_path(L, 1);
  int opt = read_args(L, w->args, &asked);
  uint64_t by = np_deadline_opt(L, opt, -1);
  lua_settop(L, opt);
  fscall *c = np_fs_push_call(L, w->op, path, asked.to, w->name);
  np_fsreq *r = c->r;
  r->mode = asked.mode;
  r->flags = asked.flags;
  r->uid = asked.uid;
  r->gid = asked.gid;
  r->atime_s = asked.atime_s;
  r->mtime_s = asked.mtime_s;
  c->by_ns = by;
  c->push = w->push;
  return np_fs_call(L, c);
}

/* read(path[, max = 16 MiB[, opts]]) */
static int f_read(lua_State *L) {
  enum { READ_MAX = 16 << 20 };
  const char *path = np_check_path(L, 1);
  int opt = lua_istable(L, 2) ? 2 : 3;
  lua_Integer max = opt == 2 ? READ_MAX : luaL_optinteger(L, 2, READ_MAX);
  luaL_argcheck(L, max >= 0, 2, "a limit cannot be negative");
  np_check_options(L, opt, plain_options);
  uint64_t by = np_deadline_opt(L, opt, -1);
  fscall *c = np_fs_push_call(L, NP_FS_READ_ALL, path, NULL, "read");
  c->r->len = (size_t)max;
  c->by_ns = by;
  c->push = push_data;
  return np_fs_call(L, c);
}

static const char *const write_options[] = {"timeout",   "atomic", "sync", "append",
                                            "exclusive", "mode",   NULL};

/* write(path, data[, opts]) */
static int f_write(lua_State *L) {
  size_t len;
  const char *path = np_check_path(L, 1), *data = luaL_checklstring(L, 2, &len);
  np_check_options(L, 3, write_options);
  int flags = (np_opt_boolean(L, 3, "atomic", false) ? NP_FS_ATOMIC : 0) |
              (np_opt_boolean(L, 3, "sync", false) ? NP_FS_SYNCED : 0) |
              (np_opt_boolean(L, 3, "append", false) ? O_APPEND : 0) |
              (np_opt_boolean(L, 3, "exclusive", false) ? O_EXCL : 0);
  luaL_argcheck(L, !(flags & NP_FS_ATOMIC) || !(flags & (O_APPEND | O_EXCL)), 3,
                "option 'atomic' replaces the file: not with 'append' or 'exclusive'");
  int mode = (int)np_opt_integer(L, 3, "mode", 0666, 0, 07777);
  uint64_t by = np_deadline_opt(L, 3, -1);
  fscall *c = np_fs_push_call(L, NP_FS_WRITE_ALL, path, NULL, "write");
  np_fsreq *r = c->r;
  r->data = malloc(len + 1);
  if (!r->data) return luaL_error(L, "not enough memory");
  memcpy(r->data, data, len);
  r->len = len;
  r->flags = flags;
  r->mode = mode;
  c->by_ns = by;
  c->push = push_true;
  return np_fs_call(L, c);
}

int luaopen_neap_fs_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"open", np_fs_open},
                                       {"read", f_read},
                                       {"write", f_write},
                                       {"watch", np_fs_watch},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  for (size_t i = 0; i < np_countof(rows); i++) {
    lua_pushinteger(L, (lua_Integer)i);
    lua_pushcclosure(L, f_row, 1);
    lua_setfield(L, -2, rows[i].name);
  }
  np_fs_types(L);
  return 1;
}
