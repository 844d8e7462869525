/* The core's tables for Lua: addresses taken apart, names of errors, rows of options. No I/O. */
#include <string.h>

#include "bindings/codec.h"
#include "bindings/lua_util.h"
#include "core/address.h"
#include "core/error.h"
#include "core/option.h"

/* The scheme that the string at arg names, NP_TCP when it is absent; raises for another. */
static np_scheme opt_scheme(lua_State *L, int arg) {
  const char *name = luaL_optstring(L, arg, "tcp");
  for (int s = NP_TCP; s <= NP_MEM; s++)
    if (strcmp(np_scheme_name((np_scheme)s), name) == 0) return (np_scheme)s;
  luaL_argerror(L, arg, lua_pushfstring(L, "unknown scheme '%s'", name));
  return NP_TCP;
}

/* Parses the string at 1 with the default scheme at 2: 0, or how many values the failure has. */
static int check_address(lua_State *L, np_addr *a) {
  size_t len;
  const char *s = luaL_checklstring(L, 1, &len), *why = NULL;
  if (np_addr_parse(a, s, len, opt_scheme(L, 2), &why) == 0) return 0;
  return np_fail_text(L, "EINVAL", "address \"%s\": %s", s, why);
}

/* codec.address(s [, default]) -> { scheme, host, port, literal }, or nil, message, "EINVAL".
 * `default` names the scheme of strings that have none ("tcp"); port is absent where there is
 * none. */
int np_codec_address(lua_State *L) {
  np_addr a;
  int failed = check_address(L, &a);
  if (failed > 0) return failed;
  lua_createtable(L, 0, 4);
  lua_pushstring(L, np_scheme_name(a.scheme));
  lua_setfield(L, -2, "scheme");
  lua_pushlstring(L, a.host, a.host_len);
  lua_setfield(L, -2, "host");
  if (a.port >= 0) {
    lua_pushinteger(L, a.port);
    lua_setfield(L, -2, "port");
  }
  lua_pushboolean(L, a.literal);
  lua_setfield(L, -2, "literal");
  return 1;
}

/* codec.canonical(s [, default [, v6]]) -> the address as a socket of it would print, or nil,
 * message, code: EINVAL (no address, or a name), ENAMETOOLONG (path), ENODEV (scope). v6: "" is
 * [::]. */
int np_codec_canonical(lua_State *L) {
  char text[NP_ADDR_MAX];
  np_addr a;
  np_sockaddr sa;
  int n = check_address(L, &a);
  if (n > 0) return n;
  n = np_addr_sockaddr(&a, lua_toboolean(L, 3), &sa);
  if (n < 0) return np_fail(L, n, "address \"%s\"", lua_tostring(L, 1));
  n = np_addr_print(a.scheme, (struct sockaddr *)&sa.ss, sa.len, text, sizeof text);
  lua_pushlstring(L, text, (size_t)n);
  return 1;
}

/* codec.error(code) -> name, text of a code as C has it (negative). */
int np_codec_error(lua_State *L) {
  lua_Integer i = luaL_checkinteger(L, 1);
  int code = i >= INT32_MIN && i <= 0 ? (int)i : 0;
  lua_pushstring(L, np_error_name(code));
  lua_pushstring(L, np_error_text(code));
  return 2;
}

static void set_text(lua_State *L, const char *key, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, key);
}

/* codec.options() -> a list of { name, type, unit, doc, readonly, before }: what stream:option
 * knows. */
int np_codec_options(lua_State *L) {
  static const char *const types[] = {
    [NP_OPT_BOOL] = "boolean",
    [NP_OPT_INT] = "integer",
    [NP_OPT_SECONDS] = "seconds",
    [NP_OPT_STRING] = "string",
    [NP_OPT_LINGER] = "seconds|false",
    [NP_OPT_WORD] = "string",
    [NP_OPT_INTERFACE] = "string|integer",
  };
  const np_option *o;
  lua_newtable(L);
  for (size_t i = 0; (o = np_option_at(i)); i++) {
    lua_createtable(L, 0, 6);
    set_text(L, "name", o->name);
    set_text(L, "type", types[o->type]);
    set_text(L, "unit", o->unit);
    set_text(L, "doc", o->doc);
    lua_pushboolean(L, o->readonly);
    lua_setfield(L, -2, "readonly");
    lua_pushboolean(L, o->when == NP_OPT_BEFORE);
    lua_setfield(L, -2, "before");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}
