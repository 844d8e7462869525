/* The datagram and record socket object, for the files that make it up. */
#ifndef NP_DGRAM_IMPL_H
#define NP_DGRAM_IMPL_H

#include "bindings/dgram.h"
#include "bindings/lua_util.h"
#include "bindings/task.h"
#include "core/dgram.h"

typedef struct dgram {
  const np_type *type;
  np_dgram *core; /* NULL: closed */
  np_node readers, writers;
  np_scheme scheme;
  bool connected;
  bool warned;      /* descriptors nobody asked for were closed and that was said */
  uint8_t streak;   /* failures in a row */
  double timeout;   /* default of each wait, seconds; negative: none */
  np_sockaddr to;   /* what the text in UV_TO means; len 0: nothing */
  np_sockaddr from; /* whose text is in UV_FROM; len 0: nobody's */
} dgram;

enum { UV_ORIGIN = 1, UV_ADDRESS, UV_PEER, UV_TO, UV_FROM, UVS = UV_FROM };

/* Pushes a closed one. */
dgram *np_dgram_make(lua_State *L);

/* Opens the closed object at the top of the stack. Assumes ownership of fd, also on failure. */
int np_dgram_start(lua_State *L, dgram *d, int fd);

/* Wakes its waiters and takes the descriptor out; -1: it is closed already. */
int np_dgram_end(dgram *d);

/* The object at index 1; raises for anything else. */
dgram *np_dgram_check(lua_State *L);

/* Pushes what messages call the object at index 1: where it is, else whom it talks to. */
const char *np_dgram_push_name(lua_State *L, dgram *d);

void np_dgram_push_sockaddr(lua_State *L, np_scheme scheme, const np_sockaddr *a);
void np_dgram_push_credentials(lua_State *L, const np_cred *c);

/* For np_waitkind. */
int np_dgram_describe(void *obj, char *buf, size_t size);

/* Lua functions. */
int np_dgram_f_open(lua_State *L);
int np_dgram_f_pair(lua_State *L);
int np_dgram_f_recv(lua_State *L);
int np_dgram_f_records(lua_State *L);
int np_dgram_f_send(lua_State *L);
int np_dgram_f_resolver(lua_State *L);

#endif
