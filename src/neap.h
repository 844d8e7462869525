/* Embedding Neap: a runtime is a Lua state with the `neap` modules and a loop of its own. Runtimes
 * share nothing: several live in one process, each driven by one thread at a time.
 *
 *   np_runtime *rt = np_new(NULL);
 *   if (np_dostring(rt, "require('neap.net').serve(':8080', function(c) c:write('hi\n') end)") ==
 *   0)
 *     status = np_run(rt);
 *   np_free(rt);
 *
 * Process-wide matters (SIGPIPE, signal handlers, RLIMIT_NOFILE, exit) stay the host's: ignore
 * SIGPIPE. */
#ifndef NEAP_H
#define NEAP_H

#ifdef __cplusplus
extern "C" {
#endif

#define NEAP_VERSION "0.1.0"

struct lua_State;
typedef struct np_runtime np_runtime;

typedef struct np_config {
  struct lua_State
    *L; /* an existing state to live in (its owner closes it); NULL: make and own one with the
                            standard libraries open */
  const char *stdlib;  /* a directory of Lua sources to prefer over the baked ones; NULL: baked */
  const char *poll;    /* "epoll", "uv"; NULL: the platform's best, or $NEAP_POLL */
  int no_environment;  /* 1: LUA_PATH and LUA_CPATH do not count (`neap -E`) */
  int watchdog_signal; /* a signal whose handler (SA_SIGINFO) the host has installed and which calls
                            np_watchdog_tick(info->si_value.sival_ptr); 0: neap.watchdog is not
                          available */
} np_config;

/* A runtime, or NULL, and errno says why: ENOMEM, EMFILE ..., EINVAL: no watcher has the name in
 * `poll`. */
np_runtime *np_new(const np_config *config);

/* The runtime's Lua state, to prepare globals and arg before the first step. */
struct lua_State *np_lua(np_runtime *rt);

/* Starts the function at the top of the state's stack, below it nargs arguments are NOT expected:
 * push the function, then nargs arguments. It becomes the main task. 0, or -1 with the message on
 * the stack. */
int np_start(np_runtime *rt, int nargs);

/* np_start for a chunk of text. 0, or -1: it does not compile, message on the Lua stack. */
int np_dostring(np_runtime *rt, const char *code);

/* Runs until the main task and its group have ended and nothing lingers. Returns the exit status:
 * 0, 1 (the main group failed; the report went to standard error), or what os.exit was given. */
int np_run(np_runtime *rt);

/* One turn: waits at most ms (-1: until something happens). 1: there is more to do, 0: ended; then
 * np_status. */
int np_step(np_runtime *rt, int ms);
int np_status(np_runtime *rt);

/* 1: os.exit without `close` ended it; a process that leaves now skips np_free, as stock Lua leaves
 * finalizers out. */
int np_exited(np_runtime *rt);

/* To sit in another loop: poll np_fd for reading for at most np_timeout_ms (-1: no limit), then
 * np_step(rt, 0). */
int np_fd(np_runtime *rt);
int np_timeout_ms(np_runtime *rt);

/* Ends a np_step that waits; callable from any thread and from signal handlers. */
void np_wake(np_runtime *rt);

/* For the handler of config.watchdog_signal, which arrives on the thread that runs the loop;
 * async-signal-safe. */
void np_watchdog_tick(void *value);

/* Cancels the main group, as neap's INT and TERM do. */
void np_cancel(np_runtime *rt);

/* The same for a signal handler, and in the midst of a computation: the task that runs is cancelled
 * where it is. Async-signal-safe, on the thread that runs the loop. */
void np_interrupt(np_runtime *rt);

/* What INT means at a prompt, otherwise likewise: 1: the code that runs now gets the error
 * "interrupted!"; 0: none runs; -1: the one before is not raised yet. */
int np_interrupt_code(np_runtime *rt);

/* Closes everything, cancelled tasks included. */
void np_free(np_runtime *rt);

#ifdef __cplusplus
}
#endif
#endif
