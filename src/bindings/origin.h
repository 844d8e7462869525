/* Where an object was made, and the warning when it is collected without close. */
#ifndef NP_ORIGIN_H
#define NP_ORIGIN_H

#include <lua.h>

/* Remembers the innermost Lua line in user value `n` of the object at idx. */
void np_origin_set(lua_State *L, int idx, int n);

/* Pushes that line as text, or nil: for an object that is made later, or many. */
void np_origin_push(lua_State *L);

/* Warns: "neap: <what> was collected without close (made at file:line)". Raises nothing. */
void np_origin_warn(lua_State *L, int idx, int n, const char *what);

#endif
