/* Child processes: started with exactly what they are given, watched without a SIGCHLD handler.
 *
 * The child gets default signal dispositions, an empty signal mask, the descriptors named and no
 * other, and the RLIMIT_NOFILE it is told.  It is our own fork and exec, not uv_spawn, because
 * that cannot set the limit between the two, lets descriptors without FD_CLOEXEC through (those
 * the host program or our own parent left open), and installs a process-wide SIGCHLD handler,
 * which a library must not.  The end is seen through a pidfd; on kernels before 5.3, by libuv's
 * SIGCHLD.  A pid is never signalled after it was reaped.  A host must not ignore SIGCHLD nor wait
 * for children it did not start: then their status is unknown. */
#ifndef NP_PROCESS_H
#define NP_PROCESS_H

#include "core/loop.h"

enum {
  NP_PROCESS_FDS = 64,        /* descriptors a child can be given, standard ones included */
  NP_PROCESS_GRACE_MS = 1000, /* between TERM and KILL when a child is closed */
  NP_PID_TEXT = 12            /* bytes of a process id as text */
};

typedef struct np_process np_process;
typedef void np_process_fn(void *owner);

typedef struct np_processopts {
  /* NULL-terminated; argv[0] is searched in the PATH of the child unless it has a slash. */
  char *const *argv;
  char *const *env; /* the whole environment, NULL: ours */
  /* Inside of one of env's strings: the child writes its own process id there, in decimal and with
   * a zero byte; room for NP_PID_TEXT bytes.  NULL: nowhere.  (LISTEN_PID is known only then.) */
  char *pid_text;
  const char *cwd; /* NULL: ours */
  /* fds[i] becomes descriptor i; -1: /dev/null.  They stay the caller's.  0, 1, 2 are put into
   * blocking mode, as programs expect (not listeners): a property of the open file, ours too. */
  const int *fds;
  int nfds;       /* at least 3 */
  int64_t nofile; /* the soft RLIMIT_NOFILE; negative: ours */
  int grace_ms;   /* before KILL in np_process_close */
} np_processopts;

/* Starts a child: 0 and *out, fn(owner) tells when it has ended; or a failure with *step naming
 * what failed ("exec", "chdir" ...), and no child. */
int np_process_open(np_loop *l, const np_processopts *o, np_process_fn *fn, void *owner,
                    np_process **out, const char **step);

int np_process_pid(const np_process *p);

/* False while it runs.  Then *code is the exit status, or *signal (else 0) what ended it. -1, 0:
 * somebody else reaped it. */
bool np_process_ended(const np_process *p, int *code, int *signal);

/* 0, -ESRCH when it has ended, or another failure. */
int np_process_kill(np_process *p, int signum);

/* Forgets the owner. A child that runs gets TERM, after the grace KILL, and is reaped meanwhile:
 * the loop counts as busy until then. */
void np_process_close(np_process *p);

/* Starts the same end but keeps the owner, who is told when the child has ended; np_process_close
 * comes later. */
void np_process_end(np_process *p);

/* For np_loop_free: kills what was closed and still runs. */
void np_process_shutdown(np_loop *l);

/* The path of the running program: 0 or an error. */
int np_process_executable(char *buf, size_t size);

#endif
