/* Listeners: one or more listening sockets (both families of a name share a port), or a `mem:`
 * name.
 *
 * The kernel's backlog is the only queue: a connection is taken off it when somebody asks, so an
 * owner that does not accept pushes back.  A descriptor kept in reserve sees the listener through
 * EMFILE. */
#ifndef NP_LISTENER_H
#define NP_LISTENER_H

#include "core/socket.h"
#include "core/transport.h"

typedef struct np_listener np_listener;

enum {
  NP_ACCEPTS_MAX = 16, /* accepts per event: other tasks get their turn in a storm of connections */
  NP_STARVED_PAUSE_MS = 100,  /* how long accepting rests after EMFILE */
  NP_STARVED_TELL_MS = 1000,  /* how often that is said */
  NP_LISTEN_SOCKETS_MAX = 16, /* addresses of one name */
  NP_MEM_CAPACITY =
    64 << 10, /* bytes in flight each way of a mem: connection, like a socket's buffers */
};

/* What the owner is told; never from inside a call of the listener. */
enum {
  NP_LISTENER_ACCEPT = 1, /* np_listener_accept is worth calling, up to np_listener_ready times */
  NP_LISTENER_STARVED =
    2, /* out of np_listener_lack: np_listener_shed connections were closed unserved so far */
};
typedef void np_listener_fn(void *owner, int what);

/* A listener without sockets; takes the reserve descriptor.  0 or -errno (-EMFILE: not even
 * that). */
int np_listener_new(np_loop *l, np_listener **out);
void np_listener_own(np_listener *s, np_listener_fn *fn, void *owner);

/* Adds a listening socket.  Assumes ownership of fd, also on failure: -ENOTSOCK, -EINVAL it does
 * not listen, -E2BIG too many.  An inherited one is set to non-blocking until it is closed or
 * taken. */
int np_listener_add(np_listener *s, int fd);

/* Says, before the first wait, that other processes accept from the same sockets: each connection
 * wakes one of them, in turns where the watcher can do that. */
void np_listener_share(np_listener *s);

/* Gives an empty listener the name `name` on its loop instead, with room for `backlog` connections:
 * 0, -EADDRINUSE, -ENOMEM. */
int np_listener_add_mem(np_listener *s, const char *name, size_t len, int backlog);

/* Connects to the mem: name of this loop: 0 and the client's end in *client; -ECONNREFUSED nobody
 * listens; -EAGAIN its backlog is full. */
int np_mem_connect(np_loop *l, const char *name, size_t len, np_transport **client);

/* One connection: its descriptor in a->fd, or a transport (mem:). */
typedef struct np_accepted {
  int fd;            /* -1 for mem: */
  int which;         /* the listener's socket it came from; of mem: 0 */
  np_transport *mem; /* the owner's from here on */
  np_sockaddr peer;  /* len 0 for mem: */
} np_accepted;

/* 0: *a is a connection.  -EAGAIN: none now; NP_LISTENER_ACCEPT tells once np_listener_wait was
 * called.  Another code: the listening socket is of no use any more.  Tries the kernel only while
 * the last event lets it expect a connection, or when `force`. */
int np_listener_accept(np_listener *s, bool force, np_accepted *a);

/* The connection that was just accepted could not be kept and is closed, for the reason `code`.
 * True: that is a shortage, which was counted; accepting rests and goes on, as at EMFILE. */
bool np_listener_refused(np_listener *s, int code);

/* How many np_listener_accept are worth trying now. */
int np_listener_ready(const np_listener *s);

/* Somebody waits for NP_LISTENER_ACCEPT: watch. 0 or an error of the watcher. */
int np_listener_wait(np_listener *s);

/* Closes the sockets; a path stays in the file system, for whoever else may hold the socket. */
void np_listener_close(np_listener *s);

/* Moves the i-th socket's descriptor out, in the mode it came in; the listener keeps the others.
 * -1: none. */
int np_listener_take(np_listener *s, int i);

int np_listener_count(const np_listener *s);            /* its sockets; 0 for mem: */
int np_listener_fd(const np_listener *s, int i);        /* -1: no such socket */
const char *np_listener_mem_name(const np_listener *s); /* NULL: sockets */
uint64_t np_listener_shed(const np_listener *s); /* connections closed unserved at a shortage */
int np_listener_lack(const np_listener *s); /* of what, while NP_LISTENER_STARVED is told: a code */
np_object *np_listener_object(np_listener *s);

#endif
