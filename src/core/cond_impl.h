/* What the files of np_cond share: endings, and tests of bytes that do not depend on a locale. */
#ifndef NP_COND_IMPL_H
#define NP_COND_IMPL_H

#include "core/cond.h"

int np_cond_pack(np_cond *c, const char *p, size_t n, bool eof);      /* cond_pack.c */
int np_cond_resp(np_cond *c, const char *p, size_t n, bool eof);      /* cond_resp.c */
int np_cond_netstring(np_cond *c, const char *p, size_t n, bool eof); /* cond_length.c */
int np_cond_http(np_cond *c, const char *p, size_t n, bool eof);      /* cond_http.c */
int np_cond_websocket(np_cond *c, const char *p, size_t n, bool eof); /* cond_websocket.c */
int np_cond_headed(np_cond *c, const char *p, size_t n, bool eof);

static inline int done(np_cond *c, size_t off, size_t len, size_t take) {
  c->off = off;
  c->len = len;
  c->take = take;
  return 1;
}

/* max + extra without wrapping. */
static inline size_t plus(size_t max, size_t extra) {
  return max > SIZE_MAX - extra ? SIZE_MAX : max + extra;
}

static inline bool is_blank(int ch) { return ch == ' ' || (ch >= '\t' && ch <= '\r'); }
static inline bool is_digit(int ch) { return ch >= '0' && ch <= '9'; }
static inline bool is_hex(int ch) {
  return is_digit(ch) || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F');
}

#endif
