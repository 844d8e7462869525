/* Looking names up: getaddrinfo off the loop, on detached threads of our own, or by option c-ares
 * (core/ares.h), any number at once.
 *
 * The one idea: a lookup nobody wants any more is left to itself.  Its thread shares nothing with
 * the loop but one counted block, so neither cancelling, np_loop_free nor the end of the process
 * ever waits for it.  (libuv's pool is joined at exit, keeps the loop unclosable while a request
 * runs, and lets two hanging lookups stop all others.)
 *
 * Literals and localhost (RFC 6761 section 6.3: always loopback, here always both families) are
 * answered at once.  No cache, no DNS of our own, names in ASCII (an international name in its
 * xn-- form). */
#ifndef NP_RESOLVE_H
#define NP_RESOLVE_H

#include "core/address.h"
#include "core/ares.h"
#include "core/loop.h"

enum {
  NP_RESOLVE_RUNNING =
    8, /* wanted lookups at once per loop; others wait in order: a thread and a socket each */
  NP_RESOLVE_THREADS =
    32, /* the same with abandoned ones, which end when the system's resolver gives up */
  NP_RESOLVE_ADDRS =
    64,             /* addresses kept of one answer: whoever serves the name chooses their number */
  NP_HOST_MAX = 255 /* RFC 1035 section 2.3.4 */
};

typedef struct np_resolve np_resolve;
typedef void np_resolve_fn(void *owner);

/* Starts to look `host` up (AF_UNSPEC, AF_INET or AF_INET6), by the resolver `via` or (NULL) by
 * getaddrinfo; the addresses found get `port`. Lookups of one name and family that overlap share
 * one answer of getaddrinfo.  0 and *out, which may be answered already (ask np_resolve_result);
 * else fn(owner) tells, once, from the loop.  An empty host means localhost.  -EINVAL: a NUL in
 * the name, -ENAMETOOLONG, -ENOMEM, -EMFILE, np_ares_lookup's. */
int np_resolve_open(np_loop *l, np_ares *via, const char *host, size_t len, int port, int family,
                    np_resolve_fn *fn, void *owner, np_resolve **out);

/* -EAGAIN: not yet.  Else the number of addresses (> 0) in the system's order (RFC 6724) without
 * repetitions, which live until np_resolve_close, or a failure: UV_EAI_* or -errno. */
int np_resolve_result(const np_resolve *r, const np_sockaddr **addrs);

/* Ends r at any time: a queued lookup is removed, a running one abandoned, unless another wants
 * it. */
void np_resolve_close(np_resolve *r);

/* For np_loop_free, after every np_resolve was closed: lets go of what runs, and of the loop's own
 * resolver. */
void np_resolve_shutdown(np_loop *l);

#endif
