/* Streams for Lua: ending, and what can be asked of one. Making, reading and writing have files of
 * their own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/credentials.h"
#include "bindings/descriptor.h"
#include "bindings/modules.h"
#include "bindings/origin.h"
#include "bindings/sockopt.h"
#include "bindings/stream_impl.h"
#include "bindings/tls.h"
#include "core/error.h"

void np_stream_on_event(void *owner, int what) {
  stream *u = owner;
  if (what == NP_STREAM_READ) {
    if (!u->reader || u->reader_woken) return;
    u->reader_woken = true;
    np_task_wake(u->reader);
    return;
  }
  if (u->writer && !u->writer_woken) {
    u->writer_woken = true;
    np_task_wake(u->writer);
  }
  np_stream_poke_flushers(u);
}

/* Names for messages. */

static int print_ends(stream *u, char *buf, size_t size) {
  np_sockaddr a;
  char local[NP_ADDR_MAX] = "", peer[NP_ADDR_MAX] = "";
  int fd = np_stream_fd(u->s), scheme = fd >= 0 ? np_socket_scheme(fd) : -1;
  if (scheme < 0) return snprintf(buf, size, "%s", np_stream_transport(u->s)->ops->name);
  if (np_socket_local(fd, &a) == 0)
    np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, local, sizeof local);
  if (np_socket_peer(fd, &a) == 0)
    np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, peer, sizeof peer);
  return snprintf(buf, size, "%s<->%s", local, peer);
}

int np_stream_describe(void *obj, char *buf, size_t size) {
  stream *u = obj;
  return u->s ? print_ends(u, buf, size) : snprintf(buf, size, "a closed stream");
}

const char *np_stream_name(lua_State *L, stream *u) {
  char text[2 * NP_ADDR_MAX + 8];
  np_stream_describe(u, text, sizeof text);
  return lua_pushstring(L, text);
}

int np_stream_failed(lua_State *L, stream *u, int code, const char *what) {
  if (!u->s || code == NP_ECLOSED) return np_fail_closed(L, &u->streak);
  char name[2 * NP_ADDR_MAX + 8]; /* not a Lua string: a finalizer must not come between */
  const char *why = np_transport_reason(np_stream_transport(u->s));
  np_stream_describe(u, name, sizeof name);
  if (code == -ETIMEDOUT || !why) return np_fail_code(L, code, &u->streak, "%s %s", what, name);
  return np_fail_why(L, code, &u->streak, lua_pushfstring(L, "%s %s: %s", what, name, why));
}

uint64_t np_stream_deadline(lua_State *L, uint64_t def_ns, double seconds) {
  uint64_t ns = seconds < 0 ? def_ns : np_seconds_ns(seconds);
  return ns == NP_NEVER ? NP_NEVER : np_deadline_after(np_loop_of(L), ns);
}

/* Options of a waiting call: a table as the last argument, removed from the stack; its deadline. */
uint64_t np_stream_take_options(lua_State *L, uint64_t def_ns) {
  static const char *const known[] = {"timeout", NULL};
  int top = lua_gettop(L);
  if (top < 2 || !lua_istable(L, top)) return np_stream_deadline(L, def_ns, -1);
  np_check_options(L, top, known);
  uint64_t at = np_stream_deadline(L, def_ns, np_opt_seconds(L, top, "timeout", -1));
  lua_settop(L, top - 1);
  return at;
}

/* Ending. */

int np_stream_busy(lua_State *L, stream *u, const char *doing) {
  return luaL_error(L, "another task is already %s %s", doing, np_stream_name(L, u));
}

void np_stream_check_free(lua_State *L, stream *u) {
  if (u->holder) np_stream_busy(L, u, u->holder->doing);
  if (u->reader) np_stream_busy(L, u, "reading");
  if (u->writer || np_node_linked(&u->turns) || np_node_linked(&u->flushers))
    np_stream_busy(L, u, "writing to");
}

/* Who was woken already finds the stream closed by itself. */
static void wake_all(stream *u, int code) {
  np_task *r = u->reader_woken ? NULL : u->reader, *w = u->writer_woken ? NULL : u->writer;
  u->reader = u->writer = NULL;
  if (r) np_task_wake_code(r, code);
  if (w) np_task_wake_code(w, code);
  while (np_node_linked(&u->turns)) np_waiter_fail(np_waiter_first(&u->turns), code);
  while (np_node_linked(&u->flushers)) np_waiter_fail(np_waiter_first(&u->flushers), code);
}

static int end_core(stream *u, bool abort) {
  np_stream *s = u->s;
  if (u->holder) u->holder->closed(u->holder);
  u->s = NULL;
  wake_all(u, NP_ECLOSED);
  if (!abort) return np_stream_close(s);
  np_stream_abort(s);
  return 0;
}

static int end_stream(lua_State *L, stream *u, bool abort) {
  if (!u->s) return lua_pushboolean(L, 1), 1;
  char name[2 * NP_ADDR_MAX + 8] = "";
  if (!abort) np_stream_end(u->s); /* shows a failure while the ends still have names */
  if (np_stream_error(u->s)) np_stream_describe(u, name, sizeof name);
  int r = end_core(u, abort);
  if (r < 0) return np_fail(L, r, "close %s", name);
  lua_pushboolean(L, 1);
  return 1;
}

/* close(): true, or the failure the stream had; what is queued still goes out. Never waits;
 * idempotent. */
static int f_close(lua_State *L) { return end_stream(L, np_stream_self(L), false); }
/* abort(): RST, now. */
static int f_abort(lua_State *L) { return end_stream(L, np_stream_self(L), true); }

void np_stream_abort_object(lua_State *L, int idx) {
  stream *u = np_check_object(L, idx, &np_stream_type);
  np_stream_abort(u->s);
  u->s = NULL;
}

bool np_stream_close_object(lua_State *L, int idx) {
  stream *u = np_test_object(L, idx, &np_stream_type);
  if (u && u->s) end_core(u, false);
  return u != NULL;
}

bool np_stream_set_defaults(lua_State *L, int idx, uint64_t timeout_ns, size_t line_max) {
  stream *u = np_test_object(L, idx, &np_stream_type);
  if (!u) return false;
  u->timeout_ns = timeout_ns;
  if (line_max > 0) u->line_max = line_max;
  return true;
}

static int f_gc(lua_State *L) {
  stream *u = np_stream_self(L);
  if (!u->s) return 0;
  np_origin_warn(L, 1, NP_STREAM_ORIGIN, "an open stream");
  end_stream(L, u, false);
  return 0;
}

/* shutdown(): half-close; what is queued goes out first. true or the failure. */
static int f_shutdown(lua_State *L) {
  stream *u = np_stream_self(L);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "shutdown");
  int r = np_stream_shutdown(u->s);
  if (r < 0) return np_stream_failed(L, u, r, "shutdown");
  lua_pushboolean(L, 1);
  return 1;
}

/* take(): the descriptor as an object of its own, and the unread bytes; the stream is closed. */
static int f_take(lua_State *L) {
  stream *u = np_stream_self(L);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "take");
  np_stream_check_free(L, u);
  const char *data;
  uint32_t moves;
  do { /* a finalizer may close it, or put bytes before */
    moves = np_stream_moves(u->s);
    size_t n = np_stream_peek(u->s, &data);
    lua_pushlstring(L, data, n);
    if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "take");
  } while (np_unlikely(np_stream_moves(u->s) != moves));
  char *rest;
  size_t rest_len;
  int fd = np_stream_take(u->s, &rest, &rest_len);
  if (fd < 0) return np_fail(L, fd, "take %s", np_stream_name(L, u));
  free(rest);
  u->s = NULL;
  np_push_descriptor(L, fd);
  lua_insert(L, -2);
  return 2;
}

/* What it is. */

/* option(name): its value; option(name, value): true; or the failure. */
static int f_option(lua_State *L) {
  stream *u = np_stream_self(L);
  const np_option *o = np_check_option(L, 2);
  np_optval v;
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "option");
  int fd, r;
  if (lua_isnone(L, 3)) {
    fd = np_stream_fd(u->s);
    r = fd < 0 ? -ENOTSOCK : np_option_get(fd, o, &v);
    if (r < 0) return np_fail(L, r, "option %s of %s", o->name, np_stream_name(L, u));
    np_push_optval(L, o, &v);
    return 1;
  }
  np_check_optval(L, 3, 3, o, &v);
  fd = u->s ? np_stream_fd(u->s) : -1;
  r = fd < 0 ? -ENOTSOCK : np_option_set(fd, o, &v);
  if (r < 0) return np_fail(L, r, "set option %s of %s", o->name, np_stream_name(L, u));
  lua_pushboolean(L, 1);
  return 1;
}

/* credentials([{pidfd = true}]): who is at the other end of an AF_UNIX stream; or the failure. */
static int f_credentials(lua_State *L) {
  stream *u = np_stream_self(L);
  bool pidfd = np_credentials_opts(L, 2);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "credentials");
  int fd = np_stream_fd(u->s), r = fd < 0 ? -ENOTSOCK : np_push_credentials(L, fd, pidfd);
  return r < 0 ? np_fail(L, r, "credentials of %s", np_stream_name(L, u)) : 1;
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

/* Fields: timeout, write_timeout, line_max, read_max (writable); peer, address, fd, closed,
 * unread_bytes, unsent_bytes. */
static int f_index(lua_State *L) {
  stream *u = np_stream_self(L);
  const char *k = lua_tostring(L, 2);
  if (!k) return 0;
  if (strcmp(k, "timeout") == 0) return push_seconds(L, u->timeout_ns), 1;
  if (strcmp(k, "write_timeout") == 0) return push_seconds(L, u->write_timeout_ns), 1;
  if (strcmp(k, "line_max") == 0) return lua_pushinteger(L, (lua_Integer)u->line_max), 1;
  if (strcmp(k, "read_max") == 0) return lua_pushinteger(L, (lua_Integer)u->read_max), 1;
  if (strcmp(k, "closed") == 0) return lua_pushboolean(L, !u->s), 1;
  if (u->peer_len && strcmp(k, "peer") == 0) return push_peer(L, u); /* closed or not */
  if (!u->s) return 0;
  if (strcmp(k, "peer") == 0) return push_end(L, u, np_socket_peer);
  if (strcmp(k, "address") == 0) return push_end(L, u, np_socket_local);
  if (strcmp(k, "tls") == 0) return np_push_tls_info(L, u);
  if (strcmp(k, "unread_bytes") == 0) return lua_pushinteger(L, (lua_Integer)np_stream_in(u->s)), 1;
  if (strcmp(k, "unsent_bytes") == 0)
    return lua_pushinteger(L, (lua_Integer)np_stream_out(u->s)), 1;
  if (strcmp(k, "fd") != 0) return 0;
  int fd = np_stream_fd(u->s);
  if (fd < 0) return 0;
  lua_pushinteger(L, fd);
  return 1;
}

static int f_newindex(lua_State *L) {
  stream *u = np_stream_self(L);
  const char *k = luaL_checkstring(L, 2);
  bool writing = strcmp(k, "write_timeout") == 0;
  if (writing || strcmp(k, "timeout") == 0) {
    uint64_t ns = lua_isnil(L, 3) ? NP_NEVER : np_check_seconds(L, 3);
    *(writing ? &u->write_timeout_ns : &u->timeout_ns) = ns;
    return 0;
  }
  bool line = strcmp(k, "line_max") == 0;
  if (!line && strcmp(k, "read_max") != 0)
    return luaL_error(
      L, "a stream has no field '%s' to set (timeout, write_timeout, line_max, read_max)", k);
  lua_Integer n = luaL_checkinteger(L, 3);
  luaL_argcheck(L, n > 0, 3, "a limit must be positive");
  if (line) u->line_max = (size_t)n;
  else u->read_max = (size_t)n;
  return 0;
}

static int f_tostring(lua_State *L) {
  stream *u = np_stream_self(L);
  if (!u->s) return lua_pushliteral(L, "neap.stream{closed}"), 1;
  char ends[2 * NP_ADDR_MAX + 8];
  print_ends(u, ends, sizeof ends);
  const char *error = np_stream_error(u->s) ? np_error_name(np_stream_error(u->s)) : "";
  lua_pushfstring(L, "neap.stream{%s in=%d out=%d%s%s%s%s%s}", ends, (int)np_stream_in(u->s),
                  (int)np_stream_out(u->s), u->reader ? " reading" : "",
                  u->writer ? " writing" : "", np_stream_ended(u->s) ? " ended" : "",
                  *error ? " " : "", error);
  return 1;
}

const np_type np_stream_type = {
  .name = "neap.stream",
  .methods = (const luaL_Reg[]){{"read", np_f_read},
                                {"lines", np_f_lines},
                                {"messages", np_f_messages},
                                {"recv", np_f_recv},
                                {"peek", np_f_peek},
                                {"read_until", np_f_read_until},
                                {"unread", np_f_unread},
                                {"unpack", np_f_unpack},
                                {"write", np_f_write},
                                {"flush", np_f_flush},
                                {"send", np_f_send},
                                {"close", f_close},
                                {"abort", f_abort},
                                {"shutdown", f_shutdown},
                                {"take", f_take},
                                {"option", f_option},
                                {"credentials", f_credentials},
                                {NULL, NULL}},
  .meta = (const luaL_Reg[]){{"__gc", f_gc},
                             {"__close", f_close},
                             {"__tostring", f_tostring},
                             {"__newindex", f_newindex},
                             {NULL, NULL}},
  .index = f_index,
};

/* stdio(fd): the stream over 0, 1 or 2, in the mode they came in; or the failure. */
static int f_stdio(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= 2, 1, "0, 1 or 2 expected");
  int r = np_push_fd_stream(L, fd);
  return r < 0 ? np_fail(L, r, "standard stream %d", fd) : 1;
}

int luaopen_neap_stream_core(lua_State *L) {
  static const luaL_Reg funcs[] = {{"stdio", f_stdio}, {NULL, NULL}};
  np_type_init(L, &np_stream_type);
  luaL_newlib(L, funcs);
  np_push_metatable(L, &np_stream_type);
  lua_getfield(L, -1, "__index");
  lua_getupvalue(L, -1, 1);
  lua_setfield(L, -4, "methods"); /* for methods written in Lua: stdlib/stream.lua */
  lua_pop(L, 2);
  return 1;
}
