/* Moving bytes from one stream to another inside the kernel: splice(2) through a pipe of ours.
 *
 * A pipe is lent while bytes are on their way and is empty before it takes more, so that EAGAIN has
 * one meaning. What lies in it when the move ends goes to the destination's queue: it is never
 * lost. The loop keeps few empty pipes, and none once nobody moves. */
#ifndef NP_SPLICE_H
#define NP_SPLICE_H

#include "core/stream.h"

enum {
  NP_SPLICE_PIPES = 64,       /* per loop: two descriptors each, and so many bytes of the kernel */
  NP_SPLICE_MOST = 256 << 10, /* in a pipe: what would fit into a queue (NP_WRITE_HIGH) */
  NP_SPLICE_WORTH = 16 << 10, /* moving less than this costs more than copying it */
};

typedef struct np_splice {
  struct np_splice *next; /* of the idle ones */
  size_t len;             /* bytes inside */
  int fds[2];
} np_splice;

/* Whoever moves says so before and after: 0 or -ENOMEM. */
int np_splice_enter(np_loop *l);
void np_splice_leave(np_loop *l);

/* The descriptor that the kernel may move bytes to by itself; -1: there is a layer, it is no socket
 * or pipe, or SIGPIPE would end the process: splice(2) and sendfile(2) know no MSG_NOSIGNAL. */
int np_splice_raw(np_stream *s);
/* Both have one. */
bool np_splice_can(np_stream *from, np_stream *to);

/* An empty pipe; NULL: NP_SPLICE_PIPES are lent, or there is no descriptor or memory for one. */
np_splice *np_splice_take(np_loop *l);
/* Gives it back; bytes inside are dropped. */
void np_splice_give(np_loop *l, np_splice *p);

/* Into the empty pipe, from a stream without unread bytes: how many, 0 at the end, -EAGAIN (the
 * owner is told by NP_STREAM_READ), NP_SPLICE_REFUSED, or the stream's failure. */
ssize_t np_splice_in(np_splice *p, np_stream *from);
/* Out of the pipe, to a stream with nothing queued: how many, -EAGAIN (NP_STREAM_WRITE tells),
 * NP_SPLICE_REFUSED, or the stream's failure. */
ssize_t np_splice_out(np_splice *p, np_stream *to);
/* The kernel cannot do it with these two: copy. Nothing was moved. */
#define NP_SPLICE_REFUSED (-5020)

/* What is in the pipe goes to the stream's queue: how many bytes, or the failure that the stream
 * has from now on. */
ssize_t np_splice_unload(np_splice *p, np_stream *to);

#endif
