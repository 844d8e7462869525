/* Frames of WebSocket (RFC 6455 section 5): what their heads say, and masks. Pure, but for the
 * random bytes of a mask. */
#ifndef NP_WEBSOCKET_H
#define NP_WEBSOCKET_H

#include "core/base.h"

enum { NP_WS_TEXT = 1, NP_WS_BINARY, NP_WS_CLOSE = 8, NP_WS_PING, NP_WS_PONG };
enum { NP_WS_CONTROL_MAX = 125, NP_WS_HEAD_MAX = 14, NP_WS_MASK = 4 };

/* What a reader expects: a server gets masked frames only, a client unmasked ones only. */
enum { NP_WS_MASKED = 1 };

typedef struct np_ws_head {
  uint8_t bits;    /* the first byte: FIN 0x80, opcode 0x0f */
  uint8_t size;    /* bytes of the head */
  uint64_t length; /* of the payload behind it */
  unsigned char mask[NP_WS_MASK];
  const char *why; /* refused: the reason */
} np_ws_head;

/* Reads a head: 1: it is whole, 0: more bytes are needed, NP_EBADMSG: refused, as early as its
 * bytes tell, out->why says why. */
int np_ws_head_read(const char *p, size_t n, unsigned expect, np_ws_head *out);

/* Writes a head, with a mask or NULL; returns its bytes. */
size_t np_ws_head_write(char out[NP_WS_HEAD_MAX], unsigned bits, uint64_t length,
                        const unsigned char *mask);

/* Masks or unmasks n bytes; out may be in. */
void np_ws_mask(char *out, const char *in, size_t n, const unsigned char mask[NP_WS_MASK]);

/* A mask nobody can foresee, from the kernel: 0 or a failure. */
int np_ws_random(void *out, size_t n);

#endif
