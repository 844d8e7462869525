/* How often the collector runs, in a state of our own. */
#ifndef NP_PACE_H
#define NP_PACE_H

#include <stdbool.h>

#include <lua.h>

typedef struct np_pace {
  bool cycle_ended; /* since np_pace_set was last called */
  int pause;        /* what we set last, in percent; 0: the script has chosen its own */
} np_pace;

/* Begins to watch the collector of L.  May raise. `p` lives as long as the state. */
void np_pace_begin(lua_State *L, np_pace *p);

/* After cycle_ended, outside finalizers: sets the pause for the heap as it is. Never raises. */
void np_pace_set(lua_State *L, np_pace *p);

#endif
