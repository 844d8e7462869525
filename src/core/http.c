/* HTTP/1 heads: one pass over the lines, each byte looked up in a table of what it may be.
 *
 * In C and not as a grammar, because an LPeg grammar of the same strict language takes 3.2 to 3.7
 * times as long for the same tables (bench/head_parser.lua), and would begin again at each piece of
 * a head that comes in pieces. */
#include "core/http.h"

#include <string.h>
#include <strings.h>

/* What a byte may be part of (RFC 9110 5.6.2, 5.5; RFC 3986 for targets, without '#'). */
enum {
  TOKEN = 1,
  VALUE = 2,
  TARGET = 4,
  HOST = 8,
  SEEN = VALUE | TARGET, /* every visible character but '#' */
  SUB = SEEN | HOST,     /* what separates the parts of a host, and is no token */
  WORD = SEEN | TOKEN,   /* tokens that no host has */
  ALL = SEEN | TOKEN | HOST,
};

static const unsigned char kinds[256] = {
  ['\t'] = VALUE,
  [' '] = VALUE,
  ['!'] = ALL,
  ['"'] = SEEN,
  ['#'] = TOKEN | VALUE,
  ['$' ... '\''] = ALL,
  ['(' ... ')'] = SUB,
  ['*' ... '+'] = ALL,
  [','] = SUB,
  ['-' ... '.'] = ALL,
  ['/'] = SEEN,
  ['0' ... '9'] = ALL,
  [':' ... ';'] = SUB,
  ['<'] = SEEN,
  ['='] = SUB,
  ['>' ... '@'] = SEEN,
  ['A' ... 'Z'] = ALL,
  ['['] = SUB,
  ['\\'] = SEEN,
  [']'] = SUB,
  ['^'] = WORD,
  ['_'] = ALL,
  ['`'] = WORD,
  ['a' ... 'z'] = ALL,
  ['{'] = SEEN,
  ['|'] = WORD,
  ['}'] = SEEN,
  ['~'] = ALL,
  [0x80 ... 0xff] = VALUE,
};

static bool all(np_span s, int kind) {
  int common = kind;
  for (size_t i = 0; i < s.n; i++) common &= kinds[(unsigned char)s.p[i]];
  return common == kind;
}

static bool equal(np_span s, const char *lower) {
  return s.n == strlen(lower) && strncasecmp(s.p, lower, s.n) == 0;
}

static int refuse(np_http_head *h, int status, const char *why) {
  if (!h->refusal) {
    h->refusal = status;
    h->why = why;
  }
  return -1;
}

/* uri-host [ ":" port ]: a name, or an IPv6 literal in brackets; without user (RFC 9110 7.2). */
static bool is_host(np_span s) {
  const char *p = s.p, *end = s.p + s.n;
  if (!all(s, HOST)) return false;
  if (s.n > 0 && *p == '[') {
    p = memchr(p, ']', s.n);
    if (!p) return false;
    p++;
  } else {
    while (p < end && *p != ':' && *p != '[' && *p != ']') p++;
  }
  if (p == end) return true;
  if (*p++ != ':') return false;
  while (p < end && *p >= '0' && *p <= '9') p++;
  return p == end;
}

/* The bytes up to the next CRLF, which is skipped; each LF has its CR: the condition saw to it. */
static np_span next_line(const char **s, const char *end) {
  const char *nl = memchr(*s, '\n', (size_t)(end - *s));
  np_span line = {*s, nl && nl > *s ? (size_t)(nl - *s) - 1 : 0};
  *s = nl ? nl + 1 : end;
  return line;
}

static bool digits(np_span s, uint64_t *out) {
  uint64_t v = 0;
  if (s.n == 0 || s.n > 18) return false;
  for (size_t i = 0; i < s.n; i++) {
    if (s.p[i] < '0' || s.p[i] > '9') return false;
    v = v * 10 + (uint64_t)(s.p[i] - '0');
  }
  *out = v;
  return true;
}

/* "HTTP/1.1" -> 11. */
static int version_of(np_http_head *h, np_span s) {
  if (s.n != 8 || memcmp(s.p, "HTTP/", 5) != 0 || s.p[6] != '.')
    return refuse(h, 400, "malformed version");
  if (s.p[5] != '1' || (s.p[7] != '0' && s.p[7] != '1'))
    return refuse(h, 505, "version is not supported");
  h->version = s.p[7] == '1' ? 11 : 10;
  return 0;
}

/* ---- field lines ---- */

static np_span trim(np_span s) {
  while (s.n > 0 && (*s.p == ' ' || *s.p == '\t')) s.p++, s.n--;
  while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
  return s;
}

static bool split_field(np_span line, np_span *name, np_span *value) {
  const char *colon = memchr(line.p, ':', line.n);
  if (!colon) return false;
  *name = (np_span){line.p, (size_t)(colon - line.p)};
  *value = trim((np_span){colon + 1, (size_t)(line.p + line.n - colon - 1)});
  return true;
}

bool np_http_field(const char **s, const char *end, np_span *name, np_span *value) {
  np_span line = next_line(s, end);
  return line.n > 0 && split_field(line, name, value);
}

/* The next element of a list, without its blanks; false: none is left. */
static bool next_element(np_span *list, np_span *element) {
  while (list->n > 0) {
    const char *comma = memchr(list->p, ',', list->n);
    size_t n = comma ? (size_t)(comma - list->p) : list->n;
    *element = trim((np_span){list->p, n});
    n += comma != NULL;
    list->p += n;
    list->n -= n;
    if (element->n > 0) return true;
  }
  return false;
}

typedef struct seen {
  bool host, close, keep_alive;
} seen;

static int on_length(np_http_head *h, np_span v) {
  if (h->sized) return refuse(h, 400, "Content-Length stands there twice");
  if (!digits(v, &h->length)) return refuse(h, 400, "malformed Content-Length");
  h->sized = true;
  return 0;
}

/* Only chunked, once, and last: what else is asked for is not implemented. */
static int on_transfer_encoding(np_http_head *h, np_span v) {
  np_span e;
  while (next_element(&v, &e)) {
    if (h->chunked) return refuse(h, 400, "a transfer coding after chunked");
    if (!equal(e, "chunked")) return refuse(h, 501, "unknown transfer coding");
    h->chunked = true;
  }
  return h->chunked ? 0 : refuse(h, 400, "empty Transfer-Encoding");
}

static void on_connection(np_http_head *h, seen *s, np_span v) {
  np_span e;
  while (next_element(&v, &e)) {
    if (equal(e, "close")) s->close = true;
    else if (equal(e, "keep-alive")) s->keep_alive = true;
    else if (equal(e, "upgrade")) h->upgrade = true;
  }
}

static int on_host(np_http_head *h, seen *s, np_span v) {
  if (s->host) return refuse(h, 400, "Host stands there twice");
  s->host = true;
  if (!is_host(v)) return refuse(h, 400, "malformed Host");
  if (!h->host.p) h->host = v;
  return 0;
}

/* Those that the message's framing depends on. */
static int on_field(np_http_head *h, seen *s, np_span name, np_span value) {
  switch (name.n) {
  case 4: return equal(name, "host") && h->method.p ? on_host(h, s, value) : 0;
  case 6:
    if (equal(name, "expect") && h->method.p) {
      if (!equal(value, "100-continue")) return refuse(h, 417, "unknown expectation");
      h->expects = true;
    }
    return 0;
  case 10:
    if (equal(name, "connection")) on_connection(h, s, value);
    return 0;
  case 14: return equal(name, "content-length") ? on_length(h, value) : 0;
  case 17: return equal(name, "transfer-encoding") ? on_transfer_encoding(h, value) : 0;
  default: return 0;
  }
}

static int check_field(np_http_head *h, np_span line, np_span *name, np_span *value) {
  if (line.p[0] == ' ' || line.p[0] == '\t') return refuse(h, 400, "a folded field line");
  if (!split_field(line, name, value)) return refuse(h, 400, "a field line without colon");
  if (name->n == 0) return refuse(h, 400, "an empty field name");
  if (name->n > NP_HTTP_NAME_MAX) return refuse(h, 431, "too long a field name");
  if (name->p[name->n - 1] == ' ' || name->p[name->n - 1] == '\t')
    return refuse(h, 400, "blanks between field name and colon");
  if (!all(*name, TOKEN)) return refuse(h, 400, "a character that no field name has");
  if (!all(*value, VALUE)) return refuse(h, 400, "a character that no field value has");
  return 0;
}

static int read_fields(np_http_head *h, const char *s, const char *end, seen *found) {
  h->fields = s;
  for (int n = 0;; n++) {
    np_span name, value, line = next_line(&s, end);
    if (line.n == 0) return 0;
    if (n == NP_HTTP_FIELDS_MAX) return refuse(h, 431, "too many fields");
    if (check_field(h, line, &name, &value) < 0) return -1;
    if (on_field(h, found, name, value) < 0) return -1;
  }
}

/* RFC 9112 6.1 to 6.3: what would let two readers disagree about the end. */
static void check_framing(np_http_head *h, const seen *s) {
  if (h->chunked && h->sized) refuse(h, 400, "Content-Length beside Transfer-Encoding");
  if (h->chunked && h->version < 11) refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
  if (h->version < 11) h->expects = false; /* such a client waits for nothing (RFC 9110 10.1.1) */
  h->keep_alive = !s->close && (h->version == 11 || s->keep_alive);
}

/* ---- the first line ---- */

/* What stands before '?', and behind it. */
static void split_query(np_http_head *h, np_span s) {
  const char *q = memchr(s.p, '?', s.n);
  if (q) {
    h->query = (np_span){q + 1, (size_t)(s.p + s.n - q - 1)};
    s.n = (size_t)(q - s.p);
  }
  if (s.n > 0) h->path = s;
}

/* "http://host/path": the host counts, not the Host field (RFC 9112 3.2.2). No path is "/" (RFC
 * 9110 4.2.3): the one before the host will do. */
static int absolute_target(np_http_head *h) {
  const char *p = h->target.p, *end = p + h->target.n;
  p += strncasecmp(p, "https://", 8) == 0 ? 8 : 7;
  const char *q = p;
  while (q < end && *q != '/' && *q != '?') q++;
  h->host = (np_span){p, (size_t)(q - p)};
  if (q == p || !is_host(h->host)) return refuse(h, 400, "malformed host in the target");
  h->path = (np_span){p - 1, 1};
  split_query(h, (np_span){q, (size_t)(end - q)});
  return 0;
}

static int target_of(np_http_head *h) {
  np_span t = h->target;
  if (t.n == 0 || !all(t, TARGET)) return refuse(h, 400, "malformed target");
  if (equal(h->method, "CONNECT")) { /* authority-form, and nothing else has it */
    bool port = t.n > 2 && *t.p != ':' && t.p[t.n - 1] != ':' && t.p[t.n - 1] != ']';
    if (!is_host(t) || !port || !memchr(t.p, ':', t.n))
      return refuse(h, 400, "malformed authority");
    h->host = h->path = t;
    return 0;
  }
  h->path = t;
  if (t.n == 1 && *t.p == '*') {
    return equal(h->method, "OPTIONS") ? 0 : refuse(h, 400, "only OPTIONS is asked of *");
  } else if (*t.p != '/') {
    bool web = (t.n > 7 && strncasecmp(t.p, "http://", 7) == 0) ||
               (t.n > 8 && strncasecmp(t.p, "https://", 8) == 0);
    return web ? absolute_target(h) : refuse(h, 400, "malformed target");
  }
  split_query(h, t);
  return 0;
}

/* One space between the parts, none elsewhere. */
static int request_line(np_http_head *h, np_span line) {
  const char *a = memchr(line.p, ' ', line.n), *end = line.p + line.n;
  const char *b = a ? memrchr(a, ' ', (size_t)(end - a)) : NULL;
  if (!a || b == a) return refuse(h, 400, "malformed request line");
  h->method = (np_span){line.p, (size_t)(a - line.p)};
  h->target = (np_span){a + 1, (size_t)(b - a - 1)};
  if (h->method.n == 0 || !all(h->method, TOKEN)) return refuse(h, 400, "malformed method");
  if (version_of(h, (np_span){b + 1, (size_t)(end - b - 1)}) < 0) return -1;
  return target_of(h);
}

void np_http_request(const char *p, size_t n, np_http_head *h) {
  const char *end = p + n;
  seen s = {0};
  memset(h, 0, sizeof *h);
  if (request_line(h, next_line(&p, end)) < 0 || read_fields(h, p, end, &s) < 0) return;
  if (!s.host && h->version == 11) refuse(h, 400, "no Host");
  check_framing(h, &s);
}

void np_http_response(const char *p, size_t n, np_http_head *h) {
  const char *end = p + n;
  seen s = {0};
  uint64_t status = 0;
  memset(h, 0, sizeof *h);
  np_span line = next_line(&p, end);
  np_span version = {line.p, np_min(8, line.n)};
  if (version_of(h, version) < 0) return;
  if (line.n < 12 || line.p[8] != ' ' || !digits((np_span){line.p + 9, 3}, &status) ||
      status < 100 || (line.n > 12 && line.p[12] != ' ')) {
    refuse(h, 502, "malformed status line");
    return;
  }
  h->status = (int)status;
  if (line.n > 13) h->reason = (np_span){line.p + 13, line.n - 13};
  if (!all(h->reason, VALUE)) refuse(h, 502, "a character that no reason has");
  if (read_fields(h, p, end, &s) == 0) check_framing(h, &s);
}
