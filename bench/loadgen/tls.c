/* TLS modes: tlshs (full handshakes per second) and tlsbulk (download rate).
 * TLS 1.3, X25519, AES-128-GCM only, so every server does the same cryptography. */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lg.h"

static const char REQ_SMALL[] = "GET / HTTP/1.0\r\n\r\n";
static const char REQ_BIG[] = "GET /big HTTP/1.0\r\n\r\n";

typedef struct {
  int fd, sent, want;
  SSL *ssl;
  uint64_t t;
} tconn;

static SSL_CTX *CTX;
static int EPT, SRC;
static char B[1 << 16];

static void topen(tconn *c, int bulk) {
  c->fd = dial(&O.addr, O.addr.family == AF_INET ? 1 + SRC++ % O.srcips : 0);
  if (c->fd < 0) die("connect: %s", strerror(errno));
  nodelay(c->fd);
  c->t = now_ns();
  c->sent = 0;
  c->want = EPOLLIN | EPOLLOUT;
  c->ssl = SSL_new(CTX);
  SSL_set_fd(c->ssl, c->fd);
  SSL_set_connect_state(c->ssl);
  struct epoll_event ev = {.events = (uint32_t)c->want, .data.ptr = c};
  epoll_ctl(EPT, EPOLL_CTL_ADD, c->fd, &ev);
}

static void want(tconn *c, int w) {
  if (c->want == w) return;
  struct epoll_event ev = {.events = (uint32_t)w, .data.ptr = c};
  epoll_ctl(EPT, EPOLL_CTL_MOD, c->fd, &ev);
  c->want = w;
}

static void tclose(tconn *c) {
  SSL_set_quiet_shutdown(c->ssl, 1);
  SSL_free(c->ssl);
  c->ssl = NULL;
  close(c->fd);
}

/* 1: keep waiting, 0: done, 2: body ended, -1: failed */
static int tstep(tconn *c, int bulk) {
  int r;
  if (!c->sent) {
    r = SSL_do_handshake(c->ssl);
    if (r == 1) {
      const char *q = bulk ? REQ_BIG : REQ_SMALL;
      if (SSL_write(c->ssl, q, (int)strlen(q)) <= 0) return -1;
      c->sent = 1;
      want(c, EPOLLIN);
    }
  }
  if (c->sent)
    for (int i = 0; i < (bulk ? 16 : 1); i++) {
      r = SSL_read(c->ssl, B, sizeof B);
      if (r <= 0) break;
      W.bytes += (uint64_t)r;
      if (!bulk) return 0;
      W.ops++;
    }
  else r = -1;
  if (r > 0) return 1;
  switch (SSL_get_error(c->ssl, r)) {
  case SSL_ERROR_WANT_READ: want(c, EPOLLIN); return 1;
  case SSL_ERROR_WANT_WRITE: want(c, EPOLLIN | EPOLLOUT); return 1;
  case SSL_ERROR_ZERO_RETURN:
    return bulk ? 2 : -1; /* a server whose body has an end: fetch it again */
  default: return -1;
  }
}

static tconn *TC;
static int BULK;

static void tls_kick(void) {
  for (int i = 0; i < O.conns; i++)
    if (!TC[i].ssl) topen(&TC[i], BULK);
}
static int tls_busy(void) {
  if (BULK) {
    usleep(5000);
    return 0;
  } /* not read: the server soon has nowhere to write */
  for (int i = 0; i < O.conns; i++)
    if (TC[i].ssl) return 1;
  return 0;
}
static void tls_poll(void) {
  struct epoll_event ev[256];
  int k = epoll_wait(EPT, ev, 256, 20);
  for (int i = 0; i < k; i++) {
    tconn *c = ev[i].data.ptr;
    int r = tstep(c, BULK);
    if (r == 1) continue;
    if (r == 2)
      ;
    else if (r == 0) {
      hist_add(&W.h, now_ns() - c->t);
      W.ops++;
    } else if (++W.errors > 100) {
      ERR_print_errors_fp(stderr);
      die("too many TLS errors");
    }
    ERR_clear_error();
    tclose(c);
    if (!STOP) topen(c, BULK);
  }
}

int run_tls(void) {
  BULK = !strcmp(O.mode, "tlsbulk");
  EPT = epoll_create1(EPOLL_CLOEXEC);
  CTX = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(CTX, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(CTX, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(CTX, "X25519");
  SSL_CTX_set_verify(CTX, SSL_VERIFY_NONE, NULL);
  SSL_CTX_set_session_cache_mode(CTX, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(CTX, SSL_OP_NO_TICKET);
  SSL_CTX_set_mode(CTX, SSL_MODE_RELEASE_BUFFERS);
  if (BULK) SSL_CTX_set_read_ahead(CTX, 1);
  TC = calloc((size_t)O.conns, sizeof *TC);
  run_slices(tls_kick, tls_poll, tls_busy);
  print_result(NULL);
  return 0;
}
