/* WebSocket (RFC 6455 section 5): what the heads of frames say, masks, and which frame may follow
 * which. Pure. */
#ifndef NP_WEBSOCKET_H
#define NP_WEBSOCKET_H

#include "core/base.h"

enum { NP_WS_TEXT = 1, NP_WS_BINARY, NP_WS_CLOSE = 8, NP_WS_PING, NP_WS_PONG };
enum { NP_WS_CONTROL_MAX = 125, NP_WS_HEAD_MAX = 14, NP_WS_MASK = 4 };

enum {
  NP_WS_FIN = 0x80,
  NP_WS_RSV1 = 0x40, /* of a message's first frame: compressed (RFC 7692 6) */
  NP_WS_OPCODE = 0x0f,
};

/* What a reader expects: a server gets masked frames only, a client unmasked ones only. */
enum {
  NP_WS_MASKED = 1,
  NP_WS_DEFLATE = 2 /* compression was agreed on */
};

typedef struct np_ws_head {
  uint8_t bits;    /* the first byte: FIN 0x80, opcode 0x0f */
  uint8_t size;    /* bytes of the head */
  uint64_t length; /* of the payload behind it */
  unsigned char mask[NP_WS_MASK];
  const char *why; /* refused: the reason */
} np_ws_head;

/* A longer frame is given in pieces of this size, so that no frame needs more memory than that. A
 * multiple of the mask: each piece begins with its first byte. */
enum { NP_WS_PIECE = 64 << 10 };

/* The receiving half of one connection: what is known of the frame and the message whose ends have
 * not come. Zero, but for `expect`, before the first. */
typedef struct np_ws_reader {
  unsigned expect;
  uint8_t bits;     /* first byte of the open message with its own opcode and RSV1; 0: none is */
  uint32_t utf8;    /* of an open text: state behind the last piece */
  uint64_t left;    /* bytes of the frame behind that piece */
  np_ws_head frame; /* the frame that the next piece belongs to */
  uint16_t close;   /* refused: the close code (7.4.1) that says why */
  const char *why;
} np_ws_reader;

/* The head of the frame that the next piece, in p, belongs to, goes to r->frame; r->frame.size is 0
 * inside a frame. Results as np_ws_head_read, and refused is also a frame that may not come now.
 * Nothing else changes: this may be asked again. */
int np_ws_reader_look(np_ws_reader *r, const char *p, size_t n);
/* The piece's bytes without its head: at most NP_WS_PIECE, less only at a frame's end. */
size_t np_ws_reader_piece(const np_ws_reader *r);
/* Whether the piece is text to be checked: compressed text is not. */
bool np_ws_reader_text(const np_ws_reader *r);
/* Checks n bytes of the piece, from byte `at` on, without mask: false: no UTF-8, r says so. */
bool np_ws_reader_check(np_ws_reader *r, uint32_t *state, const char *p, size_t at, size_t n);
/* The same for bytes as they came. */
bool np_ws_reader_check_masked(np_ws_reader *r, uint32_t *state, const char *p, size_t at,
                               size_t n);
/* The piece was taken, and left the text in that state. Returns its bits: its message's opcode and
 * RSV1, and FIN if it ends this message; a control frame's as they are. */
unsigned np_ws_reader_take(np_ws_reader *r, uint32_t utf8);
/* NP_EBADMSG with its reason, for the peer and for the log. */
int np_ws_reader_refuse(np_ws_reader *r, int close, const char *why);

/* Reads a head: 1: it is whole, 0: more bytes are needed, NP_EBADMSG: refused, as early as its
 * bytes tell, out->why says why. */
int np_ws_head_read(const char *p, size_t n, unsigned expect, np_ws_head *out);

/* Writes a head, with a mask or NULL; returns its bytes. */
size_t np_ws_head_write(char out[NP_WS_HEAD_MAX], unsigned bits, uint64_t length,
                        const unsigned char *mask);

/* Masks or unmasks n bytes; out may be in. */
void np_ws_mask(char *out, const char *in, size_t n, const unsigned char mask[NP_WS_MASK]);

#endif
