/* A descriptor as a transport: TCP and AF_UNIX stream sockets, pipes, terminals, files.
 *
 * Descriptors 0, 1 and 2 are shared with whoever started us, so they stay in blocking mode: poll(2)
 * is asked before each call and writes are at most PIPE_BUF, which a writable pipe takes without
 * blocking. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cmsg.h"
#include "core/fdq.h"
#include "core/transport.h"

#ifdef NP_HARD
enum { WRITE_CAP = 1, FDS_PENDING_MAX = NP_FDS_MAX };
#else
enum { WRITE_CAP = INT_MAX, FDS_PENDING_MAX = NP_FDS_MAX };
#endif

/* With the last bytes: they go in one segment with the FIN, which shutdown sends right after. */
#ifdef MSG_MORE
enum { FIN_FOLLOWS = MSG_MORE };
#else
enum { FIN_FOLLOWS = 0 };
#endif

/* Bulk over TCP costs 15 % more CPU time per byte in reads of 256 KiB than of 64; over AF_UNIX 30 %
 * less. */
enum { TCP_AT_ONCE = 64 << 10 };

typedef struct fdt {
  np_transport t;
  np_poll poll;
  np_fdkind kind;
  bool hangup; /* the peer's end is in the kernel: read until it shows, short reads prove nothing */
  bool exposed; /* the number was told to somebody, who may have duplicated it */
  bool passed;  /* another process has the socket too: ending it politely is no longer ours to do */
  int fd;
  np_fdq fdq;
} fdt;

static fdt *self(np_transport *t) { return np_container(t, fdt, t); }

static int socket_kind(int fd, np_fdkind *k) {
  int type = 0, domain = 0, accepting = 0;
  socklen_t len = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) return -errno;
  if (type != SOCK_STREAM) return -EPROTOTYPE;
  len = sizeof accepting;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &len) == 0 && accepting) return -EINVAL;
  struct sockaddr_storage ss;
  len = sizeof ss;
  if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0) return -errno;
  domain = ss.ss_family;
  k->socket = true;
  k->unix_ = domain == AF_UNIX;
  k->name = k->unix_ ? "unix" : "tcp";
  return 0;
}

int np_fdkind_of(int fd, np_fdkind *k) {
  struct stat st;
  *k = (np_fdkind){.name = "file"};
  if (fstat(fd, &st) < 0) return -errno;
  int r = 0;
  if (S_ISSOCK(st.st_mode)) r = socket_kind(fd, k);
  else if (S_ISFIFO(st.st_mode))
    k->name = "pipe", k->pipe = true, k->write_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
  else if (S_ISCHR(st.st_mode)) k->name = isatty(fd) ? "tty" : "device";
  else if (S_ISDIR(st.st_mode)) r = -EISDIR;
  else k->file = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
  if (r < 0 || k->file) return r;
  if (fd <= 2) {
    k->blocking = true;
    return 0;
  }
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  k->restore = !(flags & O_NONBLOCK);
  return k->restore && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static bool ready(const fdt *f, short events) {
  struct pollfd p = {.fd = f->fd, .events = events};
  return poll(&p, 1, 0) > 0;
}

static ssize_t keep_fds(fdt *f, const struct msghdr *m, ssize_t n) {
  np_ancillary a;
  np_ancillary_parse(m, &a);
  if (a.truncated_control) {
    np_ancillary_close(&a);
    f->fdq.trouble = a.nfds < NP_FDS_MAX ? -EMFILE : -EMSGSIZE;
  } else if (a.nfds > 0) {
    np_fdq_push(&f->fdq, f->t.in_total + (uint64_t)n, a.fds, a.nfds);
  }
  return n;
}

static ssize_t read_unix(fdt *f, void *buf, size_t size) {
  char control[NP_CMSG_SPACE];
  struct iovec iov = {buf, size};
  struct msghdr m = {
    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  /* A flood: what the awaited frame must pass anyway will not be taken any more. */
  if (f->fdq.len >= FDS_PENDING_MAX) np_fdq_drop(&f->fdq, UINT64_MAX);
  ssize_t n = recvmsg(f->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return -errno;
  bool alone = m.msg_controllen == 0 && !(m.msg_flags & MSG_CTRUNC);
  if (alone) {
    if ((size_t)n < size && n > 0 && !f->hangup) f->t.readable = false;
    return n;
  }
  return keep_fds(f, &m, n); /* the kernel stopped after the descriptors: there may be more */
}

static ssize_t read_plain(fdt *f, void *buf, size_t size) {
  if (f->kind.blocking && !ready(f, POLLIN)) return -EAGAIN;
  ssize_t n = f->kind.socket ? recv(f->fd, buf, size, MSG_DONTWAIT) : read(f->fd, buf, size);
  if (n < 0) return -errno;
  if ((size_t)n < size && n > 0 && f->kind.socket && !f->hangup) f->t.readable = false;
  return n;
}

static ssize_t fd_read(np_transport *t, void *buf, size_t size) {
  fdt *f = self(t);
  ssize_t n;
  if (f->fd < 0) return 0; /* a finished pipe */
  do n = f->kind.unix_ ? read_unix(f, buf, size) : read_plain(f, buf, size);
  while (n == -EINTR);
  if (n > 0) t->in_total += (uint64_t)n;
  else if (n == 0) t->peer_done = true;
  else if (n == -EAGAIN) t->readable = false;
  else if (n == -EIO && !f->kind.socket) n = 0; /* a pseudo-terminal whose other side is gone */
  return n;
}

static ssize_t write_some(fdt *f, const struct iovec *iov, int n) {
  if (f->kind.socket) {
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (f->t.last && !f->kind.unix_ ? FIN_FOLLOWS : 0);
    return n == 1 ? send(f->fd, iov->iov_base, iov->iov_len, flags) : sendmsg(f->fd, &m, flags);
  }
  if (!f->kind.blocking) return writev(f->fd, iov, n);
  if (!f->kind.file && !ready(f, POLLOUT)) {
    errno = EAGAIN;
    return -1;
  }
  return write(f->fd, iov->iov_base, np_min(iov->iov_len, f->kind.file ? SIZE_MAX : PIPE_BUF));
}

static ssize_t fd_writev(np_transport *t, const struct iovec *iov, int n) {
  fdt *f = self(t);
  struct iovec one = {iov->iov_base, np_min(iov->iov_len, WRITE_CAP)};
  if (WRITE_CAP < INT_MAX) {
    iov = &one;
    n = 1;
  }
  ssize_t r;
  do r = write_some(f, iov, n);
  while (r < 0 && errno == EINTR);
  if (r >= 0) return r;
  if (errno == EAGAIN) t->writable = false;
  return -errno;
}

static ssize_t fd_send_fds(np_transport *t, const char *p, size_t n, const int *fds, int nfds) {
  fdt *f = self(t);
  char control[NP_CMSG_SPACE];
  struct iovec iov = {(char *)p, n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  np_cmsg_put_fds(&m, control, fds, nfds);
  ssize_t r;
  do r = sendmsg(f->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (r < 0 && errno == EINTR);
  if (r < 0 && errno == EAGAIN) t->writable = false;
  return r < 0 ? -errno : r;
}

static void put_back(fdt *f) {
  if (!f->kind.restore) return;
  int flags = fcntl(f->fd, F_GETFL);
  if (flags >= 0) fcntl(f->fd, F_SETFL, flags & ~O_NONBLOCK);
}

static void drop_fd(fdt *f) {
  if (f->fd < 0) return;
  np_poll_remove(f->t.loop, &f->poll, !f->exposed && f->fd > 2);
  put_back(f);
  if (f->fd > 2) close(f->fd);
  f->fd = -1;
}

static int fd_finish(np_transport *t) {
  fdt *f = self(t);
  if (f->kind.write_only && f->fd > 2) drop_fd(f);
  if (!f->kind.socket || f->kind.blocking) return 0;
  return shutdown(f->fd, SHUT_WR) < 0 && errno != ENOTCONN ? -errno : 0;
}

static void fd_want(np_transport *t, int events) { np_poll_want(t->loop, &self(t)->poll, events); }

static int fd_fd(np_transport *t) {
  fdt *f = self(t);
  f->exposed = true;
  return f->fd;
}

/* Not 0, 1, 2, which block, nor terminals and files. */
static int fd_raw(np_transport *t) {
  fdt *f = self(t);
  return (f->kind.socket || f->kind.pipe) && !f->kind.blocking ? f->fd : -1;
}

static bool fd_lingers(np_transport *t) {
  fdt *f = self(t);
  return f->kind.socket && !f->kind.blocking && !f->passed;
}

static void fd_pass(np_transport *t) { self(t)->exposed = self(t)->passed = true; }

static void fd_close(np_transport *t, bool abort) {
  fdt *f = self(t);
  np_fdq_done(&f->fdq);
  if (abort && f->kind.socket && !f->kind.blocking && !f->passed) {
    struct linger rst = {1, 0};
    setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof rst);
  }
  drop_fd(f);
  np_spare_give(t->loop, NP_SPARE_FD, f);
}

static int fd_take(np_transport *t) {
  fdt *f = self(t);
  int fd = f->fd;
  np_poll_remove(t->loop, &f->poll, false);
  np_fdq_done(&f->fdq);
  put_back(f);
  np_spare_give(t->loop, NP_SPARE_FD, f);
  return fd;
}

static struct np_fdq *fd_fdq(np_transport *t) { return &self(t)->fdq; }

static const np_transport_ops unix_ops = {
  .name = "unix",
  .read = fd_read,
  .writev = fd_writev,
  .finish = fd_finish,
  .want = fd_want,
  .fd = fd_fd,
  .raw = fd_raw,
  .close = fd_close,
  .lingers = fd_lingers,
  .pass = fd_pass,
  .take = fd_take,
  .fdq = fd_fdq,
  .send_fds = fd_send_fds,
};
static const np_transport_ops fd_ops = {
  .name = "fd",
  .read = fd_read,
  .writev = fd_writev,
  .finish = fd_finish,
  .want = fd_want,
  .fd = fd_fd,
  .raw = fd_raw,
  .close = fd_close,
  .lingers = fd_lingers,
  .pass = fd_pass,
  .take = fd_take,
};

static void on_poll(np_poll *p, int events) {
  fdt *f = np_container(p, fdt, poll);
  if (events & NP_READABLE) f->t.readable = true;
  if (events & NP_WRITABLE) f->t.writable = true;
  if (events & (NP_HANGUP | NP_ERROR)) f->hangup = true;
  /* Level-triggered watchers: what was told is not wanted again until somebody says so. */
  np_poll_want(f->t.loop, p, p->want & ~events);
  f->t.notify(&f->t, events);
}

int np_transport_fd(np_loop *l, int fd, const np_fdkind *kind, np_transport **out) {
  fdt *f = np_spare_take(l, NP_SPARE_FD, sizeof *f);
  if (!f) {
    if (fd > 2) close(fd);
    return -ENOMEM;
  }
  f->t.ops = kind->unix_ ? &unix_ops : &fd_ops;
  f->t.at_once = kind->unix_ ? 0 : TCP_AT_ONCE;
  f->t.loop = l;
  f->t.writable = true;
  f->t.readable = kind->file || kind->blocking || kind->eager;
  f->kind = *kind;
  f->fd = fd;
  np_poll_init(&f->poll, on_poll);
  int r = kind->file ? 0
                     : np_poll_add(l, &f->poll, fd, kind->blocking ? 0 : NP_READABLE,
                                   kind->blocking ? NP_POLL_LEVEL : 0);
  if (r == -EPERM) { /* /dev/null and its like */
    f->kind.file = f->t.readable = true;
    r = 0;
  }
  if (r < 0) {
    if (fd > 2) close(fd);
    np_spare_give(l, NP_SPARE_FD, f);
    return r;
  }
  *out = &f->t;
  return 0;
}
