-- select: of several operations exactly one happens, and the others have not begun.

local helper = require "spec.support.helper"
local neap = require "neap"

local function settle()
  for _ = 1, 3 do neap.yield() end
end

local IDLE = "neap.channel{0/0 gets=0 puts=0}"

describe("select", function()
  it("takes the first ready case of the list and leaves the others alone", function()
    local a, b = neap.channel(1), neap.channel(1)
    a:put "a"
    b:put "b"
    assert.same({ 2, "b", n = 2 }, table.pack(neap.select { neap.event(), b, a }))
    assert.equal(1, #a)
    assert.same({ 1, "a", n = 2 }, table.pack(neap.select { a, b }))
    assert.same({ 2, true, n = 2 }, table.pack(neap.select { a, { b, "put", 7 } }))
    assert.equal(7, b:get())
  end)

  it("waits for whichever comes, and leaves every queue", function()
    for winner = 1, 4 do
      local a, b, e, s = neap.channel(), neap.channel(), neap.event(), neap.semaphore(0)
      local result
      neap.group(function(g)
        g:spawn(function() result = table.pack(neap.select { a, { b, "put", "v" }, e, s }) end)
        settle()
        assert.matches("gets=1", tostring(a))
        assert.matches("puts=1", tostring(b))
        assert.matches("waiting=1", tostring(e))
        assert.matches("waiting=1", tostring(s))
        if winner == 1 then a:put "for a" end
        if winner == 2 then assert.equal("v", b:get()) end
        if winner == 3 then e:set() end
        if winner == 4 then s:release() end
        assert.equal(IDLE, tostring(a))
        assert.equal(IDLE, tostring(b))
        assert.matches("waiting=0", tostring(e))
        assert.equal("neap.semaphore{free=0 waiting=0}", tostring(s))
      end)
      assert.same({ winner, winner == 1 and "for a" or true, n = 2 }, result)
    end
  end)

  it("lets exactly one happen when several become ready before it runs", function()
    local a, b, result = neap.channel(1), neap.channel(1), nil
    neap.group(function(g)
      g:spawn(function() result = table.pack(neap.select { a, b }) end)
      settle()
      b:put "second case, first event"
      a:put "too late"
    end)
    assert.same({ 2, "second case, first event", n = 2 }, result)
    assert.equal("too late", a:get())
  end)

  it("meets another select", function()
    local a, b = neap.channel(), neap.channel()
    local r1, r2
    neap.group(function(g)
      g:spawn(function() r1 = table.pack(neap.select { a, { b, "put", "from 1" } }) end)
      g:spawn(function() r2 = table.pack(neap.select { b, { a, "put", "from 2" } }) end)
    end)
    assert.same({ 2, true, n = 2 }, r1)
    assert.same({ 1, "from 1", n = 2 }, r2)
    assert.equal(IDLE, tostring(a))
  end)

  it("does not meet itself", function()
    local ch = neap.channel()
    assert.equal("ETIMEDOUT", select(3, neap.select { ch, { ch, "put", 1 }, timeout = 0.005 }))
    assert.equal(IDLE, tostring(ch))
    neap.group(function(g)
      local r
      g:spawn(function() r = table.pack(neap.select { ch, { ch, "put", "mine" } }) end)
      settle()
      assert.equal("mine", ch:get())
      settle()
      assert.same({ 2, true, n = 2 }, r)
      g:spawn(function() r = table.pack(neap.select { ch, ch, { ch, "put", "mine" } }) end)
      settle()
      ch:put "yours"
      settle()
      assert.same({ 1, "yours", n = 2 }, r)
      assert.equal(IDLE, tostring(ch))
    end)
  end)

  it("sees closing as ready", function()
    local a, b, full, r = neap.channel(), neap.channel(), neap.channel(1), {}
    full:put(0)
    neap.group(function(g)
      g:spawn(function() r[1] = table.pack(neap.select { a, b }) end)
      g:spawn(function() r[2] = table.pack(neap.select { a, { full, "put", 1 } }) end)
      settle()
      b:close()
      full:close()
    end)
    assert.same({ 2, nil, n = 2 }, r[1])
    assert.same({ 2, nil, "closed", "EPIPE", n = 4 }, r[2])
    assert.same({ 1, nil, n = 2 }, table.pack(neap.select { b }))
    assert.equal(IDLE, tostring(a))
  end)

  it("joins tasks", function()
    neap.group(function(g)
      local slow = g:spawn(function() neap.sleep(10) end)
      local fast = g:spawn(function()
        neap.sleep(0.002)
        return "x", "y"
      end)
      assert.same({ 2, true, "x", "y", n = 4 }, table.pack(neap.select { slow, fast }))
      assert.same({ 1, true, "x", "y", n = 4 }, table.pack(neap.select { { fast, "join" } }))
      slow:cancel()
    end)
  end)

  it("times out, by option and by scope, and leaves every queue", function()
    local a, b = neap.channel(), neap.channel()
    assert.same({ nil, "select: timed out", "ETIMEDOUT", n = 3 },
      table.pack(neap.select { a, { b, "put", 1 }, timeout = 0.005 }))
    assert.equal(IDLE, tostring(a))
    assert.equal(IDLE, tostring(b))
    local _ <close> = neap.deadline(0.005)
    assert.equal("ETIMEDOUT", select(3, neap.select { a, b }))
    assert.equal(IDLE, tostring(a))
  end)

  it("is cancelled, also two coroutines deep, and leaves every queue", function()
    for _, run in ipairs {
      function(f) return f() end,
      function(f) return coroutine.wrap(function() return coroutine.wrap(f)() end)() end,
    } do
      local a, b = neap.channel(), neap.channel()
      local t = neap.spawn(function()
        run(function() return neap.select { a, { b, "put", 1 } } end)
      end)
      settle()
      assert.matches("puts=1", tostring(b))
      t:cancel()
      assert.is_false((t:join()))
      assert.equal(IDLE, tostring(a))
      assert.equal(IDLE, tostring(b))
    end
  end)

  it("that was completed is not undone by a cancellation before it runs", function()
    local a, got = neap.channel(), nil
    local t = neap.spawn(function()
      local _, v = neap.select { neap.event(), a }
      got = v
      neap.sleep(10)
    end)
    settle()
    a:put "handed over"
    t:cancel()
    assert.is_false((t:join()))
    assert.equal("handed over", got)
  end)

  it("does not care what happens to its list meanwhile", function()
    local list, other = { neap.channel(), neap.event() }, neap.channel()
    list[3] = { other, "put", "original" }
    neap.group(function(g)
      local r
      g:spawn(function() r = neap.select(list) end)
      settle()
      list[3][3], list[3], list[2], list[1] = "changed", nil, nil, nil
      collectgarbage()
      collectgarbage()
      assert.equal("original", other:get())
      settle()
      assert.equal(3, r)
    end)
  end)

  it("is as fair as its objects: selects and single waits share one queue", function()
    local ch, got = neap.channel(), {}
    neap.group(function(g)
      for i = 1, 6 do
        g:spawn(function()
          if i % 2 == 0 then
            got[i] = ch:get()
          else
            got[i] = select(2, neap.select { neap.event(), ch })
          end
        end)
      end
      settle()
      for i = 1, 6 do ch:put(i) end
    end)
    assert.same({ 1, 2, 3, 4, 5, 6 }, got)
  end)

  it("loses nothing between many selects", function()
    local a, b, sum, n = neap.channel(), neap.channel(3), 0, 0
    neap.group(function(g)
      for _ = 1, 5 do
        g:spawn(function()
          while true do
            local _, v = neap.select { a, b }
            if v == nil then return end
            sum, n = sum + v, n + 1
          end
        end)
      end
      neap.group(function(p)
        for k = 1, 5 do
          p:spawn(function()
            for i = 1, 200 do
              if (i + k) % 3 == 0 then neap.yield() end
              assert(neap.select { { a, "put", i }, { b, "put", i } })
            end
          end)
        end
      end)
      while #b > 0 do neap.yield() end
      a:close()
    end)
    assert.equal(1000, n)
    assert.equal(5 * 200 * 201 // 2, sum)
  end)

  it("waits for a thousand cases, and only for a timeout", function()
    local list = {}
    for i = 1, 1000 do list[i] = neap.event() end
    neap.group(function(g)
      g:spawn(function() list[777]:set() end)
      assert.equal(777, (neap.select(list)))
    end)
    list[1001] = neap.event()
    assert.error_matches(function() neap.select(list) end, "1000")
    assert.equal("ETIMEDOUT", select(3, neap.select { timeout = 0.001 }))
  end)

  it("refuses bad lists before anything happens", function()
    local ch = neap.channel(1)
    ch:put "untouched"
    for text, list in pairs {
      ["case 2: select cannot wait for this"] = { ch, io.stdout },
      ["case 2: select cannot wait"] = { ch, 5 },
      ["case 2: select cannot"] = { ch, { {} } },
      ["no operation 'putt'"] = { ch, { ch, "putt", 1 } },
      ["'put' needs a value"] = { ch, { ch, "put" } },
      ["is not a string"] = { ch, { ch, 1 } },
      ["unknown option 'timeuot'"] = { ch, timeuot = 1 },
      ["no case and no timeout"] = {},
    } do
      local ok, err = pcall(neap.select, list)
      assert.is_false(ok, text)
      assert.is_truthy(tostring(err):find(text, 1, true), err)
    end
    assert.equal("untouched", ch:get())
  end)

  it("on nothing that can ever come ends the program", function()
    local _, err, status = helper.run_script [[
      local neap = require "neap"
      neap.select { neap.channel(), neap.event() }
    ]]
    assert.equal(1, status)
    assert.matches("2 cases", err)
    assert.matches("script.lua:2", err)
  end)
end)
