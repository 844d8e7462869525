-- upper.lua: the classic: answers each line in upper case.
--
-- Shows: a server whose handler reads like blocking code. Each connection is a task of its own.
-- Try:   neap scripts/examples/upper.lua [address]
--        printf 'hello\nworld\n' | nc -N 127.0.0.1 9090

local net = require "neap.net"

local server = net.serve(arg[1] or "127.0.0.1:9090", function(conn)
  for line in conn:lines() do conn:write(line:upper(), "\n") end
end)

print("upper: listening on " .. server.address)
print "in another terminal: printf 'hello\\nworld\\n' | nc -N 127.0.0.1 9090    (ctrl-C ends)"
