/* neap.pipe.core: pipe(a, b), two streams connected in C while one task waits. */
#include "bindings/modules.h"
#include "bindings/stream_impl.h"
#include "core/pipe.h"

enum { AT_A = 1, AT_B = 2, AT_PIPE = 3 };

/* A userdata at AT_PIPE of the waiting task's stack. */
typedef struct piping {
  np_holder holder;
  np_pipe *core; /* NULL: over */
  stream *a, *b;
  np_task *task; /* waits; NULL: was woken */
  int code;      /* how it ended */
  uint64_t bytes[2];
} piping;

/* Both streams are free again. */
static void let_go(piping *p) {
  if (!p->core) return;
  np_pipe_free(p->core, np_stream_on_event, p->a, p->b, p->bytes);
  p->core = NULL;
  p->a->holder = p->b->holder = NULL;
}

static void finish(piping *p, int code) {
  np_task *t = p->task;
  p->task = NULL;
  p->code = code;
  if (t) np_task_wake(t);
}

static void on_end(void *owner, int code) { finish(owner, code); }

/* One of the two is being closed. */
static void on_closed(np_holder *h) {
  piping *p = np_container(h, piping, holder);
  let_go(p);
  finish(p, NP_ECLOSED);
}

static void pipe_abort(np_task *t, void *obj) {
  piping *p = obj;
  (void)t;
  p->task = NULL;
  let_go(p);
}

static int pipe_describe(void *obj, char *buf, size_t size) {
  piping *p = obj;
  return np_stream_describe(p->a, buf, size);
}

static const np_waitkind pipe_wait = {"pipe", true, pipe_abort, pipe_describe, false};
static const np_waitkind pipe_wait_inside = {"pipe", false, pipe_abort, pipe_describe, false};

static int failed(lua_State *L, piping *p, int code) {
  if (code == NP_ECLOSED) np_fail_text(L, "ECANCELED", "closed");
  else np_fail(L, code, "pipe %s, %s", np_stream_name(L, p->a), np_stream_name(L, p->b));
  return 3;
}

static int k_pipe(lua_State *L, int status, lua_KContext by) {
  piping *p = lua_touserdata(L, AT_PIPE);
  int woken = np_woken(L);
  (void)status, (void)by;
  int code = woken ? woken : p->code;
  let_go(p);
  int n = code < 0 ? failed(L, p, code) : 0;
  lua_pushinteger(L, (lua_Integer)p->bytes[0]);
  lua_pushinteger(L, (lua_Integer)p->bytes[1]);
  return n + 2;
}

static int f_gc(lua_State *L) {
  let_go(lua_touserdata(L, 1));
  return 0;
}

static void push_piping(lua_State *L, stream *a, stream *b) {
  piping *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (piping){.holder = {"piping", on_closed}, .a = a, .b = b};
  if (luaL_newmetatable(L, "neap.piping")) {
    lua_pushcfunction(L, f_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
}

static const char *const known[] = {"timeout", NULL};

/* pipe(a, b[, {timeout = s}]): copies a to b and b to a until both have ended, passing each end on
 * as a half-close, with the back-pressure of the slower side: the bytes from a to b, and from b to
 * a.  nil, message, code and then the bytes: a failure of either side, ETIMEDOUT (both streams can
 * be used on), ECANCELED (one was closed). Closes neither. Raises if another task uses one of
 * them. */
static int f_pipe(lua_State *L) {
  stream *a = np_check_object(L, AT_A, &np_stream_type),
         *b = np_check_object(L, AT_B, &np_stream_type);
  luaL_argcheck(L, a != b, 2, "two different streams expected");
  np_check_options(L, 3, known);
  uint64_t by = np_deadline_opt(L, 3, -1);
  np_op_begin(L, "pipe");
  np_stream_check_free(L, a);
  np_stream_check_free(L, b);
  if (!a->s || !b->s) return np_stream_failed(L, a->s ? b : a, NP_ECLOSED, "pipe");
  lua_settop(L, 2);
  push_piping(L, a, b);
  piping *p = lua_touserdata(L, AT_PIPE);
  if (np_pipe_new(a->s, b->s, on_end, p, &p->core) < 0) return luaL_error(L, "not enough memory");
  a->holder = b->holder = &p->holder;
  p->task = np_task_of(L);
  bool inside = np_stream_inside(a->s) && np_stream_inside(b->s);
  return np_wait(L, inside ? &pipe_wait_inside : &pipe_wait, p, by, 0, k_pipe);
}

int luaopen_neap_pipe_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"pipe", f_pipe}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
