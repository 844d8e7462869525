/* Fuzzes compression: anything is inflated, the same in one piece and byte by byte, with small room
 * and large; and what was deflated, flushed anywhere, comes back. */
#include <string.h>

#include "core/zlib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX = 20000 };

typedef struct result {
  char text[MAX];
  size_t n;
  int end;
  bool ended, too_far;
} result;

/* Inflates n bytes, `piece` of them at a time, `room` bytes of output at a time. */
static void inflate_all(result *r, const np_zlib_config *c, const char *p, size_t n, size_t piece,
                        size_t room) {
  np_zlib *z;
  np_zlib_io io;
  r->n = 0;
  np_assert(np_zlib_inflate(&z, c) == 0);
  do {
    io = (np_zlib_io){p, np_min(piece, n), NULL, 0};
    const char *start = p;
    do {
      io.out = r->text + r->n;
      io.out_len = np_min(room, MAX - r->n);
      size_t given = io.out_len;
      r->end = io.out_len > 0 ? np_zlib_step(z, &io, NP_ZLIB_NONE) : NP_ZLIB_END;
      r->n += given - io.out_len;
      np_assert(r->end != NP_ZLIB_MORE || io.out_len == 0);
      np_assert(r->end != NP_ZLIB_TAKEN || io.in_len == 0);
    } while (r->end == NP_ZLIB_MORE);
    p += io.in - start;
    n -= (size_t)(io.in - start);
  } while (r->end >= 0 && io.in_len == 0 && n > 0); /* also behind an end: more may follow */
  if (r->end < 0) np_assert(r->end == NP_EBADMSG && np_zlib_why(z));
  r->too_far = r->end < 0 && strcmp(np_zlib_why(z), "invalid distance too far back") == 0;
  r->ended = np_zlib_ended(z);
  np_zlib_close(z);
}

static void check_inflate(const np_zlib_config *c, const char *p, size_t n) {
  static result a, b;
  inflate_all(&a, c, p, n, n, MAX);
  inflate_all(&b, c, p, n, 1, 7);
  if (b.too_far) { /* zlib lets what one step made be reached from within it, however far */
    np_assert(b.n <= a.n && memcmp(a.text, b.text, b.n) == 0);
    return;
  }
  np_assert(a.n == b.n && memcmp(a.text, b.text, a.n) == 0);
  if (a.n == MAX) return; /* cut off by us, who can tell where */
  np_assert(a.end == b.end || (a.end >= 0 && b.end >= 0));
  np_assert(a.ended == b.ended);
}

/* Deflates with a flush in the middle; the room is as small as it may be. */
static size_t deflate_all(np_zlib *z, const char *p, size_t n, np_zlib_flush flush, char *out) {
  size_t half = n / 2, made = 0;
  int r;
  np_zlib_io io = {p, half, NULL, 0};
  for (int round = 0; round < 2; round++) {
    do {
      io.out = out + made;
      io.out_len = NP_ZLIB_ROOM;
      r = np_zlib_step(z, &io, round == 0 ? flush : NP_ZLIB_FINISH);
      made += NP_ZLIB_ROOM - io.out_len;
      np_assert(made < 4 * MAX);
    } while (r == NP_ZLIB_MORE);
    np_assert(r == (round == 0 ? NP_ZLIB_TAKEN : NP_ZLIB_END) && io.in_len == 0);
    io.in_len = n - half;
  }
  return made;
}

static void check_deflate(np_zlib_config *c, const char *p, size_t n, np_zlib_flush flush) {
  static char out[5 * MAX];
  static result r;
  np_zlib *z;
  np_assert(np_zlib_deflate(&z, c) == 0);
  size_t first = deflate_all(z, p, n, flush, out);
  np_assert(np_zlib_reset(z) == 0);
  np_assert(deflate_all(z, p, n, flush, out) == first); /* as new */
  np_zlib_close(z);
  inflate_all(&r, c, out, first, 3, 1); /* with no more window than it has */
  np_assert(r.end == NP_ZLIB_END && r.ended && r.n == n && memcmp(r.text, p, n) == 0);
}

/* Two bytes choose, the rest is data. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2 || size > MAX / 2) return 0;
  const char *p = (const char *)data + 2;
  size_t n = size - 2;
  np_zlib_config c = {
    .format = (np_zlib_format)(data[0] & 3),
    .level = data[0] >> 2 & 7,
    .window_bits = 8 + (data[1] & 7),
    .memory = 1 + (data[1] >> 3 & 7),
    .joined = data[0] >> 5 & 1,
  };
  check_inflate(&c, p, n);
  if (c.format == NP_ZLIB_AUTO) return 0;
  /* zlib and gzip say their window in the header, and it is 9 for 8 */
  if (c.format != NP_ZLIB_RAW && c.window_bits == 8) c.window_bits = 9;
  check_deflate(&c, p, n, (np_zlib_flush)(data[0] >> 6 & 3) % NP_ZLIB_FINISH);
  return 0;
}
