/* For LD_PRELOAD: a resolver that answers as a name begins: "slow" takes 30 s, as behind a dead
 * name server; "quick" is 127.0.0.1 at once; "missing", "later", "never" fail with EAI_NONAME,
 * EAI_AGAIN and EAI_FAIL. Built by helper.resolver. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **list) {
  lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
  if (begins(node, "slow")) {
    sleep(30);
    return EAI_AGAIN;
  }
  if (begins(node, "missing")) return EAI_NONAME;
  if (begins(node, "later")) return EAI_AGAIN;
  if (begins(node, "never")) return EAI_FAIL;
  return real(begins(node, "quick") ? "127.0.0.1" : node, service, hints, list);
}
