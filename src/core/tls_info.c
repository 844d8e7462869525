/* What can be asked of a TLS connection: version, cipher, names, and the peer's certificate as
 * plain text. */
#include <stdio.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "core/tls_impl.h"

void np_tls_info_get(np_transport *t, np_tls_info *out) {
  SSL *ssl = np_tls_ssl(t);
  const unsigned char *alpn;
  unsigned len;
  SSL_get0_alpn_selected(ssl, &alpn, &len);
  *out = (np_tls_info){
    .version = SSL_get_version(ssl),
    .cipher = SSL_get_cipher_name(ssl),
    .alpn = len ? (const char *)alpn : NULL,
    .alpn_len = len,
    .name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name),
    .resumed = SSL_session_reused(ssl),
    .server = SSL_is_server(ssl),
  };
}

static void print_name(X509_NAME *name, char *buf, size_t size) {
  BIO *b = BIO_new(BIO_s_mem());
  *buf = '\0';
  if (!b) return;
  if (X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
    int n = BIO_read(b, buf, (int)size - 1);
    buf[n > 0 ? n : 0] = '\0';
  }
  BIO_free(b);
}

/* The last one says most; in UTF-8, and nothing if a zero is in it. */
static void print_common_name(X509_NAME *name, char *buf, size_t size) {
  int at = -1, last = -1;
  while ((at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0) last = at;
  *buf = '\0';
  if (last < 0) return;
  unsigned char *text = NULL;
  int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)));
  if (n > 0 && (size_t)n < size && !memchr(text, 0, (size_t)n)) {
    memcpy(buf, text, (size_t)n);
    buf[n] = '\0';
  }
  OPENSSL_free(text);
}

static void print_hex(const unsigned char *p, size_t n, char *buf, size_t size) {
  *buf = '\0';
  for (size_t i = 0; i < n && 2 * i + 2 < size; i++) snprintf(buf + 2 * i, 3, "%02x", p[i]);
}

static void print_serial(const X509 *x, char *buf, size_t size) {
  const ASN1_INTEGER *n = X509_get0_serialNumber(x);
  print_hex(ASN1_STRING_get0_data(n), (size_t)ASN1_STRING_length(n), buf, size);
}

static int64_t seconds(const ASN1_TIME *at) {
  struct tm tm;
  return at && ASN1_TIME_to_tm(at, &tm) ? (int64_t)timegm(&tm) : 0;
}

static void add_name(np_tls_peer *out, const char *p, size_t n) {
  if (memchr(p, 0, n) || out->names_len + n + 1 > sizeof out->names) return;
  memcpy(out->names + out->names_len, p, n);
  out->names[out->names_len + n] = '\0';
  out->names_len += n + 1;
}

static void add_address(np_tls_peer *out, const ASN1_OCTET_STRING *ip) {
  char *text = NULL;
  BIO *b = BIO_new(BIO_s_mem());
  const unsigned char *p = ASN1_STRING_get0_data(ip);
  int n = ASN1_STRING_length(ip);
  if (!b) return;
  if (n == 4) BIO_printf(b, "%d.%d.%d.%d", p[0], p[1], p[2], p[3]);
  else
    for (int i = 0; i + 1 < n; i += 2) BIO_printf(b, i ? ":%x" : "%x", p[i] << 8 | p[i + 1]);
  long len = BIO_get_mem_data(b, &text);
  if (len > 0) add_name(out, text, (size_t)len);
  BIO_free(b);
}

static void collect_names(X509 *x, np_tls_peer *out) {
  GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    int type;
    const ASN1_STRING *s = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
    if (type == GEN_IPADD) add_address(out, s);
    else if (type == GEN_DNS || type == GEN_URI || type == GEN_EMAIL)
      add_name(out, (const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
  }
  GENERAL_NAMES_free(names);
}

bool np_tls_peer_get(np_transport *t, np_tls_peer *out) {
  X509 *x = SSL_get0_peer_certificate(np_tls_ssl(t));
  unsigned char md[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  if (!x) return false;
  memset(out, 0, sizeof *out);
  print_name(X509_get_subject_name(x), out->subject, sizeof out->subject);
  print_name(X509_get_issuer_name(x), out->issuer, sizeof out->issuer);
  print_common_name(X509_get_subject_name(x), out->common_name, sizeof out->common_name);
  print_serial(x, out->serial, sizeof out->serial);
  if (X509_digest(x, EVP_sha256(), md, &len)) print_hex(md, len, out->fingerprint, 65);
  out->not_before = seconds(X509_get0_notBefore(x));
  out->not_after = seconds(X509_get0_notAfter(x));
  collect_names(x, out);
  return true;
}
