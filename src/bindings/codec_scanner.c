/* Scanners: a codec over bytes that come in pieces.  The bytes lie in a userdata of Lua's, so
 * there is nothing to free; what was looked at is not looked at again.
 *
 *   local s = codec.line():scanner()
 *   s:feed("on"):feed("e\ntw")
 *   s:next()   --> "one"
 *   s:next()   --> nil, "more", 1 */
#include <string.h>

#include "bindings/codec.h"
#include "bindings/lua_util.h"

enum { CODEC = 1, BUFFER = 2 }; /* user values */

typedef struct scanner {
  const np_type *type;
  np_cond blank; /* the codec's */
  np_cond cond;  /* under way */
  char *buf;     /* NULL before the first byte */
  size_t start, end, size;
  unsigned moves; /* changes whenever the unread bytes move, go or become more */
  bool eof;
} scanner;

static int f_feed(lua_State *L);
static int f_finish(lua_State *L);
static int f_next(lua_State *L);
static int f_rest(lua_State *L);
static int f_scanned(lua_State *L);
static int f_tostring(lua_State *L);

static const luaL_Reg methods[] = {
  {"feed", f_feed}, {"finish", f_finish},   {"next", f_next},
  {"rest", f_rest}, {"scanned", f_scanned}, {NULL, NULL},
};
static const luaL_Reg meta[] = {{"__tostring", f_tostring}, {NULL, NULL}};
static const np_type scanner_type = {.name = "neap.scanner", .methods = methods, .meta = meta};

int np_new_scanner(lua_State *L) {
  np_cond c;
  if (!np_codec_cond(L, 1, &c)) return luaL_typeerror(L, 1, "neap.codec");
  scanner *s = np_new_object(L, &scanner_type, sizeof *s, 2);
  s->blank = s->cond = c;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, CODEC);
  return 1;
}

/* Room for n more bytes behind `end`: moves what is unread to the front when that frees half of the
 * buffer, else doubles it, so that a byte is moved a bounded number of times. */
static void reserve(lua_State *L, scanner *s, size_t n) {
  if (n <= s->size - s->end) return;
  size_t unread = s->end - s->start, size = np_max(s->size, 64);
  while (size / 2 < unread || size - unread < n) {
    if (size > SIZE_MAX / 4) luaL_error(L, "too many bytes");
    size *= 2;
  }
  if (size > s->size) {
    unsigned moves = s->moves;
    char *buf = lua_newuserdatauv(L, size, 0);
    if (np_unlikely(s->moves != moves)) { /* a finalizer fed it */
      reserve(L, s, n);
      return;
    }
    if (unread > 0) memcpy(buf, s->buf + s->start, unread);
    lua_setiuservalue(L, 1, BUFFER);
    s->buf = buf;
  } else {
    memmove(s->buf, s->buf + s->start, unread);
  }
  s->size = size;
  s->start = 0;
  s->end = unread;
  s->moves++;
}

/* scanner:feed(bytes) -> the scanner. Raises after finish. */
static int f_feed(lua_State *L) {
  scanner *s = np_check_object(L, 1, &scanner_type);
  size_t n;
  const char *p = luaL_checklstring(L, 2, &n);
  luaL_argcheck(L, !s->eof, 1, "scanner was finished");
  reserve(L, s, n);
  if (n > 0) memcpy(s->buf + s->end, p, n);
  s->end += n;
  s->moves++;
  lua_settop(L, 1);
  return 1;
}

/* scanner:finish() -> the scanner: no more bytes will come. */
static int f_finish(lua_State *L) {
  scanner *s = np_check_object(L, 1, &scanner_type);
  s->eof = true;
  lua_settop(L, 1);
  return 1;
}

typedef struct held {
  np_bytes bytes;
  const scanner *s;
  unsigned moves;
} held;

static bool moved(const np_bytes *b) {
  const held *h = np_container(b, held, bytes);
  return h->s->moves != h->moves;
}

/* scanner:next() -> message..., or as codec:decode: nil, "more", n; nil; nil, message, code. */
static int f_next(lua_State *L) {
  scanner *s = np_check_object(L, 1, &scanner_type);
  int top = lua_gettop(L), r;
  held h = {{moved}, s, s->moves};
  np_cond c;
  do {
    lua_settop(L, top); /* a finalizer fed or asked this very scanner: from the beginning */
    h.moves = s->moves;
    const char *p = s->buf ? s->buf + s->start : "";
    r = np_cond_check(&s->cond, p, s->end - s->start, s->eof);
    c = s->cond;
    if (r == 1) r = np_push_frame(L, &c, p + c.off, &h.bytes);
  } while (r > 0 ? moved(&h.bytes) : r == -EAGAIN);
  if (r <= 0) return np_push_unmet(L, &c, r, s->end - s->start);
  s->moves++;
  s->start += c.take;
  s->cond = s->blank;
  return r;
}

/* scanner:rest() -> the bytes that no message took yet. */
static int f_rest(lua_State *L) {
  scanner *s = np_check_object(L, 1, &scanner_type);
  lua_pushlstring(L, s->buf ? s->buf + s->start : "", s->end - s->start);
  return 1;
}

/* scanner:scanned() -> how many of them will not be looked at again. */
static int f_scanned(lua_State *L) {
  scanner *s = np_check_object(L, 1, &scanner_type);
  lua_pushinteger(L, (lua_Integer)s->cond.scanned);
  return 1;
}

static int f_tostring(lua_State *L) {
  scanner *s = np_check_object(L, 1, &scanner_type);
  lua_pushfstring(L, "neap.scanner{%s in=%I}", np_cond_name(&s->cond),
                  (LUAI_UACINT)(s->end - s->start));
  return 1;
}
