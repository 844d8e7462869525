/* Fuzzes the address parser and printer: strings must parse or be refused with a reason, and
 * whatever is printed must parse again to the same socket address.  The first byte chooses: a
 * string, or the bytes of a socket address. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "core/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool local_scheme(np_scheme s) { return s >= NP_UNIX && s <= NP_UNIX_SEQPACKET; }

/* Prints sa and reads it back. */
static void round_trip(np_scheme scheme, const np_sockaddr *sa) {
  char text[NP_ADDR_MAX];
  const char *why = NULL;
  np_addr a;
  np_sockaddr back;
  int n = np_addr_print(scheme, (const struct sockaddr *)&sa->ss, sa->len, text, sizeof text);
  np_assert(n > 0 && (size_t)n < sizeof text && (size_t)n >= strlen(text));
  np_assert(np_addr_parse(&a, text, (size_t)n, NP_TCP, &why) == 0);
  np_assert(np_addr_sockaddr(&a, false, &back) == 0);
  np_assert(back.len == sa->len && memcmp(&back.ss, &sa->ss, sa->len) == 0);
}

static void fuzz_string(const char *s, size_t n, np_scheme def) {
  np_addr a;
  np_sockaddr sa;
  const char *why = NULL;
  if (np_addr_parse(&a, s, n, def, &why) != 0) {
    np_assert(why != NULL);
    return;
  }
  np_assert(a.scheme <= NP_MEM && a.port >= -1);
  np_assert(a.host + a.host_len <= s + n && a.host >= s);
  for (int v6 = 0; v6 < 2; v6++) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&sa.ss;
    int r = np_addr_sockaddr(&a, v6, &sa);
    np_assert(r == 0 || r == -EINVAL || r == -ENAMETOOLONG || r == -ENODEV);
    np_assert(r != -EINVAL || !a.literal || a.scheme > NP_RAW);
    /* a path that begins with '@' prints as ./@ */
    if (r == 0 && !(local_scheme(a.scheme) && un->sun_path[0] == '@')) round_trip(a.scheme, &sa);
  }
}

static void fuzz_sockaddr(const uint8_t *p, size_t n, uint8_t pick) {
  np_sockaddr sa = {.len = 0};
  np_scheme scheme = (np_scheme)(pick % 7);
  if (local_scheme(scheme)) {
    struct sockaddr_un *un = (struct sockaddr_un *)&sa.ss;
    size_t len = np_min(n, sizeof un->sun_path);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, p, len);
    if (len > 0 && un->sun_path[0] == '@') return;
    if (len > 0 && un->sun_path[0] != 0) { /* as the kernel gives paths: a zero byte behind them */
      size_t path = strnlen(un->sun_path, len);
      memset(un->sun_path + path, 0, sizeof un->sun_path - path);
      len = np_min(path + 1, sizeof un->sun_path);
    }
    sa.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  } else if (pick & 0x80) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    if (n < 6) return;
    memcpy(&in.sin_addr, p, 4);
    if (scheme != NP_RAW) memcpy(&in.sin_port, p + 4, 2);
    memcpy(&sa.ss, &in, sa.len = sizeof in);
  } else {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (n < 22) return;
    memcpy(&in6.sin6_addr, p, 16);
    if (scheme != NP_RAW) memcpy(&in6.sin6_port, p + 16, 2);
    memcpy(&in6.sin6_scope_id, p + 18, 4);
    memcpy(&sa.ss, &in6, sa.len = sizeof in6);
  }
  round_trip(scheme, &sa);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *copy; /* of exact size, so that reading past the end is seen */
  if (size < 1) return 0;
  copy = malloc(size);
  memcpy(copy, data + 1, size - 1);
  if (data[0] < 0x20 || data[0] > 0x7e) fuzz_sockaddr(data + 1, size - 1, data[0]);
  else fuzz_string(copy, size - 1, (np_scheme)(data[0] % (NP_MEM + 1)));
  free(copy);
  return 0;
}
