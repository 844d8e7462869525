/* Listeners, mem: names: a list per loop, and connections made within this process.
 *
 * A connection is two ends of memory; the server's waits in the listener's queue, the only backlog
 * there is. */
#include <stdlib.h>
#include <string.h>

#include "core/listener_impl.h"

typedef struct memconn {
  np_node node;
  np_transport *t;
} memconn;

static np_listener *find(np_loop *l, const char *name, size_t len) {
  np_listener *s = *np_loop_slot(l, NP_SLOT_MEM);
  while (s && (strlen(s->name) != len || memcmp(s->name, name, len) != 0)) s = s->next_mem;
  return s;
}

int np_listener_add_mem(np_listener *s, const char *name, size_t len, int backlog) {
  np_loop *l = s->obj.loop;
  np_assert(s->n == 0 && !s->name);
  if (find(l, name, len)) return -EADDRINUSE;
  s->name = strndup(name, len);
  if (!s->name) return -ENOMEM;
  s->backlog = backlog;
  void **slot = np_loop_slot(l, NP_SLOT_MEM);
  s->next_mem = *slot;
  *slot = s;
  np_trace(l, "listen", &s->obj, 0);
  return 0;
}

void np_listener_forget_name(np_listener *s) {
  void **slot = np_loop_slot(s->obj.loop, NP_SLOT_MEM);
  np_listener **at = (np_listener **)slot;
  while (*at != s) at = &(*at)->next_mem;
  *at = s->next_mem;
  free(s->name);
}

np_transport *np_listener_pop(np_listener *s) {
  memconn *c = np_container(s->queue.next, memconn, node);
  np_transport *t = c->t;
  np_node_remove(&c->node);
  free(c);
  s->queued--;
  return t;
}

int np_mem_connect(np_loop *l, const char *name, size_t len, np_transport **client) {
  np_listener *s = find(l, name, len);
  if (!s) return -ECONNREFUSED;
  if (s->queued >= s->backlog) return -EAGAIN;
  memconn *c = malloc(sizeof *c);
  if (!c) return -ENOMEM;
  np_transport *ends[2];
  int r = np_transport_mem(l, NP_MEM_CAPACITY, ends);
  if (r < 0) {
    free(c);
    return r;
  }
  c->t = ends[1];
  np_node_init(&c->node);
  np_node_append(&s->queue, &c->node);
  s->queued++;
  np_soon_add(l, &s->deliver);
  *client = ends[0];
  return 0;
}
