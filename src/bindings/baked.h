/* The standard library inside the binary: scripts/bake.lua turns lua/stdlib into a table of source
 * texts.
 *
 * Sources, not byte code: error messages keep their lines, and a baked module is as readable in a
 * traceback as the file it came from.  Finding a source is all this does; runtime.c compiles it. */
#ifndef NP_BAKED_H
#define NP_BAKED_H

#include <stddef.h>

typedef struct np_baked {
  const char *name;   /* module name: "neap", "neap.net" */
  const char *source; /* its text, terminated by a zero that len does not count */
  size_t len;
  /* in the source tree: "lua/stdlib/net/init.lua"; the chunk name is "@" .. path */
  const char *path;
} np_baked;

/* The module of that name, or NULL: none is baked in. */
const np_baked *np_baked_find(const char *module);

#endif
