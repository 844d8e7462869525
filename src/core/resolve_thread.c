/* The threads that look names up: one per job, detached, so that nothing ever waits for one.
 *
 * A thread touches its job and what is under the lock, nothing else of the loop. */
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "core/resolve_impl.h"
#include "core/thread.h"

/* libc's EAI_* -> libuv's, which the error table knows. */
static int eai_code(int eai) {
  static const struct {
    int eai, code;
  } map[] = {
    {EAI_ADDRFAMILY, UV_EAI_ADDRFAMILY}, {EAI_AGAIN, UV_EAI_AGAIN},
    {EAI_BADFLAGS, UV_EAI_BADFLAGS},     {EAI_FAIL, UV_EAI_FAIL},
    {EAI_FAMILY, UV_EAI_FAMILY},         {EAI_MEMORY, UV_EAI_MEMORY},
    {EAI_NODATA, UV_EAI_NODATA},         {EAI_NONAME, UV_EAI_NONAME},
    {EAI_OVERFLOW, UV_EAI_OVERFLOW},     {EAI_SERVICE, UV_EAI_SERVICE},
    {EAI_SOCKTYPE, UV_EAI_SOCKTYPE},
  };
  for (size_t i = 0; i < np_countof(map); i++)
    if (map[i].eai == eai) return map[i].code;
  return UV_EAI_FAIL;
}

void np_job_free(np_job *j) {
  if (j->list) freeaddrinfo(j->list);
  free(j);
}

void np_resolver_free(np_resolver *res) {
  pthread_mutex_destroy(&res->lock);
  free(res);
}

/* Under the lock. */
static void announce(np_resolver *res, np_job *j) {
  uint64_t one = 1;
  if (j->abandoned) np_job_free(j);
  else np_node_append(&res->answered, &j->answered);
  if (res->efd >= 0 && write(res->efd, &one, sizeof one) < 0)
    np_assert(errno == EAGAIN); /* full: it rings */
}

static void *thread_main(void *arg) {
  np_job *j = arg;
  np_resolver *res = j->res;
  struct addrinfo hints = {.ai_family = j->family, .ai_socktype = SOCK_STREAM};
  int eai = getaddrinfo(j->host, NULL, &hints, &j->list);
  j->code = eai == EAI_SYSTEM ? -errno : eai ? eai_code(eai) : 0;

  pthread_mutex_lock(&res->lock);
  res->threads--;
  announce(res, j);
  bool last = res->orphan && res->threads == 0;
  pthread_mutex_unlock(&res->lock);
  if (last) np_resolver_free(res);
  return NULL;
}

void np_job_start(np_resolver *res, np_job *j) {
  np_node_remove(&j->node);
  np_node_append(&res->running, &j->node);
  res->nrunning++;
  j->started = true;
  pthread_mutex_lock(&res->lock);
  res->threads++;
  pthread_mutex_unlock(&res->lock);
  int r = np_thread_start(thread_main, j);
  if (r == 0) return;
  pthread_mutex_lock(&res->lock);
  res->threads--;
  j->code = r;
  announce(res, j);
  pthread_mutex_unlock(&res->lock);
}
