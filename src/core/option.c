/* Socket options: the table, and reading and setting by a row's type.
 *
 * An option of IP that AF_INET6 spells differently is one row with two names; setting it on an
 * AF_INET6 socket sets both, because such a socket may carry IPv4 as well. */
#include "core/option.h"

#include <limits.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "core/address.h"
#include "core/error.h"

#define BOTH(name4, name6) IPPROTO_IP, name4, IPPROTO_IPV6, name6
#define ONE(level, name) level, name, 0, 0

static const np_option rows[] = {
  /* TCP */
  {"nodelay", NP_OPT_BOOL, 0, false, ONE(IPPROTO_TCP, TCP_NODELAY), "",
   "send small segments at once (Nagle's algorithm off): tcp(7)", 0},
  {"keepalive", NP_OPT_BOOL, 0, false, ONE(SOL_SOCKET, SO_KEEPALIVE), "",
   "probe idle connections: socket(7)", 0},
  {"keepalive_idle", NP_OPT_SECONDS, 0, false, ONE(IPPROTO_TCP, TCP_KEEPIDLE), "seconds",
   "idle time before the first probe: tcp(7)", 1},
  {"keepalive_interval", NP_OPT_SECONDS, 0, false, ONE(IPPROTO_TCP, TCP_KEEPINTVL), "seconds",
   "time between probes: tcp(7)", 1},
  {"keepalive_count", NP_OPT_INT, 0, false, ONE(IPPROTO_TCP, TCP_KEEPCNT), "probes",
   "unanswered probes that end the connection: tcp(7)", 0},
#ifdef TCP_USER_TIMEOUT
  {"user_timeout", NP_OPT_SECONDS, 0, false, ONE(IPPROTO_TCP, TCP_USER_TIMEOUT), "seconds",
   "how long sent data may stay unacknowledged; 0: the system's default: tcp(7)", 1000},
#endif
#ifdef TCP_DEFER_ACCEPT
  {"defer_accept", NP_OPT_SECONDS, 0, false, ONE(IPPROTO_TCP, TCP_DEFER_ACCEPT), "seconds",
   "accept only when data came, or after this; the kernel rounds to its retries: tcp(7)", 1},
#endif
#ifdef TCP_CONGESTION
  {"congestion", NP_OPT_STRING, 0, false, ONE(IPPROTO_TCP, TCP_CONGESTION), "",
   "congestion control algorithm: tcp(7)", 0},
#endif
#ifdef TCP_FASTOPEN
  {"fastopen", NP_OPT_INT, 0, false, ONE(IPPROTO_TCP, TCP_FASTOPEN), "connections",
   "listener: how many may wait half open with data in their SYN; 0: none: tcp(7)", 0},
#endif
#ifdef TCP_FASTOPEN_CONNECT
  {"fastopen_connect", NP_OPT_BOOL, NP_OPT_BEFORE, false, ONE(IPPROTO_TCP, TCP_FASTOPEN_CONNECT),
   "", "send the first data with the SYN where a cookie is known: tcp(7)", 0},
#endif
  {"mss", NP_OPT_INT, 0, false, ONE(IPPROTO_TCP, TCP_MAXSEG), "bytes", "largest segment: tcp(7)",
   0},
#ifdef TCP_QUICKACK
  {"quickack", NP_OPT_BOOL, 0, false, ONE(IPPROTO_TCP, TCP_QUICKACK), "",
   "acknowledge at once; the kernel may leave the mode again: tcp(7)", 0},
#endif
#ifdef TCP_NOTSENT_LOWAT
  {"notsent_lowat", NP_OPT_INT, 0, false, ONE(IPPROTO_TCP, TCP_NOTSENT_LOWAT), "bytes",
   "writable only while fewer bytes than this are unsent: tcp(7)", 0},
#endif

  /* addresses and ports */
  {"reuseaddr", NP_OPT_BOOL, NP_OPT_BEFORE, false, ONE(SOL_SOCKET, SO_REUSEADDR), "",
   "bind although old connections of the address linger: socket(7)", 0},
  {"reuseport", NP_OPT_BOOL, NP_OPT_BEFORE, false, ONE(SOL_SOCKET, SO_REUSEPORT), "",
   "several sockets share one port: socket(7)", 0},
  {"v6only", NP_OPT_BOOL, NP_OPT_BEFORE, false, ONE(IPPROTO_IPV6, IPV6_V6ONLY), "",
   "an IPv6 socket refuses IPv4: ipv6(7)", 0},
#ifdef IPV6_FREEBIND
  {"freebind", NP_OPT_BOOL, NP_OPT_BEFORE, false, BOTH(IP_FREEBIND, IPV6_FREEBIND), "",
   "bind to an address that no interface has yet: ip(7)", 0},
#endif
#ifdef SO_BINDTODEVICE
  {"bindtodevice", NP_OPT_STRING, 0, false, ONE(SOL_SOCKET, SO_BINDTODEVICE), "",
   "send and receive by this interface only; \"\": any: socket(7)", 0},
#endif

  /* buffers and the end */
  {"send_buffer", NP_OPT_INT, 0, false, ONE(SOL_SOCKET, SO_SNDBUF), "bytes",
   "the kernel's send buffer; Linux doubles what is set and tells the double: socket(7)", 0},
  {"receive_buffer", NP_OPT_INT, 0, false, ONE(SOL_SOCKET, SO_RCVBUF), "bytes",
   "the kernel's receive buffer; Linux doubles what is set and tells the double: socket(7)", 0},
  {"linger", NP_OPT_LINGER, 0, false, ONE(SOL_SOCKET, SO_LINGER), "seconds",
   "what close(2) does with unsent data: off, or how long it tries; 0: reset: socket(7)", 1},

  /* IP */
  {"ttl", NP_OPT_INT, 0, false, BOTH(IP_TTL, IPV6_UNICAST_HOPS), "hops",
   "how many routers unicast packets may pass; -1: the default: ip(7), ipv6(7)", 0},
  {"hops", NP_OPT_INT, 0, false, BOTH(IP_TTL, IPV6_UNICAST_HOPS), "hops",
   "the same as ttl, by its IPv6 name", 0},
  {"tos", NP_OPT_INT, 0, false, BOTH(IP_TOS, IPV6_TCLASS), "",
   "type of service, traffic class (DSCP times 4): ip(7), ipv6(7)", 0},
  {"traffic_class", NP_OPT_INT, 0, false, BOTH(IP_TOS, IPV6_TCLASS), "",
   "the same as tos, by its IPv6 name", 0},
  {"broadcast", NP_OPT_BOOL, 0, false, ONE(SOL_SOCKET, SO_BROADCAST), "",
   "datagrams may be sent to broadcast addresses: socket(7)", 0},
  {"multicast_ttl", NP_OPT_INT, 0, false, BOTH(IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS), "hops",
   "how many routers multicast packets may pass: ip(7), ipv6(7)", 0},
  {"multicast_loop", NP_OPT_BOOL, 0, false, BOTH(IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP), "",
   "multicast packets come back to this host: ip(7), ipv6(7)", 0},
  {"multicast_interface", NP_OPT_INTERFACE, 0, false, BOTH(IP_MULTICAST_IF, IPV6_MULTICAST_IF), "",
   "where multicast packets leave; Linux tells it of IPv6 only: ip(7), ipv6(7)", 0},
#ifdef IP_MULTICAST_ALL
  {"multicast_all", NP_OPT_BOOL, 0, false, BOTH(IP_MULTICAST_ALL, IPV6_MULTICAST_ALL), "",
   "also what groups bring that only others on this host joined: ip(7)", 0},
#endif
#ifdef IP_MTU_DISCOVER
  {"mtu_discover", NP_OPT_WORD, 0, false, BOTH(IP_MTU_DISCOVER, IPV6_MTU_DISCOVER), "",
   "whether packets larger than the path are cut or refused (EMSGSIZE): ip(7)", 0},
  {"mtu", NP_OPT_INT, 0, true, BOTH(IP_MTU, IPV6_MTU), "bytes",
   "largest packet the path to the peer takes, as known: ip(7)", 0},
#endif
#ifdef UDP_GRO
  {"gro", NP_OPT_BOOL, 0, false, ONE(IPPROTO_UDP, UDP_GRO), "",
   "UDP: the kernel may hand over several datagrams at once; they are split: udp(7)", 0},
#endif
#ifdef IPV6_HDRINCL
  {"hdrincl", NP_OPT_BOOL, 0, false, BOTH(IP_HDRINCL, IPV6_HDRINCL), "",
   "raw sockets: what is sent begins with its IP header: raw(7)", 0},
#endif
#ifdef SO_PRIORITY
  {"priority", NP_OPT_INT, 0, false, ONE(SOL_SOCKET, SO_PRIORITY), "",
   "queueing priority: socket(7)", 0},
#endif
#ifdef SO_MARK
  {"mark", NP_OPT_INT, 0, false, ONE(SOL_SOCKET, SO_MARK), "",
   "mark for routing and filters; needs CAP_NET_ADMIN: socket(7)", 0},
#endif

  /* what it is */
  {"error", NP_OPT_STRING, 0, true, ONE(SOL_SOCKET, SO_ERROR), "",
   "the name of the pending error, which reading clears; \"\": none: socket(7)", 0},
  {"type", NP_OPT_STRING, 0, true, ONE(SOL_SOCKET, SO_TYPE), "",
   "\"stream\", \"dgram\", \"seqpacket\", \"raw\": socket(7)", 0},
#ifdef SO_DOMAIN
  {"domain", NP_OPT_STRING, 0, true, ONE(SOL_SOCKET, SO_DOMAIN), "",
   "\"inet\", \"inet6\", \"unix\", or the number: socket(7)", 0},
  {"protocol", NP_OPT_STRING, 0, true, ONE(SOL_SOCKET, SO_PROTOCOL), "",
   "\"tcp\", \"udp\", \"icmp\", or the number: socket(7)", 0},
#endif
  {"accepting", NP_OPT_BOOL, 0, true, ONE(SOL_SOCKET, SO_ACCEPTCONN), "",
   "it is a listener: socket(7)", 0},
};

/* The words for numbers; what has none is given as a decimal number. */
static const struct word {
  int option, value;
  const char *text;
} words[] = {
#ifdef IP_MTU_DISCOVER
  {IP_MTU_DISCOVER, IP_PMTUDISC_DONT, "dont"},
  {IP_MTU_DISCOVER, IP_PMTUDISC_WANT, "want"},
  {IP_MTU_DISCOVER, IP_PMTUDISC_DO, "do"},
  {IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, "probe"},
#endif
#ifdef IP_PMTUDISC_OMIT
  {IP_MTU_DISCOVER, IP_PMTUDISC_INTERFACE, "interface"},
  {IP_MTU_DISCOVER, IP_PMTUDISC_OMIT, "omit"},
#endif
  {SO_TYPE, SOCK_STREAM, "stream"},
  {SO_TYPE, SOCK_DGRAM, "dgram"},
  {SO_TYPE, SOCK_SEQPACKET, "seqpacket"},
  {SO_TYPE, SOCK_RAW, "raw"},
#ifdef SO_DOMAIN
  {SO_DOMAIN, AF_INET, "inet"},
  {SO_DOMAIN, AF_INET6, "inet6"},
  {SO_DOMAIN, AF_UNIX, "unix"},
  {SO_PROTOCOL, IPPROTO_TCP, "tcp"},
  {SO_PROTOCOL, IPPROTO_UDP, "udp"},
  {SO_PROTOCOL, IPPROTO_ICMP, "icmp"},
  {SO_PROTOCOL, IPPROTO_ICMPV6, "icmpv6"},
#endif
};

const np_option *np_option_find(const char *name) {
  for (size_t i = 0; i < np_countof(rows); i++)
    if (strcmp(rows[i].name, name) == 0) return &rows[i];
  return NULL;
}

const np_option *np_option_at(size_t i) { return i < np_countof(rows) ? &rows[i] : NULL; }

static const struct word *find_word(const np_option *o, const char *text) {
  for (size_t i = 0; i < np_countof(words); i++)
    if (words[i].option == o->name4 && strcmp(words[i].text, text) == 0) return &words[i];
  return NULL;
}

bool np_option_has_word(const np_option *o, const char *word) { return find_word(o, word) != NULL; }

void np_option_words(const np_option *o, char *buf, size_t size) {
  size_t n = 0;
  buf[0] = 0;
  for (size_t i = 0; i < np_countof(words); i++)
    if (words[i].option == o->name4 && n < size)
      n += (size_t)snprintf(buf + n, size - n, "%s\"%s\"", n ? ", " : "", words[i].text);
}

/* AF_UNIX answers EOPNOTSUPP where others say ENOPROTOOPT: one code for "no such option here". */
static int fail(void) { return errno == EOPNOTSUPP ? -ENOPROTOOPT : -errno; }

static int get(int fd, int level, int name, void *v, socklen_t *len) {
  return getsockopt(fd, level, name, v, len) == 0 ? 0 : fail();
}

static int set(int fd, int level, int name, const void *v, socklen_t len) {
  return setsockopt(fd, level, name, v, len) == 0 ? 0 : fail();
}

/* The socket's family; of an address's family where SO_DOMAIN is missing. */
static int domain_of(int fd) {
  struct sockaddr_storage ss;
  socklen_t len = sizeof ss;
  return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 ? ss.ss_family : -errno;
}

/* True: use the IPv6 names. -ENOPROTOOPT where IP options have no place. */
static int use_v6(int fd, const np_option *o) {
  int domain = o->level6 ? domain_of(fd) : AF_INET;
  if (domain < 0) return domain;
  if (domain != AF_INET && domain != AF_INET6) return -ENOPROTOOPT;
  return domain == AF_INET6;
}

static int get_int(int fd, const np_option *o, int *v) {
  int six = use_v6(fd, o);
  socklen_t len = sizeof *v;
  *v = 0; /* a kernel may fill one byte only */
  if (six < 0) return six;
  return six ? get(fd, o->level6, o->name6, v, &len) : get(fd, o->level, o->name4, v, &len);
}

static int set_int(int fd, const np_option *o, int v) {
  int six = use_v6(fd, o), err;
  if (six < 0) return six;
  if (!six) return set(fd, o->level, o->name4, &v, sizeof v);
  err = set(fd, o->level6, o->name6, &v, sizeof v);
  /* for the IPv4 it may carry; that it cannot is no failure */
  if (err == 0) set(fd, o->level, o->name4, &v, sizeof v);
  return err;
}

/* Seconds in the kernel's unit, rounded up: what is asked for is never cut short. */
static int kernel_time(const np_option *o, double seconds, int *v) {
  double t = ceil(seconds * o->per_second);
  if (!(t >= 0 && t <= INT_MAX)) return -EINVAL;
  *v = (int)t;
  return 0;
}

static int get_linger(int fd, const np_option *o, double *seconds) {
  struct linger l;
  socklen_t len = sizeof l;
  int err = get(fd, o->level, o->name4, &l, &len);
  if (err == 0) *seconds = l.l_onoff ? l.l_linger : -1;
  return err;
}

static int set_linger(int fd, const np_option *o, double seconds) {
  struct linger l = {.l_onoff = !(seconds < 0)};
  int err = l.l_onoff ? kernel_time(o, seconds, &l.l_linger) : 0;
  return err != 0 ? err : set(fd, o->level, o->name4, &l, sizeof l);
}

/* Of IPv4 Linux tells an address only, which several interfaces may have. */
static int get_interface(int fd, const np_option *o, char *s) {
  int six = use_v6(fd, o), index = 0;
  socklen_t len = sizeof index;
  if (six <= 0) return six < 0 ? six : -ENOPROTOOPT;
  int err = get(fd, o->level6, o->name6, &index, &len);
  if (err == 0 && (index == 0 || !if_indextoname((unsigned)index, s))) s[0] = 0;
  return err;
}

static int set_interface(int fd, const np_option *o, const char *s) {
  int six = use_v6(fd, o);
  uint32_t index = 0;
  int err = six < 0 ? six : *s ? np_addr_interface(s, strlen(s), &index) : 0;
  if (err < 0) return err;
  struct ip_mreqn four = {.imr_ifindex = (int)index};
  if (!six) return set(fd, o->level, o->name4, &four, sizeof four);
  err = set(fd, o->level6, o->name6, &index, sizeof index);
  if (err == 0) set(fd, o->level, o->name4, &four, sizeof four);
  return err;
}

static int get_word(int fd, const np_option *o, char *s, size_t size) {
  int v, err = get_int(fd, o, &v);
  const char *text = NULL;
  if (err != 0) return err;
  for (size_t i = 0; i < np_countof(words); i++)
    if (words[i].option == o->name4 && words[i].value == v) text = words[i].text;
  if (o->name4 == SO_ERROR) text = v == 0 ? "" : np_error_name(-v);
  if (text) snprintf(s, size, "%s", text);
  else snprintf(s, size, "%d", v);
  return 0;
}

static int get_string(int fd, const np_option *o, char *s, size_t size) {
  socklen_t len = (socklen_t)size - 1;
  int err;
  if (o->readonly || o->type == NP_OPT_WORD) return get_word(fd, o, s, size);
  if (o->type == NP_OPT_INTERFACE) return get_interface(fd, o, s);
  err = get(fd, o->level, o->name4, s, &len);
  s[err == 0 ? len : 0] = 0;
  return err;
}

int np_option_get(int fd, const np_option *o, np_optval *v) {
  int i = 0, err;
  switch (o->type) {
  case NP_OPT_STRING:
  case NP_OPT_WORD:
  case NP_OPT_INTERFACE: return get_string(fd, o, v->s, sizeof v->s);
  case NP_OPT_LINGER: return get_linger(fd, o, &v->seconds);
  default: break;
  }
  err = get_int(fd, o, &i);
  if (o->type == NP_OPT_BOOL) v->b = i != 0;
  else if (o->type == NP_OPT_SECONDS) v->seconds = (double)i / o->per_second;
  else v->i = i;
  return err;
}

int np_option_set(int fd, const np_option *o, const np_optval *v) {
  int i = 0, err;
  if (o->readonly) return -EINVAL;
  switch (o->type) {
  case NP_OPT_BOOL: return set_int(fd, o, v->b);
  case NP_OPT_INT: return set_int(fd, o, v->i);
  case NP_OPT_SECONDS:
    err = kernel_time(o, v->seconds, &i);
    return err != 0 ? err : set_int(fd, o, i);
  case NP_OPT_STRING:
    return set(fd, o->level, o->name4, v->s, (socklen_t)strnlen(v->s, sizeof v->s));
  case NP_OPT_LINGER: return set_linger(fd, o, v->seconds);
  case NP_OPT_INTERFACE: return set_interface(fd, o, v->s);
  case NP_OPT_WORD: {
    const struct word *w = find_word(o, v->s);
    return w ? set_int(fd, o, w->value) : -EINVAL;
  }
  }
  return -EINVAL;
}
