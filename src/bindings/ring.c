/* The ring of ring.h.  Its table is made with all its slots: storing into them never allocates. */
#include "bindings/ring.h"

enum { RING_MIN = 16, RING_KEPT = 1024 }; /* slots: of the first table; kept while empty */

/* Doubles the table, oldest value first. */
static void grow(lua_State *L, int at, np_ring *r, uint32_t max) {
  uint32_t size = r->size ? r->size * 2 : RING_MIN;
  if (size > max) size = max;
  lua_createtable(L, (int)size, 0);
  lua_getiuservalue(L, at, 1);
  for (uint32_t i = 0; i < r->count; i++) {
    lua_rawgeti(L, -1, (r->head + i) % r->size + 1);
    lua_rawseti(L, -3, i + 1);
  }
  lua_pop(L, 1);
  lua_setiuservalue(L, at, 1);
  r->size = size;
  r->head = 0;
}

static void drop(lua_State *L, int at, np_ring *r) {
  lua_pushnil(L);
  lua_setiuservalue(L, at, 1);
  r->size = r->head = 0;
}

void np_ring_push(lua_State *L, int at, np_ring *r, uint32_t max) {
  if (r->count == r->size) grow(L, at, r, max);
  lua_getiuservalue(L, at, 1);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (r->head + r->count) % r->size + 1);
  lua_pop(L, 1);
  r->count++;
}

void np_ring_pop(lua_State *L, int at, np_ring *r) {
  lua_getiuservalue(L, at, 1);
  lua_rawgeti(L, -1, r->head + 1);
  lua_pushnil(L);
  lua_rawseti(L, -3, r->head + 1);
  lua_remove(L, -2);
  r->head = (r->head + 1) % r->size;
  if (--r->count == 0 && r->size > RING_KEPT) drop(L, at, r);
}
