/* A queue of Lua values in the first user value of a userdata: a table used as a ring that grows
 * with its use and goes after a burst.  A value that was taken is not kept alive. */
#ifndef NP_RING_H
#define NP_RING_H

#include <lua.h>

#include "core/base.h"

/* All zero: empty. */
typedef struct np_ring {
  uint32_t size;  /* slots of the table; 0: there is none */
  uint32_t head;  /* slot of the oldest value, from 0 */
  uint32_t count; /* values; <= size */
} np_ring;

/* Appends the value on top of the stack and pops it; fewer than `max` are there. `at`: the
 * userdata.  Raises, without a change, when the ring has to grow and memory is out. */
void np_ring_push(lua_State *L, int at, np_ring *r, uint32_t max);

/* Takes the oldest value out and pushes it. There is one. Never raises. */
void np_ring_pop(lua_State *L, int at, np_ring *r);

#endif
