/* The listener's inside, for listener.c (life, readiness), listener_accept.c (accepting, and what
 * to do at a shortage) and listener_mem.c (mem: names) alone. */
#ifndef NP_LISTENER_IMPL_H
#define NP_LISTENER_IMPL_H

#include "core/listener.h"
#include "core/timer.h"

typedef struct lsock {
  np_poll poll; /* level-triggered; added when somebody first waits */
  np_listener *listener;
  int fd;
  uint8_t batch;     /* accepts that one event allows, 1..NP_ACCEPTS_MAX */
  uint8_t left;      /* of the last event's, those not used yet */
  uint8_t hold;      /* events to go before batch may grow from 1 */
  uint8_t hold_next; /* what hold will be after the next wrong guess */
  bool was_blocking; /* inherited so; put back when it goes */
} lsock;

struct np_listener {
  np_object obj;
  np_listener_fn *fn;
  void *owner;
  lsock *socks[NP_LISTEN_SOCKETS_MAX];
  int n;
  int turn;     /* the socket to look at first: no family starves the other */
  bool waiting; /* the owner wants NP_LISTENER_ACCEPT */
  bool paused;  /* out of descriptors: `rest` resumes */
  bool shared;  /* other processes accept from the same sockets */
  int reserve;  /* a descriptor to give up at EMFILE; -1 while it could not be had back */
  np_timer rest;
  int lack;         /* why NP_LISTENER_STARVED is due: -EMFILE, -ENOMEM ...; 0: it is not */
  uint64_t told_ns; /* when it was last told; 0 never */
  uint64_t shed;
  char *name;            /* mem: without the scheme; NULL: sockets */
  np_listener *next_mem; /* in the loop's list of names */
  np_node queue;         /* memconn */
  int queued, backlog;
  np_later deliver; /* mem: connects tell from the loop, not from inside the connect */
};

/* listener.c */
void np_listener_tell(np_listener *s, int what);

/* listener_accept.c: a descriptor to give up; accepting rests, and that is told; the end of it. */
int np_listener_open_reserve(void);
int np_listener_starved(np_listener *s, int code);
void np_listener_on_rest(np_timer *t);

/* listener_mem.c: the server's end of the oldest connection; off the loop's list of names. */
np_transport *np_listener_pop(np_listener *s);
void np_listener_forget_name(np_listener *s);

#endif
