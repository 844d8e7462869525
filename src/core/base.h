/* What every file of the core shares: assertions, intrusive lists, small helpers, own error codes.
 *
 * Errors are ints everywhere: 0 or more is fine, negative is -errno (which is libuv's code too) or
 * one of the NP_E* below.  core/error.h turns them into text and names. */
#ifndef NP_BASE_H
#define NP_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* For our own mistakes only: no peer and no script can trigger one.  Always on. */
#define np_assert(x) ((x) ? (void)0 : np_assert_failed(#x, __FILE__, __LINE__))
_Noreturn void np_assert_failed(const char *what, const char *file, int line);

#define np_container(p, type, field) ((type *)((char *)(p)-offsetof(type, field)))
#define np_likely(x) __builtin_expect(!!(x), 1)
#define np_unlikely(x) __builtin_expect(!!(x), 0)
#define np_countof(a) (sizeof(a) / sizeof *(a))

/* Memory that is kept to be used again: not where the sanitizers should watch it. */
#ifdef __has_feature /* clang's way; gcc defines __SANITIZE_ADDRESS__ */
#define NP_SANITIZED __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define NP_SANITIZED 1
#else
#define NP_SANITIZED 0
#endif
#if defined(NP_HARD) || NP_SANITIZED
#define NP_POOLED 0
#else
#define NP_POOLED 1
#endif

static inline size_t np_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t np_max(size_t a, size_t b) { return a > b ? a : b; }

/* Our few own codes, below libuv's (-4095 .. -1) and getaddrinfo's (-3xxx). */
enum {
  NP_ECLOSED = -5001,    /* our side closed the object: name ECANCELED, text "closed" */
  NP_EBADMSG = -5002,    /* bytes that do not fit the awaited frame: name EBADMSG */
  NP_ETLS = -5003,       /* the TLS protocol failed */
  NP_ECERT = -5004,      /* a certificate or key is refused */
  NP_ETRUNCATED = -5005, /* TLS: the end came without close_notify */
  /* what every name server asked said of a question (RFC 1035 4.1.1) */
  NP_ESERVFAIL = -5006,
  NP_ENOTIMP = -5007,
  NP_EREFUSED = -5008,
};

/* A circular doubly linked list; a node outside any list points to itself. */
typedef struct np_node {
  struct np_node *prev, *next;
} np_node;

static inline void np_node_init(np_node *n) { n->prev = n->next = n; }
static inline bool np_node_linked(const np_node *n) { return n->next != n; }
static inline void np_node_remove(np_node *n) {
  n->prev->next = n->next;
  n->next->prev = n->prev;
  n->prev = n->next = n;
}
/* Appends n at the tail of list. */
static inline void np_node_append(np_node *list, np_node *n) {
  n->prev = list->prev;
  n->next = list;
  list->prev->next = n;
  list->prev = n;
}
/* Moves all of `from` to the tail of list. */
static inline void np_node_append_all(np_node *list, np_node *from) {
  if (!np_node_linked(from)) return;
  from->next->prev = list->prev;
  from->prev->next = list;
  list->prev->next = from->next;
  list->prev = from->prev;
  np_node_init(from);
}

#endif
