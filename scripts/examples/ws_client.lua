-- ws_client.lua: lines of standard input become messages, messages lines of standard output.
--
-- Shows: websocket.connect, one task that receives while another sends, a close that loses nothing.
-- Try:   neap scripts/examples/ws_echo.lua 127.0.0.1:8080
--        neap scripts/examples/ws_client.lua ws://127.0.0.1:8080/
--        for wss:// with a certificate of your own: its authority as the second argument

local neap = require "neap"
local websocket = require "neap.websocket"

local QUIET_S = 0.5

local url, ca = arg[1] or "ws://127.0.0.1:8080/", arg[2]
neap.stdin.line_max = 1 << 20

local ws <close> = assert(websocket.connect(url, { tls = ca and { ca = ca } }))

local received = 0

local function receive()
  for message in ws:messages() do
    received = received + 1
    neap.stdout:write(message, "\n")
  end
end

-- Whoever has seen a close need not answer any more: it is sent when no answers come. It waits for
-- the server's own, which the other task sees after the last message.
local function send()
  for line in neap.stdin:lines() do assert(ws:send(line)) end
  local before
  repeat
    before = received
    neap.sleep(QUIET_S)
  until received == before
  ws:close()
end

neap.race(receive, send)
if ws.close_code ~= 1000 then
  local code = ws.close_code or "without an answer"
  io.stderr:write("closed: ", code, " ", ws.close_reason or "", "\n")
  os.exit(1)
end
