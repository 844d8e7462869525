/* uid, gid and groups of the options: to numbers, by the system's databases. */
#include "bindings/identity.h"

#include <stdint.h>

#include "bindings/lua_util.h"
#include "core/error.h"
#include "core/user.h"

enum { ID_MAX = UINT32_MAX - 1 }; /* the last one means "no change" to the kernel */

static int fail_id(lua_State *L, int code, const char *what, const char *name) {
  const char *text = code == -ENOENT ? "there is none of that name" : np_error_text(code);
  lua_pushfstring(L, "option '%s': '%s': %s", what, name, text);
  lua_remove(L, -2);
  return code;
}

int np_read_id(lua_State *L, int arg, const char *what, bool group, int64_t *id) {
  if (lua_type(L, -1) == LUA_TSTRING) {
    const char *name = lua_tostring(L, -1);
    uid_t uid = 0;
    gid_t gid = 0;
    int r = group ? np_group_find(name, &gid) : np_user_find(name, &uid);
    if (r < 0) return fail_id(L, r, what, name);
    *id = group ? gid : uid;
  } else {
    int is_int;
    lua_Integer n = lua_tointegerx(L, -1, &is_int);
    if (!is_int || n < 0 || n > (lua_Integer)ID_MAX)
      luaL_argerror(L, arg,
                    lua_pushfstring(L, "option '%s': a name or a number expected, got %s", what,
                                    luaL_tolstring(L, -1, NULL)));
    *id = n;
  }
  lua_pop(L, 1);
  return 0;
}

int np_opt_id(lua_State *L, int idx, const char *what, bool group, int64_t *id) {
  if (lua_isnoneornil(L, idx)) return 0;
  if (lua_getfield(L, idx, what) != LUA_TNIL) return np_read_id(L, idx, what, group, id);
  lua_pop(L, 1);
  return 0;
}

int np_read_owner(lua_State *L, int idx, int64_t *uid, int64_t *gid) {
  *uid = *gid = -1;
  int r = np_opt_id(L, idx, "uid", false, uid);
  return r < 0 ? r : np_opt_id(L, idx, "gid", true, gid);
}

/* The list on top of the stack, which stays there with the memory above it. */
static int read_groups(lua_State *L, int idx, np_identity *out) {
  luaL_argcheck(L, lua_istable(L, -1), idx, "option 'groups': a list of names or numbers expected");
  int list = lua_gettop(L);
  lua_Integer n = luaL_len(L, list);
  luaL_argcheck(L, n <= NP_PROCESS_GROUPS, idx, "option 'groups': more than 1024");
  gid_t *groups = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *groups, 0);
  for (int i = 0; i < (int)n; i++) {
    int64_t id = 0;
    lua_geti(L, list, i + 1);
    int r = np_read_id(L, idx, "groups", true, &id);
    if (r < 0) return r;
    groups[i] = (gid_t)id;
  }
  out->groups = groups;
  out->ngroups = (int)n;
  out->set_groups = true;
  return 0;
}

/* Without the right to change them, groups that are the same already need no change. */
static int find_groups(lua_State *L, np_identity *out) {
  gid_t *groups = lua_newuserdatauv(L, NP_PROCESS_GROUPS * sizeof *groups, 0);
  int n = np_user_groups(out->uid, out->gid, groups, NP_PROCESS_GROUPS);
  if (n < 0 && n != -ENOENT) {
    lua_pushfstring(L, "option 'uid': groups: %s", np_error_text(n));
    return n;
  }
  out->groups = groups;
  out->ngroups = n < 0 ? 0 : n;
  out->set_groups = !np_user_has_groups(out->gid, groups, out->ngroups);
  return 0;
}

static int find_group(lua_State *L, np_identity *out) {
  int r = np_user_group(out->uid, &out->gid);
  out->set_gid = true;
  if (r == -ENOENT)
    lua_pushfstring(L, "option 'uid': the system knows no user %I, so 'gid' is needed",
                    (LUAI_UACINT)out->uid);
  else if (r < 0) lua_pushfstring(L, "option 'uid': %s", np_error_text(r));
  return r;
}

int np_read_identity(lua_State *L, int idx, np_identity *out) {
  int64_t uid, gid;
  *out = (np_identity){.ngroups = 0};
  if (lua_isnoneornil(L, idx)) return 0;
  int r = np_read_owner(L, idx, &uid, &gid);
  if (r < 0) return r;
  out->set_uid = uid >= 0;
  out->set_gid = gid >= 0;
  out->uid = (uid_t)uid;
  out->gid = (gid_t)gid;
  if (out->set_uid && !out->set_gid && (r = find_group(L, out)) < 0) return r;
  if (lua_getfield(L, idx, "groups") != LUA_TNIL) r = read_groups(L, idx, out);
  else if (out->set_uid) r = find_groups(L, out);
  return r < 0 ? r : out->set_uid || out->set_gid || out->set_groups;
}
