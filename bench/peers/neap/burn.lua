-- Computes for about 0.2 ms, then sends back what came. burn.lua ADDR
local net = require "neap.net"

net.serve(arg[1], function(conn)
  local data = conn:recv()
  while data do
    local sum = 0
    for i = 1, 34000 do sum = (sum * 31 + i) % 65521 end
    conn:write(data)
    data = conn:recv()
  end
end)
