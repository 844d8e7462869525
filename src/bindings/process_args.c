/* The arguments of spawn: every one is checked before anything is made. */
#include "bindings/process_args.h"

#include <stdlib.h>
#include <string.h>

#include "bindings/descriptor.h"
#include "bindings/listener.h"
#include "bindings/lua_util.h"

extern char **environ;

enum { AT_ARGV = 1, AT_OPTIONS };

/* An array of n + 1 pointers, anchored on the stack, ending with NULL. */
static char **push_pointers(lua_State *L, size_t n) {
  char **p = lua_newuserdatauv(L, (n + 1) * sizeof *p, 0);
  memset(p, 0, (n + 1) * sizeof *p);
  return p;
}

/* The string or number on top, which is left there as a string. */
static const char *c_string(lua_State *L, int arg, const char *what) {
  size_t len;
  if (!lua_isstring(L, -1))
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "%s: a string expected, got %s", what, luaL_typename(L, -1)));
  const char *s = lua_tolstring(L, -1, &len);
  if (strlen(s) != len) luaL_argerror(L, arg, lua_pushfstring(L, "%s: contains a zero byte", what));
  return s;
}

/* Leaves two values that keep the strings and the array alive. */
static void read_argv(lua_State *L, np_spawn *q) {
  luaL_argexpected(L, lua_istable(L, AT_ARGV), AT_ARGV, "list of strings");
  lua_Integer n = luaL_len(L, AT_ARGV);
  luaL_argcheck(L, n > 0, AT_ARGV, "empty: the program and its arguments expected");
  lua_createtable(L, (int)n, 0);
  int keep = lua_gettop(L);
  q->argv = push_pointers(L, (size_t)n);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, AT_ARGV, i);
    q->argv[i - 1] = (char *)c_string(L, AT_ARGV, "argv");
    lua_rawseti(L, keep, i);
  }
  luaL_argcheck(L, q->argv[0][0], AT_ARGV, "argv: the program's name is empty");
}

static int compare_strings(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Leaves what keeps the environment alive. Sorted: its order must not depend on hashing. */
static void read_env(lua_State *L, np_spawn *q) {
  if (lua_isnil(L, AT_OPTIONS) || lua_getfield(L, AT_OPTIONS, "env") == LUA_TNIL) return;
  int env = lua_gettop(L);
  luaL_argcheck(L, lua_istable(L, env), AT_OPTIONS,
                "option 'env': a table of name = value expected");
  lua_newtable(L);
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, env); n++) {
    const char *value = c_string(L, AT_OPTIONS, "option 'env'");
    luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, AT_OPTIONS, "option 'env': names are strings");
    lua_pushvalue(L, -2);
    const char *name = c_string(L, AT_OPTIONS, "option 'env'");
    luaL_argcheck(L, *name && !strchr(name, '='), AT_OPTIONS,
                  "option 'env': a name is empty or contains '='");
    lua_pushfstring(L, "%s=%s", name, value);
    lua_rawseti(L, env + 1, (lua_Integer)n + 1);
    lua_pop(L, 2);
  }
  q->env = push_pointers(L, n);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, env + 1, (lua_Integer)i + 1);
    q->env[i] = (char *)lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  qsort(q->env, n, sizeof *q->env, compare_strings);
}

static int p_get_fd(lua_State *L) {
  lua_pushinteger(L, np_get_fd(L, 1));
  return 1;
}

/* The descriptor of the object on top, popped. */
static int fd_of_top(lua_State *L, const char *option) {
  lua_pushcfunction(L, p_get_fd);
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK)
    luaL_argerror(
      L, AT_OPTIONS,
      lua_pushfstring(L,
                      "option '%s': an open stream, socket, file or descriptor expected, "
                      "or 'pipe', 'null', 'inherit'",
                      option));
  int fd = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return fd;
}

static int read_word(lua_State *L, const char *option, int i) {
  const char *s = lua_tostring(L, -1);
  int what = strcmp(s, "pipe") == 0               ? NP_SPAWN_PIPE
             : strcmp(s, "null") == 0             ? NP_SPAWN_NULL
             : strcmp(s, "inherit") == 0          ? NP_SPAWN_INHERIT
             : i == 2 && strcmp(s, "stdout") == 0 ? NP_SPAWN_LIKE_STDOUT
                                                  : 0;
  if (what == 0)
    luaL_argerror(L, AT_OPTIONS,
                  lua_pushfstring(L,
                                  "option '%s': 'pipe', 'null'%s or 'inherit' expected, got '%s'",
                                  option, i == 2 ? ", 'stdout'" : "", s));
  lua_pop(L, 1);
  return what;
}

const char *const np_spawn_std[] = {"stdin", "stdout", "stderr"};

static void read_std(lua_State *L, np_spawn *q) {
  static const int defaults[] = {NP_SPAWN_NULL, NP_SPAWN_INHERIT, NP_SPAWN_INHERIT};
  q->nfds = 3;
  for (int i = 0; i < 3; i++) {
    q->fds[i] = q->pty ? NP_SPAWN_TERMINAL : defaults[i];
    if (lua_isnil(L, AT_OPTIONS)) continue;
    if (lua_getfield(L, AT_OPTIONS, np_spawn_std[i]) == LUA_TNIL) lua_pop(L, 1);
    else if (lua_type(L, -1) == LUA_TSTRING) q->fds[i] = read_word(L, np_spawn_std[i], i);
    else q->fds[i] = fd_of_top(L, np_spawn_std[i]);
  }
}

/* A list of the options, at the top of the stack then: its length, or -1 and nothing pushed. */
static lua_Integer push_list(lua_State *L, const char *option, const char *expected) {
  if (lua_isnil(L, AT_OPTIONS)) return -1;
  if (lua_getfield(L, AT_OPTIONS, option) == LUA_TNIL) {
    lua_pop(L, 1);
    return -1;
  }
  if (!lua_istable(L, -1))
    luaL_argerror(L, AT_OPTIONS, lua_pushfstring(L, "option '%s': %s expected", option, expected));
  return luaL_len(L, -1);
}

static void check_room(lua_State *L, const np_spawn *q, lua_Integer more, const char *option) {
  if (more > NP_PROCESS_FDS - q->nfds)
    luaL_argerror(L, AT_OPTIONS,
                  lua_pushfstring(L, "option '%s': too many descriptors (253 at most)", option));
}

static void read_more_fds(lua_State *L, np_spawn *q) {
  lua_Integer n = push_list(L, "fds", "a list of descriptors");
  check_room(L, q, n, "fds");
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, -1, i);
    q->fds[q->nfds++] = fd_of_top(L, "fds");
  }
}

/* Numbers that neither a list nor another entry uses; those between stay closed. */
static void read_fds_at(lua_State *L, np_spawn *q) {
  if (push_list(L, "fds_at", "a table of number = descriptor") < 0) return;
  for (lua_pushnil(L); lua_next(L, -2);) {
    int is_int;
    lua_Integer n = lua_tointegerx(L, -2, &is_int);
    if (!is_int || lua_type(L, -2) != LUA_TNUMBER || n < 3 || n >= NP_PROCESS_FDS)
      luaL_argerror(L, AT_OPTIONS, "option 'fds_at': the numbers are integers from 3 to 255");
    if (n < q->nfds && q->fds[n] != NP_FD_GAP)
      luaL_argerror(
        L, AT_OPTIONS,
        lua_pushfstring(L, "option 'fds_at': 'listen' or 'fds' has number %d already", (int)n));
    while (q->nfds <= n) q->fds[q->nfds++] = NP_FD_GAP;
    q->fds[n] = fd_of_top(L, "fds_at");
  }
}

/* ---- sockets for the child to inherit (sd_listen_fds(3)) ---- */

static const char *const private_names[] = {
  "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "LISTEN_PIDFDID="};

bool np_spawn_private(const char *variable) {
  for (size_t i = 0; i < sizeof private_names / sizeof *private_names; i++)
    if (strncmp(variable, private_names[i], strlen(private_names[i])) == 0) return true;
  return false;
}

/* Appends the i-th of listen_names, at `names` on the stack, to the string on top, as often as its
 * listener has sockets. */
static void add_names(lua_State *L, int names, lua_Integer i, int times) {
  lua_geti(L, names, i);
  const char *s = c_string(L, AT_OPTIONS, "option 'listen_names'");
  for (const char *c = s; *c; c++)
    luaL_argcheck(L, *c >= ' ' && *c < 127 && *c != ':', AT_OPTIONS,
                  "option 'listen_names': a name contains ':' or is not printable ASCII");
  luaL_argcheck(L, *s && strlen(s) <= 255, AT_OPTIONS,
                "option 'listen_names': a name is empty or longer than 255");
  for (; times > 0; times--) {
    lua_pushfstring(L, *lua_tostring(L, -2) ? "%s:%s" : "%s%s", lua_tostring(L, -2), s);
    lua_replace(L, -3);
  }
  lua_pop(L, 1);
}

/* The sockets of the i-th of the list on top. */
static int read_listener(lua_State *L, np_spawn *q, lua_Integer i) {
  int fds[NP_LISTEN_SOCKETS_MAX];
  lua_geti(L, -1, i);
  int n = np_listener_fds(L, -1, fds);
  if (n <= 0) {
    n = 1;
    fds[0] = fd_of_top(L, "listen");
  } else {
    lua_pop(L, 1);
  }
  check_room(L, q, n, "listen");
  for (int k = 0; k < n; k++) q->fds[q->nfds++] = fds[k];
  return n;
}

/* Leaves the names joined by colons, or nil, on top of the stack. False: nothing is passed. */
static bool read_listen(lua_State *L, np_spawn *q) {
  int times[NP_PROCESS_FDS];
  lua_Integer names = push_list(L, "listen_names", "a list of strings");
  if (names < 0) lua_pushnil(L);
  int at = lua_gettop(L);
  lua_Integer n = push_list(L, "listen", "a list of listeners");
  luaL_argcheck(L, names < 0 || names == n, AT_OPTIONS,
                "option 'listen_names': as many names as 'listen' has listeners expected");
  if (n < 0) return false;
  check_room(L, q, n, "listen");
  for (lua_Integer i = 1; i <= n; i++) times[i - 1] = read_listener(L, q, i);
  if (names < 0) lua_pushnil(L);
  else lua_pushliteral(L, "");
  for (lua_Integer i = 1; i <= names; i++) add_names(L, at, i, times[i - 1]);
  return true;
}

/* The environment again, with what tells the child of its nfds - 3 sockets; the names are on top.
 * Without `listen` only ours is copied, and only if there is something to leave out. */
static void add_environment(lua_State *L, np_spawn *q, bool listen) {
  char **from = q->env ? q->env : environ;
  size_t n = 0, out = 0;
  bool some = false;
  for (; from && from[n]; n++) some = some || np_spawn_private(from[n]);
  if (!listen && (q->env || !some)) return;
  int names = lua_gettop(L);
  char **env = push_pointers(L, n + 3);
  for (size_t i = 0; i < n; i++)
    if (!np_spawn_private(from[i])) env[out++] = from[i];
  q->env = env;
  if (!listen) return;
  static const char prefix[] = "LISTEN_PID=";
  char *pid = lua_newuserdatauv(L, sizeof prefix + NP_PID_TEXT, 0);
  memcpy(pid, prefix, sizeof prefix);
  q->pid_text = pid + sizeof prefix - 1;
  env[out++] = pid;
  env[out++] = (char *)lua_pushfstring(L, "LISTEN_FDS=%d", q->nfds - 3);
  if (!lua_isnil(L, names))
    env[out++] = (char *)lua_pushfstring(L, "LISTEN_FDNAMES=%s", lua_tostring(L, names));
}

void np_spawn_read(lua_State *L, np_spawn *q) {
  static const char *const known[] = {"stdin",  "stdout", "stderr",  "listen",  "listen_names",
                                      "fds",    "fds_at", "env",     "cwd",     "grace",
                                      "uid",    "gid",    "groups",  "session", "pty",
                                      "pgroup", "umask",  "rlimits", NULL};
  memset(q, 0, sizeof *q);
  luaL_checkstack(L, 2 * LUA_MINSTACK, NULL);
  np_check_options(L, AT_OPTIONS, known);
  read_argv(L, q);
  read_env(L, q);
  q->cwd = np_opt_string(L, AT_OPTIONS, "cwd", NULL);
  double grace = np_opt_seconds(L, AT_OPTIONS, "grace", NP_PROCESS_GRACE_MS / 1000.0);
  q->grace_ms = grace > 3600 ? 3600 * 1000 : (int)(grace * 1000);
  np_spawn_read_setting(L, AT_OPTIONS, q);
  read_std(L, q);
  add_environment(L, q, read_listen(L, q));
  read_more_fds(L, q);
  read_fds_at(L, q);
}
