/* neap.zlib.core: compression of strings, whole or as they come. No I/O, nothing waits.
 *
 * Deflaters and inflaters are one struct: input is kept where it lies, in the string that was fed,
 * and `next` makes at most so much output of it. Any allocation of Lua's may run a finalizer that
 * uses this very object, so nothing of it is remembered across one. */
#include "bindings/zlib.h"

#include <string.h>

#include "bindings/lua_util.h"
#include "bindings/modules.h"

enum { INPUT = 1 };                         /* user value: the string that `in` lies in */
enum { PIECE = 65536, ALL_MAX = 64 << 20 }; /* defaults of `max` */

/* How output grows: what luaL_Buffer has without an allocation, then as much as there is. */
#ifdef NP_HARD
enum { ROOM = NP_ZLIB_ROOM };
#else
enum { ROOM = LUAL_BUFFERSIZE };
#endif

typedef struct zobject {
  const np_type *type;
  np_zlib *z;     /* NULL: closed */
  const char *in; /* what was fed and not taken yet */
  size_t in_len;
  np_zlib_flush flush; /* what is due when it has been taken */
  bool over;           /* a result was longer than its limit: nobody knows what is missing */
  lua_Integer total_in, total_out;
} zobject;

static int f_close(lua_State *L);
static int f_compress(lua_State *L);
static int f_decompress(lua_State *L);
static int f_feed(lua_State *L);
static int f_finish_deflate(lua_State *L);
static int f_finish_inflate(lua_State *L);
static int f_index(lua_State *L);
static int f_next(lua_State *L);
static int f_reset(lua_State *L);
static int f_rest(lua_State *L);
static int f_tostring(lua_State *L);

static const luaL_Reg deflater_methods[] = {
  {"close", f_close}, {"compress", f_compress}, {"feed", f_feed}, {"finish", f_finish_deflate},
  {"next", f_next},   {"reset", f_reset},       {NULL, NULL},
};
static const luaL_Reg inflater_methods[] = {
  {"close", f_close}, {"decompress", f_decompress}, {"feed", f_feed}, {"finish", f_finish_inflate},
  {"next", f_next},   {"reset", f_reset},           {"rest", f_rest}, {NULL, NULL},
};
static const luaL_Reg meta[] = {
  {"__gc", f_close},
  {"__close", f_close},
  {"__tostring", f_tostring},
  {NULL, NULL},
};
static const np_type deflater_type = {"neap.deflater", deflater_methods, meta, f_index};
static const np_type inflater_type = {"neap.inflater", inflater_methods, meta, f_index};

static zobject *check(lua_State *L) {
  zobject *o = np_test_object(L, 1, &inflater_type);
  return o ? o : np_check_object(L, 1, &deflater_type);
}

static bool deflates(const zobject *o) { return o->type == &deflater_type; }

static int fail_closed(lua_State *L) { return np_fail_text(L, "ECANCELED", "closed"); }

static const char *const flushes[] = {"none", "sync", "full", "finish", NULL};

/* ---- objects ---- */

/* Pushes one. What zlib takes is not Lua's memory: the collector is told, so that objects which
 * nobody closes do not pile up. */
static zobject *new_object(lua_State *L, const np_type *type, const np_zlib_config *c) {
  zobject *o = np_new_object(L, type, sizeof *o, 1);
  o->in = "";
  int r = (type == &deflater_type ? np_zlib_deflate : np_zlib_inflate)(&o->z, c);
  if (r < 0) luaL_error(L, "not enough memory");
  int kb = (int)(np_zlib_memory(o->z) / 1024) + 1;
  if (lua_gc(L, LUA_GCISRUNNING)) lua_gc(L, LUA_GCSTEP, kb);
  return o;
}

/* deflater([opts]) */
static int f_deflater(lua_State *L) {
  np_zlib_config c = {0};
  np_deflate_options(L, 1, &c);
  new_object(L, &deflater_type, &c);
  return 1;
}

/* inflater([opts]) */
static int f_inflater(lua_State *L) {
  static const char *const known[] = {"dictionary", "format", "joined", "window_bits", NULL};
  np_zlib_config c = {0};
  np_check_options(L, 1, known);
  np_inflate_options(L, 1, &c);
  new_object(L, &inflater_type, &c);
  return 1;
}

static void close_object(zobject *o) {
  np_zlib *z = o->z;
  o->z = NULL;
  o->in_len = 0;
  if (z) np_zlib_close(z);
}

/* z:close() -> true */
static int f_close(lua_State *L) {
  close_object(check(L));
  lua_pushnil(L);
  lua_setiuservalue(L, 1, INPUT);
  lua_pushboolean(L, true);
  return 1;
}

/* z:reset() -> z: as new, for another stream; what was fed is forgotten. */
static int f_reset(lua_State *L) {
  zobject *o = check(L);
  if (!o->z) return fail_closed(L);
  o->in_len = 0;
  o->flush = NP_ZLIB_NONE;
  o->over = false;
  o->total_in = o->total_out = 0;
  if (np_zlib_reset(o->z) < 0) luaL_error(L, "not enough memory");
  lua_settop(L, 1);
  return 1;
}

/* ---- input ---- */

/* The string at arg goes behind what was fed and not taken yet. */
static void feed(lua_State *L, zobject *o, int arg) {
  size_t n;
  luaL_checklstring(L, arg, &n);
  if (n == 0) return;
  lua_pushvalue(L, arg);
  while (o->in_len > 0) { /* again, if a finalizer fed it meanwhile: what it fed comes first */
    const char *was = o->in;
    lua_pushlstring(L, o->in, o->in_len);
    lua_pushvalue(L, arg);
    lua_concat(L, 2);
    if (was == o->in) break;
    lua_pop(L, 1);
  }
  o->in = lua_tolstring(L, -1, &o->in_len);
  lua_setiuservalue(L, 1, INPUT);
  lua_settop(L, arg);
}

/* The optional flush of a deflater at arg; it must not be finished. */
static void due(lua_State *L, zobject *o, int arg) {
  np_zlib_flush flush = (np_zlib_flush)luaL_checkoption(L, arg, "none", flushes);
  bool finished = o->flush == NP_ZLIB_FINISH || np_zlib_ended(o->z);
  luaL_argcheck(L, !finished, 1, "deflater was finished");
  if (flush > o->flush) o->flush = flush;
}

/* deflater:feed(s [, flush]), inflater:feed(s) -> itself */
static int f_feed(lua_State *L) {
  zobject *o = check(L);
  luaL_checkstring(L, 2);
  if (!o->z) return fail_closed(L);
  if (deflates(o)) due(L, o, 3);
  feed(L, o, 2);
  lua_settop(L, 1);
  return 1;
}

/* ---- output ---- */

/* Adds at most max bytes to b: why it stopped, as np_zlib_step. */
static int fill(lua_State *L, zobject *o, luaL_Buffer *b, size_t max, size_t *made) {
  size_t least = deflates(o) ? NP_ZLIB_ROOM : 1;
  int r = NP_ZLIB_MORE;
  *made = 0;
  while (r == NP_ZLIB_MORE && max - *made >= least) {
    size_t room = np_min(max - *made, np_max(*made, ROOM));
    char *out = luaL_prepbuffsize(b, room);
    if (!o->z) luaL_error(L, "closed while it was used");
    np_zlib_io io = {o->in, o->in_len, out, room};
    r = np_zlib_step(o->z, &io, o->flush);
    o->total_in += (lua_Integer)(o->in_len - io.in_len);
    o->in = io.in;
    o->in_len = io.in_len;
    luaL_addsize(b, room - io.out_len);
    *made += room - io.out_len;
  }
  o->total_out += (lua_Integer)*made;
  if (r == NP_ZLIB_TAKEN) o->flush = NP_ZLIB_NONE;
  return r;
}

/* An object that waits for input holds no string. */
static void let_go(lua_State *L, const zobject *o) {
  if (o->in_len > 0) return;
  lua_pushnil(L);
  lua_setiuservalue(L, 1, INPUT);
}

static int fail_step(lua_State *L, const zobject *o, const char *what, int code) {
  if (code == -ENOMEM) return luaL_error(L, "not enough memory");
  return np_fail_text(L, "EBADMSG", "%s: %s", what, np_zlib_why(o->z));
}

static int fail_over(lua_State *L, const char *what) {
  return np_fail_text(L, "EMSGSIZE", "%s: the result is longer than its limit", what);
}

static size_t check_max(lua_State *L, int arg, lua_Integer def, lua_Integer least) {
  lua_Integer max = luaL_optinteger(L, arg, def);
  if (max < least || max == LUA_MAXINTEGER)
    luaL_argerror(L, arg, lua_pushfstring(L, "at least %I expected", (LUAI_UACINT)least));
  return (size_t)max;
}

/* z:next([max]) -> at most so many bytes; nil: it needs more input, or has ended; nil, message,
 * code. */
static int f_next(lua_State *L) {
  zobject *o = check(L);
  size_t max = check_max(L, 2, PIECE, deflates(o) ? NP_ZLIB_ROOM : 1), made;
  luaL_Buffer b;
  if (!o->z) return fail_closed(L);
  if (o->over) return fail_over(L, "next");
  lua_settop(L, 1);
  luaL_buffinit(L, &b);
  int r = fill(L, o, &b, max, &made);
  if (made > 0) {
    luaL_pushresult(&b); /* what came before a failure is given first */
    let_go(L, o);
    return 1;
  }
  if (r < 0) return fail_step(L, o, "next", r);
  let_go(L, o);
  return 0;
}

/* All output there is. */
static int compress(lua_State *L, zobject *o) {
  luaL_Buffer b;
  size_t made;
  luaL_buffinit(L, &b);
  fill(L, o, &b, SIZE_MAX, &made);
  luaL_pushresult(&b);
  return 1;
}

/* deflater:compress(s [, flush]) -> bytes */
static int f_compress(lua_State *L) {
  zobject *o = np_check_object(L, 1, &deflater_type);
  f_feed(L);
  if (!o->z) return fail_closed(L);
  compress(L, o);
  let_go(L, o);
  return 1;
}

/* deflater:finish([s]) -> the last bytes */
static int f_finish_deflate(lua_State *L) {
  np_check_object(L, 1, &deflater_type);
  luaL_optstring(L, 2, "");
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushliteral(L, "");
    lua_replace(L, 2);
  }
  lua_pushliteral(L, "finish");
  return f_compress(L);
}

/* All output there is, as long as it has at most max bytes. */
static int decompress(lua_State *L, zobject *o, size_t max) {
  luaL_Buffer b;
  size_t made;
  if (o->over) return fail_over(L, "decompress");
  luaL_buffinit(L, &b);
  int r = fill(L, o, &b, max + 1, &made);
  o->over = made > max;
  if (o->over) return fail_over(L, "decompress");
  if (r < 0) return fail_step(L, o, "decompress", r);
  luaL_pushresult(&b);
  return 1;
}

/* inflater:decompress(s [, max]) -> bytes; nil, message, code */
static int f_decompress(lua_State *L) {
  zobject *o = np_check_object(L, 1, &inflater_type);
  luaL_checkstring(L, 2);
  size_t max = check_max(L, 3, ALL_MAX, 0);
  if (!o->z) return fail_closed(L);
  lua_settop(L, 2);
  feed(L, o, 2);
  int n = decompress(L, o, max);
  let_go(L, o);
  return n;
}

/* The end was seen, and nothing is behind it: 0; else nil, message, code are pushed. */
static int check_end(lua_State *L, const zobject *o, const char *what) {
  if (!np_zlib_ended(o->z)) return np_fail_text(L, "EPIPE", "%s: the end is missing", what);
  if (o->in_len > 0) return np_fail_text(L, "EBADMSG", "%s: bytes behind the end", what);
  return 0;
}

/* inflater:finish() -> true; nil, message, code: the stream is not whole */
static int f_finish_inflate(lua_State *L) {
  zobject *o = np_check_object(L, 1, &inflater_type);
  if (!o->z) return fail_closed(L);
  if (o->over) return fail_over(L, "finish");
  int n = check_end(L, o, "finish");
  if (n > 0) return n;
  lua_pushboolean(L, true);
  return 1;
}

/* inflater:rest() -> the bytes that were fed and not taken: behind the end, or not asked for. */
static int f_rest(lua_State *L) {
  zobject *o = np_check_object(L, 1, &inflater_type);
  lua_pushlstring(L, o->in, o->in_len);
  return 1;
}

static int f_index(lua_State *L) {
  const zobject *o = check(L);
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "closed") == 0) lua_pushboolean(L, !o->z);
  else if (strcmp(key, "ended") == 0) lua_pushboolean(L, o->z && np_zlib_ended(o->z));
  else if (strcmp(key, "total_in") == 0) lua_pushinteger(L, o->total_in);
  else if (strcmp(key, "total_out") == 0) lua_pushinteger(L, o->total_out);
  else lua_pushnil(L);
  return 1;
}

static int f_tostring(lua_State *L) {
  const zobject *o = check(L);
  const char *state = !o->z ? " closed" : np_zlib_ended(o->z) ? " ended" : "";
  lua_pushfstring(L, "%s{in=%I out=%I%s}", o->type->name, (LUAI_UACINT)o->total_in,
                  (LUAI_UACINT)o->total_out, state);
  return 1;
}

/* ---- whole strings ---- */

static void give(lua_State *L, zobject *o) { o->in = lua_tolstring(L, 1, &o->in_len); }

/* compress(s [, opts]) -> bytes */
static int f_compress_all(lua_State *L) {
  np_zlib_config c = {0};
  luaL_checkstring(L, 1);
  np_deflate_options(L, 2, &c);
  zobject *o = new_object(L, &deflater_type, &c);
  give(L, o);
  o->flush = NP_ZLIB_FINISH;
  compress(L, o);
  close_object(o);
  return 1;
}

/* decompress(s [, opts]) -> bytes; nil, message, code */
static int f_decompress_all(lua_State *L) {
  static const char *const known[] = {"dictionary", "format", "joined", "max", "window_bits", NULL};
  np_zlib_config c = {0};
  luaL_checkstring(L, 1);
  np_check_options(L, 2, known);
  np_inflate_options(L, 2, &c);
  size_t max = (size_t)np_opt_integer(L, 2, "max", ALL_MAX, 0, LUA_MAXINTEGER - 1);
  zobject *o = new_object(L, &inflater_type, &c);
  give(L, o);
  int n = decompress(L, o, max);
  if (n == 1) {
    int failed = check_end(L, o, "decompress");
    if (failed) n = failed;
  }
  close_object(o);
  return n;
}

static const luaL_Reg functions[] = {
  {"compress", f_compress_all},
  {"decompress", f_decompress_all},
  {"deflater", f_deflater},
  {"inflater", f_inflater},
  {NULL, NULL},
};

int luaopen_neap_zlib_core(lua_State *L) {
  np_type_init(L, &deflater_type);
  np_type_init(L, &inflater_type);
  luaL_newlib(L, functions);
  return 1;
}
