/* Children: how they begin.
 *
 * Between fork and exec the child calls only async-signal-safe functions, since other threads may
 * have held any lock at the fork; what goes wrong there comes back through a pipe that a
 * successful exec closes.  On Linux it is vfork where that is safe: the child borrows our memory
 * until its exec, so starting one does not cost more the larger we are. */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/process_impl.h"

extern char **environ;

/* In the order in which the child takes them. */
typedef enum stage {
  AT_FORK,
  AT_SESSION,
  AT_PGROUP,
  AT_TERMINAL,
  AT_FDS,
  AT_CHDIR,
  AT_LIMITS,
  AT_GROUPS,
  AT_GID,
  AT_UID,
  AT_EXEC
} stage;

/* Scripts see them in messages. */
static const char *const stage_names[] = {"fork",        "session", "process group", "terminal",
                                          "descriptors", "chdir",   "limits",        "groups",
                                          "gid",         "uid",     "exec"};

typedef struct failure {
  int stage, err;
} failure;

typedef struct plan {
  const np_processopts *o;
  int fds[NP_PROCESS_FDS]; /* every one above nfds, so that dup2 overwrites none; -1: a gap */
  int report;              /* the pipe's end for a failure */
  char *const *env;
  const char *path; /* where programs are searched */
} plan;

/* ---- the child, between fork and exec ---------------------------------- */

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
    if (p->fds[i] < 0) close(i);
    else if (dup2(p->fds[i], i) < 0) return -1;
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

/* A soft limit alone is cut to the hard one there is. */
static int set_limit(const np_processlimit *l) {
  struct rlimit lim;
  if (getrlimit(l->resource, &lim) < 0) return -1;
  if (l->hard != NP_LIMIT_KEEP) lim.rlim_max = (rlim_t)l->hard;
  lim.rlim_cur = (rlim_t)l->soft < lim.rlim_max ? (rlim_t)l->soft : lim.rlim_max;
  return setrlimit(l->resource, &lim);
}

static int set_limits(const np_processopts *o) {
  for (int i = 0; i < o->nlimits; i++)
    if (set_limit(&o->limits[i]) < 0) return -1;
  return 0;
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

/* Groups first: afterwards the right to change them may be gone. */
static void become(const plan *p, const np_identity *id) {
  if (id->set_groups && setgroups((size_t)id->ngroups, id->groups) < 0) give_up(p, AT_GROUPS);
  if (id->set_gid && setresgid(id->gid, id->gid, id->gid) < 0) give_up(p, AT_GID);
  if (id->set_uid && setresuid(id->uid, id->uid, id->uid) < 0) give_up(p, AT_UID);
}

static void join_session(const plan *p) {
  const np_processopts *o = p->o;
  if (o->session && setsid() < 0) give_up(p, AT_SESSION);
  if (!o->session && o->pgroup >= 0 && setpgid(0, o->pgroup) < 0) give_up(p, AT_PGROUP);
  if (o->terminal >= 0 && ioctl(o->terminal, TIOCSCTTY, 0) < 0) give_up(p, AT_TERMINAL);
}

/* As execvp(3), but in the child's own PATH and without its fallback to a shell: what is no program
 * is ENOEXEC. */
static void search_and_exec(const plan *p) {
  enum { ROOM = 4096 };
  char full[ROOM];
  const char *name = p->o->argv[0], *from = p->path;
  size_t name_len = strlen(name);
  int denied = 0;
  if (strchr(name, '/')) {
    execve(name, p->o->argv, p->env);
    return;
  }
  for (;; from++) {
    size_t n = strcspn(from, ":");
    if (n + name_len + 2 <= sizeof full) {
      memcpy(full, n > 0 ? from : ".", n > 0 ? n : 1);
      size_t at = n > 0 ? n : 1;
      full[at++] = '/';
      memcpy(full + at, name, name_len + 1);
      execve(full, p->o->argv, p->env);
      if (errno == EACCES) denied = EACCES; /* there may be another */
      else if (errno != ENOENT && errno != ENOTDIR) return;
    }
    from += n;
    if (!*from) break;
  }
  errno = denied ? denied : ENOENT;
}

_Noreturn static void child_main(const plan *p) {
  const np_processopts *o = p->o;
  sigset_t none;
  reset_signals();
  join_session(p);
  if (place_fds(p) < 0) give_up(p, AT_FDS);
  if (o->cwd && chdir(o->cwd) < 0) give_up(p, AT_CHDIR);
  if (o->umask >= 0) umask((mode_t)o->umask);
  seal_fds((unsigned)o->nfds);
  if (set_limits(o) < 0) give_up(p, AT_LIMITS);
  if (o->identity) become(p, o->identity);
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  if (o->pid_text) write_pid(o->pid_text);
  search_and_exec(p);
  give_up(p, AT_EXEC);
}

/* ---- the parent's side ------------------------------------------------- */

static void close_plan(plan *p) {
  for (int i = 0; i < p->o->nfds; i++)
    if (p->fds[i] >= 0) close(p->fds[i]);
}

static const char *path_in(char *const *env) {
  for (; env && *env; env++)
    if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
  return "/usr/local/bin:/bin:/usr/bin";
}

static int source_of(int fd, int *null) {
  if (fd != NP_FD_NULL) return fd;
  if (*null < 0) *null = open("/dev/null", O_RDWR | O_CLOEXEC);
  return *null;
}

/* Duplicates above the numbers that the child will use. */
static int make_plan(plan *p, const np_processopts *o) {
  p->o = o;
  p->report = -1;
  p->env = o->env ? o->env : environ;
  p->path = path_in(p->env);
  for (int i = 0; i < o->nfds; i++) p->fds[i] = -1;
  int null = -1, r = 0;
  for (int i = 0; i < o->nfds && r == 0; i++) {
    if (o->fds[i] == NP_FD_GAP) continue;
    int fd = source_of(o->fds[i], &null);
    p->fds[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, o->nfds);
    if (p->fds[i] < 0) r = -errno;
  }
  if (null >= 0) close(null);
  if (r < 0) close_plan(p);
  return r;
}

/* fork where the child changes who it is: while it shared our memory, whoever may trace it as its
 * new user could change us; and glibc's set*id would speak to our threads. */
static pid_t split(const plan *p) {
#ifdef __linux__
  if (!p->o->identity) {
    pid_t pid = vfork();
    if (pid == 0) child_main(p);
    return pid;
  }
#endif
  pid_t pid = fork();
  if (pid == 0) child_main(p);
  return pid;
}

/* The handlers of our process must not run in the child, so no signal arrives until it has reset
 * them. */
static pid_t fork_child(const plan *p) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pid_t pid = split(p);
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

int np_process_launch(const np_processopts *o, const char **step) {
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

/* ---- names of limits: setrlimit(2) ------------------------------------- */

static const struct limit_row {
  const char *name;
  int resource;
} limits[] = {
  {"as", RLIMIT_AS},         {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
  {"data", RLIMIT_DATA},     {"fsize", RLIMIT_FSIZE},       {"memlock", RLIMIT_MEMLOCK},
  {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC},       {"stack", RLIMIT_STACK},
#ifdef __linux__
  {"locks", RLIMIT_LOCKS},   {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
  {"rtprio", RLIMIT_RTPRIO}, {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
#endif
};

int np_process_limit(const char *name) {
  for (size_t i = 0; i < np_countof(limits); i++)
    if (strcmp(limits[i].name, name) == 0) return limits[i].resource;
  return -EINVAL;
}

const char *np_process_limit_name(size_t i) {
  return i < np_countof(limits) ? limits[i].name : NULL;
}
