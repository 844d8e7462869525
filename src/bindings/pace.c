/* How often the collector runs, in a state of our own.
 *
 * Lua waits until the heap has doubled, which for a small heap is soon: a server that receives
 * 64 KiB strings marked its half a megabyte of live data once for every ten of them, 20 % of its
 * time.  So a heap may grow by GROWTH_KB at least before it is collected again.
 *
 * A userdata that nobody refers to is finalized once per cycle and says so; Lua's collector cannot
 * be asked inside a finalizer, so the pause is set in the loop's next turn.  A script that sets
 * another pause keeps it.  This does nothing about a heap that is large. */
#include "bindings/pace.h"

enum {
  GROWTH_KB = 4096,
  PAUSE = 200,      /* Lua's own, in percent of the live heap */
  PAUSE_MAX = 1000, /* Lua keeps it in a byte, in fours */
};

/* It lives on as its own garbage. Upvalue: the np_pace. */
static int on_cycle(lua_State *L) {
  np_pace *p = lua_touserdata(L, lua_upvalueindex(1));
  p->cycle_ended = true;
  if (p->pause == 0) return 0;
  lua_getmetatable(L, 1);
  lua_setmetatable(L, 1);
  return 0;
}

void np_pace_begin(lua_State *L, np_pace *p) {
  p->pause = PAUSE;
  lua_newuserdatauv(L, 0, 0);
  lua_createtable(L, 0, 1);
  lua_pushlightuserdata(L, p);
  lua_pushcclosure(L, on_cycle, 1);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

static int pause_for(int kb) {
  int pause = 100 + 100 * GROWTH_KB / (kb > 0 ? kb : 1);
  return (pause < PAUSE ? PAUSE : pause > PAUSE_MAX ? PAUSE_MAX : pause) / 4 * 4;
}

void np_pace_set(lua_State *L, np_pace *p) {
  int kb = lua_gc(L, LUA_GCCOUNT), want = pause_for(kb);
  p->cycle_ended = false;
  if (p->pause == 0) return;
  int was = lua_gc(L, LUA_GCSETPAUSE, want);
  if (was != p->pause) {
    lua_gc(L, LUA_GCSETPAUSE, was);
    p->pause = 0;
    return;
  }
  p->pause = want;
  /* The heap has grown since the pause of the cycle that ended was set: not to wait for many times
   * a large one, it is collected again. */
  if ((long long)(was - 100) * kb / 100 > 4 * GROWTH_KB && was > PAUSE &&
      lua_gc(L, LUA_GCISRUNNING))
    lua_gc(L, LUA_GCRESTART);
}
