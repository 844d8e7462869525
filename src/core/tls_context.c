/* TLS contexts: certificates, keys, trust, ALPN, and the sessions that a client may resume.
 *
 * Everything is read when the context is made (files are small and local); a handshake touches no
 * file. A running context never changes: a reload makes another. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/error.h"
#include "core/tls_impl.h"

void np_tls_openssl_reason(char *buf, size_t size) {
  unsigned long e = ERR_get_error();
  const char *text = e ? ERR_reason_error_string(e) : NULL;
  if (e && ERR_SYSTEM_ERROR(e)) text = np_error_text(-ERR_GET_REASON(e));
  snprintf(buf, size, "%s", text ? text : "unknown failure");
  ERR_clear_error();
}

/* ---- what PEM texts and files hold ---- */

typedef struct source {
  const char *what, *given; /* "cert", and the text or path */
  BIO *bio;
  char *why;
} source;

static bool is_text(const char *s) { return strstr(s, "-----BEGIN") != NULL; }

static int fail(const source *s, const char *why) {
  snprintf(s->why, NP_TLS_REASON_MAX, "%s%s%.100s: %s", s->what, is_text(s->given) ? "" : " ",
           is_text(s->given) ? "" : s->given, why);
  ERR_clear_error();
  return NP_ECERT;
}

static int fail_openssl(const source *s) {
  char text[128];
  np_tls_openssl_reason(text, sizeof text);
  return fail(s, text);
}

static int open_source(source *s) {
  if (is_text(s->given)) {
    s->bio = BIO_new_mem_buf(s->given, -1);
    return s->bio ? 0 : -ENOMEM;
  }
  int fd = open(s->given, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold the loop */
  struct stat st;
  int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
  FILE *f = r == 0 ? fdopen(fd, "r") : NULL;
  if (f) s->bio = BIO_new_fp(f, BIO_CLOSE);
  if (s->bio) return 0;
  if (f) fclose(f);
  else if (fd >= 0) close(fd);
  if (r == 0) r = -ENOMEM;
  fail(s, r == -EINVAL ? "not a regular file" : np_error_text(r));
  return r;
}

/* Never the terminal: OpenSSL asks there by default, and the loop would stand. */
static int give_password(char *buf, int size, int writing, void *arg) {
  const char *password = arg;
  (void)writing;
  size_t n = password ? strlen(password) : 0;
  if (n > (size_t)size) return -1;
  if (n > 0) memcpy(buf, password, n);
  return (int)n;
}

/* True if PEM_read stopped because there is nothing (more) of that kind. */
static bool at_end(void) {
  unsigned long e = ERR_peek_last_error();
  int lib = ERR_GET_LIB(e), why = ERR_GET_REASON(e);
  bool end = (lib == ERR_LIB_PEM && why == PEM_R_NO_START_LINE) ||
             (lib == ERR_LIB_OSSL_DECODER && why == ERR_R_UNSUPPORTED);
  if (end) ERR_clear_error();
  return end;
}

static int load_chain(SSL_CTX *ctx, source *s) {
  int n = 0;
  for (X509 *x; (x = PEM_read_bio_X509(s->bio, NULL, give_password, NULL)) != NULL; n++) {
    int ok = n == 0 ? SSL_CTX_use_certificate(ctx, x) : SSL_CTX_add0_chain_cert(ctx, x);
    if (n == 0 || !ok) X509_free(x);
    if (!ok) return fail_openssl(s);
  }
  if (!at_end()) return fail_openssl(s);
  return n > 0 ? 0 : fail(s, "no certificate in it");
}

static int load_key(SSL_CTX *ctx, source *s, const char *password) {
  EVP_PKEY *key = PEM_read_bio_PrivateKey(s->bio, NULL, give_password, (void *)password);
  if (!key) return at_end() ? fail(s, "no private key in it") : fail_openssl(s);
  int ok = SSL_CTX_use_PrivateKey(ctx, key);
  EVP_PKEY_free(key);
  return ok && SSL_CTX_check_private_key(ctx) ? 0 : fail_openssl(s);
}

static int load_trust(SSL_CTX *ctx, source *s, bool server) {
  int n = 0;
  for (X509 *x; (x = PEM_read_bio_X509(s->bio, NULL, give_password, NULL)) != NULL; n++) {
    int ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x);
    if (ok && server) ok = SSL_CTX_add_client_CA(ctx, x); /* which authorities clients may use */
    X509_free(x);
    if (!ok) return fail_openssl(s);
  }
  if (!at_end()) return fail_openssl(s);
  return n > 0 ? 0 : fail(s, "no certificate in it");
}

static int use_cert(SSL_CTX *ctx, const np_tls_config *c, char *why) {
  source s = {"cert", c->cert, NULL, why};
  int r = open_source(&s);
  if (r == 0) r = load_chain(ctx, &s);
  BIO_free(s.bio);
  if (r < 0) return r;
  source k = {"key", c->key ? c->key : c->cert, NULL, why};
  r = open_source(&k);
  if (r == 0) r = load_key(ctx, &k, c->password);
  BIO_free(k.bio);
  return r;
}

static bool is_directory(const char *path) {
  struct stat st;
  return !is_text(path) && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int use_trust(SSL_CTX *ctx, const np_tls_config *c, char *why) {
  if (!c->ca) {
    if (!c->server) SSL_CTX_set_default_verify_paths(ctx);
    return 0;
  }
  source s = {"ca", c->ca, NULL, why};
  if (is_directory(c->ca)) return SSL_CTX_load_verify_dir(ctx, c->ca) ? 0 : fail_openssl(&s);
  int r = open_source(&s);
  if (r == 0) r = load_trust(ctx, &s, c->server);
  BIO_free(s.bio);
  return r;
}

/* ---- callbacks ---- */

/* The server's order counts. A client that names protocols and none of ours is refused (RFC
 * 7301). */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *len,
                       const unsigned char *in, unsigned n, void *arg) {
  np_tls_context *x = arg;
  unsigned char *chosen;
  (void)ssl;
  int r =
    SSL_select_next_proto(&chosen, len, (unsigned char *)x->alpn, (unsigned)x->alpn_len, in, n);
  *out = chosen;
  return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* The name lies in a list of one (RFC 6066 3): 2 bytes length, 1 byte type 0, 2 bytes length, the
 * name. */
static int on_hello(SSL *ssl, int *alert, void *arg) {
  const unsigned char *p;
  size_t n, len = 0;
  (void)alert, (void)arg;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) && n >= 5 && p[2] == 0) {
    len = (size_t)p[3] << 8 | p[4];
    if (len > n - 5) len = 0;
  }
  bool stop = np_tls_hello(np_tls_of_ssl(ssl), len ? p + 5 : NULL, len);
  return stop ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_SUCCESS;
}

static int on_session(SSL *ssl, SSL_SESSION *session) {
  np_tls *layer = np_tls_of_ssl(ssl);
  np_tls_context *x = layer->ctx;
  char *copy = layer->session ? strdup(layer->session) : NULL;
  if (!copy) return 0;
  np_tls_session *s = &x->sessions[x->next_session];
  x->next_session = (x->next_session + 1) % NP_TLS_SESSIONS;
  free(s->name);
  SSL_SESSION_free(s->session);
  *s = (np_tls_session){copy, session};
  return 1;
}

/* Of TLS 1.3 each is used once, and every connection brings new ones: a ticket that comes twice
 * tells an observer that both are the same client (RFC 8446 C.4). */
SSL_SESSION *np_tls_session_take(np_tls_context *x, const char *name) {
  for (int i = 0; i < NP_TLS_SESSIONS; i++) {
    np_tls_session *s = &x->sessions[(x->next_session + NP_TLS_SESSIONS - 1 - i) % NP_TLS_SESSIONS];
    if (!s->name || strcmp(s->name, name) != 0) continue;
    SSL_SESSION *session = s->session;
    if (SSL_SESSION_get_protocol_version(session) < NP_TLS_1_3) {
      SSL_SESSION_up_ref(session);
      return session;
    }
    free(s->name);
    *s = (np_tls_session){0};
    return session;
  }
  return NULL;
}

/* SSLKEYLOGFILE, as browsers and curl write it: for Wireshark. */
static void on_keylog(const SSL *ssl, const char *line) {
  char text[512];
  int fd = np_tls_of_ssl(ssl)->ctx->keylog;
  int n = snprintf(text, sizeof text, "%s\n", line);
  if (n > 0 && (size_t)n < sizeof text && write(fd, text, (size_t)n) < 0) return;
}

static void open_keylog(np_tls_context *x) {
  const char *path = getenv("SSLKEYLOGFILE");
  if (!path || !*path) return;
  x->keylog = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (x->keylog >= 0) SSL_CTX_set_keylog_callback(x->ctx, on_keylog);
}

/* ---- a connection of it ---- */

static bool is_address(const char *name) {
  unsigned char a[16];
  return inet_pton(AF_INET, name, a) == 1 || inet_pton(AF_INET6, name, a) == 1;
}

static bool expect(np_tls *x, const char *name) {
  bool address = is_address(name);
  if (!address && !SSL_set_tlsext_host_name(x->ssl, name)) return false;
  if (x->ctx->verify == NP_TLS_VERIFY_NONE) return true;
  SSL_set_hostflags(x->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS); /* RFC 9525 6.3 */
  if (address) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(x->ssl), name);
  return SSL_set1_host(x->ssl, name);
}

int np_tls_open(np_tls *x, const char *name, const char *session) {
  x->ssl = SSL_new(x->ctx->ctx);
  BIO *b = x->ssl ? BIO_new(x->ctx->bio) : NULL;
  if (!b) return -ENOMEM;
  BIO_set_data(b, x);
  SSL_set_bio(x->ssl, b, b);
  if (x->ctx->server) {
    SSL_set_accept_state(x->ssl);
    return 0;
  }
  SSL_set_connect_state(x->ssl);
  if (name && !expect(x, name)) return -EINVAL;
  if (!session) return 0;
  x->session = strdup(session);
  if (!x->session) return -ENOMEM;
  SSL_SESSION *kept = np_tls_session_take(x->ctx, session);
  if (kept) SSL_set_session(x->ssl, kept);
  SSL_SESSION_free(kept);
  return 0;
}

/* SSL_set_SSL_CTX itself exchanges certificates only. The session id context is what refuses a
 * ticket of a context that asked less of its clients. */
bool np_tls_switch(np_tls *x, np_tls_context *ctx) {
  if (!SSL_set_SSL_CTX(x->ssl, ctx->ctx)) return false;
  SSL_set_verify(x->ssl, SSL_CTX_get_verify_mode(ctx->ctx), NULL);
  SSL_set_min_proto_version(x->ssl, (int)SSL_CTX_get_min_proto_version(ctx->ctx));
  SSL_set_max_proto_version(x->ssl, (int)SSL_CTX_get_max_proto_version(ctx->ctx));
  return SSL_set_session_id_context(x->ssl, ctx->sid, sizeof ctx->sid);
}

/* ---- making ---- */

static bool add_trusted(EVP_MD_CTX *md, SSL_CTX *ctx) {
  const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));
  bool ok = true;
  for (int i = 0; ok && i < sk_X509_OBJECT_num(all); i++) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    const X509 *x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
    if (x) ok = X509_digest(x, EVP_sha256(), digest, &len) && EVP_DigestUpdate(md, digest, len);
  }
  return ok;
}

/* Resuming a session skips the client's certificate: a ticket is good only where the same is asked
 * of clients, across reloads and names. What is in a file of `ca` may be another authority now; a
 * directory is read when a client comes, so only its name counts. */
static bool name_sessions(np_tls_context *x, const np_tls_config *c) {
  const char *ca = c->ca ? c->ca : "";
  char verify = (char)('0' + c->verify);
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) && EVP_DigestUpdate(md, &verify, 1) &&
            EVP_DigestUpdate(md, ca, strlen(ca)) && add_trusted(md, x->ctx) &&
            EVP_DigestFinal_ex(md, x->sid, NULL);
  EVP_MD_CTX_free(md);
  return ok && SSL_CTX_set_session_id_context(x->ctx, x->sid, sizeof x->sid);
}

static int set_alpn(np_tls_context *x, const np_tls_config *c) {
  if (!c->alpn) return 0;
  x->alpn = malloc(c->alpn_len);
  if (!x->alpn) return -ENOMEM;
  memcpy(x->alpn, c->alpn, c->alpn_len);
  x->alpn_len = c->alpn_len;
  if (x->server) SSL_CTX_set_alpn_select_cb(x->ctx, choose_alpn, x);
  else SSL_CTX_set_alpn_protos(x->ctx, (const unsigned char *)x->alpn, (unsigned)x->alpn_len);
  return 0;
}

static int verify_mode(const np_tls_config *c) {
  if (c->verify == NP_TLS_VERIFY_NONE) return SSL_VERIFY_NONE;
  if (!c->server || c->verify == NP_TLS_VERIFY_REQUEST) return SSL_VERIFY_PEER;
  return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

/* Before these SSL_free_buffers took the buffer from under a record half read (CVE-2024-4741). */
static bool buffers_can_go(void) {
  static const unsigned fixed[] = {14, 6, 2, 1}; /* of 3.0, 3.1 ... */
  unsigned minor = OPENSSL_version_minor();
  return OPENSSL_version_major() > 3 || minor >= np_countof(fixed) ||
         OPENSSL_version_patch() >= fixed[minor];
}

static void set_up(np_tls_context *x, const np_tls_config *c) {
  SSL_CTX *ctx = x->ctx;
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                             SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_min_proto_version(ctx, c->min_version ? c->min_version : NP_TLS_1_2);
  SSL_CTX_set_max_proto_version(ctx, c->max_version);
  SSL_CTX_set_verify(ctx, verify_mode(c), NULL);
  if (c->server) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets carry the state */
    /* each is 25 us: signed, sent, and seldom used */
    SSL_CTX_set_num_tickets(ctx, c->no_tickets ? 0 : 1);
    if (c->no_tickets) SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (c->ask_name) SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
  } else {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
  }
}

static int build(np_tls_context *x, const np_tls_config *c, char *why) {
  x->ctx = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
  x->bio = np_tls_bio_method();
  if (!x->ctx || !x->bio) return -ENOMEM;
  set_up(x, c);
  if (c->tickets && !np_tls_ticket_keys(x, c)) return -ENOMEM;
  int r = c->cert ? use_cert(x->ctx, c, why) : 0;
  if (r == 0) r = use_trust(x->ctx, c, why);
  if (r == 0 && c->server && !name_sessions(x, c)) r = -ENOMEM;
  if (r == 0) r = set_alpn(x, c);
  if (r == 0 && c->ciphers && !SSL_CTX_set_cipher_list(x->ctx, c->ciphers)) {
    snprintf(why, NP_TLS_REASON_MAX, "ciphers: none of them is known");
    r = -EINVAL;
  }
  if (r == 0) open_keylog(x);
  return r;
}

int np_tls_context_new(const np_tls_config *c, np_tls_context **out, char *why) {
  np_tls_context *x = calloc(1, sizeof *x);
  *why = '\0';
  if (!x) return -ENOMEM;
  x->refs = 1;
  x->keylog = -1;
  x->server = c->server;
  x->ask_name = c->ask_name;
  x->free_buffers = buffers_can_go();
  x->verify = c->verify;
  ERR_clear_error();
  int r = build(x, c, why);
  ERR_clear_error();
  if (r < 0) np_tls_context_unref(x);
  else *out = x;
  return r;
}

np_tls_context *np_tls_context_ref(np_tls_context *x) {
  x->refs++;
  return x;
}

void np_tls_context_unref(np_tls_context *x) {
  if (--x->refs > 0) return;
  for (int i = 0; i < NP_TLS_SESSIONS; i++) {
    free(x->sessions[i].name);
    SSL_SESSION_free(x->sessions[i].session);
  }
  SSL_CTX_free(x->ctx);
  BIO_meth_free(x->bio);
  free(x->alpn);
  if (x->keylog >= 0) close(x->keylog);
  free(x);
}
