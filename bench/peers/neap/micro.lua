-- In-process costs: the runtime's own primitives in the loops of ../lib/micro.lua. micro.lua TEST
local neap = require "neap"
local process = require "neap.process"
local bench = dofile(arg[0]:match "^(.*/)" .. "../lib/micro.lua")

bench {
  now = neap.now,
  run = function(f) f() end, -- the script is a task already
  spawn = neap.spawn,
  pause = neap.yield,
  sleep = neap.sleep,
  timer = function() local d <close> = neap.deadline(10) end,
  process = function()
    local p <close> = assert(process.spawn { "/bin/true" })
    assert(p:wait())
  end,
  pair = function()
    local function chan()
      local c = neap.channel(1)
      return { send = function(v) c:put(v) end, recv = function() return c:get() end }
    end
    return chan(), chan()
  end,
}
