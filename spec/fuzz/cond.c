/* Fuzzes the read conditions: however the bytes are split, the answer and the frame are the same as
 * for all bytes at once; frames lie within the input; limits hold.
 *
 * Input: kind, limit, need, split rule, then (DELIM, PACK, HEADED) a zero-terminated delimiter or
 * format, then the bytes. */
#include <stdlib.h>
#include <string.h>

#include "core/cond.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 4, SPLITS = 4 };

/* A copy of exact size, so that a read past the end is seen. */
static char *copy_of(const void *p, size_t n) {
  char *q = malloc(n > 0 ? n : 1);
  memcpy(q, p, n);
  return q;
}

/* ANY and PEEK answer with what is there: their frames depend on the split and have no limit. */
static bool same_frame(const np_cond *c) {
  return c->kind != NP_COND_ANY && c->kind != NP_COND_PEEK;
}

static int check(np_cond *c, const char *p, size_t n, bool eof) {
  char *q = copy_of(p, n);
  int r = np_cond_check(c, q, n, eof);
  free(q);
  np_assert(c->scanned <= n || r < 0);
  if (r == 1) {
    np_assert(c->off <= n && c->len <= n - c->off && c->take <= n);
    np_assert(c->kind == NP_COND_PEEK ? c->take == 0 : c->take >= c->off + c->len);
    if (c->kind == NP_COND_HEADED) np_assert(c->take - c->head->size <= c->max);
    else if (c->kind == NP_COND_NUMBER) np_assert(c->len <= 200 && c->off <= c->max);
    else if (same_frame(c) && c->len > 0)
      np_assert(c->len - (c->kind == NP_COND_LINE_EOL) <= c->max);
  } else if (r == 0) {
    np_assert(!eof);
  } else {
    np_assert(r == -EMSGSIZE || r == NP_EBADMSG || (eof && (r == NP_COND_END || r == -EPIPE)));
  }
  return r;
}

/* A met condition gives the same frame again, whatever its owner did to it and what came since. */
static void again(np_cond *c, const char *p, size_t n) {
  np_cond before = *c;
  c->off += 7;
  c->len = c->take = 0;
  if (c->kind == NP_COND_PEEK) *c = before;
  else np_assert(check(c, p, n, true) == 1);
  np_assert(c->off == before.off && c->len == before.len && c->take == before.take);
}

/* Gives the bytes in pieces of the lengths that `rule` makes; the end comes with the last piece or
 * after it. */
static int check_split(np_cond *c, const char *p, size_t n, unsigned rule, bool late) {
  size_t have = 0;
  int r = 0;
  while (r == 0) {
    rule = rule * 1103515245u + 12345u;
    have = np_min(n, have + 1 + (rule >> 16) % (1u + (rule >> 28)));
    r = check(c, p, have, have == n && !late);
    if (have == n) break;
  }
  if (r == 0 && late) r = check(c, p, n, true);
  if (r == 1) again(c, p, n);
  return r;
}

static void walk_inline(const char *s, size_t n) {
  char *line = copy_of(s, n), *out = malloc(n + 1);
  const char *at = line, *arg;
  size_t len;
  bool quoted;
  int r;
  while ((r = np_resp_inline(&at, line + n, &arg, &len, &quoted)) == 1) {
    np_assert(arg >= line && arg + len <= line + n);
    np_assert(np_resp_unquote(arg, len, out) <= len);
  }
  np_assert(r == 0); /* a met condition has balanced quotes */
  free(line);
  free(out);
}

static void compare(const np_cond *blank, const char *p, size_t n, unsigned rule) {
  np_cond whole = *blank;
  int want = check(&whole, p, n, true);
  if (want == 1 && whole.kind == NP_COND_RESP && p[whole.off] != '*')
    walk_inline(p + whole.off, whole.len);
  for (unsigned i = 0; i < SPLITS; i++) {
    np_cond c = *blank;
    int r = check_split(&c, p, n, rule * SPLITS + i, i & 1);
    if (!same_frame(&c)) continue;
    np_assert(r == want);
    np_assert(r != 1 || (c.off == whole.off && c.len == whole.len && c.take == whole.take));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char letters[] = "clLadnprkAfNht";
  np_packitem items[NP_PACK_ITEMS_MAX];
  const char *p = (const char *)data + HEAD, *end = (const char *)data + size, *zero, *bad;
  np_cond c = {.items = items};
  const char *kind;
  np_head head;
  if (size < HEAD) return 0;
  kind = data[0] ? strchr(letters, data[0]) : NULL;
  if (!kind) return 0;
  static const np_condkind kinds[] = {
    NP_COND_COUNT,  NP_COND_LINE,      NP_COND_LINE_EOL, NP_COND_ALL,    NP_COND_DELIM,
    NP_COND_NUMBER, NP_COND_PACK,      NP_COND_RESP,     NP_COND_PEEK,   NP_COND_ANY,
    NP_COND_FIXED,  NP_COND_NETSTRING, NP_COND_HEADED,   NP_COND_HEADED,
  };
  c.kind = kinds[kind - letters];
  c.max = data[1] == 255 ? SIZE_MAX : data[1] == 254 ? 1 << 20 : data[1];
  c.need = data[2] & 63;
  if (c.kind == NP_COND_FIXED && c.need == 0) return 0;
  if (c.kind == NP_COND_HEADED) {
    zero = memchr(p, 0, (size_t)(end - p));
    if (!zero) return 0;
    if (np_head_compile(p, data[0] == 't', &head, &bad) < 0) {
      np_assert(bad >= p && bad <= zero);
      return 0;
    }
    head.adjust = (int)(data[2] & 15) - 8;
    c.head = &head;
    p = zero + 1;
  }
  if (c.kind == NP_COND_DELIM || c.kind == NP_COND_PACK) {
    zero = memchr(p, 0, (size_t)(end - p));
    if (!zero) return 0;
    c.delim = p;
    c.delim_len = (size_t)(zero - p);
    if (c.delim_len == 0) return 0;
    if (c.kind == NP_COND_PACK && (c.nitems = np_pack_compile(p, items, &bad)) < 0) {
      np_assert(bad >= p && bad <= zero);
      return 0;
    }
    p = zero + 1;
  }
  if (p == end) return 0; /* limits may be answered before the first byte or its lack */
  compare(&c, p, (size_t)(end - p), data[3]);
  return 0;
}
