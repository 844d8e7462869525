/* Runs a script once per allocation it makes, each time refusing another one:
 * starve script.lua [first [step [say]]].
 *
 * Allocations are Lua's, which come through its allocator, and those of our own library: link with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc and a shared libuv (which aborts without memory).
 * Lua answers a refusal with a full collection and asks again, so two in a row are refused.  What
 * may come of it: no runtime, or a run that ends, well or with an error. Prints how many runs there
 * were and how they ended; the sanitizers of the build watch the rest. */
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "neap.h"

static long count;  /* allocations asked for */
static long refuse; /* the first that is refused; 0: none, and none is counted */

static bool refused(void) {
  if (refuse == 0) return false;
  count++;
  return count == refuse || count == refuse + 1;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size) { return refused() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return refused() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t size) { return refused() ? NULL : __real_realloc(p, size); }

static void *alloc(void *ud, void *p, size_t old, size_t size) {
  (void)ud;
  if (size == 0) {
    free(p);
    return NULL;
  }
  if ((!p || size > old) && refused()) return NULL;
  return __real_realloc(p, size);
}

/* 0 ended well, 1 failed, 2 no runtime. */
static int run(const char *script, long which) {
  count = refuse = 0;
  lua_State *L = lua_newstate(alloc, NULL);
  luaL_openlibs(L);
  if (luaL_loadfile(L, script) != LUA_OK) exit(fprintf(stderr, "%s\n", lua_tostring(L, -1)));
  refuse = which;
  np_runtime *rt = np_new(&(np_config){.L = L});
  int status = 2;
  if (rt) status = np_start(rt, 0) != 0 || np_run(rt) != 0;
  if (rt) np_free(rt);
  refuse = 0;
  lua_close(L);
  return status;
}

int main(int argc, char **argv) {
  long which = argc > 2 ? atol(argv[2]) : 1, step = argc > 3 ? atol(argv[3]) : 1;
  long ended[3] = {0, 0, 0}, runs = 0;
  signal(SIGPIPE, SIG_IGN);
  do {
    if (argc > 4) fprintf(stderr, "refusing %ld\n", which);
    ended[run(argv[1], which)]++;
    runs++;
    which += step;
  } while (count >= which - step); /* until none was refused */
  printf("%ld runs: %ld without a runtime, %ld failed, %ld ended well\n", runs, ended[2], ended[1],
         ended[0]);
  return 0;
}
