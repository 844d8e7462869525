/* UTF-8 (RFC 3629) checked as it comes, in pieces that may end inside a character. Pure. */
#ifndef NP_UTF8_H
#define NP_UTF8_H

#include "core/base.h"

/* Checks further bytes. *state is 0 before the first and whenever a character is whole; else how
 * many bytes are missing, and what the next one may be. False: no UTF-8. */
bool np_utf8(uint32_t *state, const char *p, size_t n);

#endif
