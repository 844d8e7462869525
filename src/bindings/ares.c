/* neap.dns.core: resolvers, objects that ask name servers.  Bytes in, bytes out: what a message
 * says is neap.dns.codec's.
 *
 * One userdata per call lies on the waiting task's stack and holds its question; a deadline or
 * cancellation forgets that (the abort function).  The runtime's default resolver is the loop's
 * own, looked up anew for each question: it changes when resolv.conf does. */
#include "bindings/ares.h"

#include <string.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/origin.h"
#include "bindings/select.h"
#include "bindings/task.h"

enum { AT_RESOLVER = 1, AT_QUERY, AT_WHAT, AT_OPTIONS, AT_ASKING };
enum { UV_ORIGIN = 1 };

typedef struct resolver {
  const np_type *type;
  np_ares *core; /* NULL: closed, or the default one */
  bool is_default;
  char servers[128]; /* for reports, maybe cut */
} resolver;

typedef struct asking {
  const np_type *type;
  resolver *resolver;
  np_node waiter; /* np_waiter.node of the task, while it waits */
  np_asked *asked;
  uint64_t deadline_ns;
} asking;

static const np_type resolver_type;

/* ---- a question -------------------------------------------------------- */

static void forget(asking *a) {
  if (a->asked) np_asked_close(a->asked);
  a->asked = NULL;
}

static int f_asking_gc(lua_State *L) {
  forget(lua_touserdata(L, 1));
  return 0;
}

static const luaL_Reg asking_meta[] = {{"__gc", f_asking_gc}, {NULL, NULL}};
static const np_type asking_type = {.name = "neap.dns.asking", .meta = asking_meta};

static void on_answer(void *owner) {
  np_waiter *w = np_waiter_first(&((asking *)owner)->waiter);
  if (w) np_waiter_poke(w);
}

static void abort_wait(np_task *t, void *obj) {
  np_waiter_forget(t, obj);
  forget(obj);
}

static int describe_wait(void *obj, char *buf, size_t size) {
  asking *a = obj;
  return snprintf(buf, size, "from %s: %s", a->resolver->servers,
                  a->asked ? np_asked_what(a->asked) : "");
}

static const np_waitkind answer_wait = {
  .what = "DNS answer", .outside = true, .abort = abort_wait, .describe = describe_wait};

static int core_of(lua_State *L, resolver *r, np_ares **out) {
  if (r->is_default) return np_ares_default(np_loop_of(L), out);
  *out = r->core;
  return r->core ? 0 : NP_ECLOSED;
}

static int begin(lua_State *L, asking *a) {
  np_ares *core;
  size_t len;
  const char *query = lua_tolstring(L, AT_QUERY, &len);
  int r = core_of(L, a->resolver, &core);
  if (r < 0) return r;
  return np_ares_ask(core, query, len, lua_tostring(L, AT_WHAT), on_answer, a, &a->asked);
}

static int k_ask(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  asking *a = lua_touserdata(L, AT_ASKING);
  const void *bytes;
  size_t len;
  int r = np_woken(L);
  if (r == 0 && !a->asked) r = begin(L, a);
  if (r == 0) r = np_asked_answer(a->asked, &bytes, &len);
  if (r == -EAGAIN) {
    np_waiter_join(np_task_of(L), &a->waiter);
    return np_wait(L, &answer_wait, a, a->deadline_ns, 0, k_ask);
  }
  if (r == 0) lua_pushlstring(L, bytes, len);
  forget(a);
  return r < 0 ? np_fail(L, r, "resolve %s", lua_tostring(L, AT_WHAT)) : 1;
}

/* resolver:ask(query, what [, {timeout = seconds}]) -> answer
 *
 * Sends a DNS message, whose OPT record is its last, and waits for the answer to it, both as bytes;
 * `what` stands in messages. nil, message, code: SERVFAIL, REFUSED, NOTIMP (every server said so),
 * ETIMEDOUT, ECONNREFUSED, EBADMSG, ECANCELED (closed), ENOBUFS (too many at once). */
static int f_ask(lua_State *L) {
  static const char *const known[] = {"timeout", NULL};
  resolver *r = np_check_object(L, AT_RESOLVER, &resolver_type);
  size_t len;
  luaL_checklstring(L, AT_QUERY, &len);
  luaL_argcheck(L, len >= 12 && len <= UINT16_MAX, AT_QUERY, "a DNS message expected");
  luaL_checkstring(L, AT_WHAT);
  lua_settop(L, AT_OPTIONS);
  np_check_options(L, AT_OPTIONS, known);
  uint64_t deadline_ns = np_deadline_opt(L, AT_OPTIONS, -1);
  asking *a = np_new_object(L, &asking_type, sizeof *a, 0);
  np_node_init(&a->waiter);
  a->resolver = r;
  a->deadline_ns = deadline_ns;
  np_op_begin(L, "resolve");
  if (np_slice_over(L)) return np_give_way(L, 0, k_ask);
  return k_ask(L, LUA_OK, 0);
}

/* ---- resolvers --------------------------------------------------------- */

/* resolver:close() -> true: what it is asked ends with "closed". The default one stays.
 * Idempotent. */
static int f_close(lua_State *L) {
  resolver *r = np_check_object(L, 1, &resolver_type);
  np_ares *core = r->core;
  r->core = NULL;
  if (core) np_ares_close(core);
  lua_pushboolean(L, 1);
  return 1;
}

static int f_gc(lua_State *L) {
  resolver *r = np_check_object(L, 1, &resolver_type);
  char what[sizeof r->servers + 16];
  if (!r->core) return 0;
  snprintf(what, sizeof what, "resolver %s", r->servers);
  np_origin_warn(L, 1, UV_ORIGIN, what);
  return f_close(L);
}

static int f_tostring(lua_State *L) {
  resolver *r = np_check_object(L, 1, &resolver_type);
  lua_pushfstring(L, "neap.resolver{%s%s}", r->servers, r->core || r->is_default ? "" : " closed");
  return 1;
}

static const luaL_Reg methods[] = {{"ask", f_ask}, {"close", f_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {
  {"__gc", f_gc}, {"__close", f_close}, {"__tostring", f_tostring}, {NULL, NULL}};
static const np_type resolver_type = {.name = "neap.resolver", .methods = methods, .meta = meta};

static resolver *push_resolver(lua_State *L, const char *servers) {
  resolver *r = np_new_object(L, &resolver_type, sizeof *r, UV_ORIGIN);
  snprintf(r->servers, sizeof r->servers, "%s", servers);
  np_origin_set(L, -1, UV_ORIGIN);
  return r;
}

/* open(servers, timeout_ms, tries, edns_size, tcp) -> resolver; servers as c-ares has them, nil:
 * those of the system. */
static int f_open(lua_State *L) {
  np_aresopts o = {
    .servers = luaL_optstring(L, 1, NULL),
    .timeout_ms = (int)luaL_checkinteger(L, 2),
    .tries = (int)luaL_checkinteger(L, 3),
    .edns_size = (int)luaL_checkinteger(L, 4),
    .tcp = lua_toboolean(L, 5),
  };
  resolver *r = push_resolver(L, o.servers ? o.servers : "/etc/resolv.conf");
  int err = np_ares_open(np_loop_of(L), &o, &r->core);
  return err < 0 ? np_fail(L, err, "resolver at %s", r->servers) : 1;
}

int np_opt_resolver(lua_State *L, int idx, np_ares **out) {
  int err = 0;
  *out = NULL;
  if (lua_isnoneornil(L, idx)) return 0;
  lua_getfield(L, idx, "resolver");
  resolver *r = np_test_object(L, -1, &resolver_type);
  const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (r) err = core_of(L, r, out);
  else if (strcmp(s, "c-ares") == 0) err = np_ares_default(np_loop_of(L), out);
  else if (strcmp(s, "system") != 0 && !lua_isnil(L, -1))
    luaL_argerror(L, idx, "option 'resolver': 'system', 'c-ares' or a resolver expected");
  lua_pop(L, 1);
  return err;
}

int luaopen_neap_dns_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"open", f_open}, {NULL, NULL}};
  np_type_init(L, &asking_type);
  luaL_newlib(L, functions);
  push_resolver(L, "/etc/resolv.conf")->is_default = true;
  lua_setfield(L, -2, "default");
  np_push_metatable(L, &resolver_type);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "methods"); /* for methods written in Lua: stdlib/dns/resolve.lua */
  lua_pop(L, 1);
  return 1;
}
