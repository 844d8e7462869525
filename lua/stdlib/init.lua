-- neap: tasks and time, and the way to everything else.
--
-- What runs per call is C; this file only gathers it under the public names. neap.net, neap.http
-- ... load on first use.

local task = require "neap.task.core"
local scope = require "neap.scope.core"
local group = require "neap.group.core"
local inspect = require "neap.inspect.core"
local runtime = require "neap.runtime.core"
local stream = require "neap.stream.core"
require "neap.stream"

local neap = {
  version = runtime.version,
  spawn = task.spawn,
  sleep = task.sleep,
  yield = task.yield,
  now = task.now,
  current = task.current,
  deadline = scope.deadline,
  timeout = scope.timeout,
  shield = scope.shield,
  group = group.group,
  cancelled = group.cancelled,
  on_exit = require("neap.ending.core").on_exit,
  tasks = inspect.tasks,
  stats = inspect.stats,
  objects = inspect.objects,
  traceback = inspect.traceback,
  watchdog = require("neap.watchdog.core").watchdog,
  channel = require("neap.channel.core").channel,
  event = require("neap.event.core").event,
  semaphore = require("neap.semaphore.core").semaphore,
  select = require("neap.select.core").select,
  signals = require("neap.signal.core").signals,
}

for name, f in pairs(require "neap.structured") do neap[name] = f end

-- Made when first named: the standard streams take a watcher each, and modules cost their loading.
local standard = { stdin = 0, stdout = 1, stderr = 2 }
local later = { notify = "neap.notify" }

return setmetatable(neap, {
  __index = function(t, name)
    local fd, module = standard[name], later[name]
    if not fd and not module then return nil end
    local value = fd and assert(stream.stdio(fd)) or require(module)
    rawset(t, name, value)
    return value
  end,
})
