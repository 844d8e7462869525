/* The arguments of spawn, checked: what bindings/process.c starts a child from. */
#ifndef NP_BIND_PROCESS_ARGS_H
#define NP_BIND_PROCESS_ARGS_H

#include <lua.h>

#include "core/process.h"

/* What may stand in fds instead of a descriptor's number. */
enum {
  NP_SPAWN_NULL = NP_FD_NULL, /* as np_processopts wants it */
  NP_SPAWN_INHERIT = -10,
  NP_SPAWN_PIPE,
  NP_SPAWN_LIKE_STDOUT,
  NP_SPAWN_TERMINAL
};

typedef struct np_spawn {
  char **argv, **env;
  char *pid_text; /* as np_processopts has it */
  const char *cwd;
  int fds[NP_PROCESS_FDS]; /* numbers; NP_SPAWN_* among the first three; they stay the objects' */
  int nfds;
  int grace_ms;
  bool identified; /* `identity` is to be set */
  np_identity identity;
  np_processlimit limits[NP_PROCESS_LIMITS];
  int nlimits;
  int umask; /* as np_processopts has it; pgroup, too */
  int pgroup;
  bool session;
  bool pty;
  int rows, cols; /* of the pseudo-terminal */
  int err;        /* what the system does not know: a failure, whose text is `why` */
  const char *why;
} np_spawn;

/* Whether "NAME=value" is a variable by which descriptors are passed (sd_listen_fds(3)): it holds
 * for our process only, not for those that it starts. */
bool np_spawn_private(const char *variable);

/* Names of the first three: "stdin" ... */
extern const char *const np_spawn_std[3];

/* Reads argv at index 1 and the options at 2.  What q points to is anchored on the stack above, so
 * leave it there until the child is started.  Raises argument errors; takes nothing. */
void np_spawn_read(lua_State *L, np_spawn *q);

/* The part of it that says what the child is, apart from its program and descriptors. */
void np_spawn_read_setting(lua_State *L, int idx, np_spawn *q);

#endif
