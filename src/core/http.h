/* The head of an HTTP/1 message (RFC 9112): where it ends, what it says, and why it is refused.
 *
 * Pure functions of bytes. Strict: two readers of one message must not see two messages, so
 * whatever the RFC lets a recipient refuse is refused. */
#ifndef NP_HTTP_H
#define NP_HTTP_H

#include "core/base.h"

/* Field lines of a head; bytes of a field name. */
enum { NP_HTTP_FIELDS_MAX = 100, NP_HTTP_NAME_MAX = 256 };

typedef struct np_span {
  const char *p;
  size_t n;
} np_span;

typedef struct np_http_head {
  /* a request */
  np_span method, target;
  np_span path, query; /* of an origin or absolute target; without '?' (p NULL: none) */
  np_span host;        /* of an absolute target, else the Host field's; p NULL: none */
  /* a response */
  int status;
  np_span reason;
  /* both */
  int version;        /* 10 or 11 */
  const char *fields; /* the first field line; np_http_field goes on from there */
  bool keep_alive;    /* the connection stays usable after this message */
  bool chunked;       /* Transfer-Encoding: chunked */
  bool sized;         /* Content-Length, in length */
  bool expects;       /* Expect: 100-continue */
  bool upgrade;       /* Connection: upgrade */
  uint64_t length;
  /* refused: the status to answer (0: not refused) and why */
  int refusal;
  const char *why;
} np_http_head;

/* p[0..n) is a whole head with its empty line, as NP_COND_HEAD gives it. */
void np_http_request(const char *p, size_t n, np_http_head *out);
void np_http_response(const char *p, size_t n, np_http_head *out);

/* The field line at *s of a head that was not refused, moved to the next one; false: there is none.
 * The value is without the blanks around it. */
bool np_http_field(const char **s, const char *end, np_span *name, np_span *value);

#endif
