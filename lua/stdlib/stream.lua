-- neap.stream: what streams do beyond the C core: grammars, codecs written in Lua, sending
-- messages.
--
-- Framing is the core's: it looks at each byte once. A grammar or a decoder in Lua looks at all
-- bytes from the beginning each time, so its attempts are bounded here: past TRY_ALWAYS bytes it
-- is tried again when twice as many are there, at the end, or when the peer has been silent for a
-- while that grows with the cost of an attempt.

---@class neap.stream
local methods = require("neap.stream.core").methods

-- Up to this many bytes an attempt costs less than the event that brings them.
local TRY_ALWAYS = 4096
-- Silence before the next attempt, per byte: 64 KiB wait 4 ms, so attempts take a small part of
-- the time.
local PAUSE_S = 6e-8

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

local function fail(self, what, text, code) return nil, ("%s %s: %s"):format(what, tostring(self),
  text), code end

-- Calls attempt(bytes, at_end) until it gives something or the bytes are at an end; attempt
-- returns true and how many bytes it took, then its results; false: more are needed.
local function attempts(self, what, max, opts, attempt)
  local limit = opts and opts.timeout or self.timeout
  local now = require("neap").now
  local by = limit and now() + limit
  local function left() return by and math.max(0, by - now()) end
  local need, ended = 1, false
  while true do
    local bytes, message, code = self:peek(math.min(need, max), { timeout = left() })
    if bytes then bytes = self:peek() end -- all that is here
    if not bytes and code then return nil, message, code end
    bytes = bytes or ""
    if #bytes < need and need <= max then ended = true end -- peek gives fewer only at the end
    local results = table.pack(attempt(bytes:sub(1, max), ended))
    if results[1] then
      if results[2] > 0 then self:read(results[2]) end
      return table.unpack(results, 3, results.n)
    elseif results[1] == nil then
      return nil, results[2], results[3]
    end
    if #bytes >= max then return fail(self, what, "message too long", "EMSGSIZE") end
    if ended then
      if #bytes == 0 then return nil end
      return fail(self, what, "the end came inside it", "EPIPE")
    end
    need = #bytes + 1
    if #bytes > TRY_ALWAYS then
      local pause = math.min(#bytes * PAUSE_S, left() or math.huge)
      local twice = math.min(2 * #bytes, max)
      local more, _, why = self:peek(twice, { timeout = pause })
      if not more and why ~= "ETIMEDOUT" then need = 1 end -- the next round reports it
    end
  end
end

--- Reads what an LPeg pattern matches from the first unread byte on, and takes it. The pattern has
-- to end by itself (`P"x"^0` matches any beginning of more x): it is tried on what is there, again
-- as more comes, boundedly often, and a match that reaches the last byte there counts. No match
-- yet means more bytes are needed, until `max` or the end.
---@param pattern userdata an LPeg pattern; the results are its captures, else the matched text
---@param max? integer bytes (line_max: 65536); past them EMSGSIZE, and the bytes stay
---@param opts? { timeout: number }
---@return any ... nil at the end; nil, message, code: EMSGSIZE, EPIPE (the end), ETIMEDOUT
function methods:match(pattern, max, opts)
  local lpeg = require "lpeg"
  if lpeg.type(pattern) ~= "pattern" then
    error(("bad argument #1 to 'match' (LPeg pattern expected, got %s)"):format(type(pattern)), 2)
  end
  if max ~= nil and (math.type(max) ~= "integer" or max < 1) then
    error("bad argument #2 to 'match' (a positive integer expected)", 2)
  end
  local whole = lpeg.Ct(pattern) * lpeg.Cp()
  return attempts(self, "match", max or self.line_max, opts, function(bytes)
    local captures, after = whole:match(bytes)
    if not captures then return false end
    if #captures == 0 then return true, after - 1, bytes:sub(1, after - 1) end
    return true, after - 1, table.unpack(captures)
  end)
end

local core_messages = methods.messages

local function decoded(self, codec)
  return attempts(self, "decode", self.read_max, nil, function(bytes, ended)
    if bytes == "" and ended then return false end
    local r = table.pack(codec:decode(bytes, 1, ended))
    if r[1] == nil then
      if r[2] == "more" then return false end
      return nil, r[2], r[3]
    end
    return true, r[r.n] - 1, table.unpack(r, 1, r.n - 1)
  end)
end

--- Iterates over messages. A codec of neap.codec is matched in C as bytes arrive; any table with
-- `decode(self, bytes, pos, eof)` (see neap.Codec) serves too. Ends at the end of the stream and
-- when our side closes it; raises everything else.
---@param codec neap.Codec|table
---@return fun(): any, ...
function methods:messages(codec)
  if type(codec) == "userdata" then return core_messages(self, codec) end
  if type(codec) ~= "table" or type(codec.decode) ~= "function" then
    error("bad argument #1 to 'messages' (a codec expected: a table with decode)", 2)
  end
  return function()
    local r = table.pack(decoded(self, codec))
    if r[1] == nil and r[3] and r[3] ~= "ECANCELED" then
      error(setmetatable({ message = r[2], code = r[3] }, failure), 2)
    end
    if r[1] == nil then return nil end
    return table.unpack(r, 1, r.n)
  end
end

--- Writes a message by a codec's `encode(self, message, ...)`, which gives one or more strings.
---@param codec table
---@param ... any what encode takes
---@return neap.stream|nil self
---@return string? message
---@return string? code
function methods:send_message(codec, ...)
  if type(codec) ~= "table" or type(codec.encode) ~= "function" then
    error("bad argument #1 to 'send_message' (a codec expected: a table with encode)", 2)
  end
  return self:write(codec:encode(...))
end

return methods
