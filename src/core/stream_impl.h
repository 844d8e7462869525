/* The stream's inside, for stream.c (reading), stream_out.c (writing), stream_fds.c (descriptors)
 * and linger.c (closing) alone. */
#ifndef NP_STREAM_IMPL_H
#define NP_STREAM_IMPL_H

#include "core/fdq.h"
#include "core/stream.h"
#include "core/timer.h"

#ifdef NP_HARD
enum { NP_CHUNK_MIN = 3, NP_OWN_MIN = 1, NP_SCRATCH_USE = 7 };
#else
enum {
  NP_CHUNK_MIN = 960, /* with its head within malloc's quick bins: most answers fit one */
  NP_OWN_MIN = 64,
  NP_SCRATCH_USE = NP_SCRATCH_SIZE
};
#endif

/* A piece of the output queue: copied bytes, or a count on shared ones. */
typedef struct np_chunk {
  struct np_chunk *next;
  const char *p;        /* data, or the payload's */
  size_t off, len, cap; /* unsent bytes are p[off..len); cap 0: shared */
  np_payload *shared;
  char data[];
} np_chunk;

struct np_stream {
  np_object obj;
  np_transport *t;
  np_stream_fn *fn; /* NULL: closed by its owner, lingering */
  void *owner;

  /* Input: unread bytes are in[in_off .. in_off + in_len), in `own` or, during an event, in the
   * loop's scratch. */
  char *in, *own;
  size_t in_off, in_len, own_cap;
  uint32_t moves; /* np_stream_moves */
  np_lease lease;
  np_cond *want; /* what the waiting reader waits for; NULL: nobody waits */
  np_cond *met;  /* conditions answered in an event, not yet asked for again */
  int nwant;
  int at_cond;    /* of these, how many are met already ... */
  size_t at_byte; /* ... and where the next one begins */

  /* Output: queued chunks, then the pieces of the writer that waits. */
  np_chunk *out, *out_last;
  struct iovec *ext; /* the waiting writer's pieces, in its memory */
  int ext_at, ext_n;
  size_t out_len, ext_len;
  np_later flush; /* at the end of the slice that wrote */
  np_later again; /* a long read goes on in the next turn */
  uint64_t out_total;

  int rerror, werror; /* 0, or what that direction answers for ever */
  bool eof;           /* the transport said 0 */
  bool fin, fin_sent; /* shutdown was asked; is done */
  bool write_waits, flush_waits;
  bool ready_waits; /* to hear that the transport is readable, which reads nothing (splice.c) */

  np_node linger; /* on the loop's lingerers once closed */
  np_timer timer; /* the lingerer's */
  uint64_t linger_end_ns;
};

/* Sends what it can; tells waiters. Never calls the owner while `quiet`. */
void np_stream_push_out(np_stream *s, bool quiet);
void np_stream_drop_out(np_stream *s);
void np_stream_settle(np_stream *s, size_t most);
void np_stream_want_now(np_stream *s);
bool np_stream_may_read(np_stream *s); /* a read of the transport is worth a try */
void np_stream_free(np_stream *s, bool abort);
void np_stream_drop_fds(np_stream *s, np_fdq *q); /* those that unread bytes have passed */
void np_linger_event(np_stream *s);
/* Readable, and nobody waits for bytes. */
void np_splice_ready(np_stream *s);
static inline size_t np_stream_unsent(const np_stream *s) { return s->out_len + s->ext_len; }
/* Something may be done as soon as the transport takes bytes again: send, finish, tell a waiting
 * send_fds. */
static inline bool np_stream_wants_out(const np_stream *s) {
  return np_stream_unsent(s) > 0 || s->flush_waits || (s->fin && !s->fin_sent && !s->werror);
}

#endif
