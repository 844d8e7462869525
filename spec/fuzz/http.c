/* Fuzzes HTTP/1 heads: the condition finds their end the same way in one piece and byte by byte,
 * and what the parser lets through has parts that lie in the head and is framed in one way only. */
#include <string.h>

#include "core/cond.h"
#include "core/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX = 4096 };

static void lies_in(np_span s, const char *p, size_t n) {
  if (s.p) np_assert(s.p >= p && s.n <= n && (size_t)(s.p - p) <= n - s.n);
}

static void check_head(const np_http_head *h, const char *p, size_t n, bool request) {
  const char *s = h->fields;
  np_span name, value;
  int fields = 0;
  if (h->refusal) {
    np_assert(h->why && h->refusal >= 400 && h->refusal < 600);
    return;
  }
  np_assert(!(h->chunked && h->sized) && (h->version == 10 || h->version == 11));
  np_assert(!h->chunked || h->version == 11);
  for (; np_http_field(&s, p + n, &name, &value); fields++) {
    lies_in(name, p, n);
    lies_in(value, p, n);
    np_assert(name.n > 0 && !memchr(value.p, '\r', value.n) && !memchr(value.p, '\0', value.n));
  }
  np_assert(fields <= NP_HTTP_FIELDS_MAX);
  if (!request) np_assert(h->status >= 100 && h->status <= 999);
  const np_span parts[] = {h->method, h->target, h->path, h->query, h->host, h->reason};
  for (size_t i = 0; i < np_countof(parts); i++) lies_in(parts[i], p, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  bool request = data[0] & 1;
  const char *p = (const char *)data + 1;
  np_condkind kind = request ? NP_COND_HTTP_REQUEST : NP_COND_HTTP_RESPONSE;
  np_cond whole = {.kind = kind, .max = MAX}, pieces = whole;
  size_t n = size - 1;
  int r = np_cond_check(&whole, p, n, false), q = 0;
  for (size_t i = 0; i <= n && q == 0; i++) q = np_cond_check(&pieces, p, i, false);
  np_assert(r == q);
  if (r != 1) return 0;
  np_assert(whole.off == pieces.off && whole.len == pieces.len && whole.take == pieces.take);
  np_assert(whole.off + whole.len == whole.take && whole.take <= n && whole.take <= MAX);
  np_http_head h;
  if (request) np_http_request(p + whole.off, whole.len, &h);
  else np_http_response(p + whole.off, whole.len, &h);
  check_head(&h, p + whole.off, whole.len, request);
  return 0;
}
