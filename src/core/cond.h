/* Read conditions: what a waiting read waits for, checked over bytes as they arrive.
 *
 * Pure functions of (bytes, state): no I/O, no allocation, no clock.  `scanned` remembers how far the bytes
 * were looked at, so a frame costs the same however its bytes are split.  `make fuzz` runs them. */
#ifndef NP_COND_H
#define NP_COND_H

#include "core/base.h"

typedef enum np_condkind {
  NP_COND_ANY,     /* at least one byte, at most `need` (0: no cap) */
  NP_COND_COUNT,   /* exactly `need` bytes, fewer only at the end; need 0: "" unless at the end (io.read(0)) */
  NP_COND_LINE,    /* up to "\n", which is taken but not in the frame */
  NP_COND_LINE_EOL,/* up to and including "\n" */
  NP_COND_ALL,     /* everything until the end */
  NP_COND_DELIM,   /* up to `delim`, which is taken but not in the frame */
  NP_COND_NUMBER,  /* a numeral as io.read("n") accepts it, at most 200 bytes */
  NP_COND_PACK,    /* a string.pack record described by `items` */
  NP_COND_RESP,    /* a RESP2 request: array of bulk strings, or an inline command line */
  NP_COND_PEEK,    /* at least `need` bytes (fewer at the end), none taken */
} np_condkind;

/* One item of a compiled pack format. */
typedef struct np_packitem {
  uint8_t kind;   /* 'f' fixed size, 's' length-prefixed, 'z' zero-terminated, 'a' align */
  uint8_t size;   /* bytes of the length prefix ('s') or the alignment ('a') */
  bool little;    /* byte order of the prefix */
  uint32_t fixed; /* 'f': bytes */
} np_packitem;

enum { NP_PACK_ITEMS_MAX = 32 };

typedef struct np_cond {
  /* what is awaited */
  np_condkind kind;
  size_t need;           /* see the kinds */
  size_t max;            /* past it the answer is -EMSGSIZE and the bytes stay */
  const char *delim;     /* DELIM: not empty; the caller keeps it alive */
  size_t delim_len;
  const np_packitem *items; /* PACK: the caller keeps it alive */
  int nitems;
  /* state between checks; zero before the first */
  size_t scanned;        /* bytes that need not be looked at again */
  size_t aux, aux2;      /* kind's own */
  /* the frame, valid after the check returned 1 */
  size_t off, len;       /* the bytes to give, within the input */
  size_t take;           /* the bytes to remove from the input; >= off + len, 0 for PEEK */
} np_cond;

/* 1: the frame is there.  0: more bytes are needed (never when `eof`).  -EMSGSIZE: past `max`.
 * NP_EBADMSG: the bytes can never become such a frame.  At the end (`eof`) additionally: NP_COND_END: nothing
 * left (nil at the Lua level); -EPIPE: the end came inside a record (PACK, RESP).  A line or delimited read at the
 * end gives the rest as its frame, as io does. */
#define NP_COND_END (-5010)
int np_cond_check(np_cond *c, const char *p, size_t n, bool eof);

/* How many bytes the condition is known to need in all (a hint for buffer growth), 0 if unknown. */
size_t np_cond_hint(const np_cond *c);

/* Compiles a string.pack format. Items used (>= 1) or -EINVAL with *bad at the offending character. */
int np_pack_compile(const char *fmt, np_packitem items[NP_PACK_ITEMS_MAX], const char **bad);

#endif
