/* Users and groups as scripts name them: a name or a number. */
#ifndef NP_BIND_IDENTITY_H
#define NP_BIND_IDENTITY_H

#include <lua.h>

#include "core/process.h"

/* The user (or group) that the value on top of the stack names; pops it. 0 and *id, or a failure
 * (-ENOENT: no such user), for which a text that says which is on top instead. Raises for what is
 * neither name nor number, as an error of option `what` in argument `arg`. */
int np_read_id(lua_State *L, int arg, const char *what, bool group, int64_t *id);

/* The same for the field `what` of the options table at idx; *id stays when it is absent. */
int np_opt_id(lua_State *L, int idx, const char *what, bool group, int64_t *id);

/* The options uid and gid at idx: whose a socket's path is to be; -1: not given. 0, or a failure as
 * above. */
int np_read_owner(lua_State *L, int idx, int64_t *uid, int64_t *gid);

/* The options uid, gid and groups at idx.  A uid alone brings the group and groups that the system
 * has for that user.  Memory stays anchored on the stack.  1: something is to be set; 0: nothing;
 * a failure as above. */
int np_read_identity(lua_State *L, int idx, np_identity *out);

#endif
