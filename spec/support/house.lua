-- The house check: a test leaves no task, no object and no descriptor behind, or fails by name.
--
-- busted loads this file as its helper. Each test's function is wrapped: what helper.after and
-- `finally` registered runs at its end, then the live things are compared with those before.
-- Lingerers and cancelled tasks get a moment to go.

local busted = require "busted"
local lfs = require "lfs"
local neap = require "neap"

local house = { tests = 0 }
package.loaded["spec.support.house"] = house

local SETTLE_S = tonumber(os.getenv "NEAP_SETTLE") or 3

-- number -> what it is, of each open descriptor but the one that reads the directory
local function descriptors()
  local open = {}
  for name in lfs.dir "/proc/self/fd" do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. name, "target")
    if target and not target:find "^/proc/%d+/fd$" then open[name] = target end
  end
  return open
end

local function snapshot()
  local stats = neap.stats()
  return { tasks = stats.tasks, objects = stats.objects, open = descriptors(), list = house.list() }
end

-- tostring -> line, of every task
function house.list()
  local list = {}
  for _, t in ipairs(neap.tasks()) do list[tostring(t)] = true end
  return list
end

-- What of `after` was not there before: lines of text. A reused number with another target counts.
local function difference(before, after)
  local lines = {}
  local function add(...) lines[#lines + 1] = string.format(...) end
  if after.tasks > before.tasks then
    add("%d more tasks", after.tasks - before.tasks)
    for t in pairs(after.list) do
      if not before.list[t] then add("  %s", t) end
    end
  end
  if after.objects > before.objects then add("%d more objects", after.objects - before.objects) end
  for fd, target in pairs(after.open) do
    if before.open[fd] ~= target then add("descriptor %s (%s) is open", fd, target) end
  end
  return lines
end

-- Garbage is given its chance, and what is on its way out its time.
local function leftovers(before)
  local give_up = os.clock() + SETTLE_S
  local until_ = neap.now() + SETTLE_S
  local pause = 0.001
  repeat
    collectgarbage()
    local lines = difference(before, snapshot())
    if #lines == 0 then return nil end
    neap.sleep(pause)
    pause = math.min(pause * 2, 0.05)
    if neap.now() > until_ or os.clock() > give_up then return table.concat(lines, "\n") end
  until false
end

local function run_all(stack)
  for i = #stack, 1, -1 do
    local f = stack[i]
    stack[i] = nil
    f()
  end
end

house.ending = {} -- what to run when the present test ends, last first

local function at_end(before, finally)
  return setmetatable({}, {
    __close = function(_, err)
      local ok, why = pcall(run_all, house.ending)
      house.ending = {}
      if finally() then finally()() end
      if err ~= nil then return end
      if not ok then error(why, 0) end
      local left = leftovers(before)
      if left then busted.fail("left behind:\n" .. left, 2) end
    end,
  })
end

busted.subscribe({ "test", "start" }, function(element)
  house.tests = house.tests + 1
  local run, finally = element.run, nil
  element.env.finally = function(f) finally = f end
  element.run = function(...)
    element.run = run
    local before = snapshot()
    local _ <close> = at_end(before, function() return finally end)
    run(...)
  end
  return nil, true
end)

return house
