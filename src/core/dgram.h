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
  NP_DGRAM_ERROR = 4, /* np_dgram_recv_error is worth calling */
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

/* What may go with messages besides their bytes. */
typedef struct np_sendwith {
  const int *fds; /* AF_UNIX: duplicated by the kernel */
  int nfds;
  np_sockaddr from; /* IP: the sender's address, as np_dgram_map makes it; len 0: by the route */
  unsigned ifindex; /* IP: the interface; 0: by the route */
  int ttl, tos;     /* IP: -1: the socket's */
} np_sendwith;

/* Sends one message, whole or not at all: to NULL: the connected peer; with NULL: nothing.  0 done;
 * 1: no room, NP_DGRAM_WRITE will tell; or -errno. */
int np_dgram_send(np_dgram *d, const void *p, size_t n, const np_sockaddr *to,
                  const np_sendwith *with);

/* ---- several at once (dgram_batch.c) ---- */

enum { NP_BATCH_MAX = 1024 }; /* messages in one call: the kernel's own limit (UIO_MAXIOV) */

/* Receives up to n messages of up to `max` bytes each, as many as are there; n times max is at most
 * NP_BATCH_BYTES. >0: how many np_dgram_next will give; others as np_dgram_recv.  A record socket
 * gives one. Their bytes stay until the next call that receives; the memory stays with the
 * socket. */
#define NP_BATCH_BYTES ((size_t)64 << 20)
int np_dgram_recv_batch(np_dgram *d, size_t max, int n);

/* The next of them into *m; at most `max` bytes. False: there is none. */
bool np_dgram_next(np_dgram *d, size_t max, np_message *m);

typedef struct np_outgoing {
  const void *p;
  size_t n;
  const np_sockaddr *to; /* NULL: the connected peer */
} np_outgoing;

enum { NP_SEND_BATCH = 64 }; /* what one call takes */

/* Sends m[0..n), n from 1 to NP_SEND_BATCH, in order: how many were sent (more than 0); 0: no room,
 * NP_DGRAM_WRITE will tell; -errno: the first could not be sent.  Messages of one size in a row to
 * one address leave as one with UDP_SEGMENT, where the kernel has it. */
int np_dgram_send_batch(np_dgram *d, const np_outgoing *m, int n, const np_sendwith *with);

/* ---- what came with them (dgram_info.c) ---- */

/* Turns on what np_message.with tells of IP and captured packets: the address it was sent to,
 * interface, TTL, TOS, time. */
int np_dgram_want_info(np_dgram *d);

/* Its options were changed: looks again what may come with its messages. */
void np_dgram_look(np_dgram *d);

/* What np_dgram_send wants as an address of this socket: IPv4 as IPv4-mapped on an IPv6 socket. */
void np_dgram_map(const np_dgram *d, np_sockaddr *a);

/* The address a message was sent to (when w->has_to), with the port of this socket. */
void np_dgram_sent_to(const np_dgram *d, const np_ancillary *w, np_sockaddr *out);

/* ---- the error queue (dgram_error.c) ---- */

enum { NP_ERROR_DATA = 256 }; /* bytes kept of a message that failed: enough to recognise it */

typedef enum np_erroneous { NP_BY_US = 1, NP_BY_ICMP = 2, NP_BY_ICMP6 = 3 } np_erroneous;

typedef struct np_dgram_error {
  int code;              /* -ECONNREFUSED, -EHOSTUNREACH, -EMSGSIZE ... */
  np_erroneous origin;   /* who said it */
  uint8_t type, subtype; /* of the ICMP message */
  uint32_t mtu;          /* of -EMSGSIZE: what would have passed; else 0 */
  np_sockaddr to;        /* where the message was sent */
  np_sockaddr from;      /* who reported; len 0: nobody but us */
  size_t len;            /* of data: the beginning of the message */
  char data[NP_ERROR_DATA];
} np_dgram_error;

/* From now on ICMP errors of any message come by np_dgram_recv_error, not by recv and send
 * (IP_RECVERR). The newest 64 are kept. */
int np_dgram_want_errors(np_dgram *d);

/* 1: *e is the next.  0: none yet, NP_DGRAM_ERROR will tell.  -EOPNOTSUPP: not asked for. */
int np_dgram_recv_error(np_dgram *d, np_dgram_error *e);

/* How many wait; calls that send or receive may have found some without an event. */
int np_dgram_errors(const np_dgram *d);

void np_dgram_close(np_dgram *d);
int np_dgram_take(
  np_dgram *d); /* moves the descriptor out, in the mode it came in; the object is gone */

int np_dgram_fd(const np_dgram *d);
int np_dgram_domain(const np_dgram *d); /* AF_* */
np_scheme np_dgram_scheme(const np_dgram *d);
bool np_dgram_records(const np_dgram *d); /* SOCK_SEQPACKET */
np_object *np_dgram_object(np_dgram *d);

#endif
