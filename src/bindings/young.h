/* Objects that are closed soon, as most are: a finalizer only for those that are not. */
#ifndef NP_YOUNG_H
#define NP_YOUNG_H

#include "bindings/lua_util.h"

/* In the object. */
typedef struct np_young {
  struct np_young **held; /* its place among the youngest; NULL: none of them, or closed */
} np_young;

/* Pushes what holds the youngest of a state; makes it if need be. */
void np_young_push_nursery(lua_State *L);

/* Holds the object on top, whose metatable has no finalizer; `old` is the type whose metatable it
 * gets when it is let go and was not closed.  The nursery is at index `nursery`. */
void np_young_hold(lua_State *L, int nursery, np_young *y, const np_type *old);

/* It needs no finalizer any more. */
static inline void np_young_close(np_young *y) {
  if (y->held) *y->held = NULL;
  y->held = NULL;
}

/* Lets all go: before a state is closed, when it is too late for finalizers.  Allocates and raises
 * nothing. */
void np_young_end(lua_State *L);

#endif
