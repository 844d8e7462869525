/* Asking name servers: c-ares, driven by the loop (its sockets are watched as ours are, its
 * timeouts are one timer of the heap).  No threads.
 *
 * The one idea: a resolver carries any number of questions at once; a question is raw bytes of DNS
 * and gives raw bytes, or is a name and gives addresses as getaddrinfo would (/etc/hosts,
 * resolv.conf, RFC 6724).  c-ares repeats, goes on to the next server, and comes back over TCP for
 * what was truncated; what a message says is not read here.
 *
 * c-ares cannot take back one question of several: one that nobody wants any more is forgotten,
 * and ends in silence with its answer or its last timeout; when nobody wants any, all end now. */
#ifndef NP_ARES_H
#define NP_ARES_H

#include "core/address.h"
#include "core/loop.h"

enum {
#ifdef NP_HARD
  NP_ARES_ASKED = 64, /* the limit is met by specs */
#else
  NP_ARES_ASKED = 1 << 12, /* questions of a resolver at once, forgotten ones included: they differ
                              by 16 bits only */
#endif
  NP_ARES_WHAT = 320 /* bytes of a question's name in reports, with its end */
};

typedef struct np_ares np_ares;
typedef struct np_asked np_asked;
typedef void np_asked_fn(void *owner);

typedef struct np_aresopts {
  const char
    *servers;     /* "127.0.0.1:5353,[::1]:53": literals with ports; NULL: those of the system */
  int timeout_ms; /* for the first try at a server; each round waits twice as long; 0: 2 s */
  int tries;      /* rounds over the servers; 0: 3 */
  int edns_size;  /* the room that the questions' OPT record announces; 0: they have none */
  bool tcp;       /* not over UDP */
} np_aresopts;

/* 0 and *out: a resolver, an object of the loop; or -EINVAL (servers), -ENOMEM, -EMFILE,
 * -ENOENT. */
int np_ares_open(np_loop *l, const np_aresopts *o, np_ares **out);

/* The loop's own resolver, made when it is first asked for and again when resolv.conf has changed
 * since; NP_ARES_EDNS. Not to be closed. */
int np_ares_default(np_loop *l, np_ares **out);
enum { NP_ARES_EDNS = 1232 };

/* Ends the resolver. Questions under way are answered with NP_ECLOSED. */
void np_ares_close(np_ares *a);

/* Sends a query (a whole DNS message of 12 bytes or more, its OPT record last). `what` is for
 * reports. 0 and *out, which may be answered already (ask np_asked_answer); else fn(owner) tells,
 * once, from the loop. -ENOBUFS: NP_ARES_ASKED questions are under way; NP_ECLOSED, -ENOMEM. */
int np_ares_ask(np_ares *a, const void *query, size_t len, const char *what, np_asked_fn *fn,
                void *owner, np_asked **out);

/* The same for the addresses of a name (AF_UNSPEC, AF_INET, AF_INET6), which is shorter than
 * NP_ARES_WHAT. */
int np_ares_lookup(np_ares *a, const char *host, int family, np_asked_fn *fn, void *owner,
                   np_asked **out);

/* -EAGAIN: not yet.  0: the answer, which lives until np_asked_close.  Else how it failed:
 * NP_ESERVFAIL, NP_EREFUSED, NP_ENOTIMP (every server said so), -ETIMEDOUT, -ECONNREFUSED,
 * socket(2)'s and connect(2)'s when there is no socket to any server, NP_EBADMSG, NP_ECLOSED,
 * -ENOMEM. */
int np_asked_answer(const np_asked *q, const void **bytes, size_t *len);

/* -EAGAIN: not yet.  Else the number of addresses (> 0), without ports, or a failure as
 * getaddrinfo's: UV_EAI_NONAME, UV_EAI_NODATA, UV_EAI_AGAIN, or NP_ECLOSED, -ENOMEM. */
int np_asked_addresses(const np_asked *q, const np_sockaddr **addrs);

/* "example.org MX" */
const char *np_asked_what(const np_asked *q);

/* Ends q at any time. */
void np_asked_close(np_asked *q);

/* For np_loop_free, after every question was closed. */
void np_ares_shutdown(np_loop *l);

#endif
