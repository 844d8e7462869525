/* Children: the wait for their end, and how they are ended.  How they begin is process_start.c.
 *
 * A closed child that still runs stays as a stray on its loop until it was reaped. */
#include "core/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "core/poll.h"
#include "core/process_impl.h"
#include "core/timer.h"

struct np_process {
  np_object obj;
  np_node node;      /* in the loop's list of children (slot NP_SLOT_PROCESS) */
  np_poll poll;      /* of pidfd */
  int pidfd;         /* -1: none, `chld` watches instead, or it has ended */
  uv_signal_t *chld; /* freed by libuv's close callback */
  pid_t pid;
  bool ended;  /* reaped: pid means nothing any more */
  bool leads;  /* a process group of its own, whose number is pid */
  bool ending; /* by np_process_end: what is left of its group goes with it */
  bool stray;  /* closed: nobody owns it, it is freed at its end */
  int status;  /* as waitpid gives it; -1: somebody else reaped it */
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

/* The leader's number is that of its group, and nobody else's until it is reaped. */
static void kill_rest_of_group(const np_process *p) {
  siginfo_t info = {.si_pid = 0};
  if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0)
    kill(-p->pid, SIGKILL);
}

/* Takes the status if there is one: true when it has ended. */
static bool reap(np_process *p) {
  if (p->leads && p->ending) kill_rest_of_group(p);
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
  np_process *p = np_container(t, np_process, timer);
  (void)np_process_kill(p, SIGKILL, p->leads);
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
static void destroy_child(const np_process *p) {
  if (p->leads) kill(-p->pid, SIGKILL);
  kill(p->pid, SIGKILL);
  while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) continue;
}

int np_process_open(np_loop *l, const np_processopts *o, np_process_fn *fn, void *owner,
                    np_process **out, const char **step) {
  np_assert(o->nfds >= 3 && o->nfds <= NP_PROCESS_FDS);
  *step = "fork";
  np_node *list = children_of(l);
  np_process *p = list ? calloc(1, sizeof *p) : NULL;
  if (!p) return -ENOMEM;
  int pid = np_process_launch(o, step);
  if (pid < 0) {
    free(p);
    return pid;
  }
  *p = (np_process){.pid = pid, .pidfd = -1, .grace_ms = o->grace_ms, .fn = fn, .owner = owner};
  p->leads = o->session || o->pgroup == 0;
  np_object_init(&p->obj, l, &process_type);
  np_node_append(list, &p->node);
  np_poll_init(&p->poll, on_pidfd);
  np_timer_init(&p->timer, on_grace_over);
  int r = watch_end(p);
  if (r < 0) {
    destroy_child(p);
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

/* Through the pidfd a signal cannot reach another process, even if the host reaped the child
 * behind our back and its number was given away. */
static int send_signal(const np_process *p, int signum) {
#ifdef SYS_pidfd_send_signal
  if (p->pidfd >= 0 && syscall(SYS_pidfd_send_signal, p->pidfd, signum, NULL, 0) == 0) return 0;
  if (p->pidfd >= 0 && errno != ENOSYS && errno != EPERM) return -errno;
#endif
  return kill(p->pid, signum) < 0 ? -errno : 0;
}

int np_process_kill(np_process *p, int signum, bool group) {
  if (p->ended) return -ESRCH;
  if (!group) return send_signal(p, signum);
  if (!p->leads) return -EINVAL;
  return kill(-p->pid, signum) < 0 ? -errno : 0;
}

void np_process_end(np_process *p) {
  if (p->ended || p->ending) return;
  p->ending = true;
  np_process_kill(p, SIGTERM, p->leads);
  /* A stopped child would not see the TERM. */
  np_process_kill(p, SIGCONT, p->leads);
  uint64_t at = np_loop_now(p->obj.loop) + (uint64_t)p->grace_ms * NP_MS;
  if (np_timer_set(p->obj.loop, &p->timer, at) < 0) np_process_kill(p, SIGKILL, p->leads);
}

void np_process_close(np_process *p) {
  if (p->ended || reap(p)) {
    dispose(p);
    return;
  }
  if (np_loop_freed(p->obj.loop)) {
    destroy_child(p);
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
    if (!p->stray) continue; /* somebody's, who closes it later */
    if (!p->ended) destroy_child(p);
    np_loop_busy_add(l, -1);
    dispose(p);
  }
  np_node_remove(list);
  free(list);
}

int np_process_executable(char *buf, size_t size) { return uv_exepath(buf, &size); }
