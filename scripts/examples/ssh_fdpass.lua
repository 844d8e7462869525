-- ssh_fdpass.lua: OpenSSH's ProxyUseFdpass helper: connects, passes the socket to ssh, and is gone.
--
-- Shows: sending a descriptor over an inherited AF_UNIX socket; no byte of the session goes through
-- us.
-- Try:   ssh -o ProxyUseFdpass=yes -o ProxyCommand='neap scripts/examples/ssh_fdpass.lua %h %p'
-- host

local neap = require "neap"
local net = require "neap.net"

local host, port = arg[1], arg[2]
local address = ("tcp://%s:%s"):format(host, port)
local conn <close> = assert(net.connect(address, { timeout = 10, nodelay = true }))
local ssh <close> = neap.stdout -- ssh made it an AF_UNIX socket
assert(ssh:send("\0", { fds = { conn } }))
assert(ssh:flush())
