/* Read conditions: each kind looks at the bytes from where it stopped last time and says done, bad
 * or more.
 *
 * Whatever an answer depends on is looked at from left to right, so the answer is the same however
 * the bytes were split, and limits are compared with positions, never with how much happens to be
 * there.  Bytes are looked at once, except for bounded heads: a delimiter's length, a numeral
 * (200), a length prefix. */
#include "core/cond_impl.h"

#include <string.h>

/* The end came before the delimiter: the rest is the frame, as io has it. */
static int rest(np_cond *c, size_t n) { return n == 0 ? NP_COND_END : done(c, 0, n, n); }

/* ---- counts ---- */

static int check_any(np_cond *c, size_t n, bool eof) {
  size_t len = c->need > 0 ? np_min(n, c->need) : n;
  if (c->aux > 0) len = c->aux; /* checked again: what came since is the next one's */
  c->aux = len;
  if (n == 0) return eof ? NP_COND_END : 0;
  return done(c, 0, len, len);
}

static int check_count(np_cond *c, size_t n, bool eof) {
  if (c->need > c->max) return -EMSGSIZE;
  if (n > 0 && n >= c->need) return done(c, 0, c->need, c->need);
  return eof ? rest(c, n) : 0;
}

static int check_fixed(np_cond *c, size_t n, bool eof) {
  if (c->need > c->max) return -EMSGSIZE;
  if (n >= c->need) return done(c, 0, c->need, c->need);
  return !eof ? 0 : n == 0 ? NP_COND_END : -EPIPE;
}

static int check_peek(np_cond *c, size_t n, bool eof) {
  if (c->need > c->max) return -EMSGSIZE;
  if (n > 0 && (eof || n >= c->need)) return done(c, 0, n, 0);
  return eof ? NP_COND_END : 0;
}

static int check_all(np_cond *c, size_t n, bool eof) {
  if (n > c->max) return -EMSGSIZE;
  return eof ? done(c, 0, n, n) : 0;
}

/* ---- delimiters ---- */

static int check_line(np_cond *c, const char *p, size_t n, bool eof) {
  size_t end = np_min(n, plus(c->max, 1));
  const char *nl = c->scanned < end ? memchr(p + c->scanned, '\n', end - c->scanned) : NULL;
  if (nl) {
    size_t i = c->scanned = (size_t)(nl - p);
    return done(c, 0, c->kind == NP_COND_LINE_EOL ? i + 1 : i, i + 1);
  }
  c->scanned = end;
  if (n > c->max) return -EMSGSIZE;
  return eof ? rest(c, n) : 0;
}

/* Finds delim in p[from..end). One and two bytes, the usual ones, go by memchr for the last. */
static const char *find_delim(const np_cond *c, const char *p, size_t from, size_t end) {
  size_t m = c->delim_len;
  if (end - from < m) return NULL;
  if (m > 2) return memmem(p + from, end - from, c->delim, m);
  for (const char *q = p + from + m - 1; q < p + end; q++) {
    q = memchr(q, c->delim[m - 1], (size_t)(p + end - q));
    if (!q) return NULL;
    if (m == 1 || q[-1] == c->delim[0]) return q - (m - 1);
  }
  return NULL;
}

static int check_delim(np_cond *c, const char *p, size_t n, bool eof) {
  size_t limit = plus(c->max, c->delim_len), end = np_min(n, limit);
  const char *at = find_delim(c, p, c->scanned, end);
  if (at) {
    c->scanned = (size_t)(at - p);
    return done(c, 0, c->scanned, c->scanned + c->delim_len);
  }
  if (n >= limit || (eof && n > c->max)) return -EMSGSIZE;
  /* a delimiter may have begun in the last bytes */
  if (n >= c->delim_len) c->scanned = n - c->delim_len + 1;
  return eof ? rest(c, n) : 0;
}

/* ---- numerals: liolib.c's l_read_number, over bytes ---- */

enum { NUMERAL_MAX = 200 }; /* its L_MAXLENNUM */

typedef struct numeral {
  const char *s; /* the numeral's first byte */
  size_t n, i;   /* bytes there; bytes read */
  bool more;     /* it wants to look at a byte that is not there */
  bool over;     /* it wants to read a byte past NUMERAL_MAX: io gives up there */
} numeral;

/* The byte to look at, -1 when there is none: no test accepts that. */
static int look(numeral *r) {
  if (r->over) return -1;
  if (r->i < r->n) return (unsigned char)r->s[r->i];
  r->more = true;
  return -1;
}

static bool accept(numeral *r) {
  r->over = r->i == NUMERAL_MAX;
  if (!r->over) r->i++;
  return !r->over;
}

/* Both sets have two bytes, as liolib's test2; a zero byte is in none. */
static bool test2(numeral *r, const char *set) {
  int ch = look(r);
  return ch > 0 && (ch == set[0] || ch == set[1]) && accept(r);
}

static int read_digits(numeral *r, bool hex) {
  int count = 0, ch;
  while ((ch = look(r)) >= 0 && (hex ? is_hex(ch) : is_digit(ch)) && accept(r)) count++;
  return count;
}

static void read_numeral(numeral *r) {
  bool hex = false;
  int count = 0;
  test2(r, "-+");
  if (test2(r, "00")) {
    if (test2(r, "xX")) hex = true;
    else count = 1;
  }
  count += read_digits(r, hex);
  if (test2(r, "..")) count += read_digits(r, hex);
  if (count > 0 && test2(r, hex ? "pP" : "eE")) {
    test2(r, "-+");
    read_digits(r, false);
  }
}

static int check_number(np_cond *c, const char *p, size_t n, bool eof) {
  numeral r;
  size_t i = c->scanned;
  while (i < n && i <= c->max && is_blank((unsigned char)p[i])) i++;
  c->scanned = i;
  if (i > c->max) return -EMSGSIZE;
  r = (numeral){.s = p + i, .n = n - i};
  read_numeral(&r);
  if (r.more && !eof) return 0;
  if (n == 0) return NP_COND_END;
  return done(c, i, r.over ? 0 : r.i, i + r.i);
}

/* ---- the one door ---- */

int np_cond_check(np_cond *c, const char *p, size_t n, bool eof) {
  switch (c->kind) {
  case NP_COND_ANY: return check_any(c, n, eof);
  case NP_COND_COUNT: return check_count(c, n, eof);
  case NP_COND_LINE:
  case NP_COND_LINE_EOL: return check_line(c, p, n, eof);
  case NP_COND_ALL: return check_all(c, n, eof);
  case NP_COND_DELIM: return check_delim(c, p, n, eof);
  case NP_COND_NUMBER: return check_number(c, p, n, eof);
  case NP_COND_PACK: return np_cond_pack(c, p, n, eof);
  case NP_COND_RESP: return np_cond_resp(c, p, n, eof);
  case NP_COND_PEEK: return check_peek(c, n, eof);
  case NP_COND_FIXED: return check_fixed(c, n, eof);
  case NP_COND_NETSTRING: return np_cond_netstring(c, p, n, eof);
  case NP_COND_HEADED: return np_cond_headed(c, p, n, eof);
  case NP_COND_HTTP_REQUEST:
  case NP_COND_HTTP_RESPONSE: return np_cond_http(c, p, n, eof);
  case NP_COND_WEBSOCKET: return np_cond_websocket(c, p, n, eof);
  }
  np_assert(!"a condition of no kind");
}

size_t np_cond_hint(const np_cond *c) {
  switch (c->kind) {
  case NP_COND_COUNT:
  case NP_COND_FIXED:
  case NP_COND_PEEK: return c->need;
  case NP_COND_PACK: /* aux2 of a 'z' is how far it was searched: no more than is there */
  case NP_COND_NETSTRING:
  case NP_COND_HEADED:
  case NP_COND_WEBSOCKET:
  case NP_COND_RESP: return c->aux2;
  default: return 0;
  }
}
