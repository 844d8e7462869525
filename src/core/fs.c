/* Requests to the file system and the threads that run them (see fs.h).
 *
 * A thread shares the pool's block with the loop, under its lock, and nothing else; the block is
 * freed by the last of them. Threads come as there is work and go after a while without. */
#include "core/fs.h"
#include "core/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { IDLE_S = 2 }; /* a thread without work ends */

typedef struct np_fspool {
  pthread_mutex_t lock;
  pthread_cond_t work;
  np_node queue, answered; /* under lock: np_fsreq.node */
  int nqueue;              /* under lock: length of queue */
  int threads, idle;       /* under lock */
  int abandoned;           /* under lock: at work for nobody */
  bool orphan;             /* under lock: the loop is gone */
  np_loop *loop;
} np_fspool;

static int describe(np_object *o, char *buf, size_t size) {
  np_fsreq *r = np_container(o, np_fsreq, obj);
  return snprintf(buf, size, "%s", r->path ? r->path : "a file");
}

static const np_objtype request_type = {"file request", describe};

np_fsfile *np_fsfile_ref(np_fsfile *f) {
  __atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
  return f;
}

int np_fsfile_unref(np_fsfile *f) {
  if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0) return 0;
  int r = close(f->fd) < 0 && errno != EINTR ? -errno : 0;
  free(f);
  return r;
}

static void dispose(np_fsreq *r) {
  if (r->file) np_fsfile_unref(r->file);
  free(r->data);
  free(r);
}

static void free_pool(np_fspool *g) {
  pthread_cond_destroy(&g->work);
  pthread_mutex_destroy(&g->lock);
  free(g);
}

/* ---- the threads' side ------------------------------------------------- */

/* Under the lock: waits for a request; NULL: the thread is not needed any more. */
static np_fsreq *next_request(np_fspool *g) {
  while (!np_node_linked(&g->queue)) {
    if (g->orphan || g->threads - g->abandoned > NP_FS_RUNNING) return NULL;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += IDLE_S;
    g->idle++;
    int r = pthread_cond_timedwait(&g->work, &g->lock, &until);
    g->idle--;
    if (r != 0 && !np_node_linked(&g->queue)) return NULL;
  }
  np_fsreq *r = np_container(g->queue.next, np_fsreq, node);
  np_node_remove(&r->node);
  g->nqueue--;
  if (r->abandoned) g->abandoned++;
  return r;
}

/* Under the lock. */
static void answer(np_fspool *g, np_fsreq *r) {
  if (r->abandoned) g->abandoned--;
  if (!r->abandoned && !g->orphan) {
    np_node_append(&g->answered, &r->node);
    np_loop_wake(g->loop);
    return;
  }
  pthread_mutex_unlock(&g->lock);
  dispose(r); /* may close a file, which may take its time */
  pthread_mutex_lock(&g->lock);
}

static void *thread_main(void *arg) {
  np_fspool *g = arg;
  pthread_mutex_lock(&g->lock);
  for (np_fsreq *r; (r = next_request(g));) {
    pthread_mutex_unlock(&g->lock);
    np_fs_run(r);
    pthread_mutex_lock(&g->lock);
    answer(g, r);
  }
  bool last = --g->threads == 0 && g->orphan;
  pthread_mutex_unlock(&g->lock);
  if (last) free_pool(g);
  return NULL;
}

/* Under the lock: somebody for the queue. 0, or why there is nobody at all. */
static int man(np_fspool *g) {
  if (g->idle > 0) pthread_cond_signal(&g->work);
  if (g->nqueue <= g->idle) return 0;
  if (g->threads == NP_FS_THREADS || g->threads - g->abandoned >= NP_FS_RUNNING) return 0;
  g->threads++;
  int r = np_thread_start(thread_main, g);
  if (r == 0) return 0;
  g->threads--;
  return g->threads > g->abandoned ? 0 : r;
}

/* ---- the loop's side --------------------------------------------------- */

static np_fspool *pool_of(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_FS);
  if (*slot) return *slot;
  np_fspool *g = calloc(1, sizeof *g);
  if (!g) return NULL;
  pthread_mutex_init(&g->lock, NULL);
  pthread_cond_init(&g->work, NULL);
  np_node_init(&g->queue);
  np_node_init(&g->answered);
  g->loop = l;
  return *slot = g;
}

void np_fs_shutdown(np_loop *l) {
  void **slot = np_loop_slot(l, NP_SLOT_FS);
  np_fspool *g = *slot;
  if (!g) return;
  *slot = NULL;
  pthread_mutex_lock(&g->lock);
  g->orphan = true;
  bool last = g->threads == 0;
  pthread_cond_broadcast(&g->work);
  pthread_mutex_unlock(&g->lock);
  if (last) free_pool(g);
}

np_fsreq *np_fs_new(np_fsop op, const char *path, const char *to) {
  size_t n = path ? strlen(path) + 1 : 0, m = to ? strlen(to) + 1 : 0;
  np_fsreq *r = calloc(1, sizeof *r + n + m);
  if (!r) return NULL;
  r->op = op;
  r->result = -EINPROGRESS;
  np_node_init(&r->node);
  if (path) r->path = memcpy(r->text, path, n);
  if (to) r->to = memcpy(r->text + n, to, m);
  return r;
}

int np_fs_start(np_loop *l, np_fsreq *r, np_fs_fn *fn, void *owner) {
  np_fspool *g = pool_of(l);
  if (!g) {
    dispose(r);
    return -ENOMEM;
  }
  r->pool = g;
  r->fn = fn;
  r->owner = owner;
  bool wanted = r->wanted = fn != NULL; /* an unwanted one may be gone once the lock is open */
  pthread_mutex_lock(&g->lock);
  r->abandoned = !wanted;
  np_node_append(&g->queue, &r->node);
  g->nqueue++;
  int code = man(g);
  if (code < 0) {
    np_node_remove(&r->node);
    g->nqueue--;
  }
  pthread_mutex_unlock(&g->lock);
  if (code < 0) dispose(r);
  else if (wanted) np_object_init(&r->obj, l, &request_type);
  return code;
}

static void forget(np_fsreq *r) {
  if (r->wanted) np_object_done(&r->obj);
  r->wanted = false;
}

void np_fs_free(np_fsreq *r) {
  np_fspool *g = r->wanted ? r->pool : NULL;
  forget(r);
  bool ours = true;
  if (g) {
    pthread_mutex_lock(&g->lock);
    if (np_node_linked(&r->node)) {
      np_node_remove(&r->node);
      g->nqueue -= r->result == -EINPROGRESS; /* else it was answered */
    } else {
      ours = false;
      r->abandoned = true;
      g->abandoned++;
      (void)man(g);
    }
    pthread_mutex_unlock(&g->lock);
  }
  if (ours) dispose(r);
}

static np_fsreq *next_answer(np_fspool *g) {
  np_fsreq *r = NULL;
  pthread_mutex_lock(&g->lock);
  if (np_node_linked(&g->answered)) {
    r = np_container(g->answered.next, np_fsreq, node);
    np_node_remove(&r->node);
  }
  pthread_mutex_unlock(&g->lock);
  return r;
}

void np_fs_answers(np_loop *l) {
  np_fspool *g = *np_loop_slot(l, NP_SLOT_FS);
  for (np_fsreq *r; g && (r = next_answer(g));) {
    forget(r);
    r->fn(r->owner);
    np_loop_event_done(l);
  }
}

np_fsfile *np_fs_take_file(np_fsreq *r) {
  np_fsfile *f = r->file;
  r->file = NULL;
  return f;
}

void np_fsfile_drop(np_loop *l, np_fsfile *f) {
  if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
  f->refs = 1;
  np_fsreq *r = np_fs_new(NP_FS_CLOSE, NULL, NULL);
  if (!r) {
    np_fsfile_unref(f);
    return;
  }
  r->file = f;
  (void)np_fs_start(l, r, NULL, NULL);
}
