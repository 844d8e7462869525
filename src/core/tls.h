/* TLS as a transport over another transport, by OpenSSL. Two objects: a context (certificates,
 * keys, trust, what was learnt about sessions), shared by connections, and the layer itself.
 *
 * OpenSSL is included by the tls*.c of this floor alone. Nothing here waits: the handshake goes on
 * as bytes arrive, and its end is told. */
#ifndef NP_TLS_H
#define NP_TLS_H

#include "core/stream.h"

typedef struct np_tls_context np_tls_context;

enum np_tls_verify {
  NP_TLS_VERIFY_NONE,    /* the peer's certificate is neither asked for (server) nor checked */
  NP_TLS_VERIFY_REQUEST, /* server: asked for, checked if there is one */
  NP_TLS_VERIFY_REQUIRE, /* must be there and be valid */
};

/* A protocol version, as OpenSSL numbers them; 0: the library's default. */
enum { NP_TLS_1_2 = 0x0303, NP_TLS_1_3 = 0x0304 };

/* What a context is made of. Strings: PEM text if it holds "-----BEGIN", else the path of a PEM
 * file. NULL: none. */
typedef struct np_tls_config {
  bool server;
  const char *cert, *key; /* the chain, leaf first; the key may stand in the same text */
  const char *password;   /* of the key; NULL: an encrypted key is refused, nobody is asked */
  const char *ca;         /* trusted; also a directory (c_rehash). NULL: the system's */
  int verify;
  int min_version, max_version;
  const char *alpn; /* in wire form: a length byte before each name, preferred first */
  size_t alpn_len;
  const char *ciphers; /* OpenSSL's list for TLS 1.2 */
  bool no_tickets;     /* server: no session can be resumed */
  const char *tickets; /* server: what the keys of tickets are made of; NULL: of chance */
  size_t tickets_len;
  bool ask_name; /* server: the handshake stops at the client's name (np_tls_handshake) */
} np_tls_config;

enum { NP_TLS_REASON_MAX = 256 };

/* One reference; or a negative code and the reason in why[NP_TLS_REASON_MAX]. */
int np_tls_context_new(const np_tls_config *c, np_tls_context **out, char *why);
np_tls_context *np_tls_context_ref(np_tls_context *x);
void np_tls_context_unref(np_tls_context *x);
/* A reload: tickets that `old` gave out stay good with x. */
void np_tls_context_keep_tickets(np_tls_context *x, np_tls_context *old);

/* Puts TLS on s, between two calls; the stream must have nothing unsent (-EBUSY). Unread bytes of s
 * go into TLS. `name`: the server's host name or IP literal, sent (SNI) and, if the context
 * verifies, checked; NULL on a server. `session`: under which name a session is kept for the next
 * time; NULL: none. */
int np_tls_put(np_stream *s, np_tls_context *x, const char *name, const char *session);

/* The TLS layer on top of s; NULL: another transport. */
np_transport *np_tls_of(np_stream *s);

/* Goes on with the handshake as far as it can now. 0: done; NP_TLS_NAME: the client's name is known
 * and nothing goes on until np_tls_use; -EAGAIN: `fn` is called when there is news; or the failure.
 * Reads and writes do the same by themselves. */
enum { NP_TLS_NAME = 1 };
typedef void np_tls_fn(void *owner);
int np_tls_handshake(np_transport *t);
void np_tls_on_handshake(np_transport *t, np_tls_fn *fn, void *owner); /* NULL: nobody listens */
const char *np_tls_client_name(np_transport *t); /* what the client asked for; NULL: nothing */

/* Goes on with another context, whose certificate, trust and versions count from now on; NULL: with
 * the one it began with. 0, or the failure, which ends the layer. */
int np_tls_use(np_transport *t, np_tls_context *x);

typedef struct np_tls_info {
  const char *version, *cipher; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
  const char *alpn;             /* chosen; NULL: none */
  size_t alpn_len;
  const char *name; /* SNI; NULL */
  bool resumed, server;
} np_tls_info;
void np_tls_info_get(np_transport *t, np_tls_info *out); /* strings live as long as the layer */

/* The peer's certificate as plain text. */
typedef struct np_tls_peer {
  char subject[512], issuer[512]; /* RFC 2253 */
  char common_name[256];          /* the subject's, as it is; "": none */
  char serial[65];                /* hex */
  char fingerprint[65];           /* SHA-256 of the certificate, hex */
  int64_t not_before, not_after;  /* seconds since 1970 */
  char names[4096]; /* subjectAltName: DNS names, addresses, URIs, mail; each NUL-terminated */
  size_t names_len;
} np_tls_peer;
bool np_tls_peer_get(np_transport *t, np_tls_peer *out); /* false: it showed none */

void np_tls_shutdown(np_loop *l); /* the loop goes: its spare buffers are freed */

/* The SHA-1 of p[0..n) in base64, and p[0..n) itself (out has room for 4 bytes per 3 and a zero):
 * characters written, or -ENOMEM. */
enum { NP_SHA1_BASE64 = 32 };
int np_sha1_base64(const char *p, size_t n, char out[NP_SHA1_BASE64]);
int np_base64(const char *p, size_t n, char *out);

#endif
