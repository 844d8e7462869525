/* A task per connection, as lean as a task can be: its body is the handler itself, its group is
 * made when it first spawns, and what has to happen at the end is one function of the server's
 * group, called on the same thread.
 *
 * The same in Lua, a function around the handler with pcall and group, costs 1.9 KiB more per
 * connection: its frames do not fit the stack that a thread begins with. Accepting and counting in
 * Lua cost 3900 of 15 500 instructions per connection. */
#include "bindings/listener.h"
#include "bindings/stream.h"
#include "bindings/task_impl.h"

/* The group lies around everything the body opens: next to the task's own scope. */
static np_group *own_group(np_task *t) {
  np_node *n = t->root.node.prev;
  if (n == &t->root.node) return NULL;
  np_scope *s = np_container(n, np_scope, node);
  np_group *g = np_container(s, np_group, scope);
  return s->kind == NP_SCOPE_CANCEL && s->co == NULL ? g : NULL;
}

np_group *np_own_group(lua_State *L, np_task *t) {
  np_group *g = np_group_new(L, t);
  lua_rawsetp(L, LUA_REGISTRYINDEX, g);
  np_group *other = own_group(t);
  if (np_unlikely(other)) { /* a finalizer spawned first, during our allocations */
    np_group_forget(L, g);
    return other;
  }
  np_group_adopt(g, t);
  g->scope.kind = NP_SCOPE_CANCEL;
  g->scope.at_ns = NP_NEVER;
  np_node_append(&t->root.node, &g->scope.node);
  return g;
}

/* Politely, whatever object it is; idempotent. Never raises. */
static void close_connection(lua_State *L, int conn) {
  conn = lua_absindex(L, conn);
  if (np_likely(np_stream_close_object(L, conn))) return;
  if (luaL_getmetafield(L, conn, "__close") == LUA_TNIL) return;
  lua_pushvalue(L, conn);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
}

/* Once: a task that was counted has the server's group as its home. */
static bool uncount(np_task *t) {
  bool counted = t->counted;
  if (counted) t->home->connections--;
  t->counted = false;
  return counted;
}

void np_connection_orphan(np_task *t) { uncount(t); }

/* Stack: task, handler, results or the error; at ctx the error, if there was one. */
static int k_told(lua_State *L, int status, lua_KContext ctx) {
  np_task *t = lua_touserdata(L, 1);
  uncount(t);
  if (status != LUA_OK && status != LUA_YIELD) {
    /* The end function could not do it (no memory): so that no peer waits for ever. */
    t->outcome = NP_RAISED; /* the end function's own error is the group's */
    np_task_get(L, 1, NP_TASK_RESULT);
    close_connection(L, -1);
    lua_pop(L, 1);
  } else lua_settop(L, t->outcome == NP_WAS_CANCELLED ? (int)ctx : 2);
  return np_task_finish(L, t);
}

/* Nobody is told: the connection is closed. */
static int end_quietly(lua_State *L, np_task *t, int top) {
  np_task_get(L, 1, NP_TASK_RESULT);
  close_connection(L, -1);
  lua_pop(L, 1);
  t->serves = false;
  uncount(t);
  lua_settop(L, t->outcome == NP_RETURNED ? 2 : top);
  return np_task_finish(L, t);
}

/* The server's function gets the connection, and the error with its traceback: so it is
 * delivered.  It is not called for an end like any other that nobody waits for, nor when the
 * server's group has gone: then an error is the home's. */
static int tell(lua_State *L, np_task *t) {
  int err = lua_gettop(L), nargs = 1;
  bool quiet = t->outcome != NP_RAISED && !t->home->watched;
  if (np_likely(quiet) || !t->counted) return end_quietly(L, t, err);
  luaL_checkstack(L, 8, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, t->home);
  lua_getiuservalue(L, -1, NP_GROUP_CONNECTION_END);
  lua_remove(L, -2);
  np_task_get(L, 1, NP_TASK_RESULT);
  if (t->outcome == NP_RAISED) {
    lua_pushvalue(L, err);
    np_stitch_push(L, err);
    t->outcome = NP_RETURNED;
    nargs = 3;
  }
  t->serves = false; /* told once, whatever happens now; what failed before is told by _lost */
  return k_told(L, lua_pcallk(L, nargs, 0, 0, err, k_told), err);
}

static int k_children(lua_State *L, int status, lua_KContext ctx) {
  np_task *t = lua_touserdata(L, 1);
  np_group *g = (np_group *)ctx;
  if (status == LUA_YIELD && t->woken) np_group_interrupted(t, g);
  if (g->nchildren > 0) return np_group_wait(L, g, ctx, k_children);
  if (g->failed && t->outcome != NP_RAISED) {
    t->outcome = NP_RAISED;
    lua_rawgetp(L, LUA_REGISTRYINDEX, g);
    lua_getiuservalue(L, -1, NP_GROUP_ERROR);
    lua_getiuservalue(L, -2, NP_GROUP_TRACE);
    np_stitch_set(L, -2, false);
  } else if (g->ended_by && t->outcome == NP_RETURNED) {
    t->outcome = NP_WAS_CANCELLED;
    np_push_cancelled(L);
  }
  np_group_forget(L, g);
  return tell(L, t);
}

int np_connection_end(lua_State *L, np_task *t) {
  np_group *g = own_group(t);
  np_node *last = g ? &g->scope.node : &t->root.node;
  while (t->root.node.next != last)
    np_node_remove(t->root.node.next); /* deadlines that the body left open */
  if (!g) return tell(L, t);
  np_scope_close(&g->scope);
  bool by_group = g->scope.stage != NP_CALM && t->outcome == NP_RAISED && np_is_cancelled(L, -1);
  if (by_group) t->outcome = NP_RETURNED; /* what ended the group is told */
  if (t->outcome != NP_RETURNED) np_group_cancel(g);
  t->woken = 0;
  return k_children(L, LUA_OK, (lua_KContext)g);
}

/* Stack: task, connection, then nothing or the error. */
static int tell_lost(lua_State *L) {
  np_task *t = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, t->home);
  lua_getiuservalue(L, -1, NP_GROUP_CONNECTION_END);
  lua_replace(L, 1);
  lua_pop(L, 1);
  if (lua_gettop(L) == 3) lua_pushliteral(L, "");
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

bool np_connection_lost(lua_State *L, np_task *t, int ud, int err) {
  bool has_server = uncount(t);
  if (!t->serves) return false;
  t->serves = false;
  if (has_server) {
    lua_pushcfunction(L, tell_lost);
    lua_pushvalue(L, ud);
    np_task_get(L, ud, NP_TASK_RESULT);
    if (err) lua_pushvalue(L, err);
    bool told = lua_pcall(L, err ? 3 : 2, 0, 0) == LUA_OK;
    if (told) return true;
    lua_pop(L, 1);
  }
  np_task_get(L, ud, NP_TASK_RESULT);
  close_connection(L, -1);
  lua_pop(L, 1);
  return false;
}

/* ---- accepting ---- */

/* Stack of serve: CONN is a closed stream for the next connection, or nil. */
enum { LISTENER = 1, GROUP, HANDLER, TIMEOUT, LINE_LIMIT, MOST, CONN };

/* The connection is on top. Other objects than streams have fields, if at all. */
static void set_defaults(lua_State *L, int conn) {
  bool timeout = lua_toboolean(L, TIMEOUT), line_max = lua_toboolean(L, LINE_LIMIT);
  uint64_t ns = timeout ? np_seconds_ns(lua_tonumber(L, TIMEOUT)) : NP_NEVER;
  if (np_stream_set_defaults(L, conn, ns, (size_t)lua_tointeger(L, LINE_LIMIT))) return;
  if (timeout) {
    lua_pushvalue(L, TIMEOUT);
    lua_setfield(L, conn, "timeout");
  }
  if (line_max) {
    lua_pushvalue(L, LINE_LIMIT);
    lua_setfield(L, conn, "line_max");
  }
}

static int k_serve(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  np_group *g = lua_touserdata(L, GROUP);
  np_runtime *rt = np_runtime_of(L);
  int woken = np_woken(L);
  lua_settop(L, CONN);
  for (;;) {
    if (woken < 0) return np_listener_ended(L, woken);
    if (g->connections >= lua_tonumber(L, MOST)) return lua_pushboolean(L, 1), 1;
    if (lua_isnil(L, CONN)) {
      np_push_served_stream(L);
      lua_replace(L, CONN);
    }
    np_task_reserve(L, rt); /* before there is a connection to lose */
    int r = np_listener_next(L);
    if (r == -EAGAIN) return np_listener_await(L, ctx, k_serve);
    if (r < 0) return np_listener_ended(L, r);
    int conn = lua_gettop(L);
    set_defaults(L, conn);
    np_task *t = np_task_reserved(L, rt, g, HANDLER, conn);
    t->serves = true;
    t->counted = t->home == g; /* else a finalizer has ended the server meanwhile */
    if (t->counted) g->connections++;
    g->total++;
    lua_settop(L, conn > CONN ? CONN : MOST);
    lua_settop(L, CONN);
    if (np_slice_over(L)) return np_give_way(L, ctx, k_serve);
  }
}

/* serve(listener, group, handler, timeout or false, line_max or nil, max_connections): accepts, and
 * runs handler(conn) and then the group's end function in a task per connection.  true: there are
 * max_connections; false: our side closed the listener; raises everything else. */
static int f_serve(lua_State *L) {
  int fds[NP_LISTEN_SOCKETS_MAX];
  if (np_listener_fds(L, LISTENER, fds) < 0) return luaL_typeerror(L, LISTENER, "listener");
  np_check_object(L, GROUP, &np_group_type);
  luaL_optinteger(L, LINE_LIMIT, 0);
  luaL_checknumber(L, MOST);
  lua_settop(L, MOST);
  np_op_begin(L, "accept");
  return k_serve(L, LUA_OK, 0);
}

/* g:on_connection_end(f): f(conn, err, traceback) if the handler failed, or f(conn) while ends are
 * watched, in the connection's task.  Otherwise the connection is closed, and nobody is told. */
static int g_on_connection_end(lua_State *L) {
  np_check_object(L, 1, &np_group_type);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  lua_setiuservalue(L, 1, NP_GROUP_CONNECTION_END);
  return 0;
}

/* g:watch_ends(on) */
static int g_watch_ends(lua_State *L) {
  np_group *g = np_check_object(L, 1, &np_group_type);
  g->watched = lua_toboolean(L, 2);
  return 0;
}

/* g:connections(): how many are served, and how many there were. */
static int g_connections(lua_State *L) {
  np_group *g = np_check_object(L, 1, &np_group_type);
  lua_pushinteger(L, (lua_Integer)g->connections);
  lua_pushinteger(L, (lua_Integer)g->total);
  return 2;
}

/* g:tasks(): its tasks, oldest first. */
static int g_tasks(lua_State *L) {
  np_group *g = np_check_object(L, 1, &np_group_type);
  lua_createtable(L, (int)g->nchildren, 0);
  lua_Integer i = 0;
  for (np_node *n = g->children.next; n != &g->children; n = n->next) {
    np_push_task(L, np_container(n, np_task, sibling));
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

const luaL_Reg np_connection_methods[] = {
  {"on_connection_end", g_on_connection_end},
  {"watch_ends", g_watch_ends},
  {"connections", g_connections},
  {"tasks", g_tasks},
  {NULL, NULL},
};

void np_push_serve(lua_State *L) { lua_pushcfunction(L, f_serve); }
