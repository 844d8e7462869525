/* The queue of received descriptors (see fdq.h). */
#include "core/fdq.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int make_room(np_fdq *q, int n) {
  if (q->head > 0 && q->head + q->len + n > q->cap) {
    memmove(q->items, q->items + q->head, (size_t)q->len * sizeof *q->items);
    q->head = 0;
  }
  if (q->len + n <= q->cap) return 0;
  int cap = q->cap ? q->cap : 4;
  while (cap < q->len + n) cap *= 2;
  struct np_fditem *items = realloc(q->items, (size_t)cap * sizeof *items);
  if (!items) return -ENOMEM;
  q->items = items;
  q->cap = cap;
  return 0;
}

int np_fdq_push(np_fdq *q, uint64_t end, const int *fds, int n) {
  if (make_room(q, n) < 0) {
    for (int i = 0; i < n; i++) close(fds[i]);
    q->trouble = -ENOMEM;
    return -ENOMEM;
  }
  for (int i = 0; i < n; i++) q->items[q->head + q->len++] = (struct np_fditem){end, fds[i]};
  return 0;
}

int np_fdq_first(const np_fdq *q) {
  int n = 0;
  while (n < q->len && q->items[q->head + n].end == q->items[q->head].end) n++;
  return n;
}

void np_fdq_take(np_fdq *q, int *fds, int n) {
  for (int i = 0; i < n; i++) fds[i] = q->items[q->head + i].fd;
  q->head += n;
  q->len -= n;
}

void np_fdq_drop(np_fdq *q, uint64_t end) {
  while (q->len > 0 && q->items[q->head].end <= end) {
    close(q->items[q->head++].fd);
    q->len--;
    q->dropped++;
  }
}

void np_fdq_done(np_fdq *q) {
  np_fdq_drop(q, UINT64_MAX);
  free(q->items);
  q->items = NULL;
  q->cap = q->head = 0;
}
