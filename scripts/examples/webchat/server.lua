-- webchat/server.lua: a chat for browsers: the page over HTTP, the talk over WebSocket.
--
-- Shows: a hub of WebSockets that cuts off who does not keep up; history from where a page left
--        off; only pages from here may connect; a policy that runs no script but ours.
--        A message to the page is "ID\nTIME\nKIND\nNAME\nTEXT", one from it is just its text.
-- Try:   neap scripts/examples/webchat/server.lua 127.0.0.1:8080, then http://127.0.0.1:8080/
--        in two windows; with a certificate: … 127.0.0.1:8443 c.pem k.pem

local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local KEEP = 50 -- messages that newcomers see
local NAME_MAX = 24
local TEXT_MAX = 4000 -- bytes; the page stops at 1000 UTF-16 units
local PAUSE_S = 0.1 -- between two messages of one client: the rest waits in its own window

local address, cert, key = arg[1] or "127.0.0.1:8080", arg[2], arg[3]

local room = net.hub { policy = "disconnect" }
local present = {} -- name -> true
-- Numbers of messages go on rising when the server is started again, so pages know what is new.
local first = os.time() * 1000
local last, history = first, {}

local function names()
  local list = {}
  for name in pairs(present) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, "\n")
end

local function message(id, kind, name, text)
  return ("%d\n%d\n%s\n%s\n%s"):format(id, os.time(), kind, name, text)
end

local function tell(kind, name, text)
  last = last + 1
  history[last], history[last - KEEP] = message(last, kind, name, text), nil
  room:send(websocket.frame(history[last]))
end

-- Bytes from a URL as a name; nothing if they are none.
local function clean_name(bytes)
  local name = (bytes or ""):sub(1, 256):match "^%s*(.-)%s*$"
  local length = utf8.len(name)
  if length and length > 0 and length <= NAME_MAX and not name:find "%c" then return name end
end

-- In the room until the block ends, however it does, by a name that nobody else has.
local function enter(ws, wanted)
  local name, n = wanted, 1
  while present[name] do
    n = n + 1
    name = ("%s (%d)"):format(wanted, n)
  end
  present[name] = true
  room:add(ws.conn)
  ws:send(message(0, "you", name, ""))
  tell("join", name, names())
  return setmetatable({ name = name }, { __close = function()
    present[name] = nil
    tell("leave", name, names())
  end })
end

-- What was said since; whoever joins the room after the last of it misses nothing.
local function catch_up(ws, since)
  local id = math.max(since, first, last - KEEP)
  while id < last do
    id = id + 1
    if history[id] and not ws:send(history[id]) then return false end
  end
  return true
end

local scheme = cert and "https://" or "http://"
local options = { max_message = TEXT_MAX }

local function chat(req, res)
  local wanted = clean_name(req.query.name)
  if not wanted then return res:send(400, "a name expected\n") end
  local ws <close> = websocket.accept(req, res, options)
  if not ws or not catch_up(ws, math.tointeger(tonumber(req.query.since)) or 0) then return end
  local member <close> = enter(ws, wanted)
  while true do
    local text, kind = ws:receive()
    if not text then return end
    if kind == "text" and text:find "%S" then tell("say", member.name, text) end
    neap.sleep(PAUSE_S)
  end
end

local r = http.router()
r:use(function(_, res, next)
  res.headers["Content-Security-Policy"] = "default-src 'self'; base-uri 'none'; " ..
    "form-action 'none'; frame-ancestors 'none'; img-src data:"
  res.headers["X-Content-Type-Options"] = "nosniff"
  next()
end)
r:get("/chat", chat)
r:get("/*path", http.files((arg[0]:match "^(.*)/" or ".") .. "/page", { cache = "no-cache" }))

local server = http.serve(cert and "tls://" .. address or address,
  { cert = cert, key = key, max_connections = 500 }, r)

print(("webchat: listening on %s, open %s"):format(server.address,
  (server.address:gsub("^%l+://", scheme))))
