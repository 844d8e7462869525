-- serve(addr, [opts,] handler): a name server over UDP and TCP, on one port.
--
-- The one idea: as many tasks as may answer at a time receive from the same datagram socket, so
-- what waits is in the kernel's queue and nobody counts. TCP is net.serve with two length bytes
-- before each message. What cannot be read is answered with FORMERR; responses never are answered.

local neap = require "neap"
local net = require "neap.net"
local codec = require "neap.dns.codec"

local UDP_MAX, TASKS, IDLE_S, PORT_TRIES <const> = 1232, 16, 10, 8
local PLAIN_MAX <const> = 512 -- RFC 1035 4.2.1: of who did not say otherwise

---@class neap.dns.server
---@field address string where it listens, for both: "127.0.0.1:5353"
---@field queries integer answered or dropped so far
local server = {}
server.__index = server
server.__name = "neap.dns.server"

-- The handler's reply; SERVFAIL in place of its error or of what cannot be encoded, nil: none.
local function reply_of(self, query, info)
  if query.edns and query.edns.version > 0 then
    return codec.reply(query, "BADVERS")
  end
  local ok, reply = xpcall(self.handler, debug.traceback, query, info)
  if ok then return reply end
  if reply == neap.cancelled then error(reply, 0) end
  self.log(("neap: dns %s: %s"):format(info.from or "?", reply))
  return codec.reply(query, "SERVFAIL")
end

local function room(query, tcp)
  if tcp then return 65535 end
  if not query.edns then return PLAIN_MAX end
  return math.max(PLAIN_MAX, math.min(query.edns.size, UDP_MAX))
end

-- The bytes that answer the bytes, or nil.
local function respond(self, bytes, info)
  self.queries = self.queries + 1
  local query = codec.decode(bytes)
  if not query then
    local head = codec.header(bytes)
    if not head or head.qr then return nil end
    return codec.encode(codec.reply(head, "FORMERR"))
  end
  if query.qr then return nil end
  local reply = reply_of(self, query, info)
  if not reply then return nil end
  local out, text = codec.encode(reply, room(query, info.tcp))
  if out then return out end
  self.log(("neap: dns %s: %s"):format(info.from or "?", text))
  return (codec.encode(codec.reply(query, "SERVFAIL"), room(query, info.tcp)))
end

local function answer_datagrams(self)
  while not self.stopped do
    local bytes, from, code = self.socket:recv()
    if bytes then
      local out = respond(self, bytes, { from = from })
      if out and not self.stopped then self.socket:send(out, from) end
    elseif code == "ECANCELED" then
      return
    end
  end
end

local function answer_stream(self, conn)
  while true do
    local bytes = conn:unpack ">s2"
    if not bytes then return end
    local out = respond(self, bytes, { from = conn.peer, tcp = true })
    if out then conn:write(string.pack(">s2", out)) end
  end
end

-- The sockets live as long as this task: also when its group is cancelled.
local function run(self, count)
  local _ <close> = self.socket
  local _ <close> = self.listener
  neap.group(function(g)
    for _ = 1, count do g:spawn(answer_datagrams, self) end
  end)
end

--- Stops: takes no more queries, waits up to `grace` seconds for those over TCP.
---@param grace? number seconds (5)
function server:stop(grace)
  if self.stopped then return end
  self.stopped = true
  self.socket:close()
  self.listener:close()
  self.streams:stop(grace)
end

server.__close = function(self) self:stop(0) end

function server:__tostring()
  return ("neap.dns.server{%s queries=%d%s}"):format(self.address, self.queries,
    self.stopped and " stopped" or "")
end

local failure = { __name = "neap.error", __tostring = function(e) return e.message end }

local function fail(message, code)
  error(setmetatable({ message = message, code = code }, failure), 0)
end

-- Port 0 is a port that both have free; the kernel chooses for one, the other may be taken.
local function open(addr)
  local socket, listener, message, code
  for _ = 1, PORT_TRIES do
    socket, message, code = net.datagram("udp://" .. addr)
    if not socket then fail(message, code) end
    local place = socket.address:gsub("^udp://", "")
    listener, message, code = net.listen("tcp://" .. place)
    if listener then return socket, listener, place end
    socket:close()
    if code ~= "EADDRINUSE" or not addr:find ":0$" then break end
  end
  fail(message, code)
end

--- Serves DNS: returns at once with a server that already listens on UDP and TCP, or raises.
--
-- handler(query, info) returns the reply (see dns.reply) or nil for none; info has `from` and
-- `tcp`. A zone of dns.zone is a handler. An error in it is logged and answered with SERVFAIL.
-- Replies are cut to what the asker takes (512 bytes, by EDNS up to 1232), with TC set.
-- opts: tasks (16; datagrams answered at a time), timeout (10 s, of idle TCP connections), log
-- (function(line), default: standard error).
---@param addr string "127.0.0.1:5353", ":53"; port 0 is a free one
---@param opts? { tasks: integer, timeout: number, log: fun(line: string) }
---@param handler fun(query: neap.dns.message, info: table): neap.dns.message?
---@return neap.dns.server
return function(addr, opts, handler)
  if handler == nil then opts, handler = {}, opts end
  opts = opts or {}
  if type(addr) ~= "string" then error("bad argument #1 to 'serve' (an address expected)", 2) end
  local meta = getmetatable(handler)
  if type(handler) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error("bad argument #3 to 'serve' (a function or a zone expected)", 2)
  end
  local count = opts.tasks or TASKS
  if math.type(count) ~= "integer" or count < 1 then
    error("bad argument #2 to 'serve' (option 'tasks': an integer of 1 or more expected)", 2)
  end
  local socket, listener, place = open((addr:gsub("^%l+://", "")))
  local self = setmetatable({ handler = handler, socket = socket, listener = listener,
    address = place, queries = 0, stopped = false,
    log = opts.log or function(line) io.stderr:write(line, "\n") end }, server)
  self.streams = net.serve(listener, { timeout = opts.timeout or IDLE_S, log = self.log },
    function(conn) answer_stream(self, conn) end)
  neap.spawn(run, self, count)
  return self
end
