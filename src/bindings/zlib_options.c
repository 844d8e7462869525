/* Options of zlib: a table at idx, or nothing, into what the core wants. */
#include "bindings/zlib.h"

#include <string.h>

#include "bindings/lua_util.h"

enum { DICTIONARY_MAX = 32768 }; /* a window: zlib uses no more */

static const char *const formats[] = {"raw", "zlib", "gzip", "auto", NULL};
static const char *const strategies[] = {"default", "filtered", "huffman", "rle", "fixed", NULL};

/* The index of the option's value among the first `count` names. */
static int choice(lua_State *L, int idx, const char *key, const char *def,
                  const char *const names[], int count) {
  const char *s = np_opt_string(L, idx, key, def);
  for (int i = 0; i < count; i++)
    if (strcmp(s, names[i]) == 0) return i;
  return luaL_argerror(L, idx, lua_pushfstring(L, "option '%s': no such value '%s'", key, s));
}

static void read_dictionary(lua_State *L, int idx, np_zlib_config *c) {
  c->dictionary = np_opt_string(L, idx, "dictionary", NULL);
  if (!c->dictionary) return;
  lua_getfield(L, idx, "dictionary");
  c->dictionary_len = lua_rawlen(L, -1);
  lua_pop(L, 1);
  luaL_argcheck(L, c->dictionary_len <= DICTIONARY_MAX, idx, "option 'dictionary': over 32 KiB");
  luaL_argcheck(L, c->format != NP_ZLIB_GZIP, idx, "option 'dictionary': not with gzip");
}

void np_deflate_options(lua_State *L, int idx, np_zlib_config *c) {
  static const char *const known[] = {"dictionary", "format",      "level", "memory",
                                      "strategy",   "window_bits", NULL};
  np_check_options(L, idx, known);
  c->format = (np_zlib_format)choice(L, idx, "format", "zlib", formats, NP_ZLIB_AUTO);
  c->level = (int)np_opt_integer(L, idx, "level", 6, 0, 9);
  c->window_bits = (int)np_opt_integer(L, idx, "window_bits", 15, 8, 15);
  c->memory = (int)np_opt_integer(L, idx, "memory", 8, 1, 9);
  c->strategy = (np_zlib_strategy)choice(L, idx, "strategy", "default", strategies, 5);
  read_dictionary(L, idx, c);
}

void np_inflate_options(lua_State *L, int idx, np_zlib_config *c) {
  c->format = (np_zlib_format)choice(L, idx, "format", "auto", formats, 4);
  c->window_bits = (int)np_opt_integer(L, idx, "window_bits", 15, 8, 15);
  c->joined = np_opt_boolean(L, idx, "joined", c->format >= NP_ZLIB_GZIP);
  read_dictionary(L, idx, c);
}
