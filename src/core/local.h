/* AF_UNIX sockets: binding to names and paths, and who is at the other end. */
#ifndef NP_LOCAL_H
#define NP_LOCAL_H

#include "core/socket.h"

/* The path of an AF_UNIX address in the file system; NULL for unnamed and abstract ones. */
const char *np_local_path(const np_sockaddr *a);

/* Binds fd: 0 or -errno, and nothing is left behind.  Of other families it is bind(2) alone.  A
 * stale path is replaced; the empty abstract name ("unix:@") and the unnamed address ("unix:") mean
 * a name of the kernel's choice.  Of `o` (NULL: none) counts what is about paths. */
int np_local_bind(int fd, int type, const np_sockaddr *at, const np_bindopts *o);

/* Who connected, or listened (SO_PEERCRED): as it was then. 0 or -errno; -ENODATA: no peer, or not
 * AF_UNIX. */
int np_local_credentials(int fd, np_cred *out);

/* The peer's supplementary groups (SO_PEERGROUPS): their number, of which at most max are in out;
 * or -errno: -ENOPROTOOPT before Linux 4.13 and elsewhere. */
int np_local_groups(int fd, gid_t *out, int max);

/* A new pidfd of the peer's process (SO_PEERPIDFD), close-on-exec; it stays that of this process
 * whatever becomes of its number.  Or -errno: -ENOPROTOOPT before Linux 6.5 and elsewhere. */
int np_local_pidfd(int fd);

/* The peer's security label (SO_PEERSEC), terminated: 0 or -errno; -ENOPROTOOPT: none is in use. */
int np_local_label(int fd, char *buf, size_t size);

#endif
