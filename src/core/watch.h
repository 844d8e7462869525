/* What happens to a file or in a directory, as the kernel tells it (inotify; elsewhere -ENOSYS).
 *
 * Events wait in the kernel, which keeps so many (fs.inotify.max_queued_events) and then says that
 * it lost some. Not recursive. */
#ifndef NP_WATCH_H
#define NP_WATCH_H

#include "core/loop.h"

typedef struct np_watcher np_watcher;
typedef void np_watcher_fn(void *owner); /* there is an event: call np_watcher_next again */

/* 0, -ENOENT, -EACCES, -EMFILE (fs.inotify.max_user_instances), -ENOSPC (max_user_watches) ... */
int np_watcher_open(np_loop *l, const char *path, np_watcher_fn *fn, void *owner, np_watcher **out);

typedef struct np_watched {
  const char *what; /* "create", "delete", "modify", "written" (closed after writing), "attrib",
                       "moved_from", "moved_to", "moved" and "gone" (itself), "overflow" */
  const char *name; /* in a directory: whose; until the next call. NULL: of itself */
  bool directory;   /* it is one */
} np_watched;

/* 1: an event. 0: none yet. NP_WATCH_END: what was watched is gone. Or a failure. */
#define NP_WATCH_END (-5030)
int np_watcher_next(np_watcher *w, np_watched *out);

void np_watcher_close(np_watcher *w);

#endif
