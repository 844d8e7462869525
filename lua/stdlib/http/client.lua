-- The client: one request, its redirects, and connections kept for the next one.
--
-- The one idea: a reply holds its connection until its body has been read; a connection whose body
-- was read to its end goes back to the pool. Only what is safe is tried again: a request that may
-- be repeated, on a kept connection that the server closed without a byte of an answer.

local bodies = require "neap.http.body"
local cookies = require "neap.http.cookies"
local decompress = require "neap.http.decompress"
local exchange = require "neap.http.exchange"
local net = require "neap.net"
local outgoing = require "neap.http.outgoing"
local pool = require "neap.http.pool"
local proxies = require "neap.http.proxy"
local tasks = require "neap.task.core"
local tls = require "neap.tls"
local urls = require "neap.http.url"

local client = {}

local MAX_BODY = 64 << 20
local REDIRECTS = 10
local STALL_S = 30
local LITTLE = 65536 -- of a body that nobody wants: taken in, to be polite

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"
-- What may be done twice (RFC 9110 9.2.2).
local idempotent = {
  GET = true, HEAD = true, OPTIONS = true, TRACE = true, PUT = true, DELETE = true,
}

local function bad(n, name, text)
  error(("bad argument #%d to '%s' (%s)"):format(n, name, text), 2)
end

---@class neap.http.reply
---@field status integer
---@field reason string
---@field headers table<string, string> by names in lower case; of Set-Cookie, one per line
---@field url string where it came from, after redirects
---@field decompressed? string the codings that were taken off its body: "gzip"
---@field tls? neap.tls.info
local reply = {}
reply.__index = reply
reply.__name = "neap.http.reply"

-- The body has been read, or never will be.
local function settle(self)
  local conn = self.conn
  if not conn then return end
  self.conn = nil
  if self.input.close then self.input:close() end
  local up = self.up
  if up then
    exchange.stop(up)
    self.whole = up.state == "sent"
    self.keep_alive = self.keep_alive and self.whole
  end
  if self.source.ended and self.keep_alive and conn.unread_bytes == 0 then
    pool.keep(self.key, conn)
  elseif self.whole and (self.had_body or self.source:ends_within(LITTLE)) then
    conn:close()
  else -- nobody wants the rest: of the answer, which a close would take in, or of the request
    conn:abort()
  end
end

-- What the request's body raised, while the answer was already read.
local function raise_of(self)
  local up = self.up
  if up and up.raised ~= nil then error(up.raised, 0) end
end

--- The whole body, as long as `max_body` allows. After a deadline of the caller's own, or when it
-- was cancelled, what came stays: reading goes on where it began.
---@return string|nil body
---@return string? message
---@return string? code EMSGSIZE, EBADMSG, EPIPE (cut short), ETIMEDOUT, the connection's own
function reply:body()
  local text, message, code = self.input:all()
  local failed = self.input.failed
  if not (failed and failed.passing) then settle(self) end
  if not text then raise_of(self) end
  if text then return text end
  return nil, message, code
end

--- An iterator over the body's pieces as they come; raises what is no end.
---@return fun(): string|nil
function reply:chunks()
  local input = self.input
  return function()
    local piece, _, code = input:next()
    if piece then return piece end
    if code then
      raise_of(self)
      error(input.failed, 2)
    end
    settle(self)
  end
end

--- The trailer fields of a chunked body, once it was read.
---@return table<string, string>|nil
function reply:trailers() return self.source.trailers end

--- Lets go of the connection; needed for a reply whose body is not read to its end.
function reply:close() settle(self) end
reply.__close = settle
reply.__gc = function(self)
  if self.conn then self.conn:abort() end
end

--- Takes the connection out of HTTP's hands, after a status of 101: what is unread is the next
-- protocol's, the deadline of its waits is still `stall_timeout`, and closing it is the caller's.
---@return neap.stream
function reply:take()
  local conn = self.conn
  if not conn then error("the reply has let go of its connection", 2) end
  self.conn = nil
  return conn
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

local function tls_options(url, call)
  local options = { timeout = call.left() }
  if url.scheme == "https" then
    for key, value in pairs(call.tls or {}) do options[key] = value end
  end
  return options
end

-- A connection that does not lead to the URL's own address: TLS and the tunnel begin behind it.
local function open_elsewhere(url, call, through)
  local address = through and through.address or call.via
  local conn, message, code = net.connect(address, { timeout = call.left() })
  if not conn then
    return nil, through and ("proxy %s: %s"):format(through.text, message) or message, code
  end
  local unfinished <close> = setmetatable({ conn = conn }, abandon)
  local ok = true
  if through and not through.asked then
    ok, message, code = proxies.tunnel(conn, through, url, call.left)
  end
  if ok and url.scheme == "https" then
    local options = tls_options(url, call)
    options.name = options.name or urls.bare(url.host)
    ok, message, code = conn:starttls(options)
  end
  if not ok then return nil, message, code end
  unfinished.conn = nil
  return conn
end

local function open(url, call, through)
  if through or call.via then return open_elsewhere(url, call, through) end
  return net.connect(url.address, tls_options(url, call))
end

local function new_reply(conn, head, url, call)
  local length = body_length(head, call.method)
  local source = bodies.new(conn, length, call.max_body, call.stall)
  local input = source
  source.by = call.by
  if call.decodes and head.status ~= 206 then
    input, head.decompressed = decompress(head.headers, source, call.max_body)
  end
  head.conn, head.input, head.source, head.url = conn, input, source, url.text
  local goes_on = length ~= "end" and head.status ~= 101
  head.keep_alive = (head.whole or head.up) and head.keep_alive and goes_on
  head.reason, head.had_body = head.reason or "", call.body ~= nil
  if conn.tls then head.tls = conn.tls end
  conn.timeout = call.stall
  return setmetatable(head, reply)
end

-- The proxy of this request, or nothing; false and why. It is `asked` for the URL, or only for a
-- connection to its server.
local function proxy_for(url, call)
  local through, why = proxies.choose(call.proxy, url)
  if not through then return through, why end
  through.asked = url.scheme == "http"
  for name in pairs(call.headers or {}) do
    if type(name) == "string" and name:lower() == "upgrade" then through.asked = false end
  end
  return through
end

-- What connections are told apart by; nil: this one is like no other.
local function key_of(url, call, through)
  local origin, options = url.scheme .. "://" .. url.authority, ""
  if url.scheme == "https" and call.tls then options = pool.tls_key(call.tls) end
  if not options then return nil end
  if not through then return ("%s %s %s"):format(origin, call.via or "", options) end
  local how = through.asked and "asks" or "through"
  return ("%s %s %s %s"):format(origin, how, through.key, options)
end

-- Another try is harmless: nothing was heard of the first, and a second changes nothing.
local function may_repeat(call, conn, code)
  local gone = code == "EPIPE" or code == "ECONNRESET"
  return gone and idempotent[call.method] and type(call.body) ~= "function" and
    not call.answered and (conn.closed or conn.unread_bytes == 0)
end

-- One exchange on a connection, new or kept: the reply; or nil, message, code and whether to try
-- again.
local function try(url, call, through, key)
  local unfinished <close> = setmetatable({ conn = key and pool.take(key) }, abandon)
  local conn, again = unfinished.conn, unfinished.conn ~= nil
  local message, code, head
  if not conn then
    conn, message, code = open(url, call, through)
    if not conn then return nil, message, code end
    unfinished.conn = conn
  end
  conn.timeout, call.answered = call.left(), nil
  head, message, code =
    exchange.run(conn, call, outgoing(url, call, through and through.asked and through))
  if not head then
    return nil, ("%s %s: %s"):format(call.method, url.text, message), code,
      again and may_repeat(call, conn, code)
  end
  if call.cookies then call.cookies:take(url, head.headers["set-cookie"]) end
  -- RFC 9110 10.1.1; an iterator that has begun cannot begin again
  if head.status == 417 and call.expects and (head.unasked or type(call.body) ~= "function") then
    call.expects = nil
    return nil, "", "", true
  end
  unfinished.conn = nil
  return new_reply(conn, head, url, call)
end

-- A request to one URL.
local function attempt(url, call)
  local through, why = proxy_for(url, call)
  if through == false then return nil, ("request %s: %s"):format(url.text, why), "EINVAL" end
  local body = call.body
  if type(body) == "function" and body == call.used then
    return nil, "the body cannot be sent twice", "EINVAL"
  end
  call.used = body
  local key = key_of(url, call, through)
  while true do
    local r, message, code, again = try(url, call, through, key)
    if r then
      r.key = key
      if not key then r.keep_alive = false end
      return r
    end
    if not again then return nil, message, code end
  end
end

-- Fields that say who asks, and fields that speak of a body.
local secret = {
  authorization = true, cookie = true, ["proxy-authorization"] = true,
  host = true, -- no secret, but the first server's
}
local of_body = {
  ["content-type"] = true, ["content-encoding"] = true, ["content-language"] = true,
  ["content-location"] = true, digest = true, ["content-digest"] = true, ["repr-digest"] = true,
}

local function without(headers, names)
  local rest = {}
  for name, value in pairs(headers or {}) do
    if not names[name:lower()] then rest[name] = value end
  end
  return rest
end

-- Secrets are for whom they were meant, and so is the certificate that says who we are.
local function go_elsewhere(call)
  call.headers = without(call.headers, secret)
  if call.tls then call.tls = tls.for_others(call.tls) end
end

local function redirected(r, url, call)
  local location = r.headers.location
  local status = r.status
  if not location or status < 301 or status > 308 or status == 304 or status > 303 and status < 307
  then return nil end
  local text = urls.join(url, location)
  local to, why = urls.parse(text)
  if not to then return nil, ("redirect to %s: %s"):format(text, why) end
  if status == 303 and call.method ~= "HEAD" or status < 303 and call.method == "POST" then
    call.method, call.body, call.expects = "GET", nil, nil -- as browsers do (RFC 9110 15.4)
    call.headers = without(call.headers, of_body)
  end
  if to.authority ~= url.authority or to.scheme ~= url.scheme then go_elsewhere(call) end
  return to
end

local known = {
  method = "string", headers = "table", body = true, timeout = "number", stall_timeout = "number",
  max_body = "number", redirects = "number", tls = "table", via = "string", proxy = "string",
  expect = "boolean", decompress = "boolean", duplex = "boolean", cookies = "table",
}

local function check(url, opts, name)
  if type(url) ~= "string" then bad(1, name, "string expected, got " .. type(url)) end
  if type(opts) ~= "table" then bad(2, name, "table expected, got " .. type(opts)) end
  for key, value in pairs(opts) do
    local kind = known[key]
    if not kind then bad(2, name, ("unknown option '%s'"):format(tostring(key))) end
    if kind ~= true and type(value) ~= kind and not (key == "proxy" and value == false) then
      bad(2, name, ("option '%s': %s expected, got %s"):format(key, kind, type(value)))
    end
  end
  local kind = type(opts.body)
  if kind ~= "nil" and kind ~= "string" and kind ~= "function" then
    bad(2, name, "option 'body': string or iterator expected, got " .. kind)
  end
  if opts.method ~= nil and not opts.method:find(TOKEN) then
    bad(2, name, "option 'method': a method's name expected")
  end
  if opts.cookies and getmetatable(opts.cookies) ~= cookies.meta then
    bad(2, name, "option 'cookies': a jar of http.cookies expected")
  end
  if opts.via and opts.proxy then bad(2, name, "'via' and 'proxy' exclude each other") end
end

---@class neap.http.request_options
---@field method? string "GET"
---@field headers? table<string, string|string[]> Host among them goes instead of the URL's
---@field body? string|fun(): string|nil text, or an iterator of pieces, which are sent in chunks by
-- a task of its own; an early answer ends it
---@field duplex? boolean an early answer does not end the sending of the body: both go on at once,
-- until the reply was read to its end or closed. What the iterator raises, reading raises; false
---@field timeout? number seconds for all of it, redirects and the reply's body included; none
---@field stall_timeout? number seconds for each wait: connecting, the head, a piece of a body; 30
---@field max_body? integer bytes of the reply's body, as sent and as decompressed; 67108864
---@field redirects? integer how many are followed; 10
---@field tls? table options of the TLS connection (ca, cert, verify …); for a redirect to another
-- origin without cert, key, password, name and session
---@field via? neap.address connects there instead of to the URL's host: "unix:/run/x.sock"
---@field proxy? string|false "http://user:password@host:port" (https:// for TLS to the proxy);
-- "environment": what http_proxy, https_proxy, all_proxy and no_proxy say; none
---@field cookies? neap.http.cookies what the server has set goes along, what it sets is kept, also
-- on the way of redirects. A header Cookie among `headers` goes instead
---@field decompress? boolean asks for gzip and deflate, and takes them off the reply's body; true,
-- but without Accept-Encoding or Range among the headers. A coding that is none of these stays
---@field expect? boolean sends `Expect: 100-continue` and the body once the server wants it, or
-- says nothing for 1 s; false

-- The call as the functions above have it: the options, and what changes from URL to URL.
local function new_call(opts)
  local call = {}
  for key, value in pairs(opts) do call[key] = value end
  call.method, call.max_body = opts.method or "GET", opts.max_body or MAX_BODY
  call.stall = opts.stall_timeout or STALL_S
  call.by = opts.timeout and tasks.now() + opts.timeout
  call.expects = opts.expect and opts.body ~= nil and opts.body ~= ""
  call.left = function()
    if not call.by then return call.stall end
    return math.max(0, math.min(call.stall, call.by - tasks.now()))
  end
  return call
end

-- http.request.
function client.request(text, opts, name)
  opts = opts or {}
  check(text, opts, name)
  local url, why = urls.parse(text)
  if not url then return nil, ("request %s: %s"):format(text, why), "EINVAL" end
  local call = new_call(opts)
  for _ = 0, opts.redirects or REDIRECTS do
    local r, message, code = attempt(url, call)
    if not r then return nil, message, code end
    local to
    to, why = redirected(r, url, call)
    if not to and not why then return r end
    if opts.redirects == 0 then return r end
    local _ <close> = r -- whatever becomes of this
    r.source:drop(LITTLE)
    if why then return nil, why, "EINVAL" end
    url = to
  end
  return nil, ("%s %s: too many redirects"):format(call.method, text), "ELOOP"
end

client.reply = reply

return client
