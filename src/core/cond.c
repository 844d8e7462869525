/* Read conditions: each kind looks at the bytes from where it stopped last time and says done, bad
 * or more.
 *
 * Whatever an answer depends on is looked at from left to right, so the answer is the same however
 * the bytes were split, and limits are compared with positions, never with how much happens to be
 * there.  Bytes are looked at once, except for bounded heads: a delimiter's length, a numeral
 * (200), a length prefix. */
#include "core/cond.h"

#include <string.h>

static int done(np_cond *c, size_t off, size_t len, size_t take) {
  c->off = off;
  c->len = len;
  c->take = take;
  return 1;
}

/* The end came before the delimiter: the rest is the frame, as io has it. */
static int rest(np_cond *c, size_t n) { return n == 0 ? NP_COND_END : done(c, 0, n, n); }

/* max + extra without wrapping. */
static size_t plus(size_t max, size_t extra) {
  return max > SIZE_MAX - extra ? SIZE_MAX : max + extra;
}

/* ---- counts ---- */

static int check_any(np_cond *c, size_t n, bool eof) {
  size_t len = c->need > 0 ? np_min(n, c->need) : n;
  if (n == 0) return eof ? NP_COND_END : 0;
  return done(c, 0, len, len);
}

static int check_count(np_cond *c, size_t n, bool eof) {
  if (c->need > c->max) return -EMSGSIZE;
  if (n > 0 && n >= c->need) return done(c, 0, c->need, c->need);
  return eof ? rest(c, n) : 0;
}

static int check_peek(np_cond *c, size_t n, bool eof) {
  if (c->need > c->max) return -EMSGSIZE;
  if (n > 0 && (eof || n >= c->need)) return done(c, 0, c->need > 0 ? np_min(n, c->need) : n, 0);
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
    size_t i = (size_t)(nl - p);
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
  if (at) return done(c, 0, (size_t)(at - p), (size_t)(at - p) + c->delim_len);
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

static bool is_blank(int ch) { return ch == ' ' || (ch >= '\t' && ch <= '\r'); }
static bool is_digit(int ch) { return ch >= '0' && ch <= '9'; }
static bool is_hex(int ch) {
  return is_digit(ch) || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F');
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

/* ---- packed records: aux is the item, scanned its offset, aux2 how far a 'z' was searched, for
 * other items the bytes needed in all ---- */

/* The value of a prefix; SIZE_MAX when it is past that. */
static size_t prefix_value(const np_packitem *it, const char *p) {
  size_t v = 0;
  for (unsigned i = 0; i < it->size; i++) {
    size_t at = it->little ? it->size - 1 - i : i; /* from the highest byte down */
    if (v > SIZE_MAX >> 8) return SIZE_MAX;
    v = v << 8 | (unsigned char)p[at];
  }
  return v;
}

/* Waits for the record's first `want` bytes. */
static int want_bytes(np_cond *c, size_t want) {
  c->aux2 = want;
  return 0;
}

static int item_prefixed(np_cond *c, const np_packitem *it, const char *p, size_t n) {
  size_t pos = c->scanned, v;
  if (it->size > c->max - pos) return -EMSGSIZE;
  if (n - pos < it->size) return want_bytes(c, pos + it->size);
  v = prefix_value(it, p + pos);
  pos += it->size;
  if (v > c->max - pos) return -EMSGSIZE;
  if (n - pos < v) return want_bytes(c, pos + v);
  c->scanned = pos + v;
  return 1;
}

static int item_zero(np_cond *c, const char *p, size_t n) {
  size_t from = np_max(c->aux2, c->scanned), end = np_min(n, c->max);
  const char *zero = from < end ? memchr(p + from, 0, end - from) : NULL;
  c->aux2 = end;
  if (!zero) return n >= c->max ? -EMSGSIZE : 0;
  c->scanned = (size_t)(zero - p) + 1;
  return 1;
}

static int item_skip(np_cond *c, size_t len, size_t n) {
  if (len > c->max - c->scanned) return -EMSGSIZE;
  if (n - c->scanned < len) return want_bytes(c, c->scanned + len);
  c->scanned += len;
  return 1;
}

static int check_item(np_cond *c, const np_packitem *it, const char *p, size_t n) {
  switch (it->kind) {
  case 'f': return item_skip(c, it->fixed, n);
  case 'a': return item_skip(c, -c->scanned & (it->size - 1u), n);
  case 's': return item_prefixed(c, it, p, n);
  default: return item_zero(c, p, n);
  }
}

static int check_pack(np_cond *c, const char *p, size_t n, bool eof) {
  /* invariant: scanned <= n and scanned <= max */
  while (c->aux < (size_t)c->nitems) {
    int r = check_item(c, &c->items[c->aux], p, n);
    if (r < 0) return r;
    if (r == 0) return !eof ? 0 : n == 0 ? NP_COND_END : -EPIPE;
    c->aux++;
    c->aux2 = 0;
  }
  return n == 0 && eof ? NP_COND_END : done(c, 0, c->scanned, c->scanned);
}

/* Numbers in a format, as lstrlib's getnum: reading stops before an int would overflow. */
static int format_number(const char **f, int def) {
  int a = 0;
  if (!is_digit((unsigned char)**f)) return def;
  do {
    a = a * 10 + (*(*f)++ - '0');
  } while (is_digit((unsigned char)**f) && a <= (INT32_MAX - 9) / 10);
  return a;
}

typedef struct compiler {
  np_packitem *items;
  int n;
  bool little;
  int max_align;
} compiler;

typedef struct pack_option {
  char kind; /* 'i' aligned bytes, 'c' plain bytes, 's', 'x', 'z', 'X'; ' ' is about no bytes */
  int size;
} pack_option;

enum { INT_SIZE_MAX = 16, NATIVE_ALIGN = 8 }; /* lstrlib's MAXINTSIZE, MAXALIGN */

/* A size from 1 to 16, as in i4; -1: it is not. */
static int int_size(const char **f, int def) {
  int size = format_number(f, def);
  return size >= 1 && size <= INT_SIZE_MAX ? size : -1;
}

/* Letters of fixed size; 0 for the others. */
static int native_size(char letter) {
  switch (letter) {
  case 'b':
  case 'B': return 1;
  case 'h':
  case 'H': return sizeof(short);
  case 'l':
  case 'L': return sizeof(long);
  case 'j':
  case 'J':
  case 'd':
  case 'n': return 8;
  case 'T': return sizeof(size_t);
  case 'f': return sizeof(float);
  default: return 0;
  }
}

static bool native_little(void) {
  const uint16_t one = 1;
  return *(const uint8_t *)&one == 1;
}

static pack_option bytes_option(char kind, int size) {
  return (pack_option){.kind = size < 0 ? '?' : kind, .size = size};
}

/* lstrlib's getoption; kind '?': bad. */
static pack_option read_option(compiler *k, const char **f) {
  char letter = *(*f)++;
  int size = native_size(letter);
  if (size > 0) return bytes_option('i', size);
  switch (letter) {
  case 'i':
  case 'I': return bytes_option('i', int_size(f, sizeof(int)));
  case 's': return bytes_option('s', int_size(f, sizeof(size_t)));
  case 'c': return bytes_option('c', format_number(f, -1));
  case 'x': return bytes_option('x', 1);
  case 'z': return bytes_option('z', 0);
  case 'X': return bytes_option('X', 0);
  case '<': k->little = true; break;
  case '>': k->little = false; break;
  case '=': k->little = native_little(); break;
  case '!': size = k->max_align = int_size(f, NATIVE_ALIGN); break;
  case ' ': break;
  default: return bytes_option('?', 0);
  }
  return bytes_option(' ', size);
}

static int add_item(compiler *k, np_packitem it) {
  np_packitem *last = k->n > 0 ? &k->items[k->n - 1] : NULL;
  if (it.kind == 'f' && last && last->kind == 'f' && it.fixed <= UINT32_MAX - last->fixed) {
    last->fixed += it.fixed;
    return 0;
  }
  if (k->n == NP_PACK_ITEMS_MAX) return -E2BIG;
  k->items[k->n++] = it;
  return 0;
}

/* lstrlib's getdetails: aligns to the option's size, at most to max_align. */
static int add_align(compiler *k, int size) {
  int align = size < k->max_align ? size : k->max_align;
  if (align <= 1) return 0;
  if ((align & (align - 1)) != 0) return -EINVAL;
  return add_item(k, (np_packitem){.kind = 'a', .size = (uint8_t)align});
}

static int compile_option(compiler *k, const char **f) {
  pack_option o = read_option(k, f);
  int err = 0;
  if (o.kind == 'X') {
    o = **f ? read_option(k, f) : bytes_option('?', 0);
    /* what X refers to lends its alignment only; it must have one */
    return o.kind == 'i' || o.kind == 's' || o.kind == 'x' ? add_align(k, o.size) : -EINVAL;
  }
  if (o.kind == 'i' || o.kind == 's') err = add_align(k, o.size);
  if (err != 0) return err;
  switch (o.kind) {
  case ' ': return 0;
  case 'i':
  case 'c':
  case 'x': return add_item(k, (np_packitem){.kind = 'f', .fixed = (uint32_t)o.size});
  case 's': return add_item(k, (np_packitem){'s', .size = (uint8_t)o.size, .little = k->little});
  case 'z': return add_item(k, (np_packitem){.kind = 'z'});
  default: return -EINVAL;
  }
}

int np_pack_compile(const char *fmt, np_packitem items[NP_PACK_ITEMS_MAX], const char **bad) {
  compiler k = {.items = items, .little = native_little(), .max_align = 1};
  while (*fmt) {
    const char *at = fmt;
    int err = compile_option(&k, &fmt);
    if (err != 0) {
      *bad = at;
      return err;
    }
  }
  *bad = fmt;
  return k.n > 0 ? k.n : -EINVAL;
}

/* ---- RESP requests: aux is the strings still to come plus one (0: at a request's beginning),
 * scanned the beginning of the next string or request, aux2 the bytes needed before looking again
 * (of an inline line: how far it was searched) ---- */

enum { DIGITS_MAX = 10 }; /* of a length: zeros must not go on for ever */

/* Reads decimal digits until the number is past the limit; returns how many. */
static size_t read_decimal(const char *s, const char *end, size_t limit, size_t *v) {
  const char *q = s;
  size_t a = 0;
  for (; q < end && is_digit((unsigned char)*q) && a <= limit; q++) a = a * 10 + (size_t)(*q - '0');
  *v = a;
  return (size_t)(q - s);
}

/* "<digits>\r\n" at p[pos..n): the position after it, 0: more bytes are needed, or a failure. */
static ssize_t read_length(const char *p, size_t pos, size_t n, size_t limit, size_t *v) {
  size_t end = np_min(n, plus(pos, DIGITS_MAX + 1));
  size_t i = pos + read_decimal(p + pos, p + end, limit, v);
  if (*v > limit) return -EMSGSIZE;
  if (i - pos > DIGITS_MAX) return NP_EBADMSG;
  if (i >= n) return 0;
  if (i == pos || p[i] != '\r') return NP_EBADMSG;
  if (i + 1 == n) return 0;
  return p[i + 1] == '\n' ? (ssize_t)(i + 2) : NP_EBADMSG;
}

/* The bulk strings of an array that is open. 1: all there, scanned is behind them. */
static int resp_strings(np_cond *c, const char *p, size_t n) {
  size_t pos = c->scanned, left = c->aux - 1, len = 0;
  for (; left > 0; left--) {
    ssize_t body;
    if (pos >= n) break;
    if (p[pos] != '$') return NP_EBADMSG;
    body = read_length(p, pos + 1, n, c->max, &len);
    if (body < 0) return (int)body;
    if (body == 0) break;
    if ((size_t)body > c->max || c->max - (size_t)body < plus(len, 2)) return -EMSGSIZE;
    if (n - (size_t)body < len + 2) {
      c->aux2 = (size_t)body + len + 2;
      break;
    }
    pos = (size_t)body + len + 2;
    if (p[pos - 2] != '\r' || p[pos - 1] != '\n') return NP_EBADMSG;
  }
  c->scanned = pos;
  c->aux = left + 1;
  return left == 0;
}

/* "*N\r\n" at scanned. 1: an array is open; 2: an empty one was skipped. */
static int resp_head(np_cond *c, const char *p, size_t n) {
  size_t pos = c->scanned + 1, count = 0;
  bool negative = pos < n && p[pos] == '-'; /* *-1, the null array: redis ignores it */
  ssize_t next = read_length(p, pos + negative, n, NP_RESP_ARGS_MAX, &count);
  if (next < 0) return (int)next;
  if (next == 0) return 0;
  if ((size_t)next > c->max) return -EMSGSIZE;
  if (negative || count == 0) {
    c->scanned = (size_t)next;
    return 2;
  }
  c->off = c->scanned; /* where the frame will begin */
  c->scanned = (size_t)next;
  c->aux = count + 1;
  return 1;
}

/* Counts the arguments of a line; NP_EBADMSG: unbalanced quotes. */
static int count_args(const char *s, const char *end) {
  const char *arg;
  size_t len;
  bool quoted;
  int r, count = 0;
  while ((r = np_resp_inline(&s, end, &arg, &len, &quoted)) > 0) count++;
  return r < 0 ? r : count;
}

/* 1: done; 2: an empty line was skipped. */
static int resp_line(np_cond *c, const char *p, size_t n) {
  size_t start = c->scanned, from = np_max(c->aux2, start);
  size_t limit = np_min(c->max - start, NP_RESP_INLINE_MAX); /* bytes before the end of the line */
  size_t end = np_min(n, plus(start + limit, 1)), len;
  const char *nl = from < end ? memchr(p + from, '\n', end - from) : NULL;
  int args;
  c->aux2 = end;
  if (!nl) return n > start + limit ? -EMSGSIZE : 0;
  c->scanned = (size_t)(nl - p) + 1;
  c->aux2 = 0;
  len = (size_t)(nl - p) - start;
  if (len > 0 && nl[-1] == '\r') len--;
  args = count_args(p + start, p + start + len);
  if (args <= 0) return args < 0 ? args : c->scanned > c->max ? -EMSGSIZE : 2;
  return done(c, start, len, c->scanned);
}

/* Goes on where the last check stopped: 1 done, 0 more, or a failure. */
static int resp_go_on(np_cond *c, const char *p, size_t n) {
  int r = 2;
  if (c->aux > 0 && n < c->aux2) return 0;
  while (r == 2 && c->aux == 0) {
    if (c->scanned >= n) return 0;
    r = p[c->scanned] == '*' ? resp_head(c, p, n) : resp_line(c, p, n);
    if (r == 1 && c->aux == 0) return 1; /* an inline command */
    if (r <= 0) return r;
  }
  r = resp_strings(c, p, n);
  return r == 1 ? done(c, c->off, c->scanned - c->off, c->scanned) : r;
}

static int check_resp(np_cond *c, const char *p, size_t n, bool eof) {
  int r = resp_go_on(c, p, n);
  if (r != 0 || !eof) return r;
  return c->aux == 0 && c->scanned == n ? NP_COND_END : -EPIPE;
}

/* ---- inline arguments: redis's sdssplitargs, where a zero byte is a byte like any other ---- */

/* An escape in double quotes at s (which is a backslash): its bytes, the byte meant in *ch. */
static size_t read_escape(const char *s, const char *end, char *ch) {
  static const char names[] = "nrtba", values[] = "\n\r\t\b\a";
  size_t high, low;
  const char *at;
  if (end - s < 2) {
    *ch = '\\';
    return 1;
  }
  if (s[1] == 'x' && end - s >= 4 && is_hex((unsigned char)s[2]) && is_hex((unsigned char)s[3])) {
    high = (size_t)(is_digit(s[2]) ? s[2] - '0' : (s[2] | 0x20) - 'a' + 10);
    low = (size_t)(is_digit(s[3]) ? s[3] - '0' : (s[3] | 0x20) - 'a' + 10);
    *ch = (char)(high << 4 | low);
    return 4;
  }
  at = s[1] ? strchr(names, s[1]) : NULL;
  *ch = at ? values[at - names] : s[1];
  return 2;
}

/* Walks one argument from s; its decoded bytes go to out unless that is NULL.  The position after
 * it, NULL: unbalanced quotes. */
static const char *walk_arg(const char *s, const char *end, char *out, size_t *written) {
  char quote = 0;
  size_t w = 0;
  while (s < end) {
    char ch = *s;
    size_t step = 1;
    if (quote == 0) {
      if (ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n') break;
      if (ch == '"' || ch == '\'') {
        quote = ch;
        s++;
        continue;
      }
    } else if (ch == quote) { /* what follows a closing quote must be blank */
      *written = w;
      return s + 1 == end || is_blank((unsigned char)s[1]) ? s + 1 : NULL;
    } else if (quote == '"' && ch == '\\') {
      step = read_escape(s, end, &ch);
    } else if (quote == '\'' && ch == '\\' && s + 1 < end && s[1] == '\'') {
      ch = '\'';
      step = 2;
    }
    if (out) out[w] = ch;
    w++;
    s += step;
  }
  *written = w;
  return quote == 0 ? s : NULL;
}

int np_resp_inline(const char **s, const char *end, const char **arg, size_t *len, bool *quoted) {
  size_t written;
  const char *from = *s, *to;
  while (from < end && is_blank((unsigned char)*from)) from++;
  *s = from;
  if (from == end) return 0;
  to = walk_arg(from, end, NULL, &written);
  if (!to) return NP_EBADMSG;
  *arg = from;
  *len = (size_t)(to - from);
  *quoted = written != *len; /* quotes are never part of what is written */
  *s = to;
  return 1;
}

size_t np_resp_unquote(const char *arg, size_t len, char *out) {
  size_t written = 0;
  walk_arg(arg, arg + len, out, &written);
  return written;
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
  case NP_COND_PACK: return check_pack(c, p, n, eof);
  case NP_COND_RESP: return check_resp(c, p, n, eof);
  case NP_COND_PEEK: return check_peek(c, n, eof);
  }
  np_assert(!"a condition of no kind");
}

size_t np_cond_hint(const np_cond *c) {
  switch (c->kind) {
  case NP_COND_COUNT:
  case NP_COND_PEEK: return c->need;
  case NP_COND_PACK:
  case NP_COND_RESP: return c->aux2;
  default: return 0;
  }
}
