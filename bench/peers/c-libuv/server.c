/* c-libuv: the same servers on plain libuv, the substrate of the runtime.
 * server MODE ADDR [UPSTREAM].  uv_try_write first, uv_write for what is left;
 * -DALWAYS_UV_WRITE (binary c-libuv-w) queues every write instead. */
#define _GNU_SOURCE
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

typedef union {
  uv_handle_t h;
  uv_stream_t s;
  uv_tcp_t t;
  uv_pipe_t p;
} any;
typedef struct conn {
  any u;
  struct conn *peer;
  char *in;
  size_t nin;
  int paused;
  uv_connect_t cr;
} conn;
typedef struct {
  uv_write_t r;
  uv_buf_t b;
  conn *c;
  char data[];
} wreq;

#define BUF 65536
static char rb[4 * BUF], wb[8 * BUF];
static uv_loop_t *L;
static uv_stream_t *srv;
static int is_unix;
static struct sockaddr_storage up;
static ssize_t (*handle)(conn *, char *, size_t);

static void freed(uv_handle_t *h) {
  conn *c = (conn *)h;
  free(c->in);
  free(c);
}
static void drop(conn *c) {
  if (uv_is_closing(&c->u.h)) return;
  uv_close(&c->u.h, freed);
  if (c->peer) {
    conn *p = c->peer;
    c->peer = p->peer = NULL;
    drop(p);
  }
}
static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *b) {
  conn *c = (conn *)h;
  if (c->nin) memcpy(rb, c->in, c->nin);
  b->base = rb + c->nin;
  b->len = BUF;
}
static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b);
static void written(uv_write_t *r, int st) {
  wreq *w = (wreq *)r;
  if (w->c && w->c->peer && w->c->peer->paused && w->c->u.s.write_queue_size == 0) {
    w->c->peer->paused = 0;
    uv_read_start(&w->c->peer->u.s, on_alloc, on_read);
  }
  free(w);
}
static int put(conn *c, const char *p, size_t n) {
#ifndef ALWAYS_UV_WRITE
  if (c->u.s.write_queue_size == 0) {
    uv_buf_t b = uv_buf_init((char *)p, (unsigned)n);
    int k = uv_try_write(&c->u.s, &b, 1);
    if (k == (int)n) return 0;
    if (k > 0) {
      p += k;
      n -= (size_t)k;
    } else if (k != UV_EAGAIN) return -1;
  }
#endif
  wreq *w = malloc(sizeof *w + n);
  memcpy(w->data, p, n);
  w->b = uv_buf_init(w->data, (unsigned)n);
  w->c = c;
  return uv_write(&w->r, &c->u.s, &w->b, 1, written) ? -1 : 1;
}

static ssize_t do_echo(conn *c, char *p, size_t n) { return put(c, p, n) < 0 ? -1 : (ssize_t)n; }
static ssize_t do_sink(conn *c, char *p, size_t n) { return (ssize_t)n; }
static ssize_t do_proxy(conn *c, char *p, size_t n) {
  int r = put(c->peer, p, n);
  if (r < 0) return -1;
  if (c->peer->u.s.write_queue_size > BUF) {
    c->paused = 1;
    uv_read_stop(&c->u.s);
  }
  return (ssize_t)n;
}
static ssize_t do_line(conn *c, char *p, size_t n) {
  char *e = memrchr(p, '\n', n);
  if (!e) return 0;
  size_t k = (size_t)(e + 1 - p);
  for (size_t i = 0; i < k; i++) {
    unsigned char ch = (unsigned char)p[i];
    wb[i] = (char)(ch - ((ch - 'a' < 26u) << 5));
  }
  return put(c, wb, k) < 0 ? -1 : (ssize_t)k;
}
static ssize_t do_http(conn *c, char *p, size_t n) {
  static const char r[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n";
  char *s = p, *e;
  size_t o = 0;
  while ((e = memmem(s, n - (size_t)(s - p), "\r\n\r\n", 4))) {
    memcpy(wb + o, r, sizeof r - 1);
    o += sizeof r - 1;
    s = e + 4;
  }
  return o && put(c, wb, o) < 0 ? -1 : s - p;
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
  conn *c = (conn *)s;
  if (n <= 0) {
    if (n < 0) drop(c);
    return;
  }
  size_t len = c->nin + (size_t)n;
  ssize_t used = handle(c, rb, len);
  if (used < 0) {
    drop(c);
    return;
  }
  if ((c->nin = len - (size_t)used)) {
    c->in = realloc(c->in, c->nin);
    memcpy(c->in, rb + used, c->nin);
  }
}

static conn *new_conn(void) {
  conn *c = calloc(1, sizeof *c);
  if (is_unix) uv_pipe_init(L, &c->u.p, 0);
  else uv_tcp_init(L, &c->u.t);
  return c;
}
static void on_up(uv_connect_t *r, int st) {
  conn *u = (conn *)r->handle;
  if (st < 0 || !u->peer) {
    drop(u);
    return;
  }
  uv_tcp_nodelay(&u->u.t, 1);
  uv_read_start(&u->u.s, on_alloc, on_read);
  uv_read_start(&u->peer->u.s, on_alloc, on_read);
}
static void on_conn(uv_stream_t *s, int st) {
  if (st < 0) return;
  conn *c = new_conn();
  if (uv_accept(s, &c->u.s)) {
    drop(c);
    return;
  }
  if (!is_unix) uv_tcp_nodelay(&c->u.t, 1);
  if (handle != do_proxy) {
    uv_read_start(&c->u.s, on_alloc, on_read);
    return;
  }
  conn *u = new_conn();
  c->peer = u;
  u->peer = c;
  uv_tcp_connect(&u->cr, &u->u.t, (struct sockaddr *)&up, on_up);
}

/* fd passing: receive and close, or send as fast as the pipe takes it */
static void fd_closed(uv_handle_t *h) { free(h); }
static void on_fd(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
  if (n < 0) {
    uv_close((uv_handle_t *)s, fd_closed);
    return;
  }
  while (uv_pipe_pending_count((uv_pipe_t *)s) > 0) {
    uv_pipe_t *f = malloc(sizeof *f);
    uv_pipe_init(L, f, 0);
    if (uv_accept(s, (uv_stream_t *)f)) abort();
    uv_close((uv_handle_t *)f, fd_closed);
  }
}
static void fd_alloc(uv_handle_t *h, size_t n, uv_buf_t *b) {
  b->base = rb;
  b->len = 256;
}
static uv_pipe_t carried;
static void fd_sent(uv_write_t *r, int st) {
  static char one[] = "F";
  uv_buf_t b = uv_buf_init(one, 1);
  uv_stream_t *s = r->handle;
  if (st < 0 || uv_write2(r, s, &b, 1, (uv_stream_t *)&carried, fd_sent)) {
    free(r);
    if (!uv_is_closing((uv_handle_t *)s)) uv_close((uv_handle_t *)s, fd_closed);
  }
}
static void on_fdconn(uv_stream_t *s, int st) {
  uv_pipe_t *p = malloc(sizeof *p);
  uv_pipe_init(L, p, 1);
  uv_accept(s, (uv_stream_t *)p);
  if (s->data) {
    for (int i = 0; i < 16; i++) {
      uv_write_t *r = malloc(sizeof *r);
      r->handle = (uv_stream_t *)p;
      fd_sent(r, 0);
    }
  } else uv_read_start((uv_stream_t *)p, fd_alloc, on_fd);
}

static void u_alloc(uv_handle_t *h, size_t n, uv_buf_t *b) {
  b->base = rb;
  b->len = BUF;
}
static void on_udp(uv_udp_t *u, ssize_t n, const uv_buf_t *b, const struct sockaddr *a,
                   unsigned f) {
  if (!a) return;
  uv_buf_t o = uv_buf_init(b->base, (unsigned)n);
  uv_udp_try_send(u, &o, 1, a);
}

int main(int argc, char **argv) {
  struct rlimit rl;
  struct sockaddr_storage a;
  char host[64] = "";
  if (argc < 3) return 77;
  const char *m = argv[1], *col = strrchr(argv[2], ':');
  L = uv_default_loop();
  signal(SIGPIPE, SIG_IGN);
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  is_unix = !strncmp(argv[2], "unix:", 5);
  if (!is_unix) {
    memcpy(host, argv[2], (size_t)(col - argv[2]));
    uv_ip4_addr(host, atoi(col + 1), (struct sockaddr_in *)&a);
  }
  if (!strcmp(m, "udp")) {
    static uv_udp_t u;
    uv_udp_init(L, &u);
    if (uv_udp_bind(&u, (struct sockaddr *)&a, 0)) return 1;
    uv_udp_recv_start(&u, u_alloc, on_udp);
    return uv_run(L, UV_RUN_DEFAULT);
  }
  handle = !strcmp(m, "echo")    ? do_echo
           : !strcmp(m, "line")  ? do_line
           : !strcmp(m, "sink")  ? do_sink
           : !strcmp(m, "http")  ? do_http
           : !strcmp(m, "proxy") ? do_proxy
                                 : NULL;
  int fdmode = !strcmp(m, "fdrecv") || !strcmp(m, "fdsend");
  if (!handle && !fdmode) return 77;
  if (handle == do_proxy) {
    col = strrchr(argv[3], ':');
    memset(host, 0, sizeof host);
    memcpy(host, argv[3], (size_t)(col - argv[3]));
    uv_ip4_addr(host, atoi(col + 1), (struct sockaddr_in *)&up);
  }
  conn *l = new_conn();
  srv = &l->u.s;
  if (is_unix) {
    unlink(argv[2] + 5);
    if (uv_pipe_bind(&l->u.p, argv[2] + 5)) return 1;
  } else if (uv_tcp_bind(&l->u.t, (struct sockaddr *)&a, 0)) return 1;
  if (fdmode) {
    int sp[2];
    srv->data = strcmp(m, "fdrecv") ? L : NULL;
    if (srv->data) {
      uv_pipe_init(L, &carried, 0);
      uv_socketpair(SOCK_STREAM, 0, sp, 0, 0);
      uv_pipe_open(&carried, sp[0]);
    }
  }
  if (uv_listen(srv, 4096, fdmode ? on_fdconn : on_conn)) return 1;
  return uv_run(L, UV_RUN_DEFAULT);
}
