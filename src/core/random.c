/* A page of the kernel's random bytes.
 *
 * The page is of MADV_WIPEONFORK: in a child it reads as zeros, `left` among them, which means that
 * nothing is there. Bytes that were drawn are gone from it. */
#include "core/random.h"

#include <string.h>
#include <sys/mman.h>
#include <uv.h>

enum { PAGE = 4096 };

struct np_random {
  size_t left; /* of bytes, at their end */
  unsigned char bytes[PAGE - sizeof(size_t)];
};

np_random *np_random_new(void) {
#ifdef MADV_WIPEONFORK
  void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  if (madvise(p, PAGE, MADV_WIPEONFORK) == 0) return p;
  munmap(p, PAGE);
#endif
  return NULL;
}

void np_random_free(np_random *r) {
  if (r) munmap(r, PAGE);
}

int np_random_draw(np_random *r, void *out, size_t n) {
  if (!r || n > sizeof r->bytes) return uv_random(NULL, NULL, out, n, 0, NULL);
  if (r->left < n) {
    int err = uv_random(NULL, NULL, r->bytes, sizeof r->bytes, 0, NULL);
    if (err < 0) return err;
    r->left = sizeof r->bytes;
  }
  unsigned char *from = r->bytes + sizeof r->bytes - r->left;
  memcpy(out, from, n);
  memset(from, 0, n);
  r->left -= n;
  return 0;
}
