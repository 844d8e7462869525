-- The library in a host program: a C program with two runtimes in one process, each with its own
-- loop and state.

local helper = require "spec.support.helper"

local two_runtimes = [[
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include "neap.h"

static const char server[] =
  "local net = require 'neap.net'\n"
  "local l = assert(net.listen('unix:' .. path))\n"
  "for _ = 1, 3 do local c <close> = assert(l:accept()) c:write((c:read()):upper(), '\\n') end\n"
  "l:close() who = 'server'";
static const char client[] =
  "local net = require 'neap.net'\n"
  "for i = 1, 3 do local c <close> = assert(net.connect('unix:' .. path, {timeout = 5}))\n"
  "  c:write('hello ', i, '\\n') io.write(c:read(), '\\n') end\n"
  "who = 'client'";

static np_runtime *start(const char *code, const char *path) {
  np_runtime *rt = np_new(NULL);
  lua_pushstring(np_lua(rt), path);
  lua_setglobal(np_lua(rt), "path");
  if (np_dostring(rt, code) != 0) puts(lua_tostring(np_lua(rt), -1));
  return rt;
}

/* One thread drives both by their descriptors. */
static void drive(np_runtime **rt, int n) {
  int alive[2] = {1, 1};
  while (alive[0] || alive[1]) {
    struct pollfd p[2];
    int wait = 1000;
    for (int i = 0; i < n; i++) {
      int ms = alive[i] ? np_timeout_ms(rt[i]) : -1;
      p[i] = (struct pollfd){.fd = alive[i] ? np_fd(rt[i]) : -1, .events = POLLIN};
      if (ms >= 0 && ms < wait) wait = ms;
    }
    poll(p, 2, wait);
    for (int i = 0; i < n; i++)
      if (alive[i]) alive[i] = np_step(rt[i], 0);
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  np_runtime *rt[2] = {start(server, argv[1]), NULL};
  np_step(rt[0], 0);
  rt[1] = start(client, argv[1]);
  drive(rt, 2);
  for (int i = 0; i < 2; i++) {
    lua_getglobal(np_lua(rt[i]), "who");
    printf("%s %d\n", lua_tostring(np_lua(rt[i]), -1), np_status(rt[i]));
    np_free(rt[i]);
  }
  return argc != 2;
}
]]

local own_state = [[
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include "neap.h"

static void *wake(void *rt) {
  usleep(50000);
  np_wake(rt);
  return NULL;
}

int main(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  np_runtime *rt = np_new(&(np_config){.L = L, .poll = "uv"});
  printf("%d\n", np_dostring(rt, "this is not Lua"));
  puts(lua_tostring(L, -1));
  lua_settop(L, 0);
  luaL_loadstring(L, "local a, b = ... print(a, b) require 'neap'.sleep(0.2) return 1");
  lua_pushinteger(L, 1);
  lua_pushstring(L, "two");
  printf("%d\n", np_start(rt, 2));
  pthread_t t;
  pthread_create(&t, NULL, wake, rt);
  np_step(rt, 0);
  int turns = 0;
  while (np_step(rt, -1)) turns++;
  pthread_join(t, NULL);
  printf("%d woken %d\n", np_status(rt), turns > 0);
  np_free(rt);

  rt = np_new(&(np_config){.L = L}); /* the state lives on and can have another */
  np_dostring(rt, "require 'neap'.sleep(100)");
  np_step(rt, 0);
  np_cancel(rt);
  printf("cancelled %d\n", np_run(rt));
  np_free(rt);
  rt = np_new(&(np_config){.L = L}); /* in the middle of a connection that will not go */
  np_dostring(rt, "local neap, net = require 'neap', require 'neap.net'"
                  "local handler = function() while true do pcall(neap.sleep, 0.01) end end "
                  "local server = net.serve('mem:a', handler) "
                  "local conn = net.connect 'mem:a' neap.sleep(100)");
  for (int i = 0; i < 10; i++) np_step(rt, 10);
  np_free(rt);
  luaL_loadstring(L, "print(coroutine.isyieldable())");
  lua_call(L, 0, 0);
  lua_close(L);
  return 0;
}
]]

-- Coroutines nested near Lua's limit wait; then the host steps from deeper in its own calls, and
-- the middle of the nest cannot be entered again.
local deeper = [[
#include <lauxlib.h>
#include <lualib.h>
#include "neap.h"

static np_runtime *rt;
static int step(lua_State *L) {
  lua_pushboolean(L, np_step(rt, 0));
  return 1;
}

int main(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  rt = np_new(&(np_config){.L = L});
  np_dostring(rt,
    "local neap = require 'neap'\n"
    "local outer, inner = {}, {}\n"
    "local function nest(d) if d == 0 then neap.sleep(0.001) return 'in' end\n"
    "  local co = coroutine.create(nest)\n"
    "  outer[#outer + 1] = co\n"
    "  return select(2, assert(coroutine.resume(co, d - 1))) end\n"
    "local ok, why = pcall(nest, 185)\n"
    "print(ok, why:match 'C stack overflow')\n"
    "for _, co in ipairs(outer) do pcall(coroutine.resume, co) pcall(coroutine.close, co) end\n"
    "neap.sleep(0)\n"
    "outer = {} print(nest(3))");
  lua_register(L, "step", step);
  if (luaL_dostring(L, "step() local function deep(n)\n"
                       "  if n == 0 then return step() end return select(2, pcall(deep, n - 1)) end\n"
                       "while deep(30) do end") != 0) return 1;
  np_free(rt);
  lua_close(L);
  return 0;
}
]]

local objects_left = [[
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include "neap.h"

static const char holds[] =
  "local neap, net = require 'neap', require 'neap.net' left = {}\n"
  "local function add(...) for _, x in ipairs {...} do left[#left + 1] = assert(x) end end\n"
  "add(net.pair()) add(net.pair 'mem') add(net.pair 'unix-seqpacket')\n"
  "add(net.listen ':0', net.datagram ':0', neap.signals 'USR1', net.listen 'mem:left')\n"
  "local c = net.connect(left[7].address) c:write(('x'):rep(1 << 20)) add(c)\n"
  "local p = require 'neap.process'.spawn {'sleep', '1000'} add(p) pid = p.pid";

/* The state of each round outlives the runtime of it; what is left goes in three ways. */
static int once(const char *code, const char *after) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  np_runtime *rt = np_new(&(np_config){.L = L});
  if (np_dostring(rt, code) != 0 || np_run(rt) != 0) return printf("failed\n");
  np_free(rt);
  if (luaL_dostring(L, after) != 0) printf("%s\n", lua_tostring(L, -1));
  lua_getglobal(L, "pid");
  int pid = (int)lua_tointeger(L, -1);
  lua_close(L);
  return printf("%s\n", kill(pid, 0) == 0 ? "the child lives" : "gone");
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  once(holds, "for _, x in ipairs(left) do x:close() end");
  once(holds, "left = nil collectgarbage() collectgarbage()");
  return once(holds, "") < 0;
}
]]

-- Received descriptors that nobody closed go with their state, those that have just come as well.
local descriptors_left = [[
#include <dirent.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include "neap.h"

static const char code[] =
  "local net = require 'neap.net' left = {} local a, b = net.pair()\n"
  "for i = 1, 20 do\n"
  "  a:send('x', {fds = {a}}) left[i] = select(2, b:recv(1, {fds = 1}))\n"
  "end a:close() b:close()";

static int open_count(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

static void once(lua_State *L) {
  if (L) luaL_openlibs(L);
  np_runtime *rt = np_new(&(np_config){.L = L});
  int before = open_count();
  if (np_dostring(rt, code) != 0 || np_run(rt) != 0) printf("failed\n");
  printf("%d open\n", open_count() - before);
  int with = open_count();
  np_free(rt);
  if (L) lua_close(L);
  printf("%s\n", with - open_count() >= 20 ? "closed" : "left open");
}

int main(void) {
  once(NULL);
  once(luaL_newstate());
  return 0;
}
]]

-- Compiles a program against the library as a stranger would: the header, libneap.a, Lua and libuv.
local function build(source)
  local dir = helper.tmpdir()
  helper.write_file(dir .. "/host.c", source)
  local out, err, status = helper.run(([[%s -g -Wall -Werror %s -Isrc $(pkg-config --cflags lua5.4 libuv openssl) -o %s/host %s/host.c \
    %s/libneap.a $(pkg-config --libs lua5.4 libuv openssl libcares zlib) -lm -ldl -lpthread]]):format(
    helper.cc, helper.cflags, dir, dir, helper.build), { limit = 60 })
  assert.equal("", out .. err)
  assert.equal(0, status)
  return dir .. "/host", dir
end

-- The lines; the last one keeps its newline, so that an end that was cut shows.
local function split(text)
  local lines = {}
  for line in text:gmatch "[^\n]*\n" do lines[#lines + 1] = line:sub(1, -2) end
  if #lines > 0 then lines[#lines] = lines[#lines] .. "\n" end
  return lines
end

describe("a host program", function()
  it("holds two runtimes that talk to each other", function()
    local host, dir = build(two_runtimes)
    local out, err, status = helper.run(host .. " " .. dir .. "/socket")
    assert.equal("", err)
    assert.equal("HELLO 1\nHELLO 2\nHELLO 3\nserver 0\nclient 0\n", out)
    assert.equal(0, status)
  end)

  it("lends its own state, wakes, cancels, and has its state back", function()
    local out, err, status = helper.run((build(own_state)))
    assert.equal("", err)
    assert.same({
      "-1", [=[[string "this is not Lua"]:1: syntax error near 'is']=],
      "0", "1\ttwo", "0 woken 1", "cancelled 0", "false\n",
    }, split(out))
    assert.equal(0, status)
  end)

  it("steps from deeper in its calls than nested coroutines can be entered again", function()
    local out, err, status = helper.run((build(deeper)))
    assert.equal("", err)
    assert.equal("false\tC stack overflow\nin\n", out)
    assert.equal(0, status)
  end)

  it("keeps objects longer than their runtime, and loses none of them", function()
    local out, err, status = helper.run((build(objects_left)))
    assert.equal("", err)
    assert.equal("gone\ngone\ngone\n", out)
    assert.equal(0, status)
  end)

  it("leaves no received descriptor open when a state ends", function()
    local out, err, status = helper.run((build(descriptors_left)))
    assert.equal("", err)
    assert.equal("20 open\nclosed\n20 open\nclosed\n", out)
    assert.equal(0, status)
  end)

  it("compiles the header as C++", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/h.cc", '#include "neap.h"\nint main() { np_free(np_new(nullptr)); }\n')
    local _, err, status = helper.run("c++ -fsyntax-only -Wall -Wextra -Isrc " .. dir .. "/h.cc")
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("leaves the memory of sanitized builds to malloc, by either compiler", function()
    local pooled = "%s %s -std=gnu11 -D_GNU_SOURCE -Isrc $(pkg-config --cflags lua5.4) -dM -E "
      .. "src/bindings/state.c | sed -n 's/#define NP_POOLED //p'"
    for _, cc in ipairs { "gcc", "clang" } do
      assert.equal("0\n", (helper.run(pooled:format(cc, "-fsanitize=address"))))
      assert.equal("1\n", (helper.run(pooled:format(cc, ""))))
    end
  end)
end)
