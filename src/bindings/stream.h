/* Streams as Lua objects, for the bindings that make them: accept, connect, pair, process,
 * adopt. */
#ifndef NP_BINDING_STREAM_H
#define NP_BINDING_STREAM_H

#include <lua.h>

#include "core/address.h"
#include "core/stream.h"

/* Wraps fd as a stream and pushes it: 0; or pushes nothing and returns a negative code. Assumes
 * ownership of fd, also on failure and when it raises (no memory). */
int np_push_fd_stream(lua_State *L, int fd);

/* The same for a descriptor of which everything is known: a socket of our own making. `peer` (may
 * be NULL) is who was accepted: the kernel has forgotten that after a reset. */
int np_push_socket_stream(lua_State *L, int fd, const np_fdkind *kind, const np_sockaddr *peer);

/* The same in two steps: the object is made before the descriptor is, so that nothing can be lost
 * between them, without a protected call.  `origin`: the index of what np_origin_push pushed; 0: it
 * is the line that runs.  Opening raises nothing; on failure the stream stays closed. */
void np_push_closed_stream(lua_State *L, int origin);
/* The first step for one whose server is sure to close it, so it needs no finalizer: 400
 * instructions less. */
void np_push_served_stream(lua_State *L);
int np_open_socket_stream(lua_State *L, int idx, int fd, const np_fdkind *kind,
                          const np_sockaddr *peer);

/* The same for a transport. */
int np_push_transport_stream(lua_State *L, np_transport *t);

/* The open stream at idx; raises for anything else, "closed" included. */
np_stream *np_check_stream(lua_State *L, int idx);

/* conn:write for who frames what is written: the n bytes of head, which are copied, before the
 * string at 2; the stream is at 1, nothing else on the stack. To be returned. */
int np_stream_write_behind(lua_State *L, const char *head, size_t n);

/* Aborts the open stream at idx: nobody has seen it yet. */
void np_stream_abort_object(lua_State *L, int idx);

/* What a server sets of each connection at idx; line_max 0: as it is.  False: that is no stream. */
bool np_stream_set_defaults(lua_State *L, int idx, uint64_t timeout_ns, size_t line_max);

/* close() of the stream at idx, without its results. False: that is no stream. */
bool np_stream_close_object(lua_State *L, int idx);

/* The stream at idx, NULL if it is something else or closed. */
np_stream *np_test_stream(lua_State *L, int idx);

#endif
