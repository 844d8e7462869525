-- What both directions of a WebSocket connection need: sending a frame, and ending.

local core = require "neap.websocket.core"
local event = require "neap.event.core".event
local tasks = require "neap.task.core"

local send, now = core.send, tasks.now
local CLOSE = 0x88

local frame = {}

-- The codes a close frame may have (RFC 6455 7.4, IANA's registry).
function frame.valid_code(code)
  return code >= 3000 and code <= 4999 or code >= 1000 and code <= 1014 and
    code ~= 1004 and code ~= 1005 and code ~= 1006
end

local function send_frame(self, bits, payload)
  local ok, message, code = send(self.conn, payload, bits, self.masked)
  if ok then return self end
  return nil, message, code
end

function frame.send_close(self, code, reason)
  if self.closing then return true end
  self.closing = true
  return send_frame(self, CLOSE, code and string.pack(">I2", code) .. (reason or "") or "")
end

frame.send = send_frame

-- The connection is over.
function frame.finish(self)
  self.conn:close()
  if self.inflater then
    self.inflating = false
    self.inflater:close()
    self.deflater:close()
  end
  self.draining = false
  if self.ended then self.ended:set() end
end

-- Waits until another task has ended the connection: true; nil, message, code.
function frame.wait_end(self, limit)
  self.ended = self.ended or event()
  return self.ended:wait { timeout = limit and math.max(limit - now(), 0) }
end

return frame
