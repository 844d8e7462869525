/* Opening files for Lua: io's modes; what comes out is a file, or a stream of what is none. */
#include <fcntl.h>
#include <stdlib.h>

#include "bindings/fs_impl.h"
#include "core/file.h"

static fsfile *push_closed(lua_State *L) {
  fsfile *f = np_new_object(L, &np_file_type, sizeof *f, NP_FILE_USERVALUES);
  np_node_init(&f->turns);
  return f;
}

/* Whatever else is opened (a FIFO, a terminal, a device) is watched by the loop: a stream. */
static int push_stream(lua_State *L, fscall *c) {
  np_fsfile *f = np_fs_take_file(c->r);
  int fd = f->fd;
  free(f);
  int r = np_push_fd_stream(L, fd);
  return r < 0 ? np_fail(L, r, "open %s", c->r->path) : 1;
}

static int push_file(lua_State *L, fscall *c) {
  if (!S_ISREG(c->r->st.st_mode) && !S_ISBLK(c->r->st.st_mode)) return push_stream(L, c);
  fsfile *f = push_closed(L);
  lua_pushstring(L, c->r->path);
  lua_setiuservalue(L, -2, NP_FILE_PATH);
  np_transport *t;
  int r = np_file_transport(np_loop_of(L), c->r->file, &t);
  if (r == 0) r = np_push_transport_stream(L, t);
  if (r < 0) return np_fail(L, r, "open %s", c->r->path);
  f->in = lua_touserdata(L, -1);
  lua_setiuservalue(L, -2, NP_FILE_STREAM);
  f->core = np_fs_take_file(c->r);
  f->append = c->r->flags & O_APPEND;
  return 1;
}

/* io's modes, and "x": the file must not exist. -1: none of them. */
static int mode_flags(const char *mode) {
  int flags = *mode == 'r'   ? 0
              : *mode == 'w' ? O_CREAT | O_TRUNC
              : *mode == 'a' ? O_CREAT | O_APPEND
                             : -1;
  if (flags < 0) return -1;
  bool both = false, binary = false, fresh = false;
  for (const char *p = mode + 1; *p; p++) {
    bool *flag = *p == '+' ? &both : *p == 'b' ? &binary : *p == 'x' ? &fresh : NULL;
    if (!flag || *flag || (flag == &fresh && *mode == 'r')) return -1;
    *flag = true;
  }
  return flags | (both ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY) | (fresh ? O_EXCL : 0);
}

static const char *const open_options[] = {"timeout", "mode", "beneath", NULL};

/* open(path[, mode = "r"[, {mode = 0666, beneath = dir, timeout = s}]]) */
int np_fs_open(lua_State *L) {
  const char *path = np_check_path(L, 1);
  int opt = lua_istable(L, 2) ? 2 : 3;
  const char *mode = opt == 2 ? "r" : luaL_optstring(L, 2, "r");
  int flags = mode_flags(mode);
  luaL_argcheck(L, flags >= 0, 2, "invalid mode (r, w or a, then +, b, x)");
  np_check_options(L, opt, open_options);
  int permissions = (int)np_opt_integer(L, opt, "mode", 0666, 0, 07777);
  const char *root = np_opt_string(L, opt, "beneath", NULL);
  uint64_t by = np_deadline_opt(L, opt, -1);
  fscall *c = np_fs_push_call(L, NP_FS_OPEN, path, root, "open");
  c->r->flags = flags;
  c->r->mode = permissions;
  c->by_ns = by;
  c->push = push_file;
  return np_fs_call(L, c);
}
