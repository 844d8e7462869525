/* The fault layer: a transport over any transport that cuts, delays and refuses, driven by a seed.
 *
 * It loses, reorders and changes nothing: whatever sits above has to behave the same with it.  It
 * proves that streams can be layered, and finds code that trusts in how bytes are split. */
#ifndef NP_FAULT_H
#define NP_FAULT_H

#include "core/stream.h"

typedef struct np_faults {
  uint64_t seed;        /* the same seed gives the same decisions */
  size_t cut;           /* reads and writes are of 1 .. cut bytes, at random; 0: not cut */
  double again;         /* 0 .. 1: how often a try answers EAGAIN, until the loop's next turn */
  double delay_s;       /* such a pause lasts up to this long instead; 0: just a turn */
  uint64_t reset_after; /* bytes, both ways together, until the connection is reset; 0: never */
} np_faults;

/* Puts the layer on s, between two calls; unread bytes of s go through it too. 0 or -ENOMEM. */
int np_fault_put(np_stream *s, const np_faults *f);

#endif
