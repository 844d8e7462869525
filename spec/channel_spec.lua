-- Channels: what goes in comes out once, in order, and nobody hangs, whatever ends the wait.

local helper = require "spec.support.helper"
local neap = require "neap"

-- Runs f inside two coroutines, as a generator inside a generator would.
local function two_deep(f)
  return coroutine.wrap(function()
    local inner = coroutine.wrap(function(...) return f(...) end)
    return inner()
  end)()
end

local function settle()
  for _ = 1, 3 do neap.yield() end
end

describe("channel", function()
  it("buffers n values and gives them in order", function()
    local ch = neap.channel(3)
    assert.equal(3, ch:capacity())
    for i = 1, 3 do assert.is_true(ch:put(i)) end
    assert.equal(3, #ch)
    for i = 1, 3 do assert.equal(i, ch:get()) end
    assert.equal(0, #ch)
  end)

  it("keeps the order while its ring grows and wraps", function()
    local ch, next_in, next_out = neap.channel(100), 1, 1
    for round = 1, 60 do
      for _ = 1, math.min(round, 100 - #ch) do
        ch:put(next_in)
        next_in = next_in + 1
      end
      for _ = 1, round % 7 do
        if #ch == 0 then break end
        assert.equal(next_out, ch:get())
        next_out = next_out + 1
      end
    end
    while #ch > 0 do
      assert.equal(next_out, ch:get())
      next_out = next_out + 1
    end
    assert.equal(next_in, next_out)
  end)

  it("lets go of a burst's memory", function()
    local ch = neap.channel(1 << 20)
    collectgarbage()
    local before = collectgarbage "count"
    for i = 1, 1 << 16 do ch:put(i) end
    for _ = 1, 1 << 16 do ch:get() end
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 64)
    ch:put "again"
    assert.equal("again", ch:get())
  end)

  it("keeps no value alive that was taken", function()
    local ch, weak = neap.channel(4), setmetatable({}, { __mode = "v" })
    ch:put(setmetatable({}, {}))
    weak[1] = ch:get()
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak[1])
  end)

  it("carries every kind of value but nil", function()
    local ch = neap.channel(1)
    for _, v in ipairs { false, true, 0, "", {}, print, coroutine.create(print), io.stdout, ch } do
      ch:put(v)
      assert.equal(v, ch:get())
    end
    assert.has_error(function() ch:put(nil) end)
    local ok, err = pcall(ch.put, ch)
    assert.is_false(ok)
    assert.matches("cannot carry nil", err)
  end)

  it("as a rendezvous completes put and get together", function()
    local ch, log = neap.channel(), {}
    neap.group(function(g)
      g:spawn(function()
        log[#log + 1] = "putting"
        ch:put "x"
        log[#log + 1] = "put"
      end)
      settle()
      assert.same({ "putting" }, log)
      assert.equal("x", ch:get())
      settle()
      assert.same({ "putting", "put" }, log)
      g:spawn(function() log[#log + 1] = ch:get() end)
      settle()
      assert.is_true(ch:put "y") -- a waiting get: no wait
      settle()
      assert.equal("y", log[3])
    end)
  end)

  it("serves waiting gets and waiting puts first come, first served", function()
    for _, n in ipairs { 0, 1, 3 } do
      local ch, got, done = neap.channel(n), {}, {}
      neap.group(function(g)
        for i = 1, 5 do g:spawn(function() got[i] = ch:get() end) end
        settle()
        for i = 1, 5 do ch:put(i * 10) end
      end)
      assert.same({ 10, 20, 30, 40, 50 }, got)
      neap.group(function(g)
        for i = 1, 8 do
          g:spawn(function()
            ch:put(i)
            done[#done + 1] = i
          end)
        end
        settle()
        assert.equal(n, #done)
        for i = 1, 8 do assert.equal(i, ch:get()) end
      end)
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8 }, done)
    end
  end)

  it("loses and doubles nothing between many tasks", function()
    for _, n in ipairs { 0, 1, 16 } do
      local ch, seen, count = neap.channel(n), {}, 0
      neap.group(function(g)
        for _ = 1, 10 do
          g:spawn(function()
            for v in ch do
              assert.is_nil(seen[v])
              seen[v], count = true, count + 1
            end
          end)
        end
        neap.group(function(producers)
          for p = 1, 10 do
            producers:spawn(function()
              for i = 1, 100 do
                assert(ch:put(p * 1000 + i))
                if i % 7 == p % 7 then neap.yield() end
              end
            end)
          end
        end)
        ch:close()
      end)
      assert.equal(1000, count)
    end
  end)

  it("gives way to others although it never has to wait", function()
    local ch, other, rounds = neap.channel(1), false, 0
    neap.group(function(g)
      g:spawn(function() other = true end)
      while not other do
        rounds = rounds + 1
        assert(rounds < 10000000, "never gave way")
        ch:put(1)
        ch:get()
      end
    end)
  end)

  it("prints itself in one line", function()
    local ch = neap.channel(2)
    ch:put(1)
    assert.equal("neap.channel{1/2 gets=0 puts=0}", tostring(ch))
    ch:close()
    assert.equal("neap.channel{1/2 gets=0 puts=0 closed}", tostring(ch))
    assert.is_true(ch:is_closed())
  end)

  it("refuses bad arguments at the caller's line", function()
    assert.error_matches(function() neap.channel(-1) end, "capacity")
    assert.error_matches(function() neap.channel "x" end, "number expected")
    local ch = neap.channel(1)
    assert.error_matches(function() ch:get { timeuot = 1 } end, "timeuot")
    assert.error_matches(function() ch:put(1, { timeuot = 1 }) end, "timeuot")
    assert.error_matches(function() ch:get(5) end, "table expected")
    assert.error_matches(function() ch.get {} end, "neap.channel")
    assert.equal(0, #ch)
  end)
end)

describe("closing a channel", function()
  it("lets the buffer drain, then gives nil; puts fail with EPIPE", function()
    local ch = neap.channel(2)
    ch:put(1)
    ch:put(2)
    assert.is_true(ch:close())
    assert.is_true(ch:close())
    assert.same({ nil, "closed", "EPIPE", n = 3 }, table.pack(ch:put(3)))
    assert.equal(1, ch:get())
    assert.equal(2, ch:get())
    assert.same({ nil, n = 1 }, table.pack(ch:get()))
  end)

  it("wakes waiting gets with nil and waiting puts with EPIPE", function()
    local ch, results = neap.channel(), {}
    neap.group(function(g)
      for i = 1, 3 do g:spawn(function() results[i] = table.pack(ch:get()) end) end
      settle()
      ch:close()
    end)
    for i = 1, 3 do assert.same({ nil, n = 1 }, results[i]) end
    ch = neap.channel(1)
    ch:put "kept"
    neap.group(function(g)
      for i = 1, 3 do g:spawn(function() results[i] = table.pack(ch:put(i)) end) end
      settle()
      ch:close()
    end)
    for i = 1, 3 do assert.same({ nil, "closed", "EPIPE", n = 3 }, results[i]) end
    assert.equal("kept", ch:get())
    assert.is_nil(ch:get())
  end)

  it("ends iteration, by the channel itself and by iter()", function()
    for _, over in ipairs { function(ch) return ch end, function(ch) return ch:iter() end } do
      local ch, sum = neap.channel(), 0
      neap.group(function(g)
        g:spawn(function()
          for i = 1, 10 do ch:put(i) end
          ch:close()
        end)
        for v in over(ch) do sum = sum + v end
      end)
      assert.equal(55, sum)
    end
  end)

  it("happens at the end of a block", function()
    local kept
    do
      local ch <close> = neap.channel(1)
      kept = ch
    end
    assert.is_true(kept:is_closed())
  end)

  it("raises in a task that ignores it a hundred times, not in a hundred tasks", function()
    local ch = neap.channel()
    ch:close()
    neap.group(function(g)
      for _ = 1, 150 do g:spawn(function() assert.is_nil(ch:get()) end) end
    end)
    local n = 0
    local ok, err = pcall(function()
      while true do
        ch:get()
        n = n + 1
      end
    end)
    assert.is_false(ok)
    assert.equal(99, n)
    assert.matches("ignores", tostring(err))
    ok = pcall(function()
      for _ = 1, 200 do ch:put(1) end
    end)
    assert.is_false(ok)
  end)
end)

describe("a wait on a channel", function()
  it("ends at its deadline, and has then done nothing", function()
    local ch = neap.channel()
    assert.same({ nil, "get from a channel: timed out", "ETIMEDOUT", n = 3 },
      table.pack(ch:get { timeout = 0.005 }))
    assert.same({ nil, "put on a channel: timed out", "ETIMEDOUT", n = 3 },
      table.pack(ch:put(1, { timeout = 0.005 })))
    assert.equal("neap.channel{0/0 gets=0 puts=0}", tostring(ch))
    assert.equal("ETIMEDOUT", select(3, ch:get { timeout = 0 }))
    neap.group(function(g) -- the next value goes to who still waits
      local got
      g:spawn(function() got = ch:get() end)
      settle()
      assert.is_true(ch:put("live", { timeout = 1 }))
      settle()
      assert.equal("live", got)
    end)
  end)

  it("takes what is there even when the deadline has passed", function()
    local ch = neap.channel(1)
    ch:put(5)
    assert.equal(5, ch:get { timeout = 0 })
  end)

  it("obeys a deadline scope; iteration raises it", function()
    local ch = neap.channel()
    do
      local _ <close> = neap.deadline(0.005)
      assert.equal("ETIMEDOUT", select(3, ch:get()))
    end
    local ok, err = pcall(function()
      local _ <close> = neap.deadline(0.005)
      for _ in ch do end
    end)
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
    assert.equal("neap.channel{0/0 gets=0 puts=0}", tostring(ch))
  end)

  it("is cancelled without a trace, also two coroutines deep", function()
    for _, run in ipairs { function(f) return f() end, two_deep } do
      local ch = neap.channel()
      local get = neap.spawn(function() run(function() return ch:get() end) end)
      local put = neap.spawn(function() run(function() return neap.channel():put(1) end) end)
      settle()
      assert.matches("gets=1", tostring(ch))
      get:cancel()
      put:cancel()
      assert.is_false((get:join()))
      assert.is_false((put:join()))
      assert.matches("gets=0 puts=0", tostring(ch))
      put = neap.spawn(function() run(function() return ch:put "gone" end) end)
      settle()
      assert.matches("puts=1", tostring(ch))
      put:cancel()
      assert.is_false((put:join()))
      assert.equal("ETIMEDOUT", select(3, ch:get { timeout = 0 }))
    end
  end)

  it("gives and takes two coroutines deep", function()
    local ch, got = neap.channel(), {}
    neap.group(function(g)
      g:spawn(function()
        for i = 1, 5 do got[i] = two_deep(function() return ch:get() end) end
      end)
      for i = 1, 5 do two_deep(function() return ch:put(i) end) end
      for i = 6, 9 do
        g:spawn(function() two_deep(function() return ch:put(i) end) end)
      end
      settle()
      for i = 6, 9 do got[i] = ch:get() end
    end)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, got)
  end)

  it("that was woken completes, although it is cancelled before it runs", function()
    local ch, got = neap.channel(), nil
    local t = neap.spawn(function()
      got = ch:get()
      neap.sleep(10)
    end)
    settle()
    ch:put "handed over"
    t:cancel()
    assert.is_false((t:join()))
    assert.equal("handed over", got)
    local put_done
    t = neap.spawn(function()
      put_done = ch:put "x"
      neap.sleep(10)
    end)
    settle()
    assert.equal("x", ch:get())
    t:cancel()
    t:join()
    assert.is_true(put_done)
  end)

  it("passes its turn when the one before it is cancelled", function()
    local ch, got = neap.channel(), {}
    local first = neap.spawn(function() got[1] = ch:get() end)
    local second = neap.spawn(function() got[2] = ch:get() end)
    settle()
    first:cancel()
    ch:put "for the second"
    second:join()
    first:join()
    assert.is_nil(got[1])
    assert.equal("for the second", got[2])
  end)

  it("loses and doubles nothing while tasks are cancelled and time out at random", function()
    local seed = os.time()
    math.randomseed(seed)
    for _, n in ipairs { 0, 1, 5 } do
      local a, b, sent, got = neap.channel(n), neap.channel(n), {}, {}
      local function send(v)
        local kind, ok = math.random(4), nil
        if kind == 1 then ok = a:put(v) end
        if kind == 2 then ok = b:put(v, { timeout = math.random() * 0.002 }) end
        if kind == 3 then ok = neap.select { { a, "put", v }, { b, "put", v } } end
        if kind == 4 then ok = neap.select { { b, "put", v }, timeout = math.random() * 0.002 } end
        if ok then sent[v] = (sent[v] or 0) + 1 end
      end
      local function receive()
        local kind, v, index = math.random(4), nil, nil
        if kind == 1 then v = a:get() end
        if kind == 2 then v = b:get { timeout = math.random() * 0.002 } end
        if kind == 3 then index, v = neap.select { a, b } end
        if kind == 4 then index, v = neap.select { b, a, timeout = math.random() * 0.002 } end
        if v and (kind < 3 or index) then got[v] = (got[v] or 0) + 1 end
      end
      neap.group(function(g)
        local tasks = {}
        for i = 1, 300 do
          tasks[#tasks + 1] = g:spawn(send, i)
          tasks[#tasks + 1] = g:spawn(receive)
          if math.random(3) == 1 then tasks[math.random(#tasks)]:cancel() end
          if math.random(5) == 1 then neap.yield() end
          if math.random(50) == 1 then neap.sleep(0.001) end
        end
        neap.sleep(0.005)
        for _, t in ipairs(tasks) do t:cancel() end
      end)
      for _, ch in ipairs { a, b } do
        while #ch > 0 do
          local v = ch:get()
          got[v] = (got[v] or 0) + 1
        end
        assert.equal(("neap.channel{0/%d gets=0 puts=0}"):format(n), tostring(ch))
      end
      assert.is_truthy(next(got))
      assert.same(sent, got, "seed " .. seed)
      for _, times in pairs(got) do assert.equal(1, times) end
    end
  end)

  it("on nothing that can ever come ends the program, naming each", function()
    local out, err, status = helper.run_script [[
      local neap = require "neap"
      local a, b = neap.channel(), neap.channel(2)
      neap.spawn(function() a:get() end)
      neap.spawn(function() b:put(1) b:put(2) b:put(3) end)
      a:get()
    ]]
    assert.equal("", out)
    assert.equal(1, status)
    assert.matches("rendezvous channel", err)
    assert.matches("channel with 2 of 2", err)
    assert.matches("script.lua:3", err)
    assert.matches("script.lua:4", err)
  end)
end)
