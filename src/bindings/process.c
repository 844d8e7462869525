/* neap.process.core: the object that stands for a child.  Starting one is process_spawn.c.
 *
 * The core's object is let go as soon as the child has ended; what it ended with stays here. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/origin.h"
#include "bindings/process_args.h"
#include "bindings/process_impl.h"
#include "bindings/select.h"
#include "bindings/stream.h"
#include "bindings/task.h"
#include "core/pty.h"
#include "core/signal.h"

extern char **environ;

static process *check_process(lua_State *L) { return np_check_object(L, 1, &np_process_type); }

static const char *name_of(lua_State *L, int idx) {
  lua_getiuservalue(L, idx, UV_NAME);
  return lua_tostring(L, -1);
}

/* The core tells: the child has ended. */
void np_process_on_end(void *owner) {
  process *p = owner;
  p->ended = np_process_ended(p->core, &p->code, &p->signum);
  np_process_close(p->core);
  p->core = NULL;
  for (np_waiter *w; (w = np_waiter_first(&p->waiters));) np_waiter_poke(w);
}

void np_process_close_ends(int fds[ENDS]) {
  for (int i = 0; i < ENDS; i++) {
    if (fds[i] >= 0) close(fds[i]);
    fds[i] = -1;
  }
}

void np_process_let_go(process *p) {
  np_process_close_ends(p->theirs);
  np_process_close_ends(p->ours);
  if (p->core) np_process_close(p->core);
  p->core = NULL;
}

/* ---- the object -------------------------------------------------------- */

static int describe_wait(void *obj, char *buf, size_t size) {
  return snprintf(buf, size, "pid %d", ((process *)obj)->pid);
}

static const np_waitkind process_wait = {
  .what = "wait", .outside = true, .abort = np_waiter_forget, .describe = describe_wait};

/* As os.execute: true or nil, "exit" or "signal", the number. */
static int push_status(lua_State *L, const process *p) {
  if (p->signum == 0 && p->code == 0) lua_pushboolean(L, 1);
  else lua_pushnil(L);
  lua_pushstring(L, p->signum ? "signal" : "exit");
  lua_pushinteger(L, p->signum ? p->signum : p->code);
  return 3;
}

static int k_wait(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  process *p = lua_touserdata(L, 1);
  int woken = np_woken(L);
  if (p->ended) return push_status(L, p);
  if (woken < 0) return np_fail(L, woken, "wait for %s (pid %d)", name_of(L, 1), p->pid);
  np_waiter_join(np_task_of(L), &p->waiters);
  return np_wait(L, &process_wait, p, (uint64_t)ctx, ctx, k_wait);
}

/* process:wait([{timeout = seconds}]) -> true | nil, "exit" | "signal", number
 *
 * Any number of tasks may wait, again and again.  Past the deadline: nil, message, "ETIMEDOUT";
 * the child goes on. */
static int f_wait(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  process *p = check_process(L);
  lua_settop(L, 2);
  np_check_options(L, 2, known);
  uint64_t deadline_ns = np_deadline_opt(L, 2, -1);
  if (p->ended) return push_status(L, p);
  np_op_begin(L, "wait");
  return k_wait(L, LUA_OK, (lua_KContext)deadline_ns);
}

static int check_signum(lua_State *L, int arg, int def) {
  if (lua_isnoneornil(L, arg)) return def;
  if (lua_isinteger(L, arg)) {
    lua_Integer n = lua_tointeger(L, arg);
    luaL_argcheck(L, n >= 0 && n <= 64, arg, "not a signal number");
    return (int)n;
  }
  int n = np_signal_number(luaL_checkstring(L, arg));
  if (n < 0) luaL_argerror(L, arg, lua_pushfstring(L, "unknown signal '%s'", lua_tostring(L, arg)));
  return n;
}

/* process:kill([signal = "TERM"] [, {group = true}]) -> true; nil, message, "ESRCH" when it has
 * ended. A name or a number; 0 only asks. group: to all of the group that the child leads;
 * "EINVAL": it leads none. */
static int f_kill(lua_State *L) {
  static const char *const known[] = {"group", NULL};
  process *p = check_process(L);
  int signum = check_signum(L, 2, np_signal_number("TERM"));
  lua_settop(L, 3);
  np_check_options(L, 3, known);
  bool group = np_opt_boolean(L, 3, "group", false);
  int r = p->core ? np_process_kill(p->core, signum, group) : -ESRCH;
  if (r < 0) return np_fail(L, r, "kill %s (pid %d)", name_of(L, 1), p->pid);
  lua_pushboolean(L, 1);
  return 1;
}

static int p_close_stream(lua_State *L) {
  lua_getfield(L, 1, "close");
  lua_insert(L, 1);
  lua_call(L, 1, 0);
  return 0;
}

static lua_Integer check_size(lua_State *L, int arg) {
  lua_Integer n = luaL_checkinteger(L, arg);
  luaL_argcheck(L, n >= 1 && n <= UINT16_MAX, arg, "not from 1 to 65535");
  return n;
}

/* process:resize(rows, cols) -> true: the pseudo-terminal's size, which its programs are told by
 * WINCH; or nil, message, code: "ECANCELED" it is closed, "ENOTTY" there is none. */
static int f_resize(lua_State *L) {
  process *p = check_process(L);
  int rows = (int)check_size(L, 2), cols = (int)check_size(L, 3);
  int r = -ENOTTY;
  if (lua_getiuservalue(L, 1, PTY + 1) != LUA_TNIL) {
    np_stream *s = np_test_stream(L, -1);
    r = s ? np_pty_resize(np_stream_fd(s), rows, cols) : NP_ECLOSED;
  }
  if (r < 0) return np_fail(L, r, "resize the terminal of %s (pid %d)", name_of(L, 1), p->pid);
  lua_pushboolean(L, 1);
  return 1;
}

/* The pipes are the process's. Closing a stream does not wait and tells its failure as a result. */
static void close_streams(lua_State *L) {
  for (int i = 1; i <= ENDS; i++) {
    lua_pushcfunction(L, p_close_stream);
    if (lua_getiuservalue(L, 1, i) == LUA_TNIL) lua_pop(L, 2);
    else if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
  }
}

/* process:close() -> as wait
 *
 * Closes the pipes, sends TERM to a child that runs, after the grace KILL, and waits for its end;
 * where waiting is impossible the end goes on by itself and the result is true. Idempotent. The
 * same for <close>. */
static int f_close(lua_State *L) {
  process *p = check_process(L);
  lua_settop(L, 1);
  close_streams(L);
  if (p->ended) return push_status(L, p);
  np_process_end(p->core);
  if (!lua_isyieldable(L) || !np_task_of(L)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  np_op_begin(L, "close");
  return k_wait(L, LUA_OK, (lua_KContext)NP_NEVER);
}

static int f_gc(lua_State *L) {
  process *p = lua_touserdata(L, 1);
  if (p->core) np_origin_warn(L, 1, UV_ORIGIN, "a running child process");
  np_process_let_go(p);
  return 0;
}

static int f_index(lua_State *L) {
  process *p = check_process(L);
  const char *key = lua_tostring(L, 2);
  if (!key) return 0;
  for (int i = 0; i < 3; i++) {
    if (strcmp(key, np_spawn_std[i]) != 0) continue;
    lua_getiuservalue(L, 1, i + 1);
    return 1;
  }
  if (strcmp(key, "pty") == 0) return lua_getiuservalue(L, 1, PTY + 1), 1;
  if (strcmp(key, "pid") == 0) lua_pushinteger(L, p->pid);
  else if (strcmp(key, "name") == 0) name_of(L, 1);
  else if (strcmp(key, "status") == 0)
    lua_pushstring(L, !p->ended ? "running" : p->signum ? "signal" : "exit");
  else if (strcmp(key, "code") == 0 && p->ended)
    lua_pushinteger(L, p->signum ? p->signum : p->code);
  else return 0;
  return 1;
}

static int f_tostring(lua_State *L) {
  process *p = check_process(L);
  const char *name = name_of(L, 1);
  if (!p->ended) lua_pushfstring(L, "neap.process{%s pid=%d running}", name, p->pid);
  else
    lua_pushfstring(L, "neap.process{%s pid=%d %s=%d}", name, p->pid, p->signum ? "signal" : "exit",
                    p->signum ? p->signum : p->code);
  return 1;
}

/* select: {process} or {process, "wait"} */
static int poll_process(lua_State *L, void *obj, int op, int at) {
  (void)op, (void)at;
  process *p = obj;
  return p->ended ? push_status(L, p) : NP_NOT_READY;
}

static void add_waiter(void *obj, int op, np_waiter *w) {
  (void)op;
  np_node_append(&((process *)obj)->waiters, &w->node);
}

static const np_selop ops[] = {{"wait", false}, {NULL, false}};
static const np_selectable selectable = {
  .ops = ops, .outside = true, .poll = poll_process, .add = add_waiter};

static const luaL_Reg methods[] = {
  {"wait", f_wait}, {"kill", f_kill}, {"resize", f_resize}, {"close", f_close}, {NULL, NULL},
};
static const luaL_Reg meta[] = {
  {"__gc", f_gc},
  {"__close", f_close},
  {"__tostring", f_tostring},
  {NULL, NULL},
};
const np_type np_process_type = {
  .name = "neap.process", .methods = methods, .meta = meta, .index = f_index};

/* environ() -> table of name = value: our own environment, to copy and change for the option
 * `env`; without LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, which hold for us only. */
static int f_environ(lua_State *L) {
  lua_newtable(L);
  for (char **e = environ; e && *e; e++) {
    const char *eq = strchr(*e, '=');
    if (!eq || np_spawn_private(*e)) continue;
    lua_pushlstring(L, *e, (size_t)(eq - *e));
    lua_pushstring(L, eq + 1);
    lua_rawset(L, -3);
  }
  return 1;
}

static int f_pid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

static int f_executable(lua_State *L) {
  char path[4096];
  if (np_process_executable(path, sizeof path) < 0) return 0;
  lua_pushstring(L, path);
  return 1;
}

int luaopen_neap_process_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"spawn", np_process_f_spawn},
                                       {"environ", f_environ},
                                       {"pid", f_pid},
                                       {"executable", f_executable},
                                       {NULL, NULL}};
  np_type_init(L, &np_process_type);
  np_selectable_set(L, &np_process_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
