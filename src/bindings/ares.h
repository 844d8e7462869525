/* Resolvers (neap.dns.resolver) for the other bindings: names for connect and resolve by option. */
#ifndef NP_BINDING_ARES_H
#define NP_BINDING_ARES_H

#include <lua.h>

#include "core/ares.h"

/* The option `resolver` of the table at idx (none and nil: absent): absent and "system" leave *out
 * NULL, "c-ares" is the loop's own, a resolver object its own.  Raises for anything else.  0, or
 * why there is none: NP_ECLOSED, -ENOMEM, -EMFILE. */
int np_opt_resolver(lua_State *L, int idx, np_ares **out);

#endif
