/* Between process.c (a child's object) and process_spawn.c (its start). */
#ifndef NP_BIND_PROCESS_IMPL_H
#define NP_BIND_PROCESS_IMPL_H

#include "bindings/lua_util.h"
#include "core/process.h"

/* User values: the streams 1..3 (stdin, stdout, stderr) and 4 (the pseudo-terminal), then the name
 * and where it was made. */
enum { PTY = 3, ENDS, UV_NAME = ENDS + 1, UV_ORIGIN, USERVALUES = UV_ORIGIN };

typedef struct process {
  const np_type *type;
  np_process *core; /* NULL: it has ended, or was never started */
  np_node waiters;  /* np_waiter.node: tasks in wait and close */
  int pid;
  int code, signum; /* how it ended; valid when ended */
  bool ended;
  int theirs[ENDS]; /* ends of pipes and pseudo-terminal while the child is being started; -1 */
  int ours[ENDS];
} process;

extern const np_type np_process_type;

int np_process_f_spawn(lua_State *L);

/* The core tells: the child has ended. */
void np_process_on_end(void *owner);

void np_process_close_ends(int fds[ENDS]);

/* Closes what is still being made, and a child that runs. */
void np_process_let_go(process *p);

#endif
