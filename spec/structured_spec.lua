-- neap.all, neap.race and neap.every: nothing outlives the call, and ticks do not drift.

local helper = require "spec.support.helper"
local neap = require "neap"

describe("all", function()
  it("runs its functions at the same time and gives the first result of each", function()
    local together = neap.semaphore(0)
    local function meet(v)
      return function()
        together:release()
        neap.yield()
        assert.is_true(together:available() == 3)
        return v, "more"
      end
    end
    assert.same({ 1, nil, 3, n = 3 }, table.pack(neap.all(meet(1), meet(nil), meet(3))))
    assert.same({ n = 0 }, table.pack(neap.all()))
  end)

  it("cancels the others and raises the first error when they have ended", function()
    local closed = false
    local ok, err = pcall(neap.all, function()
      local _ <close> = setmetatable({}, { __close = function() closed = true end })
      neap.sleep(10)
    end, function()
      neap.yield()
      error "oops"
    end)
    assert.is_false(ok)
    assert.matches("oops", tostring(err))
    assert.is_true(closed)
  end)

  it("ends everything when the caller's deadline expires", function()
    local ended = 0
    local function forever()
      local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
      neap.channel():get()
    end
    do
      local _ <close> = neap.deadline(0.01)
      assert.same({ nil, "all: timed out", "ETIMEDOUT", n = 3 },
        table.pack(neap.all(forever, forever)))
    end
    assert.equal(2, ended)
  end)

  it("is cancelled with all its functions", function()
    local ended = 0
    local t = neap.spawn(function()
      neap.all(function()
        local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        neap.channel():get()
      end, function() neap.event():wait() end)
    end)
    neap.yield()
    neap.yield()
    t:cancel()
    assert.is_false((t:join()))
    assert.equal(1, ended)
  end)

  it("wants functions", function()
    assert.error_matches(function() neap.all(print, 5) end, "#2 to 'all'")
    assert.error_matches(function() neap.all(nil) end, "#1 to 'all'")
  end)
end)

describe("race", function()
  it("gives all results of the first that ends, the others cancelled and awaited", function()
    local cleaned = false
    local results = table.pack(neap.race(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          neap.sleep(0.005)
          cleaned = true
        end,
      })
      neap.sleep(10)
      return "slow"
    end, function()
      neap.sleep(0.002)
      return "fast", nil, 3, nil
    end))
    assert.same({ "fast", nil, 3, nil, n = 4 }, results)
    assert.is_true(cleaned)
  end)

  it("is won by the first even if the second ends in the same turn", function()
    assert.equal(1, neap.race(function() return 1 end, function() return 2 end))
  end)

  it("raises an error that comes first", function()
    local ok, err = pcall(neap.race, function() neap.sleep(10) end, function() error "lost" end)
    assert.is_false(ok)
    assert.matches("lost", tostring(err))
  end)

  it("ends everything when the caller's deadline expires", function()
    local results = table.pack(neap.timeout(0.01, neap.race, function() neap.event():wait() end))
    assert.equal("ETIMEDOUT", results[3])
  end)

  it("wants at least one function", function()
    assert.error_matches(function() neap.race() end, "#1 to 'race'")
  end)
end)

describe("every", function()
  it("ticks at absolute instants, skipping and counting what was missed", function()
    local start, ticks = neap.now(), {}
    for tick, missed in neap.every(0.01) do
      local late = neap.now() - start - tick * 0.01
      assert.is_true(late > -1e-6, "early")
      ticks[#ticks + 1] = { tick, missed }
      if #ticks == 2 then neap.sleep(0.025) end
      if #ticks == 4 then break end
    end
    assert.equal(1, ticks[1][1])
    for i = 2, 4 do assert.equal(ticks[i - 1][1] + 1 + ticks[i][2], ticks[i][1]) end
    assert.is_true(ticks[3][2] >= 2)
  end)

  it("raises when a scope's deadline ends it", function()
    local ok, err = pcall(function()
      local _ <close> = neap.deadline(0.005)
      for _ in neap.every(10) do end
    end)
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
  end)

  it("wants a positive number", function()
    for _, bad in ipairs { 0, -1, 0 / 0, math.huge, "x" } do
      assert.error_matches(function() neap.every(bad) end, "#1 to 'every'")
    end
  end)
end)

describe("a group whose task cannot wait for it", function()
  local script = [[
    warn "@on"
    local neap = require "neap"
    require("neap.runtime.core").virtual_clock(true)
    local function child()
      local _ <close> = setmetatable({}, { __close = function() print "child ended" end })
      neap.event():wait()
    end
    neap.group(function(outer)
      local t = outer:spawn(function() %s end)
      neap.yield()
      neap.yield()
      print(#neap.tasks() .. " tasks")
      t:cancel()
    end)
    print "outer ended"
  ]]

  it("hands its tasks to the group further out when that task is closed from outside", function()
    local out, err, status = helper.run_script(script:format([[
      neap.group(function(g)
        g:spawn(child)
        while true do pcall(neap.sleep, 10) end
      end)
    ]]))
    assert.matches("ignored its cancellation", err)
    assert.equal("3 tasks\nchild ended\nouter ended\n", out)
    assert.equal(0, status)
  end)

  it("hands them on when that task leaves a generator behind in the middle of it", function()
    local out, err, status = helper.run_script(script:format([[
      coroutine.wrap(function()
        neap.group(function(g)
          g:spawn(child)
          coroutine.yield()
        end)
      end)()
    ]]))
    assert.equal("", err)
    assert.equal("child ended\n1 tasks\nouter ended\n", out)
    assert.equal(0, status)
  end)
end)
