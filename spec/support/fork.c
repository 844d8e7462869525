/* fork() for scripts of specs: `fork()` gives the child's process id, or 0 in the child, which ends
 * by `leave()`; `wait(pid)` waits for it. */
#include <lauxlib.h>
#include <lua.h>
#include <sys/wait.h>
#include <unistd.h>

static int f_fork(lua_State *L) {
  lua_pushinteger(L, fork());
  return 1;
}

static int f_wait(lua_State *L) {
  int status = -1;
  waitpid((pid_t)luaL_checkinteger(L, 1), &status, 0);
  lua_pushinteger(L, status);
  return 1;
}

static int f_leave(lua_State *L) {
  (void)L;
  _exit(0);
}

int luaopen_fork(lua_State *L) {
  luaL_newlib(L, ((luaL_Reg[]){{"fork", f_fork}, {"wait", f_wait}, {"leave", f_leave}, {0}}));
  return 1;
}
