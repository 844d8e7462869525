/* neap.sendfile.core: send_file(stream, file, from, len), in its turn among the stream's writes.
 *
 * The descriptor is a duplicate: whoever closes the file meanwhile does no harm. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/descriptor.h"
#include "bindings/modules.h"
#include "bindings/stream_impl.h"
#include "core/sendfile.h"

enum { AT_SENDING = 2 }; /* the stack of the call: stream, sending */

typedef struct sending {
  stream *u;
  int fd; /* -1: over */
  bool to_end;
  uint64_t at, left, sent;
} sending;

static void let_go(sending *f) {
  if (f->fd >= 0) close(f->fd);
  f->fd = -1;
}

static int f_gc(lua_State *L) {
  let_go(lua_touserdata(L, 1));
  return 0;
}

static int describe(void *obj, char *buf, size_t size) {
  return np_stream_describe(((sending *)obj)->u, buf, size);
}

static void turn_abort(np_task *t, void *obj) {
  np_waiter_forget(t, obj);
  let_go(obj);
}

/* As a write that waits: nobody knows how much of it has arrived. */
static void send_abort(np_task *t, void *obj) {
  sending *f = obj;
  if (f->u->s) np_stream_write_abort(f->u->s, np_task_cause(t));
  np_stream_hand_over(f->u);
  let_go(f);
}

static const np_waitkind turn_wait = {"send_file (another task's turn)", true, turn_abort, describe,
                                      false};
static const np_waitkind send_wait = {"send_file", true, send_abort, describe, false};
static const np_waitkind send_wait_inside = {"send_file", false, send_abort, describe, false};

static int failed(lua_State *L, sending *f, int code) {
  stream *u = f->u;
  let_go(f);
  if (!u->s || code == NP_ECLOSED) np_fail_text(L, "ECANCELED", "closed");
  else np_fail(L, code, "send_file to %s", np_stream_name(L, u));
  lua_pushinteger(L, (lua_Integer)f->sent);
  return 4;
}

/* The file has ended: fine, if its end was asked for. */
static int ended(lua_State *L, sending *f) {
  let_go(f);
  if (!f->to_end && f->left > 0) {
    np_fail_text(L, "ENODATA", "send_file to %s: the file ended %I bytes too early",
                 np_stream_name(L, f->u), (LUAI_UACINT)f->left);
    lua_pushinteger(L, (lua_Integer)f->sent);
    return 4;
  }
  f->u->streak = 0;
  lua_pushinteger(L, (lua_Integer)f->sent);
  return np_done(L, 1);
}

static int wait_writable(lua_State *L, sending *f, lua_KContext by, lua_KFunction k) {
  f->u->writer = np_task_of(L);
  f->u->writer_woken = false;
  bool inside = np_stream_inside(f->u->s);
  return np_wait(L, inside ? &send_wait_inside : &send_wait, f, (uint64_t)by, by, k);
}

/* A receiver that always takes more would never let the deadline end a wait. */
static int out_of_time(lua_State *L, sending *f) {
  np_stream_write_abort(f->u->s, -ETIMEDOUT);
  np_stream_hand_over(f->u);
  return failed(L, f, -ETIMEDOUT);
}

static int k_send(lua_State *L, int status, lua_KContext by) {
  sending *f = lua_touserdata(L, AT_SENDING);
  stream *u = f->u;
  int woken = status == LUA_YIELD ? np_woken(L) : 0;
  if (!u->s || woken) return failed(L, f, woken ? woken : NP_ECLOSED);
  if (status == LUA_OK && np_stream_must_queue(u)) {
    np_waiter_join(np_task_of(L), &u->turns);
    return np_wait(L, &turn_wait, f, (uint64_t)by, by, k_send);
  }
  ssize_t r = 0;
  while (f->left > 0) {
    uint64_t most = f->left < NP_FILE_SLICE ? f->left : NP_FILE_SLICE;
    r = np_stream_send_file(u->s, f->fd, &f->at, most);
    if (r <= 0) break;
    f->sent += (uint64_t)r;
    f->left -= (uint64_t)r;
    if (f->left == 0 || (uint64_t)r < most) continue;
    if (np_loop_now(np_loop_of(L)) >= (uint64_t)by) return out_of_time(L, f);
    np_stream_breathe(u->s);
    return wait_writable(L, f, by, k_send);
  }
  if (r == -EAGAIN) return wait_writable(L, f, by, k_send);
  np_stream_hand_over(u);
  return r < 0 ? failed(L, f, (int)r) : ended(L, f);
}

static void push_sending(lua_State *L, stream *u, uint64_t from, uint64_t len) {
  sending *f = lua_newuserdatauv(L, sizeof *f, 0);
  *f = (sending){.u = u, .fd = -1, .to_end = len == UINT64_MAX, .at = from, .left = len};
  if (luaL_newmetatable(L, "neap.sending")) {
    lua_pushcfunction(L, f_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
}

static uint64_t opt_offset(lua_State *L, int idx, uint64_t none) {
  if (lua_isnoneornil(L, idx)) return none;
  lua_Integer n = luaL_checkinteger(L, idx);
  luaL_argcheck(L, n >= 0, idx, "cannot be negative");
  return (uint64_t)n;
}

/* 0, or why this file cannot be sent. */
static int check_file(const sending *f) {
  struct stat st;
  if (fstat(f->fd, &st) < 0) return -errno;
  if (S_ISDIR(st.st_mode)) return -EISDIR;
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) return -EINVAL;
  uint64_t size = (uint64_t)st.st_size;
  bool known = S_ISREG(st.st_mode) && size > 0; /* those of /proc say 0 */
  if (known && !f->to_end && (f->at > size || f->left > size - f->at)) return -ENODATA;
  return 0;
}

static const char *const options[] = {"timeout", NULL};

/* send_file(stream, file[, from[, len[, {timeout = s}]]]): see lua/stdlib/stream.lua. */
static int f_send_file(lua_State *L) {
  stream *u = np_stream_self(L);
  lua_settop(L, 5);
  int fd = np_get_fd(L, 2);
  uint64_t from = opt_offset(L, 3, 0), len = opt_offset(L, 4, UINT64_MAX);
  np_check_options(L, 5, options);
  lua_KContext by = (lua_KContext)np_stream_deadline(L, np_stream_write_timeout(u),
                                                     np_opt_seconds(L, 5, "timeout", -1));
  if (u->holder) np_stream_busy(L, u, u->holder->doing);
  np_op_begin(L, "send_file");
  push_sending(L, u, from, len);
  lua_replace(L, AT_SENDING);
  lua_settop(L, AT_SENDING);
  sending *f = lua_touserdata(L, AT_SENDING);
  if (!u->s) return failed(L, f, NP_ECLOSED);
  f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  int r = f->fd < 0 ? -errno : check_file(f);
  return r < 0 ? failed(L, f, r) : k_send(L, LUA_OK, by);
}

int luaopen_neap_sendfile_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"send_file", f_send_file}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
