/* The command: arguments, signals, limits, the first task, the exit status.
 *
 * Everything that concerns the whole process is here and nowhere else: the library below neap.h
 * never touches a signal handler, a resource limit or the standard descriptors.  A script given
 * alone is the main task itself; -e, -l and -i become steps of one main task. main.c knows nothing
 * of sockets. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#ifdef __GLIBC__
#include <stdio_ext.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "arguments.h"
#include "heap.h"
#include "neap.h"

static np_runtime *volatile running; /* for the signal handler; NULL outside the loop */
static volatile sig_atomic_t caught;
static volatile sig_atomic_t prompting; /* INT interrupts a computation, and that is all */
static pthread_t loop_thread;

/* Signals. */

static void die_of(int sig) {
  struct sigaction act = {.sa_handler = SIG_DFL};
  sigset_t set;
  sigaction(sig, &act, NULL);
  sigemptyset(&set);
  sigaddset(&set, sig);
  raise(sig);
  sigprocmask(SIG_UNBLOCK, &set,
              NULL); /* inside the handler it is blocked, and raise waits for this */
}

/* The first signal asks the main group to end, wherever it is; a second one means it. */
static void on_signal(int sig) {
  int saved = errno;
  if (!pthread_equal(pthread_self(), loop_thread)) {
    pthread_kill(loop_thread, sig);
  } else if (caught) {
    die_of(sig);
  } else {
    int raised = sig == SIGINT && prompting && running ? np_interrupt_code(running) : 0;
    if (raised < 0) die_of(sig);
    if (raised == 0) {
      caught = sig;
      if (running) np_interrupt(running);
    }
  }
  errno = saved;
}

static void on_tick(int sig, siginfo_t *info, void *context) {
  int saved = errno;
  (void)sig, (void)context;
  np_watchdog_tick(info->si_value.sival_ptr);
  errno = saved;
}

static int watchdog_signal(void) {
  struct sigaction act = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
  return sigaction(SIGRTMIN, &act, NULL) == 0 ? SIGRTMIN : 0;
}

static void install_signals(void) {
  struct sigaction ignore = {.sa_handler = SIG_IGN}, act = {.sa_handler = on_signal}, old;
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  static const int ends[] = {SIGINT, SIGTERM};
  sigaction(SIGPIPE, &ignore, NULL);
  sigaction(SIGCHLD, &dfl,
            NULL); /* ignored, as some parents leave it, no child has an exit status */
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    /* a program started with INT ignored (nohup, a shell's background job) keeps ignoring it */
    if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN) continue;
    sigaction(ends[i], &act, NULL);
  }
}

/* Descriptors and limits. */

/* A closed 0, 1 or 2 would be the number of the first socket.  The stand-in fails with EBADF when
 * used, as the closed descriptor would: it is open in the other direction. */
static void hold_standard_descriptors(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
        open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
      return;
}

/* Raises the soft limit of descriptors to the hard one.  The original goes into the registry, where
 * the process binding finds it for the children: many programs loop over all numbers up to the
 * limit, or still use select(). */
static void raise_limit(lua_State *L) {
  struct rlimit lim;
  if (getrlimit(RLIMIT_NOFILE, &lim) != 0) return;
  if (lim.rlim_cur != RLIM_INFINITY) {
    lua_pushinteger(L, (lua_Integer)lim.rlim_cur);
    lua_setfield(L, LUA_REGISTRYINDEX, "neap.child_nofile");
  }
  lim.rlim_cur = lim.rlim_max;
  setrlimit(RLIMIT_NOFILE, &lim);
}

/* The script's arguments. */

/* `arg` as the stock interpreter makes it: the script is 0, what is before it negative. */
static void push_arg_table(lua_State *L, const options *o) {
  lua_createtable(L, o->argc, 1);
  for (int i = 0; i < o->argc; i++) {
    lua_pushstring(L, o->argv[i]);
    lua_rawseti(L, -2, i - o->script);
  }
}

/* The main task. */

/* Upvalues: the module and the global it goes to. */
static int k_library(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  lua_setglobal(L, lua_tostring(L, lua_upvalueindex(2)));
  return 0;
}
static int f_library(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_callk(L, 1, 1, 0, k_library);
  return k_library(L, LUA_OK, 0);
}

/* "mod", "g=mod"; the global of a dotted module is its last part: -l neap.http gives http. */
static void push_library(lua_State *L, const char *spec) {
  const char *eq = strchr(spec, '='), *mod = eq ? eq + 1 : spec, *dot = strrchr(mod, '.');
  lua_pushstring(L, mod);
  if (eq) lua_pushlstring(L, spec, (size_t)(eq - spec));
  else lua_pushstring(L, dot ? dot + 1 : mod);
  lua_pushcclosure(L, f_library, 2);
}

/* The script's arguments, from `arg` as the steps before it left it. Their number. */
static int push_arguments(lua_State *L) {
  if (lua_getglobal(L, "arg") != LUA_TTABLE) luaL_error(L, "'arg' is not a table");
  int at = lua_gettop(L), n = (int)luaL_len(L, at);
  luaL_checkstack(L, n + 3, "too many arguments to script");
  for (int i = 1; i <= n; i++) lua_rawgeti(L, at, i);
  lua_remove(L, at);
  return n;
}

/* Upvalues: the steps; which of them is the script, 0: none. ctx is the step that has returned. */
static int k_main(lua_State *L, int status, lua_KContext ctx) {
  int script = (int)lua_tointeger(L, lua_upvalueindex(2)),
      n = (int)lua_rawlen(L, lua_upvalueindex(1));
  (void)status;
  for (int i = (int)ctx + 1; i <= n; i++) {
    lua_settop(L, 0);
    lua_rawgeti(L, lua_upvalueindex(1), i);
    lua_callk(L, i == script ? push_arguments(L) : 0, 0, i, k_main);
  }
  return 0;
}
static int f_main(lua_State *L) { return k_main(L, LUA_OK, 0); }

/* A chunk of Lua text as a function, or raises its message: nothing has run yet, so there is no
 * traceback to give. */
static void push_code(lua_State *L, const char *code, const char *name) {
  if (luaL_loadbuffer(L, code, strlen(code), name) != LUA_OK) lua_error(L);
}

static void add_step(lua_State *L, int steps) {
  lua_rawseti(L, steps, (lua_Integer)lua_rawlen(L, steps) + 1);
}

/* $LUA_INIT: "@file", or code. */
static void add_init(lua_State *L, int steps) {
  const char *name = "=LUA_INIT" LUA_VERSUFFIX, *init = getenv(name + 1);
  if (!init) init = getenv((name = "=LUA_INIT") + 1);
  if (!init) return;
  if (*init != '@') push_code(L, init, name);
  else if (luaL_loadfile(L, init + 1) != LUA_OK) lua_error(L);
  add_step(L, steps);
}

/* The steps of -e and -l, in their order. */
static void add_options(lua_State *L, const options *o, int steps) {
  for (int i = 1; i < o->last; i++) {
    char kind = o->argv[i][1];
    if (kind != 'e' && kind != 'l') continue;
    const char *value = o->argv[i][2] ? o->argv[i] + 2 : o->argv[++i];
    if (kind == 'e') push_code(L, value, "=(command line)");
    else push_library(L, value);
    add_step(L, steps);
  }
}

/* Adds the script: which step it is. */
static int add_script(lua_State *L, const options *o, int steps) {
  if (luaL_loadfile(L, o->from_stdin ? NULL : o->argv[o->script]) != LUA_OK) lua_error(L);
  add_step(L, steps);
  return (int)lua_rawlen(L, steps);
}

/* A step alone is the main task itself: its tracebacks are the stock ones. */
static void push_steps(lua_State *L, int steps, int script) {
  if (lua_rawlen(L, steps) == 1) {
    lua_rawgeti(L, steps, 1);
    if (script) push_arguments(L);
  } else {
    lua_pushvalue(L, steps);
    lua_pushinteger(L, script);
    lua_pushcclosure(L, f_main, 2);
  }
  lua_remove(L, steps);
}

static void run_code(lua_State *L, const char *code) {
  push_code(L, code, "=neap");
  lua_call(L, 0, 0);
}

/* The supervisor's main function and its arguments: count, reuseport, grace, the workers' argv. */
static int prepare_supervisor(lua_State *L, const options *o) {
  int n = 0;
  lua_settop(L,
             0); /* the script has been compiled: its mistakes are told once, not by each worker */
  push_code(L, "return require('neap.workers.supervisor')", "=neap");
  lua_call(L, 0, 1);
  lua_pushinteger(L, o->workers.count);
  lua_pushboolean(L, o->workers.reuseport);
  lua_pushnumber(L, o->workers.grace_s);
  lua_createtable(L, o->argc, 0);
  for (int i = 1; i < o->argc; i++) {
    if (i >= o->workers_at && i < o->workers_end) continue;
    lua_pushstring(L, o->argv[i]);
    lua_rawseti(L, -2, ++n);
  }
  return lua_gettop(L);
}

static void begin_worker(lua_State *L, const options *o) {
  push_code(L, "require('neap.workers').begin(...)", "=neap");
  lua_pushinteger(L, o->workers.id);
  lua_pushinteger(L, o->workers.count);
  lua_pushboolean(L, o->workers.reuseport);
  lua_call(L, 3, 0);
}

/* (options) -> the main function and its arguments. Raises what cannot be compiled. */
static int f_prepare(lua_State *L) {
  const options *o = lua_touserdata(L, 1);
  int script = 0;
  raise_limit(L);
  push_arg_table(L, o);
  lua_setglobal(L, "arg");
  if (o->warnings) lua_warning(L, "@on", 0);
  if (o->trace) run_code(L, "require('neap.trace.core').start()");
  if (o->code || o->prompt) run_code(L, "require('neap.prompt').globals()");
  if (o->workers.id) begin_worker(L, o);
  lua_settop(L, 0);
  lua_newtable(L);
  if (!o->no_environment) add_init(L, 1);
  add_options(L, o, 1);
  if (o->script || o->from_stdin) script = add_script(L, o, 1);
  if (o->prompt) {
    push_code(L, "require('neap.prompt').run()", "=neap");
    add_step(L, 1);
  }
  if (o->workers.count && !o->workers.id) return prepare_supervisor(L, o);
  push_steps(L, 1, script);
  return lua_gettop(L);
}

/* Start and end. */

/* The standard library of the source tree, when the binary lies in a build directory of it; else
 * the baked one. */
static const char *find_stdlib(char *buf, size_t size) {
  const char *env = getenv("NEAP_STDLIB");
  if (env && *env) return env;
  ssize_t n = readlink("/proc/self/exe", buf, size - 1);
  if (n <= 0) return NULL;
  buf[n] = '\0';
  char *file = strrchr(buf, '/');
  if (!file || file == buf) return NULL;
  *file = '\0';
  char *dir = strrchr(buf, '/');
  if (!dir || strncmp(dir, "/build", 6) != 0 ||
      (size_t)(dir - buf) + sizeof "/lua/stdlib/init.lua" > size)
    return NULL;
  strcpy(dir, "/lua/stdlib/init.lua");
  if (access(buf, R_OK) != 0) return NULL;
  *strrchr(buf, '/') = '\0';
  return buf;
}

static int print_versions(void) {
  printf("Neap %s, Lua %s.%s, libuv %s\n", NEAP_VERSION, LUA_VERSION_MAJOR "." LUA_VERSION_MINOR,
         LUA_VERSION_RELEASE, uv_version_string());
  return 0;
}

/* Prints the message on the stack as the stock interpreter does. */
static int report(lua_State *L) {
  const char *msg = luaL_tolstring(L, -1, NULL);
  fprintf(stderr, "neap: %s\n", msg);
  return 1;
}

/* What print wrote is out before the program waits, though standard output is a file or a pipe: a
 * server's log has to be there to be read. */
static bool printed(void) {
#ifdef __GLIBC__
  return __fpending(stdout) > 0; /* 2 ns; fflush with nothing to do takes a lock */
#else
  return true;
#endif
}

/* Runs what the arguments name. The exit status. */
static int run(np_runtime *rt, options *o) {
  lua_State *L = np_lua(rt);
  bool cancelled = false;
  int base = lua_gettop(L);
  lua_pushcfunction(L, f_prepare);
  lua_pushlightuserdata(L, o);
  if (lua_pcall(L, 1, LUA_MULTRET, 0) != LUA_OK) return report(L);
  if (np_start(rt, lua_gettop(L) - base - 1) != 0) return report(L);
  loop_thread = pthread_self();
  prompting = o->prompt;
  running = rt;
  install_signals();
  while (np_step(rt, -1)) {
    if (printed()) fflush(stdout);
    if (caught && !cancelled) {
      cancelled = true;
      np_cancel(rt);
    }
  }
  return np_status(rt);
}

/* The leak checker's own entry, in builds that have it: this program leaves by _exit, which skips
 * its last look. */
extern void __lsan_do_leak_check(void) __attribute__((weak));

/* Leaves without exit handlers: libuv's would wait for the thread pool, where a slow name lookup
 * can sit for a minute. */
_Noreturn static void leave(int status) {
  fflush(NULL);
  if (caught) die_of(caught);
  if (__lsan_do_leak_check) __lsan_do_leak_check();
  _exit(status);
}

static int cannot_start(void) {
  if (errno == EINVAL)
    fprintf(stderr, "neap: cannot start: NEAP_POLL is '%s': \"epoll\" (Linux) or \"uv\" expected\n",
            getenv("NEAP_POLL"));
  else fprintf(stderr, "neap: cannot start: %s\n", strerror(errno));
  return 1;
}

int main(int argc, char **argv) {
  options o;
  char path[PATH_MAX];
  np_keep_heap();
  int status = np_arguments(&o, argc, argv);
  if (status) return status;
  if (o.help) return fputs(np_usage, stdout) < 0;
  if (o.version && !o.code && !o.loads && !o.script && !o.prompt) return print_versions();
  if (o.version) print_versions();
  if (o.workers.id && !np_worker_begin())
    return np_bad_usage("only the supervisor starts workers:", o.argv[o.workers_at]);
  /* nothing named: a prompt for people, standard input for pipes */
  bool named = o.script || o.code || o.loads || o.prompt;
  if (!named) *(isatty(0) ? &o.prompt : &o.from_stdin) = true;
  hold_standard_descriptors();
  np_runtime *rt = np_new(&(np_config){.stdlib = find_stdlib(path, sizeof path),
                                       .no_environment = o.no_environment,
                                       .watchdog_signal = watchdog_signal()});
  if (!rt) return cannot_start();
  status = run(rt, &o);
  if (!np_exited(rt)) {
    running = NULL;
    np_free(rt);
  }
  leave(status);
}
