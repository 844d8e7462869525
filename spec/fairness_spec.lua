-- Nobody keeps the loop: what a task may do at once is bounded by calls and by bytes, and whoever
-- has used that up waits until others had their events.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

-- A task that never has to wait, until the test ends: a function that says how many calls it made.
local function busy()
  local set, calls = neap.event(), 0
  set:set()
  local task = neap.spawn(function()
    while set:wait() do calls = calls + 1 end
  end)
  helper.after(function() task:cancel() end)
  return function() return calls end
end

-- How many calls those are between two turns of ours, once it has begun.
local function slice(calls)
  for _ = 1, 3 do neap.yield() end
  local before = calls()
  neap.yield()
  return calls() - before
end

describe("a task that never waits", function()
  it("has one slice for all events of a poll, not one for each", function()
    local calls = busy()
    local one = slice(calls)
    assert.is_true(one > 0)
    local first, last
    local served, all = 0, 40
    neap.group(function(g)
      local ours = {}
      for i = 1, all do
        local a, b = assert(net.pair())
        ours[i] = a
        g:spawn(function()
          b:read(1)
          first, last, served = first or calls(), calls(), served + 1
          a:close()
          b:close()
        end)
      end
      neap.yield()
      for i = 1, all do ours[i]:write "x" end
    end)
    assert.equal(all, served)
    -- In the hard build the bytes themselves go in several turns.
    local most = (helper.hard and all or all // 4) * one
    assert.is_true(last - first <= most, ("%d calls, %d a slice"):format(last - first, one))
  end)

  it("has one slice between two turns of who yields", function()
    local calls, others = busy(), busy()
    local one = slice(calls)
    for _ = 1, 3 do neap.yield() end
    local before, before_others = calls(), others()
    for _ = 1, 20 do neap.yield() end
    assert.equal(20 * one, calls() - before)
    assert.equal(20 * one, others() - before_others)
  end)

  it("gives way after half a megabyte, if that are few calls", function()
    local script = helper.write_file(helper.tmpdir() .. "/script.lua", [[
      local neap = require "neap"
      local reads, most = 0, 0
      local task = neap.spawn(function()
        while neap.stdin:read(64 << 10) do reads = reads + 1 end
      end)
      for _ = 1, 20 do
        local before = reads
        neap.yield()
        most = math.max(most, reads - before)
      end
      task:cancel()
      print(most)
    ]])
    local out, err, status = helper.run_neap(script .. " < /dev/zero")
    assert.equal("", err)
    assert.equal(0, status)
    local most = tonumber(out)
    assert.is_true(most >= 1 and most <= 12, out) -- a read of the kernel's may bring more than it
  end)
end)
