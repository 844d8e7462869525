-- Sends messages of one byte and one descriptor as fast as the socket takes them.
local net = require "neap.net"

net.serve(arg[1], function(conn)
  local a <close>, b = net.pair()
  local options = { fds = { a } }
  repeat until not conn:send("F", options)
  b:close()
end)
