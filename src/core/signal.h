/* Signals as events: a subscription collects those it names and tells its owner.
 *
 * Several subscriptions, also of several loops, each get every signal (libuv's handler hands them
 * out).  While any exists the signal's former action is off; when the last of a loop ends, a
 * handler that stood there before is put back. Like the kernel, a subscription remembers that a
 * signal came, not how often. */
#ifndef NP_SIGNAL_H
#define NP_SIGNAL_H

#include "core/loop.h"

enum { NP_SIGNALS_MAX = 32 }; /* of one subscription: there are 26 that can be caught */

typedef struct np_signal np_signal;
typedef void np_signal_fn(void *owner);

/* The number of "TERM" or "SIGTERM", any case; -EINVAL: no such signal here. */
int np_signal_number(const char *name);
/* "TERM", or NULL. */
const char *np_signal_name(int signum);
/* The i-th name of the table, NULL past the last: for messages. */
const char *np_signal_at(int i);
/* False for KILL and STOP, which nobody can catch, and for faults (SEGV ...), which would recur
 * for ever. */
bool np_signal_catchable(int signum);

/* Starts to collect the n signals, all catchable.  0 and *out; -EINVAL, -ENOMEM. fn(owner) tells
 * that there is one. */
int np_signal_open(np_loop *l, const int *signums, int n, np_signal_fn *fn, void *owner,
                   np_signal **out);

/* The next signal that came, in order of arrival, or -EAGAIN. */
int np_signal_next(np_signal *s);

/* "TERM HUP", as snprintf. */
int np_signal_describe(const np_signal *s, char *buf, size_t size);

void np_signal_close(np_signal *s);

/* For np_loop_free: the memory of the notes on former actions. */
void np_signal_shutdown(np_loop *l);

#endif
