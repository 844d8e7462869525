/* Streams, the descriptors that came with the bytes (AF_UNIX): which lie before the first unread
 * byte, and taking those that are next.  Nothing here reads. */
#include "core/stream_impl.h"

/* The position in the stream of the first unread byte; bytes put back may lie before its
 * beginning. */
static int64_t position(const np_stream *s) { return (int64_t)s->t->in_total - (int64_t)s->in_len; }

void np_stream_drop_fds(np_stream *s, np_fdq *q) {
  if (position(s) > 0) np_fdq_drop(q, (uint64_t)position(s));
}

size_t np_stream_barrier(np_stream *s) {
  struct np_fdq *q = np_transport_fdq(s->t);
  if (!q || q->len == 0) return SIZE_MAX;
  return (size_t)((int64_t)q->items[q->head].end - position(s));
}

int np_stream_take_fds(np_stream *s, int *fds, int max) {
  struct np_fdq *q = np_transport_fdq(s->t);
  int n = np_fdq_first(q);
  if (n <= max) np_fdq_take(q, fds, n);
  return n;
}

int np_stream_fd_trouble(np_stream *s) {
  struct np_fdq *q = np_transport_fdq(s->t);
  int code = q ? q->trouble : 0;
  if (q) q->trouble = 0;
  return code;
}

unsigned np_stream_fds_dropped(np_stream *s) {
  struct np_fdq *q = np_transport_fdq(s->t);
  unsigned n = q ? q->dropped : 0;
  if (q) q->dropped = 0;
  return n;
}
