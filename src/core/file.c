/* A regular file as a transport (see file.h): each read is a request to the threads, for a piece
 * that the stream then takes as it likes. */
#include "core/file.h"

#include <stdlib.h>
#include <string.h>

#include "core/stream_impl.h"

#ifdef NP_HARD
enum { PIECE = 5, PIECE_MAX = 50 };
#else
enum { PIECE = 64 << 10, PIECE_MAX = 256 << 10 }; /* grows while reading goes on */
#endif

typedef struct filet {
  np_transport t;
  np_fsfile *file;
  np_fsreq *req; /* at work; NULL: none */
  char *ahead;   /* read and not taken: ahead[off..len) */
  size_t off, len;
  int64_t next; /* where the next piece begins */
  size_t piece;
  int code; /* 1: nothing to tell; 0: the end was met; or a failure */
} filet;

static filet *self(np_transport *t) { return np_container(t, filet, t); }

static void drop_ahead(filet *f) {
  free(f->ahead);
  f->ahead = NULL;
  f->off = f->len = 0;
}

static void on_answer(void *owner) {
  filet *f = owner;
  np_fsreq *r = f->req;
  f->req = NULL;
  if (r->result > 0) {
    f->ahead = r->data;
    f->len = (size_t)r->result;
    f->next += r->result;
    r->data = NULL;
  } else {
    f->code = (int)r->result;
  }
  np_fs_free(r);
  f->t.readable = true;
  f->t.notify(&f->t, NP_READABLE);
}

static int ask(filet *f) {
  np_fsreq *r = np_fs_new(NP_FS_READ, NULL, NULL);
  if (!r) return -ENOMEM;
  r->file = np_fsfile_ref(f->file);
  r->at = f->next;
  r->len = f->piece;
  f->piece = np_min(2 * f->piece, PIECE_MAX);
  int code = np_fs_start(f->t.loop, r, on_answer, f);
  if (code == 0) f->req = r;
  return code;
}

static ssize_t file_read(np_transport *t, void *buf, size_t size) {
  filet *f = self(t);
  if (f->len > 0) {
    size_t n = np_min(size, f->len - f->off);
    memcpy(buf, f->ahead + f->off, n);
    f->off += n;
    if (f->off == f->len) drop_ahead(f);
    t->in_total += n;
    return (ssize_t)n;
  }
  int code = f->code;
  f->code = 1;
  if (code < 1) return code;
  if (!f->req && (code = ask(f)) < 0) return code;
  t->readable = false;
  return -EAGAIN;
}

static ssize_t file_writev(np_transport *t, const struct iovec *iov, int n) {
  (void)t, (void)iov, (void)n;
  return -EBADF;
}

static void file_close(np_transport *t, bool abort) {
  filet *f = self(t);
  (void)abort;
  if (f->req) np_fs_free(f->req);
  drop_ahead(f);
  np_fsfile_drop(t->loop, f->file);
  free(f);
}

static const np_transport_ops ops = {
  .name = "file", .read = file_read, .writev = file_writev, .close = file_close};

int np_file_transport(np_loop *l, np_fsfile *file, np_transport **out) {
  filet *f = calloc(1, sizeof *f);
  if (!f) return -ENOMEM;
  *f = (filet){.t = {.ops = &ops, .loop = l, .readable = true, .writable = true},
               .file = np_fsfile_ref(file),
               .piece = PIECE,
               .code = 1};
  *out = &f->t;
  return 0;
}

int64_t np_file_position(np_stream *s) {
  filet *f = self(s->t);
  return f->next - (int64_t)(f->len - f->off) - (int64_t)s->in_len;
}

static void forget_end(np_stream *s) {
  s->eof = s->t->peer_done = false;
  s->rerror = 0;
  s->t->readable = true;
}

void np_file_seek(np_stream *s, int64_t at) {
  filet *f = self(s->t);
  if (s->in_len > 0) np_stream_consume(s, s->in_len);
  if (f->req) np_fs_free(f->req);
  f->req = NULL;
  drop_ahead(f);
  f->code = 1;
  if (at != f->next) f->piece = PIECE;
  f->next = at;
  forget_end(s);
}

void np_file_again(np_stream *s) {
  if (s->eof && s->in_len == 0) forget_end(s);
}
