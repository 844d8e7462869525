/* The TLS layer, writing: plaintext into records, and close_notify behind the last one.
 *
 * Records are gathered in `out` and leave together: a call of the layer is one send. */
#include <string.h>

#include <openssl/err.h>

#include "core/tls_impl.h"

#ifdef NP_HARD
enum { ENCRYPT_MAX = 3 };
#else
enum { ENCRYPT_MAX = 64 << 10 }; /* plaintext encrypted before its records must leave */
#endif
enum { RECORD_MAX = 16384 }; /* plaintext of one record (RFC 8446 5.1) */

/* One record's worth: straight from a large piece, small ones joined in `room`. */
static struct iovec next_record(const struct iovec *iov, int n, int *at, size_t *off, size_t most,
                                char *room) {
  size_t len = 0;
  while (*at < n && iov[*at].iov_len == *off) ++*at, *off = 0;
  if (*at == n) return (struct iovec){room, 0};
  char *p = (char *)iov[*at].iov_base + *off;
  size_t left = iov[*at].iov_len - *off;
  if (left >= most || *at == n - 1) {
    len = np_min(left, most);
    *off += len;
    return (struct iovec){p, len};
  }
  for (; *at < n && len < most; ++*at, *off = 0) {
    size_t k = np_min(iov[*at].iov_len - *off, most - len);
    memcpy(room + len, (char *)iov[*at].iov_base + *off, k);
    len += k;
    *off += k;
    if (*off < iov[*at].iov_len) break;
  }
  return (struct iovec){room, len};
}

static size_t total(const struct iovec *iov, int n) {
  size_t len = 0;
  for (int i = 0; i < n; i++) len += iov[i].iov_len;
  return len;
}

void np_tls_goodbye(np_tls *x) {
  if (!x->shaken || x->failed || x->out_code || x->notified) return;
  ERR_clear_error();
  SSL_shutdown(x->ssl);
  ERR_clear_error();
  x->notified = true;
}

int np_tls_encrypt(np_tls *x, const struct iovec *iov, int n) {
  char room[RECORD_MAX];
  int at = 0;
  size_t off = 0, k;
  ERR_clear_error();
  while (x->owed < ENCRYPT_MAX) {
    size_t most = np_min(RECORD_MAX, ENCRYPT_MAX - x->owed);
    struct iovec v = next_record(iov, n, &at, &off, most, room);
    if (v.iov_len == 0) break;
    if (!SSL_write_ex(x->ssl, v.iov_base, v.iov_len, &k)) return np_tls_outcome(x);
    x->owed += k;
  }
  if (x->t.last && x->owed == total(iov, n)) np_tls_goodbye(x); /* in the same send */
  return 0;
}
