-- A WebSocket connection after its handshake (RFC 6455), either side of it.
--
-- The one idea: the task that receives does the protocol's work too. It answers pings and the
-- close, sends a ping into silence, and ends the connection when the peer breaks a rule, with the
-- close code that says which. What is sent goes straight to the stream, and waits for it.

local codec = require "neap.codec.core"
local core = require "neap.websocket.core"
local event = require "neap.event.core".event
local group = require "neap.group.core"
local scope = require "neap.scope.core"
local tasks = require "neap.task.core"

local send, utf8_state, now, expired = core.send, core.utf8, tasks.now, scope.expired
local read = require "neap.stream.core".methods.read

local connection = {}

-- Pieces that are kept apart; more are joined, so that tiny ones cost no more than their bytes.
local PIECES_MAX = 1024
local REASON_MAX = 123 -- a control frame's 125 bytes less the code

-- The codes a close frame may have (RFC 6455 7.4, IANA's registry).
local function valid_code(code)
  return code >= 3000 and code <= 4999 or code >= 1000 and code <= 1014 and
    code ~= 1004 and code ~= 1005 and code ~= 1006
end

local opcodes = { text = 0x1, binary = 0x2 }
local FIN, CLOSE, PING, PONG = 0x80, 0x88, 0x89, 0x8a

---@class neap.websocket
---@field conn neap.stream for a hub, or to look at; reading and writing it breaks the protocol
---@field protocol? string the subprotocol that was agreed on
---@field close_code? integer the peer's: 1005 without one, 1006 an end without a close frame
---@field close_reason? string the peer's
local ws = {}
ws.__index = ws
ws.__name = "neap.websocket"

-- server: we are one.
function connection.new(conn, server, limits, protocol)
  conn.timeout, conn.write_timeout = limits.ping, limits.write_timeout
  return setmetatable({
    conn = conn, server = server, limits = limits, protocol = protocol, wait = {}, seen = 0,
    codec = codec.websocket(server, limits.max_frame),
  }, ws)
end

local function send_frame(self, bits, payload)
  local ok, message, code = send(self.conn, payload, bits, not self.server)
  if ok then return self end
  return nil, message, code
end

local function send_close(self, code, reason)
  if self.closing then return true end
  self.closing = true
  return send_frame(self, CLOSE, code and string.pack(">I2", code) .. (reason or "") or "")
end

-- The connection is over.
local function finish(self)
  self.conn:close()
  if self.ended then self.ended:set() end
end

-- The peer broke a rule: it gets the close code, the caller the reason.
local function refuse(self, close_code, reason)
  send_close(self, close_code, reason)
  finish(self)
  return nil, ("%s: websocket: %s"):format(self.conn.peer or "the peer", reason),
    close_code == 1009 and "EMSGSIZE" or "EBADMSG"
end

-- A read that gave no frame.
local function lost(self, message, code)
  if self.close_code and self.close_code ~= 1006 then return nil end
  if code == "EMSGSIZE" then
    return refuse(self, 1009, ("a frame of more than %d bytes"):format(self.limits.max_frame))
  elseif code == "EBADMSG" then
    return refuse(self, core.refusal(self.codec))
  elseif code == nil or code == "EPIPE" then
    self.close_code = 1006
    finish(self)
    return nil, "the connection ended without a close frame", "EPIPE"
  end
  if code ~= "ETIMEDOUT" then finish(self) end
  return nil, message, code
end

-- Silence: true if there is more to wait for.
local function silent(self)
  local unread = self.conn.unread_bytes
  if unread ~= self.seen then -- a long frame is on its way
    self.seen, self.pinged = unread, false
    return true
  end
  if self.pinged then return false end
  self.pinged = true
  return send_frame(self, PING, "") ~= nil
end

-- A read that gave no frame, at the end of `step` seconds perhaps: true if there is more to wait
-- for, or as lost. capped: they were the caller's own.
local function missed(self, message, code, capped)
  if code ~= "ETIMEDOUT" or capped or expired() then return lost(self, message, code) end
  if silent(self) then return true end
  self.close_code = 1006
  self.conn:abort()
  finish(self)
  return nil, "the peer does not answer: timed out", "ETIMEDOUT"
end

-- A frame as the codec gives it; or as lost. limit: the instant of the caller's own deadline.
local function next_frame(self, limit)
  local wait, limits = self.wait, self.limits
  while true do
    local step = self.pinged and limits.pong_timeout or limits.ping
    local left = limit and limit - now()
    local capped = left and left < step
    wait.timeout = capped and math.max(left, 0) or step
    local payload, kind, bits = read(self.conn, self.codec, wait)
    if payload then
      self.pinged = false
      return payload, kind, bits
    end
    local more, message, code = missed(self, kind, bits, capped)
    if not more then return nil, message, code end
  end
end

-- The peer's close frame: answered, and the end.
local function closed_by_peer(self, payload)
  if #payload == 1 then return refuse(self, 1002, "a close frame of one byte") end
  local code, reason
  if #payload >= 2 then
    code, reason = string.unpack(">I2", payload), payload:sub(3)
    if not valid_code(code) then return refuse(self, 1002, "an invalid close code") end
    if not utf8_state(reason, 0, true) then
      return refuse(self, 1007, "a close reason that is not UTF-8")
    end
  end
  self.close_code, self.close_reason = code or 1005, reason
  send_close(self, code)
  finish(self)
  return nil
end

-- A control frame: true, or the end.
local function control(self, payload, bits)
  if bits == CLOSE then return closed_by_peer(self, payload) end
  if bits == PING and not self.closing then send_frame(self, PONG, payload) end
  return true
end

-- A piece of a message: bytes, kind, whether it is the last one; nil after the close; nil, message,
-- code. payload, kind, bits: what was read already, if anything was.
local function next_piece(self, limit, payload, kind, bits)
  while true do
    if not payload then
      payload, kind, bits = next_frame(self, limit)
      if not payload then return nil, kind, bits end
    end
    if kind then return payload, kind, not bits or bits >= FIN end
    local more, message, code = control(self, payload, bits)
    if not more then return nil, message, code end
    payload = nil
  end
end

-- Keeps a piece; nothing, or why not.
local function collect(self, piece)
  local pieces = self.pieces
  if not pieces then
    pieces = {}
    self.pieces, self.size = pieces, 0
  end
  self.size = self.size + #piece
  if self.size > self.limits.max_message then
    return refuse(self, 1009, ("a message of more than %d bytes"):format(self.limits.max_message))
  end
  if piece ~= "" then pieces[#pieces + 1] = piece end
  if #pieces >= PIECES_MAX then self.pieces = { table.concat(pieces) } end
  return true
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
  local limit, piece, kind, last = opts and opts.timeout and now() + opts.timeout
  if not limit and not self.pinged then -- the short way of a message in one frame
    local bits, more
    piece, kind, bits = read(self.conn, self.codec) -- conn.timeout is limits.ping
    if piece and not bits and #piece <= self.limits.max_message then return piece, kind end
    if not piece then
      more, kind, bits = missed(self, kind, bits)
      if not more then return nil, kind, bits end
    end
    piece, kind, last = next_piece(self, nil, piece, kind, bits)
  else
    piece, kind, last = next_piece(self, limit)
  end
  while piece do
    local ok, message, code = collect(self, piece)
    if not ok then return nil, message, code end
    if last then
      piece, self.pieces = table.concat(self.pieces), nil
      return piece, kind
    end
    piece, kind, last = next_piece(self, limit)
  end
  return nil, kind, last
end

--- The next piece of a message as its frames come, for messages of any size; at most 64 KiB.
---@param opts? neap.timeout
---@return string|nil piece nil as receive
---@return string? kind "text" or "binary"
---@return boolean|string|nil last whether the message ends with it
function ws:receive_piece(opts)
  return next_piece(self, opts and opts.timeout and now() + opts.timeout)
end

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

--- An iterator over the messages until the close; raises everything else.
---@return fun(): string|nil, string|nil
function ws:messages()
  return function()
    local message, kind, code = self:receive()
    if message or not code or code == "ECANCELED" and self.closing then return message, kind end
    error(setmetatable({ message = kind, code = code }, failure), 2)
  end
end

-- The message that goes out in pieces: others wait for its end.
local sending = {
  __close = function(turn)
    local self = turn.ws
    self.sending = nil
    if not turn.done then -- it will never end
      self.conn:abort()
      finish(self)
    end
    turn.event:set()
  end,
}

local function send_pieces(self, pieces, kind)
  local turn <close> = setmetatable({ ws = self, event = event() }, sending)
  self.sending = turn.event
  local bits, state = opcodes[kind], 0
  for piece in pieces do
    state = kind == "binary" and 0 or utf8_state(piece, state)
    if not state then error("text that is not UTF-8", 0) end
    local ok, message, code = send_frame(self, bits, piece)
    if not ok then return nil, message, code end
    bits = 0
  end
  if state ~= 0 then error("text that ends inside a character", 0) end
  turn.done = true
  return send_frame(self, bits | FIN, "")
end

--- Sends a message; waits while the peer does not keep up. Of an iterator each piece is a frame;
-- other messages wait for its end, and an error in it breaks the connection.
---@param message string|fun(): string|nil
---@param kind? string "text" (the default) or "binary"
---@return neap.websocket|nil self
---@return string? message
---@return string? code EINVAL (text that is not UTF-8), ECANCELED (closed), the connection's own
function ws:send(message, kind)
  local bits = opcodes[kind or "text"]
  if not bits then
    error(("bad argument #2 to 'send' (\"text\" or \"binary\" expected, got %s)"):format(
      tostring(kind)), 2)
  end
  local whole = type(message) == "string"
  if not whole and type(message) ~= "function" then
    error(("bad argument #1 to 'send' (string or function expected, got %s)"):format(
      type(message)), 2)
  end
  while self.sending do self.sending:wait() end
  if self.closing then return nil, "send: closed", "ECANCELED" end
  if not whole then return send_pieces(self, message, kind or "text") end
  return send_frame(self, bits | FIN, message) -- text is checked there
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

-- Another task receives: it will see the peer's close frame.
local function wait_for_reader(self, limit)
  self.ended = self.ended or event()
  return self.ended:wait { timeout = math.max(limit - now(), 0) }
end

-- What comes before the peer's close frame is dropped.
local function drain(self, limit)
  while not self.conn.closed do
    local fine, piece, _, code = pcall(next_piece, self, limit)
    if not fine and piece == group.cancelled then error(piece, 0) end
    if not fine then return wait_for_reader(self, limit) end
    if not piece then return code ~= "ETIMEDOUT" end
  end
  return true
end

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
  local agreed = scope.timeout(seconds, function() -- also for a write to a peer that is stuck
    return send_close(self, code or 1000, reason) and drain(self, now() + seconds)
  end)
  finish(self)
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
