-- ping.lua: asks a host whether it is there, and how far.
--
-- Shows: a ping socket, which needs no privilege; what comes with a datagram (TTL); reports about
-- messages that could not be delivered; a receiver beside the sender.
-- Try:   neap scripts/examples/ping.lua 127.0.0.1 3
--        (sysctl net.ipv4.ping_group_range tells which groups may)

local neap = require "neap"
local net = require "neap.net"

local host, count = arg[1] or "127.0.0.1", tonumber(arg[2] or 3)
local ip = assert(net.resolve(host))[1]
local six = ip:find(":", 1, true) ~= nil
local to = six and "icmp:[" .. ip .. "]" or "icmp:" .. ip
local REQUEST <const>, REPLY <const> = six and 128 or 8, six and 129 or 0

local socket <close> = assert(net.datagram(six and "icmp:[::]" or "icmp:",
  { errors = true, info = true }))
local sent, received = {}, 0

-- The kernel fills in checksum and identifier.
local function send(sequence)
  sent[sequence] = neap.now()
  local ok, message = socket:send(string.pack(">BBI2I2I2", REQUEST, 0, 0, 0, sequence)
    .. ("neap"):rep(14), to)
  if not ok then print(message) end
end

local function receive()
  while true do
    local msg, from, info = assert(socket:recv { info = true })
    local kind, _, _, _, sequence = string.unpack(">BBI2I2I2", msg)
    if kind == REPLY and sent[sequence] then
      received = received + 1
      print(("%d bytes from %s: icmp_seq=%d ttl=%d time=%.3f ms"):format(#msg,
        from:match "^icmp:(.*)$", sequence, info.ttl, (neap.now() - sent[sequence]) * 1000))
      if received == count then return end
    end
  end
end

local function complain()
  while true do
    local report = assert(socket:recv_error())
    print(("from %s: %s"):format(report.from or "this host", report.message))
  end
end

print(("ping %s (%s)"):format(host, ip))
neap.group(function(g)
  g:spawn(complain)
  local receiver = g:spawn(receive)
  for sequence = 1, count do
    send(sequence)
    receiver:join { timeout = sequence < count and 0.2 or 1 }
  end
  g:cancel()
end)
print(("%d packets transmitted, %d received"):format(count, received))
os.exit(received > 0)
