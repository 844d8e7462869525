/* The datagram socket itself, for the files that make it up. */
#ifndef NP_CORE_DGRAM_IMPL_H
#define NP_CORE_DGRAM_IMPL_H

#include "core/dgram.h"
#include "core/poll.h"
#include "core/timer.h"

typedef struct np_batch np_batch;         /* dgram_batch.c: messages that were received together */
typedef struct np_errorring np_errorring; /* dgram_error.c */

struct np_dgram {
  np_object obj;
  np_poll poll;
  np_dgram_fn *fn;
  void *owner;
  int fd;
  int domain, type;
  int flags; /* of recvmsg: AF_PACKET takes no MSG_CMSG_CLOEXEC */
  np_scheme scheme;
  bool was_blocking;    /* inherited so; put back when it goes */
  bool readable;        /* recvmsg is worth trying */
  bool writable;        /* sendmsg is worth trying */
  bool info;            /* np_dgram_want_info was called */
  bool bare;            /* nothing comes with its messages but who sent them */
  bool ended;           /* the end of records was read */
  bool kept;            /* the batch holds messages that nobody took: they come first */
  bool gso_known;       /* whether it has UDP_SEGMENT was asked */
  int held;             /* a reset that waits until the records before it are read */
  int gso_max;          /* the largest piece UDP_SEGMENT may cut; 0: none */
  np_lease lease;       /* of the scratch buffer that messages land in */
  char *big;            /* the buffer of a message that did not fit there; freed by the next call */
  np_batch *batch;      /* NULL until it is needed; then kept while the socket lives */
  np_errorring *errors; /* NULL: the error queue was not asked for */
  np_timer retry;
  uint32_t retry_ms; /* the next try's distance; 0: none is planned */
};

/* Drops the buffers of the last message. */
void np_dgram_drop(np_dgram *d);

/* Asks to be told of readability: 0, or -errno. */
int np_dgram_wait_readable(np_dgram *d);

/* The same of room for a message to `to`; 1, or -errno. */
int np_dgram_wait_writable(np_dgram *d, const np_sockaddr *to);

/* An IPv4 peer of an IPv6 socket is shown as what it is. */
void np_dgram_unmap(np_sockaddr *a);

/* Puts what goes along to an address of that family into h's control data, which lies in buf
 * (NP_CMSG_SPACE, aligned). */
void np_dgram_put_with(const np_dgram *d, const np_sendwith *with, bool four, struct msghdr *h,
                       void *buf);

/* Whether a message to `to` (NULL: the peer) goes over IPv4. */
bool np_dgram_over_four(const np_dgram *d, const np_sockaddr *to);

/* Keeps a copy of m, which np_dgram_next will give, in pieces if it was joined. The batch must be
 * empty (d->kept is false). 0, or -ENOMEM. */
int np_batch_keep(np_dgram *d, const np_message *m);
void np_batch_free(np_batch *b);

/* Moves what the kernel's error queue holds into the ring; true: there was something. */
bool np_dgram_drain_errors(np_dgram *d);

#endif
