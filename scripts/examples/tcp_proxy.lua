-- tcp_proxy.lua: passes connections on to another server.
--
-- Shows: net.pipe copies both ways in C, passes half-closes on and pushes back on the faster side.
-- Try:   neap scripts/examples/tcp_proxy.lua 127.0.0.1:6400 127.0.0.1:6379
--        redis-cli -p 6400 ping

local net = require "neap.net"

local from, to = arg[1] or "127.0.0.1:6400", arg[2] or "127.0.0.1:6379"

local server = net.serve(from, function(conn)
  local upstream <close> = assert(net.connect(to, { timeout = 5 }))
  net.pipe(conn, upstream)
end)

print("proxy: listening on " .. server.address .. ", for " .. to)
