-- The receiving half of a WebSocket connection (RFC 6455): from frames to pieces of messages.
--
-- The task that receives does the protocol's work too: it answers pings and the close, sends a ping
-- into silence, inflates (RFC 7692), and ends the connection when the peer breaks a rule, with the
-- close code that says which. Which frame may come when is the codec's matter (core/websocket.h).

local core = require "neap.websocket.core"
local frame = require "neap.websocket.frame"
local pieces = require "neap.http.pieces"
local scope = require "neap.scope.core"
local tasks = require "neap.task.core"

local utf8_state, now, current, expired = core.utf8, tasks.now, tasks.current, scope.expired
local read = require "neap.stream.core".methods.read
local send_frame, send_close, finish, wait_end =
  frame.send, frame.send_close, frame.finish, frame.wait_end

local FIN, RSV1, CLOSE, PING, PONG = 0x80, 0x40, 0x88, 0x89, 0x8a
local PIECE = 65536 -- of what is inflated at once

local receiving = {}

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
  if code == "ETIMEDOUT" then return nil, message, code end
  if code ~= "ECANCELED" then self.close_code = 1006 end
  finish(self)
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

-- A read that gave no frame, after `waited` seconds: true if there is more to wait for, or as lost.
-- capped: the caller's own deadline ended it, and not the patience with the peer, for which these
-- seconds count all the same: who looks up every second must find a dead peer too.
local function missed(self, message, code, capped, waited)
  if code ~= "ETIMEDOUT" then return lost(self, message, code) end
  if capped or expired() then
    self.quiet = (self.quiet or 0) + (waited or 0)
    return lost(self, message, code)
  end
  self.quiet = false
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
    if self.draining and self.draining ~= current() then
      local over, message, code = wait_end(self, limit)
      if not over then return lost(self, message, code) end
    end
    local start = now()
    local step = (self.pinged and limits.pong_timeout or limits.ping) - (self.quiet or 0)
    local left = limit and limit - start
    local capped = left and left < step
    wait.timeout = math.max(capped and left or step, 0)
    local payload, kind, bits = read(self.conn, self.codec, wait)
    if payload then
      self.pinged, self.quiet = false, false
      return payload, kind, bits
    end
    local more, message, code = missed(self, kind, bits, capped, now() - start)
    if not more then return nil, message, code end
  end
end

-- Whether a deadline has passed. Frames that are there at once end no wait that would tell it.
local function late(limit) return limit and now() > limit or expired() end

local function too_late(self)
  return lost(self, ("receive from %s: timed out"):format(self.conn.peer or "the peer"),
    "ETIMEDOUT")
end

-- The peer's close frame: answered, and the end.
local function closed_by_peer(self, payload)
  if #payload == 1 then return refuse(self, 1002, "a close frame of one byte") end
  local code, reason
  if #payload >= 2 then
    code, reason = string.unpack(">I2", payload), payload:sub(3)
    if not frame.valid_code(code) then return refuse(self, 1002, "an invalid close code") end
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

-- The next piece of what a compressed frame holds, as next_piece; false: the message goes on in the
-- next frame.
local function inflated(self)
  local inflating = self.inflating
  inflating.pieces = inflating.pieces + 1
  if inflating.pieces % 16 == 0 then -- a bomb is no reason to keep others waiting
    tasks.yield()
    if not self.inflating then return false end -- closed meanwhile
  end
  local piece, why = self.inflater:next(PIECE)
  if why then return refuse(self, 1007, "compressed data that is corrupt: " .. why) end
  if not piece then
    self.inflating = false
    if not inflating.last then return false end
    self.inflater:release()
  end
  if inflating.kind == "text" then
    self.state = utf8_state(piece or "", self.state or 0, not piece)
    if not self.state then return refuse(self, 1007, "text that is not UTF-8") end
  end
  return piece or "", inflating.kind, not piece
end

-- A piece of a message: bytes, kind, whether it is the last one; nil after the close; nil, message,
-- code. payload, kind, bits: what was read already, if anything was.
function receiving.next_piece(self, limit, payload, kind, bits)
  while true do
    if self.inflating then
      local piece, what, last = inflated(self)
      if piece ~= false then return piece, what, last end
    end
    if not payload then
      payload, kind, bits = next_frame(self, limit)
      if not payload then return nil, kind, bits end
    end
    local last = not bits or bits >= FIN
    local plain = not bits or bits & RSV1 == 0 or self.draining == current() -- who drops it all
    if kind and plain then return payload, kind, last end
    if kind then
      self.inflater:feed(payload, last)
      self.inflating = { kind = kind, last = last, pieces = 0 }
    else
      local more, message, code = control(self, payload, bits)
      if not more then return nil, message, code end
      if late(limit) then return too_late(self) end
    end
    payload = nil
  end
end

receiving.missed, receiving.late, receiving.too_late = missed, late, too_late

-- Keeps a piece; nothing, or why not.
function receiving.collect(self, piece)
  if not self.pieces then self.pieces, self.size = pieces.new(), 0 end
  self.size = self.size + #piece
  if self.size > self.limits.max_message then
    return refuse(self, 1009, ("a message of more than %d bytes"):format(self.limits.max_message))
  end
  if piece ~= "" then pieces.add(self.pieces, piece) end
  return true
end

return receiving
