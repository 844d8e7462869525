-- The request as a handler sees it: the head that C has read, and its body.
--
-- The one idea: a request is made of what every answer needs; what else the head says is read from
-- its bytes when the handler asks. What is there from the start lies in slots of the table's array
-- (a named field costs 200 instructions to make, a slot 20).

local bodies = require "neap.http.body"
local codec = require "neap.codec.core"
local structured = require "neap.structured"

local event = require "neap.event.core".event
local choose = require "neap.select.core".select

local request = {}

-- state: the connection's: conn, limits; taken: it is another protocol's; lent: a handler has had
-- it in hand. length: the body's, true if it is chunked, false if there is none.
local STATE <const>, METHOD <const>, PATH <const> = 1, 2, 3
local HEAD <const>, VERSION <const>, LENGTH <const> = 4, 5, 6
local slots = { method = METHOD, path = PATH, version = VERSION }

-- "a%20b+c" -> "a b+c"; `plus`: "+" means a blank, as in forms.
function request.decode(s, plus)
  if plus then s = s:gsub("+", " ") end
  return (s:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- "a=1&b=2" -> { a = "1", b = "2" }
function request.decode_form(s)
  local form = {}
  for pair in s:gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=?(.*)$"
    form[request.decode(name, true)] = request.decode(value, true)
  end
  return form
end

---@class neap.http.request
---@field method string "GET"
---@field target string as it was sent
---@field path string of the target, still with %XX
---@field query table<string, string> what stands behind "?", decoded; the last one of a name counts
---@field query_string? string the same as it was sent
---@field host? string the host that is asked for, with its port if one was given
---@field version integer 10 or 11
---@field headers table<string, string> by names in lower case; several of one name joined by ", "
---@field length? integer Content-Length
---@field conn neap.stream
---@field params? table<string, string> what a router's pattern has found, decoded
local methods = {}

local function body_of(self)
  local b = rawget(self, "input")
  if b then return b end
  local length, state = self[LENGTH], self[STATE]
  local conn, limits = state.conn, state.limits
  if length == true then length = "chunked" end
  length = length or 0
  b = bodies.new(conn, length, limits.max_body, limits.body_timeout)
  b.rate = limits.body_rate
  if self.expects and length ~= 0 then
    b.before = function()
      if self.answered then return end -- who has its answer waits no more
      conn:write "HTTP/1.1 100 Continue\r\n\r\n"
      conn:flush()
    end
  end
  self.input = b
  return b
end
request.body_of = body_of

--- The whole body, as long as `max_body` allows; "" when there is none.
---@return string|nil body
---@return string? message
---@return string? code EMSGSIZE past max_body (answer 413), EBADMSG, EPIPE, ETIMEDOUT
function methods:body()
  return body_of(self):all()
end

--- An iterator over the body's pieces as they come; raises what is no end.
---@return fun(): string|nil
function methods:chunks() return body_of(self):pieces() end

--- The trailer fields of a chunked body, once it was read.
---@return table<string, string>|nil
function methods:trailers() return body_of(self).trailers end

--- The body as a form (application/x-www-form-urlencoded).
---@return table<string, string>|nil form
---@return string? message
---@return string? code as body()
function methods:form()
  local text, message, code = self:body()
  if not text then return nil, message, code end
  return request.decode_form(text)
end

--- The cookies that came along.
---@return table<string, string>
function methods:cookies()
  local cookies = {}
  for pair in (self.headers.cookie or ""):gmatch "[^;]+" do
    local name, value = pair:match "^%s*([^=%s]+)=(.*)$"
    if name then cookies[name] = value end
  end
  return cookies
end

-- Returns when the client has ended its side. A next request may come before: it waits its turn.
local function until_gone(conn)
  if conn:peek(1, { timeout = math.huge }) then event():wait() end
  return nil, "await: the client is gone", "EPIPE"
end

local function selected(index, ...)
  if index then return ... end
  return nil, "await: timed out", "ETIMEDOUT"
end

--- Waits for `source` as neap.select does (an event, a channel, a task ...), but no longer than the
-- client is there: for an answer that is given later (long polling). A client that has only shut
-- down its side of the connection counts as gone. The request's body must have been read.
---@param source any a case of neap.select
---@param opts? { timeout?: number } seconds; no limit
---@return any ... what the source's operation returns
---@return string? message
---@return string? code ETIMEDOUT; EPIPE: the client is gone
function methods:await(source, opts)
  local list = { source, timeout = opts and opts.timeout }
  return structured.race(function() return selected(choose(list)) end,
    function() return until_gone(self.conn) end)
end

--- Takes the connection out of HTTP's hands: what is unread is the next protocol's. The handler's
-- return closes it.
---@return neap.stream
function methods:take()
  local state = self[STATE]
  local conn = state.conn
  state.taken = true
  conn.timeout, conn.write_timeout = state.limits.write_timeout, nil
  return conn
end

-- What the head says besides; what takes time to find is kept.
local function kept(name)
  return function(self)
    local value = codec.http_part(self[HEAD], name)
    self[name] = value
    return value
  end
end

local parts = {
  limits = function(self) return self[STATE].limits end,
  length = function(self) return math.type(self[LENGTH]) and self[LENGTH] or nil end,
  chunked = function(self) return self[LENGTH] == true or nil end,
  target = kept "target", host = kept "host", upgrade = kept "upgrade", expects = kept "expects",
  query_string = function(self) return codec.http_part(self[HEAD], "query") end,
}

-- What the handler sets there is for this request: see server.lua.
function parts.conn(self)
  local state = self[STATE]
  state.lent = true
  return state.conn
end

function parts.headers(self)
  local headers = codec.http_fields(self[HEAD])
  self.headers = headers
  return headers
end

function parts.query(self)
  local query = request.decode_form(self.query_string or "")
  self.query = query
  return query
end

request.meta = {
  __name = "neap.http.request",
  __index = function(self, key)
    local method = methods[key]
    if method then return method end
    local slot = slots[key]
    if slot then return self[slot] end
    local part = parts[key]
    return part and part(self)
  end,
  __newindex = function(self, key, value) rawset(self, slots[key] or key, value) end,
}

local meta = request.meta

-- The values after `state` are those of codec.http_request in parts.
function request.new(state, method, path, head, version, length)
  return setmetatable({ state, method, path, head, version, length }, meta)
end

return request
