/* Several datagrams in one system call: recvmmsg and sendmmsg; UDP_SEGMENT, which sends pieces of
 * one size as one large datagram that the kernel or the card cuts; and its reverse, UDP_GRO, which
 * joins them on arrival and is undone here.
 *
 * The slots lie at 64 KiB each, because a joined datagram may be that long and pages nobody writes
 * to cost nothing.  There is no room for many descriptors: batches are not made for them. */
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "core/cond.h"
#include "core/dgram_impl.h"

enum {
  CONTROL = 320, /* addresses, numbers and times of one message, with some room: a multiple of 8 */
  STAGGER =
    192, /* more than a power of two between slots, else all begin in one set of the cache */
  GSO_BYTES = 65000, /* of one large datagram with its headers: below 65535 */
  GSO_PIECES = 64,   /* the kernel's UDP_MAX_SEGMENTS */
};

struct np_batch {
  int slots, count, at; /* of the slots, how many are full, and the first not given yet */
  size_t stride;
  char *data;
  size_t data_size;
#ifdef __linux__
  struct mmsghdr *h;
#endif
  struct iovec *iov;
  struct sockaddr_storage *from;
  char *control;
  bool splitting; /* `whole` has more to give, from `offset` on */
  size_t offset;
  np_message whole;
};

static void free_slots(np_batch *b) {
#ifdef __linux__
  free(b->h);
  b->h = NULL;
#endif
  free(b->iov);
  free(b->from);
  free(b->control);
  b->iov = NULL;
  b->from = NULL;
  b->control = NULL;
  b->slots = 0;
}

void np_batch_free(np_batch *b) {
  if (!b) return;
  free_slots(b);
  free(b->data);
  free(b);
}

static np_batch *batch_of(np_dgram *d) {
  if (!d->batch) d->batch = calloc(1, sizeof *d->batch);
  return d->batch;
}

/* Nothing in it is kept when it moves. */
static int room(np_batch *b, size_t size) {
  if (b->data_size >= size) return 0;
  free(b->data);
  b->data = malloc(size);
  b->data_size = b->data ? size : 0;
  if (!b->data) free_slots(b);
  return b->data ? 0 : -ENOMEM;
}

/* ---- giving ---- */

int np_batch_keep(np_dgram *d, const np_message *m) {
  np_batch *b = batch_of(d);
  int r = b ? room(b, np_max(m->len, 1)) : -ENOMEM;
  if (r < 0) return r;
  b->whole = *m;
  b->whole.data = memcpy(b->data, m->data, m->len);
  b->count = b->at = 0;
  b->offset = 0;
  b->splitting = d->kept = true;
  return 0;
}

/* Descriptors come with the first piece; only messages that are whole have any. */
static void give_piece(np_batch *b, np_message *m) {
  np_message *w = &b->whole;
  size_t left = w->len - b->offset, n = w->with.segment > 0 ? (size_t)w->with.segment : left;
  *m = *w;
  m->data = w->data + b->offset;
  m->len = np_min(n, left);
  if (w->with.segment > 0) m->full = m->len;
  b->offset += m->len;
  b->splitting = b->offset < w->len;
}

#ifdef __linux__
static void load(const np_dgram *d, const np_batch *b, int i, np_message *m) {
  const struct msghdr *h = &b->h[i].msg_hdr;
  m->data = h->msg_iov->iov_base;
  m->full = b->h[i].msg_len;
  m->len = np_min(m->full, h->msg_iov->iov_len);
  if (m->full == m->len && h->msg_flags & MSG_TRUNC) m->full = m->len + 1;
  m->from.len = h->msg_namelen;
  if (h->msg_namelen > 0) memcpy(&m->from.ss, h->msg_name, h->msg_namelen);
  else m->from.ss.ss_family = (sa_family_t)d->domain;
  np_ancillary_parse(h, &m->with);
  np_dgram_unmap(&m->from);
}
#endif

bool np_dgram_next(np_dgram *d, size_t max, np_message *m) {
  np_batch *b = d->batch;
  if (!d->kept) return false;
  if (b->splitting) {
    give_piece(b, m);
  }
#ifdef __linux__
  else if (b->at < b->count) {
    load(d, b, b->at++, m);
    size_t segment = (size_t)m->with.segment;
    if (segment > 0 && segment < m->len) {
      b->whole = *m;
      b->offset = 0;
      give_piece(b, m);
    }
  }
#endif
  d->kept = b->splitting || b->at < b->count;
  m->len = np_min(m->len, max);
  return true;
}

/* ---- receiving ---- */

/* What recvmmsg cannot do right: the end of records, and other systems. */
static int recv_one(np_dgram *d, size_t max) {
  np_message m;
  int r = np_dgram_recv(d, max, &m);
  if (r <= 0) return r;
  r = np_batch_keep(d, &m);
  if (r < 0) np_ancillary_close(&m.with);
  return r < 0 ? r : 1;
}

#ifdef __linux__
static int make_slots(np_batch *b, int n, size_t stride) {
  if (b->slots >= n && b->stride == stride) return 0;
  free_slots(b);
  size_t count = (size_t)n;
  b->h = calloc(count, sizeof *b->h);
  b->iov = calloc(count, sizeof *b->iov);
  b->from = calloc(count, sizeof *b->from);
  b->control = malloc(count * CONTROL);
  if (!b->h || !b->iov || !b->from || !b->control || room(b, count * stride) < 0) {
    free_slots(b);
    return -ENOMEM;
  }
  b->slots = n;
  b->stride = stride;
  return 0;
}

static void clear_slots(np_batch *b, int n, size_t size) {
  for (int i = 0; i < n; i++) {
    struct msghdr *h = &b->h[i].msg_hdr;
    b->iov[i] = (struct iovec){b->data + (size_t)i * b->stride, size};
    *h = (struct msghdr){.msg_name = &b->from[i],
                         .msg_namelen = sizeof b->from[i],
                         .msg_iov = &b->iov[i],
                         .msg_iovlen = 1,
                         .msg_control = b->control + (size_t)i * CONTROL,
                         .msg_controllen = CONTROL};
  }
}

static int receive(np_dgram *d, np_batch *b, int n) {
  int r;
  do r = recvmmsg(d->fd, b->h, (unsigned)n, d->flags, NULL);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : r;
}

int np_dgram_recv_batch(np_dgram *d, size_t max, int n) {
  np_assert(n >= 1 && n <= NP_BATCH_MAX);
  if (d->kept) return 1;
  if (np_dgram_records(d)) return recv_one(d, max);
  if (!d->readable) return np_dgram_wait_readable(d);
  size_t size = d->scheme == NP_UDP ? np_max(max, UINT16_MAX + 1) : max;
  np_batch *b = batch_of(d);
  int r = b ? make_slots(b, n, (size + 63) / 64 * 64 + STAGGER) : -ENOMEM;
  if (r < 0) return r;
  clear_slots(b, n, size);
  r = receive(d, b, n);
  while (r < 0 && r != -EAGAIN && d->errors && np_dgram_drain_errors(d)) r = receive(d, b, n);
  if (r == -EAGAIN) return np_dgram_wait_readable(d);
  if (r < 0) return r;
  b->count = r;
  b->at = 0;
  d->kept = r > 0;
  return r;
}
#else
int np_dgram_recv_batch(np_dgram *d, size_t max, int n) {
  (void)n;
  return d->kept ? 1 : recv_one(d, max);
}
#endif

/* ---- sending ---- */

#ifdef __linux__
static bool same_to(const np_sockaddr *a, const np_sockaddr *b) {
  return a == b || (a && b && a->len == b->len && memcmp(&a->ss, &b->ss, a->len) == 0);
}

/* How many messages from m[0] on can leave as one: of one size, the last may be shorter. */
static int run_length(const np_dgram *d, const np_outgoing *m, int n) {
  size_t size = m->n, total = size;
  int i = 1;
  if (size == 0 || size > (size_t)d->gso_max) return 1;
  for (; i < n && i < GSO_PIECES; i++) {
    total += m[i].n;
    if (m[i - 1].n != size || m[i].n == 0 || m[i].n > size || total > GSO_BYTES) break;
    if (!same_to(m->to, m[i].to)) break;
  }
  return i;
}

/* The kernels before 4.18 would send the pieces as one datagram, so it is asked first. */
static void ask_gso(np_dgram *d) {
#ifdef UDP_SEGMENT
  int v;
  socklen_t len = sizeof v;
  if (d->gso_known) return;
  d->gso_known = true;
  if (d->scheme == NP_UDP && getsockopt(d->fd, IPPROTO_UDP, UDP_SEGMENT, &v, &len) == 0)
    d->gso_max = UINT16_MAX;
#else
  (void)d;
#endif
}

typedef struct outbox {
  struct mmsghdr h[NP_SEND_BATCH];
  struct iovec iov[NP_SEND_BATCH];
  uint8_t pieces[NP_SEND_BATCH]; /* messages in each of h */
  int count;
  /* what goes with those that are not joined, over IPv6 and IPv4 */
  _Alignas(struct cmsghdr) char with[2][CONTROL];
  _Alignas(struct cmsghdr) char control[NP_SEND_BATCH / 2][CONTROL];
} outbox;

static void put_segment(struct msghdr *h, void *buf, size_t size) {
#ifdef UDP_SEGMENT
  uint16_t v = (uint16_t)size;
  np_cmsg_put(h, buf, IPPROTO_UDP, UDP_SEGMENT, &v, sizeof v);
#else
  (void)h, (void)buf, (void)size;
#endif
}

static void fill(const np_dgram *d, outbox *o, const np_outgoing *m, int n,
                 const np_sendwith *with) {
  struct msghdr plain[2] = {{.msg_controllen = 0}, {.msg_controllen = 0}};
  int runs = 0, len;
  o->count = 0;
  for (int four = 0; with && four < 2; four++)
    np_dgram_put_with(d, with, four, &plain[four], o->with[four]);
  for (int i = 0; i < n; i += len) {
    struct msghdr *h = &o->h[o->count].msg_hdr;
    len = run_length(d, m + i, n - i);
    for (int k = i; k < i + len; k++) o->iov[k] = (struct iovec){(void *)(uintptr_t)m[k].p, m[k].n};
    bool four = with && np_dgram_over_four(d, m[i].to);
    *h = plain[four];
    h->msg_iov = o->iov + i;
    h->msg_iovlen = (size_t)len;
    if (m[i].to) {
      h->msg_name = (void *)(uintptr_t)&m[i].to->ss;
      h->msg_namelen = m[i].to->len;
    }
    if (len > 1) {
      char *buf = o->control[runs++];
      if (h->msg_controllen) memcpy(buf, o->with[four], h->msg_controllen);
      put_segment(h, buf, m[i].n);
    }
    o->pieces[o->count++] = (uint8_t)len;
  }
}

static int transmit(np_dgram *d, outbox *o) {
  int r;
  do r = sendmmsg(d->fd, o->h, (unsigned)o->count, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : r;
}

/* Pieces too large for the path, a device without checksums, a tunnel: there it cannot be. */
static bool lower_gso(np_dgram *d, const outbox *o, int r) {
  if (o->pieces[0] < 2) return false;
  if (r != -EINVAL && r != -EIO && r != -EMSGSIZE && r != -EOPNOTSUPP && r != -ENOPROTOOPT)
    return false;
  d->gso_max = (int)o->iov[0].iov_len - 1;
  return true;
}

static int wait_room(np_dgram *d, const np_sockaddr *to) {
  int r = np_dgram_wait_writable(d, to);
  return r < 0 ? r : 0;
}

int np_dgram_send_batch(np_dgram *d, const np_outgoing *m, int n, const np_sendwith *with) {
  outbox o;
  np_assert(n >= 1 && n <= NP_SEND_BATCH && (!with || with->nfds == 0));
  if (!d->writable && !(d->domain == AF_UNIX && m->to)) return wait_room(d, m->to);
  ask_gso(d);
  fill(d, &o, m, n, with);
  int r = transmit(d, &o);
  while (r < 0 && lower_gso(d, &o, r)) {
    fill(d, &o, m, n, with);
    r = transmit(d, &o);
  }
  /* as np_dgram_send: an earlier message's failure is not this one's */
  if (r < 0 && r != -EAGAIN && r != -EMSGSIZE && d->errors && np_dgram_drain_errors(d))
    r = transmit(d, &o);
  if (r == -EAGAIN) return wait_room(d, m->to);
  d->retry_ms = 0;
  if (r < 0) return r;
  int sent = 0;
  for (int i = 0; i < r; i++) sent += o.pieces[i];
  return sent;
}
#else
int np_dgram_send_batch(np_dgram *d, const np_outgoing *m, int n, const np_sendwith *with) {
  (void)n;
  int r = np_dgram_send(d, m->p, m->n, m->to, with);
  return r < 0 ? r : r == 0;
}
#endif
