-- The client: one request, its redirects, and connections kept for the next one.
--
-- The one idea: a reply holds its connection until its body has been read; a connection whose body
-- was read to its end goes back to the pool of its origin. Only what is safe is tried again: a
-- request without side effects on a kept connection that the server closed meanwhile.

local bodies = require "neap.http.body"
local codec = require "neap.codec.core"
local net = require "neap.net"
local tasks = require "neap.task.core"

local client = {}

local MAX_HEAD = 65536
local MAX_BODY = 64 << 20
local REDIRECTS = 10
local TIMEOUT_S = 30
-- Kept connections: of one origin, of all, and how long. Servers close theirs after a minute or so.
local KEEP = 4
local KEEP_ALL = 64
local KEEP_S = 30

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"
local safe = { GET = true, HEAD = true, OPTIONS = true, TRACE = true }
local framing = { ["content-length"] = true, ["transfer-encoding"] = true, host = true }

local function bad(n, name, text)
  error(("bad argument #%d to '%s' (%s)"):format(n, name, text), 2)
end

-- "http://user@host:80/path?query#x" -> its parts; nil and why.
local function parse_url(url)
  local scheme, rest = url:match "^(%a[%w+.-]*)://(.*)$"
  scheme = scheme and scheme:lower()
  if scheme ~= "http" and scheme ~= "https" then return nil, "http:// or https:// expected" end
  local authority, target = rest:match "^([^/?#]*)([^#]*)"
  local host, port = authority:match "^(.-):(%d*)$"
  if not host or authority:find "%]$" then host, port = authority, "" end
  if host == "" or host:find "[^%w%-._~%[%]:%%]" then return nil, "malformed host" end
  if target:find "[%z\1-\32\127]" then return nil, "a blank or control character" end
  if target == "" or target:sub(1, 1) == "?" then target = "/" .. target end
  local usual = scheme == "http" and "80" or "443"
  if port == "" then port = usual end
  return {
    scheme = scheme, host = host, port = port, target = target,
    authority = port == usual and host or host .. ":" .. port,
    address = ("%s://%s:%s"):format(scheme == "http" and "tcp" or "tls", host, port),
  }
end

-- The target of a Location, which may be relative (RFC 3986 5.2).
local function join(url, location)
  if location:find "^%a[%w+.-]*://" then return location end
  if location:sub(1, 2) == "//" then return url.scheme .. ":" .. location end
  local origin = url.scheme .. "://" .. url.authority
  if location:sub(1, 1) == "/" then return origin .. location end
  local path = url.target:match "^[^?]*"
  if location:sub(1, 1) == "?" then return origin .. path .. location end
  local parts = {}
  for part in (path:match "^(.*/)" .. location):gmatch "[^/]*/?" do
    if part == "../" or part == ".." then parts[#parts] = nil
    elseif part ~= "./" and part ~= "." then parts[#parts + 1] = part end
  end
  return origin .. "/" .. table.concat(parts):gsub("^/", "")
end

-- { {key, conn, since}, ... }, the last used at the end; of one runtime.
local kept = {}

-- Nobody has anything to say on an idle connection: bytes belong to no request, an end is the end.
local function is_idle(conn)
  if conn.closed or conn.unread_bytes > 0 then return false end
  local bytes, _, code = conn:peek(1, { timeout = 0 })
  return not bytes and code == "ETIMEDOUT"
end

local function take_kept(key)
  for i = #kept, 1, -1 do
    local entry = kept[i]
    if entry and entry.key == key then
      table.remove(kept, i)
      if tasks.now() - entry.since < KEEP_S and is_idle(entry.conn) then return entry.conn end
      entry.conn:abort()
    end
  end
end

local function keep(key, conn)
  local now, same = tasks.now(), 0
  for i = #kept, 1, -1 do
    local entry = kept[i]
    if entry.key == key then same = same + 1 end
    if now - entry.since >= KEEP_S or same >= KEEP then
      table.remove(kept, i)
      entry.conn:abort()
    end
  end
  if #kept >= KEEP_ALL then table.remove(kept, 1).conn:abort() end
  kept[#kept + 1] = { key = key, conn = conn, since = now }
end

-- http.forget.
function client.forget()
  while #kept > 0 do table.remove(kept).conn:close() end
end

---@class neap.http.reply
---@field status integer
---@field reason string
---@field headers table<string, string> by names in lower case; of Set-Cookie, one per line
---@field url string where it came from, after redirects
---@field tls? neap.tls.info
local reply = {}
reply.__index = reply
reply.__name = "neap.http.reply"

-- The body has been read, or never will be.
local function settle(self)
  local conn = self.conn
  if not conn then return end
  self.conn = nil
  if self.input.ended and self.keep_alive and conn.unread_bytes == 0 then keep(self.key, conn)
  else conn:close() end
end

--- The whole body, as long as `max_body` allows.
---@return string|nil body
---@return string? message
---@return string? code EMSGSIZE, EBADMSG, EPIPE (cut short), ETIMEDOUT, the connection's own
function reply:body()
  local text, message, code = self.input:all()
  settle(self)
  if text then return text end
  return nil, message, code
end

--- An iterator over the body's pieces as they come; raises what is no end.
---@return fun(): string|nil
function reply:chunks()
  local pieces = self.input:pieces()
  return function()
    local piece = pieces()
    if not piece then settle(self) end
    return piece
  end
end

--- Lets go of the connection; needed for a reply whose body is not read to its end.
function reply:close() settle(self) end
reply.__close = settle
reply.__gc = function(self)
  if self.conn then self.conn:abort() end
end

local function add_fields(out, headers)
  local own = {}
  for name, value in pairs(headers or {}) do
    if type(name) ~= "string" or not name:find(TOKEN) then
      bad(2, "request", ("bad header name %q"):format(tostring(name)))
    end
    local low = name:lower()
    if framing[low] then bad(2, "request", ("header %s is set by what is sent"):format(name)) end
    own[low] = true
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      one = tostring(one)
      if one:find "[%z\1-\8\10-\31\127]" then
        bad(2, "request", ("header %s: a character that no value may have"):format(name))
      end
      out[#out + 1] = name .. ": " .. one
    end
  end
  return own
end

local function head_of(url, opts, body)
  local out = { ("%s %s HTTP/1.1"):format(opts.method, url.target), "Host: " .. url.authority }
  local own = add_fields(out, opts.headers)
  if not own["user-agent"] then out[#out + 1] = "User-Agent: neap" end
  if not own.accept then out[#out + 1] = "Accept: */*" end
  if type(body) == "string" then out[#out + 1] = "Content-Length: " .. #body
  elseif body then out[#out + 1] = "Transfer-Encoding: chunked" end
  out[#out + 1] = "\r\n"
  return table.concat(out, "\r\n")
end

local function send_body(conn, body)
  if type(body) == "string" then return true end
  for piece in body do
    if piece ~= "" then
      local ok, message, code = conn:write(("%x\r\n"):format(#piece), piece, "\r\n")
      if not ok then return nil, message, code end
    end
  end
  return conn:write "0\r\n\r\n"
end

local response_head = codec.http_response(MAX_HEAD)

-- What is before the answer itself: 100 Continue, 103 Early Hints.
local function read_head(conn)
  for _ = 1, 10 do
    local head, message, code = conn:read(response_head)
    if not head then
      return nil, message or "the server closed the connection", code or "EPIPE"
    end
    if head.refusal then return nil, "malformed response: " .. head.why, "EBADMSG" end
    if head.status >= 200 or head.status == 101 then return head end
  end
  return nil, "too many interim responses", "EBADMSG"
end

local function body_length(head, method)
  local status = head.status
  if method == "HEAD" or status == 204 or status == 304 or status == 101 then return 0 end
  if method == "CONNECT" and status < 300 then return 0 end
  if head.chunked then return "chunked" end
  return head.length or "end"
end

-- A connection in the middle of an exchange goes with its task.
local abandon = {
  __close = function(unfinished)
    if unfinished.conn then unfinished.conn:abort() end
  end,
}

local function open(url, opts)
  local connect = { timeout = opts.left() }
  for key, value in pairs(opts.tls or {}) do
    if url.scheme == "https" then connect[key] = value end
  end
  if opts.via then
    local conn, message, code = net.connect(opts.via, { timeout = connect.timeout })
    if not conn or url.scheme == "http" then return conn, message, code end
    connect.name = connect.name or url.host:match "^%[(.*)%]$" or url.host
    local unfinished <close> = setmetatable({ conn = conn }, abandon)
    local ok
    ok, message, code = conn:starttls(connect)
    if not ok then return nil, message, code end
    unfinished.conn = nil
    return conn
  end
  return net.connect(url.address, connect)
end

-- One exchange on conn: the reply, or nothing sent was answered.
local function exchange(conn, url, opts, body)
  local chunks = type(body) == "function"
  local ok, message, code = conn:write(head_of(url, opts, body), not chunks and body or "")
  if ok and chunks then ok, message, code = send_body(conn, body) end
  if not ok and code == "ETIMEDOUT" then return nil, message, code end
  local head
  head, message, code = read_head(conn) -- also after a failed write: there may be an answer
  if not head then return nil, message, code end
  local length = body_length(head, opts.method)
  local input = bodies.new(conn, length, opts.max_body or MAX_BODY)
  head.conn, head.input, head.url = conn, input, url.text
  head.keep_alive = ok and head.keep_alive and length ~= "end" and head.status ~= 101
  head.reason = head.reason or ""
  if conn.tls then head.tls = conn.tls end
  return setmetatable(head, reply)
end

-- A request to one URL, on a kept connection if there is one.
local function attempt(url, opts)
  local key = url.scheme .. "://" .. url.authority .. " " .. (opts.via or "")
  if opts.tls then key = nil end -- other certificates, other trust: a connection of its own
  local body = opts.body
  if type(body) == "function" and body == opts.used then
    return nil, "the body cannot be sent twice", "EINVAL"
  end
  opts.used = body
  local unfinished <close> = setmetatable({ conn = key and take_kept(key) }, abandon)
  while true do
    local conn = unfinished.conn
    local again = conn ~= nil
    local r, message, code
    if not conn then
      conn, message, code = open(url, opts)
      if not conn then return nil, message, code end
      unfinished.conn = conn
    end
    conn.timeout = opts.left()
    r, message, code = exchange(conn, url, opts, body)
    if r then
      unfinished.conn = nil
      r.key = key
      if not key then r.keep_alive = false end
      return r
    end
    conn:abort()
    unfinished.conn = nil
    local gone = code == "EPIPE" or code == "ECONNRESET"
    if not (again and gone and safe[opts.method] and type(body) ~= "function") then
      return nil, ("%s %s: %s"):format(opts.method, url.text, message), code
    end
  end
end

local secret = { authorization = true, cookie = true, ["proxy-authorization"] = true }

local function redirected(r, url, opts)
  local location = r.headers.location
  local status = r.status
  if not location or status < 301 or status > 308 or status == 304 or status > 303 and status < 307
  then return nil end
  local text = join(url, location)
  local to, why = parse_url(text)
  if not to then return nil, ("redirect to %s: %s"):format(text, why) end
  to.text = text
  if status == 303 and opts.method ~= "HEAD" or status < 303 and opts.method == "POST" then
    opts.method, opts.body = "GET", nil -- as browsers do (RFC 9110 15.4)
  end
  if to.authority ~= url.authority or to.scheme ~= url.scheme then
    local headers = {} -- secrets are for whom they were meant
    for name, value in pairs(opts.headers or {}) do
      local low = name:lower()
      if not secret[low] then headers[name] = value end
    end
    opts.headers = headers
  end
  return to
end

local known = {
  method = true, headers = true, body = true, timeout = true, max_body = true, redirects = true,
  tls = true, via = true,
}

local function check(url, opts, name)
  if type(url) ~= "string" then bad(1, name, "string expected, got " .. type(url)) end
  if type(opts) ~= "table" then bad(2, name, "table expected, got " .. type(opts)) end
  for key in pairs(opts) do
    if not known[key] then bad(2, name, ("unknown option '%s'"):format(tostring(key))) end
  end
  local kind = type(opts.body)
  if kind ~= "nil" and kind ~= "string" and kind ~= "function" then
    bad(2, name, "option 'body': string or iterator expected, got " .. kind)
  end
  if opts.method ~= nil and not (type(opts.method) == "string" and opts.method:find(TOKEN)) then
    bad(2, name, "option 'method': a method's name expected")
  end
end

---@class neap.http.request_options
---@field method? string "GET"
---@field headers? table<string, string|string[]>
---@field body? string|fun(): string|nil text, or an iterator of pieces, which are sent in chunks
---@field timeout? number seconds for each wait, and for connecting; 30
---@field max_body? integer bytes of the reply's body; 67108864
---@field redirects? integer how many are followed; 10
---@field tls? table options of the TLS connection (ca, cert, verify …); it is not kept then
---@field via? neap.address connects there instead of to the URL's host: "unix:/run/x.sock"

-- http.request.
function client.request(url, opts, name)
  opts = opts or {}
  check(url, opts, name)
  local parsed, why = parse_url(url)
  if not parsed then return nil, ("request %s: %s"):format(url, why), "EINVAL" end
  parsed.text = url
  local own = {}
  for key, value in pairs(opts) do own[key] = value end
  own.method = opts.method or "GET"
  own.left = function() return opts.timeout or TIMEOUT_S end
  for _ = 0, opts.redirects or REDIRECTS do
    local r, message, code = attempt(parsed, own)
    if not r then return nil, message, code end
    local to
    to, why = redirected(r, parsed, own)
    if not to and not why then return r end
    if opts.redirects == 0 then return r end
    r.input:drop(65536)
    settle(r)
    if why then return nil, why, "EINVAL" end
    parsed = to
  end
  return nil, ("%s %s: too many redirects"):format(own.method, url), "ELOOP"
end

client.reply = reply
client.parse_url = parse_url
client.join = join

return client
