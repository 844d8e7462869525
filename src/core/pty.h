/* Pseudo-terminals: a pair of descriptors, of which a child gets one as its terminal. */
#ifndef NP_PTY_H
#define NP_PTY_H

#include "core/base.h"

/* Makes a pair of that size: *ours (the master, non-blocking) and *theirs (the terminal, blocking),
 * both close-on-exec.  0 or -errno: -ENOENT, no pseudo-terminals in this system; -ENOSPC, all are
 * in use. */
int np_pty_open(int *ours, int *theirs, int rows, int cols);

/* Tells the terminal's processes another size (SIGWINCH). 0 or -errno. */
int np_pty_resize(int fd, int rows, int cols);

#endif
