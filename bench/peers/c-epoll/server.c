/* c-epoll: what one thread of plain C on epoll can do.  server MODE ADDR [UPSTREAM]
 * One shared read buffer, read then write at once, level triggered, no second
 * read unless the first filled the buffer, EPOLLOUT only after a short write. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int tls_main(int lfd, const char *cert, const char *key);
ssize_t ws_frames(int *shaken, char *p, size_t n, char *out, size_t *o); /* ws.c */

typedef struct conn conn;
struct conn {
  int fd;
  uint32_t ev;    /* epoll events armed */
  conn *peer;     /* proxy: the other side */
  char *in, *out; /* partial request, unsent output: only while there is any */
  size_t nin, nout;
  int pipe[2], big; /* proxy: pipe with npipe bytes for this connection, bulk seen */
  size_t npipe;
  int shaken; /* ws: behind the handshake */
};

#define BUF (1 << 18)
static char rb[2 * BUF], wb[8 * BUF];
static int ep, lfd;
static struct sockaddr_storage up;
static socklen_t uplen;

static void die(const char *s) {
  perror(s);
  exit(1);
}

static socklen_t addr(const char *s, struct sockaddr_storage *ss) {
  memset(ss, 0, sizeof *ss);
  if (!strncmp(s, "unix:", 5)) {
    struct sockaddr_un *u = (void *)ss;
    u->sun_family = AF_UNIX;
    strncpy(u->sun_path, s + 5, sizeof u->sun_path - 1);
    return sizeof *u;
  }
  struct sockaddr_in *i = (void *)ss;
  char h[64] = "";
  const char *c = strrchr(s, ':');
  memcpy(h, s, (size_t)(c - s));
  i->sin_family = AF_INET;
  i->sin_port = htons((uint16_t)atoi(c + 1));
  inet_pton(AF_INET, h, &i->sin_addr);
  return sizeof *i;
}

static void arm(conn *c, uint32_t ev) {
  if (c->ev == ev) return;
  struct epoll_event e = {.events = ev, .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
  c->ev = ev;
}

static conn *add(int fd, uint32_t ev) {
  conn *c = calloc(1, sizeof *c);
  struct epoll_event e = {.events = ev, .data.ptr = c};
  c->fd = fd;
  c->ev = ev;
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  return c;
}

static conn *dead; /* freed after the batch: later events of it may still name them */
static void drop(conn *c) {
  if (c->fd < 0) return;
  close(c->fd);
  c->fd = -1;
  free(c->in);
  free(c->out);
  if (c->npipe) {
    close(c->pipe[0]);
    close(c->pipe[1]);
  }
  conn *p = c->peer;
  c->peer = dead;
  dead = c;
  if (p) {
    p->peer = NULL;
    drop(p);
  }
}

/* write now, keep what the socket did not take; 0 if all went out */
static int put(conn *c, const char *p, size_t n) {
  if (!c->nout) {
    ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
    if (k == (ssize_t)n) return 0;
    if (k < 0) {
      if (errno != EAGAIN) return -1;
      k = 0;
    }
    p += k;
    n -= (size_t)k;
  }
  c->out = realloc(c->out, c->nout + n);
  memcpy(c->out + c->nout, p, n);
  c->nout += n;
  return 1;
}

static int flush_out(conn *c) {
  ssize_t k = send(c->fd, c->out, c->nout, MSG_NOSIGNAL);
  if (k < 0) return errno == EAGAIN ? 1 : -1;
  c->nout -= (size_t)k;
  if (c->nout) {
    memmove(c->out, c->out + k, c->nout);
    return 1;
  }
  free(c->out);
  c->out = NULL;
  return 0;
}

/* ------------------------------------------------- one function per protocol:
 * given all unread bytes, returns how many it used; replies go through put() */

static ssize_t do_echo(conn *c, char *p, size_t n) { return put(c, p, n) < 0 ? -1 : (ssize_t)n; }
static ssize_t do_sink(conn *c, char *p, size_t n) { return (ssize_t)n; }

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
    if (memcmp(s, "GET ", 4)) return -1;
    memcpy(wb + o, r, sizeof r - 1);
    o += sizeof r - 1;
    s = e + 4;
  }
  return o && put(c, wb, o) < 0 ? -1 : s - p;
}

/* RESP: GET and SET of short keys in an open hash */
static struct ent {
  char *k, *v;
  uint32_t kn, vn;
} tab[1 << 16];
static struct ent *slot(const char *k, size_t n) {
  uint32_t h = 2166136261u;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)k[i]) * 16777619u;
  for (;; h++) {
    struct ent *e = &tab[h & 0xffff];
    if (!e->k || (e->kn == n && !memcmp(e->k, k, n))) return e;
  }
}
static size_t head(char *p, uint32_t v) { /* $v\r\n */
  char t[12];
  int i = 12;
  do t[--i] = (char)('0' + v % 10);
  while (v /= 10);
  *p = '$';
  memcpy(p + 1, t + i, (size_t)(12 - i));
  memcpy(p + 13 - i, "\r\n", 2);
  return (size_t)(15 - i);
}
static char *number(char *p, char *end, size_t *v) { /* digits \r\n; NULL while incomplete */
  size_t n = 0;
  for (; p < end && *p >= '0' && *p <= '9'; p++) n = n * 10 + (size_t)(*p - '0');
  *v = n;
  return p + 2 <= end ? p + 2 : NULL;
}
static ssize_t do_resp(conn *c, char *p, size_t n) {
  char *s = p, *end = p + n;
  size_t o = 0;
  for (;;) {
    char *a[3], *q = s;
    size_t l[3], argc, i;
    if (q == end || !(q = number(q + 1, end, &argc))) break;
    if (*s != '*' || argc < 1 || argc > 3) return -1;
    for (i = 0; i < argc; i++) {
      if (q >= end || !(q = number(q + 1, end, &l[i]))) goto out;
      a[i] = q;
      q += l[i] + 2;
      if (q > end) goto out;
    }
    if (argc == 2) {
      struct ent *e = slot(a[1], l[1]);
      if (o + e->vn + 32 > sizeof wb) goto out;
      if (!e->k) {
        memcpy(wb + o, "$-1\r\n", 5);
        o += 5;
      } else {
        o += head(wb + o, e->vn);
        memcpy(wb + o, e->v, e->vn);
        o += e->vn;
        memcpy(wb + o, "\r\n", 2);
        o += 2;
      }
    } else if (argc == 3) {
      struct ent *e = slot(a[1], l[1]);
      if (!e->k) {
        e->k = malloc(l[1]);
        memcpy(e->k, a[1], l[1]);
        e->kn = (uint32_t)l[1];
      }
      e->v = realloc(e->v, l[2]);
      memcpy(e->v, a[2], l[2]);
      e->vn = (uint32_t)l[2];
      memcpy(wb + o, "+OK\r\n", 5);
      o += 5;
    } else {
      memcpy(wb + o, "+PONG\r\n", 7);
      o += 7;
    }
    s = q;
  }
out:
  return o && put(c, wb, o) < 0 ? -1 : s - p;
}

static ssize_t do_ws(conn *c, char *p, size_t n) {
  size_t o = 0;
  ssize_t used = ws_frames(&c->shaken, p, n, wb, &o);
  return o && put(c, wb, o) < 0 ? -1 : used;
}

static ssize_t (*handle)(conn *, char *, size_t);

static void readable(conn *c) {
  if (handle == do_sink) {
    ssize_t n = 0;
    for (int i = 0; i < 8 && (n = recv(c->fd, rb, BUF, 0)) == BUF; i++)
      ;
    if (n == 0 || (n < 0 && errno != EAGAIN)) drop(c);
    return;
  }
  size_t have = c->nin;
  if (have) memcpy(rb, c->in, have);
  ssize_t n = recv(c->fd, rb + have, 65536, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN) drop(c);
    return;
  }
  size_t len = have + (size_t)n;
  ssize_t used = handle(c, rb, len);
  if (used < 0) {
    drop(c);
    return;
  }
  if (c->nout) arm(c, EPOLLOUT);
  if ((c->nin = len - (size_t)used)) {
    c->in = realloc(c->in, c->nin);
    memcpy(c->in, rb + used, c->nin);
  } else if (c->in) {
    free(c->in);
    c->in = NULL;
  }
}

/* proxy.  Small messages are copied with one buffer; after a read that filled it
 * the bytes go through a pipe with splice, no copy.  One pipe is shared as long as
 * it is empty after each turn; what the destination does not take waits there (or
 * in out) and pauses the source. */
static int shared[2] = {-1, -1};
static void proxy_readable(conn *c) {
  conn *d = c->peer;
  for (int turn = 0; turn < 8; turn++) {
    ssize_t n;
    if (!c->big) {
      n = recv(c->fd, rb, 65536, 0);
      if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(c);
        return;
      }
      int r = put(d, rb, (size_t)n);
      if (r < 0) {
        drop(c);
        return;
      }
      if (r) goto full;
      if (n < 65536) return;
      c->big = 1;
      continue;
    }
    if (shared[0] < 0) {
      if (pipe2(shared, O_NONBLOCK | O_CLOEXEC)) die("pipe");
      fcntl(shared[1], F_SETPIPE_SZ, 1 << 20);
    }
    n = splice(c->fd, NULL, shared[1], NULL, 1 << 20, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n <= 0) {
      if (n == 0 || errno != EAGAIN) drop(c);
      return;
    }
    size_t left = (size_t)n;
    while (left) {
      ssize_t k = splice(shared[0], NULL, d->fd, NULL, left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (k > 0) {
        left -= (size_t)k;
        continue;
      }
      if (k < 0 && errno == EAGAIN) break;
      drop(c);
      return;
    }
    if (left) { /* the pipe stays with the destination until it is empty */
      memcpy(d->pipe, shared, sizeof shared);
      d->npipe = left;
      shared[0] = shared[1] = -1;
      goto full;
    }
    if (n < 65536) return;
  }
  return;
full:
  arm(d, d->ev | EPOLLOUT);
  arm(c, c->ev & ~(uint32_t)EPOLLIN);
}
static int pipe_out(conn *c) {
  while (c->npipe) {
    ssize_t k = splice(c->pipe[0], NULL, c->fd, NULL, c->npipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (k <= 0) return k < 0 && errno == EAGAIN ? 1 : -1;
    c->npipe -= (size_t)k;
  }
  if (shared[0] < 0) memcpy(shared, c->pipe, sizeof shared);
  else {
    close(c->pipe[0]);
    close(c->pipe[1]);
  }
  return 0;
}

static void accept_all(int proxy, int tcp) {
  int one = 1;
  for (int fd; (fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    if (tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn *c = add(fd, EPOLLIN);
    if (proxy) {
      int u = socket(up.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (connect(u, (void *)&up, uplen) && errno != EINPROGRESS) {
        close(u);
        drop(c);
        continue;
      }
      if (up.ss_family == AF_INET) setsockopt(u, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      c->peer = add(u, EPOLLIN);
      c->peer->peer = c;
    }
  }
}

static _Noreturn void loop(int proxy, int tcp) {
  struct epoll_event ev[256];
  ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event l = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &l);
  for (;;) {
    int n = epoll_wait(ep, ev, 256, -1);
    for (int i = 0; i < n; i++) {
      conn *c = ev[i].data.ptr;
      if (!c) {
        accept_all(proxy, tcp);
        continue;
      }
      if (c->fd < 0) continue;
      if (ev[i].events & EPOLLOUT) {
        int r = c->npipe ? pipe_out(c) : flush_out(c);
        if (r < 0) {
          drop(c);
          continue;
        }
        if (r == 0) {
          arm(c, proxy ? c->ev & ~(uint32_t)EPOLLOUT : EPOLLIN);
          if (c->peer) arm(c->peer, c->peer->ev | EPOLLIN);
        }
      }
      if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (proxy) proxy_readable(c);
        else readable(c);
      }
    }
    while (dead) {
      conn *c = dead;
      dead = c->peer;
      free(c);
    }
  }
}

static int udp_socket(const struct sockaddr_storage *a, socklen_t al) {
  int s = socket(a->ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0), sz = 4 << 20;
  struct epoll_event ev = {.events = EPOLLIN};
  setsockopt(s, SOL_SOCKET, SO_RCVBUF, &sz, sizeof sz);
  if (bind(s, (void *)a, al)) die("bind");
  ep = epoll_create1(0);
  epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
  return s;
}

static _Noreturn void udp(const struct sockaddr_storage *a, socklen_t al) {
  struct sockaddr_storage from;
  socklen_t fl;
  struct epoll_event ev;
  int s = udp_socket(a, al);
  for (;;) {
    epoll_wait(ep, &ev, 1, -1);
    for (ssize_t n; fl = sizeof from, (n = recvfrom(s, rb, 65536, 0, (void *)&from, &fl)) >= 0;)
      sendto(s, rb, (size_t)n, 0, (void *)&from, fl);
  }
}

enum { MANY = 64 };

/* The same with recvmmsg and sendmmsg. */
static _Noreturn void udp_batch(const struct sockaddr_storage *a, socklen_t al) {
  static char data[MANY][65536];
  static struct sockaddr_storage from[MANY];
  static struct iovec iov[MANY];
  static struct mmsghdr h[MANY];
  struct epoll_event ev;
  int s = udp_socket(a, al);
  for (;;) {
    epoll_wait(ep, &ev, 1, -1);
    for (int n;;) {
      for (int i = 0; i < MANY; i++) {
        iov[i] = (struct iovec){data[i], sizeof data[i]};
        h[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                       .msg_namelen = sizeof from[i],
                                       .msg_iov = &iov[i],
                                       .msg_iovlen = 1};
      }
      if ((n = recvmmsg(s, h, MANY, 0, NULL)) <= 0) break;
      for (int i = 0; i < n; i++) iov[i].iov_len = h[i].msg_len;
      for (int i = 0, k; i < n; i += k)
        if ((k = sendmmsg(s, h + i, (unsigned)(n - i), 0)) <= 0) break;
    }
  }
}

static _Noreturn void fdpass(int sending) {
  int c = accept(lfd, NULL, NULL), dev = 0;
  if (c < 0) die("accept");
  union {
    struct cmsghdr h;
    char b[CMSG_SPACE(sizeof(int) * 253)];
  } u;
  char byte[256] = "F";
  for (;;) {
    struct iovec iov = {byte, sending ? 1 : sizeof byte};
    struct msghdr m = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
    ssize_t n;
    if (sending) {
      m.msg_controllen = CMSG_SPACE(sizeof(int));
      struct cmsghdr *h = CMSG_FIRSTHDR(&m);
      h->cmsg_level = SOL_SOCKET;
      h->cmsg_type = SCM_RIGHTS;
      h->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(h), &dev, sizeof dev);
      n = sendmsg(c, &m, MSG_NOSIGNAL);
    } else {
      n = recvmsg(c, &m, MSG_CMSG_CLOEXEC);
      if (n > 0)
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
          for (size_t i = 0, k = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i < k; i++) {
            int f;
            memcpy(&f, CMSG_DATA(h) + i * sizeof f, sizeof f);
            close(f);
          }
    }
    if (n <= 0) {
      close(c);
      if ((c = accept(lfd, NULL, NULL)) < 0) die("accept");
    }
  }
}

int main(int argc, char **argv) {
  struct sockaddr_storage a;
  struct rlimit rl;
  int one = 1;
  if (argc < 3) return 77;
  const char *m = argv[1];
  socklen_t al = addr(argv[2], &a);
  if (argc > 3 && strchr(argv[3], ':')) uplen = addr(argv[3], &up);
  signal(SIGPIPE, SIG_IGN);
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  if (!strcmp(m, "udp")) udp(&a, al);
  if (!strcmp(m, "udp-batch")) udp_batch(&a, al);
  int blocking = !strncmp(m, "fd", 2);
  lfd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
  setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (a.ss_family == AF_UNIX) unlink(((struct sockaddr_un *)&a)->sun_path);
  if (bind(lfd, (void *)&a, al) || listen(lfd, 4096)) die("listen");
  if (!strcmp(m, "fdrecv") || !strcmp(m, "fdsend")) fdpass(!strcmp(m, "fdsend"));
  if (!strcmp(m, "tls")) return tls_main(lfd, getenv("BENCH_CERT"), getenv("BENCH_KEY"));
  handle = !strcmp(m, "echo")   ? do_echo
           : !strcmp(m, "line") ? do_line
           : !strcmp(m, "sink") ? do_sink
           : !strcmp(m, "http") ? do_http
           : !strcmp(m, "resp") ? do_resp
           : !strcmp(m, "ws")   ? do_ws
                                : NULL;
  if (!handle && strcmp(m, "proxy")) return 77;
  loop(!handle, a.ss_family != AF_UNIX);
}
