/* spawn(argv, opts): starts a child and joins it.
 *
 * Everything is checked first; then the pipes are made, the child is started, and our ends
 * become streams.  While one of these fails, what was made lies in the userdata, whose
 * collection closes it. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bindings/lua_util.h"
#include "bindings/origin.h"
#include "bindings/process_args.h"
#include "bindings/process_impl.h"
#include "bindings/stream.h"
#include "bindings/task.h"
#include "core/error.h"
#include "core/pty.h"

/* A real pipe, not a socket pair: /dev/stdin and the like cannot be opened through a socket.  Our
 * end does not block; that is a property of our end alone. */
static int make_pipe(process *p, int i) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  p->theirs[i] = ends[i == 0 ? 0 : 1];
  p->ours[i] = ends[i == 0 ? 1 : 0];
  int flags = fcntl(p->ours[i], F_GETFL);
  return fcntl(p->ours[i], F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Turns the words among the first three into numbers. 0 or a failure of the step. */
static int prepare_fds(process *p, np_spawn *q, const char **step) {
  *step = "pseudo-terminal";
  int made = q->pty ? np_pty_open(&p->ours[PTY], &p->theirs[PTY], q->rows, q->cols) : 0;
  if (made < 0) return made;
  *step = "pipe";
  for (int i = 0; i < 3; i++) {
    int r = q->fds[i] == NP_SPAWN_PIPE ? make_pipe(p, i) : 0;
    if (r < 0) return r;
    if (q->fds[i] == NP_SPAWN_PIPE) q->fds[i] = p->theirs[i];
    else if (q->fds[i] == NP_SPAWN_LIKE_STDOUT) q->fds[i] = q->fds[1];
    else if (q->fds[i] == NP_SPAWN_TERMINAL) q->fds[i] = p->theirs[PTY];
    else if (q->fds[i] == NP_SPAWN_INHERIT) q->fds[i] = fcntl(i, F_GETFD) < 0 ? NP_SPAWN_NULL : i;
  }
  return 0;
}

/* main.c raises the soft limit for us and leaves the former one here; a host that does not leaves
 * nothing. */
static int64_t original_nofile(lua_State *L) {
  int64_t n = lua_getfield(L, LUA_REGISTRYINDEX, "neap.child_nofile") == LUA_TNUMBER
                ? lua_tointeger(L, -1)
                : -1;
  lua_pop(L, 1);
  return n;
}

static process *push_process(lua_State *L, const char *name) {
  process *p = np_new_object(L, &np_process_type, sizeof *p, USERVALUES);
  np_node_init(&p->waiters);
  for (int i = 0; i < ENDS; i++) p->theirs[i] = p->ours[i] = -1;
  lua_pushstring(L, name);
  lua_setiuservalue(L, -2, UV_NAME);
  np_origin_set(L, -1, UV_ORIGIN);
  return p;
}

static int fail_spawn(lua_State *L, const np_spawn *q, int code, const char *step) {
  if (strcmp(step, "chdir") == 0)
    return np_fail(L, code, "spawn %s: working directory %s", q->argv[0], q->cwd);
  if (strcmp(step, "exec") == 0) return np_fail(L, code, "spawn %s", q->argv[0]);
  return np_fail(L, code, "spawn %s: %s", q->argv[0], step);
}

/* Our ends of the pipes become streams. 0 or a failure. The process is on top. */
static int push_streams(lua_State *L, process *p) {
  for (int i = 0; i < ENDS; i++) {
    int fd = p->ours[i];
    if (fd < 0) continue;
    p->ours[i] = -1;
    int r = np_push_fd_stream(L, fd);
    if (r < 0) return r;
    lua_setiuservalue(L, -2, i + 1);
  }
  return 0;
}

/* The soft limit of descriptors that Neap was started with, unless another was asked for. */
static void add_nofile(lua_State *L, np_spawn *q) {
  int resource = np_process_limit("nofile");
  int64_t nofile = original_nofile(L);
  for (int i = 0; i < q->nlimits; i++)
    if (q->limits[i].resource == resource) return;
  if (nofile < 0 || q->nlimits == NP_PROCESS_LIMITS) return;
  q->limits[q->nlimits++] =
    (np_processlimit){.resource = resource, .soft = (uint64_t)nofile, .hard = NP_LIMIT_KEEP};
}

static int start(lua_State *L, process *p, np_spawn *q, const char **step) {
  np_processopts o = {.argv = q->argv,
                      .env = q->env,
                      .pid_text = q->pid_text,
                      .cwd = q->cwd,
                      .fds = q->fds,
                      .nfds = q->nfds,
                      .identity = q->identified ? &q->identity : NULL,
                      .limits = q->limits,
                      .nlimits = q->nlimits,
                      .umask = q->umask,
                      .session = q->session,
                      .pgroup = q->pgroup,
                      .terminal = q->pty ? p->theirs[PTY] : -1,
                      .grace_ms = q->grace_ms};
  int r = np_process_open(np_loop_of(L), &o, np_process_on_end, p, &p->core, step);
  np_process_close_ends(p->theirs);
  if (r < 0) return r;
  p->pid = np_process_pid(p->core);
  *step = "pipe";
  return push_streams(L, p);
}

/* spawn(argv [, opts]) -> process
 *
 * See lua/stdlib/process.lua. Never waits, but for the child's exec. Errors: ENOENT, EACCES,
 * ENOEXEC, E2BIG ... of execve(2), with the program in the message; others with the step that
 * failed: ENOENT, ENOTDIR, EACCES of chdir(2) with the directory; EPERM of uid, gid, groups,
 * limits; ENOENT for an unknown user or group; EMFILE, EAGAIN. */
int np_process_f_spawn(lua_State *L) {
  np_spawn q;
  const char *step;
  lua_settop(L, 2);
  np_spawn_read(L, &q);
  if (q.err) return np_fail_text(L, np_error_name(q.err), "spawn %s: %s", q.argv[0], q.why);
  add_nofile(L, &q);
  process *p = push_process(L, q.argv[0]);
  int r = prepare_fds(p, &q, &step);
  if (r == 0) r = start(L, p, &q, &step);
  if (r == 0) return 1;
  np_process_let_go(p);
  return fail_spawn(L, &q, r, step);
}
