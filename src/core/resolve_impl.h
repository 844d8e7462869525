/* The inside of lookups, for resolve.c (the loop's side) and resolve_thread.c (the threads'). */
#ifndef NP_RESOLVE_IMPL_H
#define NP_RESOLVE_IMPL_H

#include <netdb.h>
#include <pthread.h>

#include "core/poll.h"
#include "core/resolve.h"

/* What a loop and its lookup threads share; freed by the last of them. */
typedef struct np_resolver {
  pthread_mutex_t lock;
  int threads;      /* under lock: lookups that run, abandoned ones included */
  int efd;          /* written under lock: wakes the loop; -1: nobody wants anything */
  bool orphan;      /* under lock: the loop is gone */
  np_node answered; /* under lock: job.answered */

  np_loop *loop;   /* from here on the loop's thread only */
  np_poll poll;    /* of efd */
  np_node queue;   /* job.node, in order */
  np_node running; /* job.node: with a thread, and wanted */
  int nrunning;    /* length of running */
} np_resolver;

typedef struct np_job {
  np_node node;     /* in queue or running */
  np_node answered; /* under lock: in resolver.answered */
  np_node wanters;  /* np_resolve.node; never empty while the job is in a list */
  np_resolver *res;
  struct addrinfo *list;
  int code;
  bool started;   /* in running */
  bool abandoned; /* under lock: the thread frees it */
  int family;
  char host[NP_HOST_MAX + 1];
} np_job;

/* Takes a job from the queue to a thread of its own.  One that gets none is answered with that
 * failure, in the usual way. */
void np_job_start(np_resolver *res, np_job *j);
void np_job_free(np_job *j);
void np_resolver_free(np_resolver *res);

#endif
