/* AF_UNIX sockets: names, paths with their owners, peers.
 *
 * A path is never more open than asked, not for a moment: it is made with no permission at all
 * and gets its owner, then its mode, through a descriptor that pins the very file. */
#include "core/local.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#if defined __linux__ && !defined __sparc__ && !defined __hppa__ /* whose numbers are their own */
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#endif

enum { OWNED_MODE = 0660 }; /* when an owner is given and no mode */

/* ---- paths ---- */

/* The path of an AF_UNIX address in the file system; NULL for unnamed and abstract ones. */
const char *np_local_path(const np_sockaddr *a) {
  if (a->ss.ss_family != AF_UNIX) return NULL;
  const struct sockaddr_un *un = (const struct sockaddr_un *)&a->ss;
  return a->len > offsetof(struct sockaddr_un, sun_path) && un->sun_path[0] ? un->sun_path : NULL;
}

/* Removes the socket file at `path` if nobody answers on it: 0, or -EADDRINUSE.  Only ECONNREFUSED
 * means that no socket is bound there; EAGAIN is a full backlog, EPROTOTYPE a live socket of
 * another type.  Limits: a stream socket between its bind and its listen looks the same; two
 * processes that take over one path in the same microseconds may both win, of which the later keeps
 * the name. */
static int remove_stale(int type, const np_sockaddr *at, const char *path) {
  struct stat was, is;
  if (lstat(path, &was) != 0) return errno == ENOENT ? 0 : -errno;
  if (!S_ISSOCK(was.st_mode)) return -EADDRINUSE;
  int probe = np_socket(AF_UNIX, type, 0);
  if (probe < 0) return probe;
  int r = connect(probe, (const struct sockaddr *)&at->ss, at->len) == 0 ? 0 : -errno;
  close(probe);
  if (r != -ECONNREFUSED) return r == -ENOENT ? 0 : -EADDRINUSE;
  if (lstat(path, &is) != 0 || is.st_ino != was.st_ino || is.st_dev != was.st_dev)
    return -EADDRINUSE;
  return unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
}

/* The empty abstract name is nobody's choice. */
static void choose_nothing(np_sockaddr *a) {
  const struct sockaddr_un *un = (const struct sockaddr_un *)&a->ss;
  socklen_t unnamed = offsetof(struct sockaddr_un, sun_path);
  if (un->sun_family == AF_UNIX && a->len == unnamed + 1 && un->sun_path[0] == 0) a->len = unnamed;
}

static bool is_owned(const np_bindopts *o) { return o && (o->uid >= 0 || o->gid >= 0); }

#ifdef O_PATH
/* Whoever may write in the directory could put another file there after our bind; what is changed
 * is what was looked at, and it is looked at first. */
static int set_owner_and_mode(const char *path, const np_bindopts *o, int mode) {
  struct stat st;
  char name[32];
  int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -errno;
  int r = fstat(fd, &st) < 0 ? -errno : 0;
  if (r == 0 && (!S_ISSOCK(st.st_mode) || (is_owned(o) && st.st_uid != geteuid()))) r = -EADDRINUSE;
  if (r == 0 && is_owned(o) && fchownat(fd, "", (uid_t)o->uid, (gid_t)o->gid, AT_EMPTY_PATH) < 0)
    r = -errno;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  if (r == 0 && (int)(st.st_mode & 07777) != mode && chmod(name, (mode_t)mode) < 0 &&
      (errno != ENOENT || chmod(path, (mode_t)mode) < 0)) /* ENOENT: there is no /proc */
    r = -errno;
  close(fd);
  return r;
}
#else
static int set_owner_and_mode(const char *path, const np_bindopts *o, int mode) {
  if (is_owned(o) && lchown(path, (uid_t)o->uid, (gid_t)o->gid) < 0) return -errno;
  return chmod(path, (mode_t)mode) < 0 ? -errno : 0;
}
#endif

static int bind_path(int fd, int type, const np_sockaddr *at, const char *path) {
  if (bind(fd, (const struct sockaddr *)&at->ss, at->len) == 0) return 0;
  if (errno != EADDRINUSE) return -errno;
  int r = remove_stale(type, at, path);
  if (r < 0) return r;
  return bind(fd, (const struct sockaddr *)&at->ss, at->len) == 0 ? 0 : -errno;
}

int np_local_bind(int fd, int type, const np_sockaddr *at, const np_bindopts *o) {
  np_sockaddr a = *at;
  const char *path = np_local_path(at);
  choose_nothing(&a);
  if (!path) return bind(fd, (const struct sockaddr *)&a.ss, a.len) == 0 ? 0 : -errno;
  bool owned = is_owned(o);
  int mode = o && o->mode >= 0 ? o->mode : owned ? OWNED_MODE : -1;
  /* The umask is process-wide, so it is left alone.  On Linux the mode of the socket's own inode is
   * what bind gives to the file, less the umask.  Elsewhere this fails, and until the mode is set
   * only datagrams get through: a listener listens later. */
  if (mode >= 0 && fchmod(fd, owned ? 0 : (mode_t)mode) != 0 && errno != EINVAL) return -errno;
  int r = bind_path(fd, type, at, path);
  if (r < 0 || mode < 0) return r;
  r = set_owner_and_mode(path, o, mode);
  if (r < 0 && r != -EADDRINUSE) unlink(path);
  return r;
}

/* ---- who is there ---- */

int np_local_credentials(int fd, np_cred *out) {
#ifdef SO_PEERCRED
  struct ucred c = {0};
  socklen_t n = sizeof c;
  int domain = np_socket_domain(fd); /* of others some kernels answer zeros */
  if (domain != AF_UNIX) return domain < 0 ? domain : -EOPNOTSUPP;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) != 0) return -errno;
  if (c.uid == (uid_t)-1) return -ENOTCONN; /* a peer in another pid namespace has only its pid 0 */
  *out = (np_cred){c.pid, c.uid, c.gid};
  return 0;
#else
  uid_t uid;
  gid_t gid;
  if (getpeereid(fd, &uid, &gid) != 0) return -errno;
  *out = (np_cred){-1, uid, gid};
  return 0;
#endif
}

int np_local_groups(int fd, gid_t *out, int max) {
#ifdef SO_PEERGROUPS
  socklen_t len = (socklen_t)((size_t)max * sizeof *out);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out, &len) != 0 && errno != ERANGE) return -errno;
  return (int)(len / sizeof *out); /* ERANGE: what it would have been */
#else
  (void)fd, (void)out, (void)max;
  return -ENOPROTOOPT;
#endif
}

int np_local_pidfd(int fd) {
#ifdef SO_PEERPIDFD
  int pidfd = -1;
  socklen_t len = sizeof pidfd;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) != 0) return -errno;
  return pidfd;
#else
  (void)fd;
  return -ENOPROTOOPT;
#endif
}

int np_local_label(int fd, char *buf, size_t size) {
#ifdef SO_PEERSEC
  socklen_t len = (socklen_t)size - 1;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, buf, &len) != 0) return -errno;
  buf[len < size ? len : size - 1] = 0; /* some modules count a zero byte, some do not */
  return 0;
#else
  (void)fd, (void)buf, (void)size;
  return -ENOPROTOOPT;
#endif
}
