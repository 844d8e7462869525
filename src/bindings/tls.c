/* neap.tls.core: contexts, putting TLS on a stream, and waiting for its handshake. */
#include "bindings/tls.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/stream_impl.h"
#include "core/error.h"

/* ---- contexts ---- */

struct np_tls_box {
  const np_type *type;
  np_tls_context *core;
};

static int context_gc(lua_State *L) {
  np_tls_box *c = lua_touserdata(L, 1);
  if (c->core) np_tls_context_unref(c->core);
  c->core = NULL;
  return 0;
}

static int context_tostring(lua_State *L) {
  lua_pushfstring(L, "neap.tls.context{%p}", lua_topointer(L, 1));
  return 1;
}

static const np_type context_type = {
  .name = "neap.tls.context",
  .meta = (const luaL_Reg[]){{"__gc", context_gc}, {"__tostring", context_tostring}, {NULL, NULL}},
};

np_tls_context *np_tls_box_core(const np_tls_box *box) { return box->core; }

np_tls_box *np_check_tls_box(lua_State *L, int idx) {
  np_tls_box *c = np_check_object(L, idx, &context_type);
  luaL_argcheck(L, c->core, idx, "an unfinished context");
  return c;
}

static const char *const known[] = {"server",   "cert",        "key",         "password", "ca",
                                    "verify",   "min_version", "max_version", "alpn",     "ciphers",
                                    "ask_name", "tickets",     NULL};

enum { TICKET_SECRET_MIN = 32 };

static int bad_option(lua_State *L, const char *key, const char *want) {
  return luaL_argerror(L, 1, lua_pushfstring(L, "option '%s': %s expected", key, want));
}

static int check_version(lua_State *L, const char *key) {
  const char *v = np_opt_string(L, 1, key, NULL);
  if (!v) return 0;
  if (strcmp(v, "1.2") == 0) return NP_TLS_1_2;
  if (strcmp(v, "1.3") == 0) return NP_TLS_1_3;
  return bad_option(L, key, "\"1.2\" or \"1.3\"");
}

/* A client verifies unless it is told not to, a server if there is something to verify by. */
static int check_verify(lua_State *L, const np_tls_config *c) {
  int type = lua_getfield(L, 1, "verify"), mode = -1;
  const char *word = type == LUA_TSTRING ? lua_tostring(L, -1) : "";
  bool automatic = c->server ? c->ca != NULL : true;
  if (type == LUA_TNIL) mode = automatic ? NP_TLS_VERIFY_REQUIRE : NP_TLS_VERIFY_NONE;
  else if (type == LUA_TBOOLEAN)
    mode = lua_toboolean(L, -1) ? NP_TLS_VERIFY_REQUIRE : NP_TLS_VERIFY_NONE;
  else if (strcmp(word, "require") == 0) mode = NP_TLS_VERIFY_REQUIRE;
  else if (c->server && strcmp(word, "request") == 0) mode = NP_TLS_VERIFY_REQUEST;
  lua_pop(L, 1);
  if (mode < 0)
    bad_option(L, "verify",
               c->server ? "true, false, \"require\" or \"request\"" : "true or false");
  if (c->server && mode != NP_TLS_VERIFY_NONE && !c->ca)
    luaL_argerror(L, 1, "option 'verify': a server needs 'ca' to check clients by");
  return mode;
}

/* {"h2", "http/1.1"} -> the wire form, as a string on the stack. */
static void check_alpn(lua_State *L, np_tls_config *c) {
  luaL_Buffer b;
  int type = lua_getfield(L, 1, "alpn");
  if (type == LUA_TNIL) return;
  if (type != LUA_TTABLE) bad_option(L, "alpn", "a list of names");
  int list = lua_gettop(L);
  lua_Integer n = luaL_len(L, list);
  luaL_buffinit(L, &b);
  for (lua_Integer i = 1; i <= n; i++) {
    size_t len = 0;
    const char *s = lua_geti(L, list, i) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (len < 1 || len > 255 || luaL_bufflen(&b) > 4000)
      bad_option(L, "alpn", "a list of names of 1 to 255 bytes");
    lua_pop(L, 1); /* the list keeps it */
    luaL_addchar(&b, (char)len);
    luaL_addlstring(&b, s, len);
  }
  luaL_pushresult(&b);
  c->alpn = lua_tolstring(L, -1, &c->alpn_len);
  if (n == 0) bad_option(L, "alpn", "a list of at least one name");
}

/* false: none; a secret that the keys are made of. It stays on the stack. */
static void check_tickets(lua_State *L, np_tls_config *c) {
  int type = lua_getfield(L, 1, "tickets");
  if (type == LUA_TSTRING) c->tickets = lua_tolstring(L, -1, &c->tickets_len);
  else if (type == LUA_TBOOLEAN) c->no_tickets = !lua_toboolean(L, -1);
  else if (type != LUA_TNIL) bad_option(L, "tickets", "a secret or a boolean");
  if (type != LUA_TNIL && !c->server)
    luaL_argerror(L, 1, "option 'tickets': a server gives them, a client takes them");
  if (c->tickets && c->tickets_len < TICKET_SECRET_MIN)
    bad_option(L, "tickets", "a secret of at least 32 bytes");
}

static const char *opt_text(lua_State *L, const char *key) {
  const char *s = np_opt_string(L, 1, key, NULL);
  if (s && !*s) bad_option(L, key, "a path or PEM text");
  return s;
}

static void check_config(lua_State *L, np_tls_config *c) {
  np_check_options(L, 1, known);
  *c = (np_tls_config){
    .server = np_opt_boolean(L, 1, "server", false),
    .cert = opt_text(L, "cert"),
    .key = opt_text(L, "key"),
    .password = np_opt_string(L, 1, "password", NULL),
    .ca = opt_text(L, "ca"),
    .min_version = check_version(L, "min_version"),
    .max_version = check_version(L, "max_version"),
    .ciphers = np_opt_string(L, 1, "ciphers", NULL),
    .ask_name = np_opt_boolean(L, 1, "ask_name", false),
  };
  c->verify = check_verify(L, c);
  check_alpn(L, c);
  check_tickets(L, c);
  if (c->key && !c->cert) bad_option(L, "cert", "the certificate that belongs to 'key'");
  if (c->max_version && c->min_version > c->max_version)
    bad_option(L, "max_version", "a version not below 'min_version'");
}

static int context_failed(lua_State *L, int code, const char *why) {
  if (!*why) return np_fail(L, code, "tls context");
  return np_fail_text(L, np_error_name(code), "tls context: %s", why);
}

/* context(options[, old]): a context; with `old`, that one is changed: connections to come use what
 * the options say, those that are use what they began with. */
static int f_context(lua_State *L) {
  np_tls_config config;
  char why[NP_TLS_REASON_MAX];
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  np_tls_box *c = lua_isnil(L, 2) ? NULL : np_check_object(L, 2, &context_type);
  check_config(L, &config);
  if (c) lua_pushvalue(L, 2);
  else c = np_new_object(L, &context_type, sizeof *c, 0);
  np_tls_context *core;
  int r = np_tls_context_new(&config, &core, why);
  if (r < 0) return context_failed(L, r, why);
  if (c->core) {
    if (config.server) np_tls_context_keep_tickets(core, c->core);
    np_tls_context_unref(c->core);
  }
  c->core = core;
  return 1;
}

/* ---- on a stream ---- */

/* put(stream, context[, name[, session[, unread]]]): true, TLS is on the stream; or the triple.
 * Unread bytes are refused unless `unread`: a peer that speaks TLS waits with them. */
static int f_put(lua_State *L) {
  stream *u = np_stream_self(L);
  np_tls_box *c = np_check_tls_box(L, 2);
  const char *name = luaL_optstring(L, 3, NULL), *session = luaL_optstring(L, 4, NULL);
  np_stream_check_free(L, u);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "start TLS on");
  if (np_stream_error(u->s)) return np_stream_failed(L, u, np_stream_error(u->s), "start TLS on");
  size_t unread = np_stream_in(u->s);
  if (unread > 0 && !lua_toboolean(L, 5))
    return np_fail_text(L, "EPROTO", "start TLS on %s: %d bytes of plaintext came after the answer",
                        np_stream_name(L, u), (int)unread);
  int r = np_tls_put(u->s, c->core, name, session);
  if (r < 0) return np_fail(L, r, "start TLS on %s", np_stream_name(L, u));
  lua_pushboolean(L, 1);
  return 1;
}

/* use(stream, context or nil): the answer to the client's name. */
static int f_use(lua_State *L) {
  stream *u = np_stream_self(L);
  np_tls_context *c = lua_isnoneornil(L, 2) ? NULL : np_check_tls_box(L, 2)->core;
  np_transport *t = u->s ? np_tls_of(u->s) : NULL;
  if (t) np_tls_use(t, c); /* a failure is told by the next handshake */
  return 0;
}

/* A userdata at AT_SHAKE of the waiting task's stack: holds the stream until the handshake has
 * ended. */
enum { AT_STREAM = 1, AT_DEADLINE = 2, AT_SHAKE = 3 };
typedef struct shake {
  np_holder holder;
  stream *u;
  np_transport *t; /* NULL: over */
  np_task *task;   /* waits; NULL: was woken */
  int code;        /* why it is over: NP_ECLOSED, the deadline's, … */
} shake;

static void let_go(shake *h) {
  if (!h->t) return;
  np_tls_on_handshake(h->t, NULL, NULL);
  h->t = NULL;
  h->u->holder = NULL;
}

static void wake(shake *h) {
  np_task *t = h->task;
  h->task = NULL;
  if (t) np_task_wake(t);
}

static void on_news(void *owner) { wake(owner); }

static void on_closed(np_holder *holder) {
  shake *h = np_container(holder, shake, holder);
  h->code = NP_ECLOSED;
  let_go(h);
  wake(h);
}

static int shake_gc(lua_State *L) {
  let_go(lua_touserdata(L, 1));
  return 0;
}

static void shake_abort(np_task *t, void *obj) {
  shake *h = obj;
  h->task = NULL;
  h->code = np_task_cause(t);
  let_go(h);
}
static int shake_describe(void *obj, char *buf, size_t size) {
  return np_stream_describe(((shake *)obj)->u, buf, size);
}
static const np_waitkind shake_wait = {"handshake", true, shake_abort, shake_describe, false};
static const np_waitkind shake_wait_inside = {"handshake", false, shake_abort, shake_describe,
                                              false};

static int shake_failed(lua_State *L, shake *h, int code) {
  stream *u = h->u;
  np_stream_name(L, u); /* first: a finalizer may close it meanwhile */
  const char *why = u->s && h->t ? np_transport_reason(np_stream_transport(u->s)) : NULL;
  if (u->s && h->t) np_stream_fail(u->s, code); /* not at the deadline */
  let_go(h);
  if (code == NP_ECLOSED) return np_fail_closed(L, &u->streak);
  if (why)
    return np_fail_text(L, np_error_name(code), "handshake %s: %s", lua_tostring(L, -1), why);
  return np_fail(L, code, "handshake %s", lua_tostring(L, -1));
}

static int k_shake(lua_State *L, int status, lua_KContext ctx) {
  shake *h = lua_touserdata(L, AT_SHAKE);
  int woken = np_woken(L);
  (void)status, (void)ctx;
  int r = h->t ? np_tls_handshake(h->t) : h->code;
  if (r == -EAGAIN && woken == 0) {
    h->task = np_task_of(L);
    return np_wait(L, np_stream_inside(h->u->s) ? &shake_wait_inside : &shake_wait, h,
                   (uint64_t)lua_tointeger(L, AT_DEADLINE), 0, k_shake);
  }
  if (r == -EAGAIN) {
    let_go(h);
    r = woken;
  }
  if (r < 0) return shake_failed(L, h, r);
  np_transport *t = h->t;
  let_go(h);
  lua_pushboolean(L, r == 0);
  lua_pushstring(L, r == 0 ? NULL : np_tls_client_name(t));
  return 2;
}

static void push_shake(lua_State *L, stream *u) {
  shake *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (shake){.holder = {"in the TLS handshake of", on_closed}, .u = u};
  if (luaL_newmetatable(L, "neap.tls.shake")) {
    lua_pushcfunction(L, shake_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
}

/* handshake(stream, seconds): true when it is done; false, name (or nil) when a server has to
 * choose a context (use, then again); or the triple. A failure ends the stream, a deadline does
 * not. */
static int f_handshake(lua_State *L) {
  stream *u = np_stream_self(L);
  uint64_t ns = lua_isnoneornil(L, 2) ? NP_NEVER : np_check_seconds(L, 2);
  np_op_begin(L, "handshake");
  np_stream_check_free(L, u);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "handshake");
  if (!np_tls_of(u->s)) return np_fail(L, -EPROTOTYPE, "handshake %s", np_stream_name(L, u));
  lua_settop(L, 1);
  lua_pushinteger(L, (lua_Integer)np_deadline_after(np_loop_of(L), ns));
  push_shake(L, u);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "handshake"); /* by a finalizer */
  shake *h = lua_touserdata(L, AT_SHAKE);
  h->t = np_tls_of(u->s);
  u->holder = &h->holder;
  np_tls_on_handshake(h->t, on_news, h);
  return k_shake(L, LUA_OK, 0);
}

/* base64(bytes): text (RFC 4648). */
static int f_base64(lua_State *L) {
  size_t n;
  const char *p = luaL_checklstring(L, 1, &n);
  luaL_argcheck(L, n <= INT_MAX / 2, 1, "too long");
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, (n + 2) / 3 * 4 + 1);
  luaL_pushresultsize(&b, (size_t)np_base64(p, n, out));
  return 1;
}

int luaopen_neap_tls_core(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"context", f_context},     {"put", f_put},       {"use", f_use},
    {"handshake", f_handshake}, {"base64", f_base64}, {NULL, NULL},
  };
  np_type_init(L, &context_type);
  luaL_newlib(L, functions);
  return 1;
}
