-- chat.lua: everybody reads what anybody says.
--
-- Shows: a hub sends one message to many connections; a reader that does not keep up is dropped,
-- and slows nobody else down.
-- Try:   neap scripts/examples/chat.lua [address], then several of: nc 127.0.0.1 9091

local net = require "neap.net"

local room = net.hub { policy = "disconnect" }

local server = net.serve(arg[1] or "127.0.0.1:9091", { timeout = false }, function(conn)
  conn:write "your name? "
  local name = conn:read()
  if not name or name == "" then return end
  room:add(conn)
  room:send("* " .. name .. " is here\n")
  for line in conn:lines() do room:send(name .. ": " .. line .. "\n") end
  room:send("* " .. name .. " has left\n")
end)

print("chat: listening on " .. server.address)
