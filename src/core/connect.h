/* Connecting to one of several addresses: RFC 8305's race.  One address is the same code with
 * one candidate.
 *
 * Candidates are interleaved by family (section 4); the next one starts when the one before
 * failed or after NP_CONNECT_DELAY_MS (section 5, "Connection Attempt Delay"); the first to
 * connect wins and the others are closed.  Names are core/resolve.h's, deadlines the owner's:
 * np_connect_stop. */
#ifndef NP_CONNECT_H
#define NP_CONNECT_H

#include "core/loop.h"
#include "core/socket.h"

enum {
  NP_CONNECT_DELAY_MS = 250, /* RFC 8305 section 5: recommended */
  NP_CONNECT_RETRY_MS =
    1, /* AF_UNIX: a full backlog is EAGAIN and no event follows; doubled up to */
  NP_CONNECT_RETRY_MAX_MS = 64
};

typedef struct np_connect np_connect;
typedef void np_connect_fn(void *owner);

/* One candidate, in the order of the race. */
typedef struct np_candidate {
  np_sockaddr to;
  int code; /* 0: not tried; -EINPROGRESS: under way; else how it failed */
} np_candidate;

typedef struct np_connectopts {
  int type; /* SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET */
  const np_sockaddr
    *from; /* the local address, NULL: any.  Candidates of another family fail with -EAFNOSUPPORT */
  const np_setopt *opts; /* set before connecting; must live until the end of the race */
  int nopts;
} np_connectopts;

/* Starts the race over to[0..n), n > 0.  0 and *out, which may have ended already (ask
 * np_connect_result); else fn(owner) tells, once, from the loop.  -ENOMEM. */
int np_connect_open(np_loop *l, const np_connectopts *o, const np_sockaddr *to, int n,
                    np_connect_fn *fn, void *owner, np_connect **out);

/* -EAGAIN: not yet.  Else the connected descriptor, which the caller owns from here on (ask once),
 * or the most telling failure: a refusal says more than an unreachable network. *bad: the option
 * that could not be set, or NULL. */
int np_connect_result(np_connect *c, const char **bad);

/* What became of each candidate; lives until np_connect_close. */
const np_candidate *np_connect_candidates(const np_connect *c, int *n);

/* Ends a race under way: its attempts fail with `code`, nothing is told.  Only np_connect_close
 * may follow, after a look at the candidates. */
void np_connect_stop(np_connect *c, int code);

void np_connect_close(np_connect *c);

#endif
