/* What a child is, apart from its program and descriptors: whose, in which session and group, under
 * which limits.  Options to np_spawn; nothing is taken here. */
#include <string.h>

#include "bindings/identity.h"
#include "bindings/lua_util.h"
#include "bindings/process_args.h"

/* pgroup = true: a group of its own; a number: the group to join. */
static int read_pgroup(lua_State *L, int idx) {
  int pgroup = -1;
  int type = lua_getfield(L, idx, "pgroup");
  if (type == LUA_TBOOLEAN) pgroup = lua_toboolean(L, -1) ? 0 : -1;
  else if (type != LUA_TNIL) {
    int is_int;
    lua_Integer n = lua_tointegerx(L, -1, &is_int);
    luaL_argcheck(L, is_int && type == LUA_TNUMBER && n > 0 && n <= INT32_MAX, idx,
                  "option 'pgroup': true or the number of a process group expected");
    pgroup = (int)n;
  }
  lua_pop(L, 1);
  return pgroup;
}

/* A field of {rows =, cols =} on top. */
static int read_size(lua_State *L, int idx, const char *name, int def) {
  if (lua_getfield(L, -1, name) != LUA_TNIL) {
    int is_int;
    lua_Integer n = lua_tointegerx(L, -1, &is_int);
    luaL_argcheck(L, is_int && n >= 1 && n <= UINT16_MAX, idx,
                  "option 'pty': rows and cols are integers from 1 to 65535");
    def = (int)n;
  }
  lua_pop(L, 1);
  return def;
}

static void read_pty(lua_State *L, int idx, np_spawn *q) {
  int type = lua_getfield(L, idx, "pty");
  luaL_argcheck(L, type == LUA_TNIL || type == LUA_TBOOLEAN || type == LUA_TTABLE, idx,
                "option 'pty': true or a table of rows and cols expected");
  q->pty = lua_toboolean(L, -1);
  q->rows = 24;
  q->cols = 80;
  if (type == LUA_TTABLE) {
    q->rows = read_size(L, idx, "rows", q->rows);
    q->cols = read_size(L, idx, "cols", q->cols);
  }
  lua_pop(L, 1);
}

/* ---- rlimits ---- */

static int unknown_limit(lua_State *L, int idx, const char *name) {
  luaL_Buffer b;
  const char *known;
  luaL_buffinit(L, &b);
  for (size_t i = 0; (known = np_process_limit_name(i)); i++) {
    if (i > 0) luaL_addstring(&b, ", ");
    luaL_addstring(&b, known);
  }
  luaL_pushresult(&b);
  return luaL_argerror(L, idx,
                       lua_pushfstring(L, "option 'rlimits': unknown limit '%s' (known: %s)", name,
                                       lua_tostring(L, -1)));
}

/* The value on top, popped. */
static uint64_t read_limit(lua_State *L, int idx, const char *name) {
  uint64_t v = UINT64_MAX;
  int is_int;
  lua_Integer n = lua_tointegerx(L, -1, &is_int);
  if (is_int && lua_type(L, -1) == LUA_TNUMBER && n >= 0) v = (uint64_t)n;
  else if (lua_type(L, -1) != LUA_TSTRING || strcmp(lua_tostring(L, -1), "unlimited") != 0)
    luaL_argerror(L, idx,
                  lua_pushfstring(L,
                                  "option 'rlimits': %s: an integer, 'unlimited', or a list of two "
                                  "of these (soft, hard) expected",
                                  name));
  lua_pop(L, 1);
  return v;
}

/* The limit's value on top, popped. */
static np_processlimit read_one(lua_State *L, int idx, const char *name) {
  np_processlimit l = {.resource = np_process_limit(name), .hard = NP_LIMIT_KEEP};
  if (!lua_istable(L, -1)) {
    l.soft = read_limit(L, idx, name);
    return l;
  }
  lua_geti(L, -1, 1);
  l.soft = read_limit(L, idx, name);
  lua_geti(L, -1, 2);
  l.hard = read_limit(L, idx, name);
  lua_pop(L, 1);
  return l;
}

static void read_rlimits(lua_State *L, int idx, np_spawn *q) {
  if (lua_getfield(L, idx, "rlimits") == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  luaL_argcheck(L, lua_istable(L, -1), idx, "option 'rlimits': a table of name = limit expected");
  for (lua_pushnil(L); lua_next(L, -2);) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    if (!name || np_process_limit(name) < 0) {
      lua_pop(L, 1);
      unknown_limit(L, idx, luaL_tolstring(L, -1, NULL));
    }
    q->limits[q->nlimits++] = read_one(L, idx, name);
  }
  lua_pop(L, 1);
}

/* Who it is comes last: it leaves memory on the stack. */
void np_spawn_read_setting(lua_State *L, int idx, np_spawn *q) {
  q->umask = q->pgroup = -1;
  if (lua_isnil(L, idx)) return;
  q->umask = (int)np_opt_integer(L, idx, "umask", -1, 0, 0777);
  q->session = np_opt_boolean(L, idx, "session", false);
  q->pgroup = read_pgroup(L, idx);
  read_pty(L, idx, q);
  q->session = q->session || q->pty;
  luaL_argcheck(L, !q->session || q->pgroup <= 0, idx,
                "option 'pgroup': a session is a process group of its own");
  read_rlimits(L, idx, q);
  int r = np_read_identity(L, idx, &q->identity);
  q->identified = r > 0;
  if (r < 0) {
    q->err = r;
    q->why = lua_tostring(L, -1);
  }
}
