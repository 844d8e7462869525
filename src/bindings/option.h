/* The option() method that all sockets share; values and names are bindings/sockopt.h's. */
#ifndef NP_BIND_OPTION_H
#define NP_BIND_OPTION_H

#include <lua.h>

/* option(name) -> value; option(name, value) -> true; or nil, message, code.  The name is at idx of
 * the stack, the value after it.  fd < 0: the object has no descriptor (ENOTSOCK); `what` is the
 * object in messages.  Raises for an unknown name (listing all), a value of the wrong type, and one
 * that cannot be set. */
int np_option_call(lua_State *L, int fd, int idx, const char *what);

#endif
