/* Deadlines, timeouts and shields for Lua: scopes (scope.c) as objects.
 *
 * A deadline is made and closed again for every request of many a server, so the usual way of one
 * is kept short: no finalizer, see young.c. */
#include <stdio.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "bindings/young.h"

typedef struct deadline {
  const np_type *type;
  np_scope scope; /* its line is of the function that is user value 1 */
  np_young young;
} deadline;

/* Nothing holds it any more and it still bounds waits: somebody left out <close>. */
static int deadline_gc(lua_State *L) {
  deadline *d = lua_touserdata(L, 1);
  if (!np_node_linked(&d->scope.node)) return 0;
  np_scope_close(&d->scope);
  if (np_runtime_freeing(L)) return 0;
  lua_Debug ar = {.short_src = "?"};
  if (lua_getiuservalue(L, 1, 1) == LUA_TFUNCTION) lua_getinfo(L, ">S", &ar);
  char text[LUA_IDSIZE + 100];
  snprintf(text, sizeof text, "neap: a deadline was collected without close (made at %s:%d)",
           ar.short_src, d->scope.line);
  lua_warning(L, text, 0);
  return 0;
}

static void close_deadline(deadline *d) {
  np_scope_close(&d->scope);
  np_young_close(&d->young);
}

static int deadline_close(lua_State *L) {
  close_deadline(np_check_object(L, 1, &np_scope_type));
  return 0;
}

/* Seconds left (0 when expired), or nil for a deadline without end. */
static int deadline_remaining(lua_State *L) {
  deadline *d = np_check_object(L, 1, &np_scope_type);
  if (d->scope.at_ns == NP_NEVER) return 0;
  uint64_t now = np_loop_now(np_loop_of(L));
  lua_pushnumber(L, now >= d->scope.at_ns ? 0 : (lua_Number)(d->scope.at_ns - now) / 1e9);
  return 1;
}

static int deadline_tostring(lua_State *L) {
  deadline *d = np_check_object(L, 1, &np_scope_type);
  np_runtime *rt = np_runtime_find(L); /* it may have ended */
  uint64_t at = d->scope.at_ns, now = rt ? np_loop_now(rt->loop) : at;
  const char *state = np_node_linked(&d->scope.node) ? "" : " closed";
  if (at == NP_NEVER) lua_pushfstring(L, "neap.deadline{never%s}", state);
  else
    lua_pushfstring(L, "neap.deadline{%fs left%s}", now >= at ? 0.0 : (lua_Number)(at - now) / 1e9,
                    state);
  return 1;
}

static const luaL_Reg methods[] = {
  {"remaining", deadline_remaining}, {"close", deadline_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {
  {"__close", deadline_close}, {"__tostring", deadline_tostring}, {NULL, NULL}};
static const luaL_Reg old_meta[] = {{"__close", deadline_close},
                                    {"__tostring", deadline_tostring},
                                    {"__gc", deadline_gc},
                                    {NULL, NULL}};

const np_type np_scope_type = {.name = "neap.deadline", .methods = methods, .meta = meta};
/* of its metatable alone: the object's own type stays */
static const np_type old_type = {.name = "neap.deadline", .methods = methods, .meta = old_meta};

/* Upvalues of the functions that open scopes. */
enum { NURSERY = 1, METATABLE };

/* The time counts from the call, before anything is made.  The metatable as an upvalue: 45
 * instructions less than by np_new_object. */
static deadline *open_scope(lua_State *L, np_scopekind kind, uint64_t ns) {
  np_task *t = np_task_of(L);
  if (np_unlikely(!t)) {
    np_runtime_of(L); /* raises, perhaps */
    luaL_error(L, "deadlines and shields belong to a task");
  }
  uint64_t at = np_deadline_after(t->rt->loop, ns);
  deadline *d = lua_newuserdatauv(L, sizeof *d, 1);
  memset(d, 0, sizeof *d);
  d->type = &np_scope_type;
  np_node_init(&d->scope.node);
  lua_pushvalue(L, lua_upvalueindex(METATABLE));
  lua_setmetatable(L, -2);
  np_young_hold(L, lua_upvalueindex(NURSERY), &d->young, &old_type);
  np_scope_open(L, t, &d->scope, kind, at);
  return d;
}

/* local d <close> = deadline(seconds) */
static int f_deadline(lua_State *L) {
  deadline *d = open_scope(L, NP_SCOPE_DEADLINE, np_check_seconds(L, 1));
  lua_Debug ar;
  if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "fl", &ar)) {
    d->scope.line = ar.currentline;
    lua_setiuservalue(L, -2, 1);
  }
  return 1;
}

static int timeout_result(lua_State *L, const char *raised) {
  return np_fail_text(L, "ETIMEDOUT", raised ? "timeout: timed out (%s)" : "timeout: timed out",
                      raised);
}

/* The error at the top comes from a result that told of a deadline: assert, an iterator. Others are
 * mistakes. */
static bool tells_timeout(lua_State *L) {
  if (lua_type(L, -1) == LUA_TSTRING) return strstr(lua_tostring(L, -1), "timed out") != NULL;
  if (luaL_getmetafield(L, -1, "__name") != LUA_TSTRING ||
      strcmp(lua_tostring(L, -1), "neap.error") != 0)
    return false;
  lua_pop(L, 1);
  lua_getfield(L, -1, "code");
  bool yes = lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "ETIMEDOUT") == 0;
  lua_pop(L, 1);
  return yes;
}

/* Stack: scope, handler, results or the error. */
static int k_timeout(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  deadline *d = lua_touserdata(L, 1);
  close_deadline(d);
  bool raised = status != LUA_OK && status != LUA_YIELD;
  if (raised && (!d->scope.hit || !tells_timeout(L))) {
    lua_settop(L, 3);
    return lua_error(L);
  }
  if (!d->scope.hit) return lua_gettop(L) - 2;
  return timeout_result(L, raised ? luaL_tolstring(L, -1, NULL) : NULL);
}

/* timeout(seconds, f, ...): f's results, or the ETIMEDOUT triple if a wait inside met this
 * deadline. */
int np_timeout_call(lua_State *L) {
  uint64_t ns = np_check_seconds(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  open_scope(L, NP_SCOPE_DEADLINE, ns);
  lua_replace(L, 1);
  lua_pushcfunction(L, np_stitch_handler);
  lua_insert(L, 2);
  return k_timeout(L, lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 2, 0, k_timeout), 0);
}

static int k_shield(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  close_deadline(lua_touserdata(L, 1));
  return lua_gettop(L) - 1;
}

/* expired(): whether a deadline around the caller has passed: a wait's own is told from it. */
static int f_expired(lua_State *L) {
  np_scope *by;
  uint64_t next;
  np_task *t = np_task_of(L);
  lua_pushboolean(L, t && np_scopes_verdict(t, NP_NEVER, &next, &by) == -ETIMEDOUT);
  return 1;
}

/* shield(seconds, f, ...): f's results; hides cancellation and outer scopes from f for at most so
 * long. */
static int f_shield(lua_State *L) {
  uint64_t ns = np_check_seconds(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  open_scope(L, NP_SCOPE_SHIELD, ns);
  lua_replace(L, 1);
  lua_toclose(L, 1);
  lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, k_shield);
  return k_shield(L, LUA_OK, 0);
}

int luaopen_neap_scope_core(lua_State *L) {
  static const luaL_Reg funcs[] = {
    {"deadline", f_deadline}, {"expired", f_expired}, {"timeout", np_timeout_call},
    {"shield", f_shield},     {NULL, NULL},
  };
  np_type_init(L, &np_scope_type);
  np_type_init(L, &old_type);
  luaL_newlibtable(L, funcs);
  np_young_push_nursery(L);
  np_push_metatable(L, &np_scope_type);
  luaL_setfuncs(L, funcs, 2);
  return 1;
}
