-- serve(addr or listener, [opts,] handler): accept, run the handler in a task per connection, and
-- outlive it.
--
-- The one idea: the server's task opens a group, and the connections are that group's tasks: nobody
-- keeps a list of them, and the server has ended when the group has. Nothing here reads or writes.

local tasks = require "neap.task.core"
local groups = require "neap.group.core"
local event = require("neap.event.core").event
local proxy = require "neap.net.proxy"

-- A program that says nothing gets limits that hold 100 000 clients (2.4 KB each while they are
-- idle) and not an unbounded number: past them the kernel's backlog waits. An idle peer is let go
-- after five minutes.
local MAX_CONNECTIONS = 1 << 17
local TIMEOUT_S = 300
local GRACE_S = 5
local FULL_TOLD_S = 60 -- how often a server says that it is full

-- What a peer can do to a handler at any time: one line, no traceback.
local common = {
  ECONNRESET = true, EPIPE = true, ETIMEDOUT = true, ECONNABORTED = true, ETLS = true, ECERT = true,
  ETRUNCATED = true,
}
local common_texts = {
  "connection reset by peer$", "broken pipe$", "timed out$", "connection aborted$",
}

local failure = {
  __name = "neap.error",
  __tostring = function(e) return e.message end,
}

---@class neap.server
---@field address string the address it listens on, with the real port
---@field addresses string[] all of them
---@field connections integer connections that are being served
---@field total integer connections accepted so far
local server = {}
server.__name = "neap.server"

function server:__index(key)
  if key ~= "connections" and key ~= "total" then return server[key] end
  if not self.group then return 0 end
  local connections, total = self.group:connections()
  return key == "total" and total or connections
end

local function is_common(err)
  if type(err) == "table" then return err.common or common[err.code] end
  if type(err) ~= "string" then return false end
  for _, text in ipairs(common_texts) do
    if err:find(text) then return true end
  end
  return false
end

-- Also of what cannot say what it is, as the interpreter puts that.
local function text_of(err)
  local ok, text = pcall(tostring, err)
  return ok and text or ("(error object is a %s value)"):format(type(err))
end

local function to_stderr(line) io.stderr:write(line, "\n") end

-- At the end of a connection's task, in it, if the handler raised, which is told here and nowhere
-- else, or if somebody waits for an end.
local function connection_ended(self, conn, err, traceback)
  if traceback then
    local _ <close> = conn -- whatever becomes of the report
    local text = text_of(err)
    if not is_common(err) then text = text .. "\n" .. traceback end
    self.log(("neap: %s: %s"):format(conn.peer or self.address, text))
  end
  conn:close()
  if self.watchers > 0 then self.changed:set() end
end

-- Waits until a connection has ended.
local watching = {
  __close = function(w)
    local self = w.server
    self.watchers = self.watchers - 1
    self.group:watch_ends(self.watchers > 0)
  end,
}

local function wait_for_end(self, options)
  self.watchers = self.watchers + 1
  local _ <close> = setmetatable({ server = self }, watching)
  self.group:watch_ends(true)
  self.changed:clear()
  self.changed:wait(options)
end

-- To its clients a full server looks like one that hangs.
local function tell_full(self)
  local now = tasks.now()
  if self.full_told and now - self.full_told < FULL_TOLD_S then return end
  self.full_told = now
  self.log(("neap: %s: %s connections, the most at a time (max_connections): others wait"):format(
    self.address, self.max_connections))
end

local function accept_all(self, g)
  while groups.serve(self.listener, g, self.handler, self.timeout, self.line_max,
    self.max_connections) do
    tell_full(self)
    wait_for_end(self)
  end
end

-- Accepting is a task of its own in the group: stop() ends it and leaves the connections.
local function run(self)
  local _ <close> = self.owned and self.listener or nil
  if self.stopped then return end
  groups.group(function(g)
    g:on_connection_end(function(conn, err, traceback)
      return connection_ended(self, conn, err, traceback)
    end)
    self.group = g
    self.acceptor = g:spawn(accept_all, self, g)
  end)
end

-- Connections but the caller's own: a handler may stop its server.
local function others(self)
  local me, list = tasks.current(), {}
  for _, task in ipairs(self.group and self.group:tasks() or {}) do
    if task ~= me and task ~= self.acceptor then list[#list + 1] = task end
  end
  return list
end

--- Ends the server: accepts no more, waits up to `grace` seconds for the connections, cancels the
-- rest and waits for them.
--
-- Called in a handler, it leaves that handler's own connection alone. Again is fine.
---@param grace? number seconds (5)
---@return integer cancelled how many connections were cancelled
function server:stop(grace)
  if grace ~= nil and (type(grace) ~= "number" or grace ~= grace or grace < 0) then
    error(("bad argument #1 to 'stop' (seconds expected, got %s)"):format(tostring(grace)), 2)
  end
  if not self.stopped then
    self.stopped = true
    if self.owned then self.listener:close() end
    if self.acceptor then self.acceptor:cancel "server stopped" end
    if self.on_stop then self.on_stop() end -- http.serve's
  end
  local deadline = tasks.now() + (grace or GRACE_S)
  local left = others(self)
  while #left > 0 and tasks.now() < deadline do
    wait_for_end(self, { timeout = deadline - tasks.now() })
    left = others(self)
  end
  for _, task in ipairs(left) do task:cancel "server stopped" end
  for _, task in ipairs(left) do task:join() end
  return #left
end

server.__close = function(self) self:stop(0) end

function server:__tostring()
  local state = self.stopped and " stopped" or ""
  return ("neap.server{%s connections=%d total=%d%s}"):format(
    self.address, self.connections, self.total, state)
end

-- Arguments.

local own = {
  max_connections = true, timeout = true, line_max = true, log = true, proxy_protocol = true,
  proxy_timeout = true,
}

-- level: of the caller of serve, as seen from here.
local function bad(n, text, level)
  error(("bad argument #%d to 'serve' (%s)"):format(n, text), level or 4)
end

local function check_number(opts, name, least)
  local value = opts[name]
  if value == nil or value == false and name == "timeout" then return end
  if type(value) ~= "number" or value ~= value or value < least then
    local text = "option '%s': a number of %s or more expected, got %s"
    bad(2, text:format(name, least, tostring(value)), 5)
  end
end

local function check(addr, opts, handler)
  local meta = getmetatable(handler)
  if type(handler) ~= "function" and not (type(meta) == "table" and meta.__call) then
    bad(3, "handler: function expected, got " .. type(handler))
  end
  if type(opts) ~= "table" then bad(2, "options: table expected, got " .. type(opts)) end
  check_number(opts, "max_connections", 1)
  check_number(opts, "timeout", 0)
  check_number(opts, "line_max", 1)
  check_number(opts, "proxy_timeout", 0)
  if opts.log ~= nil and type(opts.log) ~= "function" then
    bad(2, "option 'log': function expected, got " .. type(opts.log))
  end
  local wrong = opts.proxy_protocol ~= nil and proxy.check(opts.proxy_protocol)
  if wrong then bad(2, "option 'proxy_protocol': " .. wrong) end
  local kind = type(addr)
  if kind ~= "string" and kind ~= "userdata" and kind ~= "table" then
    bad(1, "address or listener expected, got " .. kind)
  end
end

-- net.listen's argument errors, told at the line that called serve.
local function listen(addr, opts)
  local rest = {}
  for name, value in pairs(opts) do
    if not own[name] then rest[name] = value end
  end
  local ok, l, message, code = pcall(require("neap.net").listen, addr, rest)
  if not ok and type(l) == "string" then error((l:gsub("^[^:]*:%d+: ", "")), 3) end
  if not ok then error(l, 0) end
  if not l then error(setmetatable({ message = message, code = code }, failure), 0) end
  return l
end

--- Serves connections: returns at once with a server that already listens, or raises if it cannot.
--
-- Each connection gets a task that is a group of its own; the handler's return closes it politely.
-- An error in a handler is logged with the peer and a traceback, and concerns no other connection;
-- a reset, broken pipe or expired deadline that the handler did not catch is one line. The accept
-- task belongs to the nearest group of the caller, so that lives until server:stop(). A listener
-- that is given is used, not owned: stop() leaves it open.
--
-- opts: max_connections (131072; past it the kernel's backlog waits, which is logged once a
-- minute), timeout (300 s, the default deadline of each wait on a connection; false: none),
-- line_max (64 KiB, a stream's own default), log (function(line), default: standard error),
-- proxy_protocol (a list of networks, "10.0.0.0/8", or "unix": their connections begin with a PROXY
-- header, version 1 or 2, before TLS, and conn.peer is the client that it names; without one they
-- end; nobody else's header is looked at), proxy_timeout (10 s for all of that header), and every
-- option of net.listen.
---@param addr string|userdata an address, or a listener
---@param opts? table
---@param handler fun(conn: userdata)
---@return neap.server
local function serve(addr, opts, handler)
  if handler == nil then opts, handler = {}, opts end
  if opts == nil then opts = {} end
  check(addr, opts, handler)
  local owned = type(addr) == "string"
  local tls = owned and addr:find "^tls://" ~= nil
  if tls then
    local ok, rest, behind, code = pcall(require("neap.tls").serving, opts, handler,
      opts.proxy_protocol ~= nil)
    if not ok then error((tostring(rest):gsub("^[^:]*:%d+: ", "")), 2) end
    if not rest then error(setmetatable({ message = behind, code = code }, failure), 2) end
    opts, handler = rest, behind
  end
  if opts.proxy_protocol then -- before TLS, which the listener would begin with
    handler = proxy.serving(opts.proxy_protocol, opts.proxy_timeout, handler)
    if tls then addr = addr:gsub("^tls", "tcp", 1) end
  end
  local listener = owned and listen(addr, opts) or addr
  local timeout = opts.timeout
  if timeout == nil then timeout = TIMEOUT_S end
  local addresses = listener.addresses
  if tls then
    for i, one in ipairs(addresses) do addresses[i] = one:gsub("^tcp", "tls", 1) end
  end
  local self = setmetatable({
    listener = listener, owned = owned, handler = handler,
    address = tls and listener.address:gsub("^tcp", "tls", 1) or listener.address,
    addresses = addresses,
    stopped = false, changed = event(), watchers = 0,
    max_connections = opts.max_connections or MAX_CONNECTIONS, timeout = timeout,
    line_max = opts.line_max, log = opts.log or to_stderr,
  }, server)
  self.task = tasks.spawn(run, self)
  return self
end

return serve
