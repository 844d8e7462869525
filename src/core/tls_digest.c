/* What handshakes of other protocols take from OpenSSL: a digest in text. */
#include <openssl/evp.h>

#include "core/tls.h"

int np_sha1_base64(const char *p, size_t n, char out[NP_SHA1_BASE64]) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(p, n, digest, &size, EVP_sha1(), NULL) != 1) return -ENOMEM;
  return EVP_EncodeBlock((unsigned char *)out, digest, (int)size);
}

int np_base64(const char *p, size_t n, char *out) {
  return EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)p, (int)n);
}
