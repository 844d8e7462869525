-- neap.signals: iterators over the signals that come.

local helper = require "spec.support.helper"
local neap = require "neap"
local process = require "neap.process"

local me = io.open("/proc/self/stat"):read "n"

local function raise(name) assert(os.execute(("kill -s %s %d"):format(name, me))) end

describe("neap.signals", function()
  it("gives each signal by its name", function()
    local s <close> = neap.signals("USR1", "SIGUSR2")
    raise "USR1"
    assert.equal("USR1", s())
    raise "USR2"
    assert.equal("USR2", s:wait())
  end)

  it("wakes a task that waits, and several iterators each get the signal", function()
    local got = {}
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = neap.spawn(function()
        local s <close> = neap.signals "USR1"
        got[i] = s()
      end)
    end
    neap.sleep(0.01)
    raise "USR1"
    for i = 1, 3 do assert.is_true((tasks[i]:join { timeout = 5 })) end
    assert.same({ "USR1", "USR1", "USR1" }, got)
  end)

  it("takes numbers, and merges what comes faster than it is asked for", function()
    local s <close> = neap.signals(10) -- USR1
    for _ = 1, 5 do raise "USR1" end
    neap.sleep(0.01)
    assert.equal("USR1", s:wait { timeout = 5 })
    assert.equal("ETIMEDOUT", select(3, s:wait { timeout = 0.02 }))
  end)

  it("ends when it is closed under a waiting task", function()
    local s = neap.signals "USR1"
    local task = neap.spawn(function()
      local n = 0
      for _ in s do n = n + 1 end
      return n
    end)
    local other = neap.spawn(function() return s:wait() end)
    neap.sleep(0.005)
    s:close()
    s:close()
    assert.same({ true, 0 }, { task:join() })
    local _, value, message, code = other:join()
    assert.is_nil(value)
    assert.equal("wait for a signal: closed", message)
    assert.equal("ECANCELED", code)
    assert.is_nil(s())
  end)

  it("is closed by a loop that is left", function()
    neap.spawn(raise, "USR1")
    local it, state, control, closing = neap.signals "USR1"
    local seen = 0
    for name in it, state, control, closing do
      assert.equal("USR1", name)
      seen = seen + 1
      if seen == 1 then break end
    end
    assert.matches("closed", tostring(it))
  end)

  it("meets deadlines and cancellation", function()
    local s <close> = neap.signals "USR1"
    local v, message, code = s:wait { timeout = 0.005 }
    assert.is_nil(v)
    assert.equal("wait for a signal: timed out", message)
    assert.equal("ETIMEDOUT", code)
    local task = neap.spawn(function() s() end)
    neap.sleep(0.005)
    task:cancel()
    assert.is_false((task:join()))
    raise "USR1"
    assert.equal("USR1", s:wait { timeout = 5 })
  end)

  it("raises for unknown and uncatchable signals, listing the known", function()
    local ok, message = pcall(neap.signals, "FOO")
    assert.is_false(ok)
    assert.matches("unknown signal 'FOO'", message)
    assert.matches("TERM", message)
    ok, message = pcall(neap.signals, "KILL")
    assert.is_false(ok)
    assert.matches("cannot be caught", message)
    assert.has_error(function() neap.signals() end)
    assert.has_error(function() neap.signals {} end)
    assert.has_error(function() neap.signals(1000) end)
  end)

  it("prints itself", function()
    local s <close> = neap.signals("TERM", "HUP")
    assert.equal("neap.signals{TERM HUP}", tostring(s))
  end)

  it("leaves the signal as it was when it is closed", function()
    local out, _, status = helper.run_script [[
      local neap = require "neap"
      local process = require "neap.process"
      local s <close> = neap.signals "TERM"
      local me = io.open "/proc/self/stat":read "n"
      os.execute("kill -s TERM " .. me)
      print(s())
      s:close()
      os.execute("kill -s TERM " .. me)
      local ok = pcall(neap.sleep, 5)
      print("not reached unless cancelled", ok)
    ]]
    assert.matches("^TERM\n", out)
    assert.equal(143, status)
  end)

  it("does not keep signals from children", function()
    local s <close> = neap.signals "TERM"
    assert.truthy(s)
    local p <close> = assert(process.spawn({ "sleep", "60" }))
    p:kill "TERM"
    assert.same({ nil, "signal", 15 }, { p:wait { timeout = 5 } })
  end)
end)
