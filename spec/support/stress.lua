-- stress.lua seed seconds: tasks that do, at random, everything the scheduler offers, nested in
-- each other.
--
-- Nothing is compared: what must hold is that nothing crashes, hangs or is left behind. The seed
-- repeats the choices, not the timing.

local neap = require "neap"
local net = require "neap.net"

math.randomseed(tonumber(arg[1]))
local random = math.random
local tasks, channels, events, generators = {}, {}, {}, {}
for i = 1, 4 do
  channels[i] = neap.channel(random(0, 2))
  events[i] = neap.event()
end

local act
local function pick(list) return list[random(math.max(1, #list))] end
local function some(most) return random() * most end
local function body(n)
  return function()
    for _ = 1, random(1, n) do act(n - 1) end
    return random(10)
  end
end

-- Leaves of the nesting.
local leaves = {
  function() neap.sleep(some(0.003)) end,
  function() neap.sleep(0) end,
  function() neap.yield() end,
  function() pick(channels):put(1, { timeout = some(0.002) }) end,
  function() pick(channels):get { timeout = some(0.002) } end,
  function() pick(events):wait { timeout = some(0.002) } end,
  function() pick(events):set() end,
  function() pick(events):clear() end,
  function()
    neap.select { pick(channels), { pick(channels), "put", 1 }, pick(events),
      timeout = some(0.003) }
  end,
  function()
    local t = pick(tasks)
    if t and t ~= neap.current() then t:join { timeout = some(0.004) } end
  end,
  function()
    local t = pick(tasks)
    if t then t:cancel(random(3)) end
  end,
  function()
    local t = pick(tasks)
    if t then neap.traceback(t) end
    neap.tasks()
  end,
  function()
    local g = pick(generators)
    if g then coroutine.resume(g) end
  end,
  function()
    local g = pick(generators)
    if g and random() < 0.3 then pcall(coroutine.close, g) end
  end,
  function() if random() < 0.2 then error("e" .. random(3)) end end,
  function() if random() < 0.05 then collectgarbage() end end,
  function()
    local a, b = net.pair "unix"
    local _ <close> = a
    local _ <close> = b
    neap.spawn(function() pcall(b.write, b, "hi\n") end)
    a:read("l", { timeout = 0.002 })
  end,
  function() pcall(table.sort, { 1, 2, 3 }, function() act(0) return false end) end,
  function() setmetatable({}, { __gc = function() pcall(act, 0) end }) end,
}

-- What contains more of it.
local nodes = {
  function(n) tasks[random(20)] = neap.spawn(body(n)) end,
  function(n)
    neap.group(function(g)
      for _ = 1, random(0, 3) do g:spawn(body(n)) end
      act(n - 1)
      if random() < 0.1 then g:cancel() end
    end)
  end,
  function(n) neap.timeout(some(0.004), body(n)) end,
  function(n) neap.shield(some(0.004), body(n)) end,
  function(n)
    local _ <close> = neap.deadline(some(0.005))
    act(n - 1)
    act(n - 1)
  end,
  function(n) coroutine.wrap(body(n))() end,
  function(n)
    generators[random(6)] = coroutine.create(function()
      for i = 1, 5 do
        act(n - 1)
        coroutine.yield(i)
      end
    end)
  end,
  function(n)
    generators[random(6)] = coroutine.create(function()
      neap.group(function(g)
        g:spawn(body(n))
        coroutine.yield()
        act(n - 1)
      end)
    end)
  end,
  function(n) pcall(body(n)) end,
  function(n)
    local _ <close> = setmetatable({}, { __close = function() pcall(act, n - 1) end })
    act(n - 1)
  end,
  function(n) neap.all(body(n), body(n)) end,
  function(n) neap.race(body(n), body(n)) end,
}

function act(n)
  if n <= 0 or neap.stats().tasks > 200 or random() < 0.5 then return leaves[random(#leaves)]() end
  return nodes[random(#nodes)](n)
end

local rounds, stop = 0, neap.now() + tonumber(arg[2])
while neap.now() < stop do
  rounds = rounds + 1
  pcall(neap.timeout, 0.5, function()
    neap.group(function(g)
      for _ = 1, 5 do g:spawn(body(4)) end
    end)
  end)
end
print("ok", rounds > 0)
