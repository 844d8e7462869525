/* Sockets: made, bound and connected by ourselves, non-blocking and close-on-exec from birth. */
#ifndef NP_SOCKET_H
#define NP_SOCKET_H

#include "core/address.h"
#include "core/cmsg.h"
#include "core/option.h"

/* A new socket (SOCK_NONBLOCK, SOCK_CLOEXEC; TCP_NODELAY; SO_PASSCRED on SOCK_SEQPACKET): fd or
 * -errno. */
int np_socket(int domain, int type, int protocol);

/* Takes one connection off a listening socket's backlog, non-blocking and close-on-exec: fd or
 * -errno. */
int np_socket_accept(int fd, np_sockaddr *peer);

/* Options to apply before bind or connect. */
typedef struct np_setopt {
  const np_option *opt;
  np_optval val;
} np_setopt;

typedef struct np_bindopts {
  const np_setopt *opts; /* applied in order */
  int nopts;
  int backlog;  /* 0: not a listener */
  int protocol; /* 0: what the type means */
  /* AF_UNIX path: permissions and owner, applied at bind without a race; -1: umask and our own
   * ids decide.  With an owner and no mode it is 0660. */
  int mode;
  int64_t uid, gid;
} np_bindopts;

/* Makes, sets up, binds and (backlog > 0) listens: fd or -errno; on failure nothing is left behind.
 * A stale AF_UNIX path (nobody answers on it) is replaced; a live one gives -EADDRINUSE. TCP
 * listeners get SO_REUSEADDR. *bad names the option that failed, if one did. */
int np_socket_bind(int type, const np_sockaddr *at, const np_bindopts *o, const char **bad);

/* Makes, sets up and starts to connect: fd (connected, or in progress when *pending) or -errno. */
int np_socket_connect(int type, const np_sockaddr *to, const np_sockaddr *from,
                      const np_setopt *opts, int nopts, bool *pending, const char **bad);
/* Connects a datagram or record socket, which takes no time: 0 or -errno. */
int np_socket_join(int fd, const np_sockaddr *to);
/* The outcome of a connect that was pending and is writable now: 0 or -errno. */
int np_socket_connected(int fd);

int np_socket_local(int fd, np_sockaddr *out); /* getsockname */
int np_socket_peer(int fd, np_sockaddr *out);  /* getpeername */
int np_socket_scheme(int fd);                  /* np_scheme of an open socket, or negative */
int np_socket_domain(int fd);                  /* AF_*, or -errno (-ENOTSOCK ...) */
int np_socket_type(int fd);                    /* SOCK_*, or -errno */
int np_socket_protocol(int fd);                /* IPPROTO_*, 0 where it is unknown, or -errno */
bool np_socket_listens(int fd);                /* SO_ACCEPTCONN */
int np_socket_pair(int type, int fds[2]);      /* AF_UNIX pair */

/* O_NONBLOCK belongs to the open file description, which inherited and received descriptors share
 * with others. np_unblock sets it, never on 0, 1 and 2, and says whether it was clear; np_reblock
 * clears it again, before such a descriptor is passed on or closed. */
int np_unblock(int fd, bool *was_blocking);
void np_reblock(int fd);

#endif
