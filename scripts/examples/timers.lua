-- timers.lua: tasks that sleep, tick and race.
--
-- Shows: every() does not drift, deadlines nest, race cancels the losers, a channel joins it all.
-- Try:   neap scripts/examples/timers.lua

local neap = require "neap"

local start = neap.now()
local function say(...) print(("%4.0f ms "):format((neap.now() - start) * 1000), ...) end

neap.group(function(g)
  local ticks = neap.channel()
  g:spawn(function()
    for tick in neap.every(0.05) do
      ticks:put(tick)
      if tick >= 3 then return ticks:close() end
    end
  end)
  for tick in ticks:iter() do say("tick", tick) end
end)

say("race", neap.race(
  function() neap.sleep(0.5) return "tortoise" end,
  function() neap.sleep(0.01) return "hare" end))

say("timeout", neap.timeout(0.01, function() return neap.sleep(10) end))
