-- echo.lua: sends back whatever comes, as it comes.
--
-- Shows: recv() hands over what is there; a waiting task costs no thread and almost no memory.
-- Try:   neap scripts/examples/echo.lua [address]
--        socat - TCP:127.0.0.1:7007

local net = require "neap.net"

local server = net.serve(arg[1] or "127.0.0.1:7007", function(conn)
  local data = conn:recv()
  while data do
    conn:write(data)
    data = conn:recv()
  end
end)

print("echo: listening on " .. server.address)
