-- Deadline scopes and timeout: deadlines are results, the nearest instant wins, generators keep
-- theirs to themselves.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

local function pack(f, ...) return table.pack(f(...)) end
local function never() return neap.event():wait() end

-- What f gives and how long it took.
local function timed(f, ...)
  local start = neap.now()
  local results = pack(f, ...)
  return neap.now() - start, results
end

describe("a deadline scope", function()
  it("makes waits return the failure triple, each with its own message", function()
    local a, b = net.pair "unix"
    local ch, e, s = neap.channel(), neap.event(), neap.semaphore(0)
    local l = assert(net.listen "127.0.0.1:0")
    local waits = {
      sleep = function() return neap.sleep(10) end,
      get = function() return ch:get() end,
      put = function() return ch:put(1) end,
      event = function() return e:wait() end,
      acquire = function() return s:acquire() end,
      select = function() return neap.select { ch, e } end,
      read = function() return a:read(5) end,
      accept = function() return l:accept() end,
      group = function() return neap.group(function(g) g:spawn(neap.sleep, 10) end) end,
    }
    for name, wait in pairs(waits) do
      local _ <close> = neap.deadline(0.002)
      local ok, message, code = wait()
      assert.is_nil(ok, name)
      assert.matches("timed out$", message)
      assert.equal("ETIMEDOUT", code, name)
    end
    a:close()
    b:close()
    l:close()
  end)

  it("bounds the block as a whole, not each wait in it", function()
    local waited = timed(function()
      local _ <close> = neap.deadline(0.02)
      for _ = 1, 10 do if not neap.sleep(0.005) then break end end
    end)
    assert.is_true(waited >= 0.019 and waited < 0.05 * helper.slow, waited)
  end)

  it("is over when its block is", function()
    do local _ <close> = neap.deadline(0.001) end
    assert.is_true(neap.sleep(0.003))
    pcall(function()
      local _ <close> = neap.deadline(0.001)
      error "x"
    end)
    assert.is_true(neap.sleep(0.003))
    local d = neap.deadline(0.001)
    d:close()
    d:close()
    assert.is_true(neap.sleep(0.003))
  end)

  it("keeps bytes that were read already", function()
    local a, b = net.pair "unix"
    b:write "12345"
    do
      local _ <close> = neap.deadline(0.005)
      assert.equal("ETIMEDOUT", (select(3, a:read(10))))
    end
    b:write "67890"
    assert.equal("1234567890", a:read(10))
    a:close()
    b:close()
  end)

  it("nests: the nearest instant wins, whichever scope it belongs to", function()
    local outer_first = timed(function()
      local _ <close> = neap.deadline(0.005)
      local _ <close> = neap.deadline(10)
      never()
    end)
    local inner_first = timed(function()
      local _ <close> = neap.deadline(10)
      local _ <close> = neap.deadline(0.005)
      never()
    end)
    assert.is_true(outer_first < 1 and inner_first < 1)
  end)

  it("caps a call's own timeout, which still counts when it is shorter", function()
    local ch = neap.channel()
    local _ <close> = neap.deadline(0.01)
    assert.is_true((timed(function() ch:get { timeout = 10 } end)) < 1)
    local _ <close> = neap.deadline(10)
    assert.is_true((timed(function() ch:get { timeout = 0.001 } end)) < 1)
  end)

  it("is not inherited by spawn", function()
    local _ <close> = neap.deadline(0.001)
    local t = neap.spawn(function() return neap.sleep(0.01) end)
    neap.shield(10, function() assert.same({ true, true }, { t:join() }) end)
  end)

  it("tells what is left", function()
    local d <close> = neap.deadline(10)
    assert.is_true(d:remaining() > 9 and d:remaining() <= 10)
    local forever <close> = neap.deadline(math.huge)
    assert.is_nil(forever:remaining())
    assert.matches("^neap.deadline{9.9%d*s left}$", tostring(d))
  end)

  it("raises the 100th result in a row that was ignored, with a place", function()
    local n = 0
    local ok, err = pcall(function()
      local _ <close> = neap.deadline(0)
      while true do
        neap.sleep(1)
        n = n + 1
      end
    end)
    assert.is_false(ok)
    assert.equal(99, n)
    assert.matches("scope_spec.lua:%d+: timed out: 100 results in a row", err)
  end)

  it("lets others run while results are ignored", function()
    local turns = 0
    local other = neap.spawn(function()
      for _ = 1, 50 do
        neap.yield()
        turns = turns + 1
      end
    end)
    pcall(function()
      local _ <close> = neap.deadline(0)
      while true do neap.sleep(1) end
    end)
    assert.equal(50, turns)
    other:join()
  end)

  it("warns when collected without close, naming its line, and bounds no more", function()
    local out, err = helper.run_script [[
      warn "@on"
      local neap = require "neap"
      local function careless()
        neap.deadline(0.001)
      end
      careless()
      collectgarbage() collectgarbage()
      print(neap.sleep(0.005))]]
    assert.equal("true\n", out)
    assert.matches("a deadline was collected without close %(made at .*script.lua:4%)", err)
  end)

  it("stays itself once it is closed, and closes again", function()
    local d = neap.deadline(10)
    d:close()
    d:close()
    assert.is_true(d:remaining() > 0)
    assert.matches("^neap.deadline{.*closed}$", tostring(d))
    for _, it in ipairs { {}, io.stdout, "d", 1 } do
      assert.error_matches(function() d.close(it) end, "neap.deadline expected")
    end
    assert.error_matches(function() d.close() end, "neap.deadline expected")
  end)

  it("belongs to a task", function()
    local ok, err = pcall(neap.deadline, -1)
    assert.is_false(ok)
    assert.matches("bad argument #1", err)
    assert.error_matches(function() neap.deadline(0 / 0) end, "seconds")
  end)
end)

describe("a scope in a generator", function()
  it("bounds what runs in the generator, not its user", function()
    local gen = coroutine.wrap(function()
      local _ <close> = neap.deadline(0.005)
      coroutine.yield "one"
      coroutine.yield((neap.sleep(10)))
      return "three"
    end)
    assert.equal("one", gen())
    assert.is_true(neap.sleep(0.01)) -- the user's own wait is not bounded
    assert.is_nil(gen()) -- its own is, and it has expired meanwhile
    assert.equal("three", gen())
    assert.is_true(neap.sleep(0.001))
  end)

  it("counts beside the user's own scopes while it runs", function()
    local gen = coroutine.wrap(function()
      local _ <close> = neap.deadline(10)
      while true do coroutine.yield((neap.sleep(10))) end
    end)
    local _ <close> = neap.deadline(0.002)
    local waited, results = timed(gen)
    assert.is_nil(results[1])
    assert.is_true(waited < 1)
  end)

  it("goes with the generator to another task", function()
    local gen = coroutine.wrap(function()
      local _ <close> = neap.deadline(0.02)
      coroutine.yield()
      return neap.sleep(10)
    end)
    gen()
    local t = neap.spawn(function()
      local waited, results = timed(gen)
      return waited < 1, results[3]
    end)
    assert.same({ true, true, "ETIMEDOUT" }, { t:join() })
    assert.is_true(neap.sleep(0.001))
  end)

  it("is gone with a generator that ended, failed, was closed or was collected", function()
    local function open()
      neap.deadline(0.001)
      return 1
    end
    coroutine.wrap(function() open() end)()
    pcall(coroutine.wrap(function()
      open()
      error "x"
    end))
    local co = coroutine.create(function()
      local _ <close> = neap.deadline(0.001)
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co)
    coroutine.wrap(function()
      local _ <close> = neap.deadline(0.001)
      coroutine.yield()
    end)()
    collectgarbage()
    collectgarbage()
    assert.is_true(neap.sleep(0.003))
  end)

  it("is kept apart for generators inside generators", function()
    local inner_hit, outer_ok
    local outer = coroutine.wrap(function()
      local _ <close> = neap.deadline(10)
      local inner = coroutine.wrap(function()
        local _ <close> = neap.deadline(0.002)
        coroutine.yield()
        coroutine.yield((select(3, neap.sleep(10))))
      end)
      inner()
      outer_ok = neap.sleep(0.005)
      coroutine.yield()
      inner_hit = inner()
      coroutine.yield()
    end)
    outer()
    outer()
    assert.is_true(outer_ok)
    assert.equal("ETIMEDOUT", inner_hit)
  end)
end)

describe("timeout", function()
  it("gives the results of its function", function()
    assert.same({ 1, nil, 3, nil, n = 4 }, pack(neap.timeout, 1, function(...)
      neap.sleep(0.001)
      return ...
    end, 1, nil, 3, nil))
  end)

  it("gives the failure triple when its scope expired, whatever the function made of it", function()
    for _, f in ipairs { never, function() never() return "ignored" end,
      function() error((select(2, never()))) end,
      function() for _ in neap.every(10) do end end } do
      local ok, message, code = neap.timeout(0.002, f)
      assert.is_nil(ok)
      assert.matches("^timeout: timed out", message)
      assert.equal("ETIMEDOUT", code)
    end
  end)

  it("raises a mistake that came after the expiry", function()
    local ok, err = pcall(neap.timeout, 0.002, function()
      never()
      local t = nil
      return t.x
    end)
    assert.is_false(ok)
    assert.matches("attempt to index a nil value", err)
  end)

  it("leaves an outer scope's expiry to that", function()
    local results = pack(neap.timeout, 0.002, function()
      local inner = pack(neap.timeout, 10, function() return never() end)
      assert.matches("event", inner[2] or "")
      return "outer"
    end)
    assert.equal("ETIMEDOUT", results[3])
  end)

  it("raises errors as they are", function()
    local e = {}
    local ok, err = pcall(neap.timeout, 1, error, e)
    assert.is_false(ok)
    assert.equal(e, err)
    assert.is_true(neap.sleep(0))
  end)

  it("lets cancellation through", function()
    local t = neap.spawn(neap.timeout, 1000, never)
    neap.yield()
    t:cancel()
    assert.same({ false, neap.cancelled }, { t:join() })
  end)

  it("checks its arguments", function()
    assert.error_matches(function() neap.timeout("x", print) end, "#1 to 'timeout'")
    assert.error_matches(function() neap.timeout(1) end, "#2 to 'timeout'")
    assert.error_matches(function() neap.shield(1) end, "#2 to 'shield'")
  end)
end)

describe("a shield", function()
  it("hides outer scopes and not its own", function()
    local _ <close> = neap.deadline(0.001)
    neap.shield(10, function()
      assert.is_true(neap.sleep(0.005))
      local _ <close> = neap.deadline(0.001)
      assert.is_nil((neap.sleep(10)))
    end)
    assert.is_nil((neap.sleep(10)))
  end)

  it("re-exposes them when its time is over", function()
    local _ <close> = neap.deadline(0.001)
    local waited = timed(neap.shield, 0.01, neap.sleep, 10)
    assert.is_true(waited >= 0.01 and waited < 1, waited)
  end)
end)
