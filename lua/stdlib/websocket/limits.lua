-- The limits of a WebSocket, which both sides' options set.

---@class neap.websocket.options
---@field max_message? integer bytes of a message that receive gives; 1048576
---@field max_frame? integer bytes of a frame; as max_message
---@field ping? number seconds of silence, while a task receives, after which a ping is sent; 30
---@field pong_timeout? number seconds that the peer may be silent after that; 10
---@field close_timeout? number seconds that close waits for the peer's; 5
---@field write_timeout? number seconds that each wait of a send may take; 60
---@field protocols? string[] subprotocols, the best one first
---@field deflate? boolean|neap.websocket.deflate compress messages (RFC 7692); false

local deflate = require "neap.websocket.deflate"

local defaults = {
  max_message = 1 << 20, ping = 30, pong_timeout = 10, close_timeout = 5, write_timeout = 60,
}

local function bad(where, name, kind, value)
  error(("bad argument #%d to '%s' (option '%s': a positive %s expected, got %s)"):format(where.n,
    where.name, name, kind, tostring(value)), 3)
end

local function is_size(value) return math.type(value) == "integer" and value > 0 end
local function is_time(value)
  return type(value) == "number" and value > 0 and value < math.huge
end

-- The values of these options, with their defaults. where: n and name of the argument they are.
return function(opts, where)
  local limits = {}
  for name, default in pairs(defaults) do
    local value = opts[name]
    if value == nil then value = default end
    local size = name:find "^max_"
    if not (size and is_size or is_time)(value) then
      bad(where, name, size and "integer" or "number", value)
    end
    limits[name] = value
  end
  limits.max_frame = opts.max_frame or limits.max_message
  if not is_size(limits.max_frame) then bad(where, "max_frame", "integer", limits.max_frame) end
  local config, wrong = deflate.config(opts.deflate)
  if wrong then
    error(("bad argument #%d to '%s' (option 'deflate': %s)"):format(where.n, where.name, wrong), 3)
  end
  limits.deflate = config
  return limits
end
