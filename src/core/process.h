/* Child processes: started with exactly what they are given, watched without a SIGCHLD handler.
 *
 * The child gets default signal dispositions, an empty signal mask, the descriptors named and no
 * other, and who and what it is told to be.  It is our own fork and exec, not uv_spawn, because
 * that cannot set limits, sessions and terminals between the two, lets descriptors without
 * FD_CLOEXEC through (those the host program or our own parent left open), and installs a
 * process-wide SIGCHLD handler, which a library must not.  The end is seen through a pidfd; on
 * kernels before 5.3, by libuv's SIGCHLD.  A pid is never signalled after it was reaped.  A host
 * must not ignore SIGCHLD nor wait for children it did not start: then their status is unknown. */
#ifndef NP_PROCESS_H
#define NP_PROCESS_H

#include "core/loop.h"

enum {
  NP_PROCESS_FDS = 256,       /* descriptors a child can be given, standard ones included */
  NP_PROCESS_GROUPS = 1024,   /* supplementary groups */
  NP_PROCESS_LIMITS = 16,     /* resource limits: every one there is */
  NP_PROCESS_GRACE_MS = 1000, /* between TERM and KILL when a child is closed */
  NP_PID_TEXT = 12            /* bytes of a process id as text */
};

/* What may stand for a descriptor's number. */
enum { NP_FD_NULL = -1, NP_FD_GAP = -2 }; /* /dev/null; nothing is open there */

#define NP_LIMIT_KEEP (UINT64_MAX - 1)

typedef struct np_process np_process;
typedef void np_process_fn(void *owner);

/* Who the child is to be; what is not set stays ours. */
typedef struct np_identity {
  bool set_uid, set_gid, set_groups;
  uid_t uid;
  gid_t gid;
  const gid_t *groups; /* supplementary */
  int ngroups;
} np_identity;

typedef struct np_processlimit {
  int resource;        /* RLIMIT_* */
  uint64_t soft, hard; /* UINT64_MAX: unlimited; hard NP_LIMIT_KEEP: as it is, and above soft */
} np_processlimit;

typedef struct np_processopts {
  /* NULL-terminated; argv[0] is searched in the PATH of the child unless it has a slash. */
  char *const *argv;
  char *const *env; /* the whole environment, NULL: ours */
  /* Inside of one of env's strings: the child writes its own process id there, in decimal and with
   * a zero byte; room for NP_PID_TEXT bytes.  NULL: nowhere.  (LISTEN_PID is known only then.) */
  char *pid_text;
  const char *cwd; /* NULL: ours */
  /* fds[i] becomes descriptor i, or NP_FD_*.  They stay the caller's.  0, 1, 2 are put into
   * blocking mode, as programs expect (not listeners): a property of the open file, ours too. */
  const int *fds;
  int nfds;                    /* at least 3 */
  const np_identity *identity; /* NULL: as we are */
  const np_processlimit *limits;
  int nlimits;
  int umask;    /* -1: ours */
  bool session; /* setsid: a session and a group of its own */
  pid_t pgroup; /* -1: ours; 0: a group of its own; else the group it joins */
  int terminal; /* becomes the session's controlling terminal; -1: none */
  int grace_ms; /* before KILL in np_process_close */
} np_processopts;

/* Starts a child: 0 and *out, fn(owner) tells when it has ended; or a failure with *step naming
 * what failed ("exec", "chdir" ...), and no child. */
int np_process_open(np_loop *l, const np_processopts *o, np_process_fn *fn, void *owner,
                    np_process **out, const char **step);

int np_process_pid(const np_process *p);

/* False while it runs.  Then *code is the exit status, or *signal (else 0) what ended it. -1, 0:
 * somebody else reaped it. */
bool np_process_ended(const np_process *p, int *code, int *signal);

/* 0, -ESRCH when it has ended, or another failure.  `group`: all of the group that the child leads;
 * -EINVAL if it leads none. */
int np_process_kill(np_process *p, int signum, bool group);

/* Forgets the owner. A child that runs gets TERM, after the grace KILL, and is reaped meanwhile:
 * the loop counts as busy until then.  Of one that leads a group both go to all of it; what is left
 * of the group when the child has ended is killed. */
void np_process_close(np_process *p);

/* Starts the same end but keeps the owner, who is told when the child has ended; np_process_close
 * comes later. */
void np_process_end(np_process *p);

/* For np_loop_free: kills what was closed and still runs. */
void np_process_shutdown(np_loop *l);

/* RLIMIT_* of a name ("nofile" ...), or -EINVAL; the names, NULL past the last. */
int np_process_limit(const char *name);
const char *np_process_limit_name(size_t i);

/* The path of the running program: 0 or an error. */
int np_process_executable(char *buf, size_t size);

#endif
