/* Socket options at the Lua level: rows of core/option.h's table by their names. */
#ifndef NP_BIND_OPTION_H
#define NP_BIND_OPTION_H

#include <lua.h>

#include "core/socket.h"

enum { NP_OPTIONS_MAX = 64 }; /* more than the table has rows */

/* option(name) -> value; option(name, value) -> true; or nil, message, code.  The name is at idx of the stack, the value
 * after it.  fd < 0: the object has no descriptor (ENOTSOCK), `what` is the object in messages.  Raises for an
 * unknown name (listing all), a value of the wrong type, and one that cannot be set. */
int np_option_call(lua_State *L, int fd, int idx, const char *what);

/* The socket options in the table at idx, in the order of the option table, into out[NP_OPTIONS_MAX]: their number.
 * Raises for keys that are neither options nor in `others` (NULL-terminated), naming all known, and for bad values.
 * none and nil: 0. */
int np_option_collect(lua_State *L, int idx, const char *const others[], np_setopt *out);

#endif
