/* c-epoll TLS: OpenSSL on non-blocking sockets.  "GET /big" is answered with an
 * endless body, 16 KiB records, 128 KiB per send: records go to a memory BIO.
 * Everything else is echoed. */
#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <errno.h>

typedef struct {
  int fd, big, up;
  size_t off;
  SSL *s;
  BIO *out;
} tc;
static char body[1 << 14], b[1 << 14];

static int push(tc *c) { /* 1: all sent */
  char *p;
  size_t n = (size_t)BIO_get_mem_data(c->out, &p);
  if (n == c->off) return 1;
  ssize_t k = send(c->fd, p + c->off, n - c->off, MSG_NOSIGNAL);
  if (k < 0) return errno == EAGAIN ? 0 : -1;
  c->off += (size_t)k;
  if (c->off < n) return 0;
  BIO_reset(c->out); /* no copy: everything is out */
  c->off = 0;
  return 1;
}

static int step(tc *c) { /* events to wait for, 0: close */
  int r;
  if (c->big) {
    r = push(c);
    for (int i = 0; r == 1 && i < 4; i++) {
      for (int j = 0; j < 8; j++)
        if (SSL_write(c->s, body, 16384) <= 0) return 0;
      r = push(c);
    }
    return r < 0 ? 0 : EPOLLOUT;
  }
  if (!c->up) {
    r = SSL_do_handshake(c->s);
    if (push(c) < 0) return 0;
    if (r != 1) goto err;
    c->up = 1;
  }
  if (!c->big) {
    r = SSL_read(c->s, b, sizeof b);
    if (r <= 0) goto err;
    if (r > 8 && !memcmp(b, "GET /big", 8)) {
      c->big = 1;
      return EPOLLOUT;
    }
    if ((r = SSL_write(c->s, b, r)) <= 0) goto err;
    if (push(c) < 0) return 0;
  }
  return EPOLLIN;
err:
  switch (SSL_get_error(c->s, r)) {
  case SSL_ERROR_WANT_READ: return EPOLLIN;
  case SSL_ERROR_WANT_WRITE: return EPOLLOUT;
  default: return 0;
  }
}

int tls_main(int lfd, const char *cert, const char *key) {
  SSL_CTX *x = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(x, cert) != 1 ||
      SSL_CTX_use_PrivateKey_file(x, key, SSL_FILETYPE_PEM) != 1) {
    ERR_print_errors_fp(stderr);
    return 1;
  }
  SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(x, 0);
  SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  int ep = epoll_create1(0), one = 1;
  struct epoll_event ev[256], l = {.events = EPOLLIN};
  epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &l);
  for (;;) {
    int n = epoll_wait(ep, ev, 256, -1);
    for (int i = 0; i < n; i++) {
      tc *c = ev[i].data.ptr;
      if (!c) {
        for (int fd; (fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          c = calloc(1, sizeof *c);
          c->fd = fd;
          c->s = SSL_new(x);
          c->out = BIO_new(BIO_s_mem());
          SSL_set_bio(c->s, BIO_new_socket(fd, BIO_NOCLOSE), c->out);
          SSL_set_accept_state(c->s);
          struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
          epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        }
        continue;
      }
      ERR_clear_error();
      int w = step(c);
      if (!w) {
        SSL_free(c->s);
        close(c->fd);
        free(c);
        continue;
      }
      if (c->big || w != EPOLLIN) {
        struct epoll_event e = {.events = (uint32_t)w, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
      }
    }
  }
}
