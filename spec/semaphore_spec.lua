-- Semaphores: never more than n at once, first come, first served, and no permit is lost.

local helper = require "spec.support.helper"
local neap = require "neap"

local function settle()
  for _ = 1, 3 do neap.yield() end
end

describe("semaphore", function()
  it("gives its permits, then says no or waits", function()
    local s = neap.semaphore(2)
    assert.is_true(s:acquire())
    assert.is_true(s:try_acquire())
    assert.is_false(s:try_acquire())
    assert.same({ nil, "acquire a semaphore: timed out", "ETIMEDOUT", n = 3 },
      table.pack(s:acquire { timeout = 0.005 }))
    assert.equal("neap.semaphore{free=0 waiting=0}", tostring(s))
    s:release()
    assert.equal(1, s:available())
    s:release(3)
    assert.equal(4, s:available())
  end)

  it("hands permits over first come, first served, and nobody overtakes", function()
    local s, order = neap.semaphore(0), {}
    neap.group(function(g)
      for i = 1, 6 do
        g:spawn(function()
          s:acquire()
          order[#order + 1] = i
        end)
      end
      settle()
      s:release(2)
      assert.is_false(s:try_acquire()) -- they are taken, though their tasks have not run
      settle()
      assert.same({ 1, 2 }, order)
      s:release(5)
      assert.is_true(s:try_acquire()) -- the one left over
      assert.is_false(s:try_acquire())
      settle()
    end)
    assert.same({ 1, 2, 3, 4, 5, 6 }, order)
  end)

  it("holds ten thousand tasks to its number", function()
    local s, inside, most, done = neap.semaphore(7), 0, 0, 0
    neap.group(function(g)
      for i = 1, 10000 do
        g:spawn(function()
          local _ <close> = s:permit()
          inside = inside + 1
          most = math.max(most, inside)
          neap.yield()
          inside = inside - 1
          done = done + 1
          assert(i == done or math.abs(i - done) < 7, "out of order")
        end)
      end
    end)
    assert.equal(10000, done)
    assert.equal(7, most)
    assert.equal(7, s:available())
  end)

  it("gets a scope's permit back at its end, once, also after an error", function()
    local s = neap.semaphore(1)
    do
      local p <close> = s:permit()
      assert.equal("neap.permit{held}", tostring(p))
      assert.equal(0, s:available())
      p:release()
      p:release()
      assert.equal("neap.permit{released}", tostring(p))
      assert.equal(1, s:available())
    end
    assert.equal(1, s:available())
    pcall(function()
      local _ <close> = s:permit()
      error "oops"
    end)
    assert.equal(1, s:available())
    s:acquire()
    assert.equal("ETIMEDOUT", select(3, s:permit { timeout = 0.005 }))
    assert.equal(0, s:available())
    s:release()
  end)

  it("gets a forgotten permit back with a warning", function()
    local out, err, status = helper.run_script [[
      local neap = require "neap"
      warn "@on"
      local s = neap.semaphore(1)
      assert(s:permit())
      collectgarbage()
      collectgarbage()
      print(s:available())
    ]]
    assert.equal("1\n", out)
    assert.equal(0, status)
    assert.matches("permit was collected", err)
  end)

  it("is cancelled without losing a permit, also two coroutines deep", function()
    for _, run in ipairs {
      function(f) return f() end,
      function(f) return coroutine.wrap(function() return coroutine.wrap(f)() end)() end,
    } do
      local s = neap.semaphore(0)
      local t = neap.spawn(function()
        run(function() return s:acquire() end)
      end)
      local p = neap.spawn(function()
        run(function() return s:permit() end)
      end)
      settle()
      assert.equal("neap.semaphore{free=0 waiting=2}", tostring(s))
      t:cancel()
      p:cancel()
      assert.is_false((t:join()))
      assert.is_false((p:join()))
      s:release()
      assert.equal(1, s:available())
    end
  end)

  it("gets back the permit of a task that was handed it and then cancelled", function()
    local s, had = neap.semaphore(0), false
    local t = neap.spawn(function()
      local p <close> = s:permit()
      had = p ~= nil
      neap.sleep(10)
    end)
    settle()
    s:release()
    t:cancel()
    assert.is_false((t:join()))
    assert.is_true(had)
    assert.equal(1, s:available())
  end)

  it("refuses bad arguments", function()
    assert.error_matches(function() neap.semaphore(-1) end, "number of permits")
    assert.error_matches(function() neap.semaphore() end, "number expected")
    local s = neap.semaphore(1)
    assert.error_matches(function() s:release(0) end, "number of permits")
    assert.error_matches(function() s:acquire { timeuot = 1 } end, "timeuot")
  end)
end)
