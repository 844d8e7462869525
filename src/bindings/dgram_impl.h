/* The datagram and record socket object, for the files that make it up. */
#ifndef NP_DGRAM_IMPL_H
#define NP_DGRAM_IMPL_H

#include "bindings/dgram.h"
#include "bindings/lua_util.h"
#include "bindings/task.h"
#include "core/dgram.h"

typedef struct np_names np_names;

typedef struct dgram {
  const np_type *type;
  np_dgram *core; /* NULL: closed */
  np_node readers, writers;
  np_node watchers; /* wait for reports of the error queue */
  np_scheme scheme;
  bool connected;
  bool warned;              /* descriptors nobody asked for were closed and that was said */
  uint8_t streak;           /* failures in a row */
  size_t cut_full, cut_len; /* a message of a batch that was cut is told next; 0: none */
  double timeout;           /* default of each wait, seconds; negative: none */
  np_sockaddr to;           /* what the text in UV_TO means; len 0: nothing */
  np_sockaddr from;         /* whose text is in UV_FROM; len 0: nobody's */
  np_names *names;          /* NULL: at most one sender was heard; goes with `core` */
} dgram;

enum { UV_ORIGIN = 1, UV_ADDRESS, UV_PEER, UV_TO, UV_FROM, UV_NAMES, UVS = UV_NAMES };

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

/* For np_waitkind. */
int np_dgram_describe(void *obj, char *buf, size_t size);

/* Lets a task in recv_error look: what it waits for may have come without an event. */
void np_dgram_poke_watcher(dgram *d);

/* The socket address of the literal text at idx, as this socket sends to it: 0, or a code, with
 * *why; *name: it is no literal. */
int np_dgram_parse_to(lua_State *L, dgram *d, int idx, np_sockaddr *to, const char **why,
                      bool *name);

/* An IP address at idx: bare ("10.0.0.1", "ff02::1", "[fe80::1%eth0]") or as any address is
 * written; a port does not matter. 0; -EINVAL: it is none; -ENODEV: its scope is no interface. */
int np_dgram_parse_host(lua_State *L, int idx, np_sockaddr *out);

/* An interface, given by name or number at idx; raises an argument error `arg` for other types.  0,
 * or -ENODEV. */
int np_dgram_interface(lua_State *L, int idx, int arg, unsigned *out);

/* Pushes what comes with a message, as a table without descriptors. */
void np_dgram_push_info(lua_State *L, dgram *d, const np_message *m);

/* Pushes the sender's address; the socket is at index 1. */
void np_dgram_push_from(lua_State *L, dgram *d, const np_sockaddr *from);

/* The senders heard lately (dgram_names.c); the socket is at index 1.  push: pushes the text of an
 * address, if it is known.  find: the address whose text is at idx, if it is known.  put: the text
 * at the top of the stack is that address. */
bool np_names_push(lua_State *L, dgram *d, const np_sockaddr *a);
bool np_names_find(lua_State *L, dgram *d, int idx, np_sockaddr *out);
void np_names_put(lua_State *L, dgram *d, const np_sockaddr *a);

/* Closes m's descriptors past the first `keep`; says so once. */
void np_dgram_close_unwanted(lua_State *L, dgram *d, np_message *m, int keep);

/* Reads from, interface, ttl, tos of the options table at idx (nil: none) into *with.  1: there is
 * something; 0: nothing; or a code, with *why. Raises for wrong types. */
int np_dgram_read_with(lua_State *L, dgram *d, int idx, np_sendwith *with, const char **why);

/* How recv ended badly; `full` bytes came and only `len` were asked for. iterate: raise. */
int np_dgram_recv_failed(lua_State *L, dgram *d, int code, bool iterate);
int np_dgram_cut_failed(lua_State *L, dgram *d, size_t full, size_t len, bool iterate);

/* Lua functions. */
int np_dgram_f_open(lua_State *L);
int np_dgram_f_pair(lua_State *L);
int np_dgram_f_recv(lua_State *L);
int np_dgram_f_records(lua_State *L);
int np_dgram_f_send(lua_State *L);
int np_dgram_f_resolver(lua_State *L);
int np_dgram_f_recv_batch(lua_State *L);
int np_dgram_f_send_batch(lua_State *L);
int np_dgram_f_recv_error(lua_State *L);
int np_dgram_f_join(lua_State *L);
int np_dgram_f_leave(lua_State *L);

#endif
