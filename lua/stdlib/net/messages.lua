-- neap.net.messages: codecs over datagram and record sockets, where each message is a frame.
--
-- A record that is no message concerns nobody but its sender, so it ends no iteration: anybody can
-- send to a datagram socket.

local compose = require "neap.codec.compose"
local face = require "neap.face"

---@class neap.datagram
local methods = require("neap.dgram.core").methods

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

-- Told at the line of the public function's caller (neap.face).
local function check_codec(c, what, f)
  if compose.is_codec(c) and type(c[f]) == "function" then return end
  error(("bad argument #1 to '%s' (a codec expected: a table with %s)"):format(what, f))
end

-- The values of a message, then who sent it.
local function with_sender(from, info, first, ...)
  if first == nil then
    local text, code = ...
    return nil, text, code, from, info
  end
  local n = select("#", ...)
  if n == 0 then return first, from, info end
  local r = { first, ... }
  r[n + 2], r[n + 3] = from, info
  return table.unpack(r, 1, n + 3)
end

local function parsed(codec, bytes, from, ...)
  if bytes == nil then return nil, from, ... end
  return with_sender(from, (...), compose.parse(codec, bytes))
end

--- Receives a datagram or record that is one message and nothing else (codec.parse).
---@param codec neap.Codec|table
---@param opts? neap.datagram.recv_options
---@return any ... the values of the message, its sender, with the option `info` what recv tells;
--- nil at the end of a record socket; or nil, message, code as recv. EBADMSG, EMSGSIZE: it is no
--- such message, and gone; the sender and the info follow the code.
function methods:read_message(codec, opts)
  check_codec(codec, "read_message", "decode")
  if opts == nil then return parsed(codec, self:recv()) end
  return parsed(codec, self:recv(nil, opts))
end

-- What read_message gave, for an iterator: true and the values, true alone at the end, false for
-- what is no message.
local function iterated(first, text, code, ...)
  if first ~= nil then return true, first, text, code, ... end
  if code == nil or code == "ECANCELED" then return true end
  if code == "EBADMSG" or code == "EMSGSIZE" then return false end
  error(setmetatable({ message = text, code = code }, failure), 0)
end

local function settle(again, self, codec, ok, ...)
  if ok then return ... end
  return again(self, codec)
end

local function next_message(self, codec)
  return settle(next_message, self, codec, iterated(methods.read_message(self, codec)))
end

--- Iterates over messages: `for message, from in socket:messages(codec)`; of several values the
-- sender is the last. What is no message is left out (read_message tells of it). Ends at the end of
-- a record socket and when our side closes it; raises everything else.
---@param codec neap.Codec|table
---@return fun(): any, ...
function methods:messages(codec)
  check_codec(codec, "messages", "decode")
  return function() return next_message(self, codec) end
end

local function sent(self, to, opts, first, ...)
  if first == nil then return nil, ... end
  if select("#", ...) > 0 then first = table.concat { first, ... } end
  return self:send(first, to, opts)
end

--- Sends a message by a codec's `encode`, as one datagram or record. Of several values it is a
-- list.
---@param codec neap.Codec|table
---@param message any
---@param to? neap.address|neap.datagram.send_options nil or left out: the connected peer
---@param opts? neap.datagram.send_options
---@return true? ok
---@return string? message
---@return string? code as send; EINVAL, EMSGSIZE of encode: nothing was sent
function methods:send_message(codec, message, to, opts)
  check_codec(codec, "send_message", "encode")
  return sent(self, to, opts, codec:encode(message))
end

for _, name in ipairs { "read_message", "messages", "send_message" } do
  methods[name] = face(methods[name])
end
