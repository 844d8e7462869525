/* datagram() and pair(): from addresses and options to a socket.
 *
 * Arguments are checked first, then the socket is made.  Addresses are literal here: names are
 * resolved above. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "bindings/dgram_impl.h"
#include "bindings/dgram_raw.h"
#include "bindings/identity.h"
#include "bindings/inherit.h"
#include "bindings/sockopt.h"
#include "core/error.h"

typedef struct plan { /* the arguments of datagram, checked */
  bool bound, connect, info, errors, promiscuous, v6only_given;
  int raw;        /* protocol of a raw socket; -1: it is none */
  int family;     /* of a raw socket */
  np_bpf *filter; /* nfilter instructions, on the stack */
  int nfilter;
  np_addr at, peer;
  np_setopt opts[NP_SETOPTS_MAX + 1];
  np_bindopts bind;
  const char *bad;   /* of a failure: the option */
  const char *why;   /* more than the code says */
  const char *where; /* the address it is about */
  char reason[96];   /* where `why` may point */
} plan;

static const char *const known[] = {"connect",     "errors",  "family", "filter", "info", "mode",
                                    "promiscuous", "timeout", "uid",    "gid",    NULL};

static int parse(lua_State *L, int idx, np_addr *a, plan *p) {
  size_t len;
  p->where = lua_tolstring(L, idx, &len);
  int r = np_addr_parse(a, p->where, len, NP_UDP, &p->why);
  if (r < 0) return r;
  switch (a->scheme) {
  case NP_UDP:
  case NP_ICMP:
  case NP_RAW:
    if (a->literal) return 0;
    p->why = "a name, not an address";
    return -EINVAL;
  case NP_UNIX_DGRAM:
  case NP_UNIX_SEQPACKET:
  case NP_PACKET:
  case NP_SYSTEMD:
  case NP_FD: return 0;
  default: p->why = "not an address of datagrams or records"; return -EPROTOTYPE;
  }
}

static int check_plan(plan *p) {
  np_scheme scheme = p->bound ? p->at.scheme : p->connect ? p->peer.scheme : NP_UDP;
  if (p->promiscuous && scheme != NP_PACKET) p->why = "promiscuous is for packet:";
  if (p->family && scheme != NP_RAW) p->why = "family is for raw:";
  if (p->why) return -EINVAL;
  if (!p->bound && !p->connect) return 0;
  if (p->bound && p->connect && p->at.scheme != p->peer.scheme) {
    p->why = "the two addresses differ in kind";
    return -EINVAL;
  }
  if (scheme == NP_UNIX_SEQPACKET && !p->connect) {
    p->why = "records need a peer: use listen() or {connect = ...}";
    return -EDESTADDRREQ;
  }
  if (p->connect && p->peer.scheme == NP_PACKET) {
    p->why = "captures have no peer";
    return -EOPNOTSUPP;
  }
  if (scheme == NP_RAW && (!p->bound || p->at.port < 0)) {
    p->why = "a raw socket is opened for a protocol (raw:icmp, raw:47)";
    return -EINVAL;
  }
  p->raw = scheme == NP_RAW ? p->at.port : -1;
  return 0;
}

/* Of a raw socket; 0: by its protocol. */
static int read_family(lua_State *L) {
  const char *s = np_opt_string(L, 2, "family", "");
  if (strcmp(s, "inet") == 0) return AF_INET;
  if (strcmp(s, "inet6") == 0) return AF_INET6;
  if (*s) luaL_argerror(L, 2, "option 'family': \"inet\" or \"inet6\" expected");
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
  p->errors = np_opt_boolean(L, 2, "errors", false);
  p->promiscuous = np_opt_boolean(L, 2, "promiscuous", false);
  p->family = read_family(L);
  np_opt_seconds(L, 2, "timeout", -1);
  p->nfilter = np_dgram_read_filter(L, 2, &p->filter);
  for (int i = 0; i < p->bind.nopts; i++)
    if (strcmp(p->opts[i].opt->name, "v6only") == 0) p->v6only_given = true;
  p->connect = np_opt_string(L, 2, "connect", NULL) != NULL;
  p->bound = !lua_isnil(L, 1);
  int r = np_read_owner(L, 2, &p->bind.uid, &p->bind.gid);
  if (r < 0) {
    p->where = lua_tostring(L, 1);
    p->why = lua_tostring(L, -1); /* stays on the stack */
    return r;
  }
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
  int natural = p->raw == PROTO_ICMPV6 ? AF_INET6 : AF_INET;
  int fd = np_socket(p->family ? p->family : natural, SOCK_RAW, p->raw);
  return fd < 0 ? fd : or_close(fd, set_options(p, fd));
}

static int open_capture(plan *p) {
  np_sockaddr a;
  int r = np_addr_sockaddr(&p->at, false, &a);
  if (r == 0) r = np_packet_open(&a, p->filter, p->nfilter, p->promiscuous);
  return r < 0 ? r : or_close(r, set_options(p, r));
}

/* "Both families" is asked for, not left to the system's default. */
static void add_dual_stack(plan *p) {
  const np_option *o = np_option_find("v6only");
  if (!o || p->v6only_given) return;
  p->opts[p->bind.nopts++] = (np_setopt){.opt = o, .val = {.b = false}};
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
  /* the kernel calls a socket connected when its peer has a port; nothing else looks at it */
  if (np_scheme_portless(p->peer.scheme)) ((struct sockaddr_in *)&a.ss)->sin_port = htons(1);
  return np_socket_join(fd, &a);
}

static int open_connected(plan *p) {
  np_sockaddr a;
  bool pending;
  int r = np_addr_sockaddr(&p->peer, true, &a);
  if (r == 0 && p->peer.scheme == NP_ICMP) {
    np_addr any = {.scheme = NP_ICMP, .literal = true};
    if (a.ss.ss_family == AF_INET6) any.host = "::", any.host_len = 2;
    r = np_dgram_open_icmp(&any, &p->bind, &p->bad);
    return r < 0 ? r : or_close(r, connect_to(p, r));
  }
  return r < 0 ? r
               : np_socket_connect(np_scheme_type(p->peer.scheme), &a, NULL, p->opts, p->bind.nopts,
                                   &pending, &p->bad);
}

static int open_kind(plan *p) {
  if (!p->bound) return p->connect ? open_connected(p) : open_unbound(p);
  if (p->at.scheme == NP_FD) return or_close(p->at.port, set_options(p, p->at.port));
  if (p->at.scheme == NP_PACKET) return open_capture(p);
  int fd = p->raw >= 0               ? open_raw(p)
           : p->at.scheme == NP_ICMP ? np_dgram_open_icmp(&p->at, &p->bind, &p->bad)
                                     : open_bound(p);
  return fd < 0 || !p->connect ? fd : or_close(fd, connect_to(p, fd));
}

/* Socket activation: from here on it is an inherited descriptor. */
static int find_inherited(lua_State *L, plan *p) {
  if (!p->bound || p->at.scheme != NP_SYSTEMD) return 0;
  int fd = np_inherited_take_dgram(L, &p->at, p->reason, sizeof p->reason);
  p->at.scheme = NP_FD;
  p->at.port = fd;
  if (fd < 0) p->why = p->reason;
  return fd < 0 ? fd : 0;
}

/* A capture has its filter already. */
static int open_socket(plan *p) {
  int fd = open_kind(p);
  bool later = p->nfilter > 0 && !(p->bound && p->at.scheme == NP_PACKET);
  if (fd < 0 || !later) return fd;
  return or_close(fd, np_packet_filter(fd, p->filter, p->nfilter));
}

static int open_failed(lua_State *L, const plan *p, int code) {
  const char *where = p->where ? p->where : "(unbound)";
  np_scheme scheme = p->bound ? p->at.scheme : p->connect ? p->peer.scheme : NP_UDP;
  const char *advice = p->bad ? NULL : np_dgram_advice(scheme, code);
  if (advice) return np_fail_text(L, np_error_name(code), "datagram %s: %s", where, advice);
  if (p->bad) return np_fail(L, code, "datagram %s: option '%s'", where, p->bad);
  if (p->why) return np_fail_text(L, np_error_name(code), "datagram %s: %s", where, p->why);
  return np_fail(L, code, "datagram %s", where);
}

/* datagram([addr], [opts]) -> datagram or record socket, or nil, message, code.
 *
 * addr: where it is bound: udp://, unix-dgram: ("unix-dgram:" is a name of the kernel's choice),
 * raw:, icmp:, packet:, fd:, systemd:; nil: unbound UDP of both families.  opts: connect (the
 * peer's address; needed for unix-seqpacket:), mode (of a path), uid, gid (its owner), info
 * (true: details are collected from the first message on), errors (true: recv_error tells what ICMP
 * says), filter (a list of classic BPF instructions {code, jt, jf, k}), family (of raw:),
 * promiscuous (of packet:), timeout (default of each wait, seconds), and every socket option.
 * Addresses are literal. */
int np_dgram_f_open(lua_State *L) {
  plan p;
  lua_settop(L, 2);
  if (!lua_isnil(L, 1)) luaL_checkstring(L, 1);
  int r = read_plan(L, &p);
  if (r < 0) return open_failed(L, &p, r);
  dgram *d = np_dgram_make(L);
  d->timeout = np_opt_seconds(L, 2, "timeout", -1);
  r = find_inherited(L, &p);
  if (r == 0) r = open_socket(&p);
  if (r >= 0) r = np_dgram_start(L, d, r);
  if (r == 0 && p.info) r = np_dgram_want_info(d->core);
  if (r == 0 && p.errors) r = np_dgram_want_errors(d->core);
  if (r == 0) return 1;
  if (d->core) close(np_dgram_end(d));
  return open_failed(L, &p, r);
}

/* pair(kind) -> two connected sockets: "unix-dgram" or "unix-seqpacket"; or nil, message, code
 * ("EMFILE"). */
int np_dgram_f_pair(lua_State *L) {
  static const char *const kinds[] = {"unix-seqpacket", "unix-dgram", NULL};
  int fds[2],
    type = luaL_checkoption(L, 1, "unix-seqpacket", kinds) == 0 ? SOCK_SEQPACKET : SOCK_DGRAM;
  np_dgram_make(L);
  np_dgram_make(L);
  int r = np_socket_pair(type, fds);
  if (r < 0) return np_fail(L, r, "pair");
  lua_pushvalue(L, -2);
  r = np_dgram_start(L, lua_touserdata(L, -1), fds[0]);
  lua_pop(L, 1);
  int second = r < 0 ? or_close(fds[1], r) : np_dgram_start(L, lua_touserdata(L, -1), fds[1]);
  if (second >= 0) return 2;
  int first = np_dgram_end(lua_touserdata(L, -2));
  if (first >= 0) close(first);
  return np_fail(L, second, "pair");
}
