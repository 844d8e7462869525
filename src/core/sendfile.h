/* A file's bytes to a stream, without passing through the script: sendfile(2) where the stream is a
 * plain descriptor, else read and write.
 *
 * A file that is not in memory is read while the loop waits: a piece is at most NP_FILE_PIECE. */
#ifndef NP_SENDFILE_H
#define NP_SENDFILE_H

#include "core/stream.h"

#ifdef NP_HARD
enum { NP_FILE_PIECE = 100, NP_FILE_SLICE = 1000 };
#else
enum {
  NP_FILE_PIECE = 256 << 10, /* one sendfile */
  NP_FILE_SLICE = 1 << 20,   /* then others have their turn: see np_stream_breathe */
};
#endif

/* Sends at most n bytes of the file fd from *at on, after what is queued: their number (*at is
 * moved), 0 at the end of the file, -EAGAIN: wait for NP_STREAM_WRITE. A failure is the stream's
 * (it is broken then) or the file's: `np_stream_error` tells. */
ssize_t np_stream_send_file(np_stream *s, int fd, uint64_t *at, uint64_t n);

/* NP_STREAM_WRITE comes at the end of the running task's slice. */
void np_stream_breathe(np_stream *s);

#endif
