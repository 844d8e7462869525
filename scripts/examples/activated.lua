-- activated.lua: a server that systemd starts at the first connection, with the socket open.
--
-- Shows: listening on a socket that was passed, by its name; telling the service manager when it is
-- ready and when it stops. Started by hand, nobody is told, and that is no error here.
-- Try:   systemd-socket-activate -l 9096 --fdname=web neap scripts/examples/activated.lua
--        printf 'hello\n' | nc -N 127.0.0.1 9096

local neap = require "neap"
local net = require "neap.net"

local function tell(fields)
  local told, message, code = neap.notify(fields)
  if not told and code ~= "ENOTCONN" then io.stderr:write("activated: ", message, "\n") end
end

local server = net.serve(arg[1] or "systemd:web", function(conn)
  for line in conn:lines() do conn:write(line:upper(), "\n") end
end)
print("activated: listening on " .. server.address)
tell { ready = true, status = "listening on " .. server.address }

local signals <close> = neap.signals("TERM", "INT")
tell { stopping = true, status = "got " .. signals:wait(), barrier = true }
server:stop(2)
