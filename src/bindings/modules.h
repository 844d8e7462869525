/* The C modules behind the standard library: a declaration here and a row in modules.c for each. */
#ifndef NP_MODULES_H
#define NP_MODULES_H

#include <lauxlib.h>

int luaopen_neap_fault_core(lua_State *L);
int luaopen_neap_hub_core(lua_State *L);
int luaopen_neap_pipe_core(lua_State *L);
int luaopen_neap_proxy_core(lua_State *L);
int luaopen_neap_sendfile_core(lua_State *L);
int luaopen_neap_signal_core(lua_State *L);
int luaopen_neap_process_core(lua_State *L);
int luaopen_neap_pair_core(lua_State *L);
int luaopen_neap_connect_core(lua_State *L);
int luaopen_neap_checksum_core(lua_State *L);
int luaopen_neap_channel_core(lua_State *L);
int luaopen_neap_codec_core(lua_State *L);
int luaopen_neap_listener_core(lua_State *L);
int luaopen_neap_dgram_core(lua_State *L);
int luaopen_neap_dns_core(lua_State *L);
int luaopen_neap_descriptor_core(lua_State *L);
int luaopen_neap_ending_core(lua_State *L);
int luaopen_neap_event_core(lua_State *L);
int luaopen_neap_fs_core(lua_State *L);
int luaopen_neap_group_core(lua_State *L);
int luaopen_neap_inspect_core(lua_State *L);
int luaopen_neap_runtime_core(lua_State *L);
int luaopen_neap_scope_core(lua_State *L);
int luaopen_neap_select_core(lua_State *L);
int luaopen_neap_semaphore_core(lua_State *L);
int luaopen_neap_stream_core(lua_State *L);
int luaopen_neap_task_core(lua_State *L);
int luaopen_neap_tls_core(lua_State *L);
int luaopen_neap_trace_core(lua_State *L);
int luaopen_neap_watchdog_core(lua_State *L);
int luaopen_neap_websocket_core(lua_State *L);
int luaopen_neap_zlib_core(lua_State *L);

/* Makes `require` find neap.*: C modules, then sources below the directory stdlib (NULL: none),
 * then what is baked in. Once per state. */
void np_modules_install(lua_State *L, const char *stdlib);
int np_modules_search(lua_State *L); /* the package searcher */

int luaopen_neap(lua_State *L); /* of build/neap.so */

extern const luaL_Reg np_modules[]; /* ends with NULLs */

#endif
