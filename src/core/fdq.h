/* Descriptors that arrived on an AF_UNIX stream and were not taken yet, each with the stream offset
 * of the end of the recvmsg that brought it: the kernel merges earlier plain bytes into that read
 * and stops after it, so this offset, the barrier, is what can be promised. */
#ifndef NP_FDQ_H
#define NP_FDQ_H

#include "core/base.h"

typedef struct np_fdq {
  struct np_fditem {
    uint64_t end;
    int fd;
  } * items;
  int head, len, cap;
  int trouble;      /* -EMFILE, -EMSGSIZE: the kernel dropped some (MSG_CTRUNC); reported once */
  unsigned dropped; /* closed because a plain read passed them; not yet warned of */
} np_fdq;

/* Appends n descriptors with one barrier. On -ENOMEM they are closed and count as trouble. */
int np_fdq_push(np_fdq *q, uint64_t end, const int *fds, int n);
/* The number of descriptors at the first barrier. */
int np_fdq_first(const np_fdq *q);
/* Moves n out. */
void np_fdq_take(np_fdq *q, int *fds, int n);
/* Closes those with a barrier at or before `end`. */
void np_fdq_drop(np_fdq *q, uint64_t end);
/* Closes all and frees q's memory. */
void np_fdq_done(np_fdq *q);

#endif
