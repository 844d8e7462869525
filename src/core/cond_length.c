/* Frames that say their length before they begin: netstrings, and headers with a length.
 *
 * The length is all that is looked at, so a frame is checked in a few steps however long it is, and
 * a length past the limit is refused before the bytes come.  State of a check: aux2 is the bytes
 * needed in all, 0 until the length is known. */
#include "core/cond_impl.h"

/* The bytes are not there: more, or the end came inside (or before the first byte). */
static int wanting(size_t n, bool eof) { return !eof ? 0 : n == 0 ? NP_COND_END : -EPIPE; }

/* ---- netstrings: https://cr.yp.to/proto/netstrings.txt ---- */

enum { DIGITS_MAX = 19 }; /* of SIZE_MAX; no limit is so high */

/* Reads the length: bytes before the frame, 0: more are needed, or a failure.  Digits past the
 * limit are refused as they come. */
static int netstring_head(const np_cond *c, const char *p, size_t n, size_t *len) {
  size_t v = 0, i = 0;
  for (; i < n && is_digit((unsigned char)p[i]); i++) {
    if (i > 0 && p[0] == '0') return NP_EBADMSG; /* no zeros in front */
    v = v * 10 + (size_t)(p[i] - '0');
    if (v > c->max || i == DIGITS_MAX - 1) return -EMSGSIZE;
  }
  if (i == n) return 0;
  if (i == 0 || p[i] != ':') return NP_EBADMSG;
  *len = v;
  return (int)i + 1;
}

int np_cond_netstring(np_cond *c, const char *p, size_t n, bool eof) {
  size_t len;
  int head = netstring_head(c, p, n, &len);
  if (head < 0) return head;
  if (head == 0) return wanting(n, eof);
  size_t off = (size_t)head;
  c->aux2 = plus(len, off + 1);
  if (n < c->aux2) return wanting(n, eof);
  if (p[off + len] != ',') return NP_EBADMSG;
  return done(c, off, len, c->aux2);
}

/* ---- headers ---- */

int64_t np_head_value(const np_headfield *f, const char *header) {
  uint64_t v = 0;
  for (unsigned i = 0; i < f->size; i++) {
    size_t at = f->little ? f->size - 1u - i : i; /* from the highest byte down */
    v = v << 8 | (unsigned char)header[f->at + at];
  }
  if (f->is_signed && f->size < 8) { /* the sign is the highest bit of the first byte */
    uint64_t sign = UINT64_C(1) << (8u * f->size - 1);
    v = (v ^ sign) - sign;
  }
  return (int64_t)v;
}

/* The length of what follows the header: 0, NP_EBADMSG (less than nothing), -EMSGSIZE. */
static int headed_length(const np_cond *c, const char *p, size_t *len) {
  const np_head *h = c->head;
  int64_t v = np_head_value(&h->length, p), adjust = h->adjust;
  if (v < 0) return h->length.is_signed ? NP_EBADMSG : -EMSGSIZE; /* 8 bytes, not a sign */
  if (adjust > 0 && v > INT64_MAX - adjust) return -EMSGSIZE;
  v += adjust;
  if (v < 0) return NP_EBADMSG;
  if ((uint64_t)v > c->max) return -EMSGSIZE;
  *len = (size_t)v;
  return 0;
}

int np_cond_headed(np_cond *c, const char *p, size_t n, bool eof) {
  size_t head = c->head->size, len;
  if (n < head) {
    c->aux2 = head;
    return wanting(n, eof);
  }
  int err = headed_length(c, p, &len);
  if (err < 0) return err;
  c->aux2 = plus(len, head);
  if (n - head < len) return wanting(n, eof);
  return c->head->tag.size ? done(c, 0, head + len, c->aux2) : done(c, head, len, c->aux2);
}
