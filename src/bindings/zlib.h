/* What the files of the zlib binding share. */
#ifndef NP_BINDINGS_ZLIB_H
#define NP_BINDINGS_ZLIB_H

#include <lua.h>

#include "core/zlib.h"

/* The options table at idx (none and nil: the defaults) into a zeroed config; raises for what is
 * wrong. Those of inflate leave unknown keys to the caller, who may know more. */
void np_deflate_options(lua_State *L, int idx, np_zlib_config *c);
void np_inflate_options(lua_State *L, int idx, np_zlib_config *c);

#endif
