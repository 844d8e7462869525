/* Packed records: a string.pack format as a list of items, and finding the end of such a record.
 *
 * A record is not unpacked here, its end is found: fixed sizes, prefixes, zero bytes and alignment.
 * State of a check: aux is the item, scanned where it begins, aux2 how far a 'z' was searched, for
 * other items the bytes needed in all. */
#include "core/cond_impl.h"

#include <string.h>

/* The value of a prefix; SIZE_MAX when it is past that. */
static size_t prefix_value(const np_packitem *it, const char *p) {
  size_t v = 0;
  for (unsigned i = 0; i < it->size; i++) {
    size_t at = it->little ? it->size - 1 - i : i; /* from the highest byte down */
    if (v > SIZE_MAX >> 8) return SIZE_MAX;
    v = v << 8 | (unsigned char)p[at];
  }
  return v;
}

/* Waits for the record's first `want` bytes. */
static int want_bytes(np_cond *c, size_t want) {
  c->aux2 = want;
  return 0;
}

static int item_prefixed(np_cond *c, const np_packitem *it, const char *p, size_t n) {
  size_t pos = c->scanned, v;
  if (it->size > c->max - pos) return -EMSGSIZE;
  if (n - pos < it->size) return want_bytes(c, pos + it->size);
  v = prefix_value(it, p + pos);
  pos += it->size;
  if (v > c->max - pos) return -EMSGSIZE;
  if (n - pos < v) return want_bytes(c, pos + v);
  c->scanned = pos + v;
  return 1;
}

static int item_zero(np_cond *c, const char *p, size_t n) {
  size_t from = np_max(c->aux2, c->scanned), end = np_min(n, c->max);
  const char *zero = from < end ? memchr(p + from, 0, end - from) : NULL;
  c->aux2 = end;
  if (!zero) return n >= c->max ? -EMSGSIZE : 0;
  c->scanned = (size_t)(zero - p) + 1;
  return 1;
}

static int item_skip(np_cond *c, size_t len, size_t n) {
  if (len > c->max - c->scanned) return -EMSGSIZE;
  if (n - c->scanned < len) return want_bytes(c, c->scanned + len);
  c->scanned += len;
  return 1;
}

static int check_item(np_cond *c, const np_packitem *it, const char *p, size_t n) {
  switch (it->kind) {
  case 'f': return item_skip(c, it->fixed, n);
  case 'a': return item_skip(c, -c->scanned & (it->size - 1u), n);
  case 's': return item_prefixed(c, it, p, n);
  default: return item_zero(c, p, n);
  }
}

int np_cond_pack(np_cond *c, const char *p, size_t n, bool eof) {
  /* invariant: scanned <= n and scanned <= max */
  while (c->aux < (size_t)c->nitems) {
    int r = check_item(c, &c->items[c->aux], p, n);
    if (r < 0) return r;
    if (r == 0) return !eof ? 0 : n == 0 ? NP_COND_END : -EPIPE;
    c->aux++;
    c->aux2 = 0;
  }
  return n == 0 && eof ? NP_COND_END : done(c, 0, c->scanned, c->scanned);
}

/* Numbers in a format, as lstrlib's getnum: reading stops before an int would overflow. */
static int format_number(const char **f, int def) {
  int a = 0;
  if (!is_digit((unsigned char)**f)) return def;
  do {
    a = a * 10 + (*(*f)++ - '0');
  } while (is_digit((unsigned char)**f) && a <= (INT32_MAX - 9) / 10);
  return a;
}

typedef struct compiler {
  np_packitem *items;
  int n;
  bool little;
  int max_align;
} compiler;

typedef struct pack_option {
  char kind; /* 'i' aligned bytes, 'c' plain bytes, 's', 'x', 'z', 'X'; ' ' is about no bytes */
  int size;
} pack_option;

enum { INT_SIZE_MAX = 16, NATIVE_ALIGN = 8 }; /* lstrlib's MAXINTSIZE, MAXALIGN */

/* A size from 1 to 16, as in i4; -1: it is not. */
static int int_size(const char **f, int def) {
  int size = format_number(f, def);
  return size >= 1 && size <= INT_SIZE_MAX ? size : -1;
}

/* Letters of fixed size; 0 for the others. */
static int native_size(char letter) {
  switch (letter) {
  case 'b':
  case 'B': return 1;
  case 'h':
  case 'H': return sizeof(short);
  case 'l':
  case 'L': return sizeof(long);
  case 'j':
  case 'J':
  case 'd':
  case 'n': return 8;
  case 'T': return sizeof(size_t);
  case 'f': return sizeof(float);
  default: return 0;
  }
}

static bool native_little(void) {
  const uint16_t one = 1;
  return *(const uint8_t *)&one == 1;
}

static pack_option bytes_option(char kind, int size) {
  return (pack_option){.kind = size < 0 ? '?' : kind, .size = size};
}

/* lstrlib's getoption; kind '?': bad. */
static pack_option read_option(compiler *k, const char **f) {
  char letter = *(*f)++;
  int size = native_size(letter);
  if (size > 0) return bytes_option('i', size);
  switch (letter) {
  case 'i':
  case 'I': return bytes_option('i', int_size(f, sizeof(int)));
  case 's': return bytes_option('s', int_size(f, sizeof(size_t)));
  case 'c': return bytes_option('c', format_number(f, -1));
  case 'x': return bytes_option('x', 1);
  case 'z': return bytes_option('z', 0);
  case 'X': return bytes_option('X', 0);
  case '<': k->little = true; break;
  case '>': k->little = false; break;
  case '=': k->little = native_little(); break;
  case '!': size = k->max_align = int_size(f, NATIVE_ALIGN); break;
  case ' ': break;
  default: return bytes_option('?', 0);
  }
  return bytes_option(' ', size);
}

static int add_item(compiler *k, np_packitem it) {
  np_packitem *last = k->n > 0 ? &k->items[k->n - 1] : NULL;
  if (it.kind == 'f' && last && last->kind == 'f' && it.fixed <= UINT32_MAX - last->fixed) {
    last->fixed += it.fixed;
    return 0;
  }
  if (k->n == NP_PACK_ITEMS_MAX) return -E2BIG;
  k->items[k->n++] = it;
  return 0;
}

/* lstrlib's getdetails: aligns to the option's size, at most to max_align. */
static int add_align(compiler *k, int size) {
  int align = size < k->max_align ? size : k->max_align;
  if (align <= 1) return 0;
  if ((align & (align - 1)) != 0) return -EINVAL;
  return add_item(k, (np_packitem){.kind = 'a', .size = (uint8_t)align});
}

static int compile_option(compiler *k, const char **f) {
  pack_option o = read_option(k, f);
  int err = 0;
  if (o.kind == 'X') {
    o = **f ? read_option(k, f) : bytes_option('?', 0);
    /* what X refers to lends its alignment only; it must have one */
    return o.kind == 'i' || o.kind == 's' || o.kind == 'x' ? add_align(k, o.size) : -EINVAL;
  }
  if (o.kind == 'i' || o.kind == 's') err = add_align(k, o.size);
  if (err != 0) return err;
  switch (o.kind) {
  case ' ': return 0;
  case 'i':
  case 'c':
  case 'x': return add_item(k, (np_packitem){.kind = 'f', .fixed = (uint32_t)o.size});
  case 's': return add_item(k, (np_packitem){'s', .size = (uint8_t)o.size, .little = k->little});
  case 'z': return add_item(k, (np_packitem){.kind = 'z'});
  default: return -EINVAL;
  }
}

int np_pack_compile(const char *fmt, np_packitem items[NP_PACK_ITEMS_MAX], const char **bad) {
  compiler k = {.items = items, .little = native_little(), .max_align = 1};
  while (*fmt) {
    const char *at = fmt;
    int err = compile_option(&k, &fmt);
    if (err != 0) {
      *bad = at;
      return err;
    }
  }
  *bad = fmt;
  return k.n > 0 ? k.n : -EINVAL;
}

/* A letter of string.pack that is an integer, lower case when it is signed. */
static bool is_integer(char letter) { return strchr("bBhHlLjJTiI", letter) != NULL; }

/* The next integer of a header, after the marks of byte order: 0 or -EINVAL. */
static int head_field(compiler *k, const char **f, np_head *head, np_headfield *out) {
  while (**f == '<' || **f == '>' || **f == '=' || **f == ' ') read_option(k, f);
  char letter = **f;
  if (letter == 0 || !is_integer(letter)) return -EINVAL;
  pack_option o = read_option(k, f);
  if (o.kind != 'i' || o.size > 8) return -EINVAL;
  *out = (np_headfield){
    .at = head->size, .size = (uint8_t)o.size, .little = k->little, .is_signed = letter >= 'a'};
  head->size = (uint8_t)(head->size + o.size);
  return 0;
}

int np_head_compile(const char *fmt, bool tagged, np_head *out, const char **bad) {
  compiler k = {.little = native_little(), .max_align = 1};
  const char *at = fmt;
  *out = (np_head){.size = 0};
  int err = tagged ? head_field(&k, &fmt, out, &out->tag) : 0;
  if (err == 0) at = fmt, err = head_field(&k, &fmt, out, &out->length);
  if (err == 0 && *fmt) at = fmt, err = -EINVAL;
  if (err < 0) *bad = at;
  return err;
}
