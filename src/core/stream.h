/* Streams: an input buffer, an output queue and a transport. Framing, limits, back-pressure and
 * closing are written once, here; where the bytes go is the transport's matter.
 *
 * A stream has one reader and one writer at a time (the bindings see to it). Reads happen only
 * while somebody waits, so the kernel's window is the back-pressure. */
#ifndef NP_STREAM_H
#define NP_STREAM_H

#include "core/cond.h"
#include "core/transport.h"

typedef struct np_stream np_stream;

/* Sizes, each with its reason. */
enum {
  NP_LINE_MAX =
    64 << 10, /* a delimited read: a peer must not fill memory with a line without an end */
  NP_READ_MAX = 16 << 20,    /* a counted or read-all: the largest single frame by default */
  NP_WRITE_HIGH = 256 << 10, /* write waits above: a few round trips of a fast peer */
  NP_WRITE_LOW = 64 << 10, /* and goes on below: not woken for each segment the peer acknowledges */
  NP_WRITE_DIRECT =
    16 << 10 /* pieces from here on go out from the caller's memory: copying would cost more */
};

/* What the owner is told; never from inside a call of the stream. */
enum {
  NP_STREAM_READ = 1, /* the awaited condition can be answered: call np_stream_read again */
  NP_STREAM_WRITE =
    2, /* the waiting write or flush can be answered: call np_stream_write_end again */
};
typedef void np_stream_fn(void *owner, int what);

/* Bytes shared by the queues of many streams (hub). Made with one count; the last one frees. */
typedef struct np_payload {
  size_t refs, len;
  char data[];
} np_payload;
np_payload *np_payload_new(const char *p, size_t n); /* NULL: no memory */
void np_payload_unref(np_payload *p);

/* A stream over t, which it owns from here on, also on failure. `scheme` is for printing
 * ("tcp"). */
int np_stream_new(np_loop *l, np_transport *t, np_stream **out);
void np_stream_own(np_stream *s, np_stream_fn *fn, void *owner);

/* Answers n conditions in a row over the unread bytes, reading if the transport is ready. Returns
 * 1: all are met, *data points at the unread bytes and each condition's frame lies in it at
 * cond->off (offsets already absolute), until np_stream_consume or another call; 0: not yet,
 * NP_STREAM_READ will tell (the array must live until then or until np_stream_read_abort);
 * NP_COND_END at the end; or a failure. */
int np_stream_read(np_stream *s, np_cond *conds, int n, const char **data);
/* The same for one condition and what is unread already, for who goes on to np_stream_read when it
 * is false: nothing is read then, and nobody waits. */
bool np_stream_have(np_stream *s, np_cond *c, const char **data);
void np_stream_consume(np_stream *s, size_t n);
void np_stream_read_abort(np_stream *s); /* the waiting read is withdrawn; the bytes stay */

/* Changes whenever unread bytes move or go: what np_stream_read gave is valid while it stays. */
uint32_t np_stream_moves(const np_stream *s);

/* The unread bytes that are here already; reads nothing. */
size_t np_stream_peek(np_stream *s, const char **data);
/* Puts bytes before the unread ones. 0 or -ENOMEM. */
int np_stream_unread(np_stream *s, const char *p, size_t n);

/* Queues all pieces or fails with nothing taken. 0: taken, the caller's memory is free. 1: the
 * queue is above NP_WRITE_HIGH; NP_STREAM_WRITE tells when to call np_stream_write_end, and until
 * it returned or the stream was broken the memory of the pieces must stay where it is. */
int np_stream_write(np_stream *s, const struct iovec *iov, int n);
int np_stream_write_shared(np_stream *s,
                           np_payload *p); /* the same for counted bytes; takes its own count */
int np_stream_write_end(np_stream *s);     /* 0 done, 1 wait again, or the failure */
int np_stream_flush(np_stream *s); /* 0 the kernel has everything, 1 wait for NP_STREAM_WRITE */
void np_stream_write_abort(np_stream *s,
                           int code); /* a waiting write is ended: breaks the stream with code */

/* Half-close: what is queued goes out, then FIN. 0 or the failure; idempotent. */
int np_stream_shutdown(np_stream *s);

/* The first half of closing, with the owner still there: what can be sent goes out, the end right
 * behind it. np_stream_close has to follow. */
void np_stream_end(np_stream *s);
/* Hands the rest to the lingerer and forgets the owner: the pointer is gone after this line.
 * Returns 0, or the failure the stream had. */
int np_stream_close(np_stream *s);
/* RST, now. The pointer is gone. */
void np_stream_abort(np_stream *s);
/* Breaks the stream: every later operation answers code. */
void np_stream_fail(np_stream *s, int code);

/* Moves the descriptor out, in the state it is; unread bytes are copied to *rest (malloc'ed, may be
 * NULL). The stream is gone. fd >= 0, or -EOPNOTSUPP (no descriptor), -EBUSY (unsent bytes): then
 * the stream stays. */
int np_stream_take(np_stream *s, char **rest, size_t *rest_len);

/* Layers: takes the top transport out to put a layer over it (set it back, or the layer, before
 * anything else is done with the stream). Unread bytes stay with the stream: np_stream_peek and
 * _consume hand them to the layer. */
np_transport *np_stream_transport(np_stream *s);
void np_stream_set_transport(np_stream *s, np_transport *t);

/* Descriptors that came with the bytes (AF_UNIX). The bytes before the first barrier, then the
 * descriptors there. */
size_t np_stream_barrier(
  np_stream *s); /* unread bytes up to it; SIZE_MAX: no descriptors pending */
/* Moves the descriptors at the barrier out: their number (> max: none was taken). To be called when
 * it is reached. */
int np_stream_take_fds(np_stream *s, int *fds, int max);
int np_stream_fd_trouble(np_stream *s); /* once: -EMFILE or -EMSGSIZE if the kernel dropped some */
unsigned np_stream_fds_dropped(
  np_stream *s); /* descriptors closed because plain reads passed them */

/* Sends all of p[0..n) with descriptors on its first byte, bypassing the queue, which must be
 * empty. > 0: bytes taken (the descriptors went with them), -EAGAIN: wait for NP_STREAM_WRITE
 * (np_stream_flush), or a failure. */
ssize_t np_stream_send_fds(np_stream *s, const char *p, size_t n, const int *fds, int nfds);

/* State. */
int np_stream_error(const np_stream *s);  /* 0 or the failure */
bool np_stream_ended(const np_stream *s); /* the peer's end was read */
size_t np_stream_in(const np_stream *s);  /* unread bytes here */
size_t np_stream_out(const np_stream *s); /* queued bytes */
uint64_t np_stream_total_in(const np_stream *s);
uint64_t np_stream_total_out(const np_stream *s);
int np_stream_fd(const np_stream *s); /* -1: none */
/* The same, to be given to another process too: see np_transport_pass. */
int np_stream_pass_fd(np_stream *s);
bool np_stream_inside(const np_stream *s); /* no event from outside this process concerns it */
np_loop *np_stream_loop(const np_stream *s);
np_object *np_stream_object(np_stream *s);
np_stream *np_stream_of(np_object *o); /* the stream that o is, or NULL: it is something else */

/* Lingerers (core/stream.c): closed streams whose last bytes are on the way. Bounded per loop. */
enum { NP_LINGER_MAX = 1024, NP_LINGER_IDLE_MS = 2000, NP_LINGER_ALL_MS = 10000 };
size_t np_linger_count(np_loop *l);
/* Aborts the oldest lingerer to free its descriptor; false: there is none. */
bool np_linger_shed(np_loop *l);
void np_linger_shutdown(np_loop *l); /* aborts all: the loop goes */

#endif
