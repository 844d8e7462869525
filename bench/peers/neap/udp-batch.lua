-- udp-batch.lua ADDR: sends datagrams back, as many at a time as are there.

local net = require "neap.net"

local socket = assert(net.datagram("udp://" .. arg[1], { receive_buffer = 4 << 20 }))
while true do
  local messages, senders = socket:recv_batch()
  if messages then socket:send_batch(messages, senders) end
end
