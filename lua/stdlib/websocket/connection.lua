-- A WebSocket connection after its handshake (RFC 6455), either side of it.
--
-- The one idea: the task that receives does the protocol's work too (receiving.lua); what is sent
-- goes straight to the stream, and waits for it.

local codec = require "neap.codec.core"
local core = require "neap.websocket.core"
local deflate = require "neap.websocket.deflate"
local event = require "neap.event.core".event
local frame = require "neap.websocket.frame"
local group = require "neap.group.core"
local receiving = require "neap.websocket.receiving"
local scope = require "neap.scope.core"
local tasks = require "neap.task.core"

local type, send, utf8_state = type, core.send, core.utf8
local now, valid_code = tasks.now, frame.valid_code
local send_frame, send_close, finish, wait_end =
  frame.send, frame.send_close, frame.finish, frame.wait_end
local next_piece, missed, collect = receiving.next_piece, receiving.missed, receiving.collect
local late, too_late = receiving.late, receiving.too_late
local read = require "neap.stream.core".methods.read

local connection = {}

local REASON_MAX = 123 -- a control frame's 125 bytes less the code

local opcodes = { text = 0x1, binary = 0x2 }
local whole = { text = 0x81, binary = 0x82 } -- with FIN
local FIN, RSV1, PING = 0x80, 0x40, 0x89
local PIECE = 65536 -- of what is compressed at once

---@class neap.websocket
---@field conn neap.stream for a hub, or to look at; reading and writing it breaks the protocol
---@field protocol? string the subprotocol that was agreed on
---@field close_code? integer the peer's: 1005 without one, 1006 an end without a close frame
---@field close_reason? string the peer's
---@field compression neap.websocket.compression|false what was agreed on about it; false: none
local ws = {}
ws.__index = ws
ws.__name = "neap.websocket"

-- server: we are one. compression: as deflate agreed on. What is asked for each message is there
-- from the start: a field that is not costs three times as much to look at.
function connection.new(conn, server, limits, protocol, compression)
  conn.timeout, conn.write_timeout = limits.ping, limits.write_timeout
  return setmetatable({
    conn = conn, server = server, limits = limits, protocol = protocol, wait = {}, seen = 0,
    masked = not server, closing = false, sending = false, pinged = false, inflating = false,
    quiet = false, draining = false,
    codec = codec.websocket(server, limits.max_frame, compression),
    compression = compression or false,
    inflater = compression and deflate.decompressor(compression),
    deflater = compression and deflate.compressor(compression),
  }, ws)
end

-- The message that this piece begins, or what a read failed with.
local function receive_rest(self, limit, piece, kind, bits)
  if not piece and (kind or bits) then
    local more, message, code = missed(self, kind, bits)
    if not more then return nil, message, code end
  end
  local last
  piece, kind, last = next_piece(self, limit, piece, kind, bits)
  while piece do
    local ok, message, code = collect(self, piece)
    if not ok then return nil, message, code end
    if last then
      piece, self.pieces = table.concat(self.pieces), nil
      return piece, kind
    end
    self.kind = kind
    if late(limit) then return too_late(self) end
    piece, kind, last = next_piece(self, limit)
  end
  return nil, kind, last
end

-- receive without a deadline: the short way of a message in one frame, for which conn.timeout is
-- limits.ping.
local function receive(self)
  if self.pinged or self.inflating or self.quiet or self.draining then return receive_rest(self) end
  local message, kind, bits = read(self.conn, self.codec)
  if message and not bits and #message <= self.limits.max_message then return message, kind end
  return receive_rest(self, nil, message, kind, bits)
end

--- The next message. Answers pings meanwhile, and sends them when the peer is silent. After a
-- failure other than a deadline's the connection is closed.
---@param opts? neap.timeout
---@return string|nil message nil alone: the close was agreed on, see close_code
---@return string? kind "text" or "binary"; or the error message
---@return string? code ETIMEDOUT (a deadline; or the peer does not answer pings), EBADMSG (the peer
-- broke the protocol: it was told 1002 or 1007), EMSGSIZE (1009), EPIPE (an end without close
-- frame), ECANCELED (closed), the connection's own
function ws:receive(opts)
  if not (opts and opts.timeout) then return receive(self) end
  return receive_rest(self, now() + opts.timeout)
end

-- What receive had of a message when its deadline came: a piece of it; nil: nothing.
local function kept_piece(self)
  local text = self.pieces and table.concat(self.pieces) or ""
  self.pieces = nil
  if #text > PIECE then collect(self, text:sub(PIECE + 1)) end
  return text ~= "" and text:sub(1, PIECE) or nil
end

--- The next piece of a message as its frames come, for messages of any size; at most 64 KiB.
---@param opts? neap.timeout
---@return string|nil piece nil as receive
---@return string? kind "text" or "binary"
---@return boolean|string|nil last whether the message ends with it
function ws:receive_piece(opts)
  local kept = kept_piece(self)
  if kept then return kept, self.kind, false end
  return next_piece(self, opts and opts.timeout and now() + opts.timeout)
end

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

--- An iterator over the messages until the close; raises everything else.
---@return fun(): string|nil, string|nil
function ws:messages()
  return function()
    local message, kind, code = receive(self)
    if message or not code or code == "ECANCELED" and self.closing then return message, kind end
    error(setmetatable({ message = kind, code = code }, failure), 2)
  end
end

-- The message that goes out in pieces: others wait for its end.
local sending = {
  __close = function(turn)
    local self = turn.ws
    self.sending = false
    if not turn.done and not self.closing then -- it will never end
      self.conn:abort()
      finish(self)
    end
    turn.event:set()
  end,
}

local function send_pieces(self, pieces, kind)
  local turn <close> = setmetatable({ ws = self, event = event() }, sending)
  self.sending = turn.event
  local deflater = self.deflater
  local bits, state = opcodes[kind] | (deflater and RSV1 or 0), 0
  for piece in pieces do
    if self.closing then return nil, "send: closed", "ECANCELED" end
    state = kind == "binary" and 0 or utf8_state(piece, state)
    if not state then error("text that is not UTF-8", 0) end
    local payload = deflater and deflater:compress(piece) or piece
    if payload ~= "" or not deflater then
      local ok, message, code = send_frame(self, bits, payload)
      if not ok then return nil, message, code end
      bits = 0
    end
    if deflater then tasks.yield() end
  end
  if state ~= 0 then error("text that ends inside a character", 0) end
  if self.closing then return nil, "send: closed", "ECANCELED" end
  local ok, message, code =
    send_frame(self, bits | FIN, deflater and deflater:compress("", true) or "")
  turn.done = ok ~= nil
  return ok, message, code
end

-- A message that is worth it. Without takeover one that compression makes longer goes as it is;
-- with it the peer's window must get all that ours has got, or the connection ends.
local function send_compressed(self, bits, message)
  if not self.compression.takeover then
    local payload = self.deflater:compress(message, true)
    if #payload >= #message then return send_frame(self, bits | FIN, message) end
    return send_frame(self, bits | FIN | RSV1, payload)
  end
  local turn <close> = setmetatable({ ws = self, event = event() }, sending)
  self.sending = turn.event
  local ok, why, code =
    send_frame(self, bits | FIN | RSV1, self.deflater:compress(message, true))
  turn.done = ok ~= nil
  return ok, why, code
end

-- A message in pieces of PIECE bytes.
local function slices(message)
  local at = 1 - PIECE
  return function()
    at = at + PIECE
    if at <= #message then return message:sub(at, at + PIECE - 1) end
  end
end

-- Whatever is more than a frame, or has to wait for one.
local function send_slowly(self, message, kind)
  local bits = opcodes[kind or "text"]
  if not bits then
    error(("bad argument #2 to 'send' (\"text\" or \"binary\" expected, got %s)"):format(
      tostring(kind)), 2) -- send calls this last, so the level is its caller's
  end
  local text = type(message) == "string"
  if not text and type(message) ~= "function" then
    error(("bad argument #1 to 'send' (string or function expected, got %s)"):format(
      type(message)), 2)
  end
  while self.sending do self.sending:wait() end
  if self.closing then return nil, "send: closed", "ECANCELED" end
  if not text then return send_pieces(self, message, kind or "text") end
  local how = self.compression
  if not how or #message < how.threshold then
    return send_frame(self, bits | FIN, message) -- text is checked there
  elseif bits == 1 and not utf8_state(message, 0, true) then
    return nil, "send: text that is not UTF-8", "EINVAL"
  elseif #message > PIECE then
    return send_pieces(self, slices(message), kind or "text")
  end
  return send_compressed(self, bits, message)
end

--- Sends a message; waits while the peer does not keep up. Of an iterator each piece is a frame;
-- other messages wait for its end, and an error in it breaks the connection.
---@param message string|fun(): string|nil
---@param kind? string "text" (the default) or "binary"
---@return neap.websocket|nil self
---@return string? message
---@return string? code EINVAL (text that is not UTF-8), ECANCELED (closed), the connection's own
function ws:send(message, kind)
  local bits = whole[kind or "text"]
  if not bits or type(message) ~= "string" or self.compression or self.sending or self.closing then
    return send_slowly(self, message, kind)
  end
  local ok, why, code = send(self.conn, message, bits, self.masked) -- text is checked there
  if ok then return self end
  return nil, why, code
end

--- Sends a ping; the pong is taken by the task that receives.
---@param payload? string at most 125 bytes
---@return neap.websocket|nil self
---@return string? message
---@return string? code
function ws:ping(payload)
  payload = payload or ""
  if type(payload) ~= "string" or #payload > 125 then
    error("bad argument #1 to 'ping' (a string of at most 125 bytes expected)", 2)
  end
  if self.closing then return nil, "ping: closed", "ECANCELED" end
  return send_frame(self, PING, payload)
end

-- What comes before the peer's close frame is dropped; other tasks that receive wait for the end.
-- Where one of them is waiting for a frame already, that one will see the close.
local function drain(self, limit)
  if self.draining then return wait_end(self, limit) end
  self.draining = tasks.current()
  while not self.conn.closed do
    local fine, piece, _, code = pcall(next_piece, self, limit)
    if not fine and piece == group.cancelled then error(piece, 0) end
    if not fine then
      self.draining = false
      return wait_end(self, limit)
    end
    if not piece then return code ~= "ETIMEDOUT" end
    if late(limit) then return false end
  end
  return true
end

local ending = { __close = function(over) finish(over.ws) end }

--- Closes: sends the code, waits until the peer has agreed or close_timeout is over, closes the
-- connection. `local ws <close> = …` does it with 1000, after an error 1011, when cancelled 1001.
---@param code? integer 1000, 3000 to 4999 (4000 on are the application's), or another of RFC 6455's
---@param reason? string at most 123 bytes
---@return true|nil closed
---@return string? message
---@return string? code ETIMEDOUT: the peer did not answer
function ws:close(code, reason)
  if code ~= nil and not (math.type(code) == "integer" and valid_code(code)) then
    error(("bad argument #1 to 'close' (a close code expected, got %s)"):format(
      tostring(code)), 2)
  end
  reason = reason or ""
  if type(reason) ~= "string" or #reason > REASON_MAX or not utf8_state(reason, 0, true) then
    error("bad argument #2 to 'close' (at most 123 bytes of UTF-8 expected)", 2)
  end
  if self.conn.closed then return true end
  local seconds = self.limits.close_timeout
  local _ <close> = setmetatable({ ws = self }, ending) -- also of a task that is cancelled again
  local agreed = scope.timeout(seconds, function() -- also for a write to a peer that is stuck
    return send_close(self, code or 1000, reason) and drain(self, now() + seconds)
  end)
  if agreed then return true end
  return nil, "close: the peer did not answer: timed out", "ETIMEDOUT"
end

function ws:__close(err)
  self:close(err == nil and 1000 or err == group.cancelled and 1001 or 1011)
end

function ws:__gc() self.conn:abort() end

function ws:__tostring()
  return ("neap.websocket{%s %s}"):format(self.server and "server" or "client",
    tostring(self.conn))
end

connection.meta = ws

return connection
