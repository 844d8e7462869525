/* credentials(): the kernel's answers as fields of one table; what it cannot tell is absent.
 *
 * A pidfd is a descriptor for whoever asks to own, so it comes only when asked for. */
#include "bindings/credentials.h"

#include "bindings/descriptor.h"
#include "bindings/lua_util.h"
#include "core/local.h"

static void set_integer(lua_State *L, const char *key, lua_Integer v) {
  lua_pushinteger(L, v);
  lua_setfield(L, -2, key);
}

void np_push_cred(lua_State *L, const np_cred *c) {
  lua_createtable(L, 0, 5);
  set_integer(L, "pid", (lua_Integer)c->pid);
  set_integer(L, "uid", c->uid);
  set_integer(L, "gid", c->gid);
}

static void set_groups(lua_State *L, const gid_t *groups, int n) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, groups[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "groups");
}

static void add_groups(lua_State *L, int fd) {
  enum { FEW = 64 };
  gid_t few[FEW];
  int n = np_local_groups(fd, few, FEW);
  if (n < 0) return;
  if (n <= FEW) {
    set_groups(L, few, n);
    return;
  }
  gid_t *many = lua_newuserdatauv(L, (size_t)n * sizeof *many, 0); /* they do not change */
  int again = np_local_groups(fd, many, n);
  lua_insert(L, -2);
  if (again >= 0 && again <= n) set_groups(L, many, again);
  lua_remove(L, -2);
}

bool np_credentials_opts(lua_State *L, int idx) {
  static const char *const known[] = {"pidfd", NULL};
  np_check_options(L, idx, known);
  return np_opt_boolean(L, idx, "pidfd", false);
}

int np_push_credentials(lua_State *L, int fd, bool pidfd) {
  np_cred c;
  char label[256];
  int r = np_local_credentials(fd, &c);
  if (r < 0) return r;
  luaL_checkstack(L, 8, NULL);
  int process = pidfd ? np_local_pidfd(fd) : -1;
  /* The descriptor is an object before anything else can fail; an owned one stays on the stack. */
  if (process >= 0) np_push_descriptor(L, process);
  np_push_cred(L, &c);
  if (process >= 0) {
    lua_insert(L, -2);
    lua_setfield(L, -2, "pidfd");
  }
  add_groups(L, fd);
  if (np_local_label(fd, label, sizeof label) == 0) {
    lua_pushstring(L, label);
    lua_setfield(L, -2, "label");
  }
  return 0;
}
