-- The supervisor of `neap --workers N`: starts the workers, starts again what fails, passes signals
-- on, and holds the sockets that the workers share.
--
-- A task per worker runs it again and again; its control socket has a task that answers. It runs
-- none of the script: a mistake in that cannot end it. See neap.workers for the workers' side.

local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"
local wire = require "neap.workers.wire"

-- A crash out of the blue is repaired before a client's second SYN (after 1 s): the first pause is
-- short. Doubled with each failure, so that a script that cannot start costs next to nothing; at
-- 10 s whoever repaired the cause does not wait long.
local PAUSE_FIRST_S = 0.1
local PAUSE_MAX_S = 10
-- A worker that lived that long is no failed start: the longest pause, so that even one that always
-- dies then is there half of the time.
local STEADY_S = 10
-- Sockets that are held for the workers: a script that listens on port 0 per connection, which
-- wants workers.listen, is told before descriptors run out.
local SOCKETS_MAX = 256

local function log(...) io.stderr:write("neap: ", string.format(...), "\n") end

-- ---- sockets

-- Listens in the workers' name: the descriptors.
local function open(kind, addrs, opts)
  local object, message, code
  if kind == "datagram" then
    object, message, code = net.datagram(addrs[1], opts)
  else
    object, message, code = net.listen(#addrs == 1 and addrs[1] or addrs, opts)
  end
  if not object then return nil, message, code end
  local fds = { object:take() }
  for i, fd in ipairs(fds) do fds[i] = net.own(fd) end
  return fds
end

-- question: its number, the kind, which of the sockets of that address, how many addresses, these,
-- then names and values of options.
local function read_question(list)
  local n = list[4]
  local addrs = table.move(list, 5, 4 + n, 1, {})
  local key = table.concat({ list[2], list[3], table.unpack(addrs) }, "\n")
  local opts = {}
  for i = 5 + n, #list, 2 do opts[list[i]] = list[i + 1] end
  return list[2], addrs, opts, key
end

-- The answer's values and descriptors. One question at a time: a lookup may take a while, and the
-- next worker asks the same.
local function answer(self, list)
  local permit <close> = self.lock:permit()
  local kind, addrs, opts, key = read_question(list)
  local fds = self.sockets[key]
  if fds then return { "ok" }, fds end
  local where = kind .. " " .. addrs[1]
  if self.stopping or not permit then
    return { "fail", where .. ": the workers are being stopped", "ECANCELED" }
  end
  if self.held >= SOCKETS_MAX then
    return { "fail", where .. ": the workers share too many sockets", "EMFILE" }
  end
  local ok, message, code
  ok, fds, message, code = pcall(open, kind, addrs, opts)
  if not ok then return { "raise", tostring(fds) } end
  if not fds then return { "fail", message, code } end
  self.sockets[key] = fds
  self.held = self.held + #fds
  return { "ok" }, fds
end

-- Until the worker's end, or ours, is closed.
local function answer_all(self, control)
  while true do
    local record = control:recv()
    if not record then return end
    local list = wire.unpack(record)
    local values, fds = answer(self, list)
    control:send(wire.pack(list[1], table.unpack(values)), { fds = fds })
  end
end

local function close_sockets(self)
  for _, fds in pairs(self.sockets) do
    for _, fd in ipairs(fds) do fd:close() end
  end
  self.sockets = {}
end

-- ---- workers

local function start(self, id, theirs)
  local mode = self.reuseport and "reuseport" or "pass"
  local argv = { process.executable, ("--worker=%d/%d,%s"):format(id, self.count, mode) }
  table.move(self.argv, 1, #self.argv, 3, argv)
  local env = process.environ()
  env.NEAP_WORKER = id
  return process.spawn(argv, { fds = { theirs }, env = env, grace = self.grace })
end

-- Runs the worker once: its exit status (128 + signal), and how that is told.
local function run_once(self, id)
  local control, theirs, code = net.pair "unix-seqpacket"
  if not control then return 1, ("not started: %s (%s)"):format(theirs, code) end
  local _ <close> = control
  local child <close>, message = start(self, id, theirs)
  theirs:close()
  if not child then return 1, "not started: " .. message end
  log("worker %d pid %d started", id, child.pid)
  self.children[id] = child
  neap.spawn(answer_all, self, control)
  local _, how, n = child:wait()
  self.children[id] = nil
  local told = ("pid %d ended: %s %d"):format(child.pid, how == "exit" and "status" or how, n)
  return how == "exit" and n or 128 + n, told
end

local function keep_running(self, id)
  local pause = PAUSE_FIRST_S
  while not self.stopping do
    local started = neap.now()
    local status, told = run_once(self, id)
    self.status[id] = status
    if status == 0 or self.stopping then return log("worker %d %s", id, told) end
    if neap.now() - started >= STEADY_S then pause = PAUSE_FIRST_S end
    log("worker %d %s; restart in %g s", id, told, pause)
    self.stop:wait { timeout = pause }
    pause = math.min(pause * 2, PAUSE_MAX_S)
  end
end

-- ---- signals

local function send_all(self, signal)
  for _, child in pairs(self.children) do child:kill(signal) end
end

-- The listeners are closed here as well: a client that comes now is refused at once, instead of
-- waiting in the backlog of a socket that nobody accepts from.
local function stop(self, signal)
  log("%s: stopping %d workers", signal, self.count)
  self.stopping = true
  self.stop:set()
  send_all(self, signal)
  close_sockets(self)
  return neap.now() + self.grace
end

local function obey(self, signals)
  local deadline
  while true do
    local left = deadline and math.max(0, deadline - neap.now())
    local signal = signals:wait { timeout = left }
    if signal == "HUP" then
      send_all(self, signal)
    elseif signal and not self.stopping then
      deadline = stop(self, signal)
    else -- a second one means it
      deadline = nil
      send_all(self, "KILL")
    end
  end
end

local supervisor = {}

--- Runs until all workers have ended for good: those that exit with status 0, and all after TERM or
-- INT. Ends the program with the worst of their statuses.
---@param count integer
---@param reuseport boolean
---@param grace number seconds between TERM and KILL
---@param argv string[] the program's arguments without --workers
function supervisor.run(count, reuseport, grace, argv)
  local self = {
    count = count, reuseport = reuseport, grace = grace, argv = argv,
    children = {}, status = {}, sockets = {}, held = 0, stopping = false,
    lock = neap.semaphore(1), stop = neap.event(),
  }
  local signals = neap.signals("TERM", "INT", "HUP")
  neap.group(function(outer)
    local obeying = outer:spawn(obey, self, signals)
    neap.group(function(g)
      for id = 1, count do g:spawn(keep_running, self, id) end
    end)
    obeying:cancel()
  end)
  os.exit(math.max(table.unpack(self.status)))
end

return supervisor.run
