-- Groups: no child outlives them, the first error ends the rest, nothing is lost.

local neap = require "neap"
local helper = require "spec.support.helper"

local function pack(f, ...) return table.pack(f(...)) end
local function on_close(f) return setmetatable({}, { __close = function(_, err) f(err) end }) end

describe("a group", function()
  it("returns its function's results after all children have ended", function()
    local ended = 0
    local results = pack(neap.group, function(g)
      for i = 1, 3 do
        g:spawn(function()
          neap.sleep(i / 1000)
          ended = ended + 1
        end)
      end
      return 1, nil, 3, nil
    end)
    assert.same({ 1, nil, 3, nil, n = 4 }, results)
    assert.equal(3, ended)
  end)

  it("waits for children of children, and for those spawned while it waits", function()
    local ended = 0
    neap.group(function(g)
      g:spawn(function()
        neap.sleep(0.001)
        g:spawn(function()
          neap.sleep(0.001)
          neap.spawn(function()
            neap.sleep(0.001)
            ended = ended + 1
          end)
          ended = ended + 1
        end)
        ended = ended + 1
      end)
    end)
    assert.equal(3, ended)
  end)

  it("is what spawn attaches to, if it is the nearest one", function()
    local order = {}
    neap.group(function()
      neap.group(function()
        neap.spawn(function()
          neap.sleep(0.003)
          order[#order + 1] = "child of inner"
        end)
      end)
      order[#order + 1] = "inner ended"
    end)
    assert.same({ "child of inner", "inner ended" }, order)
  end)

  it("cancels the siblings at the first error, which it raises", function()
    local seen = {}
    local e = {}
    local ok, err = pcall(neap.group, function(g)
      g:spawn(function()
        local _ <close> = on_close(function(why) seen.sibling = why end)
        neap.sleep(1000)
      end)
      g:spawn(function()
        neap.sleep(0.002)
        error(e)
      end)
      local _ <close> = on_close(function(why) seen.body = why end)
      neap.sleep(1000)
    end)
    assert.is_false(ok)
    assert.equal(e, err)
    assert.same({ sibling = neap.cancelled, body = neap.cancelled }, seen)
  end)

  it("cancels the children when its function fails, and raises that", function()
    local ended
    local ok, err = pcall(neap.group, function(g)
      g:spawn(function()
        local _ <close> = on_close(function()
          neap.sleep(0.002)
          ended = true
        end)
        neap.sleep(1000)
      end)
      neap.yield()
      error("body", 0)
    end)
    assert.same({ false, "body" }, { ok, err })
    assert.is_true(ended)
  end)

  it("keeps the first of several errors", function()
    local ok, err = pcall(neap.group, function(g)
      g:spawn(function()
        local _ <close> = on_close(function() error("second", 0) end)
        neap.sleep(1000)
      end)
      g:spawn(function()
        neap.yield()
        error("first", 0)
      end)
    end)
    assert.same({ false, "first" }, { ok, err })
  end)

  it("cancels a child that is spawned when it is already failing", function()
    local late
    pcall(neap.group, function(g)
      local _ <close> = on_close(function()
        g:spawn(function()
          local ok = pcall(neap.sleep, 1000)
          late = ok
        end)
      end)
      error "x"
    end)
    assert.is_false(late)
  end)

  it("takes no more once it has ended", function()
    local kept
    neap.group(function(g) kept = g end)
    assert.error_matches(function() kept:spawn(print) end, "the group has ended")
    kept:cancel()
  end)

  it("can be cancelled as a whole", function()
    local ended = 0
    local results = pack(neap.group, function(g)
      for _ = 1, 3 do
        g:spawn(function()
          local _ <close> = on_close(function() ended = ended + 1 end)
          neap.sleep(1000)
        end)
      end
      neap.yield()
      g:cancel()
      neap.sleep(1000)
    end)
    assert.equal(3, ended)
    assert.same({ nil, "group: cancelled", "ECANCELED", n = 3 }, results)
  end)

  it("is cancelled with its task: the children end first", function()
    local order = {}
    local t = neap.spawn(function()
      local _ <close> = on_close(function() order[#order + 1] = "task" end)
      neap.group(function(g)
        g:spawn(function()
          local _ <close> = on_close(function()
            neap.sleep(0.002)
            order[#order + 1] = "child"
          end)
          neap.sleep(1000)
        end)
      end)
    end)
    neap.yield()
    neap.yield()
    t:cancel()
    assert.same({ false, neap.cancelled }, { t:join() })
    assert.same({ "child", "task" }, order)
  end)

  it("ends its children when a deadline scope expires", function()
    local ended = false
    local ok, message, code = neap.timeout(0.002, neap.group, function(g)
      g:spawn(function()
        local _ <close> = on_close(function()
          neap.sleep(0.002)
          ended = true
        end)
        neap.sleep(1000)
      end)
    end)
    assert.is_nil(ok)
    assert.is_string(message)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(ended)
  end)

  it("nests: an inner error ends the inner one only, if it is caught", function()
    local sibling
    neap.group(function(g)
      local t = g:spawn(function()
        neap.sleep(0.005)
        sibling = true
      end)
      assert.is_false((pcall(neap.group, function(inner)
        inner:spawn(error, "x")
        neap.sleep(1000)
      end)))
      t:join()
    end)
    assert.is_true(sibling)
  end)

  it("raises with both tracebacks", function()
    local _, err, status = helper.run_script [[
      local neap = require "neap"
      local function broken_child() error "oops" end
      local function outer()
        neap.group(function(g) g:spawn(broken_child) end)
        return 1
      end
      outer() ]]
    assert.equal(1, status)
    assert.matches("script.lua:2: oops\n", err)
    assert.matches(
      "traceback:\n.-in function 'error'.-lua:2: .-traceback:\n.-in function 'neap.group.-'outer'",
      err)
  end)

  it("shows the traceback of its function once", function()
    local _, err = helper.run_script [[
      local neap = require "neap"
      neap.group(function() error "oops" end)
      return 1 ]]
    local _, n = err:gsub("stack traceback:", "")
    assert.equal(1, n)
    assert.matches("in function 'error'", err)
    assert.matches("in main chunk", err)
  end)
end)

describe("a group in a generator", function()
  it("waits for its children when the generator is resumed to its end", function()
    local ended = false
    local gen = coroutine.wrap(function()
      neap.group(function(g)
        g:spawn(function()
          neap.sleep(0.005)
          ended = true
        end)
        coroutine.yield(1)
      end)
      coroutine.yield(2)
    end)
    assert.equal(1, gen())
    local mine = neap.spawn(function() end) -- not a child of the generator's group
    assert.is_false(ended)
    assert.equal(2, gen())
    assert.is_true(ended)
    mine:join()
  end)

  it("tells of an error when the generator goes on", function()
    local gen = coroutine.wrap(function()
      neap.group(function(g)
        g:spawn(function() error("child", 0) end)
        coroutine.yield(1)
        neap.sleep(1000)
      end)
    end)
    assert.equal(1, gen())
    neap.sleep(0.001)
    local ok, err = pcall(gen)
    assert.is_false(ok)
    assert.matches("child", err)
  end)

  it("goes with it to another task", function()
    local ended = false
    local gen = coroutine.wrap(function()
      neap.group(function(g)
        g:spawn(function()
          neap.sleep(0.005)
          ended = true
        end)
        coroutine.yield(1)
      end)
      return "end"
    end)
    gen()
    local t = neap.spawn(gen)
    assert.same({ true, "end" }, { t:join() })
    assert.is_true(ended)
  end)

  it("ends with the task that opened it and goes elsewhere after that", function()
    local gen, ended
    local t = neap.spawn(function()
      gen = coroutine.wrap(function()
        neap.group(function(g)
          g:spawn(function()
            local _ <close> = on_close(function(why) ended = why end)
            neap.sleep(1000)
          end)
          coroutine.yield(1)
        end)
        return "end"
      end)
      gen()
      neap.yield()
    end)
    t:join()
    neap.sleep(0.001)
    assert.equal(neap.cancelled, ended)
    assert.equal("end", gen())
  end)

  it("ends when the generator is closed or collected", function()
    local ended = 0
    local function make()
      return coroutine.create(function()
        neap.group(function(g)
          g:spawn(function()
            local _ <close> = on_close(function() ended = ended + 1 end)
            neap.sleep(1000)
          end)
          coroutine.yield(1)
        end)
      end)
    end
    local co = make()
    coroutine.resume(co)
    neap.yield()
    coroutine.close(co)
    neap.sleep(0.001)
    assert.equal(1, ended)
    coroutine.resume(make())
    neap.yield()
    collectgarbage()
    collectgarbage()
    neap.sleep(0.001)
    assert.equal(2, ended)
  end)

  it("does not go to a task inside it, which would wait for itself", function()
    local gen, ok, err
    gen = coroutine.create(function()
      neap.group(function(g)
        g:spawn(function()
          neap.group(function(inner)
            inner:spawn(function() ok, err = coroutine.resume(gen) end)
          end)
        end)
        coroutine.yield(1)
      end)
      return "end"
    end)
    coroutine.resume(gen)
    neap.sleep(0.002)
    assert.same({ false, "cannot resume a coroutine in a group that this task belongs to" },
      { ok, err })
    assert.same({ true, "end" }, { coroutine.resume(gen) })
  end)

  it("raises its body's error when its task has ended and another resumes it", function()
    local resume
    neap.spawn(function()
      resume = coroutine.wrap(function()
        neap.group(function(g)
          g:spawn(neap.sleep, 10)
          coroutine.yield()
          error "late"
        end)
      end)
      resume()
    end):join()
    local ok, err = pcall(resume)
    assert.is_false(ok)
    assert.matches("late", err)
  end)

  -- The generator yields in the group's body, and is resumed where nothing can be suspended.
  local function half_way(ended)
    local gen = coroutine.wrap(function()
      neap.group(function(g)
        g:spawn(function()
          local _ <close> = setmetatable({}, { __close = function() ended.yes = true end })
          neap.sleep(10)
        end)
        coroutine.yield()
      end)
      return "after"
    end)
    gen()
    neap.yield()
    return gen
  end

  it("says that it cannot wait for its tasks in table.sort, and cancels them", function()
    local ended, ok, err = {}, nil, nil
    neap.group(function()
      local gen = half_way(ended)
      table.sort({ 1, 2 }, function()
        if ok == nil then ok, err = pcall(gen) end
        return false
      end)
      assert.is_false(ok)
      assert.matches("cannot wait %(group%)", err)
      assert.is_nil(ended.yes)
      assert.is_true(neap.sleep(0)) -- the scheduler knows where it is
    end)
    assert.is_true(ended.yes)
  end)

  it("says so in a finalizer, too", function()
    local ended, ok, err = {}, nil, nil
    neap.group(function()
      local gen = half_way(ended)
      setmetatable({}, { __gc = function() ok, err = pcall(gen) end })
      collectgarbage()
      collectgarbage()
      assert.is_false(ok)
      assert.matches("cannot wait %(group%)", err)
      assert.is_true(neap.sleep(0))
    end)
    assert.is_true(ended.yes)
  end)
end)

describe("a group whose task is cancelled while its body runs", function()
  it("is left only when its tasks have ended", function()
    local ended, left = false, nil
    local task
    task = neap.spawn(function()
      pcall(neap.group, function(g)
        g:spawn(function()
          local _ <close> = setmetatable({}, { __close = function() ended = true end })
          neap.sleep(10)
        end)
        neap.yield()
        task:cancel()
      end)
      left = ended
    end)
    task:join()
    assert.is_true(left)
  end)
end)
