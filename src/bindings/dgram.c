/* Datagram and record sockets for scripts: UDP, AF_UNIX datagrams, SOCK_SEQPACKET, raw.
 *
 * Several tasks may receive from and send on one socket; each message goes to one of them, in the order in which
 * they came.  The addresses last seen are remembered as text and as bytes, so an echo neither prints nor
 * parses.  Destinations are literal here; a name goes through the resolver that the Lua face sets. */
#include "bindings/dgram.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bindings/descriptor.h"
#include "bindings/option.h"
#include "bindings/origin.h"
#include "bindings/select.h"
#include "bindings/sockopt.h"
#include "core/cond.h"
#include "core/dgram.h"
#include "core/error.h"

typedef struct dgram {
  const np_type *type;
  np_dgram *core;      /* NULL: closed */
  np_node readers, writers;
  np_scheme scheme;
  bool connected;
  bool warned;         /* descriptors nobody asked for were closed and that was said */
  uint8_t streak;      /* failures in a row */
  double timeout;      /* default of each wait, seconds; negative: none */
  np_sockaddr to;      /* what the text in UV_TO means; len 0: nothing */
  np_sockaddr from;    /* whose text is in UV_FROM; len 0: nobody's */
} dgram;

enum { UV_ORIGIN = 1, UV_ADDRESS, UV_PEER, UV_TO, UV_FROM, UVS = UV_FROM };

static const np_type dgram_type;
static const char resolver_key; /* registry: the function that makes a destination literal */

static dgram *check(lua_State *L) { return np_check_object(L, 1, &dgram_type); }

/* ---- the object ---- */

static void poke_first(np_node *queue) {
  if (np_node_linked(queue)) np_waiter_poke(np_waiter_first(queue));
}

/* The first reader is woken and passes it on while there is more; writers all try again: they may have
 * different receivers. */
static void on_event(void *owner, int what) {
  dgram *d = owner;
  if (what & NP_DGRAM_READ) poke_first(&d->readers);
  if (what & NP_DGRAM_WRITE)
    while (np_node_linked(&d->writers)) poke_first(&d->writers);
}

static dgram *new_closed(lua_State *L) {
  dgram *d = np_new_object(L, &dgram_type, sizeof *d, UVS);
  np_node_init(&d->readers);
  np_node_init(&d->writers);
  d->timeout = -1;
  np_origin_set(L, -1, UV_ORIGIN);
  return d;
}

static void push_sockaddr(lua_State *L, np_scheme scheme, const np_sockaddr *a) {
  char buf[NP_ADDR_MAX];
  np_addr_print(scheme, (const struct sockaddr *)&a->ss, a->len, buf, sizeof buf);
  lua_pushstring(L, buf);
}

/* Prints the addresses of the socket into the user values of the object at the top of the stack. */
static void remember_addresses(lua_State *L, dgram *d) {
  np_sockaddr a;
  int idx = lua_gettop(L), fd = np_dgram_fd(d->core);
  if (np_socket_local(fd, &a) == 0) {
    push_sockaddr(L, d->scheme, &a);
    lua_setiuservalue(L, idx, UV_ADDRESS);
  }
  d->connected = np_socket_peer(fd, &a) == 0;
  if (!d->connected) return;
  push_sockaddr(L, d->scheme, &a);
  lua_setiuservalue(L, idx, UV_PEER);
}

/* Assumes ownership of fd, also on failure; the closed object is at the top of the stack. */
static int open_with(lua_State *L, dgram *d, int fd) {
  int r = np_dgram_new(np_loop_of(L), fd, &d->core);
  if (r < 0) return r;
  np_dgram_own(d->core, on_event, d);
  d->scheme = np_dgram_scheme(d->core);
  remember_addresses(L, d);
  return 0;
}

static int p_new(lua_State *L) {
  new_closed(L);
  return 1;
}

int np_push_fd_dgram(lua_State *L, int fd) {
  if (!lua_checkstack(L, 8)) {
    close(fd);
    luaL_error(L, "stack overflow");
  }
  lua_pushcfunction(L, p_new);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    close(fd);
    lua_error(L);
  }
  int r = open_with(L, lua_touserdata(L, -1), fd);
  if (r < 0) lua_pop(L, 1);
  return r;
}

static void wake_all(dgram *d) {
  while (np_node_linked(&d->readers)) np_waiter_fail(np_waiter_first(&d->readers), NP_ECLOSED);
  while (np_node_linked(&d->writers)) np_waiter_fail(np_waiter_first(&d->writers), NP_ECLOSED);
}

static int take_core(dgram *d) {
  np_dgram *core = d->core;
  d->core = NULL;
  wake_all(d);
  return core ? np_dgram_take(core) : -1;
}

/* For messages: where this socket is, else whom it talks to. */
static const char *push_name(lua_State *L, dgram *d) {
  int which = d->connected ? UV_PEER : UV_ADDRESS;
  if (lua_getiuservalue(L, 1, which) != LUA_TSTRING) {
    lua_pop(L, 1);
    lua_pushfstring(L, "%s:", np_scheme_name(d->scheme));
  }
  return lua_tostring(L, -1);
}

/* ---- datagram() ---- */

typedef struct plan { /* the arguments of datagram, checked */
  bool bound, connect, info, v6only_given;
  int raw;            /* protocol of a raw socket; -1: it is none */
  np_addr at, peer;
  np_setopt opts[NP_SETOPTS_MAX + 1];
  np_bindopts bind;
  const char *bad;    /* of a failure: the option */
  const char *why;    /* more than the code says */
  const char *where;  /* the address it is about */
} plan;

static const char *const known[] = { "connect", "info", "mode", "timeout", NULL };

static int parse(lua_State *L, int idx, np_addr *a, plan *p) {
  size_t len;
  p->where = lua_tolstring(L, idx, &len);
  int r = np_addr_parse(a, p->where, len, NP_UDP, &p->why);
  if (r < 0) return r;
  switch (a->scheme) {
    case NP_UDP: case NP_RAW:
      if (a->literal) return 0;
      p->why = "a name, not an address";
      return -EINVAL;
    case NP_UNIX_DGRAM: case NP_UNIX_SEQPACKET: case NP_FD:
      return 0;
    default:
      p->why = "not an address of datagrams or records";
      return -EPROTOTYPE;
  }
}

static int check_plan(plan *p) {
  if (!p->bound && !p->connect) return 0;
  np_scheme scheme = p->bound ? p->at.scheme : p->peer.scheme;
  if (p->bound && p->connect && p->at.scheme != p->peer.scheme) {
    p->why = "the two addresses differ in kind";
    return -EINVAL;
  }
  if (scheme == NP_UNIX_SEQPACKET && !p->connect) {
    p->why = "records need a peer: use listen() or {connect = ...}";
    return -EDESTADDRREQ;
  }
  p->raw = p->bound && scheme == NP_RAW ? p->at.port : -1;
  return 0;
}

/* -> 0 or a code, with p->where and p->why. */
static int read_plan(lua_State *L, plan *p) {
  memset(p, 0, sizeof *p);
  p->raw = -1;
  p->bind.nopts = np_check_setopts(L, 2, known, p->opts);
  p->bind.opts = p->opts;
  p->bind.mode = (int)np_opt_integer(L, 2, "mode", -1, 0, 07777);
  p->info = np_opt_boolean(L, 2, "info", false);
  np_opt_seconds(L, 2, "timeout", -1);
  for (int i = 0; i < p->bind.nopts; i++)
    if (strcmp(p->opts[i].opt->name, "v6only") == 0) p->v6only_given = true;
  p->connect = np_opt_string(L, 2, "connect", NULL) != NULL;
  p->bound = !lua_isnil(L, 1);
  int r = 0;
  if (p->connect) {
    lua_getfield(L, 2, "connect"); /* stays on the stack: the spans point into it */
    r = parse(L, -1, &p->peer, p);
  }
  if (r == 0 && p->bound) r = parse(L, 1, &p->at, p);
  return r < 0 ? r : check_plan(p);
}

static int set_options(plan *p, int fd) {
  for (int i = 0; i < p->bind.nopts; i++) {
    int r = np_option_set(fd, p->opts[i].opt, &p->opts[i].val);
    if (r == 0) continue;
    p->bad = p->opts[i].opt->name;
    return r;
  }
  return 0;
}

static int or_close(int fd, int r) {
  if (r < 0) close(fd);
  return r < 0 ? r : fd;
}

static int open_raw(plan *p) {
  enum { PROTO_ICMPV6 = 58 };
  int fd = np_socket(p->raw == PROTO_ICMPV6 ? AF_INET6 : AF_INET, SOCK_RAW, p->raw);
  return fd < 0 ? fd : or_close(fd, set_options(p, fd));
}

/* "Both families" is asked for, not left to the system's default. */
static void add_dual_stack(plan *p) {
  const np_option *o = np_option_find("v6only");
  if (!o || p->v6only_given) return;
  p->opts[p->bind.nopts++] = (np_setopt){ .opt = o, .val = { .b = false } };
}

static int open_bound(plan *p) {
  np_sockaddr a;
  bool any = p->at.scheme == NP_UDP && p->at.host_len == 0;
  int had = p->bind.nopts, r = np_addr_sockaddr(&p->at, true, &a);
  if (r < 0) return r;
  if (any) add_dual_stack(p);
  r = np_socket_bind(np_scheme_type(p->at.scheme), &a, &p->bind, &p->bad);
  if (!any || (r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL)) return r;
  p->bind.nopts = had; /* no IPv6 here */
  p->bad = NULL;
  np_addr_sockaddr(&p->at, false, &a);
  return np_socket_bind(SOCK_DGRAM, &a, &p->bind, &p->bad);
}

/* Without any address: UDP to both families. */
static int open_unbound(plan *p) {
  int had = p->bind.nopts, fd = np_socket(AF_INET6, SOCK_DGRAM, 0);
  if (fd >= 0) add_dual_stack(p);
  else fd = np_socket(AF_INET, SOCK_DGRAM, 0);
  int r = fd < 0 ? fd : or_close(fd, set_options(p, fd));
  p->bind.nopts = had;
  return r;
}

static int connect_to(plan *p, int fd) {
  np_sockaddr a;
  int r = np_addr_sockaddr(&p->peer, np_socket_domain(fd) == AF_INET6, &a);
  if (r < 0) return r;
  return np_socket_join(fd, &a);
}

static int open_connected(plan *p) {
  np_sockaddr a;
  bool pending;
  int r = np_addr_sockaddr(&p->peer, true, &a);
  return r < 0 ? r : np_socket_connect(np_scheme_type(p->peer.scheme), &a, NULL, p->opts, p->bind.nopts, &pending, &p->bad);
}

static int open_socket(plan *p) {
  if (!p->bound) return p->connect ? open_connected(p) : open_unbound(p);
  if (p->at.scheme == NP_FD) return or_close(p->at.port, set_options(p, p->at.port));
  int fd = p->raw >= 0 ? open_raw(p) : open_bound(p);
  return fd < 0 || !p->connect ? fd : or_close(fd, connect_to(p, fd));
}

static int open_failed(lua_State *L, const plan *p, int code) {
  const char *where = p->where ? p->where : "(unbound)";
  if (p->bad) return np_fail(L, code, "datagram %s: option '%s'", where, p->bad);
  if (p->why) return np_fail_text(L, np_error_name(code), "datagram %s: %s", where, p->why);
  return np_fail(L, code, "datagram %s", where);
}

/* datagram([addr], [opts]) -> datagram or record socket, or nil, message, code.
 *
 * addr: where it is bound: udp://, unix-dgram: ("unix-dgram:" is a name of the kernel's choice), raw:, fd:; nil: unbound
 * UDP of both families.  opts: connect (the peer's address; needed for unix-seqpacket:), mode (permissions of
 * an AF_UNIX path), info (true: details are collected from the first message on), timeout (default of each wait,
 * seconds), and every socket option. Addresses are literal. */
static int f_datagram(lua_State *L) {
  plan p;
  lua_settop(L, 2);
  if (!lua_isnil(L, 1)) luaL_checkstring(L, 1);
  int r = read_plan(L, &p);
  if (r < 0) return open_failed(L, &p, r);
  dgram *d = new_closed(L);
  d->timeout = np_opt_seconds(L, 2, "timeout", -1);
  r = open_socket(&p);
  if (r >= 0) r = open_with(L, d, r);
  if (r == 0 && p.info) r = np_dgram_want_info(d->core);
  if (r == 0) return 1;
  if (d->core) close(take_core(d));
  return open_failed(L, &p, r);
}

/* ---- receiving ---- */

static int wait_describe(void *obj, char *buf, size_t size) {
  dgram *d = obj;
  np_object *o = d->core ? np_dgram_object(d->core) : NULL;
  return o ? o->type->describe(o, buf, size) : 0;
}

static const np_waitkind recv_wait = { "recv", true, np_waiter_forget, wait_describe , .deaf = false};
static const np_waitkind send_wait = { "send", true, np_waiter_forget, wait_describe , .deaf = false};

static void push_from(lua_State *L, dgram *d, const np_sockaddr *from) {
  if (from->len == 0 || (d->connected && d->scheme == NP_UNIX_SEQPACKET)) {
    if (lua_getiuservalue(L, 1, UV_PEER) == LUA_TSTRING) return;
    lua_pop(L, 1);
  }
  if (from->len == d->from.len && from->len > 0 && memcmp(&from->ss, &d->from.ss, from->len) == 0) {
    lua_getiuservalue(L, 1, UV_FROM);
    return;
  }
  d->from.len = 0;
  push_sockaddr(L, d->scheme, from);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, UV_FROM);
  d->from = *from;
}

static void push_credentials(lua_State *L, const np_cred *c) {
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)c->pid);
  lua_setfield(L, -2, "pid");
  lua_pushinteger(L, c->uid);
  lua_setfield(L, -2, "uid");
  lua_pushinteger(L, c->gid);
  lua_setfield(L, -2, "gid");
}

/* Pushes the info table, without its descriptors. */
static void push_info(lua_State *L, dgram *d, const np_message *m) {
  const np_ancillary *w = &m->with;
  lua_createtable(L, 0, 4);
  if (m->full > m->len) {
    lua_pushinteger(L, (lua_Integer)m->full);
    lua_setfield(L, -2, "truncated");
  }
  if (w->has_to) {
    np_sockaddr to;
    np_dgram_sent_to(d->core, w, &to);
    push_sockaddr(L, d->scheme, &to);
    lua_setfield(L, -2, "to");
  }
  if (w->ifindex) {
    lua_pushinteger(L, w->ifindex);
    lua_setfield(L, -2, "ifindex");
  }
  if (w->ttl >= 0) {
    lua_pushinteger(L, w->ttl);
    lua_setfield(L, -2, "ttl");
  }
  if (w->has_cred) {
    push_credentials(L, &w->cred);
    lua_setfield(L, -2, "credentials");
  }
}

/* What recv was asked for, packed into one integer that waits on the task's stack. */
enum { WANT_INFO = 1 << 16, WANT_FDS = 1 << 17, FDS_MASK = 0xffff };

typedef struct result {
  dgram *d;
  np_message *m;
  int want;
} result;

/* Pushes msg, from[, info]. May raise (no memory); descriptors are still m's then. */
static int push_message(lua_State *L, const result *r) {
  lua_pushlstring(L, r->m->data, r->m->len);
  push_from(L, r->d, &r->m->from);
  if (!(r->want & (WANT_INFO | WANT_FDS))) return 2;
  push_info(L, r->d, r->m);
  return 3;
}

static int p_message(lua_State *L) { return push_message(L, lua_touserdata(L, 2)); }

static void warn_unwanted(lua_State *L, dgram *d, int n) {
  char buf[NP_ADDR_MAX + 100], where[NP_ADDR_MAX];
  if (d->warned) return;
  d->warned = true;
  wait_describe(d, where, sizeof where);
  snprintf(buf, sizeof buf, "neap: %s: %d received descriptors nobody asked for were closed (recv with {fds = n})",
           where, n);
  lua_warning(L, buf, 0);
}

/* Keeps the first of m's descriptors that were asked for, closes the others. */
static void close_unwanted(lua_State *L, dgram *d, np_message *m, int want) {
  int keep = want & WANT_FDS ? want & FDS_MASK : 0;
  if (m->with.nfds <= keep) return;
  warn_unwanted(L, d, m->with.nfds - keep);
  for (int i = keep; i < m->with.nfds; i++) close(m->with.fds[i]);
  m->with.nfds = keep;
}

/* The results of a message with descriptors: nothing may be lost on the way. */
static int give_with_fds(lua_State *L, result *r) {
  np_ancillary *w = &r->m->with;
  int top = lua_gettop(L);
  lua_pushcfunction(L, p_message);
  lua_pushvalue(L, 1);
  lua_pushlightuserdata(L, r);
  if (lua_pcall(L, 2, LUA_MULTRET, 0) != LUA_OK) {
    np_ancillary_close(w);
    return lua_error(L);
  }
  np_push_descriptors(L, w->fds, w->nfds);
  lua_setfield(L, -2, "fds");
  return lua_gettop(L) - top;
}

static int give(lua_State *L, dgram *d, np_message *m, int want) {
  result r = { d, m, want };
  close_unwanted(L, d, m, want);
  if (want & WANT_FDS) return give_with_fds(L, &r);
  return push_message(L, &r);
}

enum { RECV, ITERATE };

static int recv_failed(lua_State *L, dgram *d, int code, lua_KContext ctx) {
  if (ctx == ITERATE && code == NP_ECLOSED) return 0;
  const char *name = push_name(L, d);
  if (ctx == ITERATE) return np_raise(L, code, "recv on %s", name);
  return np_fail_code(L, code, &d->streak, "recv on %s", name);
}

/* A message that lost its end is not passed off as whole. */
static int cut_failed(lua_State *L, dgram *d, np_message *m, lua_KContext ctx) {
  static const char text[] = "recv on %s: %d bytes came, %d were asked for";
  close_unwanted(L, d, m, 0);
  const char *name = push_name(L, d);
  if (ctx == ITERATE) return np_raise(L, -EMSGSIZE, text, name, (int)m->full, (int)m->len);
  return np_fail(L, -EMSGSIZE, text, name, (int)m->full, (int)m->len);
}

/* Stack: the socket, max, what is wanted, the deadline. */
static int k_recv(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L);
  np_message m;
  lua_settop(L, 4);
  if (!d->core) return recv_failed(L, d, NP_ECLOSED, ctx);
  if (woken < 0 && woken != -ETIMEDOUT) return recv_failed(L, d, woken, ctx);
  int r = np_dgram_recv(d->core, (size_t)lua_tointeger(L, 2), &m);
  if (r == 0 && woken == 0) {
    np_waiter_join(np_task_of(L), &d->readers);
    return np_wait(L, &recv_wait, d, (uint64_t)lua_tointeger(L, 4), ctx, k_recv);
  }
  if (r != 0) poke_first(&d->readers); /* there may be more, or an end that all must see */
  if (r == NP_COND_END) return 0;
  if (r <= 0) return recv_failed(L, d, r < 0 ? r : woken, ctx);
  d->streak = 0;
  int want = (int)lua_tointeger(L, 3);
  if (m.full > m.len && !want) return cut_failed(L, d, &m, ctx);
  return give(L, d, &m, want);
}

static const char *const recv_known[] = { "fds", "info", "timeout", NULL };

/* Leaves what k_recv needs on the stack; arguments: [max,] [opts]. */
static void read_recv(lua_State *L, dgram *d) {
  if (lua_istable(L, 2)) {
    lua_settop(L, 2);
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  lua_settop(L, 3);
  lua_Integer max = luaL_optinteger(L, 2, NP_DGRAM_DEFAULT);
  luaL_argcheck(L, max >= 1 && max <= NP_DGRAM_MAX, 2, "not from 1 to 16777216 bytes");
  if (!lua_isnil(L, 3)) np_check_options(L, 3, recv_known);
  lua_Integer want = np_opt_integer(L, 3, "fds", -1, 0, NP_FDS_MAX);
  want = want < 0 ? 0 : want | WANT_FDS;
  if (np_opt_boolean(L, 3, "info", false)) want |= WANT_INFO;
  uint64_t deadline = np_deadline_opt(L, 3, d->timeout);
  lua_pushinteger(L, max);
  lua_replace(L, 2);
  lua_pushinteger(L, want);
  lua_replace(L, 3);
  lua_pushinteger(L, (lua_Integer)deadline);
}

static int start_recv(lua_State *L, dgram *d, lua_KContext ctx) {
  np_op_begin(L, "recv");
  if (d->core && lua_tointeger(L, 3) & WANT_INFO) {
    int r = np_dgram_want_info(d->core);
    if (r < 0) return recv_failed(L, d, r, ctx);
  }
  if (np_slice_over(L)) return np_give_way(L, ctx, k_recv);
  return k_recv(L, LUA_OK, ctx);
}

/* socket:recv([max,] [opts]) -> msg, from[, info]; nil at the end of a record socket; or nil, message, code.
 *
 * One message of at most max bytes (65536).  A longer one is an error, "EMSGSIZE", and gone; with {info = true} it is
 * given cut, info.truncated being its real length.  from is the sender's address, of a record socket its peer's.  opts:
 * info (true: a table {truncated, to, ifindex, ttl, credentials = {pid, uid, gid}}; of UDP, messages that came before
 * the first such call may lack some), fds (n: AF_UNIX, up to n descriptors in info.fds, a to-be-closed list; others
 * are closed), timeout (seconds). "ECONNREFUSED": an earlier send of a connected socket found nobody; the socket goes on.
 * "EMFILE": the descriptors of a message could not be had; the next recv gives its bytes. */
static int f_recv(lua_State *L) {
  dgram *d = check(L);
  read_recv(L, d);
  return start_recv(L, d, RECV);
}

/* Upvalues: max, opts. The control variable at index 2 is the previous message. */
static int f_next(lua_State *L) {
  dgram *d = check(L);
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  read_recv(L, d);
  return start_recv(L, d, ITERATE);
}

/* for msg, from[, info] in socket:records([max,] [opts]): ends with the peer's end, or when our side closes the socket;
 * raises everything else.  Of datagrams it has no end. */
static int f_records(lua_State *L) {
  check(L);
  if (lua_istable(L, 2)) {
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  lua_settop(L, 3);
  lua_pushcclosure(L, f_next, 2);
  lua_insert(L, 1);
  return 2;
}

/* ---- sending ---- */

/* The bytes of the destination text at index 3.  0 or a code, with *why. */
static int find_destination(lua_State *L, dgram *d, const char **why, bool *name) {
  size_t len;
  np_addr a;
  *name = false;
  *why = NULL;
  if (d->to.len > 0) {
    lua_getiuservalue(L, 1, UV_TO);
    bool same = lua_rawequal(L, -1, 3);
    lua_pop(L, 1);
    if (same) return 0;
  }
  d->to.len = 0;
  const char *s = lua_tolstring(L, 3, &len);
  int r = np_addr_parse(&a, s, len, d->scheme, why);
  if (r < 0) return r;
  if (a.scheme != d->scheme) {
    *why = "not an address this socket can send to";
    return -EPROTOTYPE;
  }
  if ((a.scheme == NP_UDP || a.scheme == NP_RAW) && !a.literal) {
    *name = true;
    return 0;
  }
  np_sockaddr to;
  r = np_addr_sockaddr(&a, np_socket_domain(np_dgram_fd(d->core)) == AF_INET6, &to);
  if (r < 0) return r;
  np_dgram_map(d->core, &to);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 1, UV_TO);
  d->to = to;
  return 0;
}

static int send_failed(lua_State *L, dgram *d, int code, const char *why) {
  lua_pushvalue(L, 3);
  if (lua_type(L, -1) != LUA_TSTRING) push_name(L, d);
  const char *where = lua_tostring(L, -1);
  if (why) return np_fail_text(L, np_error_name(code), "send to %s: %s", where, why);
  return np_fail_code(L, code, &d->streak, "send to %s", where);
}

enum { AS_GIVEN, RESOLVED };

static int k_send(lua_State *L, int status, lua_KContext ctx);

/* The resolver's results are on the stack: a literal, or its failure. */
static int k_resolved(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  if (lua_type(L, 6) != LUA_TSTRING) return 3;
  lua_pushvalue(L, 6);
  lua_replace(L, 3);
  lua_settop(L, 5);
  np_op_begin(L, "send");
  return k_send(L, LUA_OK, RESOLVED);
}

static int resolve(lua_State *L, lua_KContext ctx) {
  if (ctx == RESOLVED || lua_rawgetp(L, LUA_REGISTRYINDEX, &resolver_key) != LUA_TFUNCTION)
    return send_failed(L, lua_touserdata(L, 1), -EINVAL, "a name, not an address");
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 4);
  lua_callk(L, 2, 3, RESOLVED, k_resolved);
  return k_resolved(L, LUA_OK, RESOLVED);
}

static int gather(lua_State *L, int fds[NP_FDS_MAX]) {
  if (!lua_istable(L, 4)) return 0;
  int n = lua_getfield(L, 4, "fds") == LUA_TNIL ? 0 : np_gather_fds(L, -1, 4, fds);
  lua_pop(L, 1);
  return n;
}

/* Stack: the socket, message, destination or nil, options or nil, the deadline. */
static int k_send(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  dgram *d = lua_touserdata(L, 1);
  int woken = np_woken(L), fds[NP_FDS_MAX];
  const char *why = NULL;
  bool name = false, to = !lua_isnil(L, 3);
  lua_settop(L, 5);
  if (!d->core) return send_failed(L, d, NP_ECLOSED, NULL);
  if (woken < 0) return send_failed(L, d, woken, NULL);
  int r = to ? find_destination(L, d, &why, &name) : 0;
  if (r < 0) return send_failed(L, d, r, why);
  if (name) return resolve(L, ctx);
  int nfds = gather(L, fds);
  size_t len;
  const char *p = lua_tolstring(L, 2, &len);
  r = np_dgram_send(d->core, p, len, to ? &d->to : NULL, fds, nfds);
  if (r < 0) return send_failed(L, d, r, NULL);
  if (r > 0) {
    np_waiter_join(np_task_of(L), &d->writers);
    return np_wait(L, &send_wait, d, (uint64_t)lua_tointeger(L, 5), ctx, k_send);
  }
  d->streak = 0;
  lua_pushboolean(L, 1);
  return 1;
}

static const char *const send_known[] = { "fds", "timeout", NULL };

/* socket:send(msg [, to] [, opts]) -> true, or nil, message, code.
 *
 * One message, whole or not at all; "" is a message.  to: an address of the socket's kind ("host:port" will do for UDP), nil
 * for a connected socket's peer.  opts: fds (a list of descriptors, AF_UNIX only, at most 253; they stay ours),
 * timeout (seconds). Waits while the receiver is full. Codes: EMSGSIZE (longer than the socket can send), ECONNREFUSED,
 * EDESTADDRREQ or ENOTCONN (no destination), EPIPE (a record socket's peer is gone), ENOENT, ETIMEDOUT ... */
static int f_send(lua_State *L) {
  int fds[NP_FDS_MAX];
  dgram *d = check(L);
  luaL_checkstring(L, 2);
  if (lua_istable(L, 3)) {
    lua_settop(L, 3);
    lua_pushnil(L);
    lua_insert(L, 3);
  }
  lua_settop(L, 4);
  luaL_optstring(L, 3, NULL);
  if (!lua_isnil(L, 4)) np_check_options(L, 4, send_known);
  uint64_t deadline = np_deadline_opt(L, 4, d->timeout);
  bool unix_ = d->scheme == NP_UNIX_DGRAM || d->scheme == NP_UNIX_SEQPACKET;
  if (gather(L, fds) > 0 && !unix_) return send_failed(L, d, -EOPNOTSUPP, "descriptors travel over AF_UNIX only");
  np_op_begin(L, "send");
  lua_pushinteger(L, (lua_Integer)deadline);
  if (np_slice_over(L)) return np_give_way(L, AS_GIVEN, k_send);
  return k_send(L, LUA_OK, AS_GIVEN);
}

/* ---- the rest ---- */

/* socket:close() -> true. Wakes its waiters with nil, "closed", "ECANCELED". */
static int f_close(lua_State *L) {
  int fd = take_core(check(L));
  if (fd >= 0) close(fd);
  lua_pushboolean(L, 1);
  return 1;
}

/* socket:take() -> its descriptor number, the caller's from here on; the object is closed. */
static int f_take(lua_State *L) {
  dgram *d = check(L);
  if (!d->core) return np_fail(L, NP_ECLOSED, "take %s", push_name(L, d));
  lua_pushinteger(L, take_core(d));
  return 1;
}

/* socket:option(name [, value]) -> value, or true when set; or nil, message, code. */
static int f_option(lua_State *L) {
  dgram *d = check(L);
  char name[NP_ADDR_MAX];
  snprintf(name, sizeof name, "%s", push_name(L, d));
  lua_pop(L, 1);
  return np_option_call(L, d->core ? np_dgram_fd(d->core) : -1, 2, name);
}

/* socket:credentials() -> {pid, uid, gid} of whoever made the other end of a record socket; or nil, message, code. */
static int f_credentials(lua_State *L) {
  dgram *d = check(L);
  np_cred c;
  int r = d->core ? np_socket_credentials(np_dgram_fd(d->core), &c) : NP_ECLOSED;
  if (r < 0) return np_fail(L, r, "credentials of %s", push_name(L, d));
  push_credentials(L, &c);
  return 1;
}

static int f_gc(lua_State *L) {
  dgram *d = check(L);
  if (!d->core) return 0;
  char what[NP_ADDR_MAX + 16] = "socket ";
  wait_describe(d, what + 7, sizeof what - 7);
  np_origin_warn(L, 1, UV_ORIGIN, what);
  return f_close(L);
}

static int f_tostring(lua_State *L) {
  dgram *d = check(L);
  if (lua_getiuservalue(L, 1, UV_ADDRESS) != LUA_TSTRING) lua_pushfstring(L, "%s:", np_scheme_name(d->scheme));
  const char *address = lua_tostring(L, -1), *peer = "";
  if (lua_getiuservalue(L, 1, UV_PEER) == LUA_TSTRING) peer = lua_pushfstring(L, "<->%s", lua_tostring(L, -1));
  lua_pushfstring(L, "neap.datagram{%s%s%s%s%s}", address, peer, np_node_linked(&d->readers) ? " receiving" : "",
                  np_node_linked(&d->writers) ? " sending" : "", d->core ? "" : " closed");
  return 1;
}

/* Fields: address (where it is bound), peer (nil: not connected), fd (nil: closed), timeout (seconds, nil: none). */
static int f_index(lua_State *L) {
  dgram *d = check(L);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "address") == 0) lua_getiuservalue(L, 1, UV_ADDRESS);
  else if (strcmp(key, "peer") == 0) lua_getiuservalue(L, 1, UV_PEER);
  else if (strcmp(key, "fd") == 0 && d->core) lua_pushinteger(L, np_dgram_fd(d->core));
  else if (strcmp(key, "timeout") == 0 && d->timeout >= 0) lua_pushnumber(L, d->timeout);
  else lua_pushnil(L);
  return 1;
}

static int f_newindex(lua_State *L) {
  dgram *d = check(L);
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "timeout") != 0) return luaL_argerror(L, 2, lua_pushfstring(L, "field '%s' cannot be set", key));
  double s = lua_isnil(L, 3) ? -1 : luaL_checknumber(L, 3);
  luaL_argcheck(L, lua_isnil(L, 3) || s >= 0, 3, "seconds (a number, 0 or more) or nil expected");
  d->timeout = s;
  return 0;
}

/* resolver(f): f(destination, opts) makes a destination with a name literal, or returns nil, message, code; it may wait.
 * The Lua face sets it once per state. */
static int f_resolver(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &resolver_key);
  return 0;
}

static const luaL_Reg methods[] = {
  { "send", f_send },     { "recv", f_recv },     { "records", f_records },         { "close", f_close },
  { "take", f_take },     { "option", f_option }, { "credentials", f_credentials }, { NULL, NULL },
};

static const luaL_Reg meta[] = {
  { "__gc", f_gc }, { "__close", f_close }, { "__tostring", f_tostring }, { "__newindex", f_newindex }, { NULL, NULL },
};

static const np_type dgram_type = { "neap.datagram", methods, meta, f_index };

/* pair(kind) -> two connected sockets: "unix-dgram" or "unix-seqpacket"; or nil, message, code ("EMFILE"). */
static int f_pair(lua_State *L) {
  static const char *const kinds[] = { "unix-seqpacket", "unix-dgram", NULL };
  int fds[2], type = luaL_checkoption(L, 1, "unix-seqpacket", kinds) == 0 ? SOCK_SEQPACKET : SOCK_DGRAM;
  new_closed(L);
  new_closed(L);
  int r = np_socket_pair(type, fds);
  if (r < 0) return np_fail(L, r, "pair");
  lua_pushvalue(L, -2);
  r = open_with(L, lua_touserdata(L, -1), fds[0]);
  lua_pop(L, 1);
  int second = r < 0 ? or_close(fds[1], r) : open_with(L, lua_touserdata(L, -1), fds[1]);
  if (second >= 0) return 2;
  int first = take_core(lua_touserdata(L, -2));
  if (first >= 0) close(first);
  return np_fail(L, second, "pair");
}

static const luaL_Reg functions[] = {
  { "datagram", f_datagram }, { "pair", f_pair }, { "resolver", f_resolver }, { NULL, NULL },
};

int luaopen_neap_dgram_core(lua_State *L);
int luaopen_neap_dgram_core(lua_State *L) {
  np_type_init(L, &dgram_type);
  luaL_newlib(L, functions);
  return 1;
}
