-- terminal.lua: a shell on a terminal of its own for each connection, run by who connects.
--
-- Shows: a child on a pseudo-terminal as a stream; the kernel's word on who is there; the end of
-- either side as the end of both. Run by root, the shell is the user's that connected; else only
-- its own user may connect.
-- Try:   neap scripts/examples/terminal.lua unix:/tmp/terminal.sock &
--        socat -,raw,echo=0 UNIX:/tmp/terminal.sock

local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local root = assert(process.run { "id", "-u" }).stdout == "0\n"
local mode = tonumber(root and "666" or "600", 8)

local function copy(from, to)
  for bytes in function() return from:recv() end do to:write(bytes) end
end

local server = net.serve(arg[1] or "unix:/tmp/terminal.sock", { mode = mode }, function(conn)
  local who = conn:credentials()
  local shell <close> = assert(process.spawn({ "sh", "-i" },
    { pty = { rows = 24, cols = 80 }, uid = root and who.uid or nil, cwd = "/" }))
  print(("uid %d has pid %d"):format(who.uid, shell.pid))
  neap.race(function() copy(conn, shell.pty) end, function() copy(shell.pty, conn) end)
end)
print("terminal: listening on " .. server.address)
