-- ssh_inetd.lua: starts a program for each connection, with the connection as its standard input
-- and output.
--
-- Shows: what inetd does, in a dozen lines: a child gets a socket, and sees nothing else of ours.
-- Try:   neap scripts/examples/ssh_inetd.lua 127.0.0.1:2222 /etc/ssh/sshd_config
--        ssh -p 2222 127.0.0.1

local net = require "neap.net"
local process = require "neap.process"

local config = arg[2] or "/etc/ssh/sshd_config"

local server = net.serve(arg[1] or "127.0.0.1:2222", function(conn)
  local socket <close> = conn:take()
  local sshd <close> = assert(process.spawn(
    { "/usr/sbin/sshd", "-i", "-e", "-f", config },
    { stdin = socket, stdout = socket, stderr = "null" }))
  sshd:wait()
end)

print("ssh_inetd: listening on " .. server.address)
