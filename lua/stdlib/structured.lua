-- Structured ways to run several functions, and time without drift: neap.all, neap.race,
-- neap.every.
--
-- The one idea: everything here is a group whose body waits for an event; so whatever ends the body
-- (an answer, an error, a deadline, a cancellation) also ends the children before it returns. No
-- child outlives the call.

local tasks = require "neap.task.core"
local group = require("neap.group.core").group
local event = require("neap.event.core").event

---@class neap
local structured = {}

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

local function check_functions(name, least, ...)
  local fs = table.pack(...)
  if fs.n < least then
    error(("bad argument #1 to '%s' (function expected, got no value)"):format(name), 3)
  end
  for i = 1, fs.n do
    local meta = getmetatable(fs[i])
    if type(fs[i]) ~= "function" and not (meta and meta.__call) then
      local got = type(fs[i])
      error(("bad argument #%d to '%s' (function expected, got %s)"):format(i, name, got), 3)
    end
  end
  return fs
end

-- Runs each function as a task and ends them all when `take(i, ...)`, called with what the i-th
-- returned, says true or none is left. nil, or the failure triple of the wait.
local function gather(fs, take)
  local why
  group(function(g)
    local children, done, left = {}, event(), fs.n
    local ended = setmetatable({}, {
      __close = function()
        left = left - 1
        if left == 0 then done:set() end
      end,
    })
    for i = 1, fs.n do
      children[i] = g:spawn(function()
        local _ <close> = ended
        if take(i, fs[i]()) then done:set() end
      end)
    end
    local ok, message, code = done:wait()
    if not ok then why = { nil, message, code } end
    for _, child in ipairs(children) do child:cancel() end
  end)
  return why
end

--- Runs all functions at the same time and waits until every one has ended.
--
-- The first error cancels the others and is raised when they have ended. When a deadline scope of
-- the caller expires, all are cancelled and awaited, and the result is the failure.
---@param ... function
---@return any ... the first result of each, in the order of the arguments; nil past a deadline
---@return string? message
---@return string? code "ETIMEDOUT"
function structured.all(...)
  local fs = check_functions("all", 0, ...)
  if fs.n == 0 then return end
  local results = {}
  local why = gather(fs, function(i, result) results[i] = result end)
  if why then return nil, "all: timed out", why[3] end
  return table.unpack(results, 1, fs.n)
end

--- Runs all functions at the same time until the first of them ends; the others are cancelled and
-- awaited.
--
-- An error, if it comes first, cancels the others and is raised. When a deadline scope of the
-- caller expires, all are cancelled and awaited, and the result is the failure.
---@param ... function at least one
---@return any ... all results of the function that ended first; nil past a deadline
---@return string? message
---@return string? code "ETIMEDOUT"
function structured.race(...)
  local fs = check_functions("race", 1, ...)
  local first
  local why = gather(fs, function(_, ...)
    if first then return false end
    first = table.pack(...)
    return true
  end)
  if first then return table.unpack(first, 1, first.n) end
  if why then return nil, "race: timed out", why[3] end
end

--- Ticks every `seconds`, the first time after one interval: `for tick, missed in neap.every(1) do
-- ... end`.
--
-- Ticks are absolute instants, start + tick * seconds, so nothing drifts however long the body
-- takes. Ticks that pass while the body runs are skipped, not made up for. Raises (`.code` is
-- "ETIMEDOUT") when a deadline scope expires.
---@param seconds number more than 0
---@return fun(): integer, integer next the number of this tick, from 1, counting skipped ones; and
---how many were skipped just before it
function structured.every(seconds)
  if math.type(seconds) == nil or not (seconds > 0 and seconds < math.huge) then
    error("bad argument #1 to 'every' (a number of seconds above 0 expected)", 2)
  end
  local start, tick = tasks.now(), 0
  return function()
    local now = tasks.now()
    local due = math.max(tick + 1, math.ceil((now - start) / seconds))
    local missed = due - tick - 1
    tick = due
    local ok, message, code = tasks.sleep(math.max(0, start + due * seconds - now))
    if not ok then error(setmetatable({ message = message, code = code }, failure), 0) end
    return tick, missed
  end
end

return structured
