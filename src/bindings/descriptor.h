/* Descriptors as Lua objects: owned, closed when nobody wants them, passed on, or turned into what
 * they are. */
#ifndef NP_DESCRIPTOR_H
#define NP_DESCRIPTOR_H

#include <lua.h>

#include "core/cmsg.h"

/* Pushes a descriptor object. Assumes ownership of fd, also when it raises (no memory). */
void np_push_descriptor(lua_State *L, int fd);

/* Pushes a to-be-closed list of descriptor objects. Assumes ownership of fds[0..n), also when it
 * raises. */
void np_push_descriptors(lua_State *L, const int *fds, int n);

/* The same in two steps, for who can make the objects before it takes the descriptors: the list of
 * n closed ones, and, with that on top, their opening, which raises nothing. */
void np_push_closed_descriptors(lua_State *L, int n);
void np_open_descriptors(lua_State *L, const int *fds, int n);

/* Pushes what the kernel says fd is: a listener, a stream (of a socket, pipe, terminal or file), a
 * datagram or record socket.  Assumes ownership of fd, also on failure.  0; or a negative code and
 * nothing pushed: -EOPNOTSUPP for what has no such object (eventfd, pidfd), -EISDIR, -EBADF. */
int np_adopt(lua_State *L, int fd);

/* The descriptor number of a descriptor, stream, listener, datagram object, io file or integer;
 * raises an argument error otherwise, also for closed ones. */
int np_get_fd(lua_State *L, int idx);

/* The descriptors in the table at idx, into fds[NP_FDS_MAX]: their number. They stay the objects'.
 * Raises for what is not a descriptor and for more than NP_FDS_MAX, as errors of argument `arg`. */
int np_gather_fds(lua_State *L, int idx, int arg, int fds[NP_FDS_MAX]);

#endif
