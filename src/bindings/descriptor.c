/* Descriptors as Lua objects.  Each owns its number until it is closed, collected, taken or
 * adopted; a list of them closes what is still in it.
 *
 * The one idea: memory first, descriptor last, so that no failed allocation leaves a number nobody
 * owns. */
#include "bindings/descriptor.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/dgram.h"
#include "bindings/listener.h"
#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/stream.h"
#include "bindings/task.h"
#include "bindings/young.h"
#include "core/socket.h"

typedef struct descriptor {
  const np_type *type;
  int fd; /* -1: closed, or adopted */
  np_young young;
} descriptor;

/* What its metatable is registered as, without and with __gc. */
static const np_type descriptor_type, old_type;

/* Pushes the nursery, or nil: in a state of the host's, which may close it when it likes, each has
 * its finalizer at once, for the numbers of those that are held would stay open. */
static void push_nursery(lua_State *L) {
  if (!np_runtime_owns(L)) {
    lua_pushnil(L);
    return;
  }
  np_type_init(L, &old_type); /* who lets go does not allocate */
  np_young_push_nursery(L);
}

/* The nursery or nil is at index `nursery`.  Few descriptors outlive the message they came with;
 * without their finalizers a message received costs 500 of 6950 instructions less, and half the
 * misses of a cache of 1 MiB. */
static descriptor *new_descriptor(lua_State *L, int nursery) {
  bool young = !lua_isnil(L, nursery);
  descriptor *d = np_new_object(L, young ? &descriptor_type : &old_type, sizeof *d, 0);
  d->type = &descriptor_type;
  d->fd = -1;
  if (young) np_young_hold(L, nursery, &d->young, &old_type);
  return d;
}

/* Its number, now the caller's; -1: the slot was empty. */
static int empty_slot(descriptor *d) {
  int fd = d->fd;
  d->fd = -1;
  np_young_close(&d->young);
  return fd;
}

static void close_slot(descriptor *d) {
  int fd = empty_slot(d);
  if (fd >= 0) close(fd);
}

/* ---- making ---- */

static int p_new(lua_State *L) {
  push_nursery(L);
  new_descriptor(L, 1);
  return 1;
}

void np_push_descriptor(lua_State *L, int fd) {
  descriptor *d = np_push_for_fd(L, fd, p_new);
  d->fd = fd;
}

static int list_close(lua_State *L) {
  lua_settop(L, 1);
  luaL_checktype(L, 1, LUA_TTABLE);
  for (lua_Unsigned i = 1, n = lua_rawlen(L, 1); i <= n; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i);
    descriptor *d = np_test_object(L, -1, &descriptor_type);
    if (d) close_slot(d);
    lua_pop(L, 1);
  }
  return 0;
}

static const luaL_Reg list_meta[] = {{"__close", list_close}, {NULL, NULL}};
static const np_type list_type = {.name = "neap.descriptors", .meta = list_meta};

void np_push_closed_descriptors(lua_State *L, int n) {
  push_nursery(L);
  int nursery = lua_gettop(L);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    new_descriptor(L, nursery);
    lua_rawseti(L, -2, i);
  }
  np_give_metatable(L, &list_type);
  lua_replace(L, nursery);
}

void np_open_descriptors(lua_State *L, const int *fds, int n) {
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, -1, i + 1);
    ((descriptor *)lua_touserdata(L, -1))->fd = fds[i];
    lua_pop(L, 1);
  }
}

static int p_new_list(lua_State *L) {
  np_push_closed_descriptors(L, (int)lua_tointeger(L, 1));
  return 1;
}

static void close_all(const int *fds, int n) {
  for (int i = 0; i < n; i++) close(fds[i]);
}

void np_push_descriptors(lua_State *L, const int *fds, int n) {
  if (!lua_checkstack(L, 4)) {
    close_all(fds, n);
    luaL_error(L, "stack overflow");
  }
  lua_pushcfunction(L, p_new_list);
  lua_pushinteger(L, n);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    close_all(fds, n);
    lua_error(L);
  }
  np_open_descriptors(L, fds, n);
}

/* ---- what is it? ---- */

typedef enum kind { KIND_STREAM, KIND_LISTENER, KIND_DGRAM } kind;

static int socket_kind(int fd) {
  if (np_socket_listens(fd)) return KIND_LISTENER;
  int type = np_socket_type(fd);
  if (type < 0) return type;
  int scheme = np_socket_scheme(fd);
  if (scheme < 0) return scheme;
  return type == SOCK_STREAM ? KIND_STREAM : KIND_DGRAM;
}

/* Anonymous inodes (eventfd, pidfd, epoll ...) have no file type at all. */
static int kind_of(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return -errno;
  switch (st.st_mode & S_IFMT) {
  case S_IFSOCK: return socket_kind(fd);
  case S_IFIFO:
  case S_IFCHR:
  case S_IFREG:
  case S_IFBLK: return KIND_STREAM;
  case S_IFDIR: return -EISDIR;
  default: return -EOPNOTSUPP;
  }
}

static int push_kind(lua_State *L, int fd, int k) {
  switch (k) {
  case KIND_LISTENER: return np_push_fd_listener(L, fd);
  case KIND_DGRAM: return np_push_fd_dgram(L, fd);
  default: return np_push_fd_stream(L, fd);
  }
}

int np_adopt(lua_State *L, int fd) {
  int k = kind_of(fd);
  if (k >= 0) return push_kind(L, fd, k);
  if (k != -EBADF) close(fd);
  return k;
}

int np_get_fd(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  if (lua_isinteger(L, idx)) {
    lua_Integer fd = lua_tointeger(L, idx);
    luaL_argcheck(L, fd >= 0 && fd <= INT32_MAX, idx, "not a descriptor number");
    return (int)fd;
  }
  luaL_Stream *file = luaL_testudata(L, idx, LUA_FILEHANDLE);
  if (file) {
    luaL_argcheck(L, file->closef, idx, "closed file");
    return fileno(file->f);
  }
  np_stream *stream = np_test_stream(L, idx);
  if (stream) {
    int fd = np_stream_pass_fd(stream);
    luaL_argcheck(L, fd >= 0, idx, "without a descriptor");
    return fd;
  }
  /* not luaL_getmetafield, which collects garbage: see np_gather_fds */
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx) ||
      lua_getfield(L, -1, "__index") == LUA_TNIL)
    return luaL_typeerror(L, idx, "descriptor, socket, file or integer");
  lua_pop(L, 2);
  lua_getfield(L, idx, "fd"); /* every object of ours that has a descriptor tells it so */
  int is_int;
  lua_Integer fd = lua_tointegerx(L, -1, &is_int);
  lua_pop(L, 1);
  luaL_argcheck(L, is_int && fd >= 0, idx, "closed, or without a descriptor");
  return (int)fd;
}

static int p_get_fd(lua_State *L) {
  lua_pushinteger(L, np_get_fd(L, 1));
  return 1;
}

/* np_get_fd of the value on top, which is popped; -1 where that raises. */
static int try_get_fd(lua_State *L) {
  const descriptor *d = np_test_object(L, -1, &descriptor_type);
  np_stream *s = d ? NULL : np_test_stream(L, -1);
  int fd = d ? d->fd : s ? np_stream_pass_fd(s) : -1;
  if (!d && !s) { /* rarer ones may raise: 350 instructions more */
    lua_pushcfunction(L, p_get_fd);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) fd = (int)lua_tointeger(L, -1);
  }
  lua_pop(L, 1);
  return fd;
}

/* Between the first number and its use no garbage is collected: a finalizer could close the
 * descriptor, and the kernel would pass what has its number then. So nothing here makes a string,
 * and the calls inside find their stack (whose growth collects) grown. */
int np_gather_fds(lua_State *L, int idx, int arg, int fds[NP_FDS_MAX]) {
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 6 * LUA_MINSTACK, NULL);
  luaL_argcheck(L, lua_istable(L, idx), arg, "option 'fds': a list of descriptors expected");
  lua_Integer n = luaL_len(L, idx);
  if (n > NP_FDS_MAX)
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "option 'fds': %I descriptors, the kernel's limit is %d",
                                  (LUAI_UACINT)n, (int)NP_FDS_MAX));
  for (int i = 0; i < (int)n; i++) {
    lua_geti(L, idx, i + 1);
    fds[i] = try_get_fd(L);
    if (fds[i] < 0)
      luaL_argerror(L, arg,
                    lua_pushfstring(L, "option 'fds', item %d is not an open descriptor", i + 1));
  }
  return (int)n;
}

/* ---- Lua ---- */

static descriptor *check(lua_State *L) { return np_check_object(L, 1, &descriptor_type); }

/* descriptor:close() -> true. Again is fine. */
static int f_close(lua_State *L) {
  close_slot(check(L));
  lua_pushboolean(L, 1);
  return 1;
}

/* descriptor:adopt() -> stream, listener, datagram or record socket; the slot is empty then.  What
 * has no such object (an eventfd, a pidfd, a directory) stays in the slot: nil, message,
 * "EOPNOTSUPP" or "EISDIR". An empty slot: nil, message, "ECANCELED". */
static int f_adopt(lua_State *L) {
  descriptor *d = check(L);
  int fd = d->fd;
  if (fd < 0) return np_fail(L, NP_ECLOSED, "adopt");
  int k = kind_of(fd);
  if (k < 0) return np_fail(L, k, "adopt descriptor %d", fd);
  empty_slot(d);
  int r = push_kind(L, fd, k);
  return r < 0 ? np_fail(L, r, "adopt descriptor %d", fd) : 1;
}

/* descriptor:take() -> its number, the caller's from here on; nil, "closed", "ECANCELED" when the
 * slot is empty. */
static int f_take(lua_State *L) {
  descriptor *d = check(L);
  if (d->fd < 0) return np_fail(L, NP_ECLOSED, "take");
  lua_pushinteger(L, empty_slot(d));
  return 1;
}

static int f_gc(lua_State *L) {
  close_slot(check(L));
  return 0;
}

static int f_tostring(lua_State *L) {
  descriptor *d = check(L);
  if (d->fd < 0) lua_pushliteral(L, "neap.descriptor{closed}");
  else lua_pushfstring(L, "neap.descriptor{fd %d}", d->fd);
  return 1;
}

static int f_index(lua_State *L) {
  descriptor *d = check(L);
  if (lua_type(L, 2) != LUA_TSTRING || strcmp(lua_tostring(L, 2), "fd") != 0 || d->fd < 0) return 0;
  lua_pushinteger(L, d->fd);
  return 1;
}

/* adopt(fd) -> stream, listener, datagram or record socket by what the kernel says fd is, or nil,
 * message, code: "EBADF", "EOPNOTSUPP", "EISDIR". fd: an integer, or a descriptor object, which is
 * emptied. Takes ownership of an integer, also on failure. */
static int f_adopt_number(lua_State *L) {
  if (np_test_object(L, 1, &descriptor_type)) return f_adopt(L);
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= INT32_MAX, 1, "not a descriptor number");
  int r = np_adopt(L, (int)fd);
  return r < 0 ? np_fail(L, r, "adopt descriptor %d", (int)fd) : 1;
}

/* own(fd) -> descriptor object that closes the number when it is closed or collected; nil, message,
 * "EBADF". */
static int f_own(lua_State *L) {
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= INT32_MAX, 1, "not a descriptor number");
  if (fcntl((int)fd, F_GETFD) < 0) return np_fail(L, -errno, "descriptor %d", (int)fd);
  np_push_descriptor(L, (int)fd);
  return 1;
}

/* dup(x) -> a descriptor object with a duplicate (close-on-exec) of the descriptor of any object,
 * io file or number; nil, message, "EBADF" or "EMFILE". */
static int f_dup(lua_State *L) {
  int fd = np_get_fd(L, 1);
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return np_fail(L, -errno, "duplicate descriptor %d", fd);
  np_push_descriptor(L, copy);
  return 1;
}

static const luaL_Reg methods[] = {
  {"close", f_close},
  {"adopt", f_adopt},
  {"take", f_take},
  {NULL, NULL},
};

static const luaL_Reg meta[] = {{"__close", f_gc}, {"__tostring", f_tostring}, {NULL, NULL}};
static const luaL_Reg old_meta[] = {
  {"__gc", f_gc}, {"__close", f_gc}, {"__tostring", f_tostring}, {NULL, NULL}};

static const np_type descriptor_type = {"neap.descriptor", methods, meta, f_index};
static const np_type old_type = {"neap.descriptor", methods, old_meta, f_index};

static const luaL_Reg functions[] = {
  {"adopt", f_adopt_number},
  {"own", f_own},
  {"dup", f_dup},
  {NULL, NULL},
};

int luaopen_neap_descriptor_core(lua_State *L) {
  np_type_init(L, &descriptor_type);
  np_type_init(L, &old_type);
  luaL_newlib(L, functions);
  return 1;
}
