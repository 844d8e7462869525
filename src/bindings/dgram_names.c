/* The addresses a socket has heard from lately: bytes to text and back, so that a server with many
 * clients neither prints the sender of each datagram nor parses where its answer goes.
 *
 * The bytes choose a set of four slots; a newcomer takes a free one or, in turn, another's.  The
 * texts are in a table, user value UV_NAMES of the socket: [slot] = text, [text] = slot, where the
 * second is there only if the first is.  Only what recv gave is in it: a text that a script wrote
 * may be another spelling. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/dgram_impl.h"

enum { SLOTS = 1024, WAYS = 4 }; /* 32 KiB, from a second sender on */

struct np_names {
  struct np_name {
    uint8_t len; /* 0: nobody */
    unsigned char bytes[sizeof(struct sockaddr_in6)];
  } at[SLOTS];
  unsigned turn; /* whose place is taken next in a full set */
};

static bool fits(const np_sockaddr *a) {
  return a->len > 0 && a->len <= sizeof(struct sockaddr_in6) && a->ss.ss_family != AF_UNIX;
}

/* Multiplication spreads each bit upwards; the constants are odd and otherwise arbitrary. */
static unsigned set_of(const np_sockaddr *a) {
  uint64_t w[3] = {0, 0, 0};
  memcpy(w, &a->ss, np_min(a->len, sizeof w));
  uint64_t h = w[0] * 0x9e3779b97f4a7c15u ^ w[1] * 0xc2b2ae3d27d4eb4fu ^ w[2] * 0x165667b19e3779f9u;
  return (unsigned)(h >> 48) % (SLOTS / WAYS) * WAYS;
}

/* The slot of an address; -1: it has none. */
static int find_slot(const np_names *names, const np_sockaddr *a) {
  unsigned set = set_of(a);
  for (unsigned i = set; i < set + WAYS; i++) {
    const struct np_name *n = &names->at[i];
    if (n->len == a->len && memcmp(n->bytes, &a->ss, n->len) == 0) return (int)i;
  }
  return -1;
}

static unsigned free_slot(np_names *names, const np_sockaddr *a) {
  unsigned set = set_of(a);
  for (unsigned i = set; i < set + WAYS; i++)
    if (names->at[i].len == 0) return i;
  return set + names->turn++ % WAYS;
}

bool np_names_push(lua_State *L, dgram *d, const np_sockaddr *a) {
  if (!d->names || !fits(a)) return false;
  int slot = find_slot(d->names, a);
  if (slot < 0) return false;
  lua_getiuservalue(L, 1, UV_NAMES);
  lua_rawgeti(L, -1, (lua_Integer)slot + 1);
  lua_replace(L, -2);
  return true;
}

bool np_names_find(lua_State *L, dgram *d, int idx, np_sockaddr *out) {
  idx = lua_absindex(L, idx);
  if (!d->names) { /* there is one sender at most */
    lua_getiuservalue(L, 1, UV_FROM);
    bool same = d->from.len > 0 && lua_rawequal(L, -1, idx);
    lua_pop(L, 1);
    if (same) *out = d->from;
    return same;
  }
  lua_getiuservalue(L, 1, UV_NAMES);
  lua_pushvalue(L, idx);
  lua_rawget(L, -2);
  lua_Integer slot = lua_tointeger(L, -1);
  lua_pop(L, 2);
  const struct np_name *n = slot > 0 ? &d->names->at[slot - 1] : NULL;
  if (!n || n->len == 0) return false;
  memcpy(&out->ss, n->bytes, n->len);
  out->len = n->len;
  return true;
}

/* Without memory it remembers nothing. */
static bool make(lua_State *L, dgram *d) {
  if (d->names) return true;
  lua_createtable(L, 0, 0);
  lua_setiuservalue(L, 1, UV_NAMES);
  if (d->core) d->names = calloc(1, sizeof *d->names); /* a finalizer may have closed it */
  return d->names != NULL;
}

void np_names_put(lua_State *L, dgram *d, const np_sockaddr *a) {
  if (!d->core || !fits(a) || !make(L, d)) return;
  unsigned slot = free_slot(d->names, a);
  struct np_name *n = &d->names->at[slot];
  int text = lua_gettop(L);
  n->len = 0;
  lua_getiuservalue(L, 1, UV_NAMES);
  lua_rawgeti(L, -1, (lua_Integer)slot + 1);
  if (lua_type(L, -1) == LUA_TSTRING) {
    lua_pushnil(L);
    lua_rawset(L, -3);
  } else {
    lua_pop(L, 1);
  }
  lua_pushvalue(L, text);
  lua_rawseti(L, -2, (lua_Integer)slot + 1);
  lua_pushvalue(L, text);
  lua_pushinteger(L, (lua_Integer)slot + 1);
  lua_rawset(L, -3);
  lua_settop(L, text);
  memcpy(n->bytes, &a->ss, a->len);
  n->len = (uint8_t)a->len;
}
