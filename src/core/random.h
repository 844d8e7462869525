/* Random bytes that nobody can foresee, in small draws: the kernel's, fetched a page at a time
 * (by libuv, which asks for 256 bytes in a call). */
#ifndef NP_RANDOM_H
#define NP_RANDOM_H

#include "core/base.h"

/* A page of them. A child of fork(2) finds it empty, so it never draws what its parent draws. */
typedef struct np_random np_random;

/* NULL: no memory, or a kernel that cannot empty it at a fork; np_random_draw works without. */
np_random *np_random_new(void);
void np_random_free(np_random *r);

/* n random bytes: 0 or a failure. r: NULL asks the kernel each time. */
int np_random_draw(np_random *r, void *out, size_t n);

#endif
