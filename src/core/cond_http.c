/* The head of an HTTP/1 message: lines that end in CRLF until an empty one.
 *
 * Empty lines before it are skipped (RFC 9112 2.2); a line that ends in a bare LF is no HTTP.
 * State: scanned is where the search goes on, aux where the present line begins, aux2 where the
 * head begins, aux3 its length once it is met. */
#include "core/cond_impl.h"

#include <string.h>

int np_cond_http(np_cond *c, const char *p, size_t n, bool eof) {
  if (c->aux3 > 0) return done(c, c->aux2, c->aux3, c->aux2 + c->aux3);
  size_t end = np_min(n, c->max);
  while (c->scanned < end) {
    const char *nl = memchr(p + c->scanned, '\n', end - c->scanned);
    if (!nl) break;
    size_t at = (size_t)(nl - p), begin = c->aux;
    if (at == begin || nl[-1] != '\r') return NP_EBADMSG;
    c->scanned = c->aux = at + 1;
    if (at - begin > 1) continue;
    if (begin > c->aux2) { /* the empty line at the end */
      c->aux3 = at + 1 - c->aux2;
      return done(c, c->aux2, c->aux3, at + 1);
    }
    c->aux2 = at + 1;
  }
  c->scanned = end;
  if (n >= c->max) return -EMSGSIZE;
  if (!eof) return 0;
  return n == c->aux2 ? NP_COND_END : -EPIPE;
}
