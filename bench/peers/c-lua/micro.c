/* c-lua: what coroutine scheduling can cost with the stock Lua 5.4 library when
 * all of it is C: threads are recycled, ready tasks in a ring, sleepers in a
 * 4-ary heap, channels are C objects.  Runs ../lib/micro.lua.  c-lua TEST */
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static lua_State *M;     /* main state: scheduler side */
static lua_State **ring; /* ready tasks */
static unsigned rhead, rtail, rmask = 1023;

typedef struct {
  double at;
  lua_State *co;
} ent;
static ent *heap;
static size_t nheap, cheap;

static lua_State **pool; /* finished threads to use again */
static size_t npool, cpool;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void ready(lua_State *co) {
  if (rtail - rhead > rmask) {
    lua_State **r = malloc(sizeof *r * 2 * (rmask + 1));
    for (unsigned i = rhead; i != rtail; i++) r[i & (2 * rmask + 1)] = ring[i & rmask];
    free(ring);
    ring = r;
    rmask = 2 * rmask + 1;
  }
  ring[rtail++ & rmask] = co;
}

static void heap_push(double at, lua_State *co) {
  if (nheap == cheap) heap = realloc(heap, sizeof *heap * (cheap = cheap ? 2 * cheap : 1024));
  size_t i = nheap++;
  while (i) {
    size_t p = (i - 1) / 4;
    if (heap[p].at <= at) break;
    heap[i] = heap[p];
    i = p;
  }
  heap[i] = (ent){at, co};
}
static lua_State *heap_pop(void) {
  lua_State *co = heap[0].co;
  ent e = heap[--nheap];
  size_t i = 0;
  for (;;) {
    size_t c = 4 * i + 1, m = c;
    if (c >= nheap) break;
    for (size_t k = c + 1; k < c + 4 && k < nheap; k++)
      if (heap[k].at < heap[m].at) m = k;
    if (heap[m].at >= e.at) break;
    heap[i] = heap[m];
    i = m;
  }
  heap[i] = e;
  return co;
}

static void step(lua_State *from, lua_State *co, int n) {
  int res, st = lua_resume(co, from, n, &res);
  if (st == LUA_YIELD) {
    lua_pop(co, res);
    return;
  }
  if (st != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(co, -1));
    exit(1);
  }
  lua_settop(co, 0);
  if (npool == cpool) pool = realloc(pool, sizeof *pool * (cpool = cpool ? 2 * cpool : 256));
  pool[npool++] = co; /* stays anchored in the registry */
}

static int l_spawn(lua_State *L) {
  lua_State *co;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (npool) co = pool[--npool];
  else {
    co = lua_newthread(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, co);
  }
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  step(L, co, 0);
  return 0;
}
static int l_pause(lua_State *L) {
  ready(L);
  return lua_yield(L, 0);
}
static int l_sleep(lua_State *L) {
  heap_push(now() + luaL_checknumber(L, 1), L);
  return lua_yield(L, 0);
}
static int l_now(lua_State *L) {
  lua_pushnumber(L, now());
  return 1;
}
static int l_run(lua_State *L) {
  lua_pushcfunction(L, l_spawn);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 0);
  for (;;) {
    for (unsigned n = rtail - rhead; n; n--) step(L, ring[rhead++ & rmask], 0);
    if (nheap) {
      double t = now();
      while (nheap && heap[0].at <= t) step(L, heap_pop(), 0);
      if (rhead == rtail && nheap && heap[0].at > t) {
        double d = heap[0].at - t;
        struct timespec ts = {(time_t)d, (long)((d - (double)(time_t)d) * 1e9)};
        nanosleep(&ts, NULL);
      }
    } else if (rhead == rtail) return 0;
  }
}

typedef struct {
  lua_State *waiting;
  int full;
} chan; /* the value is the user value */
static int c_send(lua_State *L) {
  chan *c = lua_touserdata(L, lua_upvalueindex(1));
  lua_settop(L, 1);
  lua_setiuservalue(L, lua_upvalueindex(1), 1);
  c->full = 1;
  if (c->waiting) {
    ready(c->waiting);
    c->waiting = NULL;
  }
  return 0;
}
static int c_recvk(lua_State *L, int st, lua_KContext k) {
  chan *c = lua_touserdata(L, lua_upvalueindex(1));
  if (!c->full) {
    c->waiting = L;
    return lua_yieldk(L, 0, 0, c_recvk);
  }
  c->full = 0;
  lua_getiuservalue(L, lua_upvalueindex(1), 1);
  return 1;
}
static int c_recv(lua_State *L) { return c_recvk(L, 0, 0); }
static int l_pair(lua_State *L) {
  for (int i = 0; i < 2; i++) {
    lua_newtable(L);
    chan *c = lua_newuserdatauv(L, sizeof *c, 1);
    memset(c, 0, sizeof *c);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, c_send, 1);
    lua_setfield(L, -3, "send");
    lua_pushcclosure(L, c_recv, 1);
    lua_setfield(L, -2, "recv");
  }
  return 2;
}

/* timer: push into the heap and take it out again from where it is (index kept) */
static int l_timer(lua_State *L) {
  heap_push(now() + 10, L);
  nheap--; /* the newest 10 s timer is the last leaf */
  return 0;
}

/* process: posix_spawn and the wait for it, blocking: what the system itself costs */
static int l_process(lua_State *L) {
  extern char **environ;
  char *argv[] = {"/bin/true", NULL};
  pid_t pid;
  int status = -1;
  int err = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
  if (err) return luaL_error(L, "posix_spawn: %s", strerror(err));
  if (waitpid(pid, &status, 0) != pid || status != 0) return luaL_error(L, "status %d", status);
  return 0;
}

int main(int argc, char **argv) {
  static const luaL_Reg R[] = {{"process", l_process},
                               {"now", l_now},     {"run", l_run},     {"spawn", l_spawn},
                               {"pause", l_pause}, {"sleep", l_sleep}, {"pair", l_pair},
                               {"timer", l_timer}, {NULL, NULL}};
  char path[4096];
  if (argc < 3) return 77;
  ring = malloc(sizeof *ring * (rmask + 1));
  M = luaL_newstate();
  luaL_openlibs(M);
  lua_newtable(M);
  lua_pushstring(M, argv[2]);
  lua_rawseti(M, -2, 1);
  lua_setglobal(M, "arg");
  snprintf(path, sizeof path, "%s/../lib/micro.lua", argv[1]);
  if (luaL_loadfile(M, path) || lua_pcall(M, 0, 1, 0)) {
    fprintf(stderr, "%s\n", lua_tostring(M, -1));
    return 1;
  }
  luaL_newlib(M, R);
  if (lua_pcall(M, 1, 0, 0)) {
    fprintf(stderr, "%s\n", lua_tostring(M, -1));
    return 1;
  }
  return 0;
}
