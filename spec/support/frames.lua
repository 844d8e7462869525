-- WebSocket frames in plain Lua, also wrong ones, and handshakes: the other side of what is tested.

local core = require "neap.websocket.core" -- for the handshake alone

local frames = {}

local MASK = "\1\2\3\4"

local function xor(s, mask)
  local wide, out, n = (string.unpack("<I8", mask .. mask)), {}, #s
  for i = 1, n - 7, 8 do
    out[#out + 1] = string.pack("<I8", string.unpack("<I8", s, i) ~ wide)
  end
  for i = n - n % 8 + 1, n do
    out[#out + 1] = string.char(s:byte(i) ~ mask:byte((i - 1) % 4 + 1))
  end
  return table.concat(out)
end

--- The head of a frame, with a mask if it is a client's.
function frames.head(bits, n, mask)
  local bit = mask and 0x80 or 0
  local size = n < 126 and string.char(n | bit) or
    n < 65536 and string.pack(">BI2", 126 | bit, n) or string.pack(">BI8", 127 | bit, n)
  return string.char(bits) .. size .. (mask or "")
end

--- A frame as a client (masked, which is the default) or a server sends it. A long one has a mask
-- that changes nothing, for the sake of time.
function frames.make(bits, payload, server)
  if server then return frames.head(bits, #payload) .. payload end
  if #payload > 4096 then return frames.head(bits, #payload, "\0\0\0\0") .. payload end
  return frames.head(bits, #payload, MASK) .. xor(payload, MASK)
end

--- The bytes of a close frame's payload.
function frames.close(code, reason)
  return code and string.pack(">I2", code) .. (reason or "") or ""
end

--- The next frame of a connection: payload, first byte, whether it was masked; nil at the end.
function frames.read(conn)
  local two = conn:read(2)
  if not two or #two < 2 then return nil end
  local bits, n = two:byte(1, 2)
  local masked = n > 127
  n = n & 127
  if n == 126 then n = string.unpack(">I2", (conn:read(2)))
  elseif n == 127 then n = string.unpack(">I8", (conn:read(8))) end
  local mask = masked and conn:read(4)
  local payload = n == 0 and "" or conn:read(n)
  if not payload or #payload < n then return nil end
  return masked and xor(payload, mask) or payload, bits, masked
end

--- A frame for comparing: "81 text", "88 1000".
function frames.show(payload, bits)
  if bits == 0x88 and #payload >= 2 then
    return ("88 %d"):format((string.unpack(">I2", payload)))
  end
  return ("%02x %s"):format(bits, payload)
end

--- All that comes until the end. server: it must be a server's frames, without masks.
function frames.answers(conn, server)
  local list = {}
  while true do
    local payload, bits, masked = frames.read(conn)
    if not payload then return list end
    assert(masked == not server, "a frame with the wrong masking")
    list[#list + 1] = frames.show(payload, bits)
  end
end

frames.REQUEST = "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n" ..
  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" ..
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

--- The client's part of a handshake; the answer's head.
function frames.shake(conn, fields)
  assert(conn:write(frames.REQUEST, fields or "", "\r\n"))
  return assert(conn:read_until "\r\n\r\n")
end

--- The server's part; the request's head.
function frames.answer(conn, fields)
  local head = assert(conn:read_until "\r\n\r\n")
  assert(conn:write("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n" ..
    "Sec-WebSocket-Accept: ", core.accept(head:match "Key: ([^\r]*)"), "\r\n", fields or "",
    "\r\n"))
  return head
end

return frames
