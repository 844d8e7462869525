-- Tasks: spawn and join, who gets an error, fairness, time, thread reuse, require that waits.

local helper = require "spec.support.helper"
local neap = require "neap"

local function pack(f, ...) return table.pack(f(...)) end

describe("spawn and join", function()
  it("gives the arguments to the task and its results to join, nils included", function()
    local t = neap.spawn(function(...) return select("#", ...), ... end, 1, nil, 3, nil)
    assert.same({ true, 4, 1, nil, 3, nil, n = 6 }, pack(t.join, t))
    assert.same({ true, 4, 1, nil, 3, nil, n = 6 }, pack(t.join, t))
  end)

  it("knows no result, one result and two hundred", function()
    local none, one = neap.spawn(function() end), neap.spawn(function() return nil end)
    local many = neap.spawn(function() return table.unpack({}, 1, 200) end)
    assert.same({ true, n = 1 }, pack(none.join, none))
    assert.same({ true, nil, n = 2 }, pack(one.join, one))
    assert.equal(201, select("#", many:join()))
  end)

  it("starts a task only when its maker waits, in the order of spawning", function()
    local order = {}
    local tasks = {}
    for i = 1, 5 do tasks[i] = neap.spawn(function() order[#order + 1] = i end) end
    assert.same({}, order)
    for _, t in ipairs(tasks) do t:join() end
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end)

  it("wakes every joiner", function()
    local t, got = neap.spawn(neap.sleep, 0.002), {}
    neap.group(function(g)
      for i = 1, 3 do g:spawn(function() got[i] = { t:join() } end) end
    end)
    assert.same({ { true, true }, { true, true }, { true, true } }, got)
  end)

  it("gives the failure triple past a deadline, and the task goes on", function()
    local done = false
    local t = neap.spawn(function()
      neap.sleep(0.02)
      done = true
      return "late"
    end)
    local ok, message, code = t:join { timeout = 0.002 }
    assert.is_nil(ok)
    assert.matches("timed out", message)
    assert.equal("ETIMEDOUT", code)
    assert.is_false(done)
    assert.same({ true, "late" }, { t:join() })
  end)

  it("refuses a task that joins itself", function()
    local t
    t = neap.spawn(function() return pcall(t.join, t) end)
    local _, ok, err = t:join()
    assert.is_false(ok)
    assert.matches("cannot join itself", err)
  end)

  it("checks its arguments at the caller's line", function()
    assert.error_matches(function() neap.spawn(1) end, "bad argument #1 to 'spawn'")
    local t <const> = neap.spawn(function() end)
    assert.error_matches(function() t:join { tiemout = 1 } end, "tiemout")
    assert.error_matches(function() t:join { timeout = "x" } end, "timeout")
    assert.error_matches(function() neap.sleep(-1) end, "bad argument #1 to 'sleep'")
    assert.error_matches(function() neap.sleep(0 / 0) end, "bad argument #1 to 'sleep'")
    t:join()
  end)

  it("shows a task in one line, with its name", function()
    local t = neap.spawn(neap.sleep, 0.01)
    t.name = "sleeper"
    neap.yield()
    assert.matches("^neap.task{%d+ sleeper waiting for sleep}$", tostring(t))
    assert.equal("waiting", t.state)
    assert.equal("sleeper", t.name)
    assert.error_matches(function() t.other = 1 end, "other")
    t:join()
    assert.matches("returned", tostring(t))
    assert.equal(t.id, neap.spawn(function() end).id - 1)
  end)
end)

describe("neap.current", function()
  local function deep(n) return n == 0 and neap.current() or (deep(n - 1)) end

  it("finds the task from any depth, and from its coroutines", function()
    local t
    t = neap.spawn(function()
      for n = 0, 40 do assert.equal(t, deep(n)) end
      assert.equal(t, deep(10000))
      assert.equal(t, coroutine.wrap(function() return coroutine.wrap(deep)(3) end)())
      neap.yield()
      return neap.current()
    end)
    assert.same({ true, t }, { t:join() })
  end)

  it("lists one that has not begun, waits, or runs", function()
    local waiting = neap.spawn(neap.sleep, 10)
    neap.yield()
    local fresh = neap.spawn(neap.yield, 1, 2, 3)
    local found = {}
    for _, row in ipairs(neap.tasks()) do found[row.task] = row.state end
    assert.same({ "waiting", "ready", "running" },
      { found[waiting], found[fresh], found[neap.current()] })
    waiting:cancel()
  end)
end)

describe("an error of a task", function()
  it("goes to those who join it, whatever its value, and to nobody else", function()
    local value = {}
    neap.group(function(g)
      local t = g:spawn(function()
        neap.yield()
        error(value)
      end)
      local ok, err = t:join()
      assert.is_false(ok)
      assert.equal(value, err)
      neap.sleep(0.001) -- the group was not told
    end)
    for _, odd in ipairs { 42, false } do
      local t = neap.spawn(function()
        neap.yield()
        error(odd)
      end)
      assert.same({ false, odd }, { t:join() })
    end
    local t = neap.spawn(function()
      neap.yield()
      error()
    end)
    assert.same({ false, nil, n = 2 }, pack(t.join, t))
  end)

  it("goes to all that are in join at that moment", function()
    local got = {}
    neap.group(function(g)
      local t = g:spawn(function()
        neap.sleep(0.002)
        error("x", 0)
      end)
      for i = 1, 2 do g:spawn(function() got[i] = { t:join() } end) end
    end)
    assert.same({ { false, "x" }, { false, "x" } }, got)
  end)

  it("goes to the group when nobody is in join, and join still tells it later", function()
    local t
    local ok, err = pcall(neap.group, function(g)
      t = g:spawn(error, "x", 0)
      neap.sleep(1)
    end)
    assert.same({ false, "x" }, { ok, err })
    assert.same({ false, "x" }, { t:join() })
  end)

  it("goes to the group when the joiner has given up", function()
    local ok, err = pcall(neap.group, function(g)
      local t = g:spawn(function()
        neap.sleep(0.005)
        error("x", 0)
      end)
      t:join { timeout = 0.001 }
      neap.sleep(1)
    end)
    assert.same({ false, "x" }, { ok, err })
  end)

  it("goes to a select that waits for the task", function()
    neap.group(function(g)
      local t = g:spawn(function()
        neap.yield()
        error("x", 0)
      end)
      assert.same({ 1, false, "x" }, { neap.select { t, timeout = 1 } })
    end)
  end)

  it("leaves nothing of a failed task behind when memory is short", function()
    local t = neap.spawn(function()
      local function deep(n) return n > 0 and deep(n - 1) + 1 or error("deep") end
      neap.yield()
      return deep(150000)
    end)
    local ok, err = t:join()
    assert.is_false(ok)
    assert.matches("deep", err)
    local overflow = neap.spawn(function()
      local function f() return 1 + f() end
      neap.yield()
      return f()
    end)
    ok, err = overflow:join()
    assert.is_false(ok)
    assert.matches("stack overflow", err)
  end)
end)

describe("the scheduler", function()
  it("runs ready tasks in the order in which they became ready", function()
    local order = {}
    neap.group(function(g)
      for i = 1, 4 do
        g:spawn(function()
          for round = 1, 3 do
            order[#order + 1] = round * 10 + i
            neap.yield()
          end
        end)
      end
    end)
    assert.same({ 11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34 }, order)
  end)

  it("lets others run beside a task that calls and calls without ever having to wait", function()
    local calls, turns = 0, 0
    local ch = neap.channel(1)
    neap.group(function(g)
      local busy = g:spawn(function()
        while true do
          ch:put(1)
          ch:get()
          calls = calls + 2
        end
      end)
      for _ = 1, 10 do
        neap.yield()
        turns = turns + 1
      end
      assert.is_true(calls < 10 * 1000, calls)
      busy:cancel()
    end)
    assert.equal(10, turns)
  end)

  it("ends the poll's share of tasks that only wake each other: timers are heard", function()
    local a, b = neap.channel(), neap.channel()
    local woken
    neap.group(function(g)
      local start = neap.now()
      local ping = g:spawn(function() while true do a:put(1) b:get() end end)
      local pong = g:spawn(function() while true do a:get() b:put(1) end end)
      neap.sleep(0.01)
      woken = neap.now() - start
      ping:cancel()
      pong:cancel()
    end)
    assert.is_true(woken < 0.2 * helper.slow, woken)
  end)

  it("uses the threads of ended tasks again", function()
    local function round(n)
      for _ = 1, n do neap.spawn(function() neap.yield() end) end
      local function going()
        local stats = neap.stats()
        return stats.tasks > 1 + #neap.tasks() - stats.tasks and stats.ready > 0
      end
      while going() do neap.yield() end
    end
    round(10)
    collectgarbage()
    collectgarbage()
    local before, pooled = collectgarbage "count", neap.stats().threads_pooled
    for _ = 1, 100000 // helper.slow do neap.spawn(function() end):join() end
    collectgarbage()
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 200, collectgarbage "count" - before)
    assert.is_true(neap.stats().threads_pooled <= pooled + 2)
  end)

  it("lets threads go that were needed once", function()
    local function crowd(n)
      neap.group(function(g)
        for _ = 1, n do g:spawn(neap.yield) end
      end)
      collectgarbage()
      collectgarbage()
    end
    crowd(10)
    local before = collectgarbage "count"
    crowd(10000)
    local kept = collectgarbage "count" - before
    assert.is_true(kept < 3000, kept) -- 1024 of 10 000, about 1 KiB each
    crowd(10000)
    assert.is_true(collectgarbage "count" - before < 3000)
  end)

  it("does not give a task the hook of the one before it on its thread", function()
    neap.spawn(function() debug.sethook(function() end, "", 1000) end):join()
    local hook = "unset"
    neap.spawn(function() hook = debug.gethook() end):join()
    assert.is_nil(hook)
  end)

  it("holds 10 000 sleeping tasks and ends them", function()
    local ended = 0
    local memory = collectgarbage "count"
    neap.group(function(g)
      for _ = 1, 10000 do
        g:spawn(function()
          neap.sleep(0.05)
          ended = ended + 1
        end)
      end
      neap.yield()
      collectgarbage()
      collectgarbage()
      memory = (collectgarbage "count" - memory) * 1024 / 10000
    end)
    assert.equal(10000, ended)
    assert.is_true(memory < 2048, memory)
  end)

  it("lists tasks with what they wait for and where", function()
    neap.group(function(g)
      local e = neap.event()
      local t = g:spawn(function() e:wait() end)
      t.name = "waiter"
      neap.yield()
      local found
      for _, entry in ipairs(neap.tasks()) do
        if entry.name == "waiter" then found = entry end
      end
      assert.equal(t, found.task)
      assert.equal("waiting", found.state)
      assert.matches("event", found.waiting)
      assert.matches("task_spec.lua:%d+", found.where)
      assert.matches("in method 'wait'", neap.traceback(t))
      e:set()
    end)
  end)
end)

describe("time", function()
  it("never wakes early, and in the order of the instants", function()
    local order, start = {}, neap.now()
    neap.group(function(g)
      for _, ms in ipairs { 9, 3, 7, 1, 5 } do
        g:spawn(function()
          local pause = ms * helper.slow / 1000 -- apart by more than starting the tasks takes
          assert.is_true(neap.sleep(pause))
          assert.is_true(neap.now() - start >= pause)
          order[#order + 1] = ms
        end)
      end
    end)
    assert.same({ 1, 3, 5, 7, 9 }, order)
  end)

  it("wakes those of one instant in the order in which they slept", function()
    local order = {}
    local core = require "neap.runtime.core"
    core.virtual_clock(true)
    local _ <close> = setmetatable({}, { __close = function() core.virtual_clock(false) end })
    neap.group(function(g)
      for i = 1, 50 do
        g:spawn(function()
          neap.sleep(1)
          order[#order + 1] = i
        end)
      end
    end)
    for i = 1, 50 do assert.equal(i, order[i]) end
  end)

  it("sleeps for a turn of the loop when asked for nothing", function()
    local other = false
    neap.spawn(function() other = true end)
    assert.is_true(neap.sleep(0))
    assert.is_true(other)
  end)

  it("keeps a million timers in bounded time", function()
    local n = 1000000 // (helper.slow * helper.slow)
    local out, err, status = helper.run_script(([[
      local neap = require "neap"
      require("neap.runtime.core").virtual_clock(true)
      local n, ended, last = %d, 0, 0
      local start, first = os.clock(), neap.now()
      neap.group(function(g)
        for i = 1, n do
          g:spawn(function(s)
            neap.sleep(s)
            assert(neap.now() >= last, "out of order")
            last = neap.now()
            ended = ended + 1
          end, (i * 7919 %% n) / 10)
        end
      end)
      assert(ended == n and last - first >= (n - 1) / 10 - 1e-6) -- sums of floats
      print(os.clock() - start < 30)]]):format(n), { limit = 100 })
    assert.equal("", err)
    assert.equal("true\n", out)
    assert.equal(0, status)
  end)

  it("does not let a deadline that moves later or is cleared wake anybody", function()
    local e, woken = neap.event(), 0
    neap.group(function(g)
      local t = g:spawn(function()
        for i = 1, 20 do
          local ok = e:wait { timeout = 0.01 * i }
          if ok then e:clear() else woken = woken + 1 end
        end
      end)
      for _ = 1, 20 do
        neap.yield()
        e:set()
        neap.yield()
      end
      t:join()
    end)
    assert.equal(0, woken)
  end)
end)

describe("require", function()
  local function modules(files)
    local dir = helper.tmpdir()
    for name, text in pairs(files) do helper.write_file(dir .. "/" .. name .. ".lua", text) end
    return dir
  end

  local function run(files, main)
    local dir = modules(files)
    return helper.run_script(("package.path = %q .. '/?.lua'\nneap = require 'neap'\n"):format(dir)
      .. main)
  end

  it("lets a module wait while it loads, and a second task waits for the same module", function()
    local out, err = run({ slow = "loads = (loads or 0) + 1 neap.sleep(0.01) return { ... }" }, [[
      neap.group(function(g)
        for i = 1, 3 do g:spawn(function() local m = require "slow" same = same or m print(m == same, m[1]) end) end
      end)
      print(loads, select("#", require "slow"), package.loaded.slow == same)]])
    assert.equal("", err)
    assert.equal("true\tslow\ntrue\tslow\ntrue\tslow\n1\t1\ttrue\n", out)
  end)

  it("lets modules that wait require others that wait, in coroutines too", function()
    local out, err = run({
      a = "neap.sleep(0.001) local b = require 'b' return 'a' .. b",
      b = [[local f = coroutine.wrap(function() neap.sleep(0.001) coroutine.yield 'b' end)
        return f()]],
    }, "print(coroutine.wrap(function() return (require 'a') end)())")
    assert.equal("", err)
    assert.equal("ab\n", out)
  end)

  it("gives the searcher's data as second result when it loads", function()
    local out = run({ m = "return 1" }, [[print(select("#", require "m"), select("#", require "m"))
      package.preload.p = function(...) return select("#", ...) end print(require "p")]])
    assert.equal("2\t1\n2\t:preload:\n", out)
  end)

  it("lets each waiting task try itself when loading fails", function()
    local out, err = run({ bad = "tries = (tries or 0) + 1 neap.sleep(0.001) error('no ' .. tries, 0)" }, [[
      neap.group(function(g)
        for i = 1, 2 do g:spawn(function() print(pcall(require, "bad")) end) end
      end)
      print(package.loaded.bad)]])
    assert.equal("", err)
    assert.equal("false\tno 1\nfalse\tno 2\nnil\n", out)
  end)

  it("names a circle", function()
    local files = { a = "return require 'b'", b = "return require 'c'", c = "return require 'a'" }
    local out = run(files, "print(pcall(require, 'a'))")
    assert.matches("module 'a' is required in a circle: a %-> b %-> c %-> a", out)
    assert.matches("c.lua:1:", out)
  end)

  it("names a circle of two tasks", function()
    local out = run({
      a = "neap.sleep(0.001) return require 'b'", b = "neap.sleep(0.002) return require 'a'",
    }, [[neap.group(function(g)
        g:spawn(function() print(pcall(require, "a")) end)
        g:spawn(function() print(pcall(require, "b")) end)
      end)]])
    assert.matches("in a circle: a %-> b %-> a", out)
  end)

  it("is over when the task that loads is cancelled", function()
    local out, err = run({ slow = "if not again then again = true neap.sleep(10) end return 'second'" }, [[
      neap.group(function(g)
        local first = g:spawn(require, "slow")
        local second = g:spawn(function() print((require "slow")) end)
        neap.yield()
        first:cancel()
      end)]])
    assert.equal("", err)
    assert.equal("second\n", out)
  end)

  it("can be cancelled, and times out, while it waits for another task", function()
    local out = run({ slow = "neap.sleep(0.05) return 1" }, [[
      neap.group(function(g)
        g:spawn(require, "slow")
        neap.yield()
        print(pcall(function() local _ <close> = neap.deadline(0.001) require "slow" end))
        local t = g:spawn(require, "slow")
        neap.yield()
        t:cancel "why"
        print(t:join())
        print((require "slow"))
      end)]])
    assert.matches("^false\trequire 'slow': timed out\nfalse\tcancelled\twhy\n1\n", out)
  end)

  it("works where nothing can wait", function()
    local out, err = run({ m = "return 'm'", w = "neap.sleep(0) return 'w'" }, [[
      table.sort({ 1, 2 }, function() seen = require "m" return false end)
      print(seen)
      print(pcall(table.sort, { 1, 2 }, function() return require "w" end))]])
    assert.equal("", err)
    assert.matches("^m\nfalse\t.*cannot wait %(sleep%) inside a C function", out)
  end)
end)

describe("a function of C in a traceback", function()
  it("has its public name", function()
    local _, err = helper.run_script [[
      local neap = require "neap"
      local net = require "neap.net"
      local sleep = neap.sleep
      net.pair():close()
      sleep(-1)]]
    assert.matches("bad argument #1 to 'sleep' %(", err)
    assert.matches("in function 'neap.sleep'", err)
    assert.is_nil(err:find("%.core%."), err)
  end)
end)
