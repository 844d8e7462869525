/* zlib behind the steps of zlib.h: the only file that knows its interface.
 *
 * Memory comes from malloc by our own hands, so that a failing one is tried in the specs. What zlib
 * calls Z_BUF_ERROR (no progress was possible) is no error here: the counts say what happened. */
#include "core/zlib.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct np_zlib {
  z_stream s;
  bool deflate;
  bool joined;
  bool gzip;  /* the stream's first byte said so, or the config */
  bool begun; /* a byte was taken since the last end */
  bool ended; /* zlib has said Z_STREAM_END, and was not reset */
  int failed; /* final: 0 or the code */
  np_zlib_format format;
  int window_bits, memory;
  const char *why; /* static */
  size_t dictionary_len;
  char dictionary[];
};

static void *allocate(void *opaque, unsigned n, unsigned size) {
  (void)opaque;
  return calloc(n, size);
}

static void release(void *opaque, void *p) {
  (void)opaque;
  free(p);
}

/* As zlib wants it told (deflateInit2, inflateInit2). */
static int bits_of(np_zlib_format format, int bits) {
  switch (format) {
  case NP_ZLIB_RAW: return -bits;
  case NP_ZLIB_GZIP: return bits + 16;
  case NP_ZLIB_AUTO: return bits + 32;
  default: return bits;
  }
}

static np_zlib *new_zlib(const np_zlib_config *c, bool deflating) {
  np_zlib *z = calloc(1, sizeof *z + c->dictionary_len);
  if (!z) return NULL;
  z->deflate = deflating;
  z->joined = c->joined;
  z->format = c->format;
  z->gzip = c->format == NP_ZLIB_GZIP;
  z->window_bits = deflating && c->window_bits == 8 ? 9 : c->window_bits;
  z->memory = c->memory;
  z->s.zalloc = allocate;
  z->s.zfree = release;
  z->dictionary_len = c->dictionary_len;
  if (c->dictionary_len > 0) memcpy(z->dictionary, c->dictionary, c->dictionary_len);
  return z;
}

/* Where a preset dictionary goes in before anything else; zlib's inflate asks for it later. */
static int preset(np_zlib *z) {
  const Bytef *p = (const Bytef *)z->dictionary;
  uInt n = (uInt)z->dictionary_len;
  int r = Z_OK;
  if (n == 0) return 0;
  if (z->deflate) r = deflateSetDictionary(&z->s, p, n);
  else if (z->format == NP_ZLIB_RAW) r = inflateSetDictionary(&z->s, p, n);
  np_assert(r == Z_OK || r == Z_MEM_ERROR);
  return r == Z_OK ? 0 : -ENOMEM;
}

/* z with its zlib part made (r), or nothing. */
static int opened(np_zlib **out, np_zlib *z, int r) {
  np_assert(r == Z_OK || r == Z_MEM_ERROR);
  if (r != Z_OK) {
    free(z);
    return -ENOMEM;
  }
  r = preset(z);
  if (r < 0) np_zlib_close(z);
  else *out = z;
  return r;
}

int np_zlib_deflate(np_zlib **out, const np_zlib_config *c) {
  np_zlib *z = new_zlib(c, true);
  if (!z) return -ENOMEM;
  return opened(out, z,
                deflateInit2(&z->s, c->level, Z_DEFLATED, bits_of(c->format, z->window_bits),
                             c->memory, (int)c->strategy));
}

int np_zlib_inflate(np_zlib **out, const np_zlib_config *c) {
  np_zlib *z = new_zlib(c, false);
  if (!z) return -ENOMEM;
  return opened(out, z, inflateInit2(&z->s, bits_of(c->format, c->window_bits)));
}

int np_zlib_reset(np_zlib *z) {
  int r = z->deflate ? deflateReset(&z->s) : inflateReset(&z->s);
  np_assert(r == Z_OK);
  z->begun = z->ended = false;
  z->gzip = z->format == NP_ZLIB_GZIP;
  z->why = NULL;
  return z->failed = preset(z);
}

void np_zlib_close(np_zlib *z) {
  if (z->deflate) deflateEnd(&z->s);
  else inflateEnd(&z->s);
  free(z);
}

bool np_zlib_ended(const np_zlib *z) { return z->ended && !z->failed; }

const char *np_zlib_why(const np_zlib *z) { return z->why ? z->why : "malformed"; }

size_t np_zlib_memory(const np_zlib *z) {
  size_t window = (size_t)1 << z->window_bits;
  return sizeof *z + z->dictionary_len +
         (z->deflate ? 4 * window + ((size_t)512 << z->memory) : window + 7168);
}

static int fail(np_zlib *z, int code, const char *why) {
  z->why = why;
  return z->failed = code;
}

/* zlib counts in unsigned ints: what is longer goes in parts. */
static uInt part(size_t n) { return (uInt)np_min(n, INT_MAX); }

static void point(np_zlib *z, const np_zlib_io *io) {
  z->s.next_in = (z_const Bytef *)io->in;
  z->s.avail_in = part(io->in_len);
  z->s.next_out = (Bytef *)io->out;
  z->s.avail_out = part(io->out_len);
}

static void advance(np_zlib *z, np_zlib_io *io) {
  io->in_len -= (size_t)((const char *)z->s.next_in - io->in);
  io->out_len -= (size_t)((char *)z->s.next_out - io->out);
  io->in = (const char *)z->s.next_in;
  io->out = (char *)z->s.next_out;
}

static int deflate_step(np_zlib *z, np_zlib_io *io, np_zlib_flush flush) {
  static const int how[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_FINISH};
  np_assert(io->out_len >= NP_ZLIB_ROOM);
  if (z->ended) return NP_ZLIB_END;
  do {
    point(z, io);
    bool last = z->s.avail_in == io->in_len;
    int r = deflate(&z->s, last ? how[flush] : Z_NO_FLUSH);
    np_assert(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
    advance(z, io);
    if (r == Z_STREAM_END) {
      z->ended = true;
      return NP_ZLIB_END;
    }
    if (io->out_len == 0) return NP_ZLIB_MORE;
  } while (io->in_len > 0);
  return NP_ZLIB_TAKEN;
}

/* The next of several raw streams, behind a final block: the window stays. */
static int keep_window(np_zlib *z) {
  uInt n = 0;
  Bytef *window = malloc((size_t)1 << MAX_WBITS);
  if (!window) return -ENOMEM;
  int r = inflateGetDictionary(&z->s, window, &n);
  if (r == Z_OK) r = inflateReset(&z->s);
  if (r == Z_OK && n > 0) r = inflateSetDictionary(&z->s, window, n);
  free(window);
  np_assert(r == Z_OK || r == Z_MEM_ERROR);
  return r == Z_OK ? 0 : -ENOMEM;
}

/* Behind an end: 1: another stream begins, 0: none does, a failure. */
static int begin_next(np_zlib *z, const np_zlib_io *io) {
  if (!z->joined || io->in_len == 0) return 0;
  if (z->format == NP_ZLIB_RAW) {
    int r = keep_window(z);
    if (r < 0) return r;
  } else {
    if (!z->gzip || *io->in != '\x1f') return 0;
    inflateReset(&z->s);
  }
  z->ended = false;
  return 1;
}

/* What zlib said about input that it cannot go on with. */
static int refused(np_zlib *z, int r) {
  if (r == Z_MEM_ERROR) return fail(z, -ENOMEM, NULL);
  if (r != Z_NEED_DICT) return fail(z, NP_EBADMSG, z->s.msg);
  if (z->dictionary_len == 0) return fail(z, NP_EBADMSG, "needs a dictionary");
  r = inflateSetDictionary(&z->s, (const Bytef *)z->dictionary, (uInt)z->dictionary_len);
  if (r == Z_MEM_ERROR) return fail(z, -ENOMEM, NULL);
  return r == Z_OK ? 0 : fail(z, NP_EBADMSG, "made with another dictionary");
}

static int inflate_step(np_zlib *z, np_zlib_io *io) {
  while (true) {
    if (z->ended) {
      int r = begin_next(z, io);
      if (r < 0) return fail(z, r, NULL);
      if (r == 0) return NP_ZLIB_END;
    }
    if (!z->begun && io->in_len > 0) {
      z->begun = true;
      if (z->format == NP_ZLIB_AUTO) z->gzip = *io->in == '\x1f';
    }
    point(z, io);
    int r = inflate(&z->s, Z_NO_FLUSH);
    advance(z, io);
    if (r == Z_STREAM_END) {
      z->ended = true;
    } else if (r == Z_OK || r == Z_BUF_ERROR) {
      if (io->out_len == 0) return NP_ZLIB_MORE;
      if (io->in_len == 0) return NP_ZLIB_TAKEN;
    } else {
      r = refused(z, r);
      if (r < 0) return r;
    }
  }
}

int np_zlib_step(np_zlib *z, np_zlib_io *io, np_zlib_flush flush) {
  if (z->failed) return z->failed;
  return z->deflate ? deflate_step(z, io, flush) : inflate_step(z, io);
}
