/* Listeners for scripts: listen, accept, accepts.
 *
 * Tasks that wait in accept stand in a queue; an event of the core wakes as many as it expects connections, and each
 * takes its own from the kernel.  Addresses are literal here: names are resolved above. */
#include "bindings/listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/dgram.h"
#include "bindings/option.h"
#include "bindings/origin.h"
#include "bindings/select.h"
#include "bindings/sockopt.h"
#include "bindings/stream.h"
#include "core/error.h"
#include "core/listener.h"

enum {
  BACKLOG = 4096,       /* the kernel cuts it to net.core.somaxconn */
  BACKLOG_MAX = 65535,
  PORT_TRIES = 16,      /* for one free port on both families of a name */
  SYSTEMD_FIRST = 3,    /* SD_LISTEN_FDS_START */
  SYSTEMD_MAX = 1024,   /* what LISTEN_FDS may claim */
};

typedef struct listener {
  const np_type *type;
  np_listener *core; /* NULL: closed */
  np_node waiters;   /* np_waiter of tasks in accept */
  lua_State *main;   /* for warnings */
  bool records;      /* SOCK_SEQPACKET: accepts record sockets */
  uint8_t streak;    /* failures in a row */
} listener;

enum { UV_ORIGIN = 1, UV_ADDRESSES = 2, UVS = 2 };

static const np_type listener_type;

static listener *check(lua_State *L) { return np_check_object(L, 1, &listener_type); }

/* ---- addresses, as text ---- */

static void push_address(lua_State *L, int fd) {
  char buf[NP_ADDR_MAX];
  np_sockaddr a;
  int scheme = np_socket_scheme(fd);
  if (scheme < 0 || np_socket_local(fd, &a) < 0) {
    lua_pushfstring(L, "fd:%d", fd);
    return;
  }
  np_addr_print((np_scheme)scheme, (struct sockaddr *)&a.ss, a.len, buf, sizeof buf);
  lua_pushstring(L, buf);
}

static void remember_addresses(lua_State *L, int idx, np_listener *core) {
  idx = lua_absindex(L, idx);
  int n = np_listener_count(core);
  const char *mem = np_listener_mem_name(core);
  lua_createtable(L, mem ? 1 : n, 0);
  if (mem) {
    lua_pushfstring(L, "mem:%s", mem);
    lua_rawseti(L, -2, 1);
  }
  for (int i = 0; i < n; i++) {
    push_address(L, np_listener_fd(core, i));
    lua_rawseti(L, -2, i + 1);
  }
  lua_setiuservalue(L, idx, UV_ADDRESSES);
}

/* Pushes the first address; it survives the close. */
static const char *push_first(lua_State *L, int idx) {
  lua_getiuservalue(L, idx, UV_ADDRESSES);
  if (lua_istable(L, -1)) {
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  if (lua_type(L, -1) != LUA_TSTRING) {
    lua_pop(L, 1);
    lua_pushliteral(L, "(nothing)");
  }
  return lua_tostring(L, -1);
}

/* ---- the object ---- */

static void on_event(void *owner, int what) {
  listener *l = owner;
  if (what == NP_LISTENER_STARVED) {
    char buf[160];
    snprintf(buf, sizeof buf, "neap: no descriptor is left to accept with; %llu connections were turned away so far",
             (unsigned long long)np_listener_shed(l->core));
    lua_warning(l->main, buf, 0);
    return;
  }
  for (int n = np_listener_ready(l->core); n > 0 && np_node_linked(&l->waiters); n--)
    np_waiter_poke(np_waiter_first(&l->waiters));
  if (np_node_linked(&l->waiters)) np_listener_wait(l->core);
}

static listener *new_closed(lua_State *L) {
  listener *l = np_new_object(L, &listener_type, sizeof *l, UVS);
  np_node_init(&l->waiters);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  l->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  np_origin_set(L, -1, UV_ORIGIN);
  return l;
}

static int open_core(lua_State *L, listener *l) {
  int r = np_listener_new(np_loop_of(L), &l->core);
  if (r == 0) np_listener_own(l->core, on_event, l);
  return r;
}

static void close_listener(listener *l) {
  np_listener *core = l->core;
  l->core = NULL;
  while (np_node_linked(&l->waiters)) np_waiter_fail(np_waiter_first(&l->waiters), NP_ECLOSED);
  if (core) np_listener_close(core);
}

static int p_new(lua_State *L) {
  new_closed(L);
  return 1;
}

int np_push_fd_listener(lua_State *L, int fd) {
  if (!lua_checkstack(L, 8)) {
    close(fd);
    luaL_error(L, "stack overflow");
  }
  lua_pushcfunction(L, p_new);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    close(fd);
    lua_error(L);
  }
  listener *l = lua_touserdata(L, -1);
  int r = open_core(L, l);
  if (r < 0) close(fd);
  else r = np_listener_add(l->core, fd);
  if (r < 0) {
    close_listener(l);
    lua_pop(L, 1);
    return r;
  }
  l->records = np_socket_type(np_listener_fd(l->core, 0)) == SOCK_SEQPACKET;
  remember_addresses(L, -1, l->core);
  return 0;
}

/* ---- listen ---- */

typedef struct plan {      /* the arguments of listen, checked */
  np_addr addrs[NP_LISTEN_SOCKETS_MAX];
  int naddrs;
  np_setopt opts[NP_SETOPTS_MAX + 1];
  np_bindopts bind;
  bool v6only_given;
  /* of a failure: */
  int at;                  /* the address it happened on */
  const char *bad;         /* the option that failed */
  const char *why;         /* more than the code says */
} plan;

static const char *const known[] = { "backlog", "mode", NULL };

static void check_options(lua_State *L, int idx, plan *p) {
  int n = np_check_setopts(L, idx, known, p->opts);
  p->bind.opts = p->opts;
  p->bind.nopts = n;
  p->bind.mode = (int)np_opt_integer(L, idx, "mode", -1, 0, 07777);
  p->bind.backlog = (int)np_opt_integer(L, idx, "backlog", BACKLOG, 1, BACKLOG_MAX);
  for (int i = 0; i < n; i++)
    if (strcmp(p->opts[i].opt->name, "v6only") == 0) p->v6only_given = true;
}

/* Parses the address at the top of the stack. */
static int parse_one(lua_State *L, plan *p) {
  size_t len;
  const char *s = lua_tolstring(L, -1, &len);
  np_addr *a = &p->addrs[p->naddrs];
  int r = np_addr_parse(a, s, len, NP_TCP, &p->why);
  if (r < 0) return r;
  switch (a->scheme) {
    case NP_UDP: case NP_UNIX_DGRAM: case NP_RAW:
      p->why = "datagrams know no connections; use datagram()";
      return -EOPNOTSUPP;
    case NP_TLS:
      p->why = "TLS is not part of this build";
      return -EPROTONOSUPPORT;
    case NP_TCP:
      if (!a->literal) {
        p->why = "a name, not an address";
        return -EINVAL;
      }
      break;
    default:
      break;
  }
  p->naddrs++;
  return 0;
}

/* The address or list of addresses at stack index 1.  The strings stay anchored there. */
static int parse_all(lua_State *L, plan *p) {
  if (!lua_istable(L, 1)) {
    luaL_checkstring(L, 1);
    lua_pushvalue(L, 1);
    return parse_one(L, p);
  }
  lua_Integer n = luaL_len(L, 1);
  luaL_argcheck(L, n >= 1 && n <= NP_LISTEN_SOCKETS_MAX, 1, "a list of 1 to 16 addresses expected");
  for (lua_Integer i = 1; i <= n; i++) {
    luaL_argcheck(L, lua_geti(L, 1, i) == LUA_TSTRING, 1, "a list of address strings expected");
    int r = parse_one(L, p);
    if (r < 0) return r;
  }
  return 0;
}

/* `:80` is one socket for both families; where there is no IPv6 it is an IPv4 one. */
static int bind_any(plan *p, const np_addr *a) {
  np_sockaddr sa;
  np_bindopts o = p->bind;
  if (!p->v6only_given) {
    p->opts[o.nopts] = (np_setopt){ .opt = np_option_find("v6only"), .val = { .b = false } };
    if (p->opts[o.nopts].opt) o.nopts++;
  }
  int r = np_addr_sockaddr(a, true, &sa);
  if (r == 0) r = np_socket_bind(SOCK_STREAM, &sa, &o, &p->bad);
  if (r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL) return r;
  p->bad = NULL;
  r = np_addr_sockaddr(a, false, &sa);
  return r < 0 ? r : np_socket_bind(SOCK_STREAM, &sa, &p->bind, &p->bad);
}

static int bind_socket(plan *p, const np_addr *a) {
  np_sockaddr sa;
  if (a->scheme == NP_TCP && a->host_len == 0) return bind_any(p, a);
  int r = np_addr_sockaddr(a, true, &sa);
  return r < 0 ? r : np_socket_bind(np_scheme_type(a->scheme), &sa, &p->bind, &p->bad);
}

/* An inherited socket gets the options that were asked for; it was bound by somebody else. */
static int set_up_inherited(plan *p, int fd) {
  int cloexec = fcntl(fd, F_GETFD);
  if (cloexec < 0) return -errno;
  fcntl(fd, F_SETFD, cloexec | FD_CLOEXEC);
  for (int i = 0; i < p->bind.nopts; i++) {
    int r = np_option_set(fd, p->opts[i].opt, &p->opts[i].val);
    if (r < 0) {
      p->bad = p->opts[i].opt->name;
      return r;
    }
  }
  return fd;
}

/* The i-th name of LISTEN_FDNAMES; without that variable all are called "unknown" (sd_listen_fds_with_names(3)). */
static bool systemd_name_is(int i, const char *name, size_t len) {
  const char *s = getenv("LISTEN_FDNAMES");
  while (s && i-- > 0) {
    s = strchr(s, ':');
    if (s) s++;
  }
  if (!s) s = "unknown";
  return strcspn(s, ":") == len && memcmp(s, name, len) == 0;
}

static int listen_inherited(plan *p, np_listener *core, int fd) {
  int r = set_up_inherited(p, fd);
  return r < 0 ? r : np_listener_add(core, fd);
}

/* Socket activation: every descriptor of that name. */
static int listen_systemd(plan *p, np_listener *core, const np_addr *a) {
  const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
  int n = count ? atoi(count) : 0, found = 0;
  if (pid && strtol(pid, NULL, 10) != (long)getpid()) n = 0; /* meant for another process */
  if (n > SYSTEMD_MAX) n = SYSTEMD_MAX;
  for (int i = 0; i < n; i++) {
    if (!systemd_name_is(i, a->host, a->host_len)) continue;
    int r = listen_inherited(p, core, SYSTEMD_FIRST + i);
    if (r < 0) return r;
    found++;
  }
  if (found) return 0;
  p->why = n ? "no descriptor of that name in LISTEN_FDNAMES" : "no descriptors were passed (LISTEN_PID, LISTEN_FDS)";
  return -ENOENT;
}

static int listen_one(plan *p, np_listener *core, const np_addr *a) {
  switch (a->scheme) {
    case NP_MEM: return np_listener_add_mem(core, a->host, a->host_len, p->bind.backlog);
    case NP_FD: return listen_inherited(p, core, a->port);
    case NP_SYSTEMD: return listen_systemd(p, core, a);
    default: {
      int fd = bind_socket(p, a);
      return fd < 0 ? fd : np_listener_add(core, fd);
    }
  }
}

static int port_of(int fd) {
  np_sockaddr a;
  np_addr parsed;
  char buf[NP_ADDR_MAX];
  const char *why;
  if (np_socket_local(fd, &a) < 0) return 0;
  int n = np_addr_print(NP_TCP, (struct sockaddr *)&a.ss, a.len, buf, sizeof buf);
  return np_addr_parse(&parsed, buf, (size_t)n, NP_TCP, &why) < 0 ? 0 : parsed.port;
}

/* All of them, or none.  Port 0 of the second and later TCP addresses means the port the first was given; when somebody
 * else has that, *again says that another attempt makes sense. */
static int listen_all(plan *p, np_listener *core, bool *again) {
  int shared = 0;
  *again = false;
  for (p->at = 0; p->at < p->naddrs; p->at++) {
    np_addr a = p->addrs[p->at];
    bool any_port = a.scheme == NP_TCP && a.port == 0;
    if (a.scheme == NP_MEM && p->naddrs > 1) {
      p->why = "a mem: name stands alone";
      return -EINVAL;
    }
    if (any_port) a.port = shared;
    int r = listen_one(p, core, &a);
    *again = r == -EADDRINUSE && any_port && shared;
    if (r < 0) return r;
    if (any_port && !shared) shared = port_of(np_listener_fd(core, np_listener_count(core) - 1));
  }
  return 0;
}

/* On failure nothing is left behind. */
static int open_listener(lua_State *L, listener *l, plan *p) {
  for (int tries = PORT_TRIES;; tries--) {
    bool again = false;
    int r = open_core(L, l);
    if (r == 0) r = listen_all(p, l->core, &again);
    if (r == 0) return 0;
    close_listener(l);
    if (!again || tries == 0) return r;
  }
}

static int listen_failed(lua_State *L, const plan *p, int code) {
  if (lua_istable(L, 1)) lua_geti(L, 1, p->at + 1);
  else lua_pushvalue(L, 1);
  const char *addr = lua_tostring(L, -1);
  if (p->bad) return np_fail(L, code, "listen %s: option '%s'", addr, p->bad);
  if (!p->why) return np_fail(L, code, "listen %s", addr);
  return np_fail_text(L, np_error_name(code), "listen %s: %s", addr, p->why);
}

/* listen(addr, [opts]) -> listener, or nil, message, code.
 *
 * addr: a literal tcp address (":80" is both families), unix:, unix-seqpacket:, fd:, systemd: or mem: address, or a list
 * of them, where port 0 is the same port for all.  opts: backlog (4096, cut by the kernel to somaxconn; of mem: exact),
 * mode (permissions of an AF_UNIX path, an integer), and every socket option.  A stale AF_UNIX path is
 * replaced only if nobody answers on it.  Codes: EADDRINUSE, EADDRNOTAVAIL, EACCES, ENAMETOOLONG, EINVAL, EMFILE, ... */
static int f_listen(lua_State *L) {
  plan p;
  memset(&p, 0, sizeof p);
  lua_settop(L, 2);
  if (!lua_istable(L, 1)) luaL_checkstring(L, 1);
  check_options(L, 2, &p);
  int r = parse_all(L, &p);
  if (r < 0) {
    p.at = p.naddrs;
    return listen_failed(L, &p, r);
  }
  listener *l = new_closed(L);
  r = open_listener(L, l, &p);
  if (r < 0) return listen_failed(L, &p, r);
  l->records = np_listener_count(l->core) > 0 && np_socket_type(np_listener_fd(l->core, 0)) == SOCK_SEQPACKET;
  remember_addresses(L, -1, l->core);
  return 1;
}

/* ---- accept ---- */

static int wait_describe(void *obj, char *buf, size_t size) {
  listener *l = obj;
  np_object *o = l->core ? np_listener_object(l->core) : NULL;
  return o ? o->type->describe(o, buf, size) : 0;
}

static const np_waitkind accept_wait = { "accept", true, np_waiter_forget, wait_describe , .deaf = false};
static const np_waitkind accept_mem_wait = { "accept", false, np_waiter_forget, wait_describe , .deaf = false};

/* Pushes the connection: a stream or a record socket. 0 or a code, nothing pushed. */
static int push_accepted(lua_State *L, listener *l, const np_accepted *a) {
  if (a->mem) return np_push_transport_stream(L, a->mem);
  return l->records ? np_push_fd_dgram(L, a->fd) : np_push_fd_stream(L, a->fd);
}

enum { ACCEPT, ITERATE };

static int accept_failed(lua_State *L, listener *l, int code, lua_KContext ctx) {
  if (ctx == ITERATE && code == NP_ECLOSED) return 0;
  const char *addr = push_first(L, 1);
  if (ctx == ITERATE) return np_raise(L, code, "accept on %s", addr);
  return np_fail_code(L, code, &l->streak, "accept on %s", addr);
}

/* Stack: the listener, the deadline.  Past the deadline the kernel is asked once more, so a timeout of 0 polls. */
static int k_accept(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  listener *l = lua_touserdata(L, 1);
  int woken = np_woken(L);
  np_accepted a;
  lua_settop(L, 2);
  if (!l->core) return accept_failed(L, l, NP_ECLOSED, ctx);
  if (woken < 0 && woken != -ETIMEDOUT) return accept_failed(L, l, woken, ctx);
  int r = np_listener_accept(l->core, woken < 0, &a);
  if (r == -EAGAIN && woken == 0) {
    r = np_listener_wait(l->core);
    if (r < 0) return accept_failed(L, l, r, ctx);
    np_waiter_join(np_task_of(L), &l->waiters);
    const np_waitkind *kind = np_listener_mem_name(l->core) ? &accept_mem_wait : &accept_wait;
    return np_wait(L, kind, l, (uint64_t)lua_tointeger(L, 2), ctx, k_accept);
  }
  if (r == 0) r = push_accepted(L, l, &a);
  else if (r == -EAGAIN) r = woken;
  if (r < 0) return accept_failed(L, l, r, ctx);
  l->streak = 0;
  return 1;
}

static int start_accept(lua_State *L, uint64_t deadline, lua_KContext ctx) {
  np_op_begin(L, "accept");
  lua_settop(L, 1);
  lua_pushinteger(L, (lua_Integer)deadline);
  if (np_slice_over(L)) return np_give_way(L, ctx, k_accept);
  return k_accept(L, LUA_OK, ctx);
}

static const char *const accept_known[] = { "timeout", NULL };

static uint64_t accept_deadline(lua_State *L, int idx) {
  if (lua_isnoneornil(L, idx)) return NP_NEVER;
  np_check_options(L, idx, accept_known);
  return np_deadline_opt(L, idx, -1);
}

/* listener:accept([{timeout = seconds}]) -> stream (record socket for unix-seqpacket:), or nil, message, code: "ETIMEDOUT",
 * "ECANCELED" when the listener was closed by our side. Timeout 0 asks the kernel once. */
static int f_accept(lua_State *L) {
  check(L);
  return start_accept(L, accept_deadline(L, 2), ACCEPT);
}

/* The iterator's step; upvalue: the options table or nil. The control variable at index 2 is the previous connection. */
static int f_next(lua_State *L) {
  check(L);
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  return start_accept(L, accept_deadline(L, 2), ITERATE);
}

/* for conn in listener:accepts([{timeout = seconds per connection}]): ends when our side closes the listener, raises
 * everything else. */
static int f_accepts(lua_State *L) {
  check(L);
  accept_deadline(L, 2);
  lua_settop(L, 2);
  lua_pushcclosure(L, f_next, 1);
  lua_insert(L, 1);
  return 2;
}

/* ---- the rest ---- */

/* listener:close() -> true. Wakes the tasks in accept with nil, "closed", "ECANCELED". Connections in the backlog are
 * refused; the file of an AF_UNIX path stays (others may hold the socket) and is replaced by the next listen. */
static int f_close(lua_State *L) {
  close_listener(check(L));
  lua_pushboolean(L, 1);
  return 1;
}

/* listener:take() -> fd, ...: its sockets' numbers, the caller's from here on; the listener is closed.  nil, message,
 * "EOPNOTSUPP" for mem:. */
static int f_take(lua_State *L) {
  listener *l = check(L);
  if (!l->core) return np_fail(L, NP_ECLOSED, "take %s", push_first(L, 1));
  int n = np_listener_count(l->core);
  if (n == 0) return np_fail(L, -EOPNOTSUPP, "take %s", push_first(L, 1));
  luaL_checkstack(L, n, NULL);
  for (int i = 0; i < n; i++) lua_pushinteger(L, np_listener_take(l->core, 0));
  close_listener(l);
  return n;
}

/* listener:option(name [, value]): of all its sockets; reading asks the first. */
static int f_option(lua_State *L) {
  listener *l = check(L);
  char addr[NP_ADDR_MAX];
  snprintf(addr, sizeof addr, "%s", push_first(L, 1));
  lua_pop(L, 1);
  int n = l->core ? np_listener_count(l->core) : 0, results = 0;
  if (n == 0) return np_option_call(L, -1, 2, addr);
  if (lua_isnone(L, 3)) return np_option_call(L, np_listener_fd(l->core, 0), 2, addr);
  for (int i = 0; i < n && results <= 1; i++) {
    lua_settop(L, 3);
    results = np_option_call(L, np_listener_fd(l->core, i), 2, addr);
  }
  return results;
}

static int f_gc(lua_State *L) {
  listener *l = check(L);
  if (!l->core) return 0;
  char what[NP_ADDR_MAX + 16] = "listener ";
  wait_describe(l, what + 9, sizeof what - 9);
  np_origin_warn(L, 1, UV_ORIGIN, what);
  close_listener(l);
  return 0;
}

static int f_tostring(lua_State *L) {
  listener *l = check(L);
  int waiting = 0;
  for (np_node *n = l->waiters.next; n != &l->waiters; n = n->next) waiting++;
  const char *addr = push_first(L, 1);
  lua_pushfstring(L, l->core ? "neap.listener{%s waiting=%d}" : "neap.listener{%s closed}", addr, waiting);
  return 1;
}

/* Fields: address, addresses (a copy), fd (nil when closed or mem:), shed (connections turned away at EMFILE). */
static int f_index(lua_State *L) {
  listener *l = check(L);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "address") == 0) {
    push_first(L, 1);
    return 1;
  }
  if (strcmp(key, "addresses") == 0) {
    lua_getiuservalue(L, 1, UV_ADDRESSES);
    lua_newtable(L);
    for (lua_Integer i = 1, n = luaL_len(L, -2); i <= n; i++) {
      lua_rawgeti(L, -2, i);
      lua_rawseti(L, -2, i);
    }
    return 1;
  }
  if (strcmp(key, "fd") == 0 && l->core && np_listener_count(l->core) > 0) {
    lua_pushinteger(L, np_listener_fd(l->core, 0));
    return 1;
  }
  if (strcmp(key, "shed") == 0) {
    lua_pushinteger(L, l->core ? (lua_Integer)np_listener_shed(l->core) : 0);
    return 1;
  }
  return 0;
}

/* ---- select ---- */

static const np_selop ops[] = { { "accept", false }, { NULL, false } };

static int sel_poll(lua_State *L, void *obj, int op, int at) {
  (void)op, (void)at;
  listener *l = obj;
  np_accepted a;
  if (!l->core) return np_fail(L, NP_ECLOSED, "accept");
  int r = np_listener_accept(l->core, false, &a);
  if (r == -EAGAIN) return NP_NOT_READY;
  if (r == 0) r = push_accepted(L, l, &a);
  return r < 0 ? np_fail(L, r, "accept") : 1;
}

/* A watcher that cannot be set up shows in the next plain accept. */
static void sel_add(void *obj, int op, np_waiter *w) {
  (void)op;
  listener *l = obj;
  np_node_append(&l->waiters, &w->node);
  np_listener_wait(l->core);
}

static const np_selectable selectable = { ops, true, sel_poll, sel_add, NULL };

/* ---- the tables ---- */

static const luaL_Reg methods[] = {
  { "accept", f_accept }, { "accepts", f_accepts }, { "close", f_close },
  { "take", f_take },     { "option", f_option },   { NULL, NULL },
};

static const luaL_Reg meta[] = {
  { "__gc", f_gc }, { "__close", f_close }, { "__tostring", f_tostring }, { NULL, NULL },
};

static const np_type listener_type = { "neap.listener", methods, meta, f_index };

static const luaL_Reg functions[] = { { "listen", f_listen }, { NULL, NULL } };

int luaopen_neap_listener_core(lua_State *L);
int luaopen_neap_listener_core(lua_State *L) {
  np_type_init(L, &listener_type);
  np_selectable_set(L, &listener_type, &selectable);
  luaL_newlib(L, functions);
  return 1;
}
