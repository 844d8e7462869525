/* Children: fork, exec, and the wait for the end.
 *
 * Between fork and exec the child calls only async-signal-safe functions, since other threads may
 * have held any lock at the fork; what goes wrong there comes back through a pipe that a
 * successful exec closes.  A closed child that still runs stays as a stray on its loop until it
 * was reaped. */
#include "core/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "core/poll.h"
#include "core/timer.h"

struct np_process {
  np_object obj;
  np_node node;      /* in the loop's list of children (slot NP_SLOT_PROCESS) */
  np_poll poll;      /* of pidfd */
  int pidfd;         /* -1: none, `chld` watches instead, or it has ended */
  uv_signal_t *chld; /* freed by libuv's close callback */
  pid_t pid;
  bool ended; /* reaped: pid means nothing any more */
  bool stray; /* closed: nobody owns it, it is freed at its end */
  int status; /* as waitpid gives it; -1: somebody else reaped it */
  int grace_ms;
  np_timer timer; /* KILL */
  np_process_fn *fn;
  void *owner;
};

static int describe(np_object *o, char *buf, size_t size) {
  np_process *p = np_container(o, np_process, obj);
  return snprintf(buf, size, "pid %d %s", (int)p->pid,
                  p->ended   ? "ended"
                  : p->stray ? "ending"
                             : "running");
}

static const np_objtype process_type = {"process", describe};

/* ---- the child, between fork and exec ---------------------------------- */

typedef enum stage { AT_FORK, AT_SIGNALS, AT_FDS, AT_CHDIR, AT_LIMIT, AT_EXEC } stage;
static const char *const stage_names[] = {"fork",  "signals", "descriptors",
                                          "chdir", "limits",  "exec"};

typedef struct failure {
  int stage, err;
} failure;

typedef struct plan {
  const np_processopts *o;
  int fds[NP_PROCESS_FDS]; /* every one above nfds, so that dup2 overwrites none */
  int report;              /* the pipe's end for a failure */
} plan;

static void reset_signals(void) {
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  for (int s = 1; s < NSIG; s++)
    sigaction(s, &dfl, NULL); /* fails for KILL, STOP and libc's own: fine */
}

/* Programs expect blocking standard descriptors, but not of a listener. */
static void make_blocking(int fd) {
  int listens = 0, fl = fcntl(fd, F_GETFL);
  socklen_t len = sizeof listens;
  if (fl < 0 || !(fl & O_NONBLOCK)) return;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens) return;
  fcntl(fd, F_SETFL, fl & ~O_NONBLOCK);
}

static int place_fds(const plan *p) {
  for (int i = 0; i < p->o->nfds; i++) {
    if (dup2(p->fds[i], i) < 0) return -1;
    if (i <= STDERR_FILENO) make_blocking(i);
  }
  return 0;
}

/* Whatever else is open, also without our doing, is closed by exec. */
static void seal_fds(unsigned from) {
#ifdef SYS_close_range
  enum { CLOEXEC_FLAG = 4 }; /* CLOSE_RANGE_CLOEXEC of <linux/close_range.h> */
  if (syscall(SYS_close_range, from, ~0U, CLOEXEC_FLAG) == 0) return;
#endif
  long max = sysconf(_SC_OPEN_MAX);
  for (long fd = from; fd < max; fd++) {
    int fl = fcntl((int)fd, F_GETFD);
    if (fl >= 0 && !(fl & FD_CLOEXEC)) fcntl((int)fd, F_SETFD, fl | FD_CLOEXEC);
  }
}

static int set_limit(int64_t nofile) {
  struct rlimit lim;
  if (nofile < 0) return 0;
  if (getrlimit(RLIMIT_NOFILE, &lim) < 0) return -1;
  lim.rlim_cur = (rlim_t)nofile < lim.rlim_max ? (rlim_t)nofile : lim.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &lim);
}

/* snprintf is not async-signal-safe. */
static void write_pid(char *text) {
  int n = 1;
  for (pid_t rest = getpid(); rest >= 10; rest /= 10) n++;
  text[n] = '\0';
  for (pid_t rest = getpid(); n > 0; rest /= 10) text[--n] = (char)('0' + rest % 10);
}

_Noreturn static void give_up(const plan *p, stage at) {
  failure f = {at, errno};
  ssize_t ignored = write(p->report, &f, sizeof f);
  (void)ignored;
  _exit(127);
}

_Noreturn static void child_main(const plan *p) {
  sigset_t none;
  reset_signals();
  if (place_fds(p) < 0) give_up(p, AT_FDS);
  if (p->o->cwd && chdir(p->o->cwd) < 0) give_up(p, AT_CHDIR);
  seal_fds((unsigned)p->o->nfds);
  if (set_limit(p->o->nofile) < 0) give_up(p, AT_LIMIT);
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  if (p->o->pid_text) write_pid(p->o->pid_text);
  if (p->o->env) environ = (char **)p->o->env;
  execvp(p->o->argv[0], p->o->argv);
  give_up(p, AT_EXEC);
}

/* ---- the parent's side of starting ------------------------------------- */

static void close_plan(plan *p) {
  for (int i = 0; i < p->o->nfds; i++)
    if (p->fds[i] >= 0) close(p->fds[i]);
}

/* Duplicates above the numbers that the child will use. */
static int make_plan(plan *p, const np_processopts *o) {
  *p = (plan){.o = o, .report = -1};
  for (int i = 0; i < o->nfds; i++) p->fds[i] = -1;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return -errno;
  int r = 0;
  for (int i = 0; i < o->nfds && r == 0; i++) {
    p->fds[i] = fcntl(o->fds[i] < 0 ? null : o->fds[i], F_DUPFD_CLOEXEC, o->nfds);
    if (p->fds[i] < 0) r = -errno;
  }
  close(null);
  if (r < 0) close_plan(p);
  return r;
}

/* The handlers of our process must not run in the child, so no signal arrives until it has reset
 * them. */
static pid_t fork_child(const plan *p) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pid_t pid = fork();
  if (pid == 0) child_main(p);
  int err = errno;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  errno = err;
  return pid;
}

/* Waits for the exec, or what prevented it: a few hundred microseconds. */
static int read_report(int fd, pid_t pid, const char **step) {
  failure f;
  ssize_t n;
  do n = read(fd, &f, sizeof f);
  while (n < 0 && errno == EINTR);
  if (n != (ssize_t)sizeof f) return 0;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
  *step = stage_names[f.stage];
  return -f.err;
}

/* A started child's pid, or a failure. */
static int launch(const np_processopts *o, const char **step) {
  plan p;
  int pipe_fds[2];
  *step = stage_names[AT_FDS];
  int r = make_plan(&p, o);
  if (r < 0) return r;
  if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
    r = -errno;
    close_plan(&p);
    return r;
  }
  *step = stage_names[AT_FORK];
  p.report = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, o->nfds);
  pid_t pid = p.report < 0 ? -1 : fork_child(&p);
  r = pid < 0 ? -errno : 0;
  close(pipe_fds[1]);
  if (p.report >= 0) close(p.report);
  close_plan(&p);
  if (r == 0) r = read_report(pipe_fds[0], pid, step);
  close(pipe_fds[0]);
  return r < 0 ? r : (int)pid;
}

/* ---- the end ----------------------------------------------------------- */

static void on_chld_closed(uv_handle_t *h) { free(h); }

static void unwatch(np_process *p) {
  if (p->pidfd >= 0) {
    np_poll_remove(p->obj.loop, &p->poll, true);
    close(p->pidfd);
    p->pidfd = -1;
  }
  if (p->chld) {
    uv_close((uv_handle_t *)p->chld, on_chld_closed);
    np_loop_touch(p->obj.loop);
    p->chld = NULL;
  }
}

static void dispose(np_process *p) {
  unwatch(p);
  np_timer_remove(p->obj.loop, &p->timer);
  np_node_remove(&p->node);
  np_object_done(&p->obj);
  free(p);
}

/* Takes the status if there is one: true when it has ended. */
static bool reap(np_process *p) {
  int status;
  pid_t r;
  do r = waitpid(p->pid, &status, WNOHANG);
  while (r < 0 && errno == EINTR);
  if (r == 0) return false;
  p->status = r < 0 ? -1 : status;
  p->ended = true;
  unwatch(p);
  np_timer_clear(&p->timer);
  return true;
}

static void check_end(np_process *p) {
  np_loop *l = p->obj.loop;
  if (p->ended || !reap(p)) return;
  np_trace(l, "exit", &p->obj, 0);
  if (!p->stray) {
    p->fn(p->owner);
    return;
  }
  np_loop_busy_add(l, -1);
  dispose(p);
}

static void on_pidfd(np_poll *w, int events) {
  (void)events;
  check_end(np_container(w, np_process, poll));
}

static void on_chld(uv_signal_t *h, int signum) {
  (void)signum;
  np_process *p = h->data;
  np_loop *l = p->obj.loop;
  check_end(p);
  np_loop_event_done(l);
}

static void on_grace_over(np_timer *t) {
  (void)np_process_kill(np_container(t, np_process, timer), SIGKILL);
}

static int watch_chld(np_process *p) {
  p->chld = malloc(sizeof *p->chld);
  if (!p->chld) return -ENOMEM;
  int r = uv_signal_init(np_loop_uv(p->obj.loop), p->chld);
  if (r < 0) {
    free(p->chld);
    p->chld = NULL;
    return r;
  }
  p->chld->data = p;
  np_loop_touch(p->obj.loop);
  return uv_signal_start(p->chld, on_chld, SIGCHLD);
}

static int watch_end(np_process *p) {
#ifdef SYS_pidfd_open
  p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
  if (p->pidfd >= 0) return np_poll_add(p->obj.loop, &p->poll, p->pidfd, NP_READABLE, 0);
  if (errno != ENOSYS && errno != EPERM) return -errno;
#endif
  return watch_chld(p);
}

static np_node *children_of(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_PROCESS);
  np_node *list = *slot;
  if (!list && (list = malloc(sizeof *list))) {
    np_node_init(list);
    *slot = list;
  }
  return list;
}

/* Kills and reaps; for a child that just started or must not outlive its loop. */
static void destroy_child(pid_t pid) {
  kill(pid, SIGKILL);
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

int np_process_open(np_loop *l, const np_processopts *o, np_process_fn *fn, void *owner,
                    np_process **out, const char **step) {
  np_assert(o->nfds >= 3 && o->nfds <= NP_PROCESS_FDS);
  *step = stage_names[AT_FORK];
  np_node *list = children_of(l);
  np_process *p = list ? calloc(1, sizeof *p) : NULL;
  if (!p) return -ENOMEM;
  int pid = launch(o, step);
  if (pid < 0) {
    free(p);
    return pid;
  }
  *p = (np_process){.pid = pid, .pidfd = -1, .grace_ms = o->grace_ms, .fn = fn, .owner = owner};
  np_object_init(&p->obj, l, &process_type);
  np_node_append(list, &p->node);
  np_poll_init(&p->poll, on_pidfd);
  np_timer_init(&p->timer, on_grace_over);
  int r = watch_end(p);
  if (r < 0) {
    destroy_child(pid);
    dispose(p);
    return r;
  }
  *out = p;
  np_trace(l, "spawn", &p->obj, 0);
  return 0;
}

int np_process_pid(const np_process *p) { return p->pid; }

bool np_process_ended(const np_process *p, int *code, int *signum) {
  if (!p->ended) return false;
  bool known = p->status != -1;
  *signum = known && WIFSIGNALED(p->status) ? WTERMSIG(p->status) : 0;
  *code = known && WIFEXITED(p->status) ? WEXITSTATUS(p->status) : -1;
  return true;
}

int np_process_kill(np_process *p, int signum) {
  if (p->ended) return -ESRCH;
  return kill(p->pid, signum) < 0 ? -errno : 0;
}

void np_process_end(np_process *p) {
  if (p->ended || p->timer.at_ns != NP_NEVER) return;
  np_process_kill(p, SIGTERM);
  /* A stopped child would not see the TERM. */
  np_process_kill(p, SIGCONT);
  uint64_t at = np_loop_now(p->obj.loop) + (uint64_t)p->grace_ms * NP_MS;
  if (np_timer_set(p->obj.loop, &p->timer, at) < 0) np_process_kill(p, SIGKILL);
}

void np_process_close(np_process *p) {
  if (p->ended || reap(p)) {
    dispose(p);
    return;
  }
  p->stray = true;
  np_loop_busy_add(p->obj.loop, 1);
  np_process_end(p);
}

void np_process_shutdown(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_PROCESS);
  np_node *list = *slot;
  if (!list) return;
  *slot = NULL;
  for (np_node *n = list->next, *next; n != list; n = next) {
    next = n->next;
    np_process *p = np_container(n, np_process, node);
    if (!p->stray) continue; /* somebody's: np_loop_free reports it */
    if (!p->ended) destroy_child(p->pid);
    np_loop_busy_add(l, -1);
    dispose(p);
  }
  np_node_remove(list);
  free(list);
}

int np_process_executable(char *buf, size_t size) { return uv_exepath(buf, &size); }
