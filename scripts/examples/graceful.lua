-- graceful.lua: a server that ends in order: TERM or INT stops accepting, waits for the connections
-- in hand, and cancels those that do not end in time. HUP reloads.
--
-- Shows: signals as an iterator, server:stop(grace), on_exit.
-- Try:   neap scripts/examples/graceful.lua [address] &   kill -HUP %1   kill -TERM %1

local neap = require "neap"
local net = require "neap.net"

local greeting = "hello"

local server = net.serve(arg[1] or "127.0.0.1:9093", function(conn)
  for line in conn:lines() do conn:write(greeting, " ", line, "\n") end
end)
print("graceful: listening on " .. server.address)
neap.on_exit(function() print "bye" end)

for signal in neap.signals("HUP", "TERM", "INT") do
  if signal ~= "HUP" then break end
  greeting = greeting .. "!"
  print("reloaded: " .. greeting)
end
print("stopping; connections cancelled: " .. server:stop(2))
