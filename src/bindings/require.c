/* require, made so that a module may wait while it loads.
 *
 * In C, though nothing in it needs C: so the traceback of an error is stock Lua's to the byte,
 * which it could not be with a function of Lua in between. A task that wants what another one is
 * loading waits for it; a circle is named. The search, its texts and its results are those of Lua's
 * loadlib.c. */
#include <stdio.h>
#include <string.h>

#include <lualib.h>

#include "bindings/select.h"
#include "bindings/task_impl.h"

static const char key_require = 'q';

/* A module that is being loaded: on the stack of who loads it, to be closed with that. */
typedef struct loading {
  const np_type *type;
  np_runtime *rt;
  np_node node;           /* in rt->loading */
  np_node waiters;        /* np_waiter.node of other tasks that want it */
  uint32_t task;          /* id of who loads it, which may have ended; 0: nobody that can wait */
  struct loading *awaits; /* what has to be loaded first, by the same task or by another */
  const char *name;       /* user value 1; NULL: over */
} loading;

static loading *from_node(np_node *n) { return np_container(n, loading, node); }

static loading *find(np_runtime *rt, const char *name) {
  for (np_node *n = rt->loading.next; n != &rt->loading; n = n->next)
    if (strcmp(from_node(n)->name, name) == 0) return from_node(n);
  return NULL;
}

/* The module a task works on: of those it loads, the one that awaits no other. */
static loading *innermost(np_runtime *rt, const np_task *t) {
  uint32_t id = t ? t->id : 0;
  for (np_node *n = rt->loading.next; n != &rt->loading; n = n->next)
    if (from_node(n)->task == id && !from_node(n)->awaits) return from_node(n);
  return NULL;
}

static void forget_awaited(np_runtime *rt, loading *m, const np_task *t) {
  for (np_node *n = rt->loading.next; n != &rt->loading; n = n->next)
    if (from_node(n)->awaits == m && (!t || from_node(n)->task == t->id))
      from_node(n)->awaits = NULL;
}

/* The loading is over, well or not: those who wait look again. */
static int l_close(lua_State *L) {
  loading *m = lua_touserdata(L, 1);
  if (!m->name) return 0;
  m->name = NULL;
  np_node_remove(&m->node);
  forget_awaited(m->rt, m, NULL);
  while (np_node_linked(&m->waiters)) np_waiter_poke(np_waiter_first(&m->waiters));
  return 0;
}
static const np_type loading_type = {
  .name = "neap.loading",
  .meta = (const luaL_Reg[]){{"__close", l_close}, {"__gc", l_close}, {NULL, NULL}},
};

static void wait_abort(np_task *t, void *obj) {
  np_node_remove(&np_task_waiter(t)->node);
  forget_awaited(t->rt, obj, t);
}
static int describe(void *obj, char *buf, size_t size) {
  loading *m = obj;
  return snprintf(buf, size, "'%s' (which task %u loads)", m->name, m->task);
}
static const np_waitkind require_wait = {"require", false, wait_abort, describe, false};

/* If m waits, over however many others, for the module this task works on: raises, naming all on
 * the way. */
static void check_circle(lua_State *L, loading *m, loading *mine) {
  loading *w = m;
  while (w && w != mine) w = w->awaits;
  if (!w) return;
  lua_pushfstring(L, "module '%s' is required in a circle: %s", m->name, m->name);
  for (w = m; w != mine; w = w->awaits) {
    lua_pushfstring(L, " -> %s", w->awaits->name);
    lua_concat(L, 2);
  }
  luaL_error(L, "%s -> %s", lua_tostring(L, -1), m->name);
}

/* The stack: name, package.loaded; then the loading, the searchers, what they said. */
enum { AT_NAME = 1, AT_LOADED, AT_LOADING, AT_SEARCHERS, AT_SAID };

static int k_run(lua_State *L, int status, lua_KContext ctx) {
  const char *name = lua_tostring(L, AT_NAME);
  (void)status, (void)ctx;
  if (lua_isnil(L, -1)) lua_pop(L, 1);
  else lua_setfield(L, AT_LOADED, name);
  if (lua_getfield(L, AT_LOADED, name) == LUA_TNIL) {
    lua_pushboolean(L, 1);
    lua_copy(L, -1, -2);
    lua_setfield(L, AT_LOADED, name);
  }
  lua_rotate(L, -2, 1);
  return 2;
}

static int run_loader(lua_State *L) {
  lua_rotate(L, -2, 1); /* function <-> loader data */
  lua_pushvalue(L, AT_NAME);
  lua_pushvalue(L, -3);
  lua_callk(L, 2, 1, 0, k_run);
  return k_run(L, LUA_OK, 0);
}

/* A searcher has answered. True: with a loader; else its text is added to what was said. */
static bool found(lua_State *L) {
  if (lua_isfunction(L, -2)) return true;
  lua_pop(L, 1);
  if (!lua_isstring(L, -1)) {
    lua_pop(L, 1);
    return false;
  }
  lua_pushliteral(L, "\n\t");
  lua_pushvalue(L, AT_SAID);
  lua_insert(L, -3);
  lua_insert(L, -2);
  lua_concat(L, 3);
  lua_replace(L, AT_SAID);
  return false;
}

/* ctx: how many searchers were asked. */
static int k_search(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  for (lua_KContext i = ctx;; i++) {
    if (i > 0 && found(L)) return run_loader(L);
    if (lua_rawgeti(L, AT_SEARCHERS, i + 1) == LUA_TNIL)
      return luaL_error(L, "module '%s' not found:%s", lua_tostring(L, AT_NAME),
                        lua_tostring(L, AT_SAID));
    lua_pushvalue(L, AT_NAME);
    lua_callk(L, 1, 2, i + 1, k_search);
  }
}

static void begin_loading(lua_State *L, np_runtime *rt, loading *mine) {
  loading *m = np_new_object(L, &loading_type, sizeof *m, 1);
  np_node_init(&m->node);
  np_node_init(&m->waiters);
  lua_pushvalue(L, AT_NAME);
  lua_setiuservalue(L, -2, 1);
  lua_toclose(L, AT_LOADING);
  m->rt = rt;
  np_task *t = np_task_of(L);
  m->task = t ? t->id : 0;
  m->name = lua_tostring(L, AT_NAME);
  np_node_append(&rt->loading, &m->node);
  if (mine) mine->awaits = m;
}

static int load_module(lua_State *L);

static int k_waited(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  int woken = np_woken(L);
  if (woken) return np_raise(L, woken, "require '%s'", lua_tostring(L, AT_NAME));
  lua_settop(L, AT_LOADED);
  lua_getfield(L, AT_LOADED, lua_tostring(L, AT_NAME));
  if (lua_toboolean(L, -1)) return 1;
  lua_pop(L, 1);
  return load_module(L);
}

static int load_module(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  loading *mine = innermost(rt, np_task_of(L)), *other = find(rt, lua_tostring(L, AT_NAME));
  if (other) {
    if (mine) check_circle(L, other, mine);
    np_task *t = np_op_begin(L, "require");
    if (mine) mine->awaits = other;
    np_waiter_join(t, &other->waiters);
    return np_wait(L, &require_wait, other, NP_NEVER, 0, k_waited);
  }
  begin_loading(L, rt, mine);
  if (lua_getfield(L, lua_upvalueindex(1), "searchers") != LUA_TTABLE)
    return luaL_error(L, "'package.searchers' must be a table");
  lua_pushliteral(L, "");
  return k_search(L, LUA_OK, 0);
}

/* The C half of a module of ours: a matter of its Lua half alone. */
static bool is_core(const char *name) {
  size_t len = strlen(name);
  return strncmp(name, "neap.", 5) == 0 && len > 10 && strcmp(name + len - 5, ".core") == 0;
}

/* Upvalue: the package table. Cores have a table of their own: Lua names a C function in errors and
 * tracebacks by where it finds it below package.loaded, which should be neap.sleep and not
 * neap.task.core.sleep. */
static int f_require(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, AT_LOADED, name);
  if (lua_toboolean(L, -1)) return 1;
  lua_pop(L, 1);
  if (is_core(name)) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "neap.cores");
    lua_replace(L, AT_LOADED);
    lua_getfield(L, AT_LOADED, name);
    if (lua_toboolean(L, -1)) return 1;
    lua_pop(L, 1);
  }
  return load_module(L);
}

void np_require_install(lua_State *L) {
  lua_getglobal(L, "require");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_require);
  lua_getglobal(L, LUA_LOADLIBNAME);
  lua_pushcclosure(L, f_require, 1);
  lua_setglobal(L, "require");
}

void np_require_restore(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  while (np_node_linked(&rt->loading)) { /* by generators, which outlive the runtime */
    from_node(rt->loading.next)->name = NULL;
    np_node_remove(rt->loading.next);
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &key_require);
  lua_setglobal(L, "require");
}
