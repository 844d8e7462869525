/* loadgen - single threaded epoll load generator for the runtime benchmarks.
 *
 *   loadgen MODE [options] ADDR          prints one JSON object on stdout
 *
 * MODE  echo     N connections, B byte messages, depth P, reply = request
 *       line     same, newline framed, reply = request in upper case
 *       resp     same, RESP GET/SET against a redis like server
 *       ws       same, WebSocket text messages, masked as a client's are
 *       connect  connect, echo once, close
 *       idle     open -i connections, echo once on each, report RSS per
 *                connection and the server's CPU time for each of the first and
 *                of the last tenth, then echo on -c more connections among them,
 *                then once more on each of the idle ones
 *       stream   write only; with -u the bytes are counted at our own upstream
 *       udp      datagram ping-pong
 *       fdsend   send SCM_RIGHTS messages to a peer that receives and closes
 *       fdrecv   receive SCM_RIGHTS messages from a peer that sends
 *       tlshs    full TLS 1.3 handshake, one small request, close
 *       tlsbulk  TLS download of an endless body
 *       probe    exit 0 once ADDR accepts connections (or -d seconds passed)
 *
 * ADDR  host:port, [v6]:port or unix:/path
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "lg.h"

opts_t O = {.conns = 1,
            .depth = 1,
            .size = 64,
            .dur = 2,
            .warm = 0.5,
            .srcips = 32,
            .nfds = 1,
            .slices = 1,
            .cores = {-1, -1}};
window_t W;

/* ------------------------------------------------------------------ helpers */

uint64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void die(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fprintf(stderr, "loadgen %s: ", O.mode ? O.mode : "");
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  exit(1);
}

static void parse_addr(const char *s, addr_t *a) {
  memset(a, 0, sizeof *a);
  if (!strncmp(s, "unix:", 5) || s[0] == '/') {
    struct sockaddr_un *u = (void *)&a->ss;
    const char *p = s[0] == '/' ? s : s + 5;
    u->sun_family = AF_UNIX;
    if (strlen(p) >= sizeof u->sun_path) die("path too long");
    strcpy(u->sun_path, p);
    a->len = sizeof *u;
    a->family = AF_UNIX;
    return;
  }
  const char *c = strrchr(s, ':');
  char host[64];
  if (!c) die("bad address %s", s);
  size_t n = (size_t)(c - s);
  if (n >= sizeof host) die("bad address %s", s);
  memcpy(host, s, n);
  host[n] = 0;
  if (host[0] == '[') {
    struct sockaddr_in6 *i = (void *)&a->ss;
    host[n - 1] = 0;
    i->sin6_family = AF_INET6;
    i->sin6_port = htons((uint16_t)atoi(c + 1));
    if (inet_pton(AF_INET6, host + 1, &i->sin6_addr) != 1) die("bad address %s", s);
    a->len = sizeof *i;
    a->family = AF_INET6;
  } else {
    struct sockaddr_in *i = (void *)&a->ss;
    i->sin_family = AF_INET;
    i->sin_port = htons((uint16_t)atoi(c + 1));
    if (inet_pton(AF_INET, n ? host : "127.0.0.1", &i->sin_addr) != 1) die("bad address %s", s);
    a->len = sizeof *i;
    a->family = AF_INET;
  }
}

void nodelay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* src > 0 binds to 127.0.0.(1+src), so that one client has more than 28 k ports */
int dial(const addr_t *a, int src) {
  int fd = socket(a->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket: %s", strerror(errno));
  if (a->family == AF_INET && src > 0) {
    struct sockaddr_in i = {.sin_family = AF_INET};
    int one = 1;
    i.sin_addr.s_addr = htonl(0x7f000001u + (uint32_t)src);
    setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (void *)&i, sizeof i)) die("bind: %s", strerror(errno));
  }
  if (connect(fd, (const void *)&a->ss, a->len) && errno != EINPROGRESS) {
    int e = errno;
    close(fd);
    errno = e;
    return -1;
  }
  return fd;
}

/* dial and wait until it is connected; AF_UNIX answers EAGAIN when the backlog is full */
static int dial_wait(const addr_t *a, int src) {
  for (int i = 0; i < 20000; i++) {
    int fd = dial(a, src);
    if (fd < 0) {
      if (errno == EAGAIN) {
        usleep(500);
        continue;
      }
      die("connect %s: %s", O.addr_s, strerror(errno));
    }
    struct epoll_event ev = {.events = EPOLLOUT};
    int ep = epoll_create1(0), err = 0;
    socklen_t l = sizeof err;
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    if (epoll_wait(ep, &ev, 1, 5000) != 1) die("connect %s: timeout", O.addr_s);
    close(ep);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &l);
    if (err) die("connect %s: %s", O.addr_s, strerror(err));
    if (a->family != AF_UNIX) nodelay(fd);
    return fd;
  }
  die("connect %s: backlog stays full", O.addr_s);
  return -1;
}

static double cli_cpu(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return (double)r.ru_utime.tv_sec + 1e-6 * (double)r.ru_utime.tv_usec + (double)r.ru_stime.tv_sec +
         1e-6 * (double)r.ru_stime.tv_usec;
}

/* CPU seconds of every thread of the given processes, to the nanosecond */
static double srv_cpu(void) {
  double sum = 0;
  for (int i = 0; i < O.npids; i++) {
    char p[96];
    snprintf(p, sizeof p, "/proc/%d/task", O.pids[i]);
    DIR *d = opendir(p);
    if (!d) continue;
    for (struct dirent *e; (e = readdir(d));) {
      if (e->d_name[0] == '.') continue;
      unsigned long long ns = 0;
      snprintf(p, sizeof p, "/proc/%d/task/%.16s/schedstat", O.pids[i], e->d_name);
      FILE *f = fopen(p, "r");
      if (!f) continue;
      if (fscanf(f, "%llu", &ns) == 1) sum += 1e-9 * (double)ns;
      fclose(f);
    }
    closedir(d);
  }
  return sum;
}

/* A server may fork for each connection: its children are counted from here on. */
static void add_children(void) {
  for (int i = 0; i < O.npids; i++) {
    char p[64];
    int kid;
    snprintf(p, sizeof p, "/proc/%d/task/%d/children", O.pids[i], O.pids[i]);
    FILE *f = fopen(p, "r");
    if (!f) continue;
    while (O.npids < 256 && fscanf(f, "%d", &kid) == 1) {
      int known = 0;
      for (int k = 0; k < O.npids; k++) known |= O.pids[k] == kid;
      if (!known) O.pids[O.npids++] = kid;
    }
    fclose(f);
  }
}

static double srv_rss(void) {
  double sum = 0;
  for (int i = 0; i < O.npids; i++) {
    char p[64];
    unsigned long long sz = 0, rss = 0;
    snprintf(p, sizeof p, "/proc/%d/statm", O.pids[i]);
    FILE *f = fopen(p, "r");
    if (!f) continue;
    if (fscanf(f, "%llu %llu", &sz, &rss) == 2) sum += (double)rss * (double)sysconf(_SC_PAGESIZE);
    fclose(f);
  }
  return sum;
}

/* ------------------------------------------------------- slices, calibration
 *
 * The machines this runs on are virtual and shared: a busy neighbour on the other
 * hardware thread makes everything 1.5 to 2.5 times slower for fractions of a
 * second, and the hypervisor takes the core away altogether (steal). So a
 * measurement is a number of short slices; before and after each one a fixed
 * piece of work (64 bytes through a socket pair) is timed on the server's core
 * and on ours together, and the driver scales by it and drops slices in which
 * the speed changed or time was stolen. */

int STOP;
typedef struct {
  double wall, ops, bytes, srv, cli, cal[2][2];
  long steal;
  uint64_t p50, p99, p999, max;
} slice;
static slice *SL;
static int NSL;
static hist HALL;

/* Both cores at once: the two may be hardware threads of one core, and the server
 * and we will both be busy.  ns of CPU time per write+read. */
static volatile int CAL_GO;
static double CAL[2];

static void cal_loop(int k) {
  struct timespec a, b;
  char buf[64] = "";
  int sp[2];
  double v[5];
  uint64_t n = 0;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp)) die("socketpair");
  __sync_fetch_and_add(&CAL_GO, 1);
  while (CAL_GO < 2)
    ;
  for (int r = 0; r < 5; r++) {
    uint64_t end = now_ns() + 500000;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (n = 0; now_ns() < end; n += 20)
      for (int i = 0; i < 20; i++)
        if (write(sp[0], buf, sizeof buf) != sizeof buf ||
            read(sp[1], buf, sizeof buf) != sizeof buf)
          die("calibration");
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    v[r] = (1e9 * (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec)) / (double)n;
  }
  for (int i = 1; i < 5; i++)
    for (int j = i; j && v[j] < v[j - 1]; j--) {
      double t = v[j];
      v[j] = v[j - 1];
      v[j - 1] = t;
    }
  CAL[k] = v[2];
  close(sp[0]);
  close(sp[1]);
}

static void *cal_thread(void *arg) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(O.cores[0], &set);
  sched_setaffinity(0, sizeof set, &set);
  cal_loop(0);
  return NULL;
}

static void cal_pair(double *srv, double *own) {
  pthread_t t;
  CAL_GO = 0;
  if (pthread_create(&t, NULL, cal_thread, NULL)) die("thread");
  cal_loop(1);
  pthread_join(t, NULL);
  *srv = CAL[0];
  *own = CAL[1];
}

static long stolen(void) { /* ticks taken by the hypervisor from the two cores */
  char line[512];
  long sum = 0;
  if (O.cores[0] < 0) return 0;
  FILE *f = fopen("/proc/stat", "r");
  while (f && fgets(line, sizeof line, f)) {
    int c;
    long v[8];
    if (sscanf(line, "cpu%d %ld %ld %ld %ld %ld %ld %ld %ld", &c, v, v + 1, v + 2, v + 3, v + 4,
               v + 5, v + 6, v + 7) == 9 &&
        (c == O.cores[0] || c == O.cores[1]))
      sum += v[7];
  }
  if (f) fclose(f);
  return sum;
}

static void drain(void (*poll)(void), int (*busy)(void)) {
  STOP = 1;
  for (uint64_t dl = now_ns() + 3000000000u; busy() && now_ns() < dl;) poll();
}

void run_slices(void (*kick)(void), void (*poll)(void), int (*busy)(void)) {
  uint64_t t, last = now_ns(), lastops = 0;
  SL = calloc((size_t)O.slices, sizeof *SL);
  STOP = 0;
  if (!O.limit) {
    kick();
    for (t = now_ns() + (uint64_t)(O.warm * 1e9); now_ns() < t;) {
      poll();
      if (W.ops != lastops) {
        lastops = W.ops;
        last = now_ns();
      } else if (now_ns() - last > 10000000000u)
        die("no progress for 10 s after %llu operations", (unsigned long long)W.ops);
    }
  }
  add_children();
  for (NSL = 0; NSL < O.slices; NSL++) {
    slice *s = &SL[NSL];
    if (O.cores[0] >= 0) {
      drain(poll, busy);
      cal_pair(&s->cal[0][0], &s->cal[1][0]);
      STOP = 0;
    }
    kick();
    if (O.cores[0] >= 0)
      for (t = now_ns() + 10000000u; now_ns() < t;) poll(); /* ramp up */
    W.ops = W.bytes = 0;
    hist_reset(&W.h);
    s->steal = stolen();
    double c0 = cli_cpu(), s0 = srv_cpu();
    uint64_t t0 = now_ns(), end = t0 + (uint64_t)(O.dur * 1e9), n = last = 0;
    for (lastops = 0; O.limit ? W.ops < O.limit : (t = now_ns()) < end; n++) {
      poll();
      if (W.ops != lastops) {
        lastops = W.ops;
        last = n;
      } else if (n - last > 1000) die("stalled after %llu operations", (unsigned long long)W.ops);
    }
    t = now_ns();
    s->srv = srv_cpu() - s0;
    s->cli = cli_cpu() - c0;
    s->steal = stolen() - s->steal;
    s->wall = 1e-9 * (double)(t - t0);
    s->ops = (double)W.ops;
    s->bytes = (double)W.bytes;
    s->p50 = hist_quantile(&W.h, 0.5);
    s->p99 = hist_quantile(&W.h, 0.99);
    s->p999 = hist_quantile(&W.h, 0.999);
    s->max = W.h.max;
    for (unsigned i = 0; i < HIST_LEN; i++) HALL.b[i] += W.h.b[i];
    HALL.n += W.h.n;
    HALL.sum += W.h.sum;
    if (W.h.max > HALL.max) HALL.max = W.h.max;
    if (O.cores[0] >= 0) {
      drain(poll, busy);
      cal_pair(&s->cal[0][1], &s->cal[1][1]);
    }
  }
}

void print_result(const char *extra) {
  double wall = 0, ops = 0, bytes = 0, srv = 0, cli = 0;
  for (int i = 0; i < NSL; i++) {
    wall += SL[i].wall;
    ops += SL[i].ops;
    bytes += SL[i].bytes;
    srv += SL[i].srv;
    cli += SL[i].cli;
  }
  printf(
    "{\"mode\":\"%s\",\"wall_s\":%.3f,\"ops\":%.0f,\"ops_s\":%.1f,\"mb_s\":%.2f,\"errors\":%llu",
    O.mode, wall, ops, ops / wall, 1e-6 * bytes / wall, (unsigned long long)W.errors);
  if (HALL.n)
    printf(",\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,\"mean_us\":%.2f",
           1e-3 * (double)hist_quantile(&HALL, 0.5), 1e-3 * (double)hist_quantile(&HALL, 0.99),
           1e-3 * (double)hist_quantile(&HALL, 0.999), 1e-3 * (double)HALL.max,
           1e-3 * (double)HALL.sum / (double)HALL.n);
  printf(",\"cli_util\":%.3f", cli / wall);
  if (O.npids)
    printf(",\"srv_util\":%.3f,\"srv_us_op\":%.4f,\"srv_us_mb\":%.2f,\"rss_mb\":%.2f", srv / wall,
           ops > 0 ? 1e6 * srv / ops : 0, bytes > 0 ? 1e12 * srv / bytes : 0, 1e-6 * srv_rss());
  if (O.cores[0] >= 0) {
    printf(",\"slices\":[");
    for (int i = 0; i < NSL; i++) {
      slice *s = &SL[i];
      printf("%s{\"ops_s\":%.1f,\"mb_s\":%.2f,\"srv_us_op\":%.4f,\"srv_us_mb\":%.2f,\"srv_util\":%."
             "3f,\"cli_util\":%.3f,"
             "\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,\"cal\":[%.0f,%.0f,%"
             ".0f,%.0f],\"steal\":%ld}",
             i ? "," : "", s->ops / s->wall, 1e-6 * s->bytes / s->wall,
             s->ops > 0 ? 1e6 * s->srv / s->ops : 0, s->bytes > 0 ? 1e12 * s->srv / s->bytes : 0,
             s->srv / s->wall, s->cli / s->wall, 1e-3 * (double)s->p50, 1e-3 * (double)s->p99,
             1e-3 * (double)s->p999, 1e-3 * (double)s->max, s->cal[0][0], s->cal[0][1],
             s->cal[1][0], s->cal[1][1], s->steal);
    }
    printf("]");
  }
  printf("%s%s}\n", extra && *extra ? "," : "", extra ? extra : "");
}

static int run_cal(void) { /* print the calibration of both cores a few times */
  for (int i = 0; i < O.slices; i++) {
    double a, b;
    cal_pair(&a, &b);
    printf("%s%.0f,%.0f", i ? "," : "[", a, b);
  }
  printf("]\n");
  return 0;
}

/* -------------------------------------------- request/response over streams */

/* K distinct messages, all of one length, so that runtimes which intern short
 * strings cannot live off a cache of one. reqs holds K+depth of them in a row:
 * any run of up to depth messages is contiguous and needs one send(). */
static char *reqs, *reps;
static size_t qlen, plen; /* bytes of one request, one reply */
static size_t K;

/* Head of a WebSocket frame with a whole text message; masked: with this mask. */
static size_t ws_head(char *p, size_t n, const unsigned char *mask) {
  size_t at = 2, wide = n < 126 ? 0 : n < 65536 ? 2 : 8;
  p[0] = (char)0x81;
  p[1] = (char)((mask ? 0x80 : 0) | (wide == 0 ? n : wide == 2 ? 126 : 127));
  for (size_t i = wide; i-- > 0;) p[at++] = (char)(n >> 8 * i);
  if (mask) memcpy(p + at, mask, 4);
  return mask ? at + 4 : at;
}

/* Message i, and its echo; every message has a mask of its own. */
static void ws_message(char *q, char *p, uint64_t *r) {
  unsigned char mask[4];
  memcpy(mask, r, sizeof mask);
  size_t a = ws_head(q, O.size, mask), b = ws_head(p, O.size, NULL);
  for (size_t j = 0; j < O.size; j++) {
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    p[b + j] = (char)('a' + *r % 26);
    q[a + j] = (char)(p[b + j] ^ mask[j % 4]);
  }
}

static void make_messages(void) {
  size_t i, j;
  uint64_t r = 88172645463325252ull;
  int resp = !strcmp(O.mode, "resp"), line = !strcmp(O.mode, "line");
  int ws = !strcmp(O.mode, "ws");
  if (O.size < 2) O.size = 2;
  K = 65536 / O.size;
  if (K < 1) K = 1;
  if (K > 1024) K = 1024;
  if (resp) {
    /* GETs only; resp_fill() has SET every key before */
    qlen = (size_t)snprintf(NULL, 0, "*2\r\n$3\r\nGET\r\n$8\r\nkey:%04d\r\n", 0);
    plen = (size_t)snprintf(NULL, 0, "$%zu\r\n", O.size) + O.size + 2;
  } else if (ws) {
    char head[16] = "";
    qlen = ws_head(head, O.size, (const unsigned char *)head) + O.size;
    plen = ws_head(head, O.size, NULL) + O.size;
  } else qlen = plen = O.size;
  reqs = malloc((K + (size_t)O.depth) * qlen + 1);
  reps = malloc((K + (size_t)O.depth) * plen + 1);
  for (i = 0; i < K + (size_t)O.depth; i++) {
    char *q = reqs + i * qlen, *p = reps + i * plen;
    if (i >= K) {
      memcpy(q, reqs + (i % K) * qlen, qlen);
      memcpy(p, reps + (i % K) * plen, plen);
      continue;
    }
    if (ws) {
      ws_message(q, p, &r);
      continue;
    }
    if (resp) {
      int n = sprintf(p, "$%zu\r\n", O.size);
      sprintf(q, "*2\r\n$3\r\nGET\r\n$8\r\nkey:%04d\r\n", (int)i);
      for (j = 0; j < O.size; j++) p[(size_t)n + j] = (char)('a' + (i + j) % 26);
      memcpy(p + (size_t)n + O.size, "\r\n", 2);
      continue;
    }
    for (j = 0; j < qlen; j++) {
      r ^= r << 13;
      r ^= r >> 7;
      r ^= r << 17;
      q[j] = (char)('a' + r % 26);
      p[j] = line ? (char)(q[j] - 32) : q[j];
    }
    if (line) q[qlen - 1] = p[qlen - 1] = '\n';
  }
}

static void send_preamble(int fd);

/* fill the store: SET key:i <value i>, pipelined on one blocking connection */
static void resp_fill(void) {
  int fd = dial_wait(&O.addr, 0);
  int fl = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, fl & ~O_NONBLOCK);
  send_preamble(fd);
  char *b = malloc(O.size + 128), r[16];
  for (size_t i = 0; i < K; i++) {
    int n = sprintf(b, "*3\r\n$3\r\nSET\r\n$8\r\nkey:%04d\r\n", (int)i);
    memcpy(b + n, reps + i * plen, plen);
    if (write(fd, b, (size_t)n + plen) < 0) die("SET: %s", strerror(errno));
    ssize_t got = 0;
    while (got < 5) {
      ssize_t k = read(fd, r + got, 5 - (size_t)got);
      if (k <= 0) die("SET: no reply");
      got += k;
    }
    if (memcmp(r, "+OK\r\n", 5)) die("SET: reply %.5s", r);
  }
  free(b);
  close(fd);
}

typedef struct conn {
  int fd, out;     /* out: EPOLLOUT armed */
  uint32_t qi, pi; /* next request, oldest unanswered request (mod K) */
  size_t poff, pend,
    qoff;              /* bytes of the current reply seen; bytes still to send, offset in reqs */
  uint32_t head, live; /* next place in ts; requests without a reply yet */
  uint64_t *ts;        /* send times, ring of depth */
} conn;

static int EP;
static char RB[1 << 18];

static void arm(conn *c, int out) {
  struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(EP, EPOLL_CTL_MOD, c->fd, &ev);
  c->out = out;
}

static void flush_out(conn *c) {
  while (c->pend) {
    size_t room = (K + (size_t)O.depth) * qlen - c->qoff, n = c->pend < room ? c->pend : room;
    ssize_t k = send(c->fd, reqs + c->qoff, n, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno == EAGAIN) {
        if (!c->out) arm(c, 1);
        return;
      }
      die("send: %s", strerror(errno));
    }
    c->pend -= (size_t)k;
    c->qoff += (size_t)k;
    if (c->qoff >= K * qlen) c->qoff -= K * qlen;
  }
  if (c->out) arm(c, 0);
}

static void push(conn *c, uint32_t n, uint64_t t) {
  for (uint32_t i = 0; i < n; i++) {
    c->ts[c->head] = t;
    if (++c->head == (uint32_t)O.depth) c->head = 0;
  }
  c->live += n;
  c->pend += (size_t)n * qlen;
  c->qi = (uint32_t)((c->qi + n) % K);
  flush_out(c);
}

static void on_read(conn *c) {
  ssize_t n = recv(c->fd, RB, sizeof RB, 0);
  if (n <= 0) {
    if (n < 0 && errno == EAGAIN) return;
    die("server closed a connection after %llu ops: %s", (unsigned long long)W.ops,
        n ? strerror(errno) : "EOF");
  }
  size_t at = 0, len = (size_t)n;
  uint32_t done = 0;
  if (!O.noverify)
    while (at < len) { /* compare with the expected bytes, wrap at K */
      size_t off = c->pi * plen + c->poff, room = (K + (size_t)O.depth) * plen - off;
      size_t k = len - at < room ? len - at : room;
      if (memcmp(RB + at, reps + off, k))
        die("wrong reply: got %.40s want %.40s", RB + at, reps + off);
      at += k;
      off += k;
      done += (uint32_t)((c->poff + k) / plen);
      c->poff = (c->poff + k) % plen;
      c->pi = (uint32_t)((off / plen) % K);
    }
  else {
    if (O.noverify == 2 && c->poff == 0 && len > 12 && memcmp(RB, "HTTP/1.1 200", 12))
      die("http: %.60s", RB);
    done = (uint32_t)((c->poff + len) / plen);
    c->poff = (c->poff + len) % plen;
  }
  W.bytes += len;
  if (!done) return;
  uint64_t t = now_ns();
  if (done > c->live) die("more replies than requests");
  uint32_t tail = (c->head + (uint32_t)O.depth - c->live) % (uint32_t)O.depth;
  W.ops += done;
  c->live -= done;
  for (uint32_t i = 0; i < done; i++) {
    hist_add(&W.h, t - c->ts[tail]);
    if (++tail == (uint32_t)O.depth) tail = 0;
  }
  if (!STOP) push(c, done, t);
}

/* upstream echo/sink served by ourselves for proxy tests; fds are tagged by the low pointer bit */
static int UL = -1;
static char UB[1 << 17];
typedef struct ups {
  int fd;
  size_t pend;
  char *buf;
} ups;

static void upstream_listen(void) {
  int one = 1;
  UL = socket(O.upstream.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(UL, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(UL, (void *)&O.upstream.ss, O.upstream.len) || listen(UL, 4096))
    die("upstream: %s", strerror(errno));
  struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 1};
  epoll_ctl(EP, EPOLL_CTL_ADD, UL, &ev);
}

static void upstream_accept(void) {
  for (int fd; (fd = accept4(UL, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    ups *u = calloc(1, sizeof *u);
    u->fd = fd;
    if (O.upstream.family != AF_UNIX) nodelay(fd);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uintptr_t)u | 1};
    epoll_ctl(EP, EPOLL_CTL_ADD, fd, &ev);
  }
}

static void upstream_event(uint64_t tag, int echo) {
  if (tag == 1) {
    upstream_accept();
    return;
  }
  ups *u = (ups *)(uintptr_t)(tag & ~1ull);
  ssize_t n = recv(u->fd, UB, sizeof UB, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN) close(u->fd), u->fd = -1;
    return;
  }
  if (!echo) {
    W.bytes += (size_t)n;
    W.ops++;
    return;
  }
  for (ssize_t at = 0; at < n;) {
    ssize_t k = send(u->fd, UB + at, (size_t)(n - at), MSG_NOSIGNAL);
    if (k > 0) at += k;
    else if (errno != EAGAIN) return;
  }
}

static void send_preamble(int fd) {
  if (!O.preamble) return;
  if (send(fd, O.preamble, strlen(O.preamble), MSG_NOSIGNAL) < 0)
    die("preamble: %s", strerror(errno));
}

/* The handshake, before anything is measured; the key is RFC 6455's example. */
static void ws_shake(int fd) {
  static const char q[] =
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
  char b[2048];
  size_t n = 0;
  int fl = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, fl & ~O_NONBLOCK);
  if (send(fd, q, sizeof q - 1, MSG_NOSIGNAL) < 0) die("send: %s", strerror(errno));
  while (n < 4 || memcmp(b + n - 4, "\r\n\r\n", 4)) {
    ssize_t k = recv(fd, b + n, sizeof b - n, 0);
    if (k <= 0) die("ws: no handshake");
    n += (size_t)k;
  }
  if (strncmp(b, "HTTP/1.1 101", 12) || !memmem(b, n, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28))
    die("ws: %.60s", b);
  fcntl(fd, F_SETFL, fl);
}

static conn *open_conns(int n, int first) {
  conn *cs = calloc((size_t)n, sizeof *cs);
  for (int i = 0; i < n; i++) {
    conn *c = &cs[i];
    c->fd =
      dial_wait(&O.addr, O.addr.family == AF_INET && n + O.idle > 20000 ? 1 + i % O.srcips : 0);
    c->ts = calloc((size_t)O.depth, sizeof *c->ts);
    c->qi = c->pi = (uint32_t)(((size_t)(first + i) * 37) % K);
    c->qoff = c->qi * qlen;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(EP, EPOLL_CTL_ADD, c->fd, &ev);
    send_preamble(c->fd);
    if (!strcmp(O.mode, "ws")) ws_shake(c->fd);
    if (O.have_upstream) upstream_accept();
  }
  return cs;
}

static conn *CS;
static int NC;

static void rr_kick(void) {
  uint64_t t = now_ns();
  for (int i = 0; i < NC; i++)
    if (CS[i].live < (uint32_t)O.depth) push(&CS[i], (uint32_t)O.depth - CS[i].live, t);
}
static int rr_busy(void) {
  for (int i = 0; i < NC; i++)
    if (CS[i].live) return 1;
  return 0;
}
static void rr_poll(void) {
  struct epoll_event ev[512];
  int k = epoll_wait(EP, ev, 512, STOP ? 20 : 10);
  for (int i = 0; i < k; i++) {
    if (ev[i].data.u64 & 1) {
      upstream_event(ev[i].data.u64, 1);
      continue;
    }
    conn *c = ev[i].data.ptr;
    if (ev[i].events & EPOLLOUT) flush_out(c);
    if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_read(c);
  }
}

/* http: the length of one reply is learnt from the first; the same for all of them */
static void http_learn(void) {
  static const char *hdr[] = {
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "GET /some/path?with=query&and=more HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: "
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: "
    "keep-alive\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n"
    "Upgrade-Insecure-Requests: 1\r\nCache-Control: max-age=0\r\n\r\n"};
  const char *q = hdr[O.size == 1];
  int fd = dial_wait(&O.addr, 0);
  size_t n = 0;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  if (send(fd, q, strlen(q), MSG_NOSIGNAL) < 0) die("send");
  for (char *e;;) {
    ssize_t k = recv(fd, RB + n, sizeof RB - n - 1, 0);
    if (k <= 0) die("http: no reply");
    n += (size_t)k;
    RB[n] = 0;
    if (!(e = strstr(RB, "\r\n\r\n"))) continue;
    char *cl = strcasestr(RB, "\r\ncontent-length:");
    if (cl && cl < e) {
      plen = (size_t)(e + 4 - RB) + (size_t)atol(cl + 17);
      if (n >= plen) break;
    } else if (strstr(e, "\r\n0\r\n\r\n")) {
      plen = (size_t)(strstr(e, "\r\n0\r\n\r\n") + 7 - RB);
      break;
    }
  }
  if (strncmp(RB, "HTTP/1.1 200", 12) || n != plen) die("http: unexpected reply %.60s", RB);
  close(fd);
  K = 1;
  qlen = strlen(q);
  O.noverify = 2;
  reqs = malloc((1 + (size_t)O.depth) * qlen + 1);
  for (int i = 0; i <= O.depth; i++) memcpy(reqs + (size_t)i * qlen, q, qlen);
}

static int run_echo(void) {
  EP = epoll_create1(EPOLL_CLOEXEC);
  if (!strcmp(O.mode, "http")) http_learn();
  else make_messages();
  if (O.have_upstream) upstream_listen();
  if (!strcmp(O.mode, "resp")) resp_fill();
  CS = open_conns(NC = O.conns, 0);
  run_slices(rr_kick, rr_poll, rr_busy);
  print_result(NULL);
  return 0;
}

/* --------------------------------------------------------------------- idle */

static void settle(void) { usleep(500000); }

/* The median over the slices of a latency: a slice that was disturbed does not count. */
static double slices_median(size_t field) {
  double v[256];
  int n = NSL < 256 ? NSL : 256;
  for (int i = 0; i < n; i++) v[i] = 1e-3 * (double)*(uint64_t *)((char *)&SL[i] + field);
  for (int i = 1; i < n; i++)
    for (int j = i; j && v[j] < v[j - 1]; j--) {
      double t = v[j];
      v[j] = v[j - 1];
      v[j - 1] = t;
    }
  return n ? v[n / 2] : 0;
}

static void idle_active(double *p50, double *p99) {
  close(EP);
  EP = epoll_create1(EPOLL_CLOEXEC);
  memset(&HALL, 0, sizeof HALL);
  CS = open_conns(NC = O.conns, 0);
  run_slices(rr_kick, rr_poll, rr_busy);
  *p50 = slices_median(offsetof(slice, p50));
  *p99 = slices_median(offsetof(slice, p99));
  drain(rr_poll, rr_busy);
  for (int i = 0; i < NC; i++) close(CS[i].fd);
}

/* One message on an idle connection, and its reply, compared. */
static int ask(int fd, size_t i) {
  return send(fd, reqs + i % K * qlen, qlen, MSG_NOSIGNAL) == (ssize_t)qlen;
}
static int answered(int fd, size_t i) {
  for (size_t got = 0; got < plen;) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n = poll(&p, 1, 1500) == 1 ? recv(fd, RB + got, plen - got, 0) : 0;
    if (n <= 0) return 0;
    got += (size_t)n;
  }
  return !memcmp(RB, reps + i % K * plen, plen);
}

/* How many of the idle connections still answer, each a message of its own. */
static int still_there(const conn *cs, int n) {
  int there = 0;
  for (int i = 0; i < n; i += 64) {
    int end = i + 64 < n ? i + 64 : n, sent = 0;
    for (int k = i; k < end; k++) sent += ask(cs[k].fd, (size_t)k);
    if (sent < end - i) return there;
    for (int k = i; k < end; k++) there += answered(cs[k].fd, (size_t)k);
  }
  return there;
}

static int run_idle(void) {
  char extra[512];
  double e50, e99, a50, a99;
  EP = epoll_create1(EPOLL_CLOEXEC);
  O.depth = 1;
  make_messages();
  /* touch the server first: 16 connections, one echo each, so code and arenas are resident */
  STOP = 1;
  for (int pass = 0; pass < 2; pass++) {
    CS = open_conns(NC = 16, 0);
    rr_kick();
    for (uint64_t dl = now_ns() + 2000000000u; rr_busy() && now_ns() < dl;) rr_poll();
    for (int i = 0; i < 16; i++) close(CS[i].fd);
  }
  idle_active(&e50, &e99);
  settle();
  double r0 = srv_rss();
  uint64_t t0 = now_ns();
  conn *cs = calloc((size_t)O.idle, sizeof *cs);
  int done = 0, failed = 0, tenth = O.idle / 640 * 64; /* whole batches */
  int late = O.idle / 64 * 64 - tenth;
  double first = srv_cpu(), last = 0;
  for (int i = 0; i < O.idle; i++) {
    if (tenth && i == tenth) first = (srv_cpu() - first) / tenth;
    if (i == late) last = srv_cpu();
    conn *c = &cs[i];
    c->fd = dial_wait(&O.addr, O.addr.family == AF_INET ? 1 + i % O.srcips : 0);
    c->ts = calloc(1, sizeof *c->ts);
    send_preamble(c->fd);
    failed += !ask(c->fd, (size_t)i);
    if (i % 64 == 63 || i == O.idle - 1) { /* wait for this batch, servers have finite backlogs */
      for (; done <= i; done++) {
        failed += !answered(cs[done].fd, (size_t)done);
        if (failed > 20) die("%d of %d connections failed at %d", failed, O.idle, i);
      }
    }
  }
  double open_s = 1e-9 * (double)(now_ns() - t0);
  last = (srv_cpu() - last) / (O.idle - late);
  settle();
  double r1 = srv_rss();
  idle_active(&a50, &a99);
  int there = still_there(cs, O.idle);
  if (there < O.idle - failed) die("%d of %d idle connections answer again", there, O.idle);
  snprintf(extra, sizeof extra,
           "\"empty_p50_us\":%.2f,\"empty_p99_us\":%.2f,\"held_p50_us\":%.2f,\"held_p99_us\":%.2f,"
           "\"idle\":%d,\"failed\":%d,\"rss_base_mb\":%.2f,\"rss_idle_mb\":%.2f,\"rss_b_conn\":%."
           "0f,\"open_s\":%.2f,\"first_us\":%.2f,\"last_us\":%.2f,\"answer_again\":%d",
           e50, e99, a50, a99, O.idle, failed, 1e-6 * r0, 1e-6 * r1, (r1 - r0) / O.idle, open_s,
           tenth ? 1e6 * first : 0, tenth ? 1e6 * last : 0, there);
  print_result(extra);
  return 0;
}

/* ------------------------------------------------------------------ connect */

typedef struct slot {
  int fd, sent;
  size_t got;
  uint64_t t;
} slot;
static uint32_t SRC;

static char *FIRST; /* preamble and request, one send */
static size_t NFIRST;

static void slot_send(slot *s) {
  ssize_t k = send(s->fd, FIRST, NFIRST, MSG_NOSIGNAL);
  if (k < 0 && errno == EAGAIN) return;
  if (k != (ssize_t)NFIRST) {
    W.errors++;
    return;
  }
  s->sent = 1;
}

static void slot_open(slot *s) {
  s->t = now_ns();
  s->sent = 0;
  s->got = 0;
  for (int i = 0;; i++) {
    s->fd = dial(&O.addr, O.addr.family == AF_INET ? (int)(1 + SRC++ % (uint32_t)O.srcips) : 0);
    if (s->fd >= 0) break;
    if (errno != EAGAIN || i > 2000) die("connect: %s", strerror(errno));
    usleep(200);
  }
  slot_send(s); /* on loopback the handshake has finished by now */
  struct epoll_event ev = {.events = EPOLLIN | (s->sent ? 0 : EPOLLOUT), .data.ptr = s};
  epoll_ctl(EP, EPOLL_CTL_ADD, s->fd, &ev);
}

static slot *SS;

static void con_kick(void) {
  for (int i = 0; i < O.conns; i++)
    if (SS[i].fd < 0) slot_open(&SS[i]);
}
static int con_busy(void) {
  for (int i = 0; i < O.conns; i++)
    if (SS[i].fd >= 0) return 1;
  return 0;
}
static void con_poll(void) {
  struct epoll_event ev[256];
  int k = epoll_wait(EP, ev, 256, 20);
  for (int i = 0; i < k; i++) {
    slot *s = ev[i].data.ptr;
    if (!s->sent) {
      slot_send(s);
      struct epoll_event e = {.events = EPOLLIN | (s->sent ? 0 : EPOLLOUT), .data.ptr = s};
      epoll_ctl(EP, EPOLL_CTL_MOD, s->fd, &e);
      if (!(ev[i].events & (EPOLLERR | EPOLLHUP))) continue;
    }
    ssize_t n = recv(s->fd, RB, qlen - s->got, 0);
    if (n <= 0) {
      if (n < 0 && errno == EAGAIN) continue;
      W.errors++;
      if (W.errors > 1000) die("too many failed connections: %s", n ? strerror(errno) : "EOF");
    } else {
      if (memcmp(RB, reps + s->got, (size_t)n)) die("wrong reply: %.40s", RB);
      s->got += (size_t)n;
      if (s->got < plen) continue;
      hist_add(&W.h, now_ns() - s->t);
      W.ops++;
      W.bytes += plen;
    }
    close(s->fd);
    s->fd = -1;
    if (!STOP) slot_open(s);
  }
}

static int run_connect(void) {
  EP = epoll_create1(EPOLL_CLOEXEC);
  make_messages();
  NFIRST = (O.preamble ? strlen(O.preamble) : 0) + qlen;
  FIRST = malloc(NFIRST);
  if (O.preamble) memcpy(FIRST, O.preamble, NFIRST - qlen);
  memcpy(FIRST + NFIRST - qlen, reqs, qlen);
  SS = calloc((size_t)O.conns, sizeof *SS);
  for (int i = 0; i < O.conns; i++) SS[i].fd = -1;
  run_slices(con_kick, con_poll, con_busy);
  print_result(NULL);
  return 0;
}

/* ------------------------------------------------------------------- stream */

static char *CHUNK;

static void st_kick(void) {
  for (int i = 0; i < NC; i++) {
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = &CS[i]};
    if (CS[i].out) continue;
    epoll_ctl(EP, EPOLL_CTL_MOD, CS[i].fd, &e);
    CS[i].out = 1;
  }
}
static uint64_t QUIET_SINCE;
static int st_busy(void) { /* until everything was acknowledged, and then for 5 ms */
  int left = 0;
  for (int i = 0; i < NC; i++) {
    int q = 0;
    if (CS[i].out) {
      struct epoll_event e = {.events = 0, .data.ptr = &CS[i]};
      epoll_ctl(EP, EPOLL_CTL_MOD, CS[i].fd, &e);
      CS[i].out = 0;
    }
    if (!ioctl(CS[i].fd, SIOCOUTQ, &q)) left += q;
  }
  if (left) {
    QUIET_SINCE = 0;
    return 1;
  }
  if (!QUIET_SINCE) QUIET_SINCE = now_ns();
  return now_ns() - QUIET_SINCE < 5000000u;
}
static void st_poll(void) {
  struct epoll_event ev[256];
  int k = epoll_wait(EP, ev, 256, STOP ? 1 : 20);
  for (int i = 0; i < k; i++) {
    if (ev[i].data.u64 & 1) {
      upstream_event(ev[i].data.u64, 0);
      continue;
    }
    conn *c = ev[i].data.ptr;
    ssize_t n = send(c->fd, CHUNK, O.size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) die("send: %s", strerror(errno));
    if (n > 0 && !O.have_upstream) {
      W.bytes += (size_t)n;
      W.ops++;
    }
  }
}

static int run_stream(void) {
  EP = epoll_create1(EPOLL_CLOEXEC);
  if (O.size < 4096) O.size = 131072;
  CHUNK = malloc(O.size);
  memset(CHUNK, 'x', O.size);
  K = 1;
  qlen = plen = 1;
  if (O.have_upstream) upstream_listen();
  CS = calloc((size_t)O.conns, sizeof *CS);
  NC = O.conns;
  for (int i = 0; i < NC; i++) {
    CS[i].fd = dial_wait(&O.addr, 0);
    send_preamble(CS[i].fd);
    struct epoll_event e = {.events = 0, .data.ptr = &CS[i]};
    epoll_ctl(EP, EPOLL_CTL_ADD, CS[i].fd, &e);
  }
  run_slices(st_kick, st_poll, st_busy);
  print_result(NULL);
  return 0;
}

/* ---------------------------------------------------------------------- udp */

typedef struct {
  int fd, live;
  uint64_t last;
} us;
static us *US;
static uint64_t LOST, SCAN;

static void udp_kick(void) {
  for (int i = 0; i < O.conns; i++)
    for (US[i].last = now_ns(); US[i].live < O.depth; US[i].live++) send(US[i].fd, reqs, qlen, 0);
}
static int udp_busy(void) {
  for (int i = 0; i < O.conns; i++)
    if (US[i].live > 0) return 1;
  return 0;
}
static void udp_poll(void) {
  struct epoll_event ev[256];
  int k = epoll_wait(EP, ev, 256, 20);
  uint64_t t = now_ns();
  for (int i = 0; i < k; i++) {
    us *s = ev[i].data.ptr;
    for (int d = 0; d < O.depth; d++) {
      ssize_t n = recv(s->fd, RB, sizeof RB, 0);
      if (n < 0) {
        if (errno == EAGAIN || errno == ECONNREFUSED) break;
        die("recv: %s", strerror(errno));
      }
      if ((size_t)n != plen || memcmp(RB, reps, plen)) die("wrong datagram of %zd bytes", n);
      t = now_ns();
      if (O.depth == 1) hist_add(&W.h, t - s->last);
      s->last = t;
      W.ops++;
      W.bytes += (size_t)n;
      if (STOP) s->live--;
      else send(s->fd, reqs, qlen, 0);
      if (O.depth == 1) break;
    }
  }
  if (t - SCAN > 50000000u) /* what got no reply for 0.2 s is lost */
    for (int i = (SCAN = t, 0); i < O.conns; i++)
      if (US[i].live > 0 && t - US[i].last > 200000000u) {
        LOST += (uint64_t)US[i].live;
        US[i].live = 0;
        if (!STOP)
          for (US[i].last = t; US[i].live < O.depth; US[i].live++) send(US[i].fd, reqs, qlen, 0);
      }
}

static int run_udp(void) {
  char extra[64];
  EP = epoll_create1(EPOLL_CLOEXEC);
  make_messages();
  US = calloc((size_t)O.conns, sizeof *US);
  for (int i = 0; i < O.conns; i++) {
    us *s = &US[i];
    s->fd = socket(O.addr.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(s->fd, (void *)&O.addr.ss, O.addr.len)) die("connect: %s", strerror(errno));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(EP, EPOLL_CTL_ADD, s->fd, &e);
  }
  run_slices(udp_kick, udp_poll, udp_busy);
  snprintf(extra, sizeof extra, "\"lost\":%llu", (unsigned long long)LOST);
  print_result(extra);
  return 0;
}

/* --------------------------------------------------------------- fd passing */

static int FDC, FDDEV, FDSEND;

static void fd_kick(void) {}
static int fd_busy(void) {
  usleep(3000);
  return 0;
}
static void fd_poll(void) {
  union {
    struct cmsghdr h;
    char b[CMSG_SPACE(sizeof(int) * 253)];
  } u;
  char byte[256] = "F";
  for (int turn = 0; turn < 32; turn++) {
    struct iovec iov = {byte, FDSEND ? 1 : sizeof byte};
    struct msghdr m = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
    if (FDSEND) {
      m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)O.nfds);
      memset(u.b, 0, m.msg_controllen);
      struct cmsghdr *h = CMSG_FIRSTHDR(&m);
      h->cmsg_level = SOL_SOCKET;
      h->cmsg_type = SCM_RIGHTS;
      h->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)O.nfds);
      for (int i = 0; i < O.nfds; i++)
        memcpy(CMSG_DATA(h) + sizeof(int) * (size_t)i, &FDDEV, sizeof FDDEV);
      if (sendmsg(FDC, &m, MSG_NOSIGNAL) < 0) die("sendmsg: %s", strerror(errno));
      W.ops++;
    } else {
      ssize_t n = recvmsg(FDC, &m, MSG_CMSG_CLOEXEC);
      if (n <= 0) die("recvmsg: %s", n ? strerror(errno) : "EOF");
      for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        int cnt = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int)), f;
        for (int i = 0; i < cnt; i++) {
          memcpy(&f, CMSG_DATA(h) + sizeof(int) * (size_t)i, sizeof f);
          close(f);
          W.bytes++;
        }
        W.ops++;
      }
    }
  }
}

static int run_fd(void) {
  FDSEND = !strcmp(O.mode, "fdsend");
  FDC = dial_wait(&O.addr, 0);
  FDDEV = open("/dev/null", O_RDONLY | O_CLOEXEC);
  fcntl(FDC, F_SETFL, fcntl(FDC, F_GETFL) & ~O_NONBLOCK);
  run_slices(fd_kick, fd_poll, fd_busy);
  print_result(NULL);
  return 0;
}

/* -------------------------------------------------------------------- probe */

static int run_probe(void) {
  uint64_t dl = now_ns() + (uint64_t)(O.dur * 1e9);
  while (now_ns() < dl) {
    int fd = dial(&O.addr, 0);
    if (fd >= 0) {
      struct epoll_event ev = {.events = EPOLLOUT};
      int ep = epoll_create1(0), err = 0;
      socklen_t l = sizeof err;
      epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
      int k = epoll_wait(ep, &ev, 1, 200);
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &l);
      close(ep);
      close(fd);
      if (k == 1 && !err) return 0;
    }
    usleep(10000);
  }
  return 1;
}

int main(int argc, char **argv) {
  int c;
  if (argc < 3)
    die("usage: loadgen MODE [-c conns] [-s bytes] [-p depth] [-d secs] [-w warm-up secs] [-n ops] "
        "[-i idle]\n"
        "  [-u upstream] [-H preamble] [-k pid,pid] [-f fds per message] [-S source addresses] "
        "[-V] [-r slices] [-x srv,own core] ADDR");
  O.mode = argv[1];
  optind = 2;
  while ((c = getopt(argc, argv, "c:s:p:d:w:n:i:u:H:k:f:S:Vr:x:")) != -1) switch (c) {
    case 'c': O.conns = atoi(optarg); break;
    case 's': O.size = (size_t)atol(optarg); break;
    case 'p': O.depth = atoi(optarg); break;
    case 'd': O.dur = atof(optarg); break;
    case 'w': O.warm = atof(optarg); break;
    case 'n': O.limit = (uint64_t)atoll(optarg); break;
    case 'i': O.idle = atoi(optarg); break;
    case 'u':
      parse_addr(optarg, &O.upstream);
      O.have_upstream = 1;
      break;
    case 'H': O.preamble = optarg; break;
    case 'k': O.pids_s = optarg; break;
    case 'f': O.nfds = atoi(optarg); break;
    case 'S': O.srcips = atoi(optarg); break;
    case 'V': O.noverify = 1; break;
    case 'r': O.slices = atoi(optarg); break;
    case 'x':
      if (sscanf(optarg, "%d,%d", &O.cores[0], &O.cores[1]) != 2) die("-x server core,own core");
      break;
    default: return 2;
    }
  if (!strcmp(O.mode, "cal")) return run_cal();
  if (optind >= argc) die("no address");
  O.addr_s = argv[optind];
  parse_addr(O.addr_s, &O.addr);
  if (O.conns < 1 || O.depth < 1 || O.nfds < 1 || O.nfds > 253 || O.slices < 1)
    die("bad option value");
  for (const char *p = O.pids_s; p && *p && O.npids < 256;) {
    O.pids[O.npids++] = atoi(p);
    p = strchr(p, ',');
    if (p) p++;
  }
  struct rlimit rl;
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  signal(SIGPIPE, SIG_IGN);
  static const struct {
    const char *n;
    int (*f)(void);
  } modes[] = {{"echo", run_echo},     {"line", run_echo},       {"resp", run_echo},       {"ws", run_echo},
               {"http", run_echo},     {"connect", run_connect}, {"idle", run_idle},
               {"stream", run_stream}, {"udp", run_udp},         {"fdsend", run_fd},
               {"fdrecv", run_fd},     {"tlshs", run_tls},       {"tlsbulk", run_tls},
               {"probe", run_probe}};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (!strcmp(O.mode, modes[i].n)) return modes[i].f();
  die("unknown mode %s", O.mode);
}
