-- serve: HTTP/1.1 over anything net.serve serves.
--
-- One task per connection reads a head, runs the handler, ends the response and drops what the
-- handler left of the body, in this order, so pipelined requests are answered in theirs. What is
-- no HTTP is answered and the connection ended: nobody knows where the next request would begin.

local codec = require "neap.codec.core"
local compress = require "neap.http.compress"
local request = require "neap.http.request"
local response = require "neap.http.response"
local shared = require "neap.http.limits"
local status_text = require "neap.http.status"

local DROP_MAX = shared.drop_max

---@class neap.http.serve_options
---@field max_head? integer bytes of a request's head; 16384
---@field max_body? integer bytes of a request's body; 1048576
---@field head_timeout? number seconds from a head's first byte to its last, at most twice that; 10
---@field body_timeout? number seconds that a body may keep us waiting, and longer for what comes at
-- body_rate: a client that sends a byte now and then gets no more than this; 30
---@field body_rate? number bytes a second; 500
---@field idle_timeout? number seconds between two requests; 60
---@field write_timeout? number seconds that a client may take for each 256 KiB of an answer; 60
---@field compress? boolean|neap.http.compress_options bodies of texts go compressed to clients that
-- ask for it, unless the handler sets res.compress = false; false
---@field access_log? fun(line: string) called after each request, with a line in common log format
local defaults = {
  max_head = 16384, max_body = 1 << 20, head_timeout = 10, body_timeout = 30, body_rate = 500,
  idle_timeout = 60, write_timeout = 60,
}

local server = {}

-- An answer to what is no request, and the end of the connection: (RFC 9112 9.6) the rest that is
-- still being sent is dropped by the polite close.
local function refuse(conn, status, why)
  local text = ("%d %s: %s\n"):format(status, status_text[status] or "", why)
  conn:write(("HTTP/1.1 %d %s%s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" ..
    "Connection: close\r\n\r\n%s"):format(status, status_text[status] or "", response.date_line(),
    #text, text))
end

local head_refusals = {
  EMSGSIZE = { 431, "the head is too long" },
  EBADMSG = { 400, "a line that does not end in CRLF" },
  ETIMEDOUT = { 408, "the head took too long" },
}

-- What is wrong with a body, for a handler that leaves the answer to us.
local body_refusals = { EMSGSIZE = 413, EBADMSG = 400, EPIPE = 400, ETIMEDOUT = 408 }

local function failure_of(req)
  local input = rawget(req, "input")
  return input and input.failed
end

-- A stream's method by its name costs 350 instructions.
local read = require("neap.stream.core").methods.read

-- How clients leave between two requests, or we (ECANCELED, see wind_down): nobody needs to know.
local left = { ECONNRESET = true, EPIPE = true, ETRUNCATED = true, ECANCELED = true }

-- The parts of the next head, after a read that gave none, with this code; or nothing: the
-- connection is over, and why if somebody should know, after which answer.
local function next_head(conn, limits, code)
  local idle, stalled, begun, options = 0, 0, false, { timeout = limits.patience }
  while true do
    if code == nil or left[code] then return nil end
    local partial = conn.unread_bytes > 0
    if code == "ETIMEDOUT" and not partial and conn.unsent_bytes > 0 then
      stalled = stalled + options.timeout -- it has not got its last answer yet
      if stalled >= limits.write_timeout then return nil, "the answer is not taken" end
    elseif code == "ETIMEDOUT" and not partial then
      idle = idle + options.timeout
      if idle >= limits.idle_timeout then return nil end
      options.timeout = math.min(limits.head_timeout, limits.idle_timeout - idle)
    elseif code == "ETIMEDOUT" and not begun then
      begun, options.timeout = true, limits.head_timeout -- its first byte may have come late
    else
      local refusal = head_refusals[code]
      if not refusal then return nil, code end
      refuse(conn, refusal[1], refusal[2])
      return nil, refusal[2], refusal[1]
    end
    local method, path, head, version, keep_alive, length = read(conn, limits.head, options)
    if method ~= nil then return method, path, head, version, keep_alive, length end
    code = head
  end
end

-- head: nil of a request that could not be read; code: what it was answered with.
local function log_access(limits, conn, head, code, size)
  local peer = (conn.peer or "-"):gsub("^%l+://", ""):gsub(":%d+$", "")
  local line = "-"
  if head then
    local target = head.target:gsub('["\\]', { ['"'] = "%22", ["\\"] = "%5C" })
    line = ("%s %s HTTP/1.%d"):format(head.method, target, head.version - 10)
  end
  limits.access_log(('%s - - [%s] "%s" %d %s'):format(peer, os.date "!%d/%b/%Y:%H:%M:%S +0000",
    line, code, size or "-"))
end

local function log(limits, conn, why)
  limits.log(("neap: %s: http: %s"):format(conn.peer or "a client", why))
end

-- A handler that has sent nothing: the status it has set is its answer; else what was wrong with
-- the body; else there is nothing here.
local function answer_for(req, res)
  local failed = failure_of(req)
  local status = failed and body_refusals[failed.code] or 404
  if rawget(res, "status") then return res:send(res.status) end
  local text = ("%d %s\n"):format(status, status_text[status])
  res:send(status, text, { ["Content-Type"] = "text/plain" })
end

-- The body's failure is told here, whatever the handler made of it.
local function tell(limits, conn, req, res)
  if limits.access_log then log_access(limits, conn, req, res.code or 0, res.size) end
  local failed = failure_of(req)
  if failed then log(limits, conn, failed.message) end
  if res.broken == "ETIMEDOUT" then log(limits, conn, "the answer is not taken") end
end

-- True if the connection goes on.
local function finish(conn, req, res, limits)
  if not res.sent then answer_for(req, res)
  elseif not res.done then res:finish() end
  local has_body = res.has_body
  if has_body or res.broken or limits.access_log then tell(limits, conn, req, res) end
  if res.broken then
    conn:abort()
    return false
  end
  if not res.keep_alive then return false end
  return not has_body or request.body_of(req):drop(DROP_MAX)
end

-- An error in the handler, also nil: the client gets a 500 if nothing was sent (of the body's
-- failure: what that is), else a broken connection.
local function answer_error(conn, res, err)
  if res.sent then return conn:abort() end
  local failed = failure_of(res.req)
  local of_body = failed and (err == failed or err == failed.message)
  local status = of_body and body_refusals[failed.code] or 500
  res.keep_alive = false
  res.extra = nil -- meant for another answer, or what the error was about
  res:send(status, ("%d %s\n"):format(status, status_text[status]),
    { ["Content-Type"] = "text/plain" })
end

-- The end of a request that does not end as others do: by an error, or as another protocol, which
-- has no such answers.
local guard = {
  __close = function(self, err)
    local res = self.res
    self.limits.open[self] = nil
    if not res then return end
    local farewell = rawget(res.req, "farewell") -- of what an upgrade made of the connection
    if farewell then farewell(err) end
    if not self.taken and not res.done then answer_error(self.conn, res, err) end
    if self.limits.access_log then
      log_access(self.limits, self.conn, res.req, res.code or 101, res.size)
    end
  end,
}

local function refused(conn, limits, status, why)
  if status and limits.access_log then log_access(limits, conn, nil, status) end
  if why then log(limits, conn, why) end
end

-- A server that stops waits for the requests it has in hand, and for no further ones.
local function wind_down(limits)
  limits.stopping = true
  for state in pairs(limits.open) do
    local res, conn = state.res, state.conn
    state.ending = true
    if res then res.keep_alive = false
    elseif conn.unread_bytes == 0 then conn:close() end
  end
end

local function connection(handler, limits, conn)
  local new_request, new_response, clean = request.new, response.new, response.clean
  local heads, logs, compresses = limits.head, limits.access_log, limits.compresses
  local state <close> = setmetatable({
    conn = conn, limits = limits, taken = false, lent = true, ending = false, res = false,
  }, guard)
  if limits.stopping then return end -- its handshake took until now
  limits.open[state] = true
  while true do
    if state.lent then -- a handler may have set its own
      conn.timeout, conn.write_timeout = limits.patience, limits.write_timeout
      state.lent = false
    end
    local method, path, head, version, keep_alive, length = read(conn, heads)
    if method == nil then
      method, path, head, version, keep_alive, length = next_head(conn, limits, head)
      if method == nil then return refused(conn, limits, head, path) end
    end
    if not method then
      refuse(conn, path, head)
      return refused(conn, limits, path, head)
    end
    if state.ending then keep_alive = false end
    local req = new_request(state, method, path, head, version, length)
    local res = new_response(compresses, conn, req, method, version, keep_alive, length ~= false)
    state.res = res
    handler(req, res)
    if state.taken then return end
    local goes_on = not logs and clean(res) or finish(conn, req, res, limits)
    state.res = false
    if not goes_on then break end
  end
  conn:flush() -- at the client's pace; a close gives it 10 s
end

local function check_limit(opts, name)
  local value = opts[name]
  if value == nil then return defaults[name] end
  local whole = name:find "^max_"
  local positive = type(value) == "number" and value > 0
  if not positive or whole and math.type(value) ~= "integer" then
    error(("bad argument #2 to 'serve' (option '%s': a positive %s expected, got %s)"):format(
      name, whole and "integer" or "number", tostring(value)), 3)
  end
  return value
end

-- Options that are no limits.
local own = { access_log = true, compress = true }

-- http.handler; the options that are not HTTP's; and what ends the connections that are idle.
function server.handler(opts, handler)
  if handler == nil then opts, handler = {}, opts end
  local meta = getmetatable(handler)
  if type(handler) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error(("bad argument #3 to 'serve' (handler: function expected, got %s)"):format(
      type(handler)), 2)
  end
  local limits, rest = {}, {}
  for name, value in pairs(opts or {}) do
    if not defaults[name] and not own[name] then rest[name] = value end
  end
  for name in pairs(defaults) do limits[name] = check_limit(opts or {}, name) end
  limits.patience = math.min(limits.head_timeout, limits.idle_timeout) -- of a first wait
  limits.access_log = opts and opts.access_log
  limits.compress = compress.options(opts and opts.compress)
  limits.compresses = not not (opts and opts.compress)
  limits.open = {} -- the states of all connections
  limits.head = codec.http_request(limits.max_head, true)
  limits.log = rest.log or function(line) io.stderr:write(line, "\n") end
  return function(conn) return connection(handler, limits, conn) end, rest,
    function() wind_down(limits) end
end

return server
