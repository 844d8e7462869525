-- Reads and drops.
local net = require "neap.net"

net.serve(arg[1], function(conn)
  while conn:recv() do end
end)
