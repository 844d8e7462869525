-- neap.workers: what a script can know of `neap --workers N`, and how its listeners are shared.
--
-- In a worker `net.listen` and `net.datagram` are replaced. By default (pass) the address is asked
-- of the supervisor, which binds it once and passes the descriptor: all workers hold the same
-- socket. Its backlog is one queue, from which the idle take in turns (listen's option `shared`;
-- measured: 4 x 100 of 400 connections, no wake-up in vain), and which outlives a worker that
-- crashes; port 0, AF_UNIX and systemd: work. With `reuseport` each worker binds TCP and UDP
-- addresses itself and the kernel spreads connections by a hash: nothing is shared, and a UDP
-- client stays with one worker; but a busy worker gets as many as an idle one, a few long
-- connections are spread badly, and a crash resets what waited in its backlog. What SO_REUSEPORT
-- cannot share (AF_UNIX, systemd:, port 0) is passed there too. Without --workers nothing is
-- replaced.

local face = require "neap.face"
local net = require "neap.net"
local wire = require "neap.workers.wire"

local CONTROL_FD = 3 -- as in src/workers.c
local FDS_MAX = 16 -- sockets of one listener

local listen, datagram = net.listen, net.datagram

---@class neap.workers
---@field id? integer this worker's number, 1 to `count`, the same after a restart; nil: no worker
---@field count? integer how many workers there are; nil: this is none
local workers = {}

--- As net.listen, but the socket is this worker's alone: for a port that is told to one client, and
-- for what only one worker offers.
---@param addr neap.address|neap.address[]
---@param opts? neap.net.listen_options
---@return neap.listener|nil listener
---@return string? message
---@return string? code
workers.listen = listen

-- What SO_REUSEPORT cannot share; and what exists in this process only.
local passed = { unix = true, ["unix-seqpacket"] = true, ["unix-dgram"] = true, systemd = true }
local private = { fd = true, mem = true, raw = true, icmp = true }

local function way_of(addr, reuseport)
  local scheme = addr:match "^(%l[%w-]*)://"
  if not scheme then
    scheme = addr:match "^(%l[%w-]*):"
    if not passed[scheme] and not private[scheme] then scheme = "tcp" end
  end
  if private[scheme] then return "private" end
  if passed[scheme] or not reuseport or addr:find ":0+$" then return "pass" end
  return "bind"
end

-- The way for all of the addresses, of which a listener has one or several.
local function common_way(addrs, reuseport)
  local common = "bind"
  for _, addr in ipairs(addrs) do
    local way = type(addr) == "string" and way_of(addr, reuseport) or "private"
    if way == "private" then return way end
    if way == "pass" then common = way end
  end
  return #addrs > 0 and common or "private"
end

-- Whether the supervisor can be asked: arguments of another kind are refused here, as ever.
local function plain(opts)
  if opts == nil then return true end
  if type(opts) ~= "table" then return false end
  for name, value in pairs(opts) do
    local kind = type(value)
    if type(name) ~= "string" then return false end
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then return false end
  end
  return true
end

local function copy(opts)
  local new = {}
  for name, value in pairs(opts or {}) do new[name] = value end
  return new
end

-- The n-th listener on an address with port 0 is another socket than the first, and the same one in
-- all workers.
local asked = {}
local function number_of(key)
  if not key:find ":0+%f[\0\n]" then return 1 end
  asked[key] = (asked[key] or 0) + 1
  return asked[key]
end

-- The one conversation at a time; answers have the number of their question, so that the answer to
-- a task that gave up is not taken for the next one's.
local control, lock, questions

local function ask(take, ...)
  local permit <close> = lock:permit()
  questions = questions + 1
  local sent, why, code = control:send(wire.pack(questions, ...))
  if not sent then return nil, why, code end
  while permit do
    local record, message, info = control:recv { fds = FDS_MAX }
    if not record then return nil, message or "the supervisor is gone", info or "ECANCELED" end
    local fds <close> = info.fds
    local answer = wire.unpack(record)
    if answer[1] == questions then
      if answer[2] == "raise" then error(answer[3], 0) end
      if answer[2] == "fail" then return nil, answer[3], answer[4] end
      return take(fds)
    end
  end
end

-- What is held at the moment: a second listener on an address is a mistake here as anywhere.
local held = setmetatable({}, { __mode = "v" })

local function ask_once(kind, addrs, opts, take)
  local key = kind .. " " .. table.concat(addrs, "\n")
  local number = number_of(key)
  local old = number == 1 and held[key]
  if old and old.fd then
    return nil, ("%s %s: address already in use"):format(kind, addrs[1]), "EADDRINUSE"
  end
  local question = { kind, number, #addrs, table.unpack(addrs) }
  for name, value in pairs(opts or {}) do
    question[#question + 1] = name
    question[#question + 1] = value
  end
  local object, message, code = ask(take, table.unpack(question))
  held[key] = object
  return object, message, code
end

local function take_listener(fds)
  local addrs = {}
  for i, fd in ipairs(fds) do addrs[i] = "fd:" .. fd:take() end
  return listen(addrs, { shared = true })
end

local function shared_listen(reuseport)
  return face(function(addr, opts)
    local addrs = type(addr) == "table" and addr or { addr }
    local way = plain(opts) and common_way(addrs, reuseport) or "private"
    if way == "pass" then return ask_once("listen", addrs, opts, take_listener) end
    if way == "bind" then
      opts = copy(opts)
      if opts.reuseport == nil then opts.reuseport = true end
    end
    local l, message, code = listen(addr, opts)
    return l, message, code
  end)
end

-- A datagram socket is shared when it is bound to what others can know: a port or a path. The rest
-- are clients, to whom answers come.
local function way_of_datagrams(addr, opts, reuseport)
  local served = type(addr) == "string" and (addr:find "^udp://" or addr:find "^unix%-dgram:.")
  if not served or addr:find ":0+$" or not plain(opts) or opts and opts.connect then
    return "private"
  end
  return way_of(addr, reuseport)
end

local function take_datagram(opts)
  return function(fds)
    local own = opts and { timeout = opts.timeout, info = opts.info }
    return datagram("fd:" .. fds[1]:take(), own)
  end
end

local function shared_datagram(reuseport)
  return face(function(addr, opts)
    local way = way_of_datagrams(addr, opts, reuseport)
    if way == "pass" then return ask_once("datagram", { addr }, opts, take_datagram(opts)) end
    if way == "bind" then
      opts = copy(opts)
      if opts.reuseport == nil then opts.reuseport = true end
    end
    local socket, message, code = datagram(addr, opts)
    return socket, message, code
  end)
end

-- For src/main.c: this process is worker `id` of `count`, and descriptor 3 its control socket.
function workers.begin(id, count, reuseport)
  workers.id, workers.count, workers.begin = id, count, nil
  control = assert(net.adopt(CONTROL_FD))
  lock = require("neap.semaphore.core").semaphore(1)
  questions = 0
  net.listen = shared_listen(reuseport)
  net.datagram = shared_datagram(reuseport)
end

return workers
