/* Datagram and record sockets for scripts: the object.  Opening, receiving and sending have files
 * of their own (dgram_open.c, dgram_recv.c, dgram_send.c).
 *
 * Several tasks may receive from and send on one socket; each message goes to one of them, in the
 * order in which they came. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/credentials.h"
#include "bindings/dgram_impl.h"
#include "bindings/modules.h"
#include "bindings/option.h"
#include "bindings/origin.h"
#include "bindings/select.h"

static const np_type dgram_type;

dgram *np_dgram_check(lua_State *L) { return np_check_object(L, 1, &dgram_type); }

/* ---- the object ---- */

static void poke_first(np_node *queue) {
  if (np_node_linked(queue)) np_waiter_poke(np_waiter_first(queue));
}

/* The first reader is woken and passes it on while there is more; writers all try again: they may
 * have different receivers. */
static void on_event(void *owner, int what) {
  dgram *d = owner;
  if (what & NP_DGRAM_READ) poke_first(&d->readers);
  if (what & NP_DGRAM_WRITE)
    while (np_node_linked(&d->writers)) poke_first(&d->writers);
  if (what & NP_DGRAM_ERROR) poke_first(&d->watchers);
}

void np_dgram_poke_watcher(dgram *d) {
  if (d->core && np_dgram_errors(d->core) > 0) poke_first(&d->watchers);
}

dgram *np_dgram_make(lua_State *L) {
  dgram *d = np_new_object(L, &dgram_type, sizeof *d, UVS);
  np_node_init(&d->readers);
  np_node_init(&d->writers);
  np_node_init(&d->watchers);
  d->timeout = -1;
  np_origin_set(L, -1, UV_ORIGIN);
  return d;
}

void np_dgram_push_sockaddr(lua_State *L, np_scheme scheme, const np_sockaddr *a) {
  char buf[NP_ADDR_MAX];
  np_addr_print(scheme, (const struct sockaddr *)&a->ss, a->len, buf, sizeof buf);
  lua_pushstring(L, buf);
}

/* Prints the addresses of the socket into the user values of the object at the top of the stack. */
static void remember_addresses(lua_State *L, dgram *d) {
  np_sockaddr a;
  int idx = lua_gettop(L), fd = np_dgram_fd(d->core);
  if (np_socket_local(fd, &a) == 0) {
    np_dgram_push_sockaddr(L, d->scheme, &a);
    lua_setiuservalue(L, idx, UV_ADDRESS);
  }
  d->connected = np_socket_peer(fd, &a) == 0;
  if (!d->connected) return;
  np_dgram_push_sockaddr(L, d->scheme, &a);
  lua_setiuservalue(L, idx, UV_PEER);
}

/* Assumes ownership of fd, also on failure; the closed object is at the top of the stack. */
int np_dgram_start(lua_State *L, dgram *d, int fd) {
  int r = np_dgram_new(np_loop_of(L), fd, &d->core);
  if (r < 0) return r;
  np_dgram_own(d->core, on_event, d);
  d->scheme = np_dgram_scheme(d->core);
  remember_addresses(L, d);
  return 0;
}

static int p_new(lua_State *L) {
  np_dgram_make(L);
  return 1;
}

int np_push_fd_dgram(lua_State *L, int fd) {
  int r = np_dgram_start(L, np_push_for_fd(L, fd, p_new), fd);
  if (r < 0) lua_pop(L, 1);
  return r;
}

static void wake_all(dgram *d) {
  while (np_node_linked(&d->readers)) np_waiter_fail(np_waiter_first(&d->readers), NP_ECLOSED);
  while (np_node_linked(&d->writers)) np_waiter_fail(np_waiter_first(&d->writers), NP_ECLOSED);
  while (np_node_linked(&d->watchers)) np_waiter_fail(np_waiter_first(&d->watchers), NP_ECLOSED);
}

int np_dgram_end(dgram *d) {
  np_dgram *core = d->core;
  d->core = NULL;
  free(d->names);
  d->names = NULL;
  wake_all(d);
  return core ? np_dgram_take(core) : -1;
}

int np_dgram_describe(void *obj, char *buf, size_t size) {
  dgram *d = obj;
  np_object *o = d->core ? np_dgram_object(d->core) : NULL;
  return o ? o->type->describe(o, buf, size) : 0;
}

/* For messages: where this socket is, else whom it talks to. */
const char *np_dgram_push_name(lua_State *L, dgram *d) {
  int which = d->connected ? UV_PEER : UV_ADDRESS;
  if (lua_getiuservalue(L, 1, which) != LUA_TSTRING) {
    lua_pop(L, 1);
    lua_pushfstring(L, "%s:", np_scheme_name(d->scheme));
  }
  return lua_tostring(L, -1);
}

/* ---- small methods ---- */

/* socket:close() -> true. Wakes its waiters with nil, "closed", "ECANCELED". */
static int f_close(lua_State *L) {
  int fd = np_dgram_end(np_dgram_check(L));
  if (fd >= 0) close(fd);
  lua_pushboolean(L, 1);
  return 1;
}

/* socket:take() -> its descriptor number, the caller's from here on; the object is closed. */
static int f_take(lua_State *L) {
  dgram *d = np_dgram_check(L);
  if (!d->core) return np_fail(L, NP_ECLOSED, "take %s", np_dgram_push_name(L, d));
  lua_pushinteger(L, np_dgram_end(d));
  return 1;
}

/* socket:option(name [, value]) -> value, or true when set; or nil, message, code. */
static int f_option(lua_State *L) {
  dgram *d = np_dgram_check(L);
  char name[NP_ADDR_MAX];
  snprintf(name, sizeof name, "%s", np_dgram_push_name(L, d));
  lua_pop(L, 1);
  int n = np_option_call(L, d->core ? np_dgram_fd(d->core) : -1, 2, name);
  if (d->core) np_dgram_look(d->core);
  return n;
}

/* socket:credentials([{pidfd = true}]) -> who made the other end of a record socket; or nil,
 * message, code. */
static int f_credentials(lua_State *L) {
  dgram *d = np_dgram_check(L);
  bool pidfd = np_credentials_opts(L, 2);
  int r = d->core ? np_push_credentials(L, np_dgram_fd(d->core), pidfd) : NP_ECLOSED;
  return r < 0 ? np_fail(L, r, "credentials of %s", np_dgram_push_name(L, d)) : 1;
}

static int f_gc(lua_State *L) {
  dgram *d = np_dgram_check(L);
  if (!d->core) return 0;
  char what[NP_ADDR_MAX + 16] = "socket ";
  np_dgram_describe(d, what + 7, sizeof what - 7);
  np_origin_warn(L, 1, UV_ORIGIN, what);
  return f_close(L);
}

static int f_tostring(lua_State *L) {
  dgram *d = np_dgram_check(L);
  if (lua_getiuservalue(L, 1, UV_ADDRESS) != LUA_TSTRING)
    lua_pushfstring(L, "%s:", np_scheme_name(d->scheme));
  const char *address = lua_tostring(L, -1), *peer = "";
  if (lua_getiuservalue(L, 1, UV_PEER) == LUA_TSTRING)
    peer = lua_pushfstring(L, "<->%s", lua_tostring(L, -1));
  lua_pushfstring(L, "neap.datagram{%s%s%s%s%s}", address, peer,
                  np_node_linked(&d->readers) ? " receiving" : "",
                  np_node_linked(&d->writers) ? " sending" : "", d->core ? "" : " closed");
  return 1;
}

/* Fields: address (where it is bound), peer (nil: not connected), fd (nil: closed), timeout
 * (seconds, nil: none). */
static int f_index(lua_State *L) {
  dgram *d = np_dgram_check(L);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "address") == 0) lua_getiuservalue(L, 1, UV_ADDRESS);
  else if (strcmp(key, "peer") == 0) lua_getiuservalue(L, 1, UV_PEER);
  else if (strcmp(key, "fd") == 0 && d->core) lua_pushinteger(L, np_dgram_fd(d->core));
  else if (strcmp(key, "timeout") == 0 && d->timeout >= 0) lua_pushnumber(L, d->timeout);
  else lua_pushnil(L);
  return 1;
}

static int f_newindex(lua_State *L) {
  dgram *d = np_dgram_check(L);
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "timeout") != 0)
    return luaL_argerror(L, 2, lua_pushfstring(L, "field '%s' cannot be set", key));
  double s = lua_isnil(L, 3) ? -1 : luaL_checknumber(L, 3);
  luaL_argcheck(L, lua_isnil(L, 3) || s >= 0, 3, "seconds (a number, 0 or more) or nil expected");
  d->timeout = s;
  return 0;
}

static const luaL_Reg methods[] = {
  {"send", np_dgram_f_send},
  {"recv", np_dgram_f_recv},
  {"records", np_dgram_f_records},
  {"recv_batch", np_dgram_f_recv_batch},
  {"send_batch", np_dgram_f_send_batch},
  {"recv_error", np_dgram_f_recv_error},
  {"join", np_dgram_f_join},
  {"leave", np_dgram_f_leave},
  {"close", f_close},
  {"take", f_take},
  {"option", f_option},
  {"credentials", f_credentials},
  {NULL, NULL},
};

static const luaL_Reg meta[] = {
  {"__gc", f_gc}, {"__close", f_close}, {"__tostring", f_tostring}, {"__newindex", f_newindex},
  {NULL, NULL},
};

static const np_type dgram_type = {"neap.datagram", methods, meta, f_index};

static const luaL_Reg functions[] = {
  {"datagram", np_dgram_f_open},
  {"pair", np_dgram_f_pair},
  {"resolver", np_dgram_f_resolver},
  {NULL, NULL},
};

int luaopen_neap_dgram_core(lua_State *L) {
  np_type_init(L, &dgram_type);
  luaL_newlib(L, functions);
  np_push_metatable(L, &dgram_type);
  lua_getfield(L, -1, "__index");
  lua_getupvalue(L, -1, 1);
  lua_setfield(L, -4, "methods"); /* for methods written in Lua: stdlib/net/messages.lua */
  lua_pop(L, 2);
  return 1;
}
