/* Sockets below UDP, for datagram(). */
#ifndef NP_DGRAM_RAW_H
#define NP_DGRAM_RAW_H

#include "bindings/lua_util.h"
#include "core/packet.h"
#include "core/socket.h"

/* The `filter` of the options table at arg: its length, and *prog, which lies in a userdata at the
 * top of the stack (nothing is pushed for 0: there is none). Raises for what is no program. */
int np_dgram_read_filter(lua_State *L, int arg, np_bpf **prog);

/* A ping socket bound to a literal address, "" for any of IPv4: fd, or -errno. */
int np_dgram_open_icmp(const np_addr *at, np_bindopts *o, const char **bad);

/* What to say instead of the code's text when a socket of this kind is not allowed; NULL: nothing.
 * */
const char *np_dgram_advice(np_scheme scheme, int code);

#endif
