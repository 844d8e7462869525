/* listen(): from addresses and options to a listener, all of it or nothing.
 *
 * Arguments are checked first, then sockets made.  Addresses are literal here: names are resolved
 * above. */
#include <string.h>
#include <unistd.h>

#include "bindings/identity.h"
#include "bindings/inherit.h"
#include "bindings/listener_impl.h"
#include "bindings/sockopt.h"
#include "bindings/tls.h"
#include "core/error.h"

enum {
  BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
  BACKLOG_MAX = 65535,
  PORT_TRIES = 16, /* for one free port on both families of a name */
};

typedef struct plan { /* the arguments of listen, checked */
  np_addr addrs[NP_LISTEN_SOCKETS_MAX];
  int naddrs;
  np_setopt opts[NP_SETOPTS_MAX + 1];
  np_bindopts bind;
  bool v6only_given;
  bool shared;
  /* of a failure: */
  int at;          /* the address it happened on */
  const char *bad; /* the option that failed */
  const char *why; /* more than the code says */
  char reason[96]; /* where `why` may point */
} plan;

/* ---- what it listens on ---- */

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

static accepts accepts_of(int fd) {
  bool local = np_socket_domain(fd) == AF_UNIX;
  np_fdkind kind = {.name = local ? "unix" : "tcp", .socket = true, .unix_ = local};
  /* A local client has sent its request before it is accepted: 740 instructions less per
   * connection. Over TCP it has not: a useless call. */
  kind.eager = local;
  return (accepts){.kind = kind, .records = np_socket_type(fd) == SOCK_SEQPACKET};
}

void np_listener_settle(lua_State *L, listener *l) {
  np_listener *core = l->core;
  int idx = lua_gettop(L);
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
  lua_setiuservalue(L, idx, NP_LISTENER_ADDRESSES);
  for (int i = 0; i < n; i++) l->socks[i] = accepts_of(np_listener_fd(core, i));
}

/* ---- options ---- */

static const char *const known[] = {"backlog", "mode", "shared", "uid", "gid", NULL};

/* 0, or a failure with p->why: an unknown owner. */
static int check_options(lua_State *L, int idx, plan *p) {
  int n = np_check_setopts(L, idx, known, p->opts);
  p->bind.opts = p->opts;
  p->bind.nopts = n;
  p->bind.mode = (int)np_opt_integer(L, idx, "mode", -1, 0, 07777);
  p->shared = np_opt_boolean(L, idx, "shared", false);
  p->bind.backlog = (int)np_opt_integer(L, idx, "backlog", BACKLOG, 1, BACKLOG_MAX);
  for (int i = 0; i < n; i++)
    if (strcmp(p->opts[i].opt->name, "v6only") == 0) p->v6only_given = true;
  int r = np_read_owner(L, idx, &p->bind.uid, &p->bind.gid);
  if (r < 0) p->why = lua_tostring(L, -1); /* stays on the stack */
  return r;
}

/* Parses the address at the top of the stack. */
static int parse_one(lua_State *L, plan *p) {
  size_t len;
  const char *s = lua_tolstring(L, -1, &len);
  np_addr *a = &p->addrs[p->naddrs];
  int r = np_addr_parse(a, s, len, NP_TCP, &p->why);
  if (r < 0) return r;
  switch (a->scheme) {
  case NP_UDP:
  case NP_UNIX_DGRAM:
  case NP_ICMP:
  case NP_PACKET:
  case NP_RAW: p->why = "datagrams know no connections; use datagram()"; return -EOPNOTSUPP;
  case NP_TLS: p->why = "TLS is not part of this build"; return -EPROTONOSUPPORT;
  case NP_TCP:
    if (!a->literal) {
      p->why = "a name, not an address";
      return -EINVAL;
    }
    break;
  default: break;
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
    p->opts[o.nopts] = (np_setopt){.opt = np_option_find("v6only"), .val = {.b = false}};
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
  for (int i = 0; i < p->bind.nopts; i++) {
    int r = np_option_set(fd, p->opts[i].opt, &p->opts[i].val);
    if (r < 0) {
      p->bad = p->opts[i].opt->name;
      return r;
    }
  }
  return 0;
}

/* Refused descriptors stay open: they may be anybody's. */
static int listen_inherited(lua_State *L, plan *p, np_listener *core, int fd) {
  int r = np_inherited_check(fd, p->reason, sizeof p->reason);
  if (r < 0) {
    p->why = p->reason;
    return r;
  }
  r = set_up_inherited(p, fd);
  if (r == 0) np_inherited_note(L, fd);
  return r < 0 ? r : np_listener_add(core, fd);
}

/* Socket activation: every descriptor of that name. */
static int listen_systemd(lua_State *L, plan *p, np_listener *core, const np_addr *a) {
  int fds[NP_LISTEN_SOCKETS_MAX], r = 0;
  int n = np_inherited_take(L, a, fds, p->reason, sizeof p->reason);
  if (n < 0) {
    p->why = p->reason;
    return n;
  }
  for (int i = 0; i < n; i++) {
    if (r == 0) r = set_up_inherited(p, fds[i]);
    if (r == 0) r = np_listener_add(core, fds[i]);
    else close(fds[i]);
  }
  return r;
}

static int listen_one(lua_State *L, plan *p, np_listener *core, const np_addr *a) {
  switch (a->scheme) {
  case NP_MEM: return np_listener_add_mem(core, a->host, a->host_len, p->bind.backlog);
  case NP_FD: return listen_inherited(L, p, core, a->port);
  case NP_SYSTEMD: return listen_systemd(L, p, core, a);
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

/* All of them, or none.  Port 0 of the second and later TCP addresses means the port the first was
 * given; when somebody else has that, *again says that another attempt makes sense. */
static int listen_all(lua_State *L, plan *p, np_listener *core, bool *again) {
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
    int r = listen_one(L, p, core, &a);
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
    int r = np_listener_start(L, l);
    if (r == 0) r = listen_all(L, p, l->core, &again);
    if (r == 0 && p->shared) np_listener_share(l->core);
    if (r == 0) return 0;
    np_listener_end(l);
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
 * addr: a literal tcp address (":80" is both families), unix:, unix-seqpacket:, fd:, systemd: or
 * mem: address, or a list of them, where port 0 is the same port for all.  opts: backlog (4096, cut
 * by the kernel to somaxconn; of mem: exact), mode (permissions of an AF_UNIX path, an integer),
 * uid, gid (its owner, names or numbers; mode is 0660 then), shared (other processes accept from it
 * too), and every socket option.  A stale AF_UNIX path is replaced only if nobody answers on it.
 * Codes: EADDRINUSE, EADDRNOTAVAIL, EACCES, ENAMETOOLONG, EINVAL, EMFILE, ...; of fd: and systemd:
 * also EBADF, ENOTSOCK (refused, and left open), ENOENT (systemd: nothing of that name for us). */
int np_listen(lua_State *L) {
  plan p;
  memset(&p, 0, sizeof p);
  lua_settop(L, 2);
  if (!lua_istable(L, 1)) luaL_checkstring(L, 1);
  int r = check_options(L, 2, &p);
  if (r == 0) r = parse_all(L, &p);
  if (r < 0) {
    p.at = p.naddrs;
    return listen_failed(L, &p, r);
  }
  listener *l = np_listener_make(L);
  r = open_listener(L, l, &p);
  if (r < 0) return listen_failed(L, &p, r);
  np_listener_settle(L, l);
  return 1;
}

static int p_new(lua_State *L) {
  np_listener_make(L);
  return 1;
}

int np_push_fd_listener(lua_State *L, int fd) {
  listener *l = np_push_for_fd(L, fd, p_new);
  int r = np_listener_start(L, l);
  if (r < 0) close(fd);
  else r = np_listener_add(l->core, fd);
  if (r < 0) {
    np_listener_end(l);
    lua_pop(L, 1);
    return r;
  }
  np_listener_settle(L, l);
  return 0;
}

/* tls(listener, context): connections to come speak TLS; its addresses say so. */
int np_listener_tls(lua_State *L) {
  listener *l = np_check_object(L, 1, &np_listener_type);
  np_tls_box *box = np_check_tls_box(L, 2);
  lua_getiuservalue(L, 1, NP_LISTENER_ADDRESSES);
  for (lua_Integer i = 1, n = luaL_len(L, -1); i <= n; i++) {
    lua_rawgeti(L, -1, i);
    const char *rest = lua_tostring(L, -1);
    bool tcp = strncmp(rest, "tcp://", 6) == 0;
    if (tcp) lua_pushfstring(L, "tls://%s", rest + 6);
    else lua_pushvalue(L, -1);
    lua_rawseti(L, -3, i);
    lua_pop(L, 1);
  }
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, 1, NP_LISTENER_TLS);
  l->tls = box;
  return 0;
}
