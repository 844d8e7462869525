-- sniff.lua: prints what passes an interface, as tcpdump does in small.
--
-- Shows: a capture with a filter in the kernel (classic BPF: IPv4 and IPv6 only), cut to what is
-- looked at; string.unpack over headers. Needs CAP_NET_RAW: root, or a namespace of one's own.
-- Try:   unshare -Urn sh -c 'ip link set lo up; ping -c 1 127.0.0.1 >/dev/null & \
--          timeout 2 neap scripts/examples/sniff.lua lo'

local net = require "neap.net"

-- tcpdump -dd 'ip or ip6' gives such programs, as {code, jt, jf, k}.
local filter = {
  { 0x28, 0, 0, 12 },      -- ldh [12]: the Ethernet type
  { 0x15, 1, 0, 0x0800 },  -- jeq #0x0800: IPv4, accept
  { 0x15, 0, 1, 0x86dd },  -- jeq #0x86dd: IPv6, accept
  { 0x06, 0, 0, 0x40000 }, -- ret #262144: all of it
  { 0x06, 0, 0, 0 },       -- ret #0: nothing
}
local SNAP <const> = 256 -- bytes of each frame

local function ports(packet, at)
  local from, to = string.unpack(">I2I2", packet, at)
  return "." .. from, "." .. to
end

local FLAGS <const> = "FSRPAUEC" -- of TCP, from the lowest bit
local transports = {
  [1] = function(p, at) return "ICMP type " .. p:byte(at), "", "" end,
  [58] = function(p, at) return "ICMPv6 type " .. p:byte(at), "", "" end,
  [17] = function(p, at) return "UDP", ports(p, at) end,
  [6] = function(p, at)
    local bits, set = p:byte(at + 13), ""
    for i = 1, #FLAGS do
      if bits >> i - 1 & 1 == 1 then set = set .. FLAGS:sub(i, i) end
    end
    return "TCP [" .. set .. "]", ports(p, at)
  end,
}

local function address(bytes)
  if #bytes == 4 then return table.concat({ bytes:byte(1, 4) }, ".") end
  return ("%x:%x:%x:%x:%x:%x:%x:%x"):format(string.unpack(">I2I2I2I2I2I2I2I2", bytes))
end

local function describe(frame)
  local ip = 15 -- the header begins after Ethernet's
  local protocol, from, to, at
  if frame:byte(ip) >> 4 == 4 then
    protocol, from, to = string.unpack("B xx c4 c4", frame, ip + 9)
    at = ip + (frame:byte(ip) & 15) * 4
  else
    protocol, from, to = string.unpack("B x c16 c16", frame, ip + 6)
    at = ip + 40
  end
  local transport = transports[protocol]
  from, to = address(from), address(to)
  if not transport then return ("%s > %s: protocol %d"):format(from, to, protocol) end
  local name, source, target = transport(frame, at)
  return ("%s%s > %s%s: %s"):format(from, source, to, target, name)
end

local options = { filter = filter, info = true }
local socket <close> = assert(net.datagram("packet:" .. (arg[1] or ""), options))
print("sniff: listening on " .. socket.address)
io.stdout:setvbuf "line"
for frame, _, info in socket:records(SNAP, { info = true }) do
  local fine, text = pcall(describe, frame) -- what is cut short cannot be read
  print(("%s %-9s %s, %d bytes"):format(os.date("%H:%M:%S", info.time // 1 | 0), info.direction,
    fine and text or "a strange packet", info.truncated or #frame))
end
