/* The inside of stream objects, for stream.c (ending, fields), stream_make.c, stream_read.c and
 * stream_write.c alone. */
#ifndef NP_BINDING_STREAM_IMPL_H
#define NP_BINDING_STREAM_IMPL_H

#include <netinet/in.h>

#include "bindings/lua_util.h"
#include "bindings/select.h"
#include "bindings/stream.h"
#include "bindings/task.h"

/* What uses a stream whole for a while, in the place of its readers and writers (net.pipe). */
typedef struct np_holder {
  const char *doing;                   /* "piping" */
  void (*closed)(struct np_holder *h); /* a stream is about to be closed: let go of it */
} np_holder;

/* Whoever waits is one pointer per direction. The pointer stays until the woken task has run:
 * between waking and running, nobody else may begin to read or write. */
typedef struct stream {
  const np_type *type;
  np_stream *s;             /* NULL: closed */
  np_task *reader, *writer; /* who waits or was woken; NULL: nobody */
  bool reader_woken, writer_woken;
  bool warned_fds;
  uint8_t peer_len; /* 0: the kernel is asked */
  uint8_t streak;   /* failures in a row that came at once */
  struct sockaddr_in6
    peer;              /* of an accepted connection, also of AF_INET: known after a reset too */
  np_node turns;       /* np_waiter.node: writers whose turn comes after the present one */
  np_node flushers;    /* np_waiter.node */
  np_holder *holder;   /* NULL: free */
  uint64_t timeout_ns; /* default of each call; NP_NEVER */
  uint64_t write_timeout_ns; /* default of those that write, before that; NP_NEVER: the same */
  uint64_t read_by_ns;       /* deadline of the present read; NP_BY_DEFAULT until it waits */
  size_t line_max, read_max;
  np_cond cond; /* of a read with one condition */
} stream;

extern const np_type np_stream_type;

enum { NP_STREAM_ORIGIN = 1 }; /* its user value: where it was made */

/* Methods, called from Lua. */
int np_f_read(lua_State *L);
int np_f_lines(lua_State *L);
int np_f_messages(lua_State *L);
int np_f_recv(lua_State *L);
int np_f_peek(lua_State *L);
int np_f_read_until(lua_State *L);
int np_f_unread(lua_State *L);
int np_f_unpack(lua_State *L);
int np_f_write(lua_State *L);
int np_f_flush(lua_State *L);
int np_f_send(lua_State *L);

static inline stream *np_stream_self(lua_State *L) {
  return np_check_object(L, 1, &np_stream_type);
}

/* The failure triple, "what name: text"; "closed" for a closed stream. */
int np_stream_failed(lua_State *L, stream *u, int code, const char *what);
int np_stream_describe(void *obj, char *buf, size_t size);
/* The owner callback of the core's streams, for who borrowed one and gives it back. */
void np_stream_on_event(void *owner, int what);
/* Raises if another task reads, writes or holds the stream. */
void np_stream_check_free(lua_State *L, stream *u);
int np_stream_busy(lua_State *L, stream *u,
                   const char *doing); /* raises "another task is already ..." */
/* Pushes the name for messages. */
const char *np_stream_name(lua_State *L, stream *u);

/* A deadline not yet looked up: the stream's default, from the moment the call has to wait. Most
 * calls never do, and spare the clock: with the spare output chunk, 4500 -> 4230 instructions per
 * echo. */
enum { NP_BY_DEFAULT = 0 };

/* The instant that so many seconds (negative: a default) mean for a call that begins now. */
uint64_t np_stream_deadline(lua_State *L, uint64_t def_ns, double seconds);
/* The same for a table of `timeout` as the last argument, which is removed. */
uint64_t np_stream_take_options(lua_State *L, uint64_t def_ns);

/* stream_fds.c: the options of recv at index opt (a table, nil or nothing), how many descriptors it
 * asks for; sets u->read_by_ns.  And its results, the answer of len bytes cut at the first
 * descriptors, and these, at most as many as lie at index 2: how many it pushed; -EAGAIN: the bytes
 * have moved; or why it failed. */
int np_stream_recv_options(lua_State *L, stream *u, int opt);
int np_stream_push_fds(lua_State *L, stream *u, size_t len, const char *data);

static inline uint64_t np_stream_write_timeout(const stream *u) {
  return u->write_timeout_ns == NP_NEVER ? u->timeout_ns : u->write_timeout_ns;
}

/* Writing: whoever comes while somebody writes waits for its turn in u->turns; u->writer has it,
 * and hands it over when done. */
bool np_stream_must_queue(const stream *u);
void np_stream_hand_over(stream *u);

/* Wakes every flusher and whoever else waits for room in the output queue. */
void np_stream_poke_flushers(stream *u);

#endif
