/* Log-linear latency histogram in nanoseconds: 64 linear buckets per power of
 * two, so any quantile is within 1.6 % of the true value. */
#ifndef HIST_H
#define HIST_H
#include <stdint.h>
#include <string.h>

#define HIST_SUB 6
#define HIST_LEN (((64 - HIST_SUB) + 1) << HIST_SUB)

typedef struct {
  uint64_t n, max, sum, b[HIST_LEN];
} hist;

static inline void hist_reset(hist *h) { memset(h, 0, sizeof *h); }

static inline unsigned hist_index(uint64_t v) {
  if (v < (1u << HIST_SUB)) return (unsigned)v;
  unsigned e = 63 - (unsigned)__builtin_clzll(v);
  return ((e - HIST_SUB + 1) << HIST_SUB) +
         (unsigned)((v >> (e - HIST_SUB)) & ((1u << HIST_SUB) - 1));
}

static inline uint64_t hist_value(unsigned i) { /* upper edge of the bucket */
  unsigned e = i >> HIST_SUB, s = i & ((1u << HIST_SUB) - 1);
  if (e == 0) return s;
  return ((uint64_t)((1u << HIST_SUB) + s + 1) << (e - 1)) - 1;
}

static inline void hist_add(hist *h, uint64_t v) {
  h->n++;
  h->sum += v;
  if (v > h->max) h->max = v;
  h->b[hist_index(v)]++;
}

static inline uint64_t hist_quantile(const hist *h, double q) {
  uint64_t want = (uint64_t)(q * (double)h->n), seen = 0;
  if (!h->n) return 0;
  if (want >= h->n) want = h->n - 1;
  for (unsigned i = 0; i < HIST_LEN; i++) {
    seen += h->b[i];
    if (seen > want) {
      uint64_t v = hist_value(i);
      return v < h->max ? v : h->max;
    }
  }
  return h->max;
}
#endif
