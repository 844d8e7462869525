-- neap.websocket: WebSocket (RFC 6455), server and client, on neap.http's requests and over TLS.
--
-- This file is the handshake: what makes a request one for WebSocket, whose pages may make it, and
-- which answer a client believes. The rest is connection.lua, and deflate.lua for compression.

local connection = require "neap.websocket.connection"
local core = require "neap.websocket.core"
local deflate = require "neap.websocket.deflate"
local face = require "neap.face"
local http = require "neap.http"
local limits_of = require "neap.websocket.limits"

local websocket = {}

local shared = {
  max_message = true, max_frame = true, ping = true, pong_timeout = true, close_timeout = true,
  write_timeout = true, protocols = true, deflate = true,
}
local accepting = { origins = true }
local connecting = {
  headers = true, origin = true, tls = true, timeout = true, via = true, proxy = true,
}

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"

-- n: the argument's number in the call of `name`.
local function check(opts, own, name, n)
  if type(opts) ~= "table" then
    error(("bad argument #%d to '%s' (table expected, got %s)"):format(n, name, type(opts)), 2)
  end
  for key in pairs(opts) do
    if not shared[key] and not own[key] then
      error(("bad argument #%d to '%s' (unknown option '%s')"):format(n, name, tostring(key)), 2)
    end
  end
  for _, protocol in ipairs(opts.protocols or {}) do
    if type(protocol) ~= "string" or not protocol:find(TOKEN) then
      error(("bad argument #%d to '%s' (protocol %q is no token)"):format(n, name,
        tostring(protocol)), 2)
    end
  end
  return limits_of(opts, { n = n, name = name })
end

-- Whether a comma-separated list has the word, in any case.
local function has(list, word)
  for item in (list or ""):gmatch "[^,%s]+" do
    if item:lower() == word then return true end
  end
  return false
end

-- The first of ours that the client offers (RFC 6455 4.2.2).
local function choose(protocols, offered)
  local there = {}
  for item in (offered or ""):gmatch "[^,%s]+" do there[item] = true end
  for _, protocol in ipairs(protocols or {}) do
    if there[protocol] then return protocol end
  end
end

local origins_kinds = { ["nil"] = true, table = true, ["function"] = true }
local origins_names = { same = true, any = true }

-- As a browser writes an origin: without the port that its scheme has anyhow (RFC 6454 6.2).
local function canonical(origin)
  origin = origin:lower()
  return (origin:gsub(origin:find "^https:" and ":443$" or ":80$", ""))
end

-- The origin of our own pages. No page can set the field that a proxy says the scheme in.
local function own_origin(req)
  local scheme = req.headers["x-forwarded-proto"] or req.conn.tls and "https" or "http"
  return canonical(("%s://%s"):format(scheme, req.host or ""))
end

-- Requests of no browser have no origin. A browser lets every page in the world connect to us with
-- our user's cookies (RFC 6455 10.2), so foreign ones are let in by name only.
local function allowed(origins, req)
  local origin = req.headers.origin
  if not origin or origins == "any" then return true end
  if type(origins) == "function" then return origins(origin, req) end
  if not origins or origins == "same" then return canonical(origin) == own_origin(req) end
  for _, one in ipairs(origins) do
    if one:lower() == origin:lower() then return true end
  end
  return false
end

-- Status and reason, if the request is none that can be answered with 101.
local function refusal(req, origins)
  local fields = req.headers
  local key = fields["sec-websocket-key"] or ""
  if req.method ~= "GET" or req.version ~= 11 or not req.upgrade or
    not has(fields.upgrade, "websocket") then
    return 426, "a WebSocket handshake expected"
  elseif req.length and req.length > 0 or req.chunked then
    return 400, "a handshake with a body"
  elseif fields["sec-websocket-version"] ~= "13" then
    return 426, "Sec-WebSocket-Version: 13 expected"
  elseif #key ~= 24 or not key:find "^[%w+/]+==$" then
    return 400, "malformed Sec-WebSocket-Key"
  elseif not deflate.parse(fields["sec-websocket-extensions"] or "") then
    return 400, "malformed Sec-WebSocket-Extensions"
  elseif not allowed(origins, req) then
    return 403, ("origin %s is not allowed"):format(fields.origin)
  end
end

-- What is agreed on of what the request offers, and the answer that says so.
local function compression(req, limits)
  local offered = req.headers["sec-websocket-extensions"]
  if offered and limits.deflate then return deflate.accept(offered, limits.deflate) end
end

local function field(name, value)
  return value and ("Sec-WebSocket-%s: %s\r\n"):format(name, value) or ""
end

---@class neap.websocket.accept_options: neap.websocket.options
---@field origins? string[]|"same"|"any"|fun(origin: string, req: neap.http.request): boolean whose
-- pages may connect: those of the host and port that is asked for, and of https if the connection,
-- or X-Forwarded-Proto, is that ("same"); these ("https://example.org"); or all ("any"). Requests
-- without Origin, which no browser sends, pass. "same"

--- Makes a WebSocket of a request, inside a handler of neap.http. What is no such request has been
-- answered when this fails: with 426, 400, or 403 for a foreign origin.
---@param req neap.http.request
---@param res neap.http.response
---@param opts? neap.websocket.accept_options
---@return neap.websocket|nil ws
---@return string? message
---@return string? code EPROTO (no WebSocket handshake), EACCES (origin), the connection's own
websocket.accept = face(function(req, res, opts)
  opts = opts or {}
  local limits = check(opts, accepting, "accept", 3)
  if not origins_kinds[type(opts.origins)] and not origins_names[opts.origins] then
    error(("bad argument #3 to 'accept' (option 'origins': a list, a function, \"same\" or " ..
      "\"any\" expected, got %s)"):format(tostring(opts.origins)), 2)
  end
  if res.sent then error "bad argument #2 to 'accept' (a response was sent already)" end
  local status, why = refusal(req, opts.origins)
  if status then
    local headers = { ["Content-Type"] = "text/plain" }
    if status == 426 then
      headers.Upgrade, headers["Sec-WebSocket-Version"] = "websocket", "13"
    end
    res:send(status, why .. "\n", headers)
    return nil, ("accept %s: %s"):format(req.conn.peer or "a client", why),
      status == 403 and "EACCES" or "EPROTO"
  end
  local protocol = choose(opts.protocols, req.headers["sec-websocket-protocol"])
  local how, answer = compression(req, limits)
  local conn = req:take()
  res.sent, res.done, res.code = true, true, 101
  local ok, message, code = conn:write(("HTTP/1.1 101 Switching Protocols\r\n" ..
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s\r\n"):format(
    core.accept(req.headers["sec-websocket-key"]), field("Protocol", protocol),
    field("Extensions", answer)))
  if not ok then return nil, message, code end
  local ws = connection.new(conn, true, limits, protocol, how)
  req.farewell = function(err) ws:__close(err) end -- should the handler end without a close
  return ws
end)

-- What makes an answer no handshake.
local function unbelievable(reply, key, protocols, config)
  local fields = reply.headers
  local extensions = fields["sec-websocket-extensions"]
  local protocol = fields["sec-websocket-protocol"]
  if reply.status ~= 101 then
    return ("the server answered %d %s"):format(reply.status, reply.reason)
  elseif not reply.upgrade or not has(fields.upgrade, "websocket") then
    return "the server upgraded to something else"
  elseif fields["sec-websocket-accept"] ~= core.accept(key) then
    return "wrong Sec-WebSocket-Accept"
  elseif extensions and not config then
    return "an extension nobody asked for"
  elseif protocol and choose(protocols, protocol) ~= protocol then
    return "a subprotocol nobody asked for"
  elseif extensions then
    local how, why = deflate.check(extensions, config)
    return why, how
  end
end

local function request_headers(opts, key, config)
  local headers = {}
  for name, value in pairs(opts.headers or {}) do headers[name] = value end
  headers.Connection, headers.Upgrade = "Upgrade", "websocket"
  headers["Sec-WebSocket-Version"], headers["Sec-WebSocket-Key"] = "13", key
  headers.Origin = opts.origin
  if opts.protocols then
    headers["Sec-WebSocket-Protocol"] = table.concat(opts.protocols, ", ")
  end
  if config then headers["Sec-WebSocket-Extensions"] = deflate.offer(config) end
  return headers
end

---@class neap.websocket.connect_options: neap.websocket.options
---@field headers? table<string, string|string[]> of the request besides
---@field origin? string its Origin
---@field timeout? number seconds for connecting and the handshake; 30 for each wait
---@field tls? table options of the TLS connection (ca, cert, verify …)
---@field via? neap.address connects there instead of to the URL's host
---@field proxy? string|false as http.request has it: a tunnel through a forward proxy

--- Connects to a WebSocket server.
---@param url string ws:// or wss://
---@param opts? neap.websocket.connect_options
---@return neap.websocket|nil ws
---@return string? message
---@return string? code EINVAL (URL), EPROTO (an answer that is no handshake), EPROXY, those of
---  http.request
websocket.connect = face(function(url, opts)
  opts = opts or {}
  if type(url) ~= "string" then
    error(("bad argument #1 to 'connect' (string expected, got %s)"):format(type(url)), 2)
  end
  local limits = check(opts, connecting, "connect", 2)
  local secure, rest = url:match "^[Ww][Ss]([Ss]?)://([^#]*)$"
  if not rest then return nil, ("connect %s: ws:// or wss:// expected"):format(url), "EINVAL" end
  local key, message, code = core.key()
  if not key then return nil, message, code end
  local reply
  reply, message, code = http.request("http" .. secure:lower() .. "://" .. rest, {
    headers = request_headers(opts, key, limits.deflate), redirects = 0, tls = opts.tls,
    timeout = opts.timeout, via = opts.via, proxy = opts.proxy,
  })
  if not reply then return nil, message, code end
  local why, how = unbelievable(reply, key, opts.protocols, limits.deflate)
  if why then
    reply.keep_alive = false
    reply:close()
    return nil, ("connect %s: %s"):format(url, why), "EPROTO"
  end
  return connection.new(reply:take(), false, limits, reply.headers["sec-websocket-protocol"], how)
end)

local plainly = deflate.config(true)
plainly.receive_bits = 15

--- A message as the bytes that a server sends, for net.hub: `hub:add(ws.conn)`, then
-- `hub:send(websocket.frame "news")` queues it once for all. Not while a member is being sent a
-- message in pieces, an iterator's or a compressed one of more than 64 KiB.
---@param message string
---@param kind? string "text" (the default) or "binary"
---@param compressed? boolean for a hub whose members all have ws.compression, without takeover and
-- with window_bits of 15
---@return string bytes
websocket.frame = face(function(message, kind, compressed)
  if type(message) ~= "string" then
    error(("bad argument #1 to 'frame' (string expected, got %s)"):format(type(message)), 2)
  elseif kind ~= nil and kind ~= "text" and kind ~= "binary" then
    error(("bad argument #2 to 'frame' (\"text\" or \"binary\" expected, got %s)"):format(
      tostring(kind)), 2)
  elseif kind ~= "binary" and not core.utf8(message, 0, true) then
    error("bad argument #1 to 'frame' (text that is not UTF-8)", 2)
  end
  local bits = kind == "binary" and 0x82 or 0x81
  if compressed then
    bits, message = bits | 0x40, deflate.compressor(plainly):compress(message, true)
  end
  return core.head(bits, #message) .. message
end)

return websocket
