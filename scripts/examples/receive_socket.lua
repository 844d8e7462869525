-- receive_socket.lua: takes over a connected socket that another process passes.
--
-- Shows: a descriptor arrives with SCM_RIGHTS; adopt() asks the kernel what it is and gives the
-- object for it: here the stream of nc's TCP connection.
-- Try:   neap scripts/examples/receive_socket.lua host:port
--        (it runs: nc -F -X connect … is nc's passing mode; this end is its ProxyUseFdpass parent)

local net = require "neap.net"
local process = require "neap.process"

local host, port = (arg[1] or "127.0.0.1:9090"):match "^(.*):(%d+)$"

-- nc -F connects, passes the connected socket on its standard output, and ends.
local ours <close>, theirs = assert(net.pair "unix")
local nc <close> = assert(process.spawn({ "nc", "-F", host, port }, { stdout = theirs }))
theirs:close()

local _, fds <close> = assert(ours:recv(1, { fds = 1, timeout = 5 }))
local conn <close> = assert(fds[1]:adopt())
nc:wait()

print("received " .. tostring(conn.peer))
conn:write "hello from a passed socket\n"
conn:shutdown()
for line in conn:lines() do print(line) end
