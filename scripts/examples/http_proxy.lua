-- http_proxy.lua: ends TLS in front of an HTTP server and hands its requests on, piece by piece.
--
-- Shows: requests and replies as streams, both at once, so nothing large stands in memory and an
--        answer may come before its request has ended; the fields that belong to one connection
--        only (RFC 9110 7.6.1) stay there; Host goes on as it came, X-Real-IP and X-Forwarded-* say
--        the rest, and what a client says of that is not believed; a WebSocket goes through as it
--        is; 502 when there is nobody.
-- Try:   neap scripts/examples/rest.lua 127.0.0.1:8080
--        openssl req -x509 -nodes -days 9 -keyout k.pem -out c.pem -subj /CN=localhost
--        neap scripts/examples/http_proxy.lua 127.0.0.1:8443 http://127.0.0.1:8080 c.pem k.pem
--        curl -k -T file https://127.0.0.1:8443/keys/one
--        (or with ws_echo.lua behind it: ws_client.lua wss://localhost:8443/ c.pem)

local http = require "neap.http"
local net = require "neap.net"

local IDLE_S = 300 -- of a WebSocket; its pings are more frequent

local address, upstream, cert, key = arg[1], arg[2], arg[3], arg[4]

local of_connection = {}
for name in ([[connection keep-alive te trailer transfer-encoding upgrade proxy-connection
  proxy-authorization proxy-authenticate content-length host expect date forwarded
  x-real-ip]]):gmatch "%S+" do
  of_connection[name] = true
end

-- What goes on to the other side: also without what Connection names. "_" is "-" for a server that
-- makes variables of fields (CGI).
local function forwarded(headers)
  local out, named = {}, {}
  for name in (headers.connection or ""):lower():gmatch "[^%s,]+" do named[name] = true end
  for name, value in pairs(headers) do
    local read_as = name:gsub("_", "-")
    local here = of_connection[read_as] or named[name] or read_as:find "^x%-forwarded%-"
    if not here then out[name] = value end
  end
  return out
end

-- Other upgrades are not passed on: behind them a client could talk past the proxy.
local function wants_websocket(req)
  return req.method == "GET" and (req.headers.upgrade or ""):lower() == "websocket" and
    (req.headers.connection or ""):lower():find "upgrade" ~= nil
end

-- A path behind the upstream's URL: "*" and what CONNECT names would make another host of that.
local function is_for_us(req)
  return req.path:sub(1, 1) == "/" and not (req.host and not req.host:find "^[%w._~%%%[%]:-]+$")
end

local function ask(req)
  local headers = forwarded(req.headers)
  headers["set-cookie"] = nil -- no request's
  if wants_websocket(req) then headers.connection, headers.upgrade = "Upgrade", "websocket" end
  local client = (req.conn.peer or ""):match "^%l+://%[?(.-)%]?:%d+$"
  headers["x-real-ip"], headers["x-forwarded-for"] = client, client
  headers["x-forwarded-proto"] = req.conn.tls and "https" or "http"
  headers.host, headers["x-forwarded-host"] = req.host, req.host
  local has_body = req.chunked or (req.length or 0) > 0
  local query = req.query_string and "?" .. req.query_string or ""
  return http.request(upstream .. req.path .. query, {
    method = req.method, headers = headers, body = has_body and req:chunks() or nil,
    redirects = 0, max_body = 1 << 40, decompress = false, duplex = true,
  })
end

-- Both have agreed: from here on they are only piped.
local function tunnel(req, reply)
  local up <close> = reply:take()
  local conn = req:take()
  conn:write "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
  for name, value in pairs(reply.headers) do
    if name:find "^sec%-websocket%-" then conn:write(name, ": ", value, "\r\n") end
  end
  conn:write "\r\n"
  conn.timeout, up.timeout = IDLE_S, IDLE_S
  net.pipe(conn, up)
end

local function answer(req, res)
  if not is_for_us(req) then return res:send(400, "400 Bad Request\n") end
  local reply <close>, message = ask(req)
  if reply and reply.status == 101 and wants_websocket(req) then return tunnel(req, reply) end
  if not reply or reply.status == 101 or reply.status > 599 then
    print("http_proxy: " .. (message or "an answer that nobody wanted: " .. reply.status))
    return res:send(502, "502 Bad Gateway\n", { ["Content-Type"] = "text/plain" })
  end
  res.status, res.content_length = reply.status, tonumber(reply.headers["content-length"])
  for name, value in pairs(forwarded(reply.headers)) do
    local list = {}
    for one in value:gmatch "[^\n]+" do list[#list + 1] = one end -- several cookies
    res.headers[name] = list
  end
  if not res:flush() then return end -- the head, which may be all
  for piece in reply:chunks() do
    if not res:write(piece) or not res:flush() then return end
  end
end

local opts = { max_body = 1 << 40 }
if cert then
  address = "tls://" .. address
  opts.cert, opts.key = cert, key
end
local server = http.serve(address, opts, answer)

print("http_proxy: listening on " .. server.address .. ", for " .. upstream)
