/* The Lua threads that tasks run on.
 *
 * They are used again: 44 ns against 594 ns for a new one.  All are anchored in a table of the
 * registry; which of them are idle is known by pointer. */
#include <stdlib.h>

#include "bindings/task_impl.h"

#ifdef NP_HARD
enum { POOL_MAX = 2 };
#else
enum { POOL_MAX = 1024 }; /* idle threads that are kept: 1.5 MiB */
#endif

/* registry[&key_threads][place] is the thread of that place; false: it is empty. */
static const char key_threads = 't';

void np_threads_init(lua_State *L) {
  lua_createtable(L, 64, 0);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_threads);
}

void np_scheduler_forget(lua_State *L) {
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_threads);
}

/* Room to put every place back without having to allocate then. */
static void grow_pool(lua_State *L, np_runtime *rt) {
  if (rt->nplaces < rt->pool_cap) return;
  int cap = rt->pool_cap ? rt->pool_cap * 2 : 64;
  np_thread *pool = realloc(rt->pool, (size_t)cap * sizeof *pool);
  if (!pool) luaL_error(L, "not enough memory");
  rt->pool = pool;
  rt->pool_cap = cap;
}

/* The place is taken before anything is allocated: a finalizer may run then, and spawn. */
static np_thread new_thread(lua_State *L, np_runtime *rt) {
  if (rt->npool == 0) grow_pool(L, rt);
  np_thread th = rt->npool > 0 ? rt->pool[--rt->npool] : (np_thread){.place = ++rt->nplaces};
  rt->nempty = rt->npool;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_threads);
  th.T = lua_newthread(L);
  lua_rawseti(L, -2, th.place);
  lua_pop(L, 1);
  return th;
}

/* The idle thread's last task is not used again. */
static void forget_task(np_runtime *rt, np_thread *th) {
  if (np_likely(!th->task)) return;
  np_timer_remove(rt->loop, &th->task->timer);
  th->task = NULL;
  lua_settop(th->T, 0);
}

np_thread np_thread_get(lua_State *L, np_runtime *rt) {
  if (np_unlikely(rt->npool == rt->nempty)) return new_thread(L, rt);
  np_thread th = rt->pool[--rt->npool];
  forget_task(rt, &th);
  return th;
}

static void drop_thread(lua_State *L, int place) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_threads);
  lua_pushboolean(L, 0);
  lua_rawseti(L, -2, place);
  lua_pop(L, 1);
}

void np_thread_recycle(np_runtime *rt, np_thread th) {
  if (np_unlikely(lua_gethook(th.T) != NULL)) lua_sethook(th.T, NULL, 0, 0);
  rt->pool[rt->npool++] = th;
  if (np_likely(rt->npool - rt->nempty <= POOL_MAX)) return;
  forget_task(rt, &th);
  drop_thread(rt->L, th.place);
  rt->pool[rt->npool - 1] = rt->pool[rt->nempty];
  rt->pool[rt->nempty++] = (np_thread){.place = th.place};
}

void np_scheduler_forget_tasks(np_runtime *rt) {
  for (int i = rt->nempty; i < rt->npool; i++) forget_task(rt, &rt->pool[i]);
}
