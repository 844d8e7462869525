/* The option() method.  It knows no option: a row added to the core's table appears here by itself.
 */
#include "bindings/option.h"

#include "bindings/lua_util.h"
#include "bindings/sockopt.h"

int np_option_call(lua_State *L, int fd, int idx, const char *what) {
  np_optval v;
  const np_option *o = np_check_option(L, idx);
  bool set = !lua_isnone(L, idx + 1);
  if (set) np_check_optval(L, idx + 1, idx + 1, o, &v);
  int r = fd < 0 ? -ENOTSOCK : set ? np_option_set(fd, o, &v) : np_option_get(fd, o, &v);
  if (r < 0) return np_fail(L, r, "option '%s' of %s", o->name, what);
  if (set) lua_pushboolean(L, 1);
  else np_push_optval(L, o, &v);
  return 1;
}
