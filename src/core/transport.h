/* A transport moves bytes for a stream: a descriptor, memory, or a layer over another transport.
 *
 * Readiness works the same for all: `readable` and `writable` say "try"; a call that answers
 * -EAGAIN clears its flag, and the transport calls `notify` when it is worth trying again. notify
 * is never called from inside a call of the transport.  A layer owns the transport beneath it. */
#ifndef NP_TRANSPORT_H
#define NP_TRANSPORT_H

#include <sys/uio.h>

#include "core/loop.h"
#include "core/poll.h"

typedef struct np_transport np_transport;

typedef struct np_transport_ops {
  const char *name; /* "tcp", "unix", "mem", "tls", "fault" */

  /* Bytes read (> 0), 0 at the end, -EAGAIN (t->readable is false now), or a failure. May clear
   * t->readable after a short read that is known to have emptied the source. */
  ssize_t (*read)(np_transport *t, void *buf, size_t size);

  /* Bytes written (> 0), -EAGAIN (t->writable is false now), or a failure. */
  ssize_t (*writev)(np_transport *t, const struct iovec *iov, int n);

  /* Ends the writing direction (FIN, close_notify). 0 done, -EAGAIN: again when writable, or a
   * failure. */
  int (*finish)(np_transport *t);

  /* Names the directions (NP_READABLE | NP_WRITABLE) the stream waits for now; a level-triggered
   * watcher and layers need it. */
  void (*want)(np_transport *t, int events);

  /* Bytes inside that will cause no event (a TLS record's rest); NULL: never any. */
  size_t (*pending)(np_transport *t);

  /* The descriptor, -1 if there is none. NULL: none. */
  int (*fd)(np_transport *t);

  /* The descriptor that the kernel may move bytes to and from by itself, past this transport
   * (splice, sendfile); -1 or NULL: bytes must go through read and writev. */
  int (*raw)(np_transport *t);

  /* Frees everything. `abort`: with RST where there is such a thing. */
  void (*close)(np_transport *t, bool abort);

  /* True if an unread reply could be lost by closing now: closing lingers until the peer's FIN.
   * NULL: no. */
  bool (*lingers)(np_transport *t);

  /* A layer that has failed by itself, over a transport that has not: frees itself alone, gives the
   * transport beneath and, in *last (the caller frees it), what that has yet to send: an alert.
   * NULL, and a result of NULL: there is no such thing, and nothing happened. */
  np_transport *(*peel)(np_transport *t, char **last, size_t *len);

  /* Gives the descriptor away and frees the transport; NULL: cannot be taken (-EOPNOTSUPP). */
  int (*take)(np_transport *t);

  /* See np_transport_pass. NULL: there is nothing to pass. */
  void (*pass)(np_transport *t);

  /* Why the last call failed, where a code says too little; NULL, and a result of NULL: it says
   * enough. */
  const char *(*reason)(np_transport *t);

  /* AF_UNIX: the queue of descriptors that came with the bytes, and sending some. NULL: carries
   * none. */
  struct np_fdq *(*fdq)(np_transport *t);
  ssize_t (*send_fds)(np_transport *t, const char *p, size_t n, const int *fds, int nfds);
} np_transport_ops;

struct np_transport {
  const np_transport_ops *ops;
  np_loop *loop;
  void (*notify)(np_transport *t, int events); /* set by whoever sits on top */
  void *above;                                 /* the stream or layer on top */
  bool readable, writable;                     /* worth trying */
  bool peer_done;                              /* the peer's end was seen (FIN, close) */
  bool inside;                                 /* only this process moves its bytes */
  bool last; /* set before writev: its bytes are the last ones, finish follows when they are out */
  uint64_t in_total; /* bytes read so far */
  size_t at_once;    /* the best size of a read into the loop's scratch; 0: all of it */
};

/* A descriptor as a transport (core/fd.c): stream sockets, pipes, terminals, regular files,
 * character devices. */
typedef struct np_fdkind {
  const char *name; /* "tcp", "unix", "pipe", "tty", "file" */
  bool socket;      /* send and recv apply */
  bool unix_;       /* AF_UNIX: read by recvmsg, descriptors may come */
  bool eager;       /* bytes may be here already: reading is tried before waiting */
  bool pipe;        /* a pipe or FIFO */
  bool file;        /* never polls: always ready */
  bool blocking;    /* 0, 1, 2: left in blocking mode, asked by poll(2) before each call */
  bool restore;     /* O_NONBLOCK was not set when it came to us: take and close put that back */
  bool write_only;  /* a pipe's writing end: finishing is closing */
} np_fdkind;

/* Asks the kernel what fd is and prepares it (non-blocking, except 0, 1, 2). 0; -EPROTOTYPE: a
 * socket that is not a stream; -EINVAL: a listener; -EISDIR; or -errno. */
int np_fdkind_of(int fd, np_fdkind *out);

/* Assumes ownership of fd, also on failure. */
int np_transport_fd(np_loop *l, int fd, const np_fdkind *kind, np_transport **out);

/* The descriptor is about to be given to another process as well: closing ours must not end the
 * connection (no FIN, no RST, no lingering). */
static inline void np_transport_pass(np_transport *t) {
  if (t->ops->pass) t->ops->pass(t);
}

/* The last failure in its own words; NULL: its code says enough. */
static inline const char *np_transport_reason(np_transport *t) {
  return t->ops->reason ? t->ops->reason(t) : NULL;
}

/* The descriptors that came with the bytes; NULL: this transport carries none. */
static inline struct np_fdq *np_transport_fdq(np_transport *t) {
  return t->ops->fdq ? t->ops->fdq(t) : NULL;
}

/* A connected pair of memory transports (core/mem.c), each direction holding at most `cap`
 * bytes. */
int np_transport_mem(np_loop *l, size_t cap, np_transport *out[2]);

#endif
