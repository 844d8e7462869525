-- udp_echo.lua: sends each datagram back to its sender.
--
-- Shows: an unconnected datagram socket; the sender's address is a string that send takes.
-- Try:   neap scripts/examples/udp_echo.lua [address]
--        socat - UDP:127.0.0.1:7008

local net = require "neap.net"

local socket = assert(net.datagram(arg[1] or "udp://127.0.0.1:7008"))
print("udp_echo: listening on " .. socket.address)

while true do
  local message, from = socket:recv()
  if message then socket:send(message, from) end
end
