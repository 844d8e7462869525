/* Runs a script once per allocation it makes, each time refusing another one: starve script.lua [first [step]].
 *
 * Lua answers a refused allocation with a full collection and asks again, so two in a row are refused.  What may come
 * of it: no runtime, or a run that ends, well or with an error.  Prints how many runs there were, how many had no
 * runtime, failed, and ended well; the sanitizers of the build watch the rest. */
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "neap.h"

typedef struct meter {
  long count, refuse; /* allocations asked for; the first that is refused, 0: none */
} meter;

static void *alloc(void *ud, void *p, size_t old, size_t size) {
  meter *m = ud;
  if (size == 0) {
    free(p);
    return NULL;
  }
  if (m->refuse && (!p || size > old)) {
    m->count++;
    if (m->count == m->refuse || m->count == m->refuse + 1) return NULL;
  }
  return realloc(p, size);
}

/* 0 ended well, 1 failed, 2 no runtime. */
static int run(const char *script, meter *m, long refuse) {
  *m = (meter){0, 0};
  lua_State *L = lua_newstate(alloc, m);
  luaL_openlibs(L);
  if (luaL_loadfile(L, script) != LUA_OK) exit(fprintf(stderr, "%s\n", lua_tostring(L, -1)));
  m->refuse = refuse;
  np_runtime *rt = np_new(&(np_config){.L = L});
  if (rt) np_start(rt, 0);
  int status = rt ? np_run(rt) != 0 : 2;
  if (rt) np_free(rt);
  m->refuse = 0;
  lua_close(L);
  return status;
}

int main(int argc, char **argv) {
  long refuse = argc > 2 ? atol(argv[2]) : 1, step = argc > 3 ? atol(argv[3]) : 1;
  long ended[3] = {0, 0, 0}, runs = 0;
  meter m;
  signal(SIGPIPE, SIG_IGN);
  do {
    ended[run(argv[1], &m, refuse)]++;
    runs++;
    refuse += step;
  } while (m.count >= refuse);
  printf("%ld runs: %ld without a runtime, %ld failed, %ld ended well\n", runs, ended[2], ended[1],
         ended[0]);
  return 0;
}
