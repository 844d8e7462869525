-- neap.websocket against the case list of the Autobahn test suite, as server and as client, over
-- each kind of stream, in one piece and byte by byte: the outcome is the same.
--
-- NEAP_ACCEPTANCE=1 (make acceptance): section 9 in the suite's own sizes; sections 12 and 13, in
-- websocket_deflate_spec.lua, with a tenth of its messages.

local cases = require "spec.support.websocket_cases"
local certs = require "spec.support.certs"
local frames = require "spec.support.frames"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local LIMIT_S = 30 * helper.slow
local OPTIONS = { max_message = 16 << 20 }
local MINUTES = os.getenv "NEAP_ACCEPTANCE" ~= nil
local WHOLE_MAX = 4096 -- longer ones are cut into bytes at their ends alone

local known = { [true] = {}, [false] = {} }

-- The bytes of a case. server: of one that plays the server.
local function bytes_of(sent, server)
  local bytes = known[server][sent]
  if bytes then return bytes end
  local out = {}
  for i, frame in ipairs(sent) do
    local bits, payload, missing = frame[1], frame[2], frame[3]
    out[i] = frames.make(bits, payload .. ("\0"):rep(missing or 0), server)
    if missing then out[i] = out[i]:sub(1, -1 - missing) end
  end
  bytes = table.concat(out)
  known[server][sent] = bytes
  return bytes
end

-- How a case's bytes are written.
local function whole(conn, bytes, case)
  for i = 1, #bytes, case.chop or #bytes do
    if not conn:write(bytes:sub(i, i + (case.chop or #bytes) - 1)) then return end
  end
end

local function by_byte(conn, bytes)
  local i, n = 1, #bytes
  while i <= n do
    local middle = n > WHOLE_MAX and i > 64 and i <= n - 64
    local size = middle and math.min(n - 63 - i, 4093) or 1
    if not (conn:write(bytes:sub(i, i + size - 1)) and conn:flush()) then return end
    neap.yield()
    i = i + size
  end
end

-- The tester's part; the bytes go from another task: an echo of megabytes comes meanwhile.
local function play(conn, case, write, server)
  conn.timeout = LIMIT_S
  local task = neap.spawn(function() write(conn, bytes_of(case[2], server), case) end)
  local got = frames.answers(conn, not server)
  task:join()
  return got
end

local function echo(ws)
  for message, kind in ws:messages() do
    if not ws:send(message, kind) then return end
  end
end

local function silent() end

-- way: name, address to listen on, options of TLS.
local ways = {
  tcp = { "ws", function() return "127.0.0.1:0" end },
  unix = { "ws", function() return "unix:" .. helper.socket_path() end },
  memory = { "ws", function() return "mem:websocket-cases" end },
  tls = { "wss", function() return "tls://127.0.0.1:0" end,
    { cert = certs.path "server.pem", key = certs.path "server.key" }, { verify = false } },
}

local function with_log(opts)
  local own = { log = silent }
  for name, value in pairs(opts or {}) do own[name] = value end
  return own
end

-- Both return a function that plays a case and returns what came back.
local function our_server(way)
  local server = http.serve(way[2](), with_log(way[3]), function(req, res)
    local ws <close> = websocket.accept(req, res, OPTIONS)
    echo(ws)
  end)
  helper.after(function() server:stop(0) end)
  return function(case, write)
    local conn <close> = assert(net.connect(server.address, way[4]))
    frames.shake(conn)
    return play(conn, case, write, false)
  end
end

local function our_client(way)
  local case, write, got
  local server = net.serve(way[2](), with_log(way[3]), function(conn)
    frames.answer(conn)
    got = play(conn, case, write, true)
  end)
  helper.after(function() server:stop(0) end)
  local options = { tls = way[4], via = server.address:gsub("^tls:", "tcp:"), timeout = LIMIT_S }
  for name, value in pairs(OPTIONS) do options[name] = value end
  return function(...)
    case, write = ...
    got = nil
    local ws <close> = assert(websocket.connect(way[1] .. "://localhost/", options))
    pcall(echo, ws)
    ws:close()
    helper.wait_until(function() return got end)
    return got
  end
end

local function summary(list)
  local out = {}
  for i, text in ipairs(list or {}) do out[i] = text:sub(1, 60) .. (" (%d)"):format(#text) end
  return table.concat(out, "\n")
end

local function check(run, write, wanted)
  for _, case in ipairs(cases) do
    if wanted(case) then
      local got = run(case, write)
      local same = got and #got == #case[3]
      for i = 1, same and #got or 0 do same = same and got[i] == case[3][i] end
      if not same then
        error(("case %s: expected\n%s\ngot\n%s"):format(case[1], summary(case[3]), summary(got)))
      end
    end
  end
end

local function size(case)
  local n = 0
  for _, frame in ipairs(case[2]) do n = n + #frame[2] end
  return n
end
local SHORT <const> = helper.hard and 1 << 12 or 1 << 16 -- there each byte is a system call
local function short(case) return size(case) <= SHORT end
local function tiny(case) return size(case) <= 1 << 13 end

describe("the Autobahn cases", function()
  for role, make in pairs { ["our server"] = our_server, ["our client"] = our_client } do
    for name, way in pairs(ways) do
      it(("%s over %s"):format(role, name), function()
        local n = 0
        check(make(way), whole, function(case)
          n = n + 1
          if name == "tls" and not MINUTES and n % 6 > 0 then return false end -- the handshakes
          return name == "tcp" and helper.slow == 1 or short(case)
        end)
      end)
    end
    it(("%s over TCP, byte by byte"):format(role), function()
      if helper.hard then return end -- there the one above is that already, and this takes minutes
      check(make(ways.tcp), by_byte, tiny)
    end)
    it(("%s over memory, byte by byte"):format(role), function()
      if helper.hard then return end
      check(make(ways.memory), by_byte, tiny)
    end)
  end

  it("are all there", function()
    local there = {}
    for _, case in ipairs(cases) do
      for section in case[1]:gmatch "%d+%.%d+" do there[section:match "%d+"] = true end
    end
    for _, section in ipairs { "1", "2", "3", "4", "5", "6", "7", "9", "10" } do
      assert.is_true(there[section], section)
    end
  end)
end)
