/* Compression by zlib: deflate and inflate over memory, in steps that the caller bounds. Pure: no
 * I/O, nothing is shared between objects.
 *
 * The one idea: a step takes input and fills the room it is given, and says why it stopped. Whoever
 * wants a limit on the output gives that much room; whoever has to be fair gives little at a time.
 */
#ifndef NP_ZLIB_H
#define NP_ZLIB_H

#include "core/base.h"

typedef struct np_zlib np_zlib;

typedef enum np_zlib_format {
  NP_ZLIB_RAW,  /* RFC 1951 */
  NP_ZLIB_ZLIB, /* RFC 1950: HTTP's "deflate" */
  NP_ZLIB_GZIP, /* RFC 1952 */
  NP_ZLIB_AUTO, /* inflate: zlib or gzip, as its first byte says */
} np_zlib_format;

typedef enum np_zlib_strategy {
  NP_ZLIB_DEFAULT,
  NP_ZLIB_FILTERED,
  NP_ZLIB_HUFFMAN,
  NP_ZLIB_RLE,
  NP_ZLIB_FIXED,
} np_zlib_strategy;

typedef struct np_zlib_config {
  np_zlib_format format;
  int level;       /* deflate: 0 (stored) to 9 */
  int window_bits; /* 8 to 15: references reach back at most 2^bits bytes */
  int memory;      /* deflate: 1 to 9 */
  np_zlib_strategy strategy;
  bool joined;            /* inflate: streams may follow each other; see np_zlib_step */
  const char *dictionary; /* copied; not with gzip */
  size_t dictionary_len;
} np_zlib_config;

/* What deflate does when the input has been taken: nothing, end on a byte so that all of it can be
 * read (4.2 of the zlib manual: an empty stored block 00 00 ff ff), that and forget what came
 * before, or end the stream. */
typedef enum np_zlib_flush {
  NP_ZLIB_NONE,
  NP_ZLIB_SYNC,
  NP_ZLIB_FULL,
  NP_ZLIB_FINISH,
} np_zlib_flush;

/* Both move on as bytes are taken and given. Inflating, a reference that reaches back further than
 * the window is refused, unless it stays within what this step made. */
typedef struct np_zlib_io {
  const char *in;
  size_t in_len;
  char *out;
  size_t out_len; /* of deflate at least NP_ZLIB_ROOM, else a flush might never be done */
} np_zlib_io;

enum { NP_ZLIB_ROOM = 64 };

/* Why a step stopped. */
enum {
  NP_ZLIB_TAKEN = 0, /* all input was taken, and what it gives was given */
  NP_ZLIB_MORE = 1,  /* the room is used up: there may be more */
  NP_ZLIB_END = 2,   /* the end of the stream; bytes behind it are left in `in` */
};

/* 0, or -ENOMEM and nothing is left behind. A deflate of 8 window bits is made as one of 9 whose
 * references reach 250 bytes: zlib has no smaller, and reaches 262 bytes less than its window. */
int np_zlib_deflate(np_zlib **out, const np_zlib_config *config);
int np_zlib_inflate(np_zlib **out, const np_zlib_config *config);

/* One step; a negative result is final: NP_EBADMSG (corrupt; np_zlib_why), -ENOMEM. Input that is
 * missing is no failure here: np_zlib_ended tells.
 *
 * `joined`: a gzip file may have more members (RFC 1952 2.2), which begin with 0x1f; of raw streams
 * any byte begins the next, whose references may reach into what came before (RFC 7692 7.2.3.4). */
int np_zlib_step(np_zlib *z, np_zlib_io *io, np_zlib_flush flush);

/* At the end of a stream, and nothing of a next one has come. */
bool np_zlib_ended(const np_zlib *z);

/* What is wrong, in zlib's words; static. */
const char *np_zlib_why(const np_zlib *z);

/* From the beginning, without what came before; also after a failure. 0 or -ENOMEM. */
int np_zlib_reset(np_zlib *z);

/* Bytes of memory it may hold, by the formulas of zconf.h. */
size_t np_zlib_memory(const np_zlib *z);

void np_zlib_close(np_zlib *z);

#endif
