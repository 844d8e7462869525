/* RESP2 requests (redis.io/docs/reference/protocol-spec): arrays of bulk strings, inline lines.
 *
 * State of a check: aux is the strings still to come plus one (0: at a request's beginning; MET),
 * scanned the beginning of the next string or request, aux2 the bytes needed before looking again
 * (of an inline line: how far it was searched; MET: the frame's length), aux3 its offset. */
#include "core/cond_impl.h"

#include <string.h>

#define MET SIZE_MAX

/* The frame ends at scanned; what follows is another request's. */
static int met(np_cond *c, size_t off, size_t len) {
  c->aux = MET;
  c->aux2 = len;
  c->aux3 = off;
  return 1;
}

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
  if (pos + 3 <= n && is_digit((unsigned char)p[pos]) && p[pos + 1] == '\r' && p[pos + 2] == '\n') {
    *v = (size_t)(p[pos] - '0'); /* one digit, as most are */
    return *v > limit ? -EMSGSIZE : (ssize_t)(pos + 3);
  }
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
  c->aux3 = c->scanned;
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
  return met(c, start, len);
}

/* Goes on where the last check stopped: 1 done, 0 more, or a failure. */
static int resp_go_on(np_cond *c, const char *p, size_t n) {
  int r = 2;
  if (c->aux > 0 && n < c->aux2) return 0;
  while (r == 2 && c->aux == 0) {
    if (c->scanned >= n) return 0;
    r = p[c->scanned] == '*' ? resp_head(c, p, n) : resp_line(c, p, n);
    if (r == 1 && c->aux == MET) return 1; /* an inline command */
    if (r <= 0) return r;
  }
  r = resp_strings(c, p, n);
  return r == 1 ? met(c, c->aux3, c->scanned - c->aux3) : r;
}

int np_cond_resp(np_cond *c, const char *p, size_t n, bool eof) {
  int r = c->aux == MET ? 1 : resp_go_on(c, p, n);
  if (r == 1) return done(c, c->aux3, c->aux2, c->scanned);
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
