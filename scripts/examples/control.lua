-- control.lua: a daemon's control socket, one command and one answer per record.
--
-- Shows: SOCK_SEQPACKET keeps record boundaries, so a protocol needs no framing; the kernel says
-- who is at the other end.
-- Try:   neap scripts/examples/control.lua [address]
--        echo status | socat -t1 - UNIX-CONNECT:/tmp/neap-control.sock,type=5

local neap = require "neap"
local net = require "neap.net"

local started = neap.now()
local command = {}

function command.status()
  local s = neap.stats()
  return ("up %.0f s, %d tasks"):format(neap.now() - started, s.tasks)
end
function command.whoami(conn)
  local c = conn:credentials()
  return ("uid %d, pid %d"):format(c.uid, c.pid)
end
function command.help() return "status, whoami, help" end

local address = arg[1] or "unix-seqpacket:/tmp/neap-control.sock"
local server = net.serve(address, { mode = 384 }, function(conn)
  for record in conn:records() do
    local name = record:match "^%s*(%a+)"
    local f = command[name or ""]
    conn:send(f and f(conn) or "unknown command; try help")
  end
end)

print("control: listening on " .. server.address)
