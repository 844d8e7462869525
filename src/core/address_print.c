/* Socket addresses to strings that np_addr_parse reads back to the same socket address.
 *
 * No allocation and no format strings: a datagram server prints an address per message. */
#include "core/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>
#ifdef __linux__
#include <linux/if_packet.h>
#endif

/* snprintf's contract without its cost: a datagram server prints an address per message. */
typedef struct out {
  char *buf;
  size_t size, len; /* len counts what did not fit, too */
} out;

static void put(out *o, const char *s, size_t n) {
  if (o->len < o->size) memcpy(o->buf + o->len, s, np_min(n, o->size - o->len));
  o->len += n;
}

static void put_text(out *o, const char *s) { put(o, s, strlen(s)); }

static void put_number(out *o, uint32_t v) {
  char digits[10];
  size_t i = sizeof digits;
  do digits[--i] = (char)('0' + v % 10);
  while ((v /= 10) != 0);
  put(o, digits + i, sizeof digits - i);
}

static void put_in(out *o, const struct sockaddr_in *in) {
  const unsigned char *b = (const unsigned char *)&in->sin_addr;
  for (int i = 0; i < 4; i++) {
    if (i > 0) put(o, ".", 1);
    put_number(o, b[i]);
  }
}

/* The name where it reads back as this very interface, else the number. */
static void put_interface(out *o, uint32_t id) {
  char name[IF_NAMESIZE] = "";
  bool usable = if_indextoname(id, name) && !strpbrk(name, "/:%[]");
  size_t digits = strspn(name, "0123456789");
  for (const char *s = name; *s; s++)
    if ((unsigned char)*s <= ' ' || *s == 0x7f) usable = false;
  if (usable && name[digits] != 0) put_text(o, name);
  else put_number(o, id);
}

static void put_in6(out *o, const struct sockaddr_in6 *in6) {
  char text[INET6_ADDRSTRLEN];
  put(o, "[", 1);
  put_text(o, inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text));
  if (in6->sin6_scope_id != 0) {
    put(o, "%", 1);
    put_interface(o, in6->sin6_scope_id);
  }
  put(o, "]", 1);
}

static void put_abstract(out *o, const char *s, size_t n) {
  static const char hex[] = "0123456789abcdef";
  put(o, "@", 1);
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s[i];
    char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
    if (c > ' ' && c < 0x7f && c != '%') put(o, &s[i], 1);
    else put(o, escaped, sizeof escaped);
  }
}

static void put_un(out *o, const struct sockaddr_un *un, socklen_t len) {
  size_t head = offsetof(struct sockaddr_un, sun_path);
  size_t n = len > head ? np_min(len - head, sizeof un->sun_path) : 0;
  if (n > 0 && un->sun_path[0] == 0) {
    put_abstract(o, un->sun_path + 1, n - 1);
  } else if (n > 0) {
    if (un->sun_path[0] == '@') put_text(o, "./");
    put(o, un->sun_path, strnlen(un->sun_path, n));
  }
}

static void put_scheme(out *o, np_scheme scheme) {
  put_text(o, np_scheme_name(scheme));
  put_text(o, np_scheme_inet(scheme) ? "://" : ":");
}

static void print_in(out *o, np_scheme scheme, const struct sockaddr *sa) {
  bool portless = np_scheme_portless(scheme), four = sa->sa_family == AF_INET;
  const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
  put_scheme(o, np_scheme_inet(scheme) || portless ? scheme : NP_TCP);
  if (four) put_in(o, in);
  else put_in6(o, in6);
  if (portless) return;
  put(o, ":", 1);
  put_number(o, ntohs(four ? in->sin_port : in6->sin6_port));
}

int np_addr_print(np_scheme scheme, const struct sockaddr *sa, socklen_t len, char *buf,
                  size_t size) {
  out o = {.buf = buf, .size = size > 0 ? size - 1 : 0};
  bool local = np_scheme_local(scheme);
  sa_family_t family = len >= sizeof sa->sa_family ? sa->sa_family : local ? AF_UNIX : AF_UNSPEC;
  if (family == AF_UNIX) { /* an unnamed sender of a datagram comes with len 0 */
    put_scheme(&o, local ? scheme : NP_UNIX);
    put_un(&o, (const struct sockaddr_un *)sa, len);
  } else if ((family == AF_INET && len >= sizeof(struct sockaddr_in)) ||
             (family == AF_INET6 && len >= sizeof(struct sockaddr_in6))) {
    print_in(&o, scheme, sa);
  }
#ifdef AF_PACKET
  else if (family == AF_PACKET && len >= offsetof(struct sockaddr_ll, sll_hatype)) {
    const struct sockaddr_ll *ll = (const struct sockaddr_ll *)sa;
    put_scheme(&o, NP_PACKET);
    if (ll->sll_ifindex > 0) put_interface(&o, (uint32_t)ll->sll_ifindex);
  }
#endif
  if (size > 0) buf[np_min(o.len, o.size)] = 0;
  return (int)o.len;
}
