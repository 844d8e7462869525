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
  bool ticket_secret; /* the keys of tickets are the owner's choice */
  bool free_buffers;  /* OpenSSL's can be asked to go */
  int verify;
  char *alpn;
  size_t alpn_len;
  unsigned char sid[32]; /* server: what is asked of clients, by SHA-256 */
  int keylog;            /* descriptor of SSLKEYLOGFILE; -1 */
  np_tls_session sessions[NP_TLS_SESSIONS];
  int next_session; /* whose place the next one takes */
};

typedef struct np_bytes { /* p[off .. off + len) */
  char *p;
  size_t off, len, cap;
} np_bytes;

typedef struct np_tls {
  np_transport t;
  np_transport *below;         /* owned */
  np_tls_context *ctx, *first; /* in use; the one it began with, which has the BIO's methods */
  SSL *ssl;
  char *session;
  np_bytes in, out; /* ciphertext: read and not yet taken by OpenSSL; not yet sent */
  size_t owed;      /* plaintext whose records are in `out` */
  np_tls_fn *fn;
  void *owner;
  bool shaken, asking, named; /* handshake done; stands at the client's name; that was answered */
  bool below_eof, ended, notified;
  bool held;                /* `out` has the handshake's last bytes, for the first send after it */
  bool flooded;             /* OpenSSL must answer before it reads on, and `out` is full */
  int below_code, out_code; /* how reading and writing below failed */
  int failed;               /* the layer: nothing goes on */
  int wants;
  np_later tell; /* the handshake has ended */
  np_later push; /* sends what is held */
  char *name;    /* that the client asked for; NULL */
  char *reason;  /* of the failure; NULL: the code says it */
} np_tls;

/* tls_bio.c */
void np_bytes_drop(np_loop *l, np_bytes *b);
void np_bytes_shrink(np_loop *l, np_bytes *b);
void np_tls_flush(np_tls *x);
int np_bytes_append(np_loop *l, np_bytes *b, const char *p, size_t n);
void np_bytes_consume(np_bytes *b, size_t n);
size_t np_tls_below_pending(np_tls *x);

/* tls_tickets.c: keys made of c->tickets. False: no memory. */
bool np_tls_ticket_keys(np_tls_context *x, const np_tls_config *c);

/* tls_write.c */
int np_tls_encrypt(np_tls *x, const struct iovec *iov, int n); /* 0, or np_tls_outcome */
void np_tls_goodbye(np_tls *x);

/* tls.c. After a call of OpenSSL that did not succeed: -EAGAIN, 0 (the peer's close_notify), or the
 * failure. */
int np_tls_outcome(np_tls *x);

/* tls.c, for the context's callbacks. */
bool np_tls_hello(np_tls *x, const unsigned char *sni, size_t len); /* true: stop here */
np_tls *np_tls_of_ssl(const SSL *ssl);
BIO_METHOD *np_tls_bio_method(void);
SSL *np_tls_ssl(np_transport *t);

/* Makes x->ssl: what it expects of the peer, and a session to resume. 0 or a code. */
int np_tls_open(np_tls *x, const char *name, const char *session);
/* Goes on in the handshake as a connection of ctx. False: no memory. */
bool np_tls_switch(np_tls *x, np_tls_context *ctx);

/* Takes the session kept under name (its owner is the caller then); NULL: none. */
SSL_SESSION *np_tls_session_take(np_tls_context *x, const char *name);

/* The first reason in OpenSSL's queue, which is emptied: "certificate has expired". */
void np_tls_openssl_reason(char *buf, size_t size);

#endif
