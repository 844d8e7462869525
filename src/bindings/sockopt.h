/* Socket options between Lua values and core/option.h's table: for connect, listen, datagram and
 * obj:option(). */
#ifndef NP_BIND_SOCKOPT_H
#define NP_BIND_SOCKOPT_H

#include <lua.h>

#include "core/socket.h"

enum { NP_SETOPTS_MAX = 48 }; /* rows of the table, with room to grow */

/* Collects the socket options in the options table at `arg` (none and nil: none), in the table's
 * order, into out[NP_SETOPTS_MAX] and returns their number.  Raises an argument error for a value
 * of the wrong type, a read-only option, and a key that is neither an option nor in the
 * NULL-terminated list `own`, naming all that are known. */
int np_check_setopts(lua_State *L, int arg, const char *const own[], np_setopt *out);

/* The value at idx for option o; raises an argument error at `arg` that names the option. */
void np_check_optval(lua_State *L, int arg, int idx, const np_option *o, np_optval *v);
void np_push_optval(lua_State *L, const np_option *o, const np_optval *v);

/* The option that the string at `arg` names; raises an argument error that lists all. */
const np_option *np_check_option(lua_State *L, int arg);

#endif
