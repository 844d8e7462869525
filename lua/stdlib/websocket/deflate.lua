-- permessage-deflate (RFC 7692): what both sides agree on, and what then makes payloads of messages
-- and messages of payloads.
--
-- The one idea: unless a window is to be kept from message to message (takeover), a compressor is
-- lent to a connection for one message, so memory goes by messages under way, not by connections.

local zlib = require "neap.zlib.core"

local deflate = {}

local NAME = "permessage-deflate"
local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+"
local POOL_MAX = 4 -- compressors that nobody uses at the moment, 256 KiB each
local TAIL = "\0\0\xff\xff" -- what a flush ends with, and is not sent (7.2.1)

---@class neap.websocket.deflate
---@field takeover? boolean messages refer to earlier ones: smaller, for 256 KiB and more a
-- connection, and a peer that can choose what is said can find out what else is; false
---@field window_bits? integer 9 to 15: references reach back at most 2^bits bytes; 15
---@field level? integer 1 (fast) to 9 (small); 6
---@field threshold? integer bytes from which on a message is compressed; 1024
local defaults = { takeover = false, window_bits = 15, level = 6, threshold = 1024 }
local ranges = { window_bits = { 9, 15 }, level = { 1, 9 }, threshold = { 0, math.maxinteger } }

local function is_valid(name, value)
  local range = ranges[name]
  if not range then return type(value) == "boolean" end
  return math.type(value) == "integer" and value >= range[1] and value <= range[2]
end

--- The values of the option `deflate`; nil: off; or false and what is wrong with it.
function deflate.config(value)
  if not value then return nil end
  local config = {}
  if value ~= true and type(value) ~= "table" then return false, "boolean or table expected" end
  for name, default in pairs(defaults) do config[name] = default end
  for name, one in pairs(value == true and {} or value) do
    if defaults[name] == nil then return false, ("unknown field '%s'"):format(tostring(name)) end
    if not is_valid(name, one) then
      return false, ("field '%s': %s is out of range"):format(name, tostring(one))
    end
    config[name] = one
  end
  return config
end

-- Negotiation.

-- The extensions that a header field lists (RFC 6455 9.1); nil: it is malformed. Of each its name,
-- its params by name (true: without value), and whether one of these comes twice.
function deflate.parse(field)
  local list, at = {}, 1
  local function match(pattern)
    local found = field:match(pattern, at)
    if found then at = field:find("[^ \t]", at + #found) or #field + 1 end
    return found
  end
  local function value()
    local quoted = match '^"[^"]*"'
    if not quoted then return match(TOKEN) end
    local text = quoted:sub(2, -2):gsub("\\(.)", "%1")
    return text:match(TOKEN .. "$")
  end
  match "^[ \t]+"
  while at <= #field do
    if not match "^," then
      local one = { name = match(TOKEN), params = {} }
      if not one.name then return nil end
      while match "^;" do
        local name = match(TOKEN)
        local given = name and (not match "^=" or value())
        if not given then return nil end
        one.twice = one.twice or one.params[name] ~= nil
        one.params[name] = given
      end
      if at <= #field and not match "^," then return nil end
      list[#list + 1] = one
    end
  end
  return list
end

local flags = { server_no_context_takeover = true, client_no_context_takeover = true }

local function bits_of(value)
  local bits = type(value) == "string" and value:find "^[1-9]%d?$" and tonumber(value)
  return bits and bits >= 8 and bits <= 15 and bits or nil
end

-- Whether its parameters are ones that 7.1 knows. In an offer client_max_window_bits may stand
-- alone.
local function acceptable(one, offer)
  if one.twice then return false end
  for name, value in pairs(one.params) do
    if flags[name] then
      if value ~= true then return false end
    elseif name == "server_max_window_bits" then
      if not bits_of(value) then return false end
    elseif name ~= "client_max_window_bits" or
      not (bits_of(value) or offer and value == true) then
      return false
    end
  end
  return true
end

---@class neap.websocket.compression
---@field takeover boolean whether messages that we send refer to earlier ones
---@field window_bits integer how far back what we send refers
---@field receive_takeover boolean the same of the peer
---@field receive_bits integer
local function agreed(config, send_takeover, send_bits, receive_takeover, receive_bits)
  return {
    takeover = send_takeover, window_bits = send_bits, receive_takeover = receive_takeover,
    receive_bits = receive_bits, level = config.level, threshold = config.threshold,
  }
end

-- The parameters that say so: sent by `role`, which speaks of itself and of the other one.
local function say(out, name, bits, takeover, always)
  if not takeover then out[#out + 1] = name .. "_no_context_takeover" end
  if bits < 15 or always then out[#out + 1] = ("%s_max_window_bits=%d"):format(name, bits) end
end

--- A server's choice among what the field offers: the agreement and the field of the answer; nil:
--- nothing that can be accepted; false: the field is malformed. The first offer that is right
--- counts; wrong ones are declined, as 7.1 says.
function deflate.accept(field, config)
  local offers = deflate.parse(field)
  if not offers then return false end
  for _, offer in ipairs(offers) do
    if offer.name:lower() == NAME and acceptable(offer, true) then
      local params, out, most = offer.params, { NAME }, config.window_bits
      local ours = bits_of(params.server_max_window_bits)
      local theirs = params.client_max_window_bits
      local send = config.takeover and not params.server_no_context_takeover
      local receive = config.takeover and not params.client_no_context_takeover
      -- who does not offer to use less uses all
      local receive_bits = theirs and math.min(most, bits_of(theirs) or 15) or 15
      local send_bits = math.min(most, ours or 15)
      say(out, "server", send_bits, send, ours)
      say(out, "client", receive_bits, receive)
      return agreed(config, send, send_bits, receive, receive_bits), table.concat(out, "; ")
    end
  end
end

--- What a client offers.
function deflate.offer(config)
  local out = { NAME }
  say(out, "server", config.window_bits, config.takeover)
  say(out, "client", config.window_bits, config.takeover)
  if config.window_bits == 15 then out[#out + 1] = "client_max_window_bits" end
  return table.concat(out, "; ")
end

--- What the server made of that: the agreement, or nil and what is wrong with it.
function deflate.check(field, config)
  local list = deflate.parse(field)
  if not list then return nil, "malformed Sec-WebSocket-Extensions" end
  local one = list[1]
  if #list ~= 1 or one.name:lower() ~= NAME then return nil, "an extension nobody asked for" end
  local params = one.params
  if not acceptable(one) then return nil, "parameters of " .. NAME .. " that there are not" end
  local theirs = bits_of(params.server_max_window_bits) or 15
  local ours = bits_of(params.client_max_window_bits) or config.window_bits
  if theirs > config.window_bits or ours > config.window_bits or
    not config.takeover and not params.server_no_context_takeover then
    return nil, NAME .. " on other terms than offered"
  end
  local send = config.takeover and not params.client_no_context_takeover
  return agreed(config, send, ours, not params.server_no_context_takeover, theirs)
end

-- Compressors that are lent.

local pool = {}

local function take(kind, opts)
  local key = ("%s %d %d"):format(kind, opts.window_bits, opts.level or 0)
  local free = pool[key]
  if not free then
    free = {}
    pool[key] = free
  end
  local z = table.remove(free)
  if not z then
    opts.format = "raw"
    opts.joined = kind == "inflater" or nil -- a message may end a stream, another begin (7.2.3.4)
    z = zlib[kind](opts)
  end
  return z, free
end

local function give(z, free)
  if #free >= POOL_MAX then z:close()
  else free[#free + 1] = z:reset() end
end

-- One direction of a connection. `coder` is there during a message, or, with takeover, for good.
local coder = {}
coder.__index = coder

local function begin(self)
  if self.z then return self.z end
  if self.takeover then
    local opts = { format = "raw", window_bits = self.bits, level = self.level }
    opts.joined = self.kind == "inflater" or nil
    self.z = zlib[self.kind](opts)
  else
    self.z, self.free = take(self.kind, { window_bits = self.bits, level = self.level })
  end
  return self.z
end

--- The message is over, or will never be.
function coder:release()
  if not self.z or self.takeover then return end
  give(self.z, self.free)
  self.z = nil
end

--- The connection is over.
function coder:close()
  if self.z then self.z:close() end
  self.z = nil
end

--- The payload of a frame; last: of the message's last one.
function coder:compress(piece, last)
  local z = begin(self)
  local out = z:compress(piece, last and "sync" or "none")
  if not last then return out end
  self:release()
  if out:sub(-4) == TAIL then out = out:sub(1, -5) end
  return out == "" and "\0" or out -- an empty message has a byte (7.2.3.6)
end

--- A payload to inflate: `next` gives what is in it.
function coder:feed(payload, last)
  begin(self):feed(payload)
  if last then self.z:feed(TAIL) end
end

--- At most max bytes of what was fed; nil: that was all; nil, message.
function coder:next(max) return self.z:next(max) end

--- For what a connection sends, by its agreement.
function deflate.compressor(how)
  return setmetatable({
    kind = "deflater", bits = how.window_bits, takeover = how.takeover, level = how.level,
  }, coder)
end

--- For what it receives. A window of 8 bits is taken for one of 9: zlib cannot make smaller ones,
--- and older ones said otherwise.
function deflate.decompressor(how)
  return setmetatable({
    kind = "inflater", bits = math.max(how.receive_bits, 9), takeover = how.receive_takeover,
  }, coder)
end

return deflate
