/* The Lua state of a runtime that makes its own: its allocator, its last words, its warnings. */
#ifndef NP_STATE_H
#define NP_STATE_H

#include <stdbool.h>

#include <lua.h>

typedef struct np_state np_state;

/* A state without libraries. NULL: no memory. */
np_state *np_state_new(void);
lua_State *np_state_lua(np_state *s);
/* Closes the state and frees all it had. */
void np_state_free(np_state *s);

#endif
