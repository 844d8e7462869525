/* The arguments of spawn: every one is checked before anything is made. */
#include "bindings/process_args.h"

#include <stdlib.h>
#include <string.h>

#include "bindings/descriptor.h"
#include "bindings/lua_util.h"

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
    q->fds[i] = defaults[i];
    if (lua_isnil(L, AT_OPTIONS)) continue;
    if (lua_getfield(L, AT_OPTIONS, np_spawn_std[i]) == LUA_TNIL) lua_pop(L, 1);
    else if (lua_type(L, -1) == LUA_TSTRING) q->fds[i] = read_word(L, np_spawn_std[i], i);
    else q->fds[i] = fd_of_top(L, np_spawn_std[i]);
  }
}

static void read_more_fds(lua_State *L, np_spawn *q) {
  if (lua_isnil(L, AT_OPTIONS) || lua_getfield(L, AT_OPTIONS, "fds") == LUA_TNIL) return;
  luaL_argcheck(L, lua_istable(L, -1), AT_OPTIONS, "option 'fds': a list of descriptors expected");
  lua_Integer n = luaL_len(L, -1);
  luaL_argcheck(L, n <= NP_PROCESS_FDS - 3, AT_OPTIONS,
                "option 'fds': too many descriptors (61 at most)");
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, -1, i);
    q->fds[q->nfds++] = fd_of_top(L, "fds");
  }
}

void np_spawn_read(lua_State *L, np_spawn *q) {
  static const char *const known[] = {"stdin", "stdout", "stderr", "fds",
                                      "env",   "cwd",    "grace",  NULL};
  memset(q, 0, sizeof *q);
  np_check_options(L, AT_OPTIONS, known);
  read_argv(L, q);
  read_env(L, q);
  q->cwd = np_opt_string(L, AT_OPTIONS, "cwd", NULL);
  double grace = np_opt_seconds(L, AT_OPTIONS, "grace", NP_PROCESS_GRACE_MS / 1000.0);
  q->grace_ms = grace > 3600 ? 3600 * 1000 : (int)(grace * 1000);
  read_std(L, q);
  read_more_fds(L, q);
}
