/* The youngest deadlines and descriptors of a state.
 *
 * An object that is collected open has to leave a list or close a number, so it needs a finalizer;
 * but what had one lives for another cycle, and most are closed long before: a third of the time
 * that it took to open and close a deadline went into the memory they filled.  So the youngest are
 * held here and have none.  They get theirs when a cycle ends, or when YOUNG more were made. */
#include "bindings/young.h"

#include <string.h>

#include "bindings/pace.h"

enum { YOUNG = 16 };

/* User value i + 1 is place[i], or was. */
typedef struct nursery {
  struct {
    np_young *open; /* NULL: closed */
    const np_type *old;
  } place[YOUNG];
  unsigned next;
} nursery;

static const char key_nursery = 'y';
static lua_Integer key(void) { return (lua_Integer)(intptr_t)&key_nursery; }

/* The nursery is at index `at` in what follows. */

static void let_go(lua_State *L, int at, nursery *n, int i) {
  np_young *y = n->place[i].open;
  if (y) {
    lua_getiuservalue(L, at, i + 1);
    np_push_metatable(L, n->place[i].old);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    np_young_close(y);
  }
  lua_pushnil(L);
  lua_setiuservalue(L, at, i + 1);
}

static void let_all_go(lua_State *L, int at) {
  nursery *n = lua_touserdata(L, at);
  for (int i = 0; i < YOUNG; i++) let_go(L, at, n, i);
}

static int on_cycle(lua_State *L) {
  let_all_go(L, lua_upvalueindex(1));
  np_next_cycle(L);
  return 0;
}

void np_young_hold(lua_State *L, int at, np_young *y, const np_type *old) {
  nursery *n = lua_touserdata(L, at);
  int i = (int)(n->next++ % YOUNG);
  if (np_unlikely(n->place[i].open != NULL)) let_go(L, at, n, i);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, at, i + 1);
  n->place[i].open = y;
  n->place[i].old = old;
  y->held = &n->place[i].open;
}

static void make(lua_State *L) {
  memset(lua_newuserdatauv(L, sizeof(nursery), YOUNG), 0, sizeof(nursery));
  lua_pushvalue(L, -1);
  np_each_cycle(L, on_cycle);
  lua_pushvalue(L, -1);
  lua_rawseti(L, LUA_REGISTRYINDEX, key());
}

void np_young_push_nursery(lua_State *L) {
  if (np_likely(lua_rawgeti(L, LUA_REGISTRYINDEX, key()) == LUA_TUSERDATA)) return;
  lua_pop(L, 1);
  make(L);
}

void np_young_end(lua_State *L) {
  if (lua_rawgeti(L, LUA_REGISTRYINDEX, key()) == LUA_TUSERDATA) let_all_go(L, lua_gettop(L));
  lua_pop(L, 1);
}
