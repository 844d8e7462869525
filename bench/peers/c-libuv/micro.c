/* libuv's own timers.  c-libuv-micro TEST */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

static uv_loop_t *L;
static unsigned long n;
static double cpu(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
         1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}
static void never(uv_timer_t *t) { abort(); }
static void again(uv_timer_t *t) {
  n++;
  uv_timer_start(t, again, 500 + (uint64_t)(rand() % 1000), 0);
}
static double c0, t0;
static unsigned long n0;
static void begin(uv_timer_t *t) {
  n0 = n;
  c0 = cpu();
  t0 = 1e-9 * (double)uv_hrtime();
}
static void end(uv_timer_t *t) {
  double dc = cpu() - c0, dt = 1e-9 * (double)uv_hrtime() - t0, dn = (double)(n - n0);
  printf("{\"test\":\"sleepers\",\"ops_s\":%.0f,\"ideal\":100000,\"cpu_us_op\":%.3f,\"capacity_s\":"
         "%.0f,\"util\":%.2f}\n",
         dn / dt, dc * 1e6 / dn, dn / dc, dc / dt);
  exit(0);
}

int main(int argc, char **argv) {
  double D = getenv("D") ? atof(getenv("D")) : 1.5;
  int N = getenv("N") ? atoi(getenv("N")) : 100000;
  L = uv_default_loop();
  if (argc > 1 && !strcmp(argv[1], "timer")) {
    uv_timer_t t;
    uint64_t a = uv_hrtime();
    unsigned long k = 0;
    do
      for (int i = 0; i < 1000; i++, k++) {
        uv_timer_init(L, &t);
        uv_timer_start(&t, never, 10000, 0);
        uv_timer_stop(&t);
        uv_close((uv_handle_t *)&t, NULL);
        uv_run(L, UV_RUN_NOWAIT);
      }
    while (1e-9 * (double)(uv_hrtime() - a) < D);
    printf("{\"test\":\"timer\",\"ops_s\":%.0f}\n", (double)k / (1e-9 * (double)(uv_hrtime() - a)));
    return 0;
  }
  if (argc > 1 && !strcmp(argv[1], "sleepers")) {
    uv_timer_t *t = calloc((size_t)N, sizeof *t), b, e;
    for (int i = 0; i < N; i++) {
      uv_timer_init(L, &t[i]);
      uv_timer_start(&t[i], again, 500 + (uint64_t)(rand() % 1000), 0);
    }
    uv_timer_init(L, &b);
    uv_timer_start(&b, begin, 1600, 0);
    uv_timer_init(L, &e);
    uv_timer_start(&e, end, 3600, 0);
    return uv_run(L, UV_RUN_DEFAULT);
  }
  return 77;
}
