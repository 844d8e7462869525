-- Waiting inside user coroutines, whatever lies between: the scheduler's yields pass, the user's
-- stay the user's.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

local function wait() return neap.sleep(0) end

local function on_close(f) return setmetatable({}, { __close = function(_, err) f(err) end }) end

-- Waits `depth` coroutines deep and yields at each level, too.
local function nested(depth)
  if depth == 0 then return neap.sleep(0) and "bottom" end
  local f = coroutine.wrap(function()
    wait()
    coroutine.yield(depth)
    local below = nested(depth - 1)
    wait()
    return below
  end)
  assert.equal(depth, f())
  return f()
end

describe("a wait inside coroutines", function()
  it("passes through any depth", function()
    assert.equal("bottom", nested(50))
  end)

  it("leaves values of the user's yields and resumes alone", function()
    local co = coroutine.create(function(...)
      wait()
      local got = table.pack(coroutine.yield(...))
      wait()
      return select("#", table.unpack(got, 1, got.n)), table.unpack(got, 1, got.n)
    end)
    assert.same({ true, 1, nil, n = 3 }, table.pack(coroutine.resume(co, 1, nil)))
    assert.same({ true, 3, nil, 2, nil, n = 5 }, table.pack(coroutine.resume(co, nil, 2, nil)))
    assert.equal("dead", coroutine.status(co))
  end)

  it("works in a generator that does I/O", function()
    local a, b = net.pair "unix"
    local lines = coroutine.wrap(function()
      for line in a:lines() do coroutine.yield(line) end
    end)
    neap.spawn(function()
      for i = 1, 5 do
        b:write(i, "\n")
        neap.sleep(0)
      end
      b:close()
    end)
    local got = {}
    for line in lines do got[#got + 1] = line end
    assert.same({ "1", "2", "3", "4", "5" }, got)
    a:close()
  end)

  it("works in a generator within a generator, in a for loop's iterator", function()
    local function count(n)
      return coroutine.wrap(function()
        for i = 1, n do
          wait()
          coroutine.yield(i)
        end
      end)
    end
    local function pairs_of(n)
      return coroutine.wrap(function()
        for i in count(n) do
          for j in count(i) do coroutine.yield(i, j) end
        end
      end)
    end
    local n = 0
    for i, j in pairs_of(4) do
      assert.is_true(j <= i)
      n = n + 1
    end
    assert.equal(10, n)
  end)

  it("works in pcall, xpcall and their handlers' reach", function()
    local f = coroutine.wrap(function()
      local ok, err = pcall(function()
        wait()
        coroutine.yield(1)
        wait()
        error("x", 0)
      end)
      wait()
      local ok2, err2 = xpcall(function()
        wait()
        error("y", 0)
      end, function(m) return m .. "!" end)
      return ok, err, ok2, err2
    end)
    assert.equal(1, f())
    assert.same({ false, "x", false, "y!" }, { f() })
  end)

  it("works in metamethods", function()
    local function waiting(value)
      return function()
        wait()
        return value
      end
    end
    local o = setmetatable({}, {
      __index = waiting "index", __add = waiting "add", __concat = waiting "concat",
      __lt = waiting(true),
      __eq = waiting(true), __len = waiting "len", __call = waiting "call", __unm = waiting "unm",
      __newindex = function() wait() end,
    })
    local other = setmetatable({}, getmetatable(o))
    local f = coroutine.wrap(function()
      o.field = 1
      return o.x, o + 1, o .. "s", o < other, o == other, #o, o(), -o
    end)
    assert.same({ "index", "add", "concat", true, true, "len", "call", "unm" }, { f() })
  end)

  it("works in __close, on every way out", function()
    local n = 0
    local function counted()
      return on_close(function()
        wait()
        n = n + 1
      end)
    end
    local f = coroutine.wrap(function()
      do local _ <close> = counted() end
      pcall(function()
        local _ <close> = counted()
        error "x"
      end)
      for _ in function(_, i) return not i and 1 or nil end, nil, nil, counted() do wait() end
      local _ <close> = counted()
      return "end"
    end)
    assert.equal("end", f())
    assert.equal(4, n)
  end)

  it("does not mix up two tasks on one generator", function()
    local gen = coroutine.wrap(function()
      for i = 1, math.huge do
        wait()
        coroutine.yield(i)
      end
    end)
    local got, failed = {}, 0
    neap.group(function(g)
      for _ = 1, 2 do
        g:spawn(function()
          for _ = 1, 5 do
            local ok, v = pcall(gen)
            if ok then got[#got + 1] = v
            else
              assert.matches("cannot resume non%-suspended coroutine", v)
              failed = failed + 1
            end
            neap.yield()
          end
        end)
      end
    end)
    for i, v in ipairs(got) do assert.equal(i, v) end
    assert.equal(10, #got + failed)
    assert.is_true(failed > 0)
  end)

  it("shows a waiting coroutine as normal: resuming and closing it fail as stock", function()
    local co = coroutine.create(function()
      neap.sleep(0.005)
      return "result"
    end)
    local t = neap.spawn(coroutine.resume, co)
    neap.yield()
    assert.equal("normal", coroutine.status(co))
    assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(co) })
    local ok, err = pcall(coroutine.close, co)
    assert.is_false(ok)
    assert.matches("cannot close a normal coroutine", err)
    assert.same({ true, true, "result" }, { t:join() })
    assert.equal("dead", coroutine.status(co))
  end)

  it("leaves the task's body what the main program is in stock Lua", function()
    local t = neap.spawn(function()
      local co, main = coroutine.running()
      local inside
      coroutine.wrap(function() inside = coroutine.status(co) end)()
      return main, coroutine.isyieldable(), coroutine.status(co), inside, pcall(coroutine.yield)
    end)
    local ok, main, yieldable, status, inside, yielded, err = t:join()
    assert.is_true(ok)
    assert.same({ true, false, "running", "normal" }, { main, yieldable, status, inside })
    assert.is_false(yielded)
    assert.matches("attempt to yield from outside a coroutine", err)
  end)
end)

describe("where waiting is impossible", function()
  local function says(pattern, f, ...)
    local ok, err = pcall(f, ...)
    assert.is_false(ok)
    assert.matches(pattern, err)
  end
  local plain = "cannot wait %(sleep%) inside a C function that cannot be suspended"

  it("the error says so: table.sort, string.gsub", function()
    says(plain, table.sort, { 1, 2, 3 }, wait)
    says(plain, string.gsub, "abc", ".", wait)
    says(plain, coroutine.wrap(function() table.sort({ 1, 2, 3 }, wait) end))
    says(plain, table.sort, { 1, 2, 3 }, coroutine.wrap(wait))
    assert.matches(plain, (select(3, pcall(load, wait))))
  end)

  it("the error says so: __gc", function()
    local err
    setmetatable({}, { __gc = function() err = select(2, pcall(wait)) end })
    collectgarbage()
    collectgarbage()
    assert.matches("cannot wait", err)
  end)

  it("the error says so: a coroutine that is being closed", function()
    local err
    local co = coroutine.create(function()
      local _ <close> = on_close(function() err = select(2, pcall(wait)) end)
      coroutine.yield()
    end)
    coroutine.resume(co)
    assert.is_true(coroutine.close(co))
    assert.matches("cannot wait %(sleep%) in a coroutine that is being closed", err)
  end)

  it("the task goes on after the error", function()
    says(plain, table.sort, { 1, 2, 3 }, wait)
    assert.is_true(neap.sleep(0))
  end)

  it("calls that need not wait still work", function()
    local ch = neap.channel(3)
    table.sort({ 2, 1 }, function(a, b)
      neap.now()
      return a < b
    end)
    assert.is_true(ch ~= nil)
  end)

  it("a coroutine resumed by something else is told so", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/foreign.c", [[
      #include <lua.h>
      #include <lauxlib.h>
      static int run(lua_State *L) {
        lua_State *co = lua_newthread(L);
        int n;
        lua_pushvalue(L, 1);
        lua_xmove(L, co, 1);
        int status = lua_resume(co, L, 0, &n);
        lua_pushinteger(L, status);
        lua_xmove(co, L, status > LUA_YIELD ? 1 : n);
        return (status > LUA_YIELD ? 1 : n) + 1;
      }
      int luaopen_foreign(lua_State *L) { lua_pushcfunction(L, run); return 1; }]])
    local out, err, status = helper.run(
      ("%s %s -shared -fPIC $(pkg-config --cflags lua5.4) -o %s/foreign.so %s/foreign.c"):format(
      helper.cc, helper.cflags, dir, dir))
    assert.equal(0, status, out .. err)
    out, err, status = helper.run_script(([[
      package.cpath = %q .. "/?.so"
      local neap = require "neap"
      local run = require "foreign"
      print(run(function() neap.sleep(0) end))
      print(run(function() return coroutine.wrap(function() coroutine.yield(5) end)() end))
      print(run(function() return (pcall(coroutine.wrap(function() neap.sleep(0) end))) end))
      print(neap.sleep(0))]]):format(dir))
    assert.equal("", err)
    assert.matches(
      "^2\t.*cannot wait here %(sleep%): this coroutine was resumed by something other than " ..
      "neap's coroutine.resume\n0\t5\n0\tfalse\ntrue\n$", out)
    assert.equal(0, status)
  end)
end)

describe("a traceback", function()
  it("shows where an error came from, through wraps and waits", function()
    local _, err, status = helper.run_script [[
      local neap = require "neap"
      local function innermost() neap.sleep(0) error "oops" end
      local function middle() local f = coroutine.wrap(function() innermost() return 1 end) f() return 1 end
      local function outer() local f = coroutine.wrap(function() middle() return 1 end) f() return 1 end
      outer()
      return 1]]
    assert.equal(1, status)
    local _, n = err:gsub("stack traceback:", "")
    assert.equal(3, n)
    assert.matches("'innermost'.*'middle'.*'outer'.*in main chunk", err)
  end)

  it("does not show one of an error with the same text from before", function()
    local _, err = helper.run_script [[
      for _ = 1, 50 do pcall(coroutine.wrap(function() local function earlier() error("same", 0) end earlier() end)) end
      local function later() error("same", 0) end
      later()
      return 1]]
    assert.matches("'later'", err)
    assert.is_nil(err:find "earlier")
    assert.is_true(#err < 500, #err)
  end)

  it("does not grow with errors that are caught", function()
    local out = helper.run_script [[
      local neap = require "neap"
      for i = 1, 2000 do
        pcall(coroutine.wrap(function() error("same", 0) end))
        pcall(neap.timeout, 1, function() error("same", 0) end)
        pcall(neap.group, function(g) g:spawn(error, "same", 0) neap.sleep(1) end)
        neap.spawn(error, "same", 0):join()
      end
      collectgarbage() collectgarbage()
      print(collectgarbage "count" < 2000)]]
    assert.equal("true\n", out)
  end)

  it("of a waiting task goes through its coroutines, innermost first", function()
    local t = neap.spawn(function()
      coroutine.wrap(function()
        local function deep() neap.sleep(0.005) end
        deep()
      end)()
    end)
    neap.yield()
    local text = neap.traceback(t, "why")
    assert.matches("^why\nstack traceback:.-sleep'.-'deep'.-stack traceback:", text)
    t:join()
  end)
end)
