/* The relay: coroutine.* that let the scheduler's waits pass through user coroutines.
 *
 * A wait yields every coroutine of the task's chain out to the scheduler, and is resumed inwards
 * again; a user's own yield goes one level, as always. A coroutine on a chain, even a waiting one,
 * has status "normal": nobody else can resume or close it, so no wake-up is stolen. Texts and
 * results are stock Lua's (lcorolib.c). */
#include <stdlib.h>

#include <lualib.h>

#include "bindings/task_impl.h"

static lua_State *get_co(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "thread");
  return co;
}

static bool on_chain(lua_State *co) { return *(np_task **)lua_getextraspace(co) != NULL; }

/* Puts co on the chain of L's task. Outside tasks there is no chain, and everything is as in stock
 * Lua. */
static np_task *enter(lua_State *L, lua_State *co) {
  np_task *t = np_task_of(L);
  if (!t) return NULL;
  if (t->depth == t->chain_cap) {
    int cap = t->chain_cap ? t->chain_cap * 2 : 4;
    lua_State **chain = realloc(t->chain, (size_t)cap * sizeof *chain);
    if (!chain) luaL_error(L, "not enough memory");
    t->chain = chain;
    t->chain_cap = (uint16_t)cap;
  }
  if (lua_status(co) == LUA_YIELD) np_scopes_unpark(L, t, co);
  t->chain[t->depth++] = co;
  if (!lua_isyieldable(L)) t->stuck++;
  *(np_task **)lua_getextraspace(co) = t;
  t->rt->hot = co;
  if (np_unlikely(t->rt->watch.L != NULL)) np_watchdog_follow(t->rt, co);
  return t;
}

static void leave(lua_State *L, np_task *t, lua_State *co) {
  if (!t || !on_chain(co)) return; /* it left with others already: */
  /* Those inside one that cannot be entered again leave with it: C stack overflow, when a host
   * steps the runtime from deeper in its own calls than when they were entered. */
  while (t->depth > 0 && t->chain[t->depth - 1] != co)
    *(np_task **)lua_getextraspace(t->chain[--t->depth]) = NULL;
  np_assert(t->depth > 0);
  t->rt->hot = L;
  if (np_unlikely(t->rt->watch.L == co)) {
    np_watchdog_unhook(t->rt, co);
    if (t->rt->interrupt) np_watchdog_follow(t->rt, L);
  }
  t->depth--;
  if (!lua_isyieldable(L)) t->stuck--;
  /* marked until it is parked: a finalizer that runs meanwhile must not resume it */
  np_scopes_park(L, t, co, lua_status(co) != LUA_YIELD);
  *(np_task **)lua_getextraspace(co) = NULL;
}

/* What lua_resume said: RELAY (the scheduler wants the whole chain suspended), or as stock's
 * auxresume: the number of results moved to L, or -1 with the error on L. */
enum { RELAY = -2 };
static int settle(lua_State *L, lua_State *co, int status, int nres) {
  np_task *t = np_task_of(L);
  if (status == LUA_YIELD && t && t->suspending) return RELAY;
  leave(L, t, co);
  if (np_likely(status == LUA_OK || status == LUA_YIELD)) {
    if (np_unlikely(!lua_checkstack(L, nres + 1))) {
      lua_pop(co, nres);
      lua_pushliteral(L, "too many results to resume");
      return -1;
    }
    lua_xmove(co, L, nres);
    return nres;
  }
  lua_xmove(co, L, 1);
  return -1;
}

static int start(lua_State *L, lua_State *co, int narg) {
  if (np_unlikely(on_chain(co) && lua_status(co) == LUA_YIELD)) {
    lua_pushliteral(L, "cannot resume non-suspended coroutine");
    return -1;
  }
  if (np_unlikely(!lua_checkstack(co, narg))) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  /* running or normal: lua_resume has the right words */
  if (np_unlikely(on_chain(co) || L == co)) {
    int nres;
    lua_xmove(L, co, narg);
    int status = lua_resume(co, L, narg, &nres);
    (void)status;
    lua_xmove(co, L, 1);
    return -1;
  }
  np_task *t = np_task_of(L);
  if (np_unlikely(t && lua_status(co) == LUA_YIELD && np_scopes_foreign(L, t, co))) {
    lua_pushliteral(L, "cannot resume a coroutine in a group that this task belongs to");
    return -1;
  }
  enter(L, co);
  lua_xmove(L, co, narg);
  int nres, status = lua_resume(co, L, narg, &nres);
  return settle(L, co, status, nres);
}

static int go_on(lua_State *L, lua_State *co) {
  if (np_unlikely(!on_chain(co))) { /* see leave */
    lua_pushliteral(L, "a wait inside was lost to a C stack overflow");
    return -1;
  }
  np_runtime *rt = np_task_of(L)->rt;
  rt->hot = co;
  if (np_unlikely(rt->watch.L != NULL)) np_watchdog_follow(rt, co);
  int nres, status = lua_resume(co, L, 0, &nres);
  return settle(L, co, status, nres);
}

/* resume: the coroutine is at stack index 1. */
static int k_resume(lua_State *L, int status, lua_KContext ctx);
static int end_resume(lua_State *L, int r) {
  if (r == RELAY) return lua_yieldk(L, 0, 0, k_resume);
  lua_pushboolean(L, r >= 0);
  lua_insert(L, r >= 0 ? -(r + 1) : -2);
  return r >= 0 ? r + 1 : 2;
}
static int k_resume(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  return end_resume(L, go_on(L, lua_tothread(L, 1)));
}
static int f_resume(lua_State *L) {
  lua_State *co = get_co(L);
  return end_resume(L, start(L, co, lua_gettop(L) - 1));
}

/* wrap: the coroutine is upvalue 1; errors propagate with where they passed, and their traceback is
 * kept. */
static int k_wrap(lua_State *L, int status, lua_KContext ctx);

/* As stock: closes what it left open, by which the error may change. */
static void close_failed(lua_State *L, lua_State *co) {
  np_runtime *rt = np_runtime_find(L);
  if (rt) rt->closing++;
  lua_resetthread(co);
  if (rt) rt->closing--;
  lua_xmove(co, L, 1);
}

static int wrap_error(lua_State *L, lua_State *co) {
  int stat = lua_status(co), err = lua_gettop(L);
  bool died = stat != LUA_OK && stat != LUA_YIELD;
  bool stitch = died && stat != LUA_ERRMEM && !np_is_cancelled(L, err) && np_task_of(L);
  if (stitch) np_stitch_coroutine(L, co, err);
  else lua_pushnil(L);
  if (died) {
    close_failed(L, co);
    lua_replace(L, err);
  }
  if (stat != LUA_ERRMEM && lua_type(L, err) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_pushvalue(L, err);
    lua_concat(L, 2);
    lua_replace(L, err);
  }
  if (stitch) np_stitch_set(L, err, false);
  lua_settop(L, err);
  return lua_error(L);
}

static int end_wrap(lua_State *L, lua_State *co, int r) {
  if (r == RELAY) return lua_yieldk(L, 0, 0, k_wrap);
  return np_likely(r >= 0) ? r : wrap_error(L, co);
}
static int k_wrap(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  return end_wrap(L, co, go_on(L, co));
}
int np_wrap_call(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  return end_wrap(L, co, start(L, co, lua_gettop(L)));
}

static int f_create(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  *(np_task **)lua_getextraspace(co) = NULL;
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  return 1;
}

static int f_wrap(lua_State *L) {
  f_create(L);
  lua_pushcclosure(L, np_wrap_call, 1);
  return 1;
}

static bool is_body(lua_State *L) {
  np_task *t = np_task_of(L);
  return t && t->T == L;
}

static int f_yield(lua_State *L) {
  if (is_body(L)) { /* without a position, as stock */
    lua_pushliteral(L, "attempt to yield from outside a coroutine");
    return lua_error(L);
  }
  return lua_yield(L, lua_gettop(L));
}

typedef enum costate { CO_RUN, CO_DEAD, CO_SUSPENDED, CO_NORMAL } costate;
static const char *const state_names[] = {"running", "dead", "suspended", "normal"};

static costate state_of(lua_State *L, lua_State *co) {
  if (L == co) return CO_RUN;
  if (on_chain(co)) return CO_NORMAL;
  switch (lua_status(co)) {
  case LUA_YIELD: return CO_SUSPENDED;
  case LUA_OK: {
    lua_Debug ar;
    if (lua_getstack(co, 0, &ar)) return CO_NORMAL;
    return lua_gettop(co) == 0 ? CO_DEAD : CO_SUSPENDED;
  }
  default: return CO_DEAD;
  }
}

static int f_status(lua_State *L) {
  lua_pushstring(L, state_names[state_of(L, get_co(L))]);
  return 1;
}

static int f_isyieldable(lua_State *L) {
  lua_State *co = lua_isnone(L, 1) ? L : get_co(L);
  lua_pushboolean(L, !is_body(co) && lua_isyieldable(co));
  return 1;
}

static int f_running(lua_State *L) {
  int is_main = lua_pushthread(L);
  lua_pushboolean(L, is_main || is_body(L));
  return 2;
}

static int f_close(lua_State *L) {
  lua_State *co = get_co(L);
  costate state = state_of(L, co);
  if (state != CO_DEAD && state != CO_SUSPENDED)
    return luaL_error(L, "cannot close a %s coroutine", state_names[state]);
  np_runtime *rt = np_runtime_find(L);
  if (rt) rt->closing++;
  int status = lua_resetthread(co);
  if (rt) rt->closing--;
  np_scopes_closed(L, co);
  lua_pushboolean(L, status == LUA_OK);
  if (status == LUA_OK) return 1;
  lua_xmove(co, L, 1);
  return 2;
}

static const luaL_Reg co_funcs[] = {
  {"create", f_create},           {"resume", f_resume}, {"running", f_running},
  {"status", f_status},           {"wrap", f_wrap},     {"yield", f_yield},
  {"isyieldable", f_isyieldable}, {"close", f_close},   {NULL, NULL},
};

/* Puts the relay's functions into the coroutine table; the stock ones are kept in the registry for
 * the way back. */
static const char key_stock = 'k';

void np_coroutine_install(lua_State *L) {
  lua_getglobal(L, LUA_COLIBNAME);
  lua_newtable(L);
  for (const luaL_Reg *r = co_funcs; r->name; r++) {
    lua_getfield(L, -2, r->name);
    lua_setfield(L, -2, r->name);
    lua_pushcfunction(L, r->func);
    lua_setfield(L, -3, r->name);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_stock);
  lua_pop(L, 1);
}

void np_coroutine_restore(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_stock) != LUA_TTABLE) {
    lua_pop(L, 1);
    return;
  }
  lua_getglobal(L, LUA_COLIBNAME);
  for (const luaL_Reg *r = co_funcs; r->name; r++) {
    lua_getfield(L, -2, r->name);
    lua_setfield(L, -2, r->name);
  }
  lua_pop(L, 2);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_stock);
}
