/* The table of C modules. A new binding adds its declaration and its row; runtime.c puts them into
 * package.preload. */
#include "bindings/modules.h"

const luaL_Reg np_modules[] = {
  {"neap.channel.core", luaopen_neap_channel_core},
  {"neap.checksum.core", luaopen_neap_checksum_core},
  {"neap.codec.core", luaopen_neap_codec_core},
  {"neap.listener.core", luaopen_neap_listener_core},
  {"neap.dgram.core", luaopen_neap_dgram_core},
  {"neap.dns.core", luaopen_neap_dns_core},
  {"neap.descriptor.core", luaopen_neap_descriptor_core},
  {"neap.ending.core", luaopen_neap_ending_core},
  {"neap.event.core", luaopen_neap_event_core},
  {"neap.fault.core", luaopen_neap_fault_core},
  {"neap.group.core", luaopen_neap_group_core},
  {"neap.hub.core", luaopen_neap_hub_core},
  {"neap.inspect.core", luaopen_neap_inspect_core},
  {"neap.pipe.core", luaopen_neap_pipe_core},
  {"neap.runtime.core", luaopen_neap_runtime_core},
  {"neap.scope.core", luaopen_neap_scope_core},
  {"neap.select.core", luaopen_neap_select_core},
  {"neap.semaphore.core", luaopen_neap_semaphore_core},
  {"neap.stream.core", luaopen_neap_stream_core},
  {"neap.tls.core", luaopen_neap_tls_core},
  {"neap.task.core", luaopen_neap_task_core},
  {"neap.trace.core", luaopen_neap_trace_core},
  {"neap.connect.core", luaopen_neap_connect_core},
  {"neap.pair.core", luaopen_neap_pair_core},
  {"neap.process.core", luaopen_neap_process_core},
  {"neap.signal.core", luaopen_neap_signal_core},
  {"neap.watchdog.core", luaopen_neap_watchdog_core},
  {NULL, NULL},
};
