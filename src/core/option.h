/* Socket options as rows of one table: adding an option is adding a row. */
#ifndef NP_OPTION_H
#define NP_OPTION_H

#include "core/base.h"

typedef enum np_opttype {
  NP_OPT_BOOL,
  NP_OPT_INT,
  NP_OPT_SECONDS,
  NP_OPT_STRING,
  NP_OPT_LINGER,   /* seconds, or off (-1) */
  NP_OPT_WORD,     /* a string: one of a few words */
  NP_OPT_INTERFACE /* a string: an interface's name or decimal number */
} np_opttype;

typedef struct np_option {
  const char *name; /* as scripts write it: "nodelay" */
  np_opttype type;
  uint8_t when; /* NP_OPT_BEFORE: must be set before bind/connect/listen; 0: any time */
  bool readonly;
  int level, name4;  /* setsockopt for AF_INET and others */
  int level6, name6; /* for AF_INET6 where they differ; 0: the same */
  const char *unit;  /* documentation: "bytes", "seconds", "hops" */
  const char *doc;   /* one line, with the man page */
  int per_second;    /* SECONDS, LINGER: the kernel's units in a second; seconds are rounded up */
} np_option;
enum { NP_OPT_BEFORE = 1 };

typedef union np_optval {
  bool b;
  int i;
  double seconds; /* NP_OPT_LINGER: negative is off */
  char s[64];
} np_optval;

/* The words a NP_OPT_WORD takes, as "a", "b", ... into buf. */
void np_option_words(const np_option *o, char *buf, size_t size);
bool np_option_has_word(const np_option *o, const char *word);

const np_option *np_option_find(const char *name); /* NULL: unknown */
const np_option *np_option_at(size_t i);           /* NULL past the last; the order of the table */

/* 0 or -errno (-ENOPROTOOPT where the socket or platform has no such option; -ENODEV: no such
 * interface). */
/* Numbers with words (type, domain, protocol, error) are read as strings. An option that IPv4
 * and IPv6 have is read as the socket's family has it, and set for both on AF_INET6. */
int np_option_get(int fd, const np_option *o, np_optval *v);
int np_option_set(int fd, const np_option *o, const np_optval *v);

#endif
