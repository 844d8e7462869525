/* Addresses: the strings scripts use, parsed and printed.  Pure functions, fuzzed; no lookup.
 *
 *   tcp://host:port  udp://host:port  tls://host:port  ":8080" and "host:port" (TCP)
 *   unix:/path  unix:@abstract  unix-dgram:...  unix-seqpacket:...
 *   raw:icmp  icmp:  packet:eth0  fd:3  systemd:name  mem:name
 *
 * IPv6 literals stand in brackets, scopes as [fe80::1%eth0] (an interface's name or number).
 * Abstract names may hold any bytes; in them, and only there, %HH is the byte of that value.  A
 * path that begins with '@' is written ./@...; raw: takes a protocol (name or number) or, to send
 * to, an address without a port; icmp: (ping sockets) the latter, or nothing; packet: an
 * interface's name or number, or nothing: all. Whatever np_addr_print gives parses again, to the
 * same socket address (of packet: to the same interface). */
#ifndef NP_ADDRESS_H
#define NP_ADDRESS_H

#include <sys/socket.h>

#include "core/base.h"

typedef enum np_scheme {
  NP_TCP,
  NP_UDP,
  NP_TLS,
  NP_UNIX,
  NP_UNIX_DGRAM,
  NP_UNIX_SEQPACKET,
  NP_RAW,
  NP_ICMP,   /* SOCK_DGRAM with an ICMP protocol */
  NP_PACKET, /* AF_PACKET */
  NP_FD,
  NP_SYSTEMD,
  NP_MEM,
} np_scheme;

/* Schemes of host and port; of AF_UNIX. */
static inline bool np_scheme_inet(np_scheme s) { return s <= NP_TLS; }
/* Of IP hosts without a port. */
static inline bool np_scheme_portless(np_scheme s) { return s == NP_RAW || s == NP_ICMP; }
static inline bool np_scheme_local(np_scheme s) { return s >= NP_UNIX && s <= NP_UNIX_SEQPACKET; }

/* A parsed address string. Spans point into the string given. */
typedef struct np_addr {
  np_scheme scheme;
  const char *host; /* name, literal without brackets, path (abstract: from the '@'), protocol
                       or systemd name; "" for any */
  size_t host_len;
  int port;     /* 0..65535; the number for fd: and of raw:'s protocol; -1: there is none */
  bool literal; /* an IPv4/IPv6 literal, empty, or raw:'s protocol: never needs a lookup */
} np_addr;

/* A socket address with its length. */
typedef struct np_sockaddr {
  struct sockaddr_storage ss;
  socklen_t len;
} np_sockaddr;

/* 0, or -EINVAL with *why a static text that names the bad part ("port is not a number from 0 to
 * 65535"). `def` is the scheme of strings that name none. The string need not be terminated. */
int np_addr_parse(np_addr *a, const char *s, size_t len, np_scheme def, const char **why);

/* The socket address of a literal or AF_UNIX address. An empty host is `::` when v6, else 0.0.0.0;
 * "unix:" is the unnamed address, which binds to an abstract name of the kernel's choice.  0;
 * -EINVAL not a literal; -ENAMETOOLONG path past sun_path; -ENODEV unknown scope interface. */
int np_addr_sockaddr(const np_addr *a, bool v6, np_sockaddr *out);

/* The number of an interface, given by name or as a decimal number: 0, or -ENODEV. */
int np_addr_interface(const char *s, size_t len, uint32_t *id);

/* Prints as a string that parses: "tcp://127.0.0.1:80", "unix:@name", "unix:" for an unnamed
 * socket. "" for a family Neap has no scheme for. An IPv6 flow label and a raw socket's port are
 * not shown.  Returns the length, as snprintf; NP_ADDR_MAX bytes are always enough (an abstract
 * name of 107 bytes, each as %HH). */
#define NP_ADDR_MAX 384
int np_addr_print(np_scheme scheme, const struct sockaddr *sa, socklen_t len, char *buf,
                  size_t size);

/* "tcp", "udp", "unix-dgram" ... */
const char *np_scheme_name(np_scheme s);

/* The scheme of a socket, from the kernel's answers to SO_DOMAIN, SO_TYPE, SO_PROTOCOL (AF_INET +
 * SOCK_STREAM: NP_TCP ...; the protocol matters for datagrams only); -EPROTONOSUPPORT if Neap has
 * none for it. */
int np_scheme_of(int domain, int type, int protocol);

/* The SOCK_* type of a scheme that opens sockets, 0 for the others. */
int np_scheme_type(np_scheme s);

#endif
