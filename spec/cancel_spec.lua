-- Cancellation: its three stages, at every kind of wait, however deep the coroutine that waits.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

local function pack(f, ...) return table.pack(f(...)) end

local function on_close(f) return setmetatable({}, { __close = function(_, err) f(err) end }) end

local function both(a, b)
  return on_close(function()
    a:abort()
    b:abort()
  end)
end

-- A pair whose output buffers are full, so that a write or flush waits.
local function full_pair()
  local a, b = net.pair "unix"
  local big = ("x"):rep(4 << 20)
  return a, b, big
end

-- name -> function(resource...) that waits for ever, and what makes and closes its resources
local waits = {
  sleep = function() return function() neap.sleep(1000) end end,
  join = function(g)
    local other = g:spawn(neap.sleep, 1000)
    return function() other:join() end, function() other:cancel() end
  end,
  ["get"] = function()
    local ch = neap.channel()
    return function() ch:get() end
  end,
  ["put"] = function()
    local ch = neap.channel()
    return function() ch:put(1) end
  end,
  event = function()
    local e = neap.event()
    return function() e:wait() end
  end,
  semaphore = function()
    local s = neap.semaphore(0)
    return function() s:acquire() end
  end,
  select = function()
    local a, b = neap.channel(), neap.event()
    return function() neap.select { a, { a, "put", 1 }, b } end
  end,
  group = function()
    return function() neap.group(function(g) g:spawn(neap.sleep, 1000) end) end
  end,
  yield = function() return function() while true do neap.yield() end end end,
  read = function()
    local a, b = net.pair "unix"
    return function() a:read() end, function()
      a:close()
      b:close()
    end
  end,
  write = function()
    local a, b, big = full_pair()
    return function() a:write(big) end, function()
      a:close()
      b:close()
    end
  end,
  flush = function()
    local a, b, big = full_pair()
    return function()
      a:write(big:sub(1, 200000), big:sub(1, 40000))
      a:flush()
      a:write(big)
    end, function()
      a:abort()
      b:close()
    end
  end,
  accept = function()
    local l = assert(net.listen "127.0.0.1:0")
    return function() l:accept() end, function() l:close() end
  end,
  datagram = function()
    local d = assert(net.datagram "udp://127.0.0.1:0")
    return function() d:recv() end, function() d:close() end
  end,
  every = function() return function() for _ in neap.every(1000) do end end end,
  all = function() return function() neap.all(function() neap.sleep(1000) end) end end,
}

local names = {}
for name in pairs(waits) do names[#names + 1] = name end
table.sort(names)

describe("cancellation", function()
  for _, name in ipairs(names) do
    for depth = 0, 2 do
      it(("raises once at %s, %d coroutines deep, unwinds"):format(name, depth), function()
        neap.group(function(g)
          local wait, finish = waits[name](g)
          local closed, caught = {}, nil
          local function body(level)
            local _ <close> = on_close(function(err) closed[#closed + 1] = { level, err } end)
            if level < depth then return coroutine.wrap(body)(level + 1) end
            local ok
            ok, caught = pcall(wait)
            assert(not ok)
            error(caught, 0)
          end
          local t = g:spawn(body, 0)
          for _ = 1, 5 do neap.yield() end
          assert.is_true(t:cancel "enough")
          assert.is_false(t:cancel "again")
          assert.same({ false, neap.cancelled, "enough", n = 3 }, pack(t.join, t))
          assert.equal(neap.cancelled, caught)
          assert.equal(depth + 1, #closed)
          for i, c in ipairs(closed) do
            assert.equal(depth + 1 - i, c[1])
            assert.equal(neap.cancelled, c[2])
          end
          if finish then finish() end
        end)
      end)
    end
  end

  it("does not spoil what was waited for: a cancelled read did not happen", function()
    local a, b = net.pair "unix"
    local _ <close> = both(a, b)
    local t = neap.spawn(function() a:read(10) end)
    b:write "12345"
    neap.sleep(0.005)
    t:cancel()
    t:join()
    b:write "67890"
    assert.equal("1234567890", a:read(10))
  end)

  it("leaves every queue: the next wake-up goes to the next waiter", function()
    local ch, e, s = neap.channel(), neap.event(), neap.semaphore(0)
    for _, wait in ipairs { function() ch:get() end, function() e:wait() end,
      function() s:acquire() end,
      function() neap.select { ch, e, s } end } do
      local t = neap.spawn(wait)
      neap.yield()
      t:cancel()
      t:join()
    end
    neap.group(function(g)
      g:spawn(function() assert.equal(5, ch:get()) end)
      neap.yield()
      assert.is_truthy(ch:put(5, { timeout = 1 }))
    end)
    s:release()
    assert.equal(1, s:available())
    s:acquire()
  end)

  it("breaks the stream whose waiting write it ended", function()
    local a, b, big = full_pair()
    local _ <close> = both(a, b)
    local t = neap.spawn(function() a:write(big) end)
    neap.sleep(0.002)
    t:cancel()
    t:join()
    local ok, message = a:write "more"
    assert.is_nil(ok)
    assert.is_string(message)
    b:abort()
  end)

  it("comes with the next wait of a task that does not wait now", function()
    local reached = false
    local t
    t = neap.spawn(function()
      t:cancel()
      reached = true
      neap.sleep(0)
      reached = "too far"
    end)
    assert.same({ false, neap.cancelled }, { t:join() })
    assert.is_true(reached)
  end)

  it("comes with the first wait of a task that has not begun", function()
    local begun, gone_on = false, false
    local t = neap.spawn(function()
      begun = true
      neap.sleep(0)
      gone_on = true
    end)
    t:cancel()
    t:join()
    assert.is_true(begun)
    assert.is_false(gone_on)
  end)

  it("does not take back what a wake-up already gave", function()
    local ch, got = neap.channel(1), nil
    local t = neap.spawn(function()
      got = ch:get()
      neap.sleep(1000)
    end)
    neap.yield()
    ch:put "value"
    t:cancel()
    assert.is_false((t:join()))
    assert.equal("value", got)
  end)

  it("reaches a task whose calls never have to wait", function()
    local ch = neap.channel(1)
    local t = neap.spawn(function() while true do ch:put(1) ch:get() end end)
    neap.yield()
    t:cancel "stop"
    assert.same({ false, neap.cancelled, "stop" }, { t:join { timeout = 5 } })
  end)

  it("is no error for the group", function()
    local result = neap.group(function(g)
      g:spawn(neap.sleep, 1000):cancel()
      return "fine"
    end)
    assert.equal("fine", result)
  end)

  it("is nothing to a task that has ended", function()
    local t = neap.spawn(function() return 1 end)
    t:join()
    assert.is_false(t:cancel())
    assert.same({ true, 1 }, { t:join() })
  end)

  it("may be caught: the task goes on and returns", function()
    local t = neap.spawn(function()
      pcall(neap.sleep, 1000)
      return "done"
    end)
    neap.yield()
    t:cancel()
    assert.same({ true, "done" }, { t:join() })
  end)

  it("prints as what it is", function()
    assert.equal("cancelled", tostring(neap.cancelled))
    assert.equal("ECANCELED", neap.cancelled.code)
  end)
end)

describe("grace", function()
  it("lets waits work in <close> handlers, under one second as their deadline", function()
    local said, start, ended_wait
    local t = neap.spawn(function()
      local _ <close> = on_close(function()
        said = neap.sleep(0.001)
        start = neap.now()
        local ok, err = pcall(neap.sleep, 1000) -- too long: ended by the end of grace
        ended_wait = { ok, err, neap.now() - start }
      end)
      neap.sleep(1000)
    end)
    neap.yield()
    t:cancel()
    t:join()
    assert.is_true(said)
    assert.same({ false, neap.cancelled }, { ended_wait[1], ended_wait[2] })
    assert.is_true(ended_wait[3] > 0.5 and ended_wait[3] < 1.5 * helper.slow, ended_wait[3])
  end)

  it("lets a connection say goodbye", function()
    local a, b = net.pair "unix"
    local _ <close> = both(a, b)
    local t = neap.spawn(function()
      local _ <close> = on_close(function()
        a:write "bye\n"
        a:flush()
      end)
      a:read()
    end)
    neap.yield()
    t:cancel()
    assert.equal("bye", b:read { timeout = 5 })
    t:join()
  end)

  it("ends: then every wait raises, giving way; who swallows 100 is closed from outside", function()
    local out, err, status = helper.run_script([[
      warn "@on"
      local neap = require "neap"
      local n, turns = 0, 0
      local t = neap.spawn(function()
        local x <close> = setmetatable({}, { __close = function() print("closed", n, pcall(neap.sleep, 1)) end })
        coroutine.wrap(function()
          local y <close> = setmetatable({}, { __close = function() print("inner first") end })
          while true do
            pcall(neap.sleep, 0.3)
            n = n + 1
          end
        end)()
      end)
      t.name = "deaf"
      neap.yield()
      local other = neap.spawn(function() while t.state ~= "cancelled" do neap.yield() turns = turns + 1 end end)
      t:cancel "why"
      print(t:join())
      other:join()
      print(turns >= 100)]])
    assert.matches(
      "^inner first\nclosed\t10[0-9]\tfalse\t.-cannot wait %(sleep%) "
        .. "in a coroutine that is being closed\n", out)
    assert.matches("\nfalse\tcancelled\twhy\ntrue\n$", out)
    assert.matches(
      "^Lua warning: neap: task %d+ %(deaf%) ignored its cancellation "
        .. "and was closed at script.lua:9\n$",
      (err:gsub("/%S*/", "")))
    assert.equal(0, status)
  end)

  it("closes a task from outside whose calls never have to wait", function()
    local out, err = helper.run_script([[
      warn "@on"
      local neap = require "neap"
      require("neap.runtime.core").virtual_clock(true)
      local ch = neap.channel(1)
      local t = neap.spawn(function()
        pcall(neap.sleep, 1000)
        pcall(neap.sleep, 1000)
        while true do pcall(ch.put, ch, 1) pcall(ch.get, ch) end
      end)
      neap.yield()
      t:cancel()
      print(t:join())]])
    assert.equal("false\tcancelled\n", out)
    assert.matches("ignored its cancellation", err)
  end)

  it("gives a group's tasks to the next one out when its opener is closed from outside", function()
    local out, err, status = helper.run_script([[
      local neap = require "neap"
      require("neap.runtime.core").virtual_clock(true)
      local t = neap.spawn(function()
        neap.group(function(g)
          g:spawn(function()
            local _ <close> = setmetatable({}, { __close = function() neap.sleep(0.5) print "child ended in order" end })
            neap.sleep(1000)
          end)
          while true do pcall(neap.sleep, 1000) end
        end)
      end)
      neap.yield()
      neap.yield()
      t:cancel()
      print(t:join())]])
    assert.matches(
      "^Lua warning: neap: task 2 ignored its cancellation and was closed at [^\n]*:9\n$", err)
    assert.equal("child ended in order\nfalse\tcancelled\n",
      (out:gsub("^(false\tcancelled\n)(.*)$", "%2%1")))
    assert.equal(0, status)
  end)
end)

describe("a shield", function()
  it("hides cancellation for at most so long", function()
    local inside, outside
    local t = neap.spawn(function()
      neap.shield(1000, function()
        inside = neap.sleep(0.005)
      end)
      outside = { pcall(neap.sleep, 1) }
      error(outside[2], 0)
    end)
    neap.yield()
    t:cancel()
    assert.is_false((t:join()))
    assert.is_true(inside)
    assert.same({ false, neap.cancelled }, outside)
  end)

  it("re-exposes what it hid when its time is over", function()
    local start = neap.now()
    local t = neap.spawn(neap.shield, 0.01, neap.sleep, 1000)
    neap.yield()
    t:cancel()
    assert.same({ false, neap.cancelled }, { t:join() })
    assert.is_true(neap.now() - start >= 0.01)
  end)

  it("gives the results and errors of its function", function()
    assert.same({ 1, nil, 3, n = 3 }, pack(neap.shield, 1, function(...) return ... end, 1, nil, 3))
    assert.same({ false, "x" }, { pcall(neap.shield, 1, error, "x", 0) })
    assert.is_true(neap.sleep(0)) -- and is gone
  end)

  it("without end does not hold up the end of the program", function()
    local out, err, status = helper.run_script([[
      warn "@on"
      local neap = require "neap"
      neap.spawn(function() neap.shield(math.huge, function() neap.event():wait() end) end)
      neap.yield()
      error("main failed", 0)]], { limit = 10 })
    assert.equal("", out)
    assert.matches("task 2 waited for ever, though cancelled, and was closed at", err)
    assert.matches("neap: main failed", err)
    assert.equal(1, status)
  end)
end)
