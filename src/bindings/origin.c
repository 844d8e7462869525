/* Where an object was made: the line that forgot to close it is the line that has to be found. */
#include "bindings/origin.h"

#include "bindings/task.h"

#include <stdio.h>
#include <string.h>

#include "core/base.h"

/* Lines of C and of the standard library are passed over: they forgot nothing. */
void np_origin_push(lua_State *L) {
  lua_Debug ar;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline < 0 || strstr(ar.source, "lua/stdlib/")) continue;
    lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
    return;
  }
  lua_pushnil(L);
}

void np_origin_set(lua_State *L, int idx, int n) {
  idx = lua_absindex(L, idx);
  np_origin_push(L);
  lua_setiuservalue(L, idx, n);
}

void np_origin_warn(lua_State *L, int idx, int n, const char *what) {
  char buf[512];
  if (np_runtime_freeing(L)) return;
  lua_getiuservalue(L, idx, n);
  const char *where = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an unknown line";
  snprintf(buf, sizeof buf, "neap: %s was collected without close (made at %s)", what, where);
  lua_pop(L, 1);
  lua_warning(L, buf, 0);
}
