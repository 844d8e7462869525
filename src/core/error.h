/* One table of error names and texts: codes are -errno, getaddrinfo's (UV_EAI_*) and the NP_E* of
 * base.h. */
#ifndef NP_ERROR_H
#define NP_ERROR_H

#include "core/base.h"

/* The stable name scripts compare with: "ECONNREFUSED", "ETIMEDOUT", "ENOTFOUND" (a name without an
 * address) ...  Static storage, except that an unknown code gives "EUNKNOWN". */
const char *np_error_name(int code);

/* The lower-case text for messages: "connection refused", "timed out", "closed". Static storage. */
const char *np_error_text(int code);

#endif
