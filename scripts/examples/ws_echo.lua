-- ws_echo.lua: a WebSocket server that sends every message back.
--
-- Shows: websocket.accept in an HTTP handler; pings, closes and limits need no line.
-- Try:   neap scripts/examples/ws_echo.lua 127.0.0.1:8080
--        python3 -m websockets ws://127.0.0.1:8080/

local http = require "neap.http"
local websocket = require "neap.websocket"

local server = http.serve(arg[1] or "127.0.0.1:8080", function(req, res)
  local ws <close> = websocket.accept(req, res)
  if not ws then return end -- it was answered: not everybody who comes speaks WebSocket
  for message, kind in ws:messages() do ws:send(message, kind) end
end)

print("websocket: listening on " .. server.address)
