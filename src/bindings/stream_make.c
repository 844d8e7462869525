/* Streams for Lua, how they are made: the object first, closed, then what it is opened over, so
 * that nothing owned is lost for lack of memory. */
#include <string.h>
#include <unistd.h>

#include "bindings/origin.h"
#include "bindings/stream_impl.h"

static stream *init_closed(stream *u) {
  np_node_init(&u->turns);
  np_node_init(&u->flushers);
  u->timeout_ns = u->write_timeout_ns = NP_NEVER;
  u->line_max = NP_LINE_MAX;
  u->read_max = NP_READ_MAX;
  return u;
}

static stream *new_closed(lua_State *L, int origin) {
  stream *u = init_closed(np_new_object(L, &np_stream_type, sizeof *u, 1));
  if (origin) lua_pushvalue(L, origin);
  else np_origin_push(L);
  lua_setiuservalue(L, -2, NP_STREAM_ORIGIN);
  return u;
}

void np_push_closed_stream(lua_State *L, int origin) { new_closed(L, origin); }

/* What its metatable is registered as: that of streams, without __gc. */
static const np_type served_type = {.name = "neap.stream"};

static void make_served_metatable(lua_State *L) {
  np_type_init(L, &np_stream_type);
  lua_newtable(L);
  np_push_metatable(L, &np_stream_type);
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, -6);
  }
  lua_pop(L, 1);
  lua_pushnil(L);
  lua_setfield(L, -2, "__gc");
  np_set_metatable(L, &served_type);
}

void np_push_served_stream(lua_State *L) {
  if (np_unlikely(np_push_metatable(L, &served_type) == LUA_TNIL)) {
    lua_pop(L, 1);
    make_served_metatable(L);
  }
  lua_pop(L, 1);
  stream *u = init_closed(np_new_object(L, &served_type, sizeof *u, 1));
  u->type = &np_stream_type;
}

static int p_new(lua_State *L) {
  new_closed(L, 0);
  return 1;
}

/* Pushes a closed stream; NULL and the error pushed instead: no memory. So that nothing that is
 * owned is lost. */
static stream *try_new(lua_State *L) {
  if (!lua_checkstack(L, 8)) {
    lua_pushliteral(L, "stack overflow");
    return NULL;
  }
  lua_pushcfunction(L, p_new);
  return lua_pcall(L, 0, 1, 0) == LUA_OK ? lua_touserdata(L, -1) : NULL;
}

static int open_over(lua_State *L, stream *u, np_transport *t) {
  int r = np_stream_new(np_loop_of(L), t, &u->s);
  if (r == 0) np_stream_own(u->s, np_stream_on_event, u);
  return r;
}

/* What was made for it is dropped. */
static int pushed(lua_State *L, int r) {
  if (r < 0) lua_pop(L, 1);
  return r;
}

/* 0, 1 and 2 are never ours to close. */
static void close_fd(int fd) {
  if (fd > 2) close(fd);
}

int np_push_transport_stream(lua_State *L, np_transport *t) {
  stream *u = try_new(L);
  if (u) return pushed(L, open_over(L, u, t));
  t->ops->close(t, true);
  return lua_error(L);
}

int np_open_socket_stream(lua_State *L, int idx, int fd, const np_fdkind *kind,
                          const np_sockaddr *peer) {
  stream *u = lua_touserdata(L, idx);
  np_transport *t;
  if (peer && peer->ss.ss_family != AF_UNIX && peer->len <= sizeof u->peer) {
    memcpy(&u->peer, &peer->ss, peer->len);
    u->peer_len = (uint8_t)peer->len;
  }
  int r = np_transport_fd(np_loop_of(L), fd, kind, &t);
  return r < 0 ? r : open_over(L, u, t);
}

int np_push_socket_stream(lua_State *L, int fd, const np_fdkind *kind, const np_sockaddr *peer) {
  if (try_new(L)) return pushed(L, np_open_socket_stream(L, -1, fd, kind, peer));
  close_fd(fd);
  return lua_error(L);
}

int np_push_fd_stream(lua_State *L, int fd) {
  np_fdkind kind;
  int r = np_fdkind_of(fd, &kind);
  if (r == 0) return np_push_socket_stream(L, fd, &kind, NULL);
  close_fd(fd);
  return r;
}

np_stream *np_test_stream(lua_State *L, int idx) {
  stream *u = np_test_object(L, idx, &np_stream_type);
  return u ? u->s : NULL;
}

np_stream *np_check_stream(lua_State *L, int idx) {
  stream *u = np_check_object(L, idx, &np_stream_type);
  luaL_argcheck(L, u->s, idx, "the stream is closed");
  return u->s;
}
