/* Groups: tasks that end before the function that opened them returns; the first error ends the
 * others. */
#include "bindings/modules.h"
#include "bindings/task_impl.h"

/* Cancellation. */

void np_cancel_scope(np_task *t, np_scope *s) {
  if (s->stage != NP_CALM) return;
  s->stage = NP_REQUESTED;
  np_task_interrupt(t);
}

void np_group_cancel(np_group *g) {
  g->cancelled = true;
  for (np_node *n = g->children.next; n != &g->children; n = n->next)
    np_cancel_scope(np_container(n, np_task, sibling), &np_container(n, np_task, sibling)->root);
  if (g->owner && np_node_linked(&g->scope.node)) np_cancel_scope(g->owner, &g->scope);
}

/* Groups. */

np_group *np_group_new(lua_State *L, np_task *owner) {
  np_group *g = np_new_object(L, &np_group_type, sizeof *g, NP_GROUP_USERVALUES);
  g->owner = owner;
  np_node_init(&g->children);
  np_node_init(&g->scope.node);
  return g;
}

static void unlink_group(np_group *g) {
  if (!g->link) return;
  *g->link = g->next;
  if (g->next) g->next->link = g->link;
  g->next = NULL;
  g->link = NULL;
}

void np_group_adopt(np_group *g, np_task *owner) {
  unlink_group(g);
  g->owner = owner;
  g->next = owner->groups;
  g->link = &owner->groups;
  if (g->next) g->next->link = &g->next;
  owner->groups = g;
}

void np_group_forget(lua_State *L, np_group *g) {
  g->gone = true;
  unlink_group(g);
  g->owner = NULL;
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, g);
}

bool np_group_contains(const np_group *g, const np_task *t) {
  for (const np_group *h = t->home; h; h = h->owner ? h->owner->home : NULL)
    if (h == g) return true;
  return false;
}

void np_group_abandon(lua_State *L, np_group *g) {
  np_group *home = g->owner ? g->owner->home : np_runtime_of(L)->main;
  np_scope_close(&g->scope);
  g->owner_waits = false;
  np_group_cancel(g);
  while (np_node_linked(&g->children)) {
    np_task *t = np_container(g->children.next, np_task, sibling);
    np_node_remove(&t->sibling);
    np_connection_orphan(t);
    np_group_add(home, t);
  }
  g->nchildren = 0;
  np_group_forget(L, g);
}

/* A task that joins a group which is being cancelled is cancelled with it. */
void np_group_add(np_group *g, np_task *t) {
  t->home = g;
  g->nchildren++;
  np_node_append(&g->children, &t->sibling);
  if (g->cancelled) np_cancel_scope(t, &t->root);
}

static void push_group(lua_State *L, np_group *g) { lua_rawgetp(L, LUA_REGISTRYINDEX, g); }

void np_group_fail(lua_State *L, np_group *g) {
  lua_checkstack(L, 4);
  push_group(L, g);
  bool keep = g->failed;
  if (keep) {
    lua_getiuservalue(L, -1, 1);
    keep = !np_is_cancelled(L, -1);
    lua_pop(L, 1);
  }
  if (!keep) {
    g->failed = true;
    lua_insert(L, -3);
    lua_setiuservalue(L, -3, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pop(L, 1);
  } else {
    lua_pop(L, 3);
  }
  np_group_cancel(g);
}

void np_group_child_ended(lua_State *L, np_group *g, np_task *t, int ud, bool deliver) {
  np_node_remove(&t->sibling);
  g->nchildren--;
  if (deliver && t->outcome == NP_RAISED) {
    np_task_get(L, ud, NP_TASK_RESULT);
    np_task_get(L, ud, NP_TASK_TRACE);
    np_group_fail(L, g);
  }
  if (g->nchildren == 0 && g->owner_waits) {
    g->owner_waits = false;
    np_task_wake(g->owner);
  }
}

static void children_abort(np_task *t, void *obj) {
  (void)t;
  ((np_group *)obj)->owner_waits = false;
}
static const np_waitkind children_wait = {"the tasks of its group", false, children_abort, NULL,
                                          false};
static const np_waitkind children_end = {"the cancelled tasks of its group", false, children_abort,
                                         NULL, true};

/* A cancellation that came before this wait must not raise out of it: the group's tasks would
 * outlive it. */
static void look_for_cancellation(np_task *t, np_group *g) {
  uint64_t next;
  if (np_scopes_verdict(t, NP_NEVER, &next, &t->by) != NP_WOKEN_CANCEL) return;
  if (t->by->stage != NP_REQUESTED) return; /* np_wait counts those that were swallowed */
  t->woken = NP_WOKEN_CANCEL;
  np_group_interrupted(t, g);
}

int np_group_wait(lua_State *L, np_group *g, lua_KContext ctx, lua_KFunction k) {
  np_task *t = np_task_of(L);
  if (!g->ended_by) look_for_cancellation(t, g);
  g->owner_waits = true;
  np_group_adopt(g, t);
  return np_wait(L, g->ended_by ? &children_end : &children_wait, g, NP_NEVER, ctx, k);
}

void np_group_interrupted(np_task *t, np_group *g) {
  g->ended_by = t->woken;
  t->woken = 0;
  np_scope_delivered(t);
  np_group_cancel(g);
}

np_group *np_nearest_group(np_task *t) {
  for (np_scope *s = np_scope_innermost(t); s != &t->root; s = np_scope_outer(t, s)) {
    if (s->kind == NP_SCOPE_CANCEL) return np_container(s, np_group, scope);
  }
  return t->home;
}

static int raise_failure(lua_State *L, np_group *g) {
  lua_getiuservalue(L, 1, 1);
  lua_getiuservalue(L, 1, 2);
  np_stitch_set(L, -2, g->body_failed);
  return lua_error(L);
}

/* Stack: group, handler, results of the body. */
static int k_children(lua_State *L, int status, lua_KContext ctx) {
  np_group *g = lua_touserdata(L, 1);
  np_task *t = np_task_of(L);
  if (status == LUA_YIELD && t->woken) np_group_interrupted(t, g);
  if (g->nchildren > 0) return np_group_wait(L, g, ctx, k_children);
  np_group_forget(L, g);
  if (g->failed) return raise_failure(L, g);
  if (g->ended_by == NP_WOKEN_CANCEL) return np_raise_cancelled(L);
  if (g->ended_by) return np_fail(L, g->ended_by, "group");
  if (g->body_cancelled) return np_fail_text(L, "ECANCELED", "group: cancelled");
  return lua_gettop(L) - 2;
}

/* A generator left the group's body where nobody can wait for its tasks: outside any task, in a
 * finalizer, in table.sort. They are cancelled and the enclosing group awaits them. */
static int end_at_once(lua_State *L, np_group *g, int status) {
  bool left = g->nchildren > 0;
  np_group_abandon(L, g);
  if (g->failed) return raise_failure(L, g);
  if (status != LUA_OK && status != LUA_YIELD) return lua_error(L);
  if (left) np_op_begin(L, "group"); /* raises: says why it cannot wait */
  return lua_gettop(L) - 2;
}

static int k_group(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  np_group *g = lua_touserdata(L, 1);
  np_scope_close(&g->scope);
  if (status != LUA_OK && status != LUA_YIELD) {
    bool by_us = g->scope.stage != NP_CALM && np_is_cancelled(L, -1);
    g->body_cancelled = by_us;
    if (!by_us) {
      g->body_failed = !g->failed;
      lua_pushvalue(L, 1); /* its task may have ended and forgotten it */
      lua_rawsetp(L, LUA_REGISTRYINDEX, g);
      np_stitch_push(L, -1);
      np_group_fail(L, g);
    }
    np_group_cancel(g);
  }
  if (!np_can_wait(L, np_task_of(L))) return end_at_once(L, g, status);
  np_task_of(L)->woken = 0;
  return k_children(L, LUA_OK, 0);
}

/* group(f): f(g)'s results after all tasks spawned inside have ended; the first error cancels the
 * rest and is raised. nil, message, "ETIMEDOUT" when a deadline ended it, "ECANCELED" when
 * g:cancel() ended f. */
int np_group_call(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  np_task *t = np_op_begin(L, "group");
  np_group *g = np_group_new(L, t);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, g);
  lua_insert(L, 1);
  lua_pushcfunction(L, np_stitch_handler);
  lua_insert(L, 2);
  lua_pushvalue(L, 1);
  np_group_adopt(g, t);
  np_scope_open(L, t, &g->scope, NP_SCOPE_CANCEL, NP_NEVER);
  return k_group(L, lua_pcallk(L, 1, LUA_MULTRET, 2, 0, k_group), 0);
}

static int g_spawn(lua_State *L) {
  np_group *g = np_check_object(L, 1, &np_group_type);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_rawgetp(L, LUA_REGISTRYINDEX, g);
  if (lua_isnil(L, -1)) return luaL_error(L, "the group has ended");
  lua_pop(L, 1);
  np_task_new(L, np_runtime_of(L), g, lua_gettop(L) - 2);
  return 1;
}

static int g_cancel(lua_State *L) {
  np_group *g = np_check_object(L, 1, &np_group_type);
  np_group_cancel(g);
  return 0;
}

static int g_tostring(lua_State *L) {
  np_group *g = np_check_object(L, 1, &np_group_type);
  lua_pushfstring(L, "neap.group{%d tasks%s}", (int)g->nchildren, g->cancelled ? " cancelled" : "");
  return 1;
}

const np_type np_group_type = {
  .name = "neap.group",
  .methods = (const luaL_Reg[]){{"spawn", g_spawn}, {"cancel", g_cancel}, {NULL, NULL}},
  .meta = (const luaL_Reg[]){{"__tostring", g_tostring}, {NULL, NULL}},
};

static void add_connection_methods(lua_State *L) {
  np_push_metatable(L, &np_group_type);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, np_connection_methods, 0);
  lua_pop(L, 2);
}

int luaopen_neap_group_core(lua_State *L) {
  static const luaL_Reg funcs[] = {{"group", np_group_call}, {NULL, NULL}};
  np_type_init(L, &np_group_type);
  add_connection_methods(L);
  luaL_newlib(L, funcs);
  np_push_serve(L);
  lua_setfield(L, -2, "serve");
  np_push_cancelled(L);
  lua_setfield(L, -2, "cancelled");
  return 1;
}
