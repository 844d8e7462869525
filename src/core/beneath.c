/* Opening beneath a directory (see beneath.h). */
#include "core/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_openat2
#include <linux/openat2.h>

enum { TRIES_MAX = 32 }; /* a rename elsewhere makes the kernel give up a walk through ".." */

static int by_kernel(const char *root, const char *path, int flags, int mode) {
  int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return -errno;
  struct open_how how = {.flags = (unsigned)flags,
                         .mode = flags & O_CREAT ? (unsigned)mode : 0,
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  long fd = -1;
  for (int i = 0; i < TRIES_MAX; i++) {
    fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  int code = fd < 0 ? -errno : (int)fd;
  close(dir);
  return code;
}
#else
static int by_kernel(const char *root, const char *path, int flags, int mode) {
  (void)root, (void)path, (void)flags, (void)mode;
  return -ENOSYS;
}
#endif

/* The directory's own path, then what stands below it. */
static bool is_below(const char *root, const char *path) {
  size_t n = strlen(root);
  if (n == 1) return true; /* "/" */
  return strncmp(root, path, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Who may rename directories meanwhile can still lead this outside. Files are not made here: what
 * does not exist has no resolved path. */
static int by_path(const char *root, const char *path, int flags, int mode) {
  char base[PATH_MAX], joined[PATH_MAX], real[PATH_MAX];
  if (path[0] == '/') return -EXDEV;
  if (!realpath(root, base)) return -errno;
  if (snprintf(joined, sizeof joined, "%s/%s", base, path) >= (int)sizeof joined)
    return -ENAMETOOLONG;
  if (!realpath(joined, real)) return -errno;
  if (!is_below(base, real)) return -EXDEV;
  int fd = open(real, flags | O_NOFOLLOW, mode);
  return fd < 0 ? -errno : fd;
}

int np_open_beneath(const char *root, const char *path, int flags, int mode) {
  int all = flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  int fd = by_kernel(root, path, all, mode);
  return fd == -ENOSYS ? by_path(root, path, all, mode) : fd;
}
