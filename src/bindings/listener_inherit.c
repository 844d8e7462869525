/* Sockets that this process was started with: fd:N, and systemd:NAME by the protocol of
 * sd_listen_fds(3); listening ones, those of datagrams, and what else was passed as descriptors.
 *
 * A descriptor is looked at before it is taken, so that what is refused stays open and in its
 * owner's hands.  What was taken once is not given again: its number may mean something else by
 * then.  The variables stay in our own environment, which a library must not change;
 * neap.process does not hand them on. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/descriptor.h"
#include "bindings/inherit.h"
#include "bindings/lua_util.h"
#include "core/error.h"
#include "core/socket.h"

enum {
  FIRST = 3,  /* SD_LISTEN_FDS_START */
  MANY = 1024 /* what LISTEN_FDS may claim */
};

/* registry: {[fd] = true} of the descriptors that were given out, false: never; [0]: looked at */
static const char taken_key;

/* Its SOCK_*, or a code and the reason. */
static int type_of(int fd, char *why, size_t size) {
  if (fcntl(fd, F_GETFD) < 0) {
    snprintf(why, size, "descriptor %d is not open", fd);
    return -errno;
  }
  int type = np_socket_type(fd);
  if (type < 0) snprintf(why, size, "descriptor %d is not a socket", fd);
  return type;
}

static int cloexec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0; }

static int check_dgram(int fd, char *why, size_t size) {
  int type = type_of(fd, why, size);
  if (type < 0 || type == SOCK_DGRAM || type == SOCK_RAW) return type < 0 ? type : cloexec(fd);
  snprintf(why, size, "descriptor %d is no socket of datagrams%s", fd,
           np_socket_listens(fd) ? " (listen() takes it)" : "");
  return -EPROTOTYPE;
}

int np_inherited_check(int fd, char *why, size_t size) {
  int type = type_of(fd, why, size);
  if (type < 0) return type;
  if (!np_socket_listens(fd)) {
    bool records = type != SOCK_DGRAM && type != SOCK_RAW;
    snprintf(why, size, "descriptor %d is a socket that does not listen%s", fd,
             records ? " (adopt() takes it)" : " (datagram() takes it)");
    return -EINVAL;
  }
  return cloexec(fd);
}

/* A decimal number without sign or blanks; -1: it is none, or larger than `max`. */
static long number_of(const char *s, long max) {
  char *end;
  if (!isdigit((unsigned char)*s)) return -1;
  errno = 0;
  long n = strtol(s, &end, 10);
  return errno || *end || n > max ? -1 : n;
}

/* How many descriptors are meant for this process, or a code. */
static int passed(char *why, size_t size) {
  const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
  if (!pid || !count) {
    snprintf(why, size, "no descriptors were passed (%s is not set)",
             pid ? "LISTEN_FDS" : "LISTEN_PID");
    return -ENOENT;
  }
  if (number_of(pid, LONG_MAX) != (long)getpid()) {
    snprintf(why, size, "the descriptors are for process %.20s, this is %ld (LISTEN_PID)", pid,
             (long)getpid());
    return -ENOENT;
  }
  long n = number_of(count, MANY);
  if (n >= 0) return (int)n;
  snprintf(why, size, "LISTEN_FDS is '%.20s', not a number from 0 to %d", count, MANY);
  return -EINVAL;
}

/* LISTEN_FDNAMES has a name for each, or is not set. */
static int check_names(int n, char *why, size_t size) {
  const char *s = getenv("LISTEN_FDNAMES");
  if (!s || n == 0) return 0;
  int names = 1;
  for (; *s; s++) names += *s == ':';
  if (names == n) return 0;
  snprintf(why, size, "LISTEN_FDNAMES has %d name%s, LISTEN_FDS is %d", names,
           names == 1 ? "" : "s", n);
  return -EINVAL;
}

/* The i-th name of LISTEN_FDNAMES; without that variable all are called "unknown"
 * (sd_listen_fds_with_names(3)). */
static bool name_is(int i, const char *name, size_t len) {
  const char *s = getenv("LISTEN_FDNAMES");
  while (s && i-- > 0) {
    s = strchr(s, ':');
    if (s) s++;
  }
  if (!s) s = "unknown";
  return strcspn(s, ":") == len && memcmp(s, name, len) == 0;
}

/* From here on no program that is started, by os.execute or the host, gets them by accident. */
static void seal(int n) {
  for (int fd = FIRST; fd < FIRST + n; fd++) {
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0 && !(flags & FD_CLOEXEC)) fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
  }
}

/* Pushes the table of those that were taken. */
static void push_taken(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &taken_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &taken_key);
}

static bool is_taken(lua_State *L, int fd) {
  lua_rawgeti(L, -1, fd);
  bool is = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return is;
}

/* Nothing of ours has survived an exec: what closes at one and is no socket, at our first look, is
 * our own (the loop's), and LISTEN_FDS lies. */
static void disown(lua_State *L, int n) {
  if (is_taken(L, 0)) return;
  for (int fd = FIRST; fd < FIRST + n; fd++) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || !(flags & FD_CLOEXEC) || np_socket_type(fd) >= 0) continue;
    lua_pushboolean(L, 0);
    lua_rawseti(L, -2, fd);
  }
  lua_pushboolean(L, 1);
  lua_rawseti(L, -2, 0);
}

static bool is_free(lua_State *L, int fd) {
  bool is = lua_rawgeti(L, -1, fd) == LUA_TNIL && fcntl(fd, F_GETFD) >= 0;
  lua_pop(L, 1);
  return is;
}

static void take(lua_State *L, const int *fds, int n) {
  for (int i = 0; i < n; i++) {
    lua_pushboolean(L, 1);
    lua_rawseti(L, -2, fds[i]);
  }
}

void np_inherited_note(lua_State *L, int fd) {
  push_taken(L);
  take(L, &fd, 1);
  lua_pop(L, 1);
}

/* What is looked for: all listening sockets of a name, or its next socket of datagrams. */
typedef struct wanted {
  const np_addr *a;
  bool dgram;
  char *why;
  size_t size;
} wanted;

/* Those among the n, the table of the taken on top: how many, or a code. */
static int collect(lua_State *L, int n, const wanted *w, int *fds) {
  int found = 0, gone = 0;
  for (int i = 0; i < n; i++) {
    if (w->dgram && found) break;
    if (!name_is(i, w->a->host, w->a->host_len)) continue;
    if (is_taken(L, FIRST + i)) {
      gone++;
      continue;
    }
    int r = found == NP_LISTEN_SOCKETS_MAX ? -E2BIG
            : w->dgram                     ? check_dgram(FIRST + i, w->why, w->size)
                                           : np_inherited_check(FIRST + i, w->why, w->size);
    if (r < 0) return r;
    fds[found++] = FIRST + i;
  }
  if (found) return found;
  snprintf(w->why, w->size, "%s",
           gone ? "the descriptors of that name were taken before"
                : "no descriptor of that name was passed (LISTEN_FDNAMES)");
  return gone ? -EADDRINUSE : -ENOENT;
}

/* What was passed is looked at: how many; the table of the taken is on top then. Or a code. */
static int begin(lua_State *L, char *why, size_t size) {
  int n = passed(why, size);
  int r = n < 0 ? n : check_names(n, why, size);
  if (r < 0) return r;
  push_taken(L);
  disown(L, n);
  seal(n);
  return n;
}

static int take_wanted(lua_State *L, const wanted *w, int *fds) {
  int n = begin(L, w->why, w->size);
  if (n < 0) return n;
  int r = collect(L, n, w, fds);
  if (r > 0) take(L, fds, r);
  lua_pop(L, 1);
  return r;
}

int np_inherited_take(lua_State *L, const np_addr *a, int fds[NP_LISTEN_SOCKETS_MAX], char *why,
                      size_t size) {
  return take_wanted(L, &(wanted){a, false, why, size}, fds);
}

int np_inherited_take_dgram(lua_State *L, const np_addr *a, char *why, size_t size) {
  int fd, r = take_wanted(L, &(wanted){a, true, why, size}, &fd);
  return r < 0 ? r : fd;
}

/* The i-th name as a string; pushed. */
static void push_name(lua_State *L, int i) {
  const char *s = getenv("LISTEN_FDNAMES");
  while (s && i-- > 0) s = strchr(s, ':') + 1; /* there are enough: check_names */
  if (!s) s = "unknown";
  lua_pushlstring(L, s, strcspn(s, ":"));
}

/* Puts a table of names below that of the taken, which is on top, and notes in fds those that are
 * free. */
static int list_free(lua_State *L, int n, const char *name, size_t len, int *fds) {
  int found = 0;
  lua_newtable(L);
  lua_insert(L, -2);
  for (int i = 0; i < n; i++) {
    if (name && !name_is(i, name, len)) continue;
    if (!is_free(L, FIRST + i)) continue;
    push_name(L, i);
    lua_rawseti(L, -3, found + 1);
    fds[found++] = FIRST + i;
  }
  return found;
}

/* inherited([name]) -> a to-be-closed list of descriptors, with their names in its field `names`:
 * what was passed to this process (under that name) and was not taken yet, of whatever kind; it is
 * taken now. Or nil, message, code: "ENOENT" nothing was passed to this process, "EINVAL" a
 * variable makes no sense. */
int np_inherited_f_list(lua_State *L) {
  size_t len = 0;
  const char *name = luaL_optlstring(L, 1, NULL, &len);
  char why[96];
  int fds[MANY];
  lua_settop(L, 1);
  int n = begin(L, why, sizeof why);
  if (n < 0) return np_fail_text(L, np_error_name(n), "inherited: %s", why);
  n = list_free(L, n, name, len, fds);
  take(L, fds, n);
  lua_pop(L, 1);
  np_push_descriptors(L, fds, n);
  lua_insert(L, -2);
  lua_setfield(L, -2, "names");
  return 1;
}
