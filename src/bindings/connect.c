/* neap.connect.core: connect(addr, opts) and resolve(name, opts).
 *
 * One userdata per call lies on the waiting task's stack and holds what is under way: first the
 * lookup, then the race. A deadline or cancellation ends that at once (the abort function); the
 * record of the race stays for the message. */
#include <netinet/in.h>
#include <string.h>

#include "bindings/ares.h"
#include "bindings/descriptor.h"
#include "bindings/dgram.h"
#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/select.h"
#include "bindings/sockopt.h"
#include "bindings/stream.h"
#include "bindings/task.h"
#include "core/connect.h"
#include "core/error.h"
#include "core/listener.h"
#include "core/resolve.h"

enum { AT_ADDRESS = 1, AT_OPTIONS, AT_SELF, AT_NAME };

typedef struct connecting {
  const np_type *type;
  np_node waiter;     /* np_waiter.node of the task, while it waits */
  np_resolve *lookup; /* while the name is looked up */
  np_connect *race;   /* from then on */
  uint64_t deadline_ns;
  np_addr addr;        /* its spans lie in the string at AT_ADDRESS */
  int family;          /* of resolve; AF_UNSPEC */
  bool begun;          /* the lookup or race was started */
  bool has_from, bare; /* bare: resolve was given a name, not an address */
  np_sockaddr from;
  int nopts;
  np_setopt opts[];
} connecting;

static void forget_lookup(connecting *c) {
  if (c->lookup) np_resolve_close(c->lookup);
  c->lookup = NULL;
}

static void release(connecting *c) {
  forget_lookup(c);
  if (c->race) np_connect_close(c->race);
  c->race = NULL;
}

static int f_gc(lua_State *L) {
  release(lua_touserdata(L, 1));
  return 0;
}

static const luaL_Reg meta[] = {{"__gc", f_gc}, {NULL, NULL}};
static const np_type connecting_type = {.name = "neap.connecting", .meta = meta};

/* The core tells: the lookup or the race has ended. */
static void on_event(void *owner) {
  np_waiter *w = np_waiter_first(&((connecting *)owner)->waiter);
  if (w) np_waiter_poke(w);
}

static void abort_wait(np_task *t, void *obj) {
  connecting *c = obj;
  np_waiter_forget(t, obj);
  forget_lookup(c);
  if (c->race) np_connect_stop(c->race, -ETIMEDOUT);
}

static int describe_wait(void *obj, char *buf, size_t size) {
  connecting *c = obj;
  return snprintf(buf, size, "%s %.*s:%d", np_scheme_name(c->addr.scheme), (int)c->addr.host_len,
                  c->addr.host, c->addr.port);
}

static const np_waitkind connect_wait = {
  .what = "connect", .outside = true, .abort = abort_wait, .describe = describe_wait};
static const np_waitkind resolve_wait = {
  .what = "resolve", .outside = true, .abort = abort_wait, .describe = describe_wait};

/* ---- texts ------------------------------------------------------------- */

static bool is_inet(np_scheme s) { return s == NP_TCP || s == NP_UDP || s == NP_TLS; }

/* Pushes the address as it prints, with its scheme: "tcp://foo:80". */
static void push_address(lua_State *L, const np_addr *a) {
  const char *scheme = np_scheme_name(a->scheme);
  lua_pushlstring(L, a->host, a->host_len);
  if (!is_inet(a->scheme)) {
    lua_pushfstring(L, "%s:%s", scheme, lua_tostring(L, -1));
  } else {
    bool v6 = memchr(a->host, ':', a->host_len) != NULL;
    lua_pushfstring(L, v6 ? "%s://[%s]:%d" : "%s://%s:%d", scheme, lua_tostring(L, -1), a->port);
  }
  lua_remove(L, -2);
}

/* "10.0.0.1:80" */
static void add_sockaddr(luaL_Buffer *b, const np_sockaddr *sa) {
  char text[NP_ADDR_MAX];
  np_addr_print(NP_TCP, (const struct sockaddr *)&sa->ss, sa->len, text, sizeof text);
  const char *rest = strstr(text, "://");
  luaL_addstring(b, rest ? rest + 3 : text);
}

/* Pushes "10.0.0.1:80 connection refused; [::1]:80 network unreachable": each candidate that was
 * tried. */
static void push_tried(lua_State *L, const np_connect *race) {
  int n;
  const np_candidate *cand = np_connect_candidates(race, &n);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0, shown = 0; i < n; i++) {
    if (cand[i].code == 0) continue;
    if (shown++) luaL_addstring(&b, "; ");
    add_sockaddr(&b, &cand[i].to);
    luaL_addchar(&b, ' ');
    luaL_addstring(&b, np_error_text(cand[i].code));
  }
  luaL_pushresult(&b);
}

static int fail_race(lua_State *L, connecting *c, int code, const char *bad) {
  const char *name = lua_tostring(L, AT_NAME);
  bool listed = !bad && !c->addr.literal && is_inet(c->addr.scheme);
  if (listed) push_tried(L, c->race);
  release(c);
  if (bad) return np_fail(L, code, "connect %s: option '%s'", name, bad);
  if (!listed) return np_fail(L, code, "connect %s", name);
  return np_fail_text(L, np_error_name(code), "connect %s: %s", name, lua_tostring(L, -1));
}

/* ---- connect ----------------------------------------------------------- */

static int socket_type(np_scheme s) {
  switch (s) {
  case NP_UDP:
  case NP_UNIX_DGRAM: return SOCK_DGRAM;
  case NP_UNIX_SEQPACKET: return SOCK_SEQPACKET;
  default: return SOCK_STREAM;
  }
}

static int start_race(lua_State *L, connecting *c, const np_sockaddr *to, int n) {
  np_connectopts o = {.type = socket_type(c->addr.scheme),
                      .from = c->has_from ? &c->from : NULL,
                      .opts = c->opts,
                      .nopts = c->nopts};
  int r = np_connect_open(np_loop_of(L), &o, to, n, on_event, c, &c->race);
  forget_lookup(c);
  return r;
}

/* From the lookup to the race, when it has answered: 0, -EAGAIN, or a failure. */
static int begin_race(lua_State *L, connecting *c) {
  const np_sockaddr *addrs;
  int n = np_resolve_result(c->lookup, &addrs);
  return n < 0 ? n : start_race(L, c, addrs, n);
}

static int wait_here(lua_State *L, connecting *c, const np_waitkind *kind, lua_KFunction k) {
  np_waiter_join(np_task_of(L), &c->waiter);
  return np_wait(L, kind, c, c->deadline_ns, 0, k);
}

static int push_connected(lua_State *L, connecting *c, int fd) {
  bool stream = socket_type(c->addr.scheme) == SOCK_STREAM;
  release(c);
  int r = stream ? np_push_fd_stream(L, fd) : np_push_fd_dgram(L, fd);
  return r < 0 ? np_fail(L, r, "connect %s", lua_tostring(L, AT_NAME)) : 1;
}

/* Starts the first phase, once: 0 or a failure. */
static int begin(lua_State *L, connecting *c) {
  const np_addr *a = &c->addr;
  if (c->begun) return 0;
  c->begun = true;
  if (is_inet(a->scheme)) {
    np_ares *via; /* now, not when the arguments were checked: it may have been closed since */
    int err = np_opt_resolver(L, AT_OPTIONS, &via);
    if (err < 0) return err;
    return np_resolve_open(np_loop_of(L), via, a->host, a->host_len, a->port, c->family, on_event,
                           c, &c->lookup);
  }
  np_sockaddr to;
  int r = np_addr_sockaddr(a, false, &to);
  return r < 0 ? r : start_race(L, c, &to, 1);
}

static int k_connect(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  connecting *c = lua_touserdata(L, AT_SELF);
  const char *bad, *name = lua_tostring(L, AT_NAME);
  int woken = np_woken(L);
  if (woken < 0 && c->race) return fail_race(L, c, woken, NULL);
  if (woken < 0)
    return np_fail(L, woken, c->begun ? "connect %s: looking the name up" : "connect %s", name);
  int r = begin(L, c);
  if (r == 0 && !c->race) r = begin_race(L, c);
  if (r == -EAGAIN) return wait_here(L, c, &connect_wait, k_connect);
  if (r < 0) {
    release(c);
    return np_fail(L, r, "connect %s", name);
  }
  int fd = np_connect_result(c->race, &bad);
  if (fd == -EAGAIN) return wait_here(L, c, &connect_wait, k_connect);
  return fd < 0 ? fail_race(L, c, fd, bad) : push_connected(L, c, fd);
}

/* Pushes the userdata of one call, at AT_SELF; its options are copied. */
static connecting *push_connecting(lua_State *L, const np_setopt *opts, int nopts) {
  connecting *c = np_new_object(L, &connecting_type, sizeof *c + (size_t)nopts * sizeof *opts, 0);
  np_node_init(&c->waiter);
  c->nopts = nopts;
  if (nopts) memcpy(c->opts, opts, (size_t)nopts * sizeof *opts);
  return c;
}

/* The `bind` option: false and the triple's three values pushed when it is no literal address. */
static bool read_bind(lua_State *L, connecting *c) {
  const char *why = NULL, *s = np_opt_string(L, AT_OPTIONS, "bind", NULL);
  np_addr a;
  if (!s) return true;
  int r = np_addr_parse(&a, s, strlen(s), c->addr.scheme, &why);
  if (r == 0 && a.scheme != c->addr.scheme) {
    np_fail_text(L, "EINVAL", "connect %s: bind address %s is of another kind",
                 lua_tostring(L, AT_NAME), s);
    return false;
  }
  if (r == 0)
    r = np_addr_sockaddr(
      &a, is_inet(a.scheme) && !a.host_len && memchr(c->addr.host, ':', c->addr.host_len),
      &c->from);
  c->has_from = r == 0;
  if (r == -EINVAL && !why) why = "not a literal address";
  if (r < 0)
    np_fail_text(L, np_error_name(r), "connect %s: bind address %s: %s", lua_tostring(L, AT_NAME),
                 s, why ? why : np_error_text(r));
  return r == 0;
}

/* mem: is connected at once or not at all. */
static int connect_mem(lua_State *L, const np_addr *a) {
  np_transport *t;
  int r = np_mem_connect(np_loop_of(L), a->host, a->host_len, &t);
  if (r == 0) r = np_push_transport_stream(L, t);
  return r < 0 ? np_fail(L, r, "connect mem:%s", a->host) : 1;
}

static bool connectable(np_scheme s) {
  return s == NP_TCP || s == NP_UDP || s == NP_UNIX || s == NP_UNIX_DGRAM || s == NP_UNIX_SEQPACKET;
}

/* connect(addr [, {timeout = seconds, bind = addr, resolver = "c-ares" or a resolver, socket
 * options ...}]) -> stream, datagram or record socket
 *
 * Waits until it is connected.  timeout: for the lookup and all attempts together, default none.
 * Errors: EINVAL (address), EPROTONOSUPPORT (no such scheme here), EAGAIN (mem: with a full
 * backlog), ENOTFOUND, EAI_* (name), ETIMEDOUT, and the kernel's of socket(2), bind(2),
 * connect(2). */
static int f_connect(lua_State *L) {
  static const char *const own[] = {"timeout", "bind", "resolver", NULL};
  np_setopt opts[NP_SETOPTS_MAX];
  np_addr a;
  size_t len;
  const char *why, *s = luaL_checklstring(L, AT_ADDRESS, &len);
  lua_settop(L, AT_OPTIONS);
  int nopts = np_check_setopts(L, AT_OPTIONS, own, opts);
  uint64_t deadline_ns = np_deadline_opt(L, AT_OPTIONS, -1);
  np_ares *via;
  np_opt_resolver(L, AT_OPTIONS, &via);
  np_opt_string(L, AT_OPTIONS, "bind", NULL);
  if (np_addr_parse(&a, s, len, NP_TCP, &why) < 0)
    return np_fail_text(L, "EINVAL", "connect %s: %s", s, why);
  if (a.scheme == NP_MEM) return connect_mem(L, &a);
  if (a.scheme == NP_FD) { /* whatever it is: the caller names a descriptor that it owns */
    int r = np_adopt(L, a.port);
    return r < 0 ? np_fail(L, r, "connect %s", s) : 1;
  }
  connecting *c = push_connecting(L, opts, nopts);
  c->addr = a;
  c->family = AF_UNSPEC;
  c->deadline_ns = deadline_ns;
  push_address(L, &a);
  if (!connectable(a.scheme))
    return np_fail(L, -EPROTONOSUPPORT, "connect %s", lua_tostring(L, AT_NAME));
  if (!read_bind(L, c)) return 3;
  np_op_begin(L, "connect");
  if (np_slice_over(L)) return np_give_way(L, 0, k_connect);
  return k_connect(L, LUA_OK, 0);
}

/* ---- resolve ----------------------------------------------------------- */

/* Pushes "::1" for a name, "tcp://[::1]:80" for an address. */
static void push_resolved(lua_State *L, const connecting *c, const np_sockaddr *sa) {
  char text[NP_ADDR_MAX];
  np_addr_print(c->addr.scheme, (const struct sockaddr *)&sa->ss, sa->len, text, sizeof text);
  if (!c->bare) {
    lua_pushstring(L, text);
    return;
  }
  char *host = strstr(text, "://") + 3, *end = strrchr(host, ':');
  if (*host == '[') {
    host++;
    end--;
  }
  lua_pushlstring(L, host, (size_t)(end - host));
}

static int k_resolve(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  connecting *c = lua_touserdata(L, AT_SELF);
  const np_sockaddr *addrs;
  int woken = np_woken(L);
  int n = woken < 0 ? woken : begin(L, c);
  if (n == 0) n = np_resolve_result(c->lookup, &addrs);
  if (n == -EAGAIN) return wait_here(L, c, &resolve_wait, k_resolve);
  if (n < 0) {
    forget_lookup(c);
    return np_fail(L, n, "resolve %s", lua_tostring(L, AT_ADDRESS));
  }
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    push_resolved(L, c, &addrs[i]);
    lua_rawseti(L, -2, i + 1);
  }
  forget_lookup(c);
  return 1;
}

static int check_family(lua_State *L) {
  const char *s = np_opt_string(L, AT_OPTIONS, "family", NULL);
  if (!s) return AF_UNSPEC;
  if (strcmp(s, "inet") == 0) return AF_INET;
  if (strcmp(s, "inet6") == 0) return AF_INET6;
  return luaL_argerror(L, AT_OPTIONS, "option 'family': 'inet' or 'inet6' expected");
}

/* "foo" and "::1" are names; "tcp://foo:80", "foo:80" and "[::1]:80" are addresses. */
static bool is_bare(const char *s) {
  const char *colon = strchr(s, ':');
  return !colon || (s[0] != '[' && strchr(colon + 1, ':') && !strstr(s, "://"));
}

/* resolve(name [, {timeout = seconds, family = "inet" | "inet6", resolver = as connect}]) -> list
 * of addresses
 *
 * A bare name gives literals ("::1", "127.0.0.1"), an address with a name gives addresses
 * ("tcp://[::1]:80"), in the order in which to try them (RFC 6724), at most NP_RESOLVE_ADDRS.
 * Errors: EINVAL, ENOTFOUND, EAI_*, ETIMEDOUT, ENAMETOOLONG, EPROTONOSUPPORT (the scheme has no
 * names). */
static int f_resolve(lua_State *L) {
  static const char *const known[] = {"timeout", "family", "resolver", NULL};
  np_addr a = {.scheme = NP_TCP};
  const char *why = "", *s = luaL_checklstring(L, AT_ADDRESS, &a.host_len);
  lua_settop(L, AT_OPTIONS);
  np_check_options(L, AT_OPTIONS, known);
  int family = check_family(L);
  np_ares *via;
  np_opt_resolver(L, AT_OPTIONS, &via);
  uint64_t deadline_ns = np_deadline_opt(L, AT_OPTIONS, -1);
  bool bare = is_bare(s);
  a.host = s;
  if (bare && a.host_len == 0) return np_fail_text(L, "EINVAL", "resolve: empty name");
  if (!bare && np_addr_parse(&a, s, a.host_len, NP_TCP, &why) < 0)
    return np_fail_text(L, "EINVAL", "resolve %s: %s", s, why);
  if (!is_inet(a.scheme)) return np_fail(L, -EPROTONOSUPPORT, "resolve %s", s);
  connecting *c = push_connecting(L, NULL, 0);
  c->addr = a;
  c->bare = bare;
  c->family = family;
  c->deadline_ns = deadline_ns;
  np_op_begin(L, "resolve");
  if (np_slice_over(L)) return np_give_way(L, 0, k_resolve);
  return k_resolve(L, LUA_OK, 0);
}

int luaopen_neap_connect_core(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"connect", f_connect}, {"resolve", f_resolve}, {NULL, NULL}};
  np_type_init(L, &connecting_type);
  luaL_newlib(L, functions);
  return 1;
}
