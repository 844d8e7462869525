/* Datagram and record sockets: UDP, AF_UNIX datagrams, SOCK_SEQPACKET, raw.
 *
 * One message in, one message out; nothing is buffered here except a message whose failure had to
 * be told first. A record socket (SOCK_SEQPACKET) is a datagram socket with a peer and an end. */
#ifndef NP_DGRAM_H
#define NP_DGRAM_H

#include "core/cmsg.h"
#include "core/loop.h"
#include "core/socket.h"

typedef struct np_dgram np_dgram;

enum {
  NP_DGRAM_DEFAULT = 64 << 10, /* what a recv takes when not told: any UDP datagram fits */
  NP_DGRAM_MAX = 16 << 20,     /* what it may be told: as NP_READ_MAX of streams */
};

/* What the owner is told; never from inside a call of the socket. */
enum {
  NP_DGRAM_READ = 1,  /* np_dgram_recv is worth calling */
  NP_DGRAM_WRITE = 2, /* np_dgram_send is worth calling */
};
typedef void np_dgram_fn(void *owner, int what);

/* Watches an open socket of these types. Assumes ownership of fd, also on failure. AF_UNIX sockets
 * get SO_PASSCRED, by which alone an empty record can be told from the end; an inherited one is
 * non-blocking until it is closed or taken. */
int np_dgram_new(np_loop *l, int fd, np_dgram **out);
void np_dgram_own(np_dgram *d, np_dgram_fn *fn, void *owner);

typedef struct np_message {
  const char *data; /* valid until the end of the event or the next call */
  size_t len;
  size_t full;       /* the length it was sent with: more than len when it did not fit */
  np_sockaddr from;  /* len 0: an unnamed socket, or a connected one that is not told */
  np_ancillary with; /* its descriptors belong to the caller */
} np_message;

/* Receives into *m at most `max` bytes.  1: a message.  0: none yet, NP_DGRAM_READ will tell.
 * NP_COND_END: the end of a record socket.  -ECONNREFUSED and the like: told once each, the socket
 * goes on.  -EMFILE, -EMSGSIZE: the descriptors of a message could not all be had and were closed;
 * the next call gives its bytes. */
int np_dgram_recv(np_dgram *d, size_t max, np_message *m);

/* Sends one message, whole or not at all: to NULL: the connected peer.  0 done; 1: no room,
 * NP_DGRAM_WRITE will tell; or -errno. fds are duplicated by the kernel. */
int np_dgram_send(np_dgram *d, const void *p, size_t n, const np_sockaddr *to, const int *fds,
                  int nfds);

/* Turns on what np_message.with tells of UDP: the address it was sent to, interface, TTL. */
int np_dgram_want_info(np_dgram *d);

/* What np_dgram_send wants as an address of this socket: IPv4 as IPv4-mapped on an IPv6 socket. */
void np_dgram_map(const np_dgram *d, np_sockaddr *a);

/* The address a message was sent to (when w->has_to), with the port of this socket. */
void np_dgram_sent_to(const np_dgram *d, const np_ancillary *w, np_sockaddr *out);

void np_dgram_close(np_dgram *d);
int np_dgram_take(
  np_dgram *d); /* moves the descriptor out, in the mode it came in; the object is gone */

int np_dgram_fd(const np_dgram *d);
np_scheme np_dgram_scheme(const np_dgram *d);
bool np_dgram_records(const np_dgram *d); /* SOCK_SEQPACKET */
np_object *np_dgram_object(np_dgram *d);

#endif
