/* c-epoll: a minimal WebSocket echo (RFC 6455): the handshake, masks, whole messages, text checked
 * as UTF-8, pings and the close. Works on one buffer, unmasks in place, answers all frames of a read
 * with one write. */
#define _GNU_SOURCE
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

static ssize_t shake(char *p, size_t n, char *out, size_t *o) {
  static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  unsigned char text[60], sha[20], key[32];
  char *end = memmem(p, n, "\r\n\r\n", 4), *k;
  if (!end) return 0;
  *end = 0;
  k = strcasestr(p, "\r\nSec-WebSocket-Key: ");
  if (!k || end - k < 21 + 24) return -1;
  memcpy(text, k + 21, 24);
  memcpy(text + 24, guid, 36);
  SHA1(text, sizeof text, sha);
  EVP_EncodeBlock(key, sha, sizeof sha);
  *o += (size_t)sprintf(out,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                        (char *)key);
  return end + 4 - p;
}

static int is_utf8(const unsigned char *p, size_t n) {
  const unsigned char *end = p + n;
  while (p < end) {
    uint64_t v;
    if (end - p >= 8 && (memcpy(&v, p, 8), !(v & UINT64_C(0x8080808080808080)))) {
      p += 8;
      continue;
    }
    unsigned c = *p++, more = c < 0x80 ? 0 : c < 0xc2 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    if (c > 0xf4 || more > (size_t)(end - p)) return 0;
    if (more > 1 && ((c == 0xe0 && *p < 0xa0) || (c == 0xed && *p > 0x9f) ||
                     (c == 0xf0 && *p < 0x90) || (c == 0xf4 && *p > 0x8f)))
      return 0;
    for (; more; more--)
      if ((*p++ & 0xc0) != 0x80) return 0;
  }
  return 1;
}

static void unmask(char *p, size_t n, const char *mask) {
  uint64_t m, v;
  size_t i = 0;
  memcpy(&m, mask, 4);
  memcpy((char *)&m + 4, mask, 4);
  for (; i + 8 <= n; i += 8) {
    memcpy(&v, p + i, 8);
    v ^= m;
    memcpy(p + i, &v, 8);
  }
  for (; i < n; i++) p[i] ^= mask[i & 3];
}

ssize_t ws_frames(int *shaken, char *p, size_t n, char *out, size_t *o) {
  char *s = p, *end = p + n;
  if (!*shaken) {
    ssize_t k = shake(p, n, out, o);
    *shaken = k > 0;
    return k;
  }
  while (end - s >= 6) {
    unsigned char *h = (unsigned char *)s;
    uint64_t len = h[1] & 0x7f;
    unsigned wide = len == 126 ? 2 : len == 127 ? 8 : 0, op = h[0] & 0x0f;
    if ((h[0] & 0xf0) != 0x80 || !(h[1] & 0x80)) return -1; /* whole messages, masked */
    if (end - s < 6 + (int)wide) break;
    if (wide) len = 0;
    for (unsigned i = 0; i < wide; i++) len = len << 8 | h[2 + i];
    if (len > 1 << 17) return -1;
    char *data = s + 6 + wide;
    if ((uint64_t)(end - data) < len) break;
    unmask(data, len, data - 4);
    if (op == 1 && !is_utf8((unsigned char *)data, len)) return -1;
    if (op < 10) {
      out[(*o)++] = (char)(op == 9 ? 0x8a : h[0]);
      out[(*o)++] = (char)(h[1] & 0x7f);
      memcpy(out + *o, h + 2, wide);
      memcpy(out + *o + wide, data, len);
      *o += wide + len;
    }
    s = data + len;
  }
  return s - p;
}
