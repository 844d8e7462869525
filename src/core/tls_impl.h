/* What tls.c (the layer) and tls_context.c (certificates and trust) share. */
#ifndef NP_TLS_IMPL_H
#define NP_TLS_IMPL_H

#include <openssl/ssl.h>

#include "core/tls.h"

/* Sessions that a client remembers, by name: enough for the servers a script talks to at once. */
enum { NP_TLS_SESSIONS = 64 };

typedef struct np_tls_session {
  char *name;
  SSL_SESSION *session;
} np_tls_session;

struct np_tls_context {
  size_t refs;
  SSL_CTX *ctx;
  BIO_METHOD *bio;
  bool server, ask_name;
  int verify;
  char *alpn;
  size_t alpn_len;
  int keylog; /* descriptor of SSLKEYLOGFILE; -1 */
  np_tls_session sessions[NP_TLS_SESSIONS];
  int next_session; /* whose place the next one takes */
};

/* The layer's own, which the context's callbacks need. */
typedef struct np_tls np_tls;
const char *np_tls_session_name(np_tls *x);
bool np_tls_hello(np_tls *x, const unsigned char *sni, size_t len); /* true: stop here */
np_tls_context *np_tls_context_of(np_tls *x);
BIO_METHOD *np_tls_bio_method(void);
SSL *np_tls_ssl(np_transport *t);

/* Takes the session kept under name (its owner is the caller then); NULL: none. */
SSL_SESSION *np_tls_session_take(np_tls_context *x, const char *name);

/* The first reason in OpenSSL's queue, which is emptied: "certificate has expired". */
void np_tls_openssl_reason(char *buf, size_t size);

#endif
