/* Workers, as far as it cannot be Lua: reading the option, and ending with the supervisor.
 *
 * The control socket tells its end by SIGIO, so that a worker whose handler never waits hears of it
 * too. What the socket is for otherwise is lua/stdlib/workers.lua's. */
#include "workers.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  CONTROL_FD = 3,     /* the first of spawn's `fds` */
  COUNT_MAX = 1024,   /* more is a slip of the finger: workers are for cores */
  GRACE_MAX_S = 3600, /* what neap.process takes */
  ORPHAN_S = 10,      /* an orphan may close in order as long as docker stop gives a container */
};

/* Longer than the 5 s of server:stop(), shorter than the 10 s after which docker stop kills the
 * supervisor itself. */
static const double grace_default_s = 8;

static bool read_count(const char **at, int *n) {
  char *end;
  long v = **at >= '0' && **at <= '9' ? strtol(*at, &end, 10) : 0;
  if (v < 1 || v > COUNT_MAX) return false;
  *n = (int)v;
  *at = end;
  return true;
}

static bool read_grace(const char *text, size_t len, double *s) {
  char *end;
  if (*text < '0' || *text > '9') return false;
  *s = strtod(text, &end);
  return end == text + len && isfinite(*s) && *s <= GRACE_MAX_S;
}

static bool read_word(const char *word, size_t len, np_workers *w) {
  static const char grace[] = "grace=";
  size_t n = sizeof grace - 1;
  if (len == 4 && strncmp(word, "pass", len) == 0) w->reuseport = false;
  else if (len == 9 && strncmp(word, "reuseport", len) == 0) w->reuseport = true;
  else if (len > n && strncmp(word, grace, n) == 0)
    return read_grace(word + n, len - n, &w->grace_s);
  else return false;
  return true;
}

bool np_workers_parse(const char *text, np_workers *w) {
  *w = (np_workers){.grace_s = grace_default_s};
  if (!read_count(&text, &w->count)) return false;
  if (*text == '/') {
    w->id = w->count;
    text++;
    if (!read_count(&text, &w->count) || w->id > w->count) return false;
  }
  while (*text == ',') {
    size_t len = strcspn(++text, ",");
    if (!read_word(text, len, w)) return false;
    text += len;
  }
  return *text == '\0';
}

/* ---- the worker's process ---- */

static bool supervisor_is_gone(void) {
  struct pollfd p = {.fd = CONTROL_FD};
  return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

/* TERM is what the supervisor would have sent; the alarm is its KILL. */
static void end_with_supervisor(void) {
  alarm(ORPHAN_S);
  kill(getpid(), SIGTERM);
}

/* Answers of the supervisor come with a SIGIO as well: only the end counts. */
static void on_control(int sig) {
  int saved = errno;
  (void)sig;
  if (supervisor_is_gone()) {
    fcntl(CONTROL_FD, F_SETFL, fcntl(CONTROL_FD, F_GETFL) & ~O_ASYNC);
    end_with_supervisor();
  }
  errno = saved;
}

bool np_worker_begin(void) {
  struct sigaction act = {.sa_handler = on_control, .sa_flags = SA_RESTART};
  int flags = fcntl(CONTROL_FD, F_GETFL);
  if (flags < 0 || fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0) return false;
  setpgid(0,
          0); /* ctrl-C is the supervisor's: forwarded, it would come twice, and twice means now */
  sigaction(SIGIO, &act, NULL);
  fcntl(CONTROL_FD, F_SETOWN, getpid());
  fcntl(CONTROL_FD, F_SETFL, flags | O_ASYNC);
  if (supervisor_is_gone()) end_with_supervisor(); /* before the signal was set up */
  return true;
}
