-- workers.lua: an acceptor that hands connections to worker processes over AF_UNIX.
--
-- Shows: privilege separation in small: the acceptor owns the port, the workers own the protocol; a
-- connection moves with its unread bytes, and closing the acceptor's copy loses nothing.
-- Try:   neap scripts/examples/workers.lua [address] [workers]
--        printf 'who\n' | nc -N 127.0.0.1 9092

local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local function worker()
  local boss <close> = neap.stdin
  while true do
    local bytes, fds <close> = boss:recv(1, { fds = 1 })
    if not bytes then return end
    local conn = fds[1] and fds[1]:adopt()
    if conn then
      neap.spawn(function()
        local c <close> = conn
        for line in c:lines() do c:write(process.pid, " answers ", line, "\n") end
      end)
    end
  end
end

if arg[1] == "worker" then return worker() end

local address, count = arg[1] or "127.0.0.1:9092", tonumber(arg[2] or "2")
local workers = {}
for i = 1, count do
  local ours, theirs = assert(net.pair "unix")
  local child = assert(process.spawn({ process.executable, arg[0], "worker" }, { stdin = theirs }))
  theirs:close()
  workers[i] = { socket = ours, child = child } -- a child that nobody holds is ended
end

local next_worker = 0
local listener = assert(net.listen(address))
print("workers: listening on " .. listener.address)
for conn in listener:accepts() do
  local descriptor <close> = conn:take()
  next_worker = next_worker % count + 1
  assert(workers[next_worker].socket:send("c", { fds = { descriptor } }))
end
