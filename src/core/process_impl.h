/* Between process.c (the object and its end) and process_start.c (fork and exec). */
#ifndef NP_PROCESS_IMPL_H
#define NP_PROCESS_IMPL_H

#include "core/process.h"

/* A started child's pid; or a failure with *step naming what failed, and no child. */
int np_process_launch(const np_processopts *o, const char **step);

#endif
