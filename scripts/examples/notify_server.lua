-- notify_server.lua: the service manager's end of sd_notify(3): prints what services tell.
--
-- Shows: datagrams with their sender's credentials and descriptors. A barrier is a descriptor that
-- is closed when everything before it has been handled: systemd-notify waits for that.
-- Try:   neap scripts/examples/notify_server.lua unix-dgram:/tmp/notify.sock &
--        NOTIFY_SOCKET=/tmp/notify.sock systemd-notify --ready --status="up and running"

local net = require "neap.net"

local socket <close> = assert(net.datagram(arg[1] or "unix-dgram:/tmp/notify.sock"))
print("notify_server: listening on " .. socket.address)

for message, _, info in socket:records { fds = 16, info = true } do
  local fds <close> = info.fds
  local pid = info.credentials and info.credentials.pid or "?"
  for line in message:gmatch "[^\n]+" do
    if line == "FDSTORE=1" then line = line .. " (" .. #fds .. " descriptors)" end
    print(("%s: %s"):format(pid, line))
  end
end
