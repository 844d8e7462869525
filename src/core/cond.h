/* Read conditions: what a waiting read waits for, checked over bytes as they arrive.
 *
 * Pure functions of (bytes, state): no I/O, no allocation, no clock.  `scanned` remembers how far
 * the bytes were looked at, so a frame costs the same however its bytes are split.  `make fuzz`
 * runs them. */
#ifndef NP_COND_H
#define NP_COND_H

#include "core/base.h"

typedef enum np_condkind {
  NP_COND_ANY,   /* at least one byte, at most `need` (0: no cap) */
  NP_COND_COUNT, /* exactly `need` bytes, fewer only at the end; 0: "" unless at the end, as io */
  NP_COND_LINE,  /* up to "\n", which is taken but not in the frame */
  NP_COND_LINE_EOL, /* up to and including "\n" */
  NP_COND_ALL,      /* everything until the end */
  NP_COND_DELIM,    /* up to `delim`, which is taken but not in the frame */
  NP_COND_NUMBER,   /* what io.read("n") would read: blanks (at most `max`) and at most 200 bytes of
                      numeral; the frame is the numeral, empty where io gives up */
  NP_COND_PACK,     /* a string.pack record described by `items` */
  NP_COND_RESP,     /* a RESP2 request: array of bulk strings (the frame begins with '*'), or an
                      inline command line (the frame is the line); empty ones are skipped */
  NP_COND_PEEK,     /* all that is there once it is `need` bytes (fewer at the end); none taken */
  NP_COND_FIXED,    /* exactly `need` bytes (>= 1), also at the end */
  NP_COND_NETSTRING, /* "3:abc,": the frame is what is between; `max` counts that */
  NP_COND_HEADED,    /* a header (`head`) and as many bytes as it says, `max` counts these. Frame:
                     these bytes, with the header in front when it has a tag */
  NP_COND_HTTP_REQUEST, /* an HTTP/1 head with its empty line; `max` counts all of it and empty
                           lines before it */
  NP_COND_HTTP_RESPONSE,
  NP_COND_WEBSOCKET, /* a WebSocket frame as `ws` expects it, or a piece of a long one; `max` counts
                        the payload. Frame: all of it */
} np_condkind;

/* RESP: how many strings a request may have, and the bytes of an inline one, as redis has it.
 * `max` counts all bytes of the request and of empty ones before it. */
enum { NP_RESP_ARGS_MAX = 1 << 20, NP_RESP_INLINE_MAX = 1 << 16 };

/* One item of a compiled pack format. */
typedef struct np_packitem {
  uint8_t kind;   /* 'f' fixed size, 's' length-prefixed, 'z' zero-terminated, 'a' align */
  uint8_t size;   /* bytes of the length prefix ('s') or the alignment ('a') */
  bool little;    /* byte order of the prefix */
  uint32_t fixed; /* 'f': bytes */
} np_packitem;

enum { NP_PACK_ITEMS_MAX = 32 };

/* An integer of a header; size 0: none. */
typedef struct np_headfield {
  uint8_t at, size; /* bytes before it; its bytes, up to 8 */
  bool little, is_signed;
} np_headfield;

/* HEADED: a header of one integer, the length, or of two, the tag first. */
typedef struct np_head {
  np_headfield tag, length;
  uint8_t size;   /* bytes of the header */
  int32_t adjust; /* added to the length: -size where it counts the header too */
} np_head;

typedef struct np_cond {
  /* what is awaited */
  np_condkind kind;
  size_t need;       /* see the kinds */
  size_t max;        /* past it the answer is -EMSGSIZE and the bytes stay; delimiters do not
                            count; ANY has none */
  const char *delim; /* DELIM: not empty; the caller keeps it alive */
  size_t delim_len;  /* of PEEK: how many bytes its owner gives at most, 0: all */
  union {            /* the caller keeps it alive */
    const np_packitem *items; /* PACK */
    const np_head *head;      /* HEADED */
    struct np_ws_reader *ws;  /* WEBSOCKET: of the one connection (core/websocket.h) */
  };
  int nitems;
  /* state between checks; zero before the first */
  size_t scanned;         /* bytes that need not be looked at again */
  size_t aux, aux2, aux3; /* kind's own */
  /* the frame, valid after the check returned 1 */
  size_t off, len; /* the bytes to give, within the input */
  size_t take;     /* the bytes to remove from the input; >= off + len, 0 for PEEK */
} np_cond;

/* 1: the frame is there.  0: more bytes are needed (never when `eof`).  -EMSGSIZE: past `max`.
 * NP_EBADMSG: the bytes can never become such a frame.  At the end (`eof`) additionally:
 * NP_COND_END: nothing left (nil at the Lua level); -EPIPE: the end came inside a record (PACK,
 * RESP, FIXED, NETSTRING, HEADED, WEBSOCKET).  A line or delimited read at the end gives the rest
 * as a frame, as io does.
 *
 * A met condition may be checked again, over the same bytes and more behind them, while a later one
 * in a row is not met yet: it gives the same frame, at once. */
#define NP_COND_END (-5010)
int np_cond_check(np_cond *c, const char *p, size_t n, bool eof);

/* How many bytes the condition is known to need in all (a hint for buffer growth), 0 if unknown. */
size_t np_cond_hint(const np_cond *c);

/* Compiles a string.pack format (sizes as in stock Lua: integers and floats of 64 bits).  Items
 * used (>= 1), or -EINVAL with *bad at the offending character (at the final zero: nothing to
 * read, or a size that is missing), or -E2BIG: more than NP_PACK_ITEMS_MAX items. */
int np_pack_compile(const char *fmt, np_packitem items[NP_PACK_ITEMS_MAX], const char **bad);

/* Compiles the string.pack format of a header: one integer of at most 8 bytes, the length, or
 * (`tagged`) two, the tag and the length, without padding.  0, or -EINVAL with *bad as above. */
int np_head_compile(const char *fmt, bool tagged, np_head *out, const char **bad);

/* An integer of a header, from the header's first byte on; 8 unsigned bytes may come out
 * negative. */
int64_t np_head_value(const np_headfield *f, const char *header);

/* The next argument of an inline RESP command, from *s on; moves *s past it.  1: *arg is the span
 * of its text, still with quotes and escapes when *quoted.  0: there is none.  NP_EBADMSG:
 * unbalanced quotes.  Rules as redis-server's sdssplitargs. */
int np_resp_inline(const char **s, const char *end, const char **arg, size_t *len, bool *quoted);

/* Decodes a quoted inline argument into out (of at least len bytes); returns the bytes written. */
size_t np_resp_unquote(const char *arg, size_t len, char *out);

#endif
