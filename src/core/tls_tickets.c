/* What the keys of a server's tickets are made of: of chance, which OpenSSL does by itself, or of a
 * secret that several servers share. Tickets themselves are OpenSSL's.
 *
 * Whoever has the keys can read the tickets, and of TLS 1.2 the connections that resume by them. */
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "core/tls_impl.h"

bool np_tls_ticket_keys(np_tls_context *x, const np_tls_config *c) {
  unsigned char keys[2 * SHA512_DIGEST_LENGTH];
  long n = SSL_CTX_set_tlsext_ticket_keys(x->ctx, NULL, 0); /* asks for their length */
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  bool ok = md && n > 0 && (size_t)n <= sizeof keys;
  for (unsigned char i = 0; ok && i < 2; i++)
    ok = EVP_DigestInit_ex(md, EVP_sha512(), NULL) && EVP_DigestUpdate(md, &i, 1) &&
         EVP_DigestUpdate(md, c->tickets, c->tickets_len) &&
         EVP_DigestFinal_ex(md, keys + i * SHA512_DIGEST_LENGTH, NULL);
  ok = ok && SSL_CTX_set_tlsext_ticket_keys(x->ctx, keys, n);
  EVP_MD_CTX_free(md);
  OPENSSL_cleanse(keys, sizeof keys);
  x->ticket_secret = true;
  return ok;
}

void np_tls_context_keep_tickets(np_tls_context *x, np_tls_context *old) {
  unsigned char keys[256];
  if (x->ticket_secret || old->ticket_secret) return; /* those are no chance, and not to be kept */
  long n = SSL_CTX_set_tlsext_ticket_keys(x->ctx, NULL, 0);
  if (n <= 0 || (size_t)n > sizeof keys) return;
  if (SSL_CTX_get_tlsext_ticket_keys(old->ctx, keys, n))
    SSL_CTX_set_tlsext_ticket_keys(x->ctx, keys, n);
  OPENSSL_cleanse(keys, sizeof keys);
}
