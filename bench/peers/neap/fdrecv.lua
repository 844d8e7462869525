-- Receives messages of one byte and one descriptor, and closes each.
local net = require "neap.net"

net.serve(arg[1], function(conn)
  while true do
    local message, fds = conn:recv(16, { fds = 1 })
    if not message then return end
    for _, fd in ipairs(fds) do fd:close() end
  end
end)
