/* The options --workers (the supervisor's) and --worker (which it gives to each worker), and what
 * sets a worker's process apart. Part of the command, not of the library. */
#ifndef NP_WORKERS_H
#define NP_WORKERS_H

#include <stdbool.h>

typedef struct np_workers {
  int count;      /* 0: the option was not given */
  int id;         /* of a worker, 1..count; 0: the supervisor */
  bool reuseport; /* each worker binds for itself; otherwise descriptors are passed */
  double grace_s; /* between TERM and KILL */
} np_workers;

/* Reads "N" (1..1024), or "ID/N" of a worker, and after it, separated by commas, "pass" (default),
 * "reuseport", "grace=SECONDS" (0..3600). false: malformed. */
bool np_workers_parse(const char *text, np_workers *w);

/* For a worker, before anything else: a process group of its own, and an end when the supervisor's
 * end of the control socket (descriptor 3) is gone. false: there is no control socket. */
bool np_worker_begin(void);

#endif
