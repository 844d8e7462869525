/* The listener object, for the files that make it up. */
#ifndef NP_LISTENER_IMPL_H
#define NP_LISTENER_IMPL_H

#include "bindings/listener.h"
#include "bindings/lua_util.h"
#include "bindings/task.h"
#include "core/address.h"
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
  struct np_tls_box *tls;               /* what is accepted speaks TLS; anchored; NULL */
} listener;

extern const np_type np_listener_type;

/* User values: where it was made, its addresses as text, its TLS context. */
enum { NP_LISTENER_ORIGIN = 1, NP_LISTENER_ADDRESSES, NP_LISTENER_TLS, NP_LISTENER_USERVALUES = 3 };

/* Pushes a closed one. */
listener *np_listener_make(lua_State *L);

/* Gives it a core without sockets: 0 or a code. */
int np_listener_start(lua_State *L, listener *l);

/* Notes the addresses of its sockets; the object is at the top of the stack. */
void np_listener_settle(lua_State *L, listener *l);

/* Wakes its waiters and closes it. */
void np_listener_end(listener *l);

/* The Lua functions listen and tls. */
int np_listen(lua_State *L);
int np_listener_tls(lua_State *L);

#endif
