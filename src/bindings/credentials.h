/* Who is at the other end of an AF_UNIX socket, as a table. */
#ifndef NP_BIND_CREDENTIALS_H
#define NP_BIND_CREDENTIALS_H

#include <lua.h>

#include "core/cmsg.h"

/* Pushes {pid =, uid =, gid =}. */
void np_push_cred(lua_State *L, const np_cred *c);

/* Reads the options at idx (none or nil: none): whether a pidfd is wanted. Raises for bad ones. */
bool np_credentials_opts(lua_State *L, int idx);

/* Pushes what the kernel tells of fd's peer: pid, uid, gid, and where it can, groups (a list),
 * label, and if wanted pidfd (a descriptor object).  0; or a failure, and nothing pushed. */
int np_push_credentials(lua_State *L, int fd, bool pidfd);

#endif
