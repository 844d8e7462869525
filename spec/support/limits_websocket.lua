-- The limits of WebSocket, for spec/limits_spec.lua: a test for each row of the manual's table.

local frames = require "spec.support.frames"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local LIMIT_S = 10 * helper.slow
local frame = frames.make
local bye <const> = frame(0x88, frames.close(1000))
local limits = {}

-- A raw client's stream, and what f(ws) gives in our server.
local made = 0
local function connect(opts, f, address)
  local result = {}
  made = made + 1
  local server = http.serve(address or "mem:limits-websocket-" .. made, { log = function() end },
    function(req, res)
      local ws <close> = assert(websocket.accept(req, res, opts))
      result.ws = ws
      result.values = table.pack(f(ws))
    end)
  helper.after(function() server:stop(0) end)
  local conn = assert(net.connect(server.address))
  helper.after(function() conn:abort() end)
  conn.timeout = LIMIT_S
  frames.shake(conn)
  return conn, result
end

local function outcome(result)
  assert(helper.wait_until(function() return result.values end))
  return table.unpack(result.values)
end

local function receive(ws) return ws:receive() end

-- How long, or with which code, a message is received that comes as these frames.
local function received(opts, ...)
  local conn, result = connect(opts, receive)
  conn:write(...)
  conn:write(bye)
  local message, _, code = outcome(result)
  return message and #message or code
end

limits["a WebSocket message; one of its frames"] = function()
  local default <const> = 1 << 20
  for n, wanted in pairs {
    [default - 1] = default - 1, [default] = default, [default + 1] = "EMSGSIZE",
  } do
    assert.equal(wanted, received(nil, frame(0x82, ("x"):rep(n))))
    assert.equal(wanted, received(nil, frame(0x02, ("x"):rep(n - 9)), frame(0x80, "123456789")))
    assert.equal(wanted, received({ max_message = 2 << 20, max_frame = default },
      frame(0x82, ("x"):rep(n))))
  end
  for n, wanted in pairs { [9] = 18, [10] = 20, [11] = "EMSGSIZE" } do
    local piece = ("x"):rep(n)
    assert.equal(wanted, received({ max_frame = 10 }, frame(0x02, piece), frame(0x80, piece)))
  end
end

limits["a WebSocket's control frame; the reason of its close"] = function()
  for n, wanted in pairs { [124] = 124, [125] = 125, [126] = "EBADMSG" } do
    local conn, result = connect(nil, function(ws)
      local fine, message = pcall(ws.ping, ws, ("y"):rep(n))
      assert.equal(n <= 125, fine, message)
      return ws:receive()
    end)
    if n <= 125 then assert.equal(n, #(frames.read(conn))) end
    conn:write(frame(0x89, ("x"):rep(n)))
    if n <= 125 then
      assert.equal(n, #(frames.read(conn))) -- its pong
      conn:abort()
    else
      assert.equal(wanted, select(3, outcome(result)))
    end
  end
  for n, fine in pairs { [122] = true, [123] = true, [124] = false } do
    local conn, result = connect(nil, function(ws)
      return pcall(ws.close, ws, 1000, ("x"):rep(n))
    end)
    conn:write(bye)
    assert.equal(fine, (outcome(result)))
    assert.equal(fine and n + 2 or 2, #(frames.read(conn)))
  end
end

-- The seconds until f's frame, or end, of this connection.
local function seconds(f)
  local start = neap.now()
  f()
  return neap.now() - start
end

limits["a WebSocket's silence before a ping; after it"] = function()
  local soon <const> = 0.06 * helper.slow
  local conn, result = connect({ ping = soon, pong_timeout = 2 * soon }, receive)
  neap.sleep(soon / 2) -- below it: what comes is life
  conn:write(frame(0x8a, ""))
  local bits
  local silence = seconds(function() bits = select(2, frames.read(conn)) end)
  assert.equal(0x89, bits)
  assert.is_true(silence > soon / 2, silence)
  neap.sleep(soon) -- below the other
  conn:write(frame(0x8a, ""))
  assert.equal(0x89, select(2, frames.read(conn))) -- it lives, and is asked again
  local patience = seconds(function() assert.is_nil(conn:read(1)) end)
  assert.is_true(patience > 1.5 * soon, patience)
  assert.equal("ETIMEDOUT", select(3, outcome(result)))
end

limits["a WebSocket's wait for the other side's close; for room to send"] = function()
  local soon <const> = 0.05 * helper.slow
  local conn, result = connect({ close_timeout = 4 * soon }, function(ws) return ws:close() end)
  neap.sleep(soon)
  conn:write(bye)
  assert.is_true((outcome(result)))
  result = select(2, connect({ close_timeout = soon }, function(ws) return ws:close() end))
  local waited = seconds(function() assert.equal("ETIMEDOUT", select(3, outcome(result))) end)
  assert.is_true(waited > 0.8 * soon, waited)
  local function send(ws)
    for _ = 1, 100000 do
      local ok, message, code = ws:send(("x"):rep(100000))
      if not ok then return ok, message, code end
    end
  end
  result = select(2, connect({ write_timeout = soon }, send, "127.0.0.1:0"))
  assert.equal("ETIMEDOUT", select(3, outcome(result)))
  assert.is_true(result.ws.conn.closed)
end

return limits
