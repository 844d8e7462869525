/* Files off the loop: system calls that may stall on a disk run on threads of our own.
 *
 * The one idea is core/resolve.h's: a request that nobody wants any more is left to itself. It
 * owns its memory and counts the descriptor it works on, so neither cancelling, np_loop_free nor
 * the end of the process ever waits for a dead server or a FIFO without a peer. (libuv's pool has
 * four threads for everything, keeps the loop unclosable while a request runs, and is joined at
 * exit.) */
#ifndef NP_FS_H
#define NP_FS_H

#include <sys/stat.h>

#include "core/loop.h"

enum {
  NP_FS_RUNNING = 8,  /* wanted requests at work per loop; others wait in order */
  NP_FS_THREADS = 32, /* the same with abandoned ones */
  NP_FS_NAMES_MAX =
    16 << 20, /* bytes of a directory's names: it grows with what others put there */
};

typedef enum np_fsop {
  NP_FS_OPEN,     /* path, flags, mode; beneath `to`, if it has one: `file`, st; -EISDIR */
  NP_FS_READ,     /* file, at, len: data */
  NP_FS_WRITE,    /* file, data; at, or flags O_APPEND: all of it; `len`: how much was written */
  NP_FS_SYNC,     /* file; flags 1: without times and the like */
  NP_FS_TRUNCATE, /* file, at */
  NP_FS_CLOSE,    /* file: closes it if nobody else works on it */
  NP_FS_FSTAT,    /* file: st */
  NP_FS_STAT,     /* path: st */
  NP_FS_LSTAT,
  NP_FS_READ_ALL,  /* path, len (most): data; -EMSGSIZE */
  NP_FS_WRITE_ALL, /* path, data, mode, flags: NP_FS_ATOMIC, NP_FS_SYNCED, O_APPEND, O_EXCL */
  NP_FS_SCANDIR,   /* path: data, for each name in order its type (a letter), itself and a NUL */
  NP_FS_MKDIR,     /* path, mode */
  NP_FS_MKDTEMP,   /* path with XXXXXX at its end: data */
  NP_FS_RMDIR,
  NP_FS_UNLINK,
  NP_FS_RENAME,   /* path, to */
  NP_FS_LINK,     /* path, to */
  NP_FS_SYMLINK,  /* path (what it says), to (where it lies) */
  NP_FS_READLINK, /* path: data */
  NP_FS_REALPATH, /* path: data */
  NP_FS_CHMOD,    /* path, mode */
  NP_FS_CHOWN,    /* path, uid, gid (-1: stays) */
  NP_FS_UTIME,    /* path, atime_s, mtime_s */
  NP_FS_COPYFILE, /* path, to; flags O_EXCL */
} np_fsop;

enum { NP_FS_ATOMIC = 1 << 29, NP_FS_SYNCED = 1 << 30 }; /* beside O_* in flags */

/* A descriptor that requests at work and its owner have together; the last one closes it. */
typedef struct np_fsfile {
  int refs; /* atomic */
  int fd;
} np_fsfile;

typedef struct np_fsreq np_fsreq;
typedef void np_fs_fn(void *owner);

struct np_fsreq {
  np_fsop op; /* what is asked for, set before np_fs_start */
  int flags, mode;
  int64_t at;
  double atime_s, mtime_s;
  int64_t uid, gid;
  const char *path, *to; /* its own */
  np_fsfile *file;       /* counted */
  char *data;            /* its own (malloc) */
  size_t len;
  int64_t result; /* the answer: 0 or more, or -errno; -EINPROGRESS before */
  struct stat st;

  np_object obj; /* while it is wanted */
  np_node node;  /* under lock: in queue or answered */
  struct np_fspool *pool;
  np_fs_fn *fn;
  void *owner;
  bool wanted;
  bool abandoned; /* under lock: whoever runs it frees it */
  char text[];    /* path, to */
};

/* A request with copies of the texts (may be NULL). NULL: no memory. */
np_fsreq *np_fs_new(np_fsop op, const char *path, const char *to);
/* Starts it: fn(owner) tells, once, from the loop. Assumes ownership, also on failure: 0, -ENOMEM,
 * -EAGAIN (no thread). fn NULL: nobody wants the answer. */
int np_fs_start(np_loop *l, np_fsreq *r, np_fs_fn *fn, void *owner);
/* Ends it at any time: removed while queued, abandoned while it runs. */
void np_fs_free(np_fsreq *r);

/* Takes over what NP_FS_OPEN opened. */
np_fsfile *np_fs_take_file(np_fsreq *r);
np_fsfile *np_fsfile_ref(np_fsfile *f);
/* Drops the owner's count; closing happens on a thread, or here where there is none. */
void np_fsfile_drop(np_loop *l, np_fsfile *f);
/* For the threads: 0, or what close said. */
int np_fsfile_unref(np_fsfile *f);

/* Does what r asks for; on a thread. (core/fs_ops.c) */
void np_fs_run(np_fsreq *r);

/* For the loop: tells answers; lets go of what runs. */
void np_fs_answers(np_loop *l);
void np_fs_shutdown(np_loop *l);

#endif
