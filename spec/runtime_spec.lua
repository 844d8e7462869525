-- How a program ends: statuses, reports, os.exit, on_exit, deadlocks; the virtual clock; the
-- watchdog.

local helper = require "spec.support.helper"

-- Output without the paths of temporary files.
local function run(text, opts)
  local out, err, status = helper.run_script(text, opts)
  return out:gsub("/tmp/neap%.%w+/", ""), err:gsub("/tmp/neap%.%w+/", ""), status
end

describe("the end of a program", function()
  it("comes when the main group has ended, not with the main task", function()
    local out, err, status = run [[
      local neap = require "neap"
      neap.spawn(function() neap.sleep(0.01) print "child" end)
      print "main" ]]
    assert.same({ "main\nchild\n", "", 0 }, { out, err, status })
  end)

  it("with an error has status 1 and stock Lua's report; the rest is cancelled first", function()
    local out, err, status = run [[
      local neap = require "neap"
      neap.spawn(function()
        local x <close> = setmetatable({}, { __close = function() neap.sleep(0.005) print "closed" end })
        neap.sleep(1000)
      end)
      neap.yield()
      local function broken() error "oops" end
      broken()
      return 1]]
    assert.equal("closed\n", out)
    assert.equal(([[
neap: script.lua:7: oops
stack traceback:
>[C]: in function 'error'
>script.lua:7: in local 'broken'
>script.lua:8: in main chunk
>[C]: in ?
]]):gsub("\n>", "\n\t"), err)
    assert.equal(1, status)
  end)

  it("by an error of a child is as if main had failed", function()
    local out, err, status = run [[
      local neap = require "neap"
      neap.spawn(function() error({ code = 1 }) end)
      neap.sleep(1000)]]
    assert.equal("", out)
    assert.matches("^neap: %(error object is a table value%)\n", err)
    assert.equal(1, status)
  end)

  it("waits until what was written has gone out", function()
    local out, err, status = run [[
      local neap = require "neap"
      local net = require "neap.net"
      local a, b = net.pair "unix"
      kept = a -- not closed, not collected
      neap.spawn(function()
        neap.sleep(0.01)
        print(#b:read(1000000))
      end)
      neap.spawn(function() a:write(("x"):rep(200000)) a:write(("x"):rep(800000)) end)]]
    assert.same({ "1000000\n", "", 0 }, { out, err, status })
  end)
end)

describe("os.exit", function()
  it("gives its status, cancels the rest, and nothing after it runs", function()
    for arg, want in pairs { ["7"] = 7, ["true"] = 0, ["false"] = 1, [""] = 0, ["256 + 3"] = 3 } do
      local out, err, status = run(([[
        local neap = require "neap"
        neap.spawn(function()
          local x <close> = setmetatable({}, { __close = function() neap.sleep(0.002) print "other closed" end })
          neap.sleep(1000)
        end)
        neap.yield()
        local x <close> = setmetatable({}, { __close = function() print "closed" end })
        io.write "out "
        print(pcall(coroutine.wrap(function() os.exit(%s) end)))
        print "not here"]]):format(arg))
      assert.same({ "out closed\nother closed\n", "", want }, { out, err, status })
    end
  end)

  it("from a child ends the program, groups included", function()
    local out, err, status = run [[
      local neap = require "neap"
      neap.group(function(g)
        g:spawn(function() neap.sleep(0.001) os.exit(5) end)
        neap.sleep(1000)
      end)
      print "not here"]]
    assert.same({ "", "", 5 }, { out, err, status })
  end)

  it("sends what was written first, and lingers", function()
    local text = [[
      local neap = require "neap"
      local net = require "neap.net"
      local l = net.listen "127.0.0.1:0"
      print(l.address)
      io.stdout:flush()
      local c = l:accept()
      c:write(("x"):rep(3000000))
      os.exit(4)]]
    local p = helper.start_script(text)
    local port = p:expect "tcp://127.0.0.1:(%d+)"
    local n = helper.run(("nc 127.0.0.1 %s < /dev/null | wc -c"):format(port))
    assert.equal("3000000", n:match "%d+")
    assert.equal(4, p:wait())
  end)

  it("where nothing can wait ends the task as well", function()
    local out, err, status = run [[
      table.sort({ 1, 2 }, function() os.exit(6) end)
      print "not here"]]
    assert.same({ "", "", 6 }, { out, err, status })
  end)

  it("leaves finalizers out unless told to close, as stock", function()
    local text = [[setmetatable({}, { __gc = function() print "collected" end }) os.exit(0%s)]]
    assert.equal("", (run(text:format "")))
    assert.equal("collected\n", (run(text:format ", true")))
  end)

  it("keeps its status when something fails on the way out", function()
    local _, err, status = run [[
      local neap = require "neap"
      neap.spawn(function()
        local x <close> = setmetatable({}, { __close = function() error "while closing" end })
        neap.sleep(1000)
      end)
      neap.yield()
      os.exit(9)]]
    assert.matches("while closing", err)
    assert.equal(9, status)
  end)
end)

describe("on_exit", function()
  it("runs last registered first, each in a task, whatever the end", function()
    for ending, want in pairs { ["return"] = 0, ["error 'x'"] = 1, ["os.exit(3)"] = 3 } do
      local out, _, status = run(([[
        local neap = require "neap"
        neap.on_exit(function() print "first" end)
        neap.on_exit(function() neap.sleep(0.001) print "second" end)
        neap.on_exit(function() neap.spawn(function() neap.sleep(0.001) print "third" end) end)
        %s]]):format(ending))
      assert.same({ "third\nsecond\nfirst\n", want }, { out, status })
    end
  end)

  it("goes on after one that fails, whose report is not lost", function()
    local out, err, status = run [[
      local neap = require "neap"
      neap.on_exit(function() print "first" end)
      neap.on_exit(function() error("in on_exit", 0) end)
      error("main", 0)]]
    assert.equal("first\n", out)
    assert.matches("neap: main\n.*neap: in on_exit\n", err)
    assert.equal(1, status)
  end)
end)

describe("a deadlock", function()
  it("fails at once, listing each task with what it waits for and where", function()
    local out, err, status = run([[
      local neap = require "neap"
      local ch, e = neap.channel(), neap.event()
      local a = neap.spawn(function()
        ch:get()
      end)
      a.name = "reader"
      neap.group(function(g)
        g:spawn(function()
          coroutine.wrap(function() e:wait() end)()
        end)
        a:join()
      end)]], { limit = 10 })
    assert.equal("", out)
    assert.matches("^neap: deadlock: every task waits, and nothing outside can wake any of them\n",
      err)
    assert.matches("\n\ttask 1 main: join task 2 at script.lua:11", err)
    assert.matches("\n\ttask 2 reader: [^\n]*channel[^\n]* at script.lua:4", err)
    assert.matches("\n\ttask 3: [^\n]*event[^\n]* at script.lua:9", err)
    assert.equal(1, status)
  end)

  it("lets <close> handlers and on_exit run", function()
    local out, _, status = run [[
      local neap = require "neap"
      neap.on_exit(function() neap.sleep(0.001) print "exit" end)
      local x <close> = setmetatable({}, { __close = function() neap.sleep(0.001) print "closed" end })
      neap.channel():get()]]
    assert.same({ "closed\nexit\n", 1 }, { out, status })
  end)

  it("is none while a timer, a connection or a lookup may come", function()
    local out, err, status = run [[
      local neap = require "neap"
      local e = neap.event()
      neap.spawn(function() neap.sleep(0.02) e:set() end)
      print(e:wait())
      local _, m = e:clear(), neap.timeout(0.01, e.wait, e)
      print(m)]]
    assert.equal("", err)
    assert.matches("^true\nnil\n", out)
    assert.equal(0, status)
  end)
end)

describe("the virtual clock", function()
  it("looks outside though a task sleeps for 0 again and again", function()
    local out, err = helper.run_script [[
      local neap, net = require "neap", require "neap.net"
      require("neap.runtime.core").virtual_clock(true)
      local l <close> = assert(net.listen "tcp://127.0.0.1:0")
      local done = false
      neap.spawn(function()
        local c <close> = l:accept()
        done = c:read()
      end)
      neap.spawn(function()
        local c <close> = net.connect(l.address)
        c:write "came\n"
      end)
      while not done do neap.sleep(0) end
      print(done)
    ]]
    assert.equal("", err)
    assert.equal("came\n", out)
  end)

  it("sleeps a day at once", function()
    local out, err = run([[
      local neap = require "neap"
      require("neap.runtime.core").virtual_clock(true)
      local start, real = neap.now(), os.time()
      print(neap.sleep(24 * 3600))
      print(neap.now() - start, os.time() - real < 5)]], { limit = 10 })
    assert.same({ "true\n86400.0\ttrue\n", "" }, { out, err })
  end)

  it("jumps only when no task is ready", function()
    local out, err = run [[
      local neap = require "neap"
      require("neap.runtime.core").virtual_clock(true)
      local t = neap.spawn(function() return neap.sleep(1000) end)
      for i = 1, 100 do neap.yield() end
      print(t.state)
      t:join()]]
    assert.same({ "waiting\n", "" }, { out, err })
  end)

  it("stands while something outside may come, and names who waits for it", function()
    local script = helper.write_file(helper.tmpdir() .. "/script.lua", [[
      warn "@on"
      local neap = require "neap"
      local net = require "neap.net"
      require("neap.runtime.core").virtual_clock(true)
      local l = net.listen "127.0.0.1:0"
      local t = neap.spawn(function()
        l:accept()
      end)
      t.name = "acceptor"
      local slept
      neap.spawn(function() slept = neap.sleep(3600) end)
      neap.stdin:read()
      print(slept)
      t:cancel()
      l:close()
      neap.sleep(7200)
      print(slept)]])
    local out, err, status = helper.run(
      ("(sleep 1.5; echo) | %s %s"):format(helper.quote(helper.neap), script))
    assert.equal("nil\ntrue\n", out)
    assert.matches(
      "Lua warning: neap: the virtual clock stands, as something outside may still come\n" ..
      "\ttask 1 main: read [^\n]* at [^\n]*script.lua:12\n" ..
      "\ttask 2 acceptor: accept [^\n]* at [^\n]*script.lua:7\n", err)
    local _, n = err:gsub("the virtual clock stands", "")
    assert.equal(1, n)
    assert.equal(0, status)
  end)

  it("does not wait for lingerers", function()
    local out, err, status = run([[
      local neap = require "neap"
      local net = require "neap.net"
      require("neap.runtime.core").virtual_clock(true)
      local l = net.listen "127.0.0.1:0"
      local a = net.connect(l.address)
      local b = l:accept()
      l:close()
      a:write "never read"
      a:close() -- lingers: b does not end
      print(neap.sleep(3600), b ~= nil)]], { limit = 20 })
    assert.same({ "true\ttrue\n", "", 0 }, { out, err, status })
  end)
end)

describe("the watchdog", function()
  it("names the line of a task that keeps the loop, with the traceback, once per slice", function()
    local out, err, status = run [[
      warn "@on"
      local neap = require "neap"
      print(neap.watchdog(0.04))
      local t = neap.spawn(function()
        local function spin(s)
          local limit = os.clock() + s
          while os.clock() < limit do end
        end
        coroutine.wrap(function()
          spin(0.3)
        end)()
      end)
      t.name = "busy"
      t:join()
      neap.sleep(0.02)
      print(neap.watchdog(false))]]
    assert.equal("true\ntrue\n", out)
    assert.matches(
      "^Lua warning: neap: task 2 %(busy%) has kept the loop for 0%.%d+ s at script.lua:[78]\n" ..
      "stack traceback:\n.-in upvalue 'spin'\n", (err:gsub("in local 'spin'", "in upvalue 'spin'")))
    local _, n = err:gsub("has kept", "")
    assert.equal(1, n)
    assert.equal(0, status)
  end)

  it("says nothing of tasks that give way, and of an idle loop", function()
    local out, err = run(([[
      warn "@on"
      local neap = require "neap"
      neap.watchdog(%g)
      local limit = neap.now() + 0.3
      while neap.now() < limit do neap.yield() end
      neap.sleep(0.3)
      print "fine"]]):format(0.05 * helper.slow))
    assert.same({ "fine\n", "" }, { out, err })
  end)

  it("tells of each slice anew, and leaves a script's own hook in place", function()
    local out, err = run [[
      warn "@on"
      local neap = require "neap"
      neap.watchdog(0.02)
      local function hook() end
      debug.sethook(hook, "", 100000)
      for i = 1, 3 do
        local limit = os.clock() + 0.1
        while os.clock() < limit do end
        neap.sleep(0.001)
      end
      local f, mask, count = debug.gethook()
      print(f == hook, mask, count)]]
    assert.equal("true\t\t100000\n", out)
    local _, n = err:gsub("has kept the loop", "")
    assert.equal(3, n)
  end)

  it("tells of a blocking call when it is over", function()
    local _, err = run [[
      warn "@on"
      local neap = require "neap"
      neap.watchdog(0.02)
      neap.yield()
      os.execute "sleep 0.2"
      local x = 1
      neap.sleep(0)]]
    assert.matches("has kept the loop for 0%.[1-9]%d* s at script.lua:[56]", err)
  end)

  it("wants seconds, and a host that opted in", function()
    local out = run [[print(pcall(require("neap").watchdog, -1)) print(pcall(require("neap").watchdog, "x"))
      print(require("neap").watchdog(nil))]]
    assert.matches("^false\t.*#1 to.*\nfalse\t.*#1 to.*\ntrue\n$", out)
  end)
end)

describe("the collector", function()
  local helper_script = [[
    local neap = require "neap"
    local function cycles(n)
      for _ = 1, n do
        collectgarbage()
        neap.sleep(0)
      end
    end
    %s]]

  -- The hard build's collector never rests.
  if helper.hard then return end

  -- How many cycles there are while so many MiB are made.
  local count = [[
    local function cycles_in(mib)
      local n, on = 0, true
      local function watch()
        setmetatable({}, { __gc = function() n = n + 1 if on then watch() end end })
      end
      watch()
      for i = 1, mib * 32 do -- 32 KiB each: a turn makes less than is alive
        local _ = ("x"):rep(1 << 14) .. i
        neap.sleep(0)
      end
      on = false
      return n
    end
    ]]

  it("leaves a small heap in peace for 4 MiB", function()
    local out, err = run(helper_script:format(count .. "cycles(3) print(cycles_in(128))"))
    assert.equal("", err)
    local n = tonumber(out)
    assert.is_true(n >= 8 and n <= 40, out)
  end)

  it("stops for no longer than a step takes", function()
    local out, err = run(helper_script:format [[
      local freed = {}
      cycles(3)
      for i = 1, 160000 do
        local before = collectgarbage "count"
        local _ = { i, { i }, tostring(i) .. "." }
        freed[i // 40000] = math.max(freed[i // 40000] or 0, before - collectgarbage "count")
        if i % 64 == 0 then neap.sleep(0) end
      end
      -- KiB that one step freed at most, of the 4 MiB of a cycle, since Lua's table of strings has
      -- its size: to grow it is to make so many bytes at once.
      print(math.max(freed[2], freed[3]) // 1)]])
    assert.equal("", err)
    assert.is_true(tonumber(out) < 1024, out)
  end)

  it("collects a large heap when as much was made", function()
    local out, err = run(helper_script:format(count .. [[
      local big = {}
      for i = 1, 32 do big[i] = ("x"):rep(1 << 20) .. i end
      cycles(3)
      print(cycles_in(160), #big)]]))
    assert.equal("", err)
    local n = tonumber(out:match "^%d+")
    assert.is_true(n >= 2 and n <= 10, out)
  end)

  it("does not let the heap grow where everything has a finalizer", function()
    local out, err = run(helper_script:format [[
      cycles(3)
      local most, meta = 0, { __gc = function() end }
      for i = 1, 1600 do
        for _ = 1, 16 do setmetatable({ ("x"):rep(4096) .. i }, meta) end
        neap.sleep(0)
        most = math.max(most, collectgarbage "count")
      end
      print(most // 1024)]]) -- 100 MiB in all
    assert.equal("", err)
    assert.is_true(tonumber(out) < 24, out)
  end)

  it("keeps the pause that a script sets", function()
    local out, err = run(helper_script:format [[
      cycles(1)
      collectgarbage("setpause", 152)
      cycles(3)
      print(collectgarbage("setpause", 152))]])
    assert.same({ "152\n", "" }, { out, err })
  end)
end)
