/* c-lua: a bound for coroutine servers on stock Lua 5.4: epoll loop, sockets,
 * buffers and protocol parsing in C, one Lua coroutine per connection running the
 * loops of server.lua.  One read per wake-up, replies collected and written
 * when the coroutine waits for input.  c-lua-server MODE ADDR DIR
 *
 *   s:read()          whatever came        s:line()            next line without \n
 *   s:write(...)      collected            s:request()         method, target; headers parsed
 *   s:header(name)    of that request      s:respond(code, type, body)                       */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

enum { RAW = 1, LINE, REQ, DRAIN };
typedef struct {
  uint16_t n, nl, v, vl;
} hdr;
typedef struct conn {
  int fd, wait, nh;
  lua_State *co;
  char *in, *out; /* what did not make a whole message; unsent replies */
  size_t pos, nin, nout, cap;
  char *head; /* start of the current request, valid until the next wait */
  hdr *h;
} conn;

#define BUF 65536
static char rb[2 * BUF];
static char *cur; /* unread bytes of the connection that runs now */
static size_t ncur;
static hdr hb[64];
static int ep, lfd, tcp;
static lua_State *M;

static conn *self(lua_State *L) { return lua_touserdata(L, 1); }

static int flush_out(conn *c) { /* 1: all out */
  while (c->nout) {
    ssize_t k = send(c->fd, c->out, c->nout, MSG_NOSIGNAL);
    if (k < 0) return errno == EAGAIN ? 0 : 1;
    c->nout -= (size_t)k;
    if (c->nout) memmove(c->out, c->out + k, c->nout);
  }
  return 1;
}
static int wait_for(lua_State *L, conn *c, int what) {
  if (c->nout && !flush_out(c)) {
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
  }
  c->wait = what;
  return lua_yield(L, 0);
}
static void put(conn *c, const char *p, size_t n) {
  if (c->nout + n > c->cap) c->out = realloc(c->out, c->cap = (c->nout + n) * 2);
  memcpy(c->out + c->nout, p, n);
  c->nout += n;
}

/* take one message of the awaited kind from cur and push it: number of results, 0 if incomplete */
static int take(lua_State *L, conn *c, int what) {
  if (!ncur) return 0;
  if (what == RAW) {
    lua_pushlstring(L, cur, ncur);
    cur += ncur;
    ncur = 0;
    return 1;
  }
  if (what == LINE) {
    char *e = memchr(cur, '\n', ncur);
    if (!e) return 0;
    lua_pushlstring(L, cur, (size_t)(e - cur));
    ncur -= (size_t)(e + 1 - cur);
    cur = e + 1;
    return 1;
  }
  char *end = memmem(cur, ncur, "\r\n\r\n", 4), *p = cur, *q;
  if (!end) return 0;
  c->head = cur;
  c->h = hb;
  c->nh = 0;
  if (!(q = memchr(p, ' ', (size_t)(end - p)))) return 0;
  lua_pushlstring(L, p, (size_t)(q - p));
  p = q + 1;
  if (!(q = memchr(p, ' ', (size_t)(end - p)))) q = end;
  lua_pushlstring(L, p, (size_t)(q - p));
  p = memchr(q, '\r', (size_t)(end + 1 - q));
  while (p < end && c->nh < 64) { /* name: value, offsets only */
    p += 2;
    char *eol = memchr(p, '\r', (size_t)(end + 1 - p)), *col = memchr(p, ':', (size_t)(eol - p));
    if (col) {
      q = col + 1;
      while (*q == ' ' || *q == '\t') q++;
      hb[c->nh++] =
        (hdr){(uint16_t)(p - cur), (uint16_t)(col - p), (uint16_t)(q - cur), (uint16_t)(eol - q)};
    }
    p = eol;
  }
  ncur -= (size_t)(end + 4 - cur);
  cur = end + 4;
  return 2;
}
static int l_get(lua_State *L, int what) {
  conn *c = self(L);
  int n = take(L, c, what);
  return n ? n : wait_for(L, c, what);
}
static int l_read(lua_State *L) { return l_get(L, RAW); }
static int l_line(lua_State *L) { return l_get(L, LINE); }
static int l_request(lua_State *L) { return l_get(L, REQ); }
static int l_header(lua_State *L) {
  conn *c = self(L);
  size_t n;
  const char *k = lua_tolstring(L, 2, &n);
  for (int i = 0; i < c->nh; i++)
    if (c->h[i].nl == n && !strncasecmp(c->head + c->h[i].n, k, n)) {
      lua_pushlstring(L, c->head + c->h[i].v, c->h[i].vl);
      return 1;
    }
  return 0;
}
static int l_write(lua_State *L) {
  conn *c = self(L);
  for (int i = 2, top = lua_gettop(L); i <= top; i++) {
    size_t n;
    const char *p = luaL_checklstring(L, i, &n);
    if (!c->nout && i == top && !ncur) { /* the only one: no copy */
      ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
      if (k == (ssize_t)n) return 0;
      if (k > 0) {
        p += k;
        n -= (size_t)k;
      }
    }
    put(c, p, n);
  }
  return 0;
}
static int l_respond(lua_State *L) {
  conn *c = self(L);
  size_t tn, bn;
  const char *t = luaL_checklstring(L, 3, &tn), *b = luaL_checklstring(L, 4, &bn);
  char h[256];
  int n = snprintf(h, sizeof h, "HTTP/1.1 %d OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                   (int)luaL_checkinteger(L, 2), t, bn);
  put(c, h, (size_t)n);
  put(c, b, bn);
  return 0;
}

static void finish(conn *c) {
  close(c->fd);
  free(c->in);
  free(c->out);
  lua_pushnil(M);
  lua_rawsetp(M, LUA_REGISTRYINDEX, c);
}
static void resume(conn *c, int n) {
  int res, st = lua_resume(c->co, M, n, &res);
  if (st != LUA_YIELD) {
    if (st != LUA_OK) fprintf(stderr, "%s\n", lua_tostring(c->co, -1));
    finish(c);
    return;
  }
  if (ncur) { /* an incomplete message: keep it with the connection */
    c->in = realloc(c->in, ncur);
    memcpy(c->in, cur, ncur);
  }
  c->nin = ncur;
}
static void event(conn *c, uint32_t ev) {
  if (ev & EPOLLOUT) {
    if (!flush_out(c)) return;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    return;
  }
  if (c->nin) memcpy(rb, c->in, c->nin);
  ssize_t n = recv(c->fd, rb + c->nin, BUF, 0);
  if (n < 0 && errno == EAGAIN) return;
  cur = rb;
  ncur = 0;
  if (n <= 0) {
    c->nin = 0;
    resume(c, 0);
    return;
  }
  ncur = c->nin + (size_t)n;
  n = take(c->co, c, c->wait);
  if (n) resume(c, (int)n);
  else {
    c->in = realloc(c->in, ncur);
    memcpy(c->in, rb, ncur);
    c->nin = ncur;
  }
}

int main(int argc, char **argv) {
  static const luaL_Reg methods[] = {
    {"read", l_read},     {"line", l_line},       {"write", l_write}, {"request", l_request},
    {"header", l_header}, {"respond", l_respond}, {NULL, NULL}};
  struct rlimit rl;
  char path[4096];
  int one = 1;
  if (argc < 4) return 77;
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  signal(SIGPIPE, SIG_IGN);
  M = luaL_newstate();
  luaL_openlibs(M);
  luaL_newmetatable(M, "conn");
  luaL_newlib(M, methods);
  lua_setfield(M, -2, "__index");
  snprintf(path, sizeof path, "%s/server.lua", argv[3]);
  if (luaL_loadfile(M, path) || lua_pcall(M, 0, 1, 0)) {
    fprintf(stderr, "%s\n", lua_tostring(M, -1));
    return 1;
  }
  if (lua_getfield(M, -1, argv[1]) != LUA_TFUNCTION) return 77;
  int handler = lua_gettop(M);
  if (!strncmp(argv[2], "unix:", 5)) {
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    strncpy(u.sun_path, argv[2] + 5, sizeof u.sun_path - 1);
    unlink(u.sun_path);
    lfd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(lfd, (void *)&u, sizeof u)) return 1;
  } else {
    char h[64] = "", *c = strrchr(argv[2], ':');
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(c + 1))};
    memcpy(h, argv[2], (size_t)(c - argv[2]));
    inet_pton(AF_INET, h, &a.sin_addr);
    lfd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    tcp = 1;
    setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(lfd, (void *)&a, sizeof a)) return 1;
  }
  listen(lfd, 4096);
  ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event ev[256], l = {.events = EPOLLIN};
  epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &l);
  for (;;) {
    int n = epoll_wait(ep, ev, 256, -1);
    for (int i = 0; i < n; i++) {
      if (ev[i].data.ptr) {
        event(ev[i].data.ptr, ev[i].events);
        continue;
      }
      for (int fd; (fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn *c = lua_newuserdatauv(M, sizeof *c, 1);
        memset(c, 0, sizeof *c);
        c->fd = fd;
        luaL_setmetatable(M, "conn");
        c->co = lua_newthread(M);
        lua_setiuservalue(M, -2, 1); /* the connection keeps its coroutine */
        lua_pushvalue(M, handler);
        lua_pushvalue(M, -2);
        lua_xmove(M, c->co, 2);
        lua_rawsetp(M, LUA_REGISTRYINDEX, c);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        cur = rb;
        ncur = 0;
        resume(c, 1);
      }
    }
  }
}
