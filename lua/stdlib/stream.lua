-- neap.stream: what streams do beyond the C core: grammars, codecs written in Lua, sending
-- messages.
--
-- Framing is the core's: it looks at each byte once. A grammar or a decoder in Lua looks at all
-- bytes from the beginning each time, so its attempts are bounded here: past TRY_ALWAYS bytes it
-- is tried again when twice as many are there, at the end, or when the peer has been silent for a
-- while that grows with the cost of an attempt. A decoder that says how many bytes it lacks is
-- asked again when they have come.

---@class neap.stream
local methods = require("neap.stream.core").methods

-- Up to this many bytes an attempt costs less than the event that brings them.
local TRY_ALWAYS = 4096
-- What a codec looks at first: a small message does not cost a copy of all that is here.
local WINDOW = 1024
-- Silence before the next attempt, per byte: 64 KiB wait 4 ms, so attempts take a small part of
-- the time.
local PAUSE_S = 6e-8

local face = require "neap.face"
local matcher = require "neap.codec.grammar"

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

local function fail(self, what, text, code) return nil, ("%s %s: %s"):format(what, tostring(self),
  text), code end

-- Calls attempt(bytes, at_end) until it gives something or the bytes are at an end; attempt
-- returns true and how many bytes it took, then its results; false and how many more are needed at
-- least (1). It gets all that is here, or, in `pieces`, a window that grows while it lacks bytes.
local function attempts(self, what, max, opts, attempt, pieces)
  local limit = opts and opts.timeout or self.timeout
  local now = require("neap").now
  local by = limit and now() + limit
  local function left() return by and math.max(0, by - now()) end
  local need, ended, window = 1, false, WINDOW
  while true do
    local least = math.min(need, max)
    local bytes, message, code
    if pieces then
      local most = math.max(least, math.min(window, max))
      bytes, message, code = self:peek(least, most, { timeout = left() })
    else
      bytes, message, code = self:peek(least, { timeout = left() })
      if bytes then bytes = self:peek() end
    end
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
    local lack = math.max(results[2] or 1, 1)
    if lack > max - #bytes then return fail(self, what, "message too long", "EMSGSIZE") end
    if ended then
      if #bytes == 0 then return nil end
      return fail(self, what, "the end came inside it", "EPIPE")
    end
    need, window = #bytes + lack, math.max(WINDOW, 2 * #bytes)
    if #bytes > TRY_ALWAYS and lack < #bytes then
      local pause = math.min(#bytes * PAUSE_S, left() or math.huge)
      local twice = math.min(2 * #bytes, max)
      local more, _, why = self:peek(math.max(twice, need), { timeout = pause })
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
---@return any ... nil at the end; nil, message, code: EMSGSIZE, EPIPE (the end), ETIMEDOUT, EBADMSG
--- (nested deeper than LPeg goes, or more than 100000 captures; the bytes stay)
function methods:match(pattern, max, opts)
  local lpeg = require "lpeg"
  if lpeg.type(pattern) ~= "pattern" then
    error(("bad argument #1 to 'match' (LPeg pattern expected, got %s)"):format(type(pattern)), 2)
  end
  if max ~= nil and (math.type(max) ~= "integer" or max < 1) then
    error("bad argument #2 to 'match' (a positive integer expected)", 2)
  end
  local match = matcher(lpeg.Ct(pattern) * lpeg.Cp())
  return attempts(self, "match", max or self.line_max, opts, function(bytes)
    local captures, after = match(bytes)
    if not captures and after then return fail(self, "match", after, "EBADMSG") end
    if not captures then return false end
    if #captures == 0 then return true, after - 1, bytes:sub(1, after - 1) end
    return true, after - 1, table.unpack(captures)
  end)
end

local core_messages = methods.messages

local function decoded(self, codec, opts)
  return attempts(self, "decode", self.read_max, opts, function(bytes, ended)
    if bytes == "" and ended then return false end
    local r = table.pack(codec:decode(bytes, 1, ended))
    if r[1] == nil then
      if r[2] == "more" then return false, r[3] end
      return nil, r[2], r[3]
    end
    return true, r[r.n] - 1, table.unpack(r, 1, r.n - 1)
  end, true)
end

local function check_codec(codec, what, f)
  local t = type(codec)
  if t == "userdata" or t == "table" and type(codec[f]) == "function" then return end
  error(("bad argument #1 to '%s' (a codec expected: a table with %s)"):format(what, f), 3)
end

-- What codec.map and its like do with a frame; nil at the end stays nil.
local function through(codec, first, ...)
  if first == nil then return nil, ... end
  return codec.through(first, ...)
end

-- The results of a message for an iterator: failures are raised, our own closing ends it.
local function iterated(first, message, code, ...)
  if first == nil and code and code ~= "ECANCELED" then
    error(setmetatable({ message = message, code = code }, failure), 3)
  end
  if first == nil then return nil end
  return first, message, code, ...
end

--- Iterates over messages. A codec of neap.codec is matched in C as bytes arrive; any table with
-- `decode(self, bytes, pos, eof)` (see neap.Codec) serves too. Ends at the end of the stream and
-- when our side closes it; raises everything else.
---@param codec neap.Codec|table
---@return fun(): any, ...
function methods:messages(codec)
  if type(codec) == "userdata" then return core_messages(self, codec) end
  check_codec(codec, "messages", "decode")
  local frames = codec.framing and core_messages(self, codec.framing)
  return function()
    if frames then return iterated(through(codec, frames())) end
    return iterated(decoded(self, codec))
  end
end

local function read(self, codec, opts)
  if opts then return self:read(codec, opts) end
  return self:read(codec)
end

--- Reads one message. Bytes that are no message yet stay where they are; a frame that codec.map and
-- its like refuse (EBADMSG) is taken.
---@param codec neap.Codec|table
---@param opts? { timeout: number }
---@return any ... nil at the end; nil, message, code: EMSGSIZE, EBADMSG, EPIPE (the end inside it),
--- ETIMEDOUT, ECANCELED
function methods:read_message(codec, opts)
  check_codec(codec, "read_message", "decode")
  local framing = type(codec) == "userdata" and codec or codec.framing
  if framing == codec then return read(self, codec, opts) end
  if framing then return through(codec, read(self, framing, opts)) end
  return decoded(self, codec, opts)
end

local function written(self, first, ...)
  if first == nil then return nil, ... end
  return self:write(first, ...)
end

--- Writes a message by a codec's `encode(self, message, ...)`, which gives one or more strings, or
-- nil, message, code for what it cannot encode (EINVAL, EMSGSIZE): then nothing is written.
---@param codec neap.Codec|table
---@param ... any what encode takes
---@return neap.stream|nil self
---@return string? message
---@return string? code
function methods:send_message(codec, ...)
  check_codec(codec, "send_message", "encode")
  return written(self, codec:encode(...))
end

local starttls = face(function(self, opts) return require("neap.tls").start(self, opts) end)

--- Puts TLS on this stream and waits for the handshake; also on one that has TLS already.
--
-- What is unread is refused (EPROTO): who speaks TLS next does not send before the handshake, so
-- those bytes are somebody else's; `unread = true` hands them to TLS, for protocols whose header
-- and first record may come together (PROXY).
---@param opts? neap.tls.options and: server (boolean), name (string, the server's name to ask for
---  and check), context, timeout (seconds, 10), unread (boolean), session (string)
---@return neap.stream|nil self
---@return string? message
---@return string? code ECERT, ETLS, EPROTO, ETIMEDOUT and what the stream's own failures are
function methods:starttls(opts) return starttls(self, opts) end

local core_send_file = require("neap.sendfile.core").send_file

local send_file = face(function(self, file, from, len, opts)
  if type(file) == "string" then
    local f <close>, message, code = require("neap.fs").open(file)
    if not f then return nil, message, code, 0 end
    local r = table.pack(core_send_file(self, f, from, len, opts))
    return table.unpack(r, 1, r.n)
  end
  if io.type(file) == "file" then file:flush() end
  return core_send_file(self, file, from, len, opts)
end)

--- Sends bytes of a file, in its turn among the writes and after what is queued; they do not pass
-- through the script, and where the stream has no layer not through the process either
-- (sendfile). Without `len` all from `from` on. Returns when the kernel, or below 64 KiB of it the
-- queue, has taken all. The file's own position is neither used nor moved.
--
-- A file that ends before `len` bytes is a failure (ENODATA): nothing is sent if its size tells
-- that before. A deadline or cancellation breaks the stream, as it does in `write`. What is not in
-- the system's cache is read from the disk while everything waits, at most 256 KiB at a time.
---@param file string|neap.file|file*|userdata|integer a path, a file, or a descriptor
---@param from? integer offset of the first byte; 0
---@param len? integer bytes; up to the end
---@param opts? { timeout: number } seconds for all of it; the stream's
---@return integer|nil sent bytes; or nil, message, code and then their number
---@return string? message
---@return string? code ENODATA; EINVAL not a regular file; EISDIR; ENOENT …; as write
---@return integer? sent
function methods:send_file(file, from, len, opts)
  return send_file(self, file, from, len, opts)
end

return methods
