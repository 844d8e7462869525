/* The inside of neap.fs, for fs.c (paths), file*.c (open files) and watch.c alone. */
#ifndef NP_BINDING_FS_IMPL_H
#define NP_BINDING_FS_IMPL_H

#include "bindings/stream_impl.h"
#include "core/fs.h"

/* An open file's user values: the stream it reads through, its path. */
enum { NP_FILE_STREAM = 1, NP_FILE_PATH, NP_FILE_USERVALUES = 2 };

typedef struct fsfile {
  const np_type *type;
  np_fsfile *core; /* counted; NULL: closed */
  stream *in;      /* user value NP_FILE_STREAM */
  bool append;
  bool busy;     /* a call has the turn */
  np_node turns; /* np_waiter.node */
  uint8_t streak;
} fsfile;

/* A call that waits for a request: a userdata on its stack. */
typedef struct fscall {
  np_fsreq *r;   /* NULL: over, or none is needed */
  np_task *task; /* waits for the answer; NULL: was woken */
  fsfile *on;    /* whose turn it has or waits for; NULL: a path's */
  uint64_t by_ns;
  const char *what;                              /* "stat" */
  int (*push)(lua_State *L, struct fscall *c);   /* the results of one that succeeded */
  void (*begin)(lua_State *L, struct fscall *c); /* before it starts, with the turn; NULL */
  void (*done)(struct fscall *c);                /* with the answer, good or bad; NULL */
  int64_t number;                                /* push's own */
  bool started, finished;                        /* has the turn; has handed it over */
} fscall;

/* Pushes a call with a request of its own, as np_fs_new has it. */
fscall *np_fs_push_call(lua_State *L, np_fsop op, const char *path, const char *to,
                        const char *what);
/* Runs the call on top of the stack, and returns its results: use as `return np_fs_call(...)`. */
int np_fs_call(lua_State *L, fscall *c);

/* Of the file at index 1. */
void np_file_push_name(lua_State *L, fsfile *on);
/* Turns of the calls on a file. True: it has it now; else it waits in the queue. */
bool np_file_turn(np_task *t, fsfile *on);
void np_file_hand_over(fsfile *on);
bool np_file_closed(const fsfile *on);

int np_fs_push_stat(lua_State *L, const struct stat *st);
/* The text at idx, without a NUL inside. */
const char *np_check_path(lua_State *L, int idx);
int np_fs_open(lua_State *L);
int np_fs_watch(lua_State *L);
extern const np_type np_watch_type, np_file_type;
void np_fs_types(lua_State *L); /* metatables; sets `methods` of the module on top */

#endif
