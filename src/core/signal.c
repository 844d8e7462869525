/* Subscriptions over uv_signal_t: one handle per signal, one queue of what came.
 *
 * The names are a table; realtime signals have none.  What to do with an uncaught INT or TERM is
 * the program's matter (main.c), not this file's. */
#include "core/signal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

typedef struct row {
  const char *name;
  int num;
  bool catchable;
} row;

static const row rows[] = {
  {"HUP", SIGHUP, true},       {"INT", SIGINT, true},    {"QUIT", SIGQUIT, true},
  {"ILL", SIGILL, false},      {"TRAP", SIGTRAP, true},  {"ABRT", SIGABRT, true},
  {"BUS", SIGBUS, false},      {"FPE", SIGFPE, false},   {"KILL", SIGKILL, false},
  {"USR1", SIGUSR1, true},     {"SEGV", SIGSEGV, false}, {"USR2", SIGUSR2, true},
  {"PIPE", SIGPIPE, true},     {"ALRM", SIGALRM, true},  {"TERM", SIGTERM, true},
  {"CHLD", SIGCHLD, true},     {"CONT", SIGCONT, true},  {"STOP", SIGSTOP, false},
  {"TSTP", SIGTSTP, true},     {"TTIN", SIGTTIN, true},  {"TTOU", SIGTTOU, true},
  {"URG", SIGURG, true},       {"XCPU", SIGXCPU, true},  {"XFSZ", SIGXFSZ, true},
  {"VTALRM", SIGVTALRM, true}, {"PROF", SIGPROF, true},  {"WINCH", SIGWINCH, true},
  {"IO", SIGIO, true},         {"SYS", SIGSYS, true},
#ifdef SIGPWR
  {"PWR", SIGPWR, true},
#endif
#ifdef SIGSTKFLT
  {"STKFLT", SIGSTKFLT, true},
#endif
};

/* What stood before us for one signal, and how many handles of this loop stand on it. */
typedef struct former {
  int users;
  bool ours; /* `old` is to be put back by this loop */
  struct sigaction old;
} former;

/* One handle; its memory is libuv's until the close callback. */
typedef struct handle {
  uv_signal_t uv;
  np_signal *sub; /* NULL once closed */
} handle;

struct np_signal {
  np_object obj;
  np_signal_fn *fn;
  void *owner;
  int n;
  handle *handles[NP_SIGNALS_MAX];
  int npending;
  int pending[NP_SIGNALS_MAX]; /* in order of arrival, each signal at most once */
};

int np_signal_describe(const np_signal *s, char *buf, size_t size) {
  size_t at = 0;
  buf[0] = 0;
  for (int i = 0; i < s->n && at < size; i++) {
    const char *name = np_signal_name(s->handles[i]->uv.signum);
    int n = snprintf(buf + at, size - at, "%s%s", i ? " " : "", name ? name : "?");
    at += (size_t)n;
  }
  return (int)at;
}

static int describe(np_object *o, char *buf, size_t size) {
  return np_signal_describe(np_container(o, np_signal, obj), buf, size);
}

static const np_objtype signal_type = {"signals", describe};

int np_signal_number(const char *name) {
  if (strncasecmp(name, "SIG", 3) == 0) name += 3;
  for (size_t i = 0; i < np_countof(rows); i++)
    if (strcasecmp(rows[i].name, name) == 0) return rows[i].num;
  return -EINVAL;
}

const char *np_signal_name(int signum) {
  for (size_t i = 0; i < np_countof(rows); i++)
    if (rows[i].num == signum) return rows[i].name;
  return NULL;
}

const char *np_signal_at(int i) {
  return i >= 0 && (size_t)i < np_countof(rows) ? rows[i].name : NULL;
}

bool np_signal_catchable(int signum) {
  for (size_t i = 0; i < np_countof(rows); i++)
    if (rows[i].num == signum) return rows[i].catchable;
  return false;
}

/* ---- the action that stood there --------------------------------------- */

static former *former_of(np_loop *l, int signum) {
  void **slot = np_loop_slot(l, NP_SLOT_SIGNAL);
  if (!*slot) *slot = calloc(NSIG, sizeof(former));
  return *slot ? (former *)*slot + signum : NULL;
}

static bool same_action(const struct sigaction *a, const struct sigaction *b) {
  return a->sa_flags & SA_SIGINFO ? a->sa_sigaction == b->sa_sigaction
                                  : a->sa_handler == b->sa_handler;
}

/* libuv leaves the default action behind, whatever stood there.  If libuv's own handler stood
 * there, another loop of this process has the signal, and it is not ours to restore. */
static void note_former(former *f, int signum, const struct sigaction *before) {
  struct sigaction now;
  if (f->users++ > 0) return;
  f->old = *before;
  f->ours = sigaction(signum, NULL, &now) == 0 && !same_action(&now, before);
}

static void restore_former(former *f, int signum) {
  struct sigaction now;
  if (--f->users > 0 || !f->ours) return;
  if (sigaction(signum, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
    sigaction(signum, &f->old, NULL);
}

/* ---- subscriptions ----------------------------------------------------- */

static bool is_pending(const np_signal *s, int signum) {
  for (int i = 0; i < s->npending; i++)
    if (s->pending[i] == signum) return true;
  return false;
}

static void on_signal(uv_signal_t *uv, int signum) {
  np_signal *s = np_container(uv, handle, uv)->sub;
  if (!s) return;
  np_loop *l = s->obj.loop;
  if (!is_pending(s, signum)) s->pending[s->npending++] = signum;
  np_trace(l, "signal", &s->obj, 0);
  s->fn(s->owner);
  np_loop_event_done(l);
}

static void on_closed(uv_handle_t *h) { free(np_container((uv_signal_t *)h, handle, uv)); }

static handle *handle_new(np_signal *s) {
  handle *h = calloc(1, sizeof *h);
  if (!h) return NULL;
  if (uv_signal_init(np_loop_uv(s->obj.loop), &h->uv) < 0) {
    free(h);
    return NULL;
  }
  h->sub = s;
  uv_unref((uv_handle_t *)&h->uv); /* waiting is the scheduler's matter */
  return h;
}

static bool has_handle(const np_signal *s, int signum) {
  for (int i = 0; i < s->n; i++)
    if (s->handles[i]->uv.signum == signum) return true;
  return false;
}

static int add_handle(np_signal *s, int signum) {
  struct sigaction before;
  if (has_handle(s, signum)) return 0;
  former *f = former_of(s->obj.loop, signum);
  handle *h = f ? handle_new(s) : NULL;
  if (!h) return -ENOMEM;
  sigaction(signum, NULL, &before);
  int r = uv_signal_start(&h->uv, on_signal, signum);
  if (r < 0) {
    uv_close((uv_handle_t *)&h->uv, on_closed);
    return r;
  }
  note_former(f, signum, &before);
  s->handles[s->n++] = h;
  return 0;
}

int np_signal_open(np_loop *l, const int *signums, int n, np_signal_fn *fn, void *owner,
                   np_signal **out) {
  if (n > NP_SIGNALS_MAX) return -EINVAL;
  for (int i = 0; i < n; i++)
    if (!np_signal_catchable(signums[i])) return -EINVAL;
  np_signal *s = calloc(1, sizeof *s);
  if (!s) return -ENOMEM;
  s->fn = fn;
  s->owner = owner;
  np_object_init(&s->obj, l, &signal_type);
  for (int i = 0; i < n; i++) {
    int r = add_handle(s, signums[i]);
    if (r < 0) {
      np_signal_close(s);
      return r;
    }
  }
  np_loop_touch(l);
  *out = s;
  return 0;
}

int np_signal_next(np_signal *s) {
  if (s->npending == 0) return -EAGAIN;
  int signum = s->pending[0];
  memmove(s->pending, s->pending + 1, (size_t)--s->npending * sizeof *s->pending);
  return signum;
}

void np_signal_close(np_signal *s) {
  np_loop *l = s->obj.loop;
  for (int i = 0; i < s->n; i++) {
    handle *h = s->handles[i];
    int signum = h->uv.signum;
    h->sub = NULL;
    uv_close((uv_handle_t *)&h->uv, on_closed);
    restore_former(former_of(l, signum), signum);
  }
  np_loop_touch(l);
  np_object_done(&s->obj);
  free(s);
}

void np_signal_shutdown(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_SIGNAL);
  free(*slot);
  *slot = NULL;
}
