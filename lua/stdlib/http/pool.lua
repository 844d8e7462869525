-- Connections that are kept for the next request, by what they reach.
--
-- Few, and not for long: servers close theirs after a minute or so. The one used last is used next,
-- so what a burst has left grows old and goes; past a bound the oldest goes. One that says what was
-- not asked is not used again. Nothing runs while no request is made: what has grown old by then is
-- closed by the next one, or by http.forget.

local tasks = require "neap.task.core"

local pool = {}

---@class neap.http.pool_options
---@field per_origin? integer kept to one server with the same options; 8
---@field total? integer kept in all; 64, at most 1024
---@field idle_timeout? number seconds that one is kept unused; 30
local bounds = { per_origin = 8, total = 64, idle_timeout = 30 }
local TOTAL_MAX = 1024 -- each request looks at all of them

-- { {key, conn, since}, ... }, the oldest first; of one runtime.
local kept = {}

-- Nobody has anything to say on an idle connection: bytes belong to no request, an end is the end.
local function is_idle(conn)
  if conn.closed or conn.unread_bytes > 0 then return false end
  local bytes, _, code = conn:peek(1, { timeout = 0 })
  return not bytes and code == "ETIMEDOUT"
end

-- Ends those that are too old, and the oldest past `most` of them.
local function shrink(most)
  local limit = tasks.now() - bounds.idle_timeout
  while #kept > 0 and (#kept > most or kept[1].since <= limit) do
    table.remove(kept, 1).conn:close()
  end
end

-- The place of the oldest or the newest one of this key, and how many there are.
local function find(key)
  local oldest, newest, count = nil, nil, 0
  for i, entry in ipairs(kept) do
    if entry.key == key then oldest, newest, count = oldest or i, i, count + 1 end
  end
  return oldest, newest, count
end

-- Tables are told apart by numbers, for addresses are used again.
local numbers, number = setmetatable({}, { __mode = "k" }), 0

local function number_of(object)
  if not numbers[object] then number, numbers[object] = number + 1, number + 1 end
  return numbers[object]
end

local function text_of(name, value)
  local kind = type(value)
  if kind ~= "table" then return kind ~= "userdata" and kind ~= "function" and tostring(value) end
  if name == "context" then -- its options are others after each reload
    return ("%d %d"):format(number_of(value), number_of(value.opts or value))
  end
  local names = {}
  for i, one in ipairs(value) do names[i] = ("%q"):format(tostring(one)) end
  return name == "alpn" and table.concat(names, " ")
end

-- TLS options as text, the same for the same trust and certificates; nil: nobody can compare them.
function pool.tls_key(options)
  local list = {}
  for name, value in pairs(options) do
    local text = text_of(name, value)
    if not text then return nil end
    list[#list + 1] = ("%s %d %s"):format(name, #text, text)
  end
  table.sort(list)
  return table.concat(list, " ")
end

-- One that cannot be used, or whose task ends while it is looked at.
local abandon = {
  __close = function(unfinished)
    if unfinished.conn then unfinished.conn:abort() end
  end,
}

-- A connection that can be used, or nothing.
function pool.take(key)
  shrink(bounds.total)
  while true do
    local _, newest = find(key)
    if not newest then return nil end
    local conn = table.remove(kept, newest).conn
    local unfinished <close> = setmetatable({ conn = conn }, abandon)
    if is_idle(conn) then -- it gives way: others may keep and take meanwhile
      unfinished.conn = nil
      return conn
    end
  end
end

function pool.keep(key, conn)
  local oldest, _, count = find(key)
  if count >= bounds.per_origin then
    if count == 0 then return conn:close() end
    table.remove(kept, oldest).conn:close()
  end
  kept[#kept + 1] = { key = key, conn = conn, since = tasks.now() }
  shrink(bounds.total)
end

-- http.forget.
function pool.forget()
  while #kept > 0 do table.remove(kept).conn:close() end
end

local function is_fine(name, value)
  if type(value) ~= "number" or value ~= value or value < 0 then return false end
  if name == "idle_timeout" then return true end
  return math.type(value) == "integer" and (name ~= "total" or value <= TOTAL_MAX)
end

local function check(name, value)
  if bounds[name] == nil then
    error(("bad argument #1 to 'pool' (unknown option '%s')"):format(tostring(name)), 3)
  elseif not is_fine(name, value) then
    error(("bad argument #1 to 'pool' (option '%s': %s is out of range)"):format(name,
      tostring(value)), 3)
  end
end

-- http.pool.
function pool.configure(opts)
  if type(opts) ~= "table" then
    error(("bad argument #1 to 'pool' (table expected, got %s)"):format(type(opts)), 2)
  end
  for name, value in pairs(opts) do check(name, value) end
  for name, value in pairs(opts) do bounds[name] = value end
  for i = #kept, 1, -1 do -- the newest of each stay
    local oldest, _, count = find(kept[i].key)
    if count > bounds.per_origin then table.remove(kept, oldest).conn:close() end
  end
  shrink(bounds.total)
end

return pool
