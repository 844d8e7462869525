/* For LD_PRELOAD: names that begin with "slow" take 30 s to look up, as behind a dead name server,
 * and those that begin with "quick" are 127.0.0.1 at once. Built and used by
 * spec/net/connect_spec.lua. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **list) {
  lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
  if (strncmp(node, "slow", 4) == 0) {
    sleep(30);
    return EAI_AGAIN;
  }
  return real(strncmp(node, "quick", 5) == 0 ? "127.0.0.1" : node, service, hints, list);
}
