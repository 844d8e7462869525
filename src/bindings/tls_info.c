/* conn.tls: what can be told of a TLS connection and its peer's certificate, as a plain table. */
#include "bindings/tls.h"

#include <stdio.h>
#include <string.h>

#include "bindings/stream_impl.h"

static void set_string(lua_State *L, const char *key, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

static void push_peer(lua_State *L, const np_tls_peer *p) {
  lua_createtable(L, 0, 8);
  set_string(L, "subject", p->subject);
  if (*p->common_name) set_string(L, "common_name", p->common_name);
  set_string(L, "issuer", p->issuer);
  set_string(L, "serial", p->serial);
  set_string(L, "fingerprint", p->fingerprint);
  lua_pushinteger(L, p->not_before);
  lua_setfield(L, -2, "not_before");
  lua_pushinteger(L, p->not_after);
  lua_setfield(L, -2, "not_after");
  lua_newtable(L);
  lua_Integer i = 0;
  for (size_t at = 0; at < p->names_len; at += strlen(p->names + at) + 1) {
    lua_pushstring(L, p->names + at);
    lua_rawseti(L, -2, ++i);
  }
  lua_setfield(L, -2, "names");
}

/* What it says is copied before Lua's memory is touched: a finalizer may close the stream. */
typedef struct facts {
  np_tls_info info;
  np_tls_peer peer;
  bool has_peer;
  char alpn[255], name[256];
} facts;

static void collect(np_transport *t, facts *f) {
  np_tls_info_get(t, &f->info);
  if (f->info.alpn) f->info.alpn = memcpy(f->alpn, f->info.alpn, f->info.alpn_len);
  if (f->info.name) {
    snprintf(f->name, sizeof f->name, "%s", f->info.name);
    f->info.name = f->name;
  }
  f->has_peer = np_tls_peer_get(t, &f->peer);
}

int np_push_tls_info(lua_State *L, stream *u) {
  if (!u->s || !np_tls_of(u->s)) return 0;
  facts *f = lua_newuserdatauv(L, sizeof *f, 0); /* 5 KiB: not on the C stack */
  if (!u->s) return 0;
  collect(np_tls_of(u->s), f);
  lua_createtable(L, 0, 7);
  set_string(L, "version", f->info.version);
  set_string(L, "cipher", f->info.cipher);
  set_string(L, "name", f->info.name);
  lua_pushboolean(L, f->info.resumed);
  lua_setfield(L, -2, "resumed");
  if (f->info.alpn) {
    lua_pushlstring(L, f->info.alpn, f->info.alpn_len);
    lua_setfield(L, -2, "alpn");
  }
  if (f->has_peer) {
    push_peer(L, &f->peer);
    lua_setfield(L, -2, "peer");
  }
  return 1;
}
