/* How often the collector runs, in a state of our own.
 *
 * Lua waits until the heap has doubled.  For a small heap that is soon: a server that receives
 * 64 KiB strings marked its half a megabyte of live data once for every ten of them, 20 % of its
 * time.  And where most of what is made has a finalizer, as connections have, it is later each
 * time: the heap at the end of a cycle has in it what that cycle finalized, which only the next one
 * frees (100 000 connections one after another: 78 MB, and growing; now 13).  So the next cycle
 * begins when as much as is alive was made, and GROWTH_KB at least.
 *
 * What is alive is what a cycle leaves that follows another at once; there is one when the heap has
 * outgrown what was alive and made since.  A userdata that nobody refers to is finalized once per
 * cycle and says so; Lua's collector cannot be asked inside a finalizer, so the rest is done in the
 * loop's next turn; a script that does not wait meanwhile has Lua's own pace (so a turn that makes
 * more than is alive can see two cycles).  One that sets a pause or mode of its own keeps it.
 *
 * Lua's own steps do a whole cycle of a few MiB in one go: with 64 busy HTTP clients a stop of
 * 1.9 ms for each 8500 requests.  Ours do a tenth of the work for each byte that is made, and a
 * hundredth while little is alive, when most of the work is to free what the last 4 MiB left: a
 * cycle is over when about a sixth of what is alive was made meanwhile, or 1.3 MiB.  (A hundredth
 * for more than that takes 20 % off spawned tasks, for which the caches are too small then; and in
 * a large heap Lua's table of strings is doubled once more meanwhile, a stop of 30 ms.) */
#include "bindings/pace.h"

enum {
  GROWTH_KB = 4096,
  PAUSE = 200,   /* Lua's own, in percent of the heap */
  TINY_KB = 256, /* with less, Lua would begin the next cycle within the turn */
  SMALL_KB = 768,
  SMALL_MULTIPLIER = 1, /* units of work for 16 bytes made; Lua's own: 100 */
  MULTIPLIER = 8,
  STEP_LOG2 = 12, /* bytes made between two steps; Lua's own: 13 */
};

void np_each_cycle(lua_State *L, lua_CFunction f) {
  lua_newuserdatauv(L, 0, 0);
  lua_createtable(L, 0, 1);
  lua_rotate(L, -3, -1);
  lua_pushcclosure(L, f, 1);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

void np_next_cycle(lua_State *L) {
  lua_getmetatable(L, 1);
  lua_setmetatable(L, 1);
}

static int on_cycle(lua_State *L) {
  np_pace *p = lua_touserdata(L, lua_upvalueindex(1));
  p->cycle_ended = true;
  if (!p->theirs) np_next_cycle(L);
  return 0;
}

void np_pace_begin(lua_State *L, np_pace *p) {
  lua_gc(L, LUA_GCINC, PAUSE, MULTIPLIER, STEP_LOG2);
  lua_pushlightuserdata(L, p);
  np_each_cycle(L, on_cycle);
}

/* The script has chosen a mode or a pause of its own. Asking for the mode means to leave it. */
static bool chosen(lua_State *L) {
  int mode = lua_gc(L, LUA_GCINC, 0, 0, 0);
  if (mode == LUA_GCGEN) lua_gc(L, LUA_GCGEN, 0, 0);
  int pause = lua_gc(L, LUA_GCSETPAUSE, PAUSE);
  lua_gc(L, LUA_GCSETPAUSE, pause);
  return mode == LUA_GCGEN || pause != PAUSE;
}

void np_pace_set(lua_State *L, np_pace *p) {
  p->cycle_ended = false;
  p->theirs = p->theirs || chosen(L);
  if (p->theirs) return;
  int kb = lua_gc(L, LUA_GCCOUNT);
  if (!lua_gc(L, LUA_GCISRUNNING)) return;
  if (p->again || kb < p->live_kb) p->live_kb = kb;
  bool little = kb >= TINY_KB && kb < SMALL_KB;
  lua_gc(L, LUA_GCSETSTEPMUL, little ? SMALL_MULTIPLIER : MULTIPLIER);
  int growth = p->live_kb > GROWTH_KB ? p->live_kb : GROWTH_KB;
  p->again = !p->again && kb - p->live_kb > growth + GROWTH_KB;
  lua_gc(L, LUA_GCRESTART);                      /* the next step is due now */
  if (!p->again) lua_gc(L, LUA_GCSTEP, -growth); /* or so many KB later */
}
