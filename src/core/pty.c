/* Pseudo-terminals, by posix_openpt.  The child makes its end the controlling terminal itself
 * (process_start.c); modes are the program's own business. */
#include "core/pty.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

int np_pty_resize(int fd, int rows, int cols) {
  struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
  return ioctl(fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

/* By the ioctl: the path need not lead there in every mount namespace. */
static int open_other(int master) {
  enum { FLAGS = O_RDWR | O_NOCTTY | O_CLOEXEC };
#ifdef TIOCGPTPEER
  int fd = ioctl(master, TIOCGPTPEER, FLAGS);
  if (fd >= 0 || (errno != EINVAL && errno != ENOTTY)) return fd;
#endif
  char path[64];
  return ptsname_r(master, path, sizeof path) != 0 ? -1 : open(path, FLAGS);
}

static int set_up(int master, int *theirs, int rows, int cols) {
  *theirs = -1;
  if (fcntl(master, F_SETFD, FD_CLOEXEC) < 0 || fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
    return -errno;
  if (grantpt(master) < 0 || unlockpt(master) < 0) return -errno;
  if ((*theirs = open_other(master)) < 0) return -errno;
  return np_pty_resize(master, rows, cols);
}

int np_pty_open(int *ours, int *theirs, int rows, int cols) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0) return -errno;
  int r = set_up(master, theirs, rows, cols);
  if (r < 0) {
    if (*theirs >= 0) close(*theirs);
    close(master);
    return r;
  }
  *ours = master;
  return 0;
}
