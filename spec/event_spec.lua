-- Events: a flag that tasks wait for.

local neap = require "neap"

local function settle()
  for _ = 1, 3 do neap.yield() end
end

describe("event", function()
  it("is seen at once when it is set", function()
    local e = neap.event()
    assert.is_false(e:is_set())
    e:set()
    assert.is_true(e:is_set())
    assert.is_true(e:wait())
    assert.is_true(e:wait { timeout = 0 })
    e:clear()
    assert.is_false(e:is_set())
  end)

  it("wakes all who wait, in their order, even if it is cleared before they run", function()
    local e, woken = neap.event(), {}
    neap.group(function(g)
      for i = 1, 5 do
        g:spawn(function()
          assert.is_true(e:wait())
          woken[#woken + 1] = i
        end)
      end
      settle()
      assert.equal("neap.event{clear waiting=5}", tostring(e))
      e:set()
      e:clear()
      settle()
      assert.same({ 1, 2, 3, 4, 5 }, woken)
      assert.equal("neap.event{clear waiting=0}", tostring(e))
    end)
  end)

  it("times out, by option and by scope, and leaves the queue", function()
    local e = neap.event()
    assert.same({ nil, "wait for an event: timed out", "ETIMEDOUT", n = 3 },
      table.pack(e:wait { timeout = 0.005 }))
    local results = table.pack(neap.timeout(0.005, function() return e:wait() end))
    assert.equal("ETIMEDOUT", results[3])
    assert.equal("neap.event{clear waiting=0}", tostring(e))
  end)

  it("is cancelled, also two coroutines deep", function()
    local e = neap.event()
    local plain = neap.spawn(function() e:wait() end)
    local deep = neap.spawn(function()
      coroutine.wrap(function() coroutine.wrap(function() e:wait() end)() end)()
    end)
    settle()
    plain:cancel()
    deep:cancel()
    assert.is_false((plain:join()))
    assert.is_false((deep:join()))
    assert.equal("neap.event{clear waiting=0}", tostring(e))
  end)

  it("that was seen counts, although the task is cancelled before it runs", function()
    local e, seen = neap.event(), false
    local t = neap.spawn(function()
      seen = e:wait()
      neap.sleep(10)
    end)
    settle()
    e:set()
    t:cancel()
    assert.is_false((t:join()))
    assert.is_true(seen)
  end)

  it("gives way in a loop that never waits", function()
    local e, other = neap.event(), false
    e:set()
    neap.group(function(g)
      g:spawn(function() other = true end)
      local rounds = 0
      while not other do
        rounds = rounds + 1
        assert(rounds < 10000000, "never gave way")
        e:wait()
      end
    end)
  end)

  it("refuses unknown options", function()
    local e = neap.event()
    assert.error_matches(function() e:wait { timeuot = 1 } end, "timeuot")
    assert.error_matches(function() e.wait {} end, "neap.event")
  end)
end)
