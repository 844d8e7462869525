/* Scopes: what bounds the waits of a task — deadlines, shields and cancellations — and who is asked
 * first.
 *
 * Entries are linked innermost first. Those of a generator that yielded to its user are parked
 * beside it: they bound only what runs inside it. */
#include "bindings/task_impl.h"

static const char key_parked = 'p';

typedef struct parked {
  const np_type *type;
  np_runtime *rt; /* which counts it; NULL: emptied */
  np_node scopes;
} parked;

static np_scope *from_node(np_node *n) { return np_container(n, np_scope, node); }

void np_scope_open(lua_State *L, np_task *t, np_scope *s, np_scopekind kind, uint64_t at_ns) {
  s->kind = (uint8_t)kind;
  s->at_ns = at_ns;
  s->co = L;
  np_node_append(t->root.node.next, &s->node); /* before the first: innermost */
}

/* A scope of this kind and state, seen at `now`: 0 or the code it ends waits with. *next is
 * lowered. */
static int look(np_scope *s, uint64_t now, uint64_t *next) {
  if (s->kind == NP_SCOPE_CANCEL) {
    if (s->stage == NP_CALM) return 0;
    if (s->stage == NP_GRACE && now < s->at_ns) {
      if (s->at_ns < *next) *next = s->at_ns;
      return 0;
    }
    if (s->stage == NP_GRACE) s->stage = NP_STRICT;
    return NP_WOKEN_CANCEL;
  }
  if (now >= s->at_ns) return -ETIMEDOUT;
  if (s->at_ns < *next) *next = s->at_ns;
  return 0;
}

/* True when there are only calm cancellation scopes (the task's own, its groups'): the usual case
 * needs no clock. */
static bool nothing_open(const np_task *t) {
  for (const np_scope *s = np_scope_innermost(t); s; s = np_scope_outer(t, s))
    if (s->kind != NP_SCOPE_CANCEL || s->stage != NP_CALM) return false;
  return true;
}

int np_scopes_verdict(np_task *t, uint64_t own_ns, uint64_t *next, np_scope **by) {
  *next = own_ns;
  *by = NULL;
  if (t->state == NP_RUNNING && nothing_open(t)) return 0;
  uint64_t now = np_loop_now(t->rt->loop);
  int code = now >= own_ns ? -ETIMEDOUT : 0;
  for (np_scope *s = np_scope_innermost(t); s; s = np_scope_outer(t, s)) {
    if (s->kind == NP_SCOPE_SHIELD) {
      if (now >= s->at_ns) continue;
      if (s->at_ns < *next) *next = s->at_ns;
      break;
    }
    int r = look(s, now, next);
    if (r == 0 || (r == -ETIMEDOUT && code)) continue;
    code = r;
    *by = s;
    if (r == NP_WOKEN_CANCEL) break;
  }
  return code;
}

void np_scope_delivered(np_task *t) {
  np_scope *s = np_scope_innermost(t);
  while (s && s != t->by) s = np_scope_outer(t, s);
  if (!s) return; /* closed since, its memory perhaps gone */
  if (s->kind != NP_SCOPE_CANCEL) return;
  if (s->stage == NP_REQUESTED) {
    s->stage = NP_GRACE;
    s->at_ns = np_deadline_after(t->rt->loop, np_seconds_ns(t->rt->grace_s));
  }
}

/* Parking. */

static int parked_gc(lua_State *L) {
  parked *p = lua_touserdata(L, 1);
  while (np_node_linked(&p->scopes)) {
    np_scope *s = from_node(p->scopes.next);
    np_scope_close(s);
    if (s->kind == NP_SCOPE_CANCEL) np_group_abandon(L, np_container(s, np_group, scope));
  }
  if (p->rt) p->rt->nparked--;
  p->rt = NULL;
  return 0;
}
static const np_type parked_type = {
  .name = "neap.parked",
  .meta = (const luaL_Reg[]){{"__gc", parked_gc}, {NULL, NULL}},
};

static bool owns(np_task *t, lua_State *co) {
  const np_scope *s = np_scope_innermost(t);
  return s != &t->root && s->co == co;
}

static void push_parked_table(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_parked) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_parked);
}

static void push_coroutine(lua_State *L, lua_State *co) {
  lua_checkstack(co, 1);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
}

void np_scopes_park(lua_State *L, np_task *t, lua_State *co, bool ended) {
  if (np_likely(!owns(t, co))) return;
  if (ended) {
    while (owns(t, co)) np_scope_close(np_scope_innermost(t));
    return;
  }
  luaL_checkstack(L, 6, NULL);
  push_parked_table(L);
  push_coroutine(L, co);
  parked *p = np_new_object(L, &parked_type, sizeof *p, 0);
  np_node_init(&p->scopes);
  p->rt = t->rt;
  t->rt->nparked++;
  while (owns(t, co)) {
    np_node *n = t->root.node.next;
    np_node_remove(n);
    np_node_append(&p->scopes, n);
  }
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

/* Pushes what is parked for co and takes it out of the table; NULL, nothing pushed: there is
 * none. */
static parked *take_parked(lua_State *L, lua_State *co) {
  luaL_checkstack(L, 6, NULL);
  push_parked_table(L);
  push_coroutine(L, co);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  parked *p = lua_touserdata(L, -1);
  if (!p) {
    lua_pop(L, 3);
    return NULL;
  }
  lua_insert(L, -3);
  lua_pushnil(L);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  return p;
}

/* A group cannot go to a task inside it, which would wait for itself. */
bool np_scopes_foreign(lua_State *L, np_task *t, lua_State *co) {
  if (np_likely(t->rt->nparked == 0)) return false;
  luaL_checkstack(L, 6, NULL);
  push_parked_table(L);
  push_coroutine(L, co);
  lua_rawget(L, -2);
  parked *p = lua_touserdata(L, -1);
  lua_pop(L, 2);
  if (!p) return false;
  for (np_node *n = p->scopes.next; n != &p->scopes; n = n->next) {
    np_scope *s = from_node(n);
    if (s->kind == NP_SCOPE_CANCEL && np_group_contains(np_container(s, np_group, scope), t))
      return true;
  }
  return false;
}

void np_scopes_unpark(lua_State *L, np_task *t, lua_State *co) {
  if (np_likely(t->rt->nparked == 0)) return;
  parked *p = take_parked(L, co);
  if (!p) return;
  while (np_node_linked(&p->scopes)) {
    np_node *n = p->scopes.prev; /* outermost first, each then innermost of t */
    np_scope *s = from_node(n);
    np_node_remove(n);
    np_node_append(t->root.node.next, n);
    if (s->kind == NP_SCOPE_CANCEL) np_group_adopt(np_container(s, np_group, scope), t);
  }
  if (p->rt) p->rt->nparked--;
  p->rt = NULL;
  lua_pop(L, 1);
}

/* The tasks of a group whose body was closed with its generator are cancelled. */
void np_scopes_closed(lua_State *L, lua_State *co) {
  np_runtime *rt = np_runtime_find(L);
  if (np_likely(!rt || rt->nparked == 0) || !take_parked(L, co)) return;
  lua_pushcfunction(L, parked_gc);
  lua_insert(L, -2);
  lua_call(L, 1, 0);
}

void np_scopes_orphan(lua_State *L) {
  push_parked_table(L);
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) ((parked *)lua_touserdata(L, -1))->rt = NULL;
  lua_pop(L, 1);
}
