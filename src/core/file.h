/* A regular file as a transport, for reading: a stream over it has the core's framing, and no read
 * of a slow disk holds the loop. */
#ifndef NP_FILE_H
#define NP_FILE_H

#include "core/fs.h"
#include "core/stream.h"

/* Reads f, which it counts, from its beginning on. 0 or -ENOMEM. */
int np_file_transport(np_loop *l, np_fsfile *f, np_transport **out);

/* Of a stream over such a transport, without a layer. */

/* Where the next byte is taken from. */
int64_t np_file_position(np_stream *s);
/* Drops what was read ahead, the end and a failure; goes on at `at`. Nobody reads meanwhile. */
void np_file_seek(np_stream *s, int64_t at);
/* A file may have grown: its end is looked for again. */
void np_file_again(np_stream *s);

#endif
