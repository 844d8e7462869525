/* Opening a path that somebody else chose, never outside a directory.
 *
 * openat2(2) with RESOLVE_BENEATH where there is one (Linux 5.6): no moment between a check and the
 * opening. Elsewhere the resolved path is compared and opened without following a last link. */
#ifndef NP_BENEATH_H
#define NP_BENEATH_H

/* Opens path, relative to root, as open(2) does, without waiting for a FIFO's other end: its
 * descriptor, or -errno; -EXDEV when the path, its dots or a link (each absolute one too) leave
 * root. Blocks as open does. */
int np_open_beneath(const char *root, const char *path, int flags, int mode);

#endif
