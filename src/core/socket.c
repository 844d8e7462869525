/* Sockets: made, set up, bound and connected by ourselves, non-blocking and close-on-exec from
 * birth.
 *
 * The one idea: whoever gets a descriptor from here gets it ready to use, and a failure at any step
 * leaves nothing behind, neither a descriptor nor a file.  It waits for nothing and watches
 * nothing. */
#include "core/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "core/local.h"

#ifndef SOCK_CLOEXEC /* macOS: the flags are set a moment later, so a fork in between leaks */
static int set_flags(int fd) {
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0) return fd;
  int e = errno;
  close(fd);
  return -e;
}
#endif

int np_socket(int domain, int type, int protocol) {
#ifdef SOCK_CLOEXEC
  int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) return -errno;
#else
  int fd = socket(domain, type, protocol);
  if (fd < 0) return -errno;
  if ((fd = set_flags(fd)) < 0) return fd;
#endif
#ifdef SO_NOSIGPIPE
  setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &(int){1}, sizeof(int));
#endif
  /* A stream joins what a task wrote before it waits, so Nagle's algorithm could only delay.
   * Accepted sockets inherit this from the listener. */
  if (type == SOCK_STREAM && (domain == AF_INET || domain == AF_INET6))
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
#ifdef SO_PASSCRED
  if (domain == AF_UNIX && type == SOCK_SEQPACKET)
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
#endif
  return fd;
}

int np_socket_accept(int fd, np_sockaddr *peer) {
  peer->len = sizeof peer->ss;
#ifdef SOCK_CLOEXEC
  int c = accept4(fd, (struct sockaddr *)&peer->ss, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return c < 0 ? -errno : c;
#else
  int c = accept(fd, (struct sockaddr *)&peer->ss, &peer->len);
  return c < 0 ? -errno : set_flags(c);
#endif
}

static int fail(int fd, int code) {
  close(fd);
  return code;
}

static int set_options(int fd, const np_setopt *opts, int n, const char **bad) {
  for (int i = 0; i < n; i++) {
    int r = np_option_set(fd, opts[i].opt, &opts[i].val);
    if (r < 0) {
      if (bad) *bad = opts[i].opt->name;
      return r;
    }
  }
  return 0;
}

int np_socket_bind(int type, const np_sockaddr *at, const np_bindopts *o, const char **bad) {
  int family = at->ss.ss_family;
  int fd = np_socket(family, type, o->protocol);
  if (fd < 0) return fd;
  if (type == SOCK_STREAM && family != AF_UNIX) /* a restart must not wait for TIME_WAIT */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  int r = set_options(fd, o->opts, o->nopts, bad);
  if (r < 0) return fail(fd, r);
  r = np_local_bind(fd, type, at, o);
  if (r < 0) return fail(fd, r);
  if (o->backlog > 0 && listen(fd, o->backlog) != 0) {
    r = -errno;
    if (np_local_path(at)) unlink(np_local_path(at));
    return fail(fd, r);
  }
  return fd;
}

int np_socket_connect(int type, const np_sockaddr *to, const np_sockaddr *from,
                      const np_setopt *opts, int nopts, bool *pending, const char **bad) {
  *pending = false;
  int fd = np_socket(to->ss.ss_family, type, 0);
  if (fd < 0) return fd;
  int r = set_options(fd, opts, nopts, bad);
  if (r < 0) return fail(fd, r);
  if (from && (r = np_local_bind(fd, type, from, NULL)) < 0) return fail(fd, r);
  /* After EINTR it may be under way: asking again tells (EALREADY, EISCONN). */
  do r = connect(fd, (const struct sockaddr *)&to->ss, to->len) == 0 ? 0 : -errno;
  while (r == -EINTR);
  if (r == 0 || r == -EISCONN) return fd;
  *pending = r == -EINPROGRESS || r == -EALREADY;
  if (*pending) return fd;
  /* EAGAIN is a failure: no event would tell when to try again.  On AF_UNIX the backlog is full;
   * elsewhere it is a shortage of the kernel's (connect(2): the routing cache). */
  return fail(fd, r == -EAGAIN && to->ss.ss_family != AF_UNIX ? -ENOBUFS : r);
}

int np_socket_join(int fd, const np_sockaddr *to) {
  return connect(fd, (const struct sockaddr *)&to->ss, to->len) == 0 ? 0 : -errno;
}

int np_socket_connected(int fd) {
  int e = 0;
  socklen_t n = sizeof e;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0) return -errno;
  return -e;
}

int np_socket_local(int fd, np_sockaddr *out) {
  out->len = sizeof out->ss;
  return getsockname(fd, (struct sockaddr *)&out->ss, &out->len) == 0 ? 0 : -errno;
}

int np_socket_peer(int fd, np_sockaddr *out) {
  out->len = sizeof out->ss;
  return getpeername(fd, (struct sockaddr *)&out->ss, &out->len) == 0 ? 0 : -errno;
}

int np_socket_domain(int fd) {
#ifdef SO_DOMAIN
  int domain = 0;
  socklen_t n = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 ? domain : -errno;
#else
  np_sockaddr a;
  int r = np_socket_local(fd, &a);
  return r < 0 ? r : a.ss.ss_family;
#endif
}

int np_socket_type(int fd) {
  int type = 0;
  socklen_t n = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 ? type : -errno;
}

int np_socket_protocol(int fd) {
  int protocol = 0;
#ifdef SO_PROTOCOL
  socklen_t n = sizeof protocol;
  if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) != 0) return -errno;
#endif
  return protocol;
}

int np_socket_scheme(int fd) {
  int domain = np_socket_domain(fd), type = np_socket_type(fd);
  if (domain < 0) return domain;
  return type < 0 ? type : np_scheme_of(domain, type, np_socket_protocol(fd));
}

bool np_socket_listens(int fd) {
  int yes = 0;
  socklen_t n = sizeof yes;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &n) == 0 && yes;
}

int np_socket_pair(int type, int fds[2]) {
#ifdef SOCK_CLOEXEC
  if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) return -errno;
#else
  if (socketpair(AF_UNIX, type, 0, fds) != 0) return -errno;
  int r = set_flags(fds[0]);
  if (r < 0) return fail(fds[1], r);
  if ((r = set_flags(fds[1])) < 0) return fail(fds[0], r);
#endif
#ifdef SO_PASSCRED
  if (type == SOCK_SEQPACKET)
    for (int i = 0; i < 2; i++) setsockopt(fds[i], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
#endif
  return 0;
}

int np_unblock(int fd, bool *was_blocking) {
  *was_blocking = false;
  if (fd <= 2) return 0; /* shared with whoever started us, a shell perhaps */
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  *was_blocking = !(flags & O_NONBLOCK);
  return !*was_blocking || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : -errno;
}

void np_reblock(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags >= 0) fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}
