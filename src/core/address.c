/* Addresses: strings to parts, parts to socket addresses.  The way back is address_print.c.
 *
 * The schemes are rows of one table, each with the function that parses what follows its name.
 * Nothing here looks a name up; the one question to the system is an interface's number, for
 * scoped IPv6 addresses. */
#include "core/address.h"

#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>
#ifdef __linux__
#include <linux/if_packet.h>
#endif

/* Host names: RFC 1035 allows 253 bytes and a final dot. */
enum { HOST_MAX = 255 };

typedef int parse_fn(np_addr *a, const char *s, size_t len, const char **why);
static parse_fn parse_hostport, parse_path, parse_raw, parse_icmp, parse_packet;
static parse_fn parse_fd, parse_systemd, parse_name;

typedef struct scheme_row {
  const char *name; /* without the "://" or ":" that follows */
  np_scheme scheme;
  int type;        /* SOCK_*; 0: opens no socket */
  const char *sep; /* what stands between the name and the rest */
  parse_fn *parse;
} scheme_row;

/* In the order of np_scheme. */
static const scheme_row schemes[] = {
  {"tcp", NP_TCP, SOCK_STREAM, "://", parse_hostport},
  {"udp", NP_UDP, SOCK_DGRAM, "://", parse_hostport},
  {"tls", NP_TLS, SOCK_STREAM, "://", parse_hostport},
  {"unix", NP_UNIX, SOCK_STREAM, ":", parse_path},
  {"unix-dgram", NP_UNIX_DGRAM, SOCK_DGRAM, ":", parse_path},
  {"unix-seqpacket", NP_UNIX_SEQPACKET, SOCK_SEQPACKET, ":", parse_path},
  {"raw", NP_RAW, SOCK_RAW, ":", parse_raw},
  {"icmp", NP_ICMP, SOCK_DGRAM, ":", parse_icmp},
  {"packet", NP_PACKET, SOCK_RAW, ":", parse_packet},
  {"fd", NP_FD, 0, ":", parse_fd},
  {"systemd", NP_SYSTEMD, 0, ":", parse_systemd},
  {"mem", NP_MEM, 0, ":", parse_name},
};

/* raw:'s names (IANA protocol numbers). */
static const struct protocol {
  const char *name;
  int number;
} protocols[] = {
  {"icmp", 1}, {"igmp", 2},    {"tcp", 6},   {"udp", 17},   {"gre", 47},  {"esp", 50},
  {"ah", 51},  {"icmpv6", 58}, {"ospf", 89}, {"sctp", 132}, {"raw", 255},
};
enum { PROTO_ICMP = 1, PROTO_ICMPV6 = 58, PROTO_MAX = 255 };

/* ---- small readers ---- */

static int refuse(const char **why, const char *text) {
  *why = text;
  return -EINVAL;
}

/* A decimal number from 0 to max, without sign; -1: it is none. */
static int64_t read_number(const char *s, size_t len, int64_t max) {
  int64_t v = 0;
  if (len == 0) return -1;
  for (size_t i = 0; i < len; i++) {
    if (s[i] < '0' || s[i] > '9') return -1;
    v = v * 10 + (s[i] - '0');
    if (v > max) return -1;
  }
  return v;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static bool equals(const char *s, size_t len, const char *word) {
  return strlen(word) == len && memcmp(s, word, len) == 0;
}

/* inet_pton over a span. */
static bool literal_of(int family, const char *s, size_t len, void *out) {
  char text[INET6_ADDRSTRLEN];
  if (len >= sizeof text || memchr(s, 0, len)) return false;
  memcpy(text, s, len);
  text[len] = 0;
  return inet_pton(family, text, out) == 1;
}

/* Splits [addr%scope]'s inside; scope is NULL when there is none. */
static size_t split_scope(const char *s, size_t len, const char **scope, size_t *scope_len) {
  const char *percent = memchr(s, '%', len);
  *scope = percent ? percent + 1 : NULL;
  *scope_len = percent ? (size_t)(s + len - percent - 1) : 0;
  return percent ? (size_t)(percent - s) : len;
}

/* ---- parsing ---- */

/* What the kernel allows as an interface name, or a number. */
static bool scope_fits(const char *s, size_t len) {
  if (len == 0 || len >= IF_NAMESIZE) return false;
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || strchr("/:%[]", s[i])) return false;
  return true;
}

static int parse_bracketed(np_addr *a, const char *s, size_t len, const char **why) {
  struct in6_addr ignored;
  const char *scope;
  size_t scope_len, alen = split_scope(s, len, &scope, &scope_len);
  if (!literal_of(AF_INET6, s, alen, &ignored))
    return refuse(why, "what stands in brackets is not an IPv6 address");
  if (scope && !scope_fits(scope, scope_len))
    return refuse(why, "scope is not an interface name or number");
  a->host = s;
  a->host_len = len;
  a->literal = true;
  return 0;
}

/* True for names whose last label is a number, which resolvers take for IPv4 in its old spellings
 * (127.1, 0x7f000001); WHATWG URL "ends in a number". They would be looked up differently by each
 * resolver, so they are refused. */
static bool ends_in_number(const char *s, size_t len) {
  size_t from, i;
  if (len > 0 && s[len - 1] == '.') len--;
  for (from = len; from > 0 && s[from - 1] != '.';) from--;
  if (from == len) return false;
  for (i = from; i < len && is_digit(s[i]);) i++;
  if (i == len) return true;
  if (s[from] != '0' || len - from < 2 || (s[from + 1] | 0x20) != 'x') return false;
  for (i = from + 2; i < len && hex_value(s[i]) >= 0;) i++;
  return i == len;
}

static int parse_host(np_addr *a, const char *s, size_t len, const char **why) {
  struct in_addr ignored;
  if (len > HOST_MAX) return refuse(why, "host is longer than 255 bytes");
  for (size_t i = 0; i < len; i++) {
    /* bytes above 0x7f are let through: international names are the resolver's matter */
    if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f)
      return refuse(why, "host contains a blank or control byte");
    if (s[i] == ':')
      return refuse(why, "more than one ':' (IPv6 stands in brackets, schemes end in '://')");
    if (strchr("/@[]%?#\\*\"'<>,", s[i]))
      return refuse(why, "host contains a character that no name has");
  }
  a->host = s;
  a->host_len = len;
  a->literal = len == 0 || literal_of(AF_INET, s, len, &ignored);
  if (!a->literal && ends_in_number(s, len))
    return refuse(why, "host looks like an IPv4 address and is not four numbers from 0 to 255");
  return 0;
}

static int parse_hostport(np_addr *a, const char *s, size_t len, const char **why) {
  const char *colon;
  int err;
  if (len > 0 && s[0] == '[') {
    const char *close = memchr(s, ']', len);
    if (!close) return refuse(why, "'[' without ']'");
    if ((err = parse_bracketed(a, s + 1, (size_t)(close - s - 1), why)) != 0) return err;
    colon = close + 1 < s + len ? close + 1 : NULL;
    if (colon && *colon != ':') return refuse(why, "']' is not followed by ':' and a port");
  } else {
    colon = memrchr(s, ':', len);
    if ((err = parse_host(a, s, colon ? (size_t)(colon - s) : len, why)) != 0) return err;
  }
  if (!colon || colon + 1 == s + len) return refuse(why, "port is missing");
  a->port = (int)read_number(colon + 1, (size_t)(s + len - colon - 1), 65535);
  return a->port < 0 ? refuse(why, "port is not a number from 0 to 65535") : 0;
}

static int parse_path(np_addr *a, const char *s, size_t len, const char **why) {
  a->host = s;
  a->host_len = len;
  if (len > 0 && s[0] == '@') return 0; /* "@" alone is a name too, the empty one */
  return memchr(s, 0, len) ? refuse(why, "path contains a zero byte") : 0;
}

static int protocol_of(const char *s, size_t len) {
  for (size_t i = 0; i < np_countof(protocols); i++)
    if (equals(s, len, protocols[i].name)) return protocols[i].number;
  return (int)read_number(s, len, PROTO_MAX);
}

static int parse_raw(np_addr *a, const char *s, size_t len, const char **why) {
  struct in_addr ignored;
  a->literal = true;
  if (len > 1 && s[0] == '[' && s[len - 1] == ']') return parse_bracketed(a, s + 1, len - 2, why);
  a->host = s;
  a->host_len = len;
  if (literal_of(AF_INET, s, len, &ignored)) return 0;
  a->port = protocol_of(s, len);
  if (a->port >= 0) return 0;
  return refuse(why, "not a protocol (icmp, icmpv6, udp ... or a number to 255) or an IP address");
}

/* A host without a port. */
static int parse_icmp(np_addr *a, const char *s, size_t len, const char **why) {
  if (len == 0 || s[0] != '[') return parse_host(a, s, len, why);
  if (s[len - 1] != ']') return refuse(why, "nothing can follow ']': ICMP has no ports");
  return parse_bracketed(a, s + 1, len - 2, why);
}

static int parse_packet(np_addr *a, const char *s, size_t len, const char **why) {
  a->host = s;
  a->host_len = len;
  a->literal = true;
  if (len > 0 && !scope_fits(s, len)) return refuse(why, "not an interface's name or number");
  return 0;
}

static int parse_fd(np_addr *a, const char *s, size_t len, const char **why) {
  a->host = s;
  a->host_len = len;
  a->port = (int)read_number(s, len, INT_MAX);
  return a->port < 0 ? refuse(why, "descriptor is not a number") : 0;
}

static int parse_name(np_addr *a, const char *s, size_t len, const char **why) {
  a->host = s;
  a->host_len = len;
  return len == 0 ? refuse(why, "name is missing") : 0;
}

/* The names in LISTEN_FDNAMES: sd_listen_fds_with_names(3). */
static int parse_systemd(np_addr *a, const char *s, size_t len, const char **why) {
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)s[i] < ' ' || s[i] == 0x7f || s[i] == ':')
      return refuse(why, "systemd name contains ':' or a control byte");
  return parse_name(a, s, len, why);
}

/* The row whose name and separator s begins with; *skip is their length. */
static const scheme_row *find_scheme(const char *s, size_t len, size_t *skip) {
  for (size_t i = 0; i < np_countof(schemes); i++) {
    const scheme_row *r = &schemes[i];
    size_t n = strlen(r->name), m = strlen(r->sep);
    if (len >= n + m && memcmp(s, r->name, n) == 0 && memcmp(s + n, r->sep, m) == 0) {
      *skip = n + m;
      return r;
    }
  }
  return NULL;
}

int np_addr_parse(np_addr *a, const char *s, size_t len, np_scheme def, const char **why) {
  size_t skip = 0;
  const scheme_row *r = find_scheme(s, len, &skip);
  if (!r) {
    r = &schemes[def];
    if (r->parse == parse_hostport && memmem(s, len, "://", 3))
      return refuse(why, "unknown scheme");
  }
  *a = (np_addr){.scheme = r->scheme, .host = s + skip, .port = -1};
  return r->parse(a, s + skip, len - skip, why);
}

/* ---- socket addresses ---- */

/* An interface's number: digits are a number first, so that what np_addr_print gives is
 * unambiguous. */
int np_addr_interface(const char *s, size_t len, uint32_t *id) {
  char name[IF_NAMESIZE];
  int64_t number = read_number(s, len, UINT32_MAX);
  if (number < 0) {
    if (len >= sizeof name) return -ENODEV;
    memcpy(name, s, len);
    name[len] = 0;
    number = if_nametoindex(name);
    if (number == 0) return -ENODEV;
  }
  *id = (uint32_t)number;
  return 0;
}

static int make_in(const np_addr *a, bool v6, np_sockaddr *out) {
  struct sockaddr_in *in = (struct sockaddr_in *)&out->ss;
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->ss;
  bool protocol = a->scheme == NP_RAW && a->port >= 0, any = protocol || a->host_len == 0;
  uint16_t port = htons(protocol || a->port < 0 ? 0 : (uint16_t)a->port);
  const char *scope;
  size_t scope_len, alen;

  if (!a->literal) return -EINVAL;
  if (any ? !v6 && !(protocol && a->port == PROTO_ICMPV6)
          : literal_of(AF_INET, a->host, a->host_len, &in->sin_addr)) {
    in->sin_family = AF_INET;
    in->sin_port = port;
    out->len = sizeof *in;
    return 0;
  }
  in6->sin6_family = AF_INET6;
  in6->sin6_port = port;
  out->len = sizeof *in6;
  if (any) return 0;
  alen = split_scope(a->host, a->host_len, &scope, &scope_len);
  if (!literal_of(AF_INET6, a->host, alen, &in6->sin6_addr)) return -EINVAL;
  return scope ? np_addr_interface(scope, scope_len, &in6->sin6_scope_id) : 0;
}

/* The byte at s[*i], where %HH is one byte; moves *i past it. */
static char unescape(const char *s, size_t len, size_t *i) {
  bool room = s[*i] == '%' && len - *i > 2;
  int high = room ? hex_value(s[*i + 1]) : -1, low = room ? hex_value(s[*i + 2]) : -1;
  if (high < 0 || low < 0) return s[(*i)++];
  *i += 3;
  return (char)(high << 4 | low);
}

static int make_un(const np_addr *a, np_sockaddr *out) {
  struct sockaddr_un *un = (struct sockaddr_un *)&out->ss;
  size_t n = 0, max = sizeof un->sun_path;
  un->sun_family = AF_UNIX;
  if (a->host_len > 0 && a->host[0] == '@') {
    for (size_t i = 1; i < a->host_len;) {
      if (++n >= max) return -ENAMETOOLONG;
      un->sun_path[n] = unescape(a->host, a->host_len, &i);
    }
    n++;
  } else {
    if (a->host_len > max) return -ENAMETOOLONG;
    memcpy(un->sun_path, a->host, a->host_len);
    /* the zero byte behind a path is part of the length where there is room for it: unix(7) */
    n = a->host_len > 0 ? np_min(a->host_len + 1, max) : 0;
  }
  out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
  return 0;
}

#ifdef AF_PACKET
static int make_ll(const np_addr *a, np_sockaddr *out) {
  struct sockaddr_ll *ll = (struct sockaddr_ll *)&out->ss;
  uint32_t id = 0;
  int r = a->host_len > 0 ? np_addr_interface(a->host, a->host_len, &id) : 0;
  if (r < 0 || id > INT_MAX) return -ENODEV;
  ll->sll_family = AF_PACKET;
  ll->sll_ifindex = (int)id;
  out->len = sizeof *ll;
  return 0;
}
#endif

int np_addr_sockaddr(const np_addr *a, bool v6, np_sockaddr *out) {
  *out = (np_sockaddr){.len = 0};
  switch (a->scheme) {
  case NP_TCP:
  case NP_UDP:
  case NP_TLS:
  case NP_ICMP:
  case NP_RAW: return make_in(a, v6, out);
#ifdef AF_PACKET
  case NP_PACKET: return make_ll(a, out);
#endif
  case NP_UNIX:
  case NP_UNIX_DGRAM:
  case NP_UNIX_SEQPACKET: return make_un(a, out);
  default: return -EINVAL;
  }
}

const char *np_scheme_name(np_scheme s) { return schemes[s].name; }

int np_scheme_type(np_scheme s) { return schemes[s].type; }

int np_scheme_of(int domain, int type, int protocol) {
  bool local = domain == AF_UNIX;
#ifdef AF_PACKET
  if (domain == AF_PACKET) return NP_PACKET;
#endif
  if (!local && domain != AF_INET && domain != AF_INET6) return -EPROTONOSUPPORT;
  if (!local && type == SOCK_DGRAM && (protocol == PROTO_ICMP || protocol == PROTO_ICMPV6))
    return NP_ICMP;
  for (size_t i = 0; i < np_countof(schemes); i++)
    if (schemes[i].type == type && type != 0 && (schemes[i].parse == parse_path) == local)
      return (int)schemes[i].scheme;
  return -EPROTONOSUPPORT;
}
