/* A file's bytes to a stream (see sendfile.h). */
#include "core/sendfile.h"

#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/sendfile.h>
#endif

#include "core/splice.h"
#include "core/stream_impl.h"

enum { COPY = 64 << 10 }; /* with NP_WRITE_LOW before it, it fits into the queue */

/* Where bytes go by themselves nothing may be queued before them. */
static int room(np_stream *s, bool raw) {
  int r = raw ? np_stream_flush(s) : np_stream_write_end(s);
  return r == 1 ? -EAGAIN : r;
}

#ifdef __linux__

/* What sendfile says of the file, not of the stream. */
static bool files_fault(int err) {
  static const int codes[] = {EIO, EBADF, EISDIR, EACCES, EOVERFLOW, ENOMEM, ESTALE};
  for (size_t i = 0; i < np_countof(codes); i++)
    if (err == codes[i]) return true;
  return false;
}

static ssize_t send_raw(np_stream *s, int to, int fd, uint64_t *at, size_t n) {
  off_t off = (off_t)*at;
  ssize_t r;
#ifdef NP_HARD
  n = np_min(n, 1);
#endif
  if (!s->t->writable) r = -EAGAIN;
  else do {
      r = sendfile(to, fd, &off, n);
      if (r < 0) r = -errno;
    } while (r == -EINTR);
  if (r > 0) {
    *at += (uint64_t)r;
    s->out_total += (uint64_t)r;
    np_loop_move(s->t->loop, (size_t)r);
  } else if (r == -EAGAIN) {
    s->t->writable = false;
    s->flush_waits = true;
    np_stream_want_now(s);
  } else if (r == -EINVAL || r == -ENOSYS) {
    r = NP_SPLICE_REFUSED;
  } else if (r < 0 && !files_fault((int)-r)) {
    s->werror = (int)r;
  }
  return r;
}

#else

static ssize_t send_raw(np_stream *s, int to, int fd, uint64_t *at, size_t n) {
  (void)s, (void)to, (void)fd, (void)at, (void)n;
  return NP_SPLICE_REFUSED;
}

#endif

static ssize_t send_copy(np_stream *s, int fd, uint64_t *at, size_t n) {
  char *bytes = malloc(np_min(n, COPY));
  if (!bytes) return -ENOMEM;
  ssize_t r;
  do r = pread(fd, bytes, np_min(n, COPY), (off_t)*at);
  while (r < 0 && errno == EINTR);
  if (r < 0) r = -errno;
  if (r > 0) {
    struct iovec iov = {bytes, (size_t)r};
    int w = np_stream_write(s, &iov, 1);
    if (w == 1) np_stream_settle(s, SIZE_MAX); /* a hub's message was before it */
    if (w < 0) r = w;
    else *at += (uint64_t)r;
  }
  free(bytes);
  return r;
}

ssize_t np_stream_send_file(np_stream *s, int fd, uint64_t *at, uint64_t n) {
  if (s->werror) return s->werror;
  if (s->fin) return -EPIPE;
  int to = np_splice_raw(s);
  uint64_t sent = 0;
  ssize_t r = 1;
  while (sent < n && r > 0) {
    r = room(s, to >= 0);
    if (r < 0) break;
    size_t piece = (size_t)(n - sent < NP_FILE_PIECE ? n - sent : NP_FILE_PIECE);
    r = to >= 0 ? send_raw(s, to, fd, at, piece) : send_copy(s, fd, at, piece);
    if (r > 0) sent += (uint64_t)r;
    if (r != NP_SPLICE_REFUSED) continue;
    to = -1;
    r = 1;
  }
  return sent > 0 && !s->werror ? (ssize_t)sent : r;
}

void np_stream_breathe(np_stream *s) {
  s->flush_waits = true;
  np_later_add(s->obj.loop, &s->flush);
}
