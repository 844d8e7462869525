-- net.hub: one message for many; who does not keep up costs a named number of bytes and nobody's
-- time but by choice.

local helper = require "spec.support.helper"
local net = require "neap.net"
local neap = require "neap"

local function member(hub, kind)
  local near, far = net.pair(kind or "unix")
  hub:add(near)
  helper.after(function()
    near:abort()
    far:abort()
  end)
  return near, far
end

-- Sends blocks until the hub's numbers change as `seen` wants, or `max` were sent.
local function flood(hub, block, max, seen)
  for i = 1, max do
    hub:send(block)
    if seen() then return i end
  end
end

describe("hub", function()
  it("sends to all in one order, and to all but one", function()
    local hub, ends, nears = net.hub(), {}, {}
    for i = 1, 20 do nears[i], ends[i] = member(hub, i % 2 == 0 and "mem" or "unix") end
    assert.equal(20, #hub)
    assert.equal(20, hub:send "one\n")
    assert.equal(19, hub:send("two\n", { except = nears[3] }))
    assert.equal(20, hub:send "three\n")
    for i, far in ipairs(ends) do
      assert.equal("one", far:read())
      if i ~= 3 then assert.equal("two", far:read()) end
      assert.equal("three", far:read())
    end
    assert.equal(20, hub:send "")
    assert.same(nears, hub:members())
    assert.equal("neap.hub{disconnect members=20 dropped=0}", tostring(hub))
  end)

  it("lets closed and failed members go, and takes each once", function()
    local hub = net.hub()
    local a, b, c = member(hub), member(hub), member(hub)
    assert.equal(hub, hub:add(a))
    assert.equal(3, #hub)
    b:close()
    assert.equal(2, #hub)
    assert.equal(2, hub:send "x")
    assert.equal(hub, hub:remove(a))
    assert.equal(hub, hub:remove(a))
    assert.same({ c }, hub:members())
    assert.equal("ECANCELED", select(3, hub:add(b)))
    local far = select(2, member(hub))
    far:abort()
    helper.wait_until(function()
      hub:send "y"
      neap.yield()
      return #hub == 1
    end)
    assert.equal(1, #hub)
  end)

  it("raises for wrong arguments", function()
    local hub = net.hub()
    for _, f in ipairs { function() net.hub { policy = "maybe" } end,
      function() net.hub { polcy = "wait" } end,
      function() net.hub { limit = -1 } end, function() hub:add {} end, function() hub:send() end,
      function() hub:send("x", { except = 1 }) end } do
      assert.has_error(f)
    end
  end)

  it("cuts a slow member off, whose reader hears why", function()
    local hub = net.hub { policy = "disconnect", limit = 100000 }
    local slow = member(hub)
    local near, quick = member(hub)
    local got = 0
    local reader = neap.spawn(function()
      for chunk in function() return quick:recv() end do got = got + #chunk end
    end)
    local waiter = neap.spawn(function() return select(3, slow:read()) end)
    local block = ("x"):rep(10000)
    local n = assert(flood(hub, block, 10000, function()
      near:flush()
      return hub:stats().disconnected > 0
    end))
    assert.equal(1, #hub)
    assert.same({ true, "ENOBUFS" }, { waiter:join { timeout = 5 } })
    assert.equal("ENOBUFS", select(3, slow:write "x"))
    assert.is_true(helper.wait_until(function() return got == n * #block end, 5),
      "the quick one misses something")
    quick:close()
    reader:join()
  end)

  it("leaves messages out for a slow member, whole ones", function()
    local hub = net.hub { policy = "drop", limit = 50000 }
    local near, far = member(hub)
    local n = assert(flood(hub, ("x"):rep(999) .. "\n", 100000, function()
      neap.yield()
      return hub:stats().dropped > 50
    end))
    assert.is_true(near.unsent_bytes <= 50000 + 1000, tostring(near))
    local stats = hub:stats()
    near:close()
    local lines = 0
    for line in far:lines() do
      assert.equal(999, #line)
      lines = lines + 1
    end
    assert.equal(n, lines + stats.dropped)
  end)

  it("makes the sender wait for a slow member, and loses nothing", function()
    local hub = net.hub { policy = "wait", limit = 30000 }
    local near, far = member(hub)
    local _, other = member(hub)
    local sent, total = 0, helper.hard and 100 or 1000
    local sender = neap.spawn(function()
      for i = 1, total do
        assert.equal(2, hub:send(("%d:%s\n"):format(i, ("y"):rep(990))))
        sent = i
      end
      hub:members()[1]:shutdown()
      hub:members()[2]:shutdown()
    end)
    neap.sleep(0.05)
    assert.is_true(sent < total, "it did not wait")
    assert.is_true(near.unsent_bytes <= 32000)
    local function read_all(s)
      return neap.spawn(function()
        local i = 0
        for line in s:lines() do
          i = i + 1
          assert.equal(i, tonumber(line:match "^%d+"))
        end
        return i
      end)
    end
    local one, two = read_all(far), read_all(other)
    assert.same({ true, total }, { one:join { timeout = 10 * helper.slow } })
    assert.same({ true, total }, { two:join { timeout = 10 * helper.slow } })
    assert.is_true((sender:join()))
  end)

  it("stops waiting at the deadline, and when the slow one goes", function()
    local hub = net.hub { policy = "wait", limit = 1000 }
    local near = member(hub)
    local _, other = member(hub)
    local v, message, code
    local n = 0
    repeat
      v, message, code = hub:send(("z"):rep(20000), { timeout = 0.02 })
      if v then n = n + 1 end
    until not v
    assert.equal("ETIMEDOUT", code)
    assert.truthy(message:find "hub send")
    local sender = neap.spawn(function() return hub:send "last" end)
    neap.yield()
    local reader = neap.spawn(function() return #other:read(20000 * n + 4) end)
    near:close()
    assert.same({ true, 1 }, { sender:join { timeout = 5 * helper.slow } })
    assert.same({ true, 20000 * n + 4 }, { reader:join { timeout = 5 * helper.slow } })
  end)

  it("does not interleave with a write that waits", function()
    local hub = net.hub { policy = "wait", limit = 64 << 20 }
    local near, far = member(hub)
    local size = helper.hard and 400000 or 4 << 20
    local writer = neap.spawn(function() near:write(("a"):rep(size)) end)
    neap.yield()
    hub:send(("b"):rep(1000))
    near:shutdown()
    local text = far:read "a"
    assert.equal(size + 1000, #text)
    assert.equal(size, #text:match "^a*")
    writer:join()
  end)
end)
