/* neap.fault.core: put(stream, options), the fault layer for specs and harnesses. */
#include <math.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"
#include "bindings/stream_impl.h"
#include "core/fault.h"

static double fraction(lua_State *L, int idx, const char *key) {
  lua_Number v = 0;
  if (lua_isnoneornil(L, idx)) return 0;
  if (lua_getfield(L, idx, key) != LUA_TNIL) {
    v = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(v >= 0 && v < 1))
      luaL_argerror(
        L, idx,
        lua_pushfstring(L, "option '%s': a fraction, 0 or more and less than 1, expected", key));
  }
  lua_pop(L, 1);
  return v;
}

static const char *const known[] = {"seed", "cut", "again", "delay", "reset_after", NULL};

/* put(stream[, {seed = 0, cut = 0, again = 0, delay = 0, reset_after = 0}]): the stream, with the
 * layer on it.
 *   seed         integer; the same one gives the same faults for the same calls
 *   cut          bytes: reads and writes are of 1 .. cut bytes
 *   again        0 ..< 1: how often a direction that is ready pretends not to be
 *   delay        seconds: such a pause lasts a random part of it (0: until the loop's next turn)
 *   reset_after  bytes, both ways together, after which reads and writes fail with ECONNRESET
 * Raises if another task uses the stream.  take() is refused from here on. */
static int f_put(lua_State *L) {
  stream *u = np_stream_self(L);
  np_check_options(L, 2, known);
  np_faults f = {
    .seed = (uint64_t)np_opt_integer(L, 2, "seed", 0, LUA_MININTEGER, LUA_MAXINTEGER),
    .cut = (size_t)np_opt_integer(L, 2, "cut", 0, 0, LUA_MAXINTEGER),
    .again = fraction(L, 2, "again"),
    .delay_s = np_opt_seconds(L, 2, "delay", 0),
    .reset_after = (uint64_t)np_opt_integer(L, 2, "reset_after", 0, 0, LUA_MAXINTEGER),
  };
  luaL_argcheck(L, f.delay_s <= 3600, 2, "option 'delay': more than an hour");
  np_stream_check_free(L, u);
  if (!u->s) return np_stream_failed(L, u, NP_ECLOSED, "fault");
  if (np_fault_put(u->s, &f) < 0) return luaL_error(L, "not enough memory");
  lua_settop(L, 1);
  return 1;
}

int luaopen_neap_fault_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"put", f_put}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
