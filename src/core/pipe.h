/* A pipe between two streams: what one receives the other sends, both ways, half-closes passed on.
 *
 * A direction reads only while the other side's queue is below NP_WRITE_LOW, so at most a queue of
 * NP_WRITE_HIGH bytes lies here each way, and works in bounded slices. Between plain descriptors
 * much is moved inside the kernel (core/splice.h): the same bytes, counts and ends. */
#ifndef NP_PIPE_H
#define NP_PIPE_H

#include "core/stream.h"

typedef struct np_pipe np_pipe;

/* Called once, from an event: both directions have ended (0), or the failure that ended it. */
typedef void np_pipe_fn(void *owner, int code);

/* Borrows a and b, whose owners must not use them meanwhile; begins in the loop's next turn. 0 or
 * -ENOMEM. */
int np_pipe_new(np_stream *a, np_stream *b, np_pipe_fn *fn, void *owner, np_pipe **out);

/* Gives the streams back, to `fn` and their owners as np_stream_own has it; bytes that are on the
 * way are queued and stay so. `bytes` (may be NULL): those passed on from a to b, from b to a. */
void np_pipe_free(np_pipe *p, np_stream_fn *fn, void *a_owner, void *b_owner, uint64_t bytes[2]);

#endif
