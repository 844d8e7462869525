-- clock.lua: server-sent events: every client gets the time once a second.
--
-- Shows: res:events, a response without end, neap.every without drift.
-- Try:   neap scripts/examples/clock.lua 127.0.0.1:8080
--        curl -N http://127.0.0.1:8080/

local http = require "neap.http"
local neap = require "neap"

local server = http.serve(arg[1] or "127.0.0.1:8080", function(_, res)
  local send = res:events()
  for tick in neap.every(tonumber(arg[2]) or 1) do
    if not send(os.date "!%H:%M:%S", { id = tick }) then return end
  end
end)

print("clock: listening on " .. server.address)
