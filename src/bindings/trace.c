/* --trace: one line on standard error for each thing listened to, accepted, connected, timed out,
 * closed, with the line of the script that did it.
 *
 * An event inside a call of a task has that task's line; one that comes from outside has the line
 * that made its object, noted when the object appears. The hook runs inside the core's calls: it
 * neither raises nor touches the collector. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/modules.h"
#include "bindings/task_impl.h"
#include "core/address.h"
#include "core/error.h"
#include "core/socket.h"
#include "core/stream.h"

enum { WHERE_MAX = LUA_IDSIZE + 16 };

typedef struct place {
  const np_object *object; /* NULL: a free slot */
  char where[WHERE_MAX];
} place;

/* A userdata that the registry anchors. The table is open-addressed; its size is a power of two. */
typedef struct tracer {
  np_runtime *rt;
  uint64_t began_ns;
  place *places;
  size_t cap, used;
} tracer;

static const char key_tracer = 't';

/* ---- places ---- */

static size_t slot_of(const place *places, size_t cap, const np_object *o) {
  size_t i = ((uintptr_t)o >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20 & (cap - 1);
  while (places[i].object && places[i].object != o) i = (i + 1) & (cap - 1);
  return i;
}

/* Without memory the place is not noted, and the line is missing from the log. */
static bool grow(tracer *t) {
  size_t cap = t->cap ? t->cap * 2 : 256;
  place *places = calloc(cap, sizeof *places);
  if (!places) return false;
  for (size_t i = 0; i < t->cap; i++)
    if (t->places[i].object) places[slot_of(places, cap, t->places[i].object)] = t->places[i];
  free(t->places);
  t->places = places;
  t->cap = cap;
  return true;
}

static void note(tracer *t, const np_object *o, const char *where) {
  if (t->used * 2 >= t->cap && !grow(t)) return;
  place *p = &t->places[slot_of(t->places, t->cap, o)];
  /* a freed object's slot is used again by the next one at its address */
  if (!p->object) t->used++;
  p->object = o;
  memcpy(p->where, where, WHERE_MAX);
}

static const char *noted(const tracer *t, const np_object *o) {
  if (!t->cap || !o) return "";
  const place *p = &t->places[slot_of(t->places, t->cap, o)];
  return p->object ? p->where : "";
}

/* "script.lua:12" of the running task's innermost line outside the standard library; "" when none
 * runs. */
static void current_place(const tracer *t, char where[WHERE_MAX]) {
  lua_Debug ar;
  where[0] = '\0';
  if (!t->rt->current) return;
  lua_State *L = np_task_top(t->rt->current);
  for (int level = 0; L && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0 || strstr(ar.source, "lua/stdlib/")) continue;
    snprintf(where, WHERE_MAX, "%s:%d", ar.short_src, ar.currentline);
    return;
  }
}

/* ---- the log ---- */

static size_t describe_ends(const np_stream *s, char *buf, size_t size) {
  char local[NP_ADDR_MAX] = "", peer[NP_ADDR_MAX] = "";
  np_sockaddr a;
  int fd = np_stream_fd(s), scheme = fd >= 0 ? np_socket_scheme(fd) : -1;
  if (scheme < 0) return 0;
  if (np_socket_local(fd, &a) == 0)
    np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, local, sizeof local);
  if (np_socket_peer(fd, &a) == 0)
    np_addr_print(scheme, (struct sockaddr *)&a.ss, a.len, peer, sizeof peer);
  return (size_t)snprintf(buf, size, "%s<->%s", local, peer);
}

static void describe_stream(const np_stream *s, char *buf, size_t size) {
  size_t n = np_min((size_t)snprintf(buf, size, "stream "), size);
  n += describe_ends(s, buf + n, size - n);
  if (n >= size) return;
  snprintf(buf + n, size - n, " (%llu bytes read, %llu written)",
           (unsigned long long)np_stream_total_in(s), (unsigned long long)np_stream_total_out(s));
}

static void describe(np_object *o, char *buf, size_t size) {
  if (np_stream_of(o)) {
    describe_stream(np_stream_of(o), buf, size);
    return;
  }
  int n = snprintf(buf, size, "%s ", o->type->name);
  if (o->type->describe) o->type->describe(o, buf + n, size - (size_t)n);
}

static void on_event(void *ctx, const char *event, np_object *o, int code) {
  tracer *t = ctx;
  char where[WHERE_MAX], what[512] = "";
  current_place(t, where);
  if (strcmp(event, "new") == 0 || strcmp(event, "closing") == 0) {
    note(t, o, where);
    return;
  }
  if (o) describe(o, what, sizeof what);
  double s = (double)(np_loop_now(t->rt->loop) - t->began_ns) / 1e9;
  const char *at = where[0] ? where : noted(t, o);
  fprintf(stderr, "neap: %.6f %s%s%s%s%s%s%s\n", s, event, *what ? " " : "", what,
          code < 0 ? ": " : "", code < 0 ? np_error_text(code) : "", *at ? " at " : "", at);
}

/* ---- Lua ---- */

static int f_gc(lua_State *L) {
  tracer *t = lua_touserdata(L, 1);
  if (np_runtime_find(L) == t->rt)
    np_loop_on_trace(t->rt->loop, NULL, NULL); /* it may have ended */
  free(t->places);
  t->places = NULL;
  t->cap = 0;
  return 0;
}

/* start(): logs from now on; once is enough. */
static int f_start(lua_State *L) {
  np_runtime *rt = np_runtime_of(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_tracer) != LUA_TNIL) return 0;
  tracer *t = lua_newuserdatauv(L, sizeof *t, 0);
  *t = (tracer){.rt = rt, .began_ns = np_loop_now(rt->loop)};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, f_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &key_tracer);
  np_loop_on_trace(rt->loop, on_event, t);
  return 0;
}

int luaopen_neap_trace_core(lua_State *L) {
  static const luaL_Reg funcs[] = {
    {"start", f_start},
    {NULL, NULL},
  };
  luaL_newlib(L, funcs);
  return 1;
}
