-- tftp.lua: a read-only TFTP server (RFC 1350, options of RFC 2347 to 2349: blksize, tsize).
--
-- Shows: one task and one socket per transfer, timeouts as plain results, binary records.
-- Try:   neap scripts/examples/tftp.lua directory [address]
--        curl tftp://127.0.0.1:6969/file      tftp 127.0.0.1 6969 -m binary -c get file

local neap = require "neap"
local net = require "neap.net"

local root, address = arg[1] or ".", arg[2] or "udp://127.0.0.1:6969"
local RRQ, DATA, ACK, ERROR, OACK <const> = 1, 3, 4, 5, 6
local TRIES, RETRY_S <const> = 5, 1

local function failure(code, text) return string.pack(">I2I2z", ERROR, code, text) end

-- A name below root, without a way out of it.
local function open(name)
  if name:find("..", 1, true) or name:sub(1, 1) == "/" then
    return nil, failure(2, "access violation")
  end
  local file = io.open(root .. "/" .. name, "rb")
  if not file or not file:read(0) and file:seek "end" ~= 0 then
    return nil, failure(1, "file not found")
  end
  return file
end

local function parse_request(packet)
  if #packet < 4 or string.unpack(">I2", packet) ~= RRQ then return nil end
  local words = {}
  for word in packet:sub(3):gmatch "([^\0]*)\0" do words[#words + 1] = word end
  local options = {}
  for i = 3, #words - 1, 2 do options[words[i]:lower()] = words[i + 1] end
  return words[1], options
end

-- Sends until the block is acknowledged; nil when the peer is gone.
local function deliver(socket, packet, block)
  for _ = 1, TRIES do
    socket:send(packet)
    local _ <close> = neap.deadline(RETRY_S)
    repeat
      local answer = socket:recv()
      if answer and #answer >= 4 then
        local op, number = string.unpack(">I2I2", answer)
        if op == ERROR then return nil end
        if op == ACK and number == block then return true end
      end
    until not answer
  end
end

local function transfer(peer, packet)
  local name, options = parse_request(packet)
  local socket <close> = assert(net.datagram("udp://127.0.0.1:0", { connect = peer }))
  if not name then return socket:send(failure(4, "only read requests are served")) end
  local file <close>, refusal = open(name)
  if not file then return socket:send(refusal) end
  local size, accepted = 512, {}
  local asked = tonumber(options.blksize)
  if asked and asked >= 8 then
    size = math.min(asked // 1 | 0, 65464)
    accepted[#accepted + 1] = "blksize\0" .. size .. "\0"
  end
  if options.tsize then accepted[#accepted + 1] = "tsize\0" .. file:seek "end" .. "\0" end
  file:seek "set"
  if #accepted > 0 then
    local offer = string.pack(">I2", OACK) .. table.concat(accepted)
    if not deliver(socket, offer, 0) then return end
  end
  local block = 0
  repeat
    block = (block + 1) & 0xffff
    local data = file:read(size) or ""
    if not deliver(socket, string.pack(">I2I2", DATA, block) .. data, block) then return end
  until #data < size
end

local socket = assert(net.datagram(address))
print("tftp: listening on " .. socket.address .. ", serving " .. root)
while true do
  local packet, peer = socket:recv()
  if packet then neap.spawn(transfer, peer, packet) end
end
