/* Framing as values: a codec object is a read condition with its format, used by
 * conn:messages(codec) and by codec:decode alike. */
#ifndef NP_BINDING_CODEC_H
#define NP_BINDING_CODEC_H

#include <lua.h>

#include "core/cond.h"

/* If the value at idx is a codec, fills *out with its condition, ready for a first check, and
 * returns true.  Whatever out points to lives in the codec: keep the value at idx where it is
 * meanwhile. */
bool np_codec_cond(lua_State *L, int idx, np_cond *out);

/* The bytes that frames are taken from, where they may go: whatever is pushed may set off the
 * collector, and a finalizer may close the stream that they belong to, or put bytes before them.
 * `moved` says whether one did. */
typedef struct np_bytes {
  bool (*moved)(const struct np_bytes *b);
} np_bytes;

static inline bool np_bytes_moved(const np_bytes *b) { return b && b->moved(b); }

/* Pushes the message of a met condition; `frame` is its first byte (input + c->off), and `b` what
 * it lies in (NULL: in a string on the stack, which stays).  A string for
 * most; NUMBER: a number, or nil for a bad numeral; RESP: a table of the arguments; PACK: the
 * values of string.unpack, whose format is c->delim (zero-terminated).  Returns how many values
 * were pushed, or NP_EBADMSG with nothing pushed: an integer of a record does not fit Lua's; or
 * -EAGAIN with anything pushed: the bytes moved before all was taken.  Raises for lack of memory
 * only. */
int np_push_frame(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b);

/* The same for the head of an HTTP message: a table, or its parts (codec_http.c). */
int np_push_http_head(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b);

/* The same for a WebSocket frame: payload and first byte (codec_websocket.c). */
int np_push_ws_frame(lua_State *L, const np_cond *c, const char *frame, const np_bytes *b);

/* Pushes nil and, of a check over n bytes that was not met: 0: "more" and how many bytes are
 * missing at least; NP_COND_END: nothing else; or message and
 * code.  Returns the number of values. */
int np_push_unmet(lua_State *L, const np_cond *c, int outcome, size_t n);

/* Pushes string.pack or string.unpack as it was when it was first asked for: scripts may replace
 * the globals. */
void np_push_string_function(lua_State *L, bool pack);

/* "line", "record" ... */
const char *np_cond_name(const np_cond *c);

/* The parts of the module neap.codec.core that have files of their own. */
int np_new_scanner(lua_State *L);       /* codec:scanner() */
int np_codec_encode(lua_State *L);      /* codec:encode(message...) */
int np_codec_address(lua_State *L);     /* codec.address(s, default) */
int np_codec_http_fields(lua_State *L); /* codec.http_fields(head) */
int np_codec_http_part(lua_State *L);   /* codec.http_part(head, name) */
int np_codec_canonical(lua_State *L);
int np_codec_error(lua_State *L);
int np_codec_options(lua_State *L);

#endif
