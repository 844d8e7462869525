/* The Lua state of a runtime that makes its own.
 *
 * Lua tells the size of each block it frees, so small blocks need no header: they come from slabs
 * by size class and go back to a list.  Against malloc that takes 20 % off a spawned task, 10 % off
 * a pipelined RESP command, 7 % off a pipelined line (CPU time, the kernel's included).  Slabs are
 * kept until the state is closed.  Sanitized builds use malloc, which they can watch. */
#include "bindings/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "core/base.h"

enum {
  CLASS_BYTES = 16, /* alignment of everything Lua stores */
  CLASSES = 45, /* up to 720 bytes: closures, tables, short strings, userdata, a thread's stack */
  SLAB_BYTES = 65536, /* what is not used of one is not touched, so it takes no memory */
};

typedef struct block {
  struct block *next;
} block;

struct np_state {
  lua_State *L;
  block *free[CLASSES]; /* of (i + 1) * CLASS_BYTES bytes */
  block *slabs;
  char *fresh; /* the newest slab's unused rest */
  size_t left;
  bool warnings_on, warning_shown, warning_goes_on; /* "@on"; the pieces of one message */
};

static inline bool small(size_t n) { return NP_POOLED && n - 1 < (size_t)CLASSES * CLASS_BYTES; }
static inline size_t class_of(size_t n) { return (n - 1) / CLASS_BYTES; }

static inline void give(np_state *s, void *p, size_t n) {
  if (np_unlikely(!small(n))) {
    free(p);
    return;
  }
  block *b = p;
  b->next = s->free[class_of(n)];
  s->free[class_of(n)] = b;
}

/* Out of line, as all that is not a block from a list and back: 20 instructions less for those. */
static __attribute__((noinline)) void *from_slab(np_state *s, size_t bytes) {
  if (s->left < bytes) {
    block *slab = malloc(SLAB_BYTES);
    if (!slab) return NULL;
    slab->next = s->slabs;
    s->slabs = slab;
    s->fresh = (char *)slab + CLASS_BYTES;
    s->left = SLAB_BYTES - CLASS_BYTES;
  }
  void *p = s->fresh;
  s->fresh += bytes;
  s->left -= bytes;
  return p;
}

static inline void *take(np_state *s, size_t n) {
  if (np_unlikely(!small(n))) return malloc(n);
  size_t c = class_of(n);
  block *b = s->free[c];
  if (np_unlikely(!b)) return from_slab(s, (c + 1) * CLASS_BYTES);
  s->free[c] = b->next;
  return b;
}

static __attribute__((noinline)) void *resize(np_state *s, void *p, size_t osize, size_t nsize) {
  if (!small(osize) && !small(nsize)) return realloc(p, nsize);
  if (small(osize) && small(nsize) && class_of(osize) == class_of(nsize)) return p;
  void *q = take(s, nsize);
  if (!q)
    return nsize < osize ? p
                         : NULL; /* Lua relies on shrinking: a block may be longer than its class */
  memcpy(q, p, osize < nsize ? osize : nsize);
  give(s, p, osize);
  return q;
}

static void *allocate(void *ud, void *p, size_t osize, size_t nsize) {
  np_state *s = ud;
  if (!p) return nsize ? take(s, nsize) : NULL;
  if (nsize) return resize(s, p, osize, nsize);
  give(s, p, osize);
  return NULL;
}

static int on_panic(lua_State *L) {
  const char *msg = lua_tostring(L, -1);
  fprintf(stderr, "neap: unprotected error in a call to Lua (%s)\n", msg ? msg : "not a string");
  return 0;
}

/* Warnings as the stock interpreter has them, off until "@on", except for Neap's own: a connection
 * that nobody closed should be heard of without having been asked for. */
static void on_warning(void *ud, const char *msg, int goes_on) {
  np_state *s = ud;
  if (!s->warning_goes_on && !goes_on && *msg == '@') {
    if (strcmp(msg, "@on") == 0) s->warnings_on = true;
    if (strcmp(msg, "@off") == 0) s->warnings_on = false;
    return;
  }
  if (!s->warning_goes_on) {
    s->warning_shown = s->warnings_on || strncmp(msg, "neap: ", 6) == 0;
    if (s->warning_shown) fputs("Lua warning: ", stderr);
  }
  s->warning_goes_on = goes_on;
  if (s->warning_shown) fprintf(stderr, goes_on ? "%s" : "%s\n", msg);
}

np_state *np_state_new(void) {
  np_state *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->L = lua_newstate(allocate, s);
  if (!s->L) {
    np_state_free(s);
    return NULL;
  }
  lua_atpanic(s->L, on_panic);
  lua_setwarnf(s->L, on_warning, s);
  return s;
}

lua_State *np_state_lua(np_state *s) { return s->L; }

void np_state_free(np_state *s) {
  if (s->L) lua_close(s->L);
  while (s->slabs) {
    block *slab = s->slabs;
    s->slabs = slab->next;
    free(slab);
  }
  free(s);
}
