/* The ending of a broken assertion: says where, then aborts, so that a core dump shows how it came
 * to it. It must not allocate or return; nothing else lives here. */
#include "core/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void np_assert_failed(const char *what, const char *file, int line) {
  fprintf(stderr, "neap: %s:%d: assertion failed: %s\n", file, line, what);
  abort();
}
