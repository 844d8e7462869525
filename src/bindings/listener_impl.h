/* The listener object, for the files that make it up. */
#ifndef NP_LISTENER_IMPL_H
#define NP_LISTENER_IMPL_H

#include "bindings/listener.h"
#include "bindings/lua_util.h"
#include "bindings/task.h"
#include "core/listener.h"

/* What an accepted connection is: known from its listening socket, not asked of the kernel. */
typedef struct accepts {
  np_fdkind kind;
  bool records; /* SOCK_SEQPACKET: record sockets */
} accepts;

typedef struct listener {
  const np_type *type;
  np_listener *core;                    /* NULL: closed */
  np_node waiters;                      /* np_waiter of tasks in accept */
  lua_State *main;                      /* for warnings */
  accepts socks[NP_LISTEN_SOCKETS_MAX]; /* what each of them accepts */
  uint8_t streak;                       /* failures in a row */
} listener;

/* Pushes a closed one. */
listener *np_listener_make(lua_State *L);

/* Gives it a core without sockets: 0 or a code. */
int np_listener_start(lua_State *L, listener *l);

/* Notes the addresses of its sockets; the object is at the top of the stack. */
void np_listener_settle(lua_State *L, listener *l);

/* Wakes its waiters and closes it. */
void np_listener_end(listener *l);

/* The Lua function listen. */
int np_listen(lua_State *L);

#endif
