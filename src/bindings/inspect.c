/* Looking inside: the tasks of a runtime, what each waits for and where, and the counts of what
 * lives. */
#include <stdio.h>

#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "core/stream.h"

/* Calls f for every task, groups of tasks included.  The tasks are listed first: f may allocate,
 * and a finalizer that runs then may move tasks between groups (it cannot end one). */
typedef void task_fn(lua_State *L, np_task *t, void *ctx);

static void list_group(np_group *g, np_task **list, size_t *n) {
  for (np_node *c = g->children.next; c != &g->children; c = c->next) {
    np_task *t = np_container(c, np_task, sibling);
    list[(*n)++] = t;
    for (np_group *own = t->groups; own; own = own->next) list_group(own, list, n);
  }
}

static void each_task(lua_State *L, np_runtime *rt, task_fn *f, void *ctx) {
  size_t n = 0, cap = rt->ntasks + 64; /* more may be spawned by a finalizer in the next line */
  np_task **list = lua_newuserdatauv(L, cap * sizeof *list, 0);
  if (rt->ntasks <= cap) list_group(rt->main, list, &n);
  lua_insert(L, 1); /* below what f works on */
  for (size_t i = 0; i < n; i++) f(L, list[i], ctx);
  lua_remove(L, 1);
}

static void push_wait(lua_State *L, np_task *t) {
  char what[256] = "";
  if (t->kind && t->kind->describe) t->kind->describe(t->obj, what, sizeof what);
  if (!t->kind) lua_pushnil(L);
  else lua_pushfstring(L, "%s%s%s", t->kind->what, *what ? " " : "", what);
}

void np_task_where(np_task *t, char *buf, size_t size) {
  lua_Debug ar;
  buf[0] = '\0';
  for (int d = t->depth; d >= 0; d--) {
    lua_State *co = d > 0 ? t->chain[d - 1] : t->T;
    for (int level = 0; lua_getstack(co, level, &ar); level++) {
      lua_getinfo(co, "Sl", &ar);
      if (ar.currentline <= 0) continue;
      snprintf(buf, size, "%s:%d", ar.short_src, ar.currentline);
      return;
    }
  }
}

static void push_where(lua_State *L, np_task *t) {
  char where[LUA_IDSIZE + 16];
  np_task_where(t, where, sizeof where);
  lua_pushstring(L, where);
}

static void list_task(lua_State *L, np_task *t, void *ctx) {
  (void)ctx;
  luaL_checkstack(L, 6, NULL);
  lua_createtable(L, 0, 5);
  np_push_task(L, t);
  np_task_get(L, -1, NP_TASK_NAME);
  lua_setfield(L, -3, "name");
  lua_setfield(L, -2, "task");
  lua_pushinteger(L, t->id);
  lua_setfield(L, -2, "id");
  lua_pushstring(L, t->state == NP_RUNNING ? "running"
                    : t->state == NP_READY ? "ready"
                                           : "waiting");
  lua_setfield(L, -2, "state");
  push_wait(L, t);
  lua_setfield(L, -2, "waiting");
  push_where(L, t);
  lua_setfield(L, -2, "where");
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* tasks(): a list of { task, id, name, state = "running" | "ready" | "waiting", waiting = "read
 * ...", where = "file:line" }. */
static int f_tasks(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  lua_newtable(L);
  each_task(L, rt, list_task, NULL);
  return 1;
}

/* stats(): counts of what lives now. */
static int f_stats(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  size_t objects = 0;
  np_node *list = np_loop_objects(rt->loop);
  for (np_node *n = list->next; n != list; n = n->next) objects++;
  lua_createtable(L, 0, 6);
  lua_pushinteger(L, (lua_Integer)rt->ntasks);
  lua_setfield(L, -2, "tasks");
  lua_pushinteger(L, (lua_Integer)rt->nready);
  lua_setfield(L, -2, "ready");
  lua_pushinteger(L, (lua_Integer)objects);
  lua_setfield(L, -2, "objects");
  lua_pushinteger(L, (lua_Integer)np_linger_count(rt->loop));
  lua_setfield(L, -2, "lingering");
  lua_pushinteger(L, rt->npool);
  lua_setfield(L, -2, "threads_pooled");
  lua_pushinteger(L, (lua_Integer)lua_gc(L, LUA_GCCOUNT) * 1024);
  lua_setfield(L, -2, "lua_bytes");
  return 1;
}

/* objects(): a list of one line per live object of the core. */
static int f_objects(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  np_node *list = np_loop_objects(rt->loop);
  lua_newtable(L);
  lua_Integer i = 0;
  for (np_node *n = list->next; n != list; n = n->next) {
    np_object *o = np_container(n, np_object, node);
    char text[512] = "";
    if (o->type->describe) o->type->describe(o, text, sizeof text);
    lua_pushfstring(L, "%s{%s}", o->type->name, text);
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

/* traceback(task [, message]): of its innermost coroutine first. */
static int f_traceback(lua_State *L) {
  np_task *t = np_check_object(L, 1, &np_task_type);
  const char *msg = luaL_optstring(L, 2, NULL);
  if (t->state == NP_ENDED) {
    if (np_task_get(L, 1, NP_TASK_TRACE) == LUA_TSTRING) return 1;
    lua_pushfstring(L, "%s%s", msg ? msg : "", "(the task has ended)");
    return 1;
  }
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int d = t->depth; d >= 0; d--) {
    luaL_traceback(L, d > 0 ? t->chain[d - 1] : t->T, d == t->depth ? msg : NULL, 0);
    luaL_addvalue(&b);
    if (d > 0) luaL_addchar(&b, '\n');
  }
  luaL_pushresult(&b);
  return 1;
}

/* Adds a line about t to the list of strings on top of L. */
static void describe_task(lua_State *L, np_task *t) {
  luaL_checkstack(L, 8, NULL);
  int list = lua_gettop(L);
  np_push_task(L, t);
  np_task_get(L, -1, NP_TASK_NAME);
  const char *name = lua_tostring(L, -1);
  push_wait(L, t);
  push_where(L, t);
  lua_pushfstring(L, "\n\ttask %d%s%s: %s at %s", (int)t->id, name ? " " : "", name ? name : "",
                  lua_isnil(L, -2) ? "?" : lua_tostring(L, -2), lua_tostring(L, -1));
  lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
  lua_settop(L, list);
}

static void waiting_line(lua_State *L, np_task *t, void *ctx) {
  (void)ctx;
  describe_task(L, t);
}

static void outside_line(lua_State *L, np_task *t, void *ctx) {
  (void)ctx;
  if (t->kind && t->kind->outside) describe_task(L, t);
}

static int list_lines(lua_State *L, const char *head, task_fn *f) {
  luaL_Buffer b;
  lua_newtable(L);
  int list = lua_gettop(L);
  each_task(L, np_runtime_of(L), f, NULL);
  luaL_buffinit(L, &b);
  luaL_addstring(&b, head);
  for (lua_Integer i = 1; lua_rawgeti(L, list, i) != LUA_TNIL; i++) luaL_addvalue(&b);
  lua_pop(L, 1);
  luaL_pushresult(&b);
  return 1;
}

int np_inspect_deadlock(lua_State *L) {
  return list_lines(L, "deadlock: every task waits, and nothing outside can wake any of them",
                    waiting_line);
}

int np_inspect_standing(lua_State *L) {
  return list_lines(L, "neap: the virtual clock stands, as something outside may still come",
                    outside_line);
}

static np_task *first_waiting(np_group *g) {
  for (np_node *c = g->children.next; c != &g->children; c = c->next) {
    np_task *t = np_container(c, np_task, sibling), *below = NULL;
    if (t->state == NP_WAITING && !t->kind->deaf) return t;
    for (np_group *own = t->groups; own && !below; own = own->next) below = first_waiting(own);
    if (below) return below;
  }
  return NULL;
}

np_task *np_first_waiting(np_runtime *rt) { return first_waiting(rt->main); }

int luaopen_neap_inspect_core(lua_State *L) {
  static const luaL_Reg funcs[] = {
    {"tasks", f_tasks},         {"stats", f_stats}, {"objects", f_objects},
    {"traceback", f_traceback}, {NULL, NULL},
  };
  luaL_newlib(L, funcs);
  return 1;
}
