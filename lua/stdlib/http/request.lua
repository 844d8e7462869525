-- The request as a handler sees it: the head that C has read, and its body.

local bodies = require "neap.http.body"
local codec = require "neap.codec.core"
local structured = require "neap.structured"

local event = require "neap.event.core".event
local choose = require "neap.select.core".select

local request = {}

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
  local length = self.chunked and "chunked" or self.length or 0
  local conn, limits = self.conn, self.limits
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
  self.taken = true
  return self.conn
end

request.meta = {
  __name = "neap.http.request",
  __index = function(self, key)
    local method = methods[key]
    if method then return method end
    if key == "headers" then
      local headers = codec.http_fields(self.fields)
      self.headers = headers
      return headers
    end
    if key ~= "query" then return nil end
    local query = request.decode_form(rawget(self, "query_string") or "")
    self.query = query
    return query
  end,
}

return request
