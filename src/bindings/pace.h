/* How often the collector runs, in a state of our own. */
#ifndef NP_PACE_H
#define NP_PACE_H

#include <stdbool.h>

#include <lua.h>

typedef struct np_pace {
  bool cycle_ended; /* since np_pace_set was last called */
  bool theirs;      /* the script has chosen its own pace, for good */
  bool again;       /* the cycle that runs only shows how much is alive */
  int live_kb;      /* what it left, or less if a later one left less */
} np_pace;

/* Calls f, a closure with the value on top (popped) as upvalue, at the end of each cycle, as a
 * finalizer, if f calls np_next_cycle each time: what it is called for lives on as its own
 * garbage. */
void np_each_cycle(lua_State *L, lua_CFunction f);
void np_next_cycle(lua_State *L);

/* Begins to watch the collector of L.  May raise. `p` lives as long as the state. */
void np_pace_begin(lua_State *L, np_pace *p);

/* After cycle_ended, outside finalizers: says when the next cycle begins.  Raises nothing. */
void np_pace_set(lua_State *L, np_pace *p);

#endif
