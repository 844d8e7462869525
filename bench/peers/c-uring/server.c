/* c-uring: echo (and line, sink) on io_uring: multishot accept, multishot recv
 * into a provided buffer ring, sends batched into one io_uring_enter per loop.
 * server MODE ADDR */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#define BGID 7
enum { ACCEPT = 1, RECV, SEND, CLOSE };

static struct io_uring R;
static struct io_uring_buf_ring *br;
static char *bufs;
static int mode, lfd, tcp;
static unsigned bsz = 2048,
                nbuf =
                  256; /* few, so that they stay in the cache: the ring hands them out in turn */

/* per connection: bytes a send could not take yet wait in out; one send in flight */
typedef struct {
  char *part;
  unsigned npart;
  char *q;
  unsigned nq, sending;
  int shut;
  char *fly;
  unsigned nfly, foff;
} conn;
static conn *C[65536];

static struct io_uring_sqe *sqe(void) {
  struct io_uring_sqe *s = io_uring_get_sqe(&R);
  if (!s) {
    io_uring_submit(&R);
    s = io_uring_get_sqe(&R);
  }
  return s;
}
static void tag(struct io_uring_sqe *s, int op, int fd, int bid) {
  s->user_data = ((uint64_t)op << 56) | ((uint64_t)(unsigned)bid << 32) | (unsigned)fd;
}
static void do_accept(void) {
  struct io_uring_sqe *s = sqe();
  io_uring_prep_multishot_accept(s, lfd, NULL, NULL, SOCK_CLOEXEC);
  tag(s, ACCEPT, lfd, 0);
}
static void do_recv(int fd) {
  struct io_uring_sqe *s = sqe();
  io_uring_prep_recv_multishot(s, fd, NULL, 0, 0);
  s->flags |= IOSQE_BUFFER_SELECT;
  s->buf_group = BGID;
  tag(s, RECV, fd, 0);
}
static void recycle(int bid) {
  io_uring_buf_ring_add(br, bufs + (size_t)bid * (size_t)bsz, bsz, (unsigned short)bid,
                        io_uring_buf_ring_mask(nbuf), 0);
  io_uring_buf_ring_advance(br, 1);
}
static void drop(int fd) {
  conn *c = C[fd];
  if (!c) return;
  if (c->sending) {
    c->shut = 1;
    return;
  }
  free(c->q);
  free(c->fly);
  free(c->part);
  free(c);
  C[fd] = NULL;
  struct io_uring_sqe *s = sqe();
  io_uring_prep_close(s, fd);
  tag(s, CLOSE, fd, 0);
}
/* bid >= 0: send straight out of the receive buffer and recycle it afterwards */
static void do_send(int fd, const char *p, unsigned n, int bid) {
  conn *c = C[fd];
  struct io_uring_sqe *s = sqe();
  io_uring_prep_send(s, fd, p, n, MSG_NOSIGNAL | MSG_WAITALL);
  tag(s, SEND, fd, bid + 1);
  c->sending = n;
}
static void queue(conn *c, const char *p, unsigned n) {
  c->q = realloc(c->q, c->nq + n);
  memcpy(c->q + c->nq, p, n);
  c->nq += n;
}

static void on_recv(struct io_uring_cqe *e, int fd) {
  conn *c = C[fd];
  int more = e->flags & IORING_CQE_F_MORE,
      bid = e->flags & IORING_CQE_F_BUFFER ? (int)(e->flags >> IORING_CQE_BUFFER_SHIFT) : -1;
  if (e->res <= 0) {
    if (e->res == -ENOBUFS && c) {
      do_recv(fd);
      return;
    }
    if (bid >= 0) recycle(bid);
    drop(fd);
    return;
  }
  char *p = bufs + (size_t)bid * (size_t)bsz;
  unsigned n = (unsigned)e->res;
  if (mode == 's') recycle(bid);
  else {
    if (mode ==
        'l') { /* upper case in place; a partial line may go out early: bytes keep their order */
      for (unsigned i = 0; i < n; i++) {
        unsigned char ch = (unsigned char)p[i];
        p[i] = (char)(ch - ((ch - 'a' < 26u) << 5));
      }
      if (!c->npart && !c->sending && p[n - 1] == '\n') {
        do_send(fd, p, n, bid);
        goto out;
      }
      char *nl = memrchr(p, '\n', n);
      unsigned k = nl ? (unsigned)(nl + 1 - p) : 0;
      if (k) {
        if (c->npart) queue(c, c->part, c->npart), c->npart = 0;
        queue(c, p, k);
      }
      if (n > k) {
        c->part = realloc(c->part, c->npart + n - k);
        memcpy(c->part + c->npart, p + k, n - k);
        c->npart += n - k;
      }
    } else if (!c->sending && !c->nq) {
      do_send(fd, p, n, bid);
      goto out;
    } else queue(c, p, n);
    recycle(bid);
    if (!c->sending && c->nq) {
      c->fly = c->q;
      c->nfly = c->nq;
      c->q = NULL;
      c->nq = 0;
      do_send(fd, c->fly, c->nfly, -1);
    }
  }
out:
  if (!more) do_recv(fd);
}

static void on_send(struct io_uring_cqe *e, int fd, int bid) {
  conn *c = C[fd];
  if (bid >= 0) recycle(bid);
  if (!c) return;
  free(c->fly);
  c->fly = NULL;
  c->sending = 0;
  if (e->res < 0 || c->shut) {
    drop(fd);
    return;
  }
  if (c->nq) {
    c->fly = c->q;
    c->nfly = c->nq;
    c->q = NULL;
    c->nq = 0;
    do_send(fd, c->fly, c->nfly, -1);
  }
}

int main(int argc, char **argv) {
  struct rlimit rl;
  int one = 1, err;
  if (argc < 3) return 77;
  mode = !strcmp(argv[1], "echo")   ? 'e'
         : !strcmp(argv[1], "line") ? 'l'
         : !strcmp(argv[1], "sink") ? 's'
                                    : 0;
  if (!mode) return 77;
  const char *wl = getenv("BENCH_WORKLOAD") ? getenv("BENCH_WORKLOAD") : "";
  if (mode == 's') {
    bsz = 65536;
    nbuf = 16;
  }
  if (!strcmp(wl, "echo-16k")) {
    bsz = 16384;
    nbuf = 64;
  }
  if (!strcmp(wl, "echo-1k")) {
    bsz = 256;
    nbuf = 2048;
  }
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  signal(SIGPIPE, SIG_IGN);
  if (!strncmp(argv[2], "unix:", 5)) {
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    strncpy(u.sun_path, argv[2] + 5, sizeof u.sun_path - 1);
    unlink(u.sun_path);
    lfd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(lfd, (void *)&u, sizeof u)) return 1;
  } else {
    char h[64] = "", *c = strrchr(argv[2], ':');
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(c + 1))};
    memcpy(h, argv[2], (size_t)(c - argv[2]));
    inet_pton(AF_INET, h, &a.sin_addr);
    lfd = socket(AF_INET, SOCK_STREAM, 0);
    tcp = 1;
    setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(lfd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* inherited by accepted sockets */
    if (bind(lfd, (void *)&a, sizeof a)) return 1;
  }
  listen(lfd, 4096);
  struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                       IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN,
                              .cq_entries = 16384};
  if (io_uring_queue_init_params(4096, &R, &p)) {
    p.flags = 0;
    if (io_uring_queue_init_params(4096, &R, &p)) return 77;
  }
  io_uring_register_ring_fd(&R);
  br = NULL;
  struct io_uring_buf_reg reg = {.ring_entries = nbuf, .bgid = BGID};
  if (posix_memalign((void **)&br, 4096, nbuf * sizeof(struct io_uring_buf))) return 1;
  reg.ring_addr = (unsigned long)br;
  if ((err = io_uring_register_buf_ring(&R, &reg, 0))) {
    fprintf(stderr, "buf ring: %s\n", strerror(-err));
    return 1;
  }
  io_uring_buf_ring_init(br);
  bufs = malloc((size_t)nbuf * (size_t)bsz);
  for (unsigned i = 0; i < nbuf; i++)
    io_uring_buf_ring_add(br, bufs + (size_t)i * (size_t)bsz, bsz, (unsigned short)i,
                          io_uring_buf_ring_mask(nbuf), (int)i);
  io_uring_buf_ring_advance(br, nbuf);
  do_accept();
  for (;;) {
    struct io_uring_cqe *e;
    unsigned head, n = 0;
    io_uring_submit_and_wait(&R, 1);
    io_uring_for_each_cqe(&R, head, e) {
      int op = (int)(e->user_data >> 56), fd = (int)(uint32_t)e->user_data,
          bid = (int)((e->user_data >> 32) & 0xffffff) - 1;
      n++;
      if (op == ACCEPT) {
        if (e->res >= 0) {
          C[e->res] = calloc(1, sizeof(conn));
          do_recv(e->res);
        }
        if (!(e->flags & IORING_CQE_F_MORE)) do_accept();
      } else if (op == RECV) on_recv(e, fd);
      else if (op == SEND) on_send(e, fd, bid);
    }
    io_uring_cq_advance(&R, n);
  }
}
