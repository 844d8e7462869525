#ifndef LG_H
#define LG_H
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include "hist.h"

typedef struct {
  struct sockaddr_storage ss;
  socklen_t len;
  int family;
} addr_t;

typedef struct {
  const char *mode, *addr_s, *preamble, *pids_s;
  addr_t addr, upstream;
  int have_upstream;
  int conns, depth, idle, srcips, nfds, noverify, slices;
  int cores[2]; /* server's core, own core: calibrate both around each slice (-1: don't) */
  size_t size;
  double dur, warm;
  uint64_t limit; /* stop after this many operations (0: by time) */
  int pids[256], npids;
} opts_t;

/* one measured window: begin() and end() read clocks and the server's CPU time */
typedef struct {
  uint64_t t0, t1, ops, bytes, errors;
  double cli0, cli1, srv0, srv1;
  int started;
  hist h;
} window_t;

extern opts_t O;
extern window_t W;

uint64_t now_ns(void);
void die(const char *fmt, ...);
int dial(const addr_t *a, int src); /* non-blocking; connects at once on loopback */
void nodelay(int fd);
/* A mode gives three functions; the runner does warm-up, slices, calibration.
 *   kick()  start (or go on with) work on every connection
 *   poll()  handle one batch of events; must not start new work while STOP
 *   busy()  is anything still outstanding?                                  */
extern int STOP;
void run_slices(void (*kick)(void), void (*poll)(void), int (*busy)(void));
void print_result(const char *extra); /* JSON on stdout */
int run_tls(void);
#endif
