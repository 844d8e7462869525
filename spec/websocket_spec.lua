-- neap.websocket: against Python's websockets and Node's ws both ways, and frame by frame where no
-- peer would send what has to be refused. The cases of the Autobahn test suite have a file of their
-- own, websocket_cases_spec.lua.

local certs = require "spec.support.certs"
local core = require "neap.websocket.core"
local frames = require "spec.support.frames"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local LIMIT_S = 10 * helper.slow

local function echo(ws)
  for message, kind in ws:messages() do ws:send(message, kind) end
end

-- A server whose WebSockets are given to f; its port, what was logged, the server.
local function serve(f, opts, address, http_opts)
  local logged = {}
  http_opts = http_opts or {}
  http_opts.log = function(line) logged[#logged + 1] = line end
  local server = http.serve(address or "127.0.0.1:0", http_opts, function(req, res)
    local ws <close> = websocket.accept(req, res, opts)
    if ws then f(ws, req) end
  end)
  helper.after(function() server:stop(0) end)
  return server.address:match ":(%d+)$", logged, server
end

-- A raw client behind its handshake.
local function raw(port, fields)
  local c = assert(net.connect("127.0.0.1:" .. port, { timeout = LIMIT_S }))
  helper.after(function() c:close() end)
  c.timeout = LIMIT_S
  return c, frames.shake(c, fields)
end

local frame = frames.make
local function answers(c) return frames.answers(c, true) end
local function close(code, reason) return frame(0x88, frames.close(code, reason)) end
local bye, byed = close(1000), "88 1000"

-- Name, what is sent, what comes back: what no case of the suite is about.
local cases = {
  { "a frame without mask", "\x81\x01a", { "88 1002" } },
  { "a length of two bytes for 125", "\x81\xfe\0\x7d", { "88 1002" } },
  { "a length of eight bytes for 65535", "\x81\xff\0\0\0\0\0\0\xff\xff", { "88 1002" } },
  { "a length of 64 bits", "\x81\xff\x80\0\0\0\0\0\0\0", { "88 1002" } },
  { "a frame past the limit", "\x82\xff\0\0\0\0\0\1\0\1", { "88 1009" } },
  { "fragments past the limit", frame(0x02, ("a"):rep(40000)) .. frame(0x80, ("a"):rep(40000)),
    { "88 1009" } },
  { "compression that nobody agreed on", frame(0xc1, "x"), { "88 1002" } },
  { "text that ends inside a character, in an empty frame", frame(0x01, "\xce") .. frame(0x80, ""),
    { "88 1007" } },
  { "a ping in the middle of a character", frame(0x01, "\xce") .. frame(0x89, "p") ..
    frame(0x80, "\xba") .. bye, { "8a p", "81 \xce\xba", byed } },
  { "binary that is no text", frame(0x02, "\xce") .. frame(0x80, "\xff") .. bye,
    { "82 \xce\xff", byed } },
}

describe("a WebSocket server", function()
  it("answers every case of the table", function()
    local port = serve(echo, { max_message = 65536 })
    for _, case in ipairs(cases) do
      local c <close> = raw(port)
      assert(c:write(case[2]))
      assert.same(case[3], answers(c), case[1])
    end
  end)

  it("answers them the same byte by byte", function()
    if helper.hard then return end -- there the test above is that already, and this takes a minute
    local port = serve(echo, { max_message = 65536 })
    for _, case in ipairs(cases) do
      if #case[2] < 300 then
        local c <close> = raw(port)
        for i = 1, #case[2] do
          if c:write(case[2]:sub(i, i)) then c:flush() end
        end
        assert.same(case[3], answers(c), case[1])
      end
    end
  end)

  it("takes frames that came with the handshake", function()
    local port = serve(echo)
    local c <close> = assert(net.connect("127.0.0.1:" .. port))
    c:write(frames.REQUEST, "\r\n", frame(0x81, "early"), bye)
    assert.truthy(c:read_until("\r\n\r\n"):find "Accept: s3pPLMBiTxaQ9kYGzzhZRbK%+xOo=")
    assert.same({ "81 early", byed }, answers(c))
  end)

  it("refuses what is no handshake", function()
    local why
    local server = http.serve("127.0.0.1:0", function(req, res)
      why = table.pack(websocket.accept(req, res, { origins = { "https://a.example" } }))
    end)
    helper.after(function() server:stop(0) end)
    local rows = {
      { "Upgrade: websocket", "Upgrade: h2c", "426" }, { "keep-alive, Upgrade", "close", "426" },
      { "GET", "HEAD", "426" }, { "Version: 13", "Version: 8", "426" },
      { "Key: dGhl", "Key: dGh", "400" }, { "nonce==", "nonc==", "400" },
      { "jZQ==", "jZQ=!", "400" }, { "HTTP/1.1", "HTTP/1.0", "426" },
      { "Host: x", "Host: x\r\nContent-Length: 1", "400" },
      { "Host: x", "Host: x\r\nOrigin: https://b.example", "403", "EACCES" },
    }
    for _, row in ipairs(rows) do
      local c <close> = assert(net.connect(server.address))
      local at, to = frames.REQUEST:find(row[1], 1, true)
      if at then
        c:write(frames.REQUEST:sub(1, at - 1), row[2], frames.REQUEST:sub(to + 1), "\r\n")
        c:shutdown()
        assert.equal(row[3], c:read("a"):match "^HTTP/1.1 (%d+)", row[2])
        assert.equal(row[4] or "EPROTO", why[3])
      end
    end
    local c <close> = assert(net.connect(server.address))
    c:write(frames.REQUEST, "Origin: https://A.example\r\n\r\n")
    assert.equal("101", c:read():match "^HTTP/1.1 (%d+)")
  end)

  it("answers nothing behind an answer", function()
    local why = {}
    local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
      if req.query.again then
        local ws <close> = websocket.accept(req, res) -- luacheck: ignore ws
        why[1] = select(2, pcall(function() local _ = websocket.accept(req, res) end))
      else
        res:send(401, "no")
        why[2] = select(2, pcall(function() local _ = websocket.accept(req, res) end))
      end
    end)
    helper.after(function() server:stop(0) end)
    for path, status in pairs { ["/"] = "401", ["/?again"] = "101" } do
      local c <close> = assert(net.connect(server.address))
      c:write((frames.REQUEST:gsub("/", path, 1)), "\r\n")
      c:write(bye)
      c:shutdown()
      local all = c:read "a"
      assert.equal(status, all:match "^HTTP/1.1 (%d+)")
      assert.is_nil(all:find("HTTP/", 2, true))
    end
    for i = 1, 2 do
      assert.matches("^spec/websocket_spec.lua:%d+: bad argument #2 to 'accept' %(a response was",
        why[i])
    end
  end)

  it("chooses a subprotocol", function()
    local port = serve(echo, { protocols = { "b", "a" } })
    local _, head = raw(port, "Sec-WebSocket-Protocol: a, b\r\n")
    assert.truthy(head:find "Sec%-WebSocket%-Protocol: b")
    _, head = raw(port, "Sec-WebSocket-Protocol: c\r\n")
    assert.falsy(head:find "Protocol:")
    local ws <close> = assert(websocket.connect("ws://127.0.0.1:" .. port, { protocols = { "a" } }))
    assert.equal("a", ws.protocol)
  end)

  it("pings into silence, and gives up a peer that does not answer", function()
    local results
    local port = serve(function(ws) results = table.pack(ws:receive()) end,
      { ping = 0.02, pong_timeout = 0.2 * helper.slow })
    local c <close> = raw(port)
    for _ = 1, 2 do
      local payload, bits = frames.read(c)
      assert.same({ "", 0x89 }, { payload, bits })
      c:write(frame(0x8a, payload))
    end
    assert.truthy(frames.read(c))
    assert.is_nil((frames.read(c)))
    helper.wait_until(function() return results end)
    assert.equal("ETIMEDOUT", results[3])
  end)

  it("says what became of a connection", function()
    local function outcome(bytes, opts)
      local results
      local port = serve(function(ws)
        results = table.pack(ws:receive(opts))
        results.close_code = ws.close_code
      end)
      local c <close> = raw(port)
      c:write(bytes)
      if not opts then c:shutdown() end
      if not opts then answers(c) end
      helper.wait_until(function() return results end)
      return results
    end
    assert.equal("EPIPE", outcome("")[3])
    assert.equal("EPIPE", outcome("\x81\xff")[3])
    assert.equal("EBADMSG", outcome("\x83")[3])
    assert.truthy(outcome("\x81\1")[2]:find "without mask")
    assert.equal("EMSGSIZE", outcome("\x82\xff\0\0\0\1\0\0\0\0")[3])
    assert.equal("ETIMEDOUT", outcome("", { timeout = 0.01 })[3])
    local closed = outcome(close(4001, "so"))
    assert.same({ nil, 4001 }, { closed[1], closed.close_code })
    assert.equal(1005, outcome(frame(0x88, "")).close_code)
  end)

  it("closes with 1011 after an error, with 1001 when it is stopped", function()
    local port, logged = serve(function() error "oh" end)
    assert.same({ "88 1011" }, (function()
      local c <close> = raw(port)
      local payload, bits = frames.read(c)
      c:write(close(1011))
      return { ("%02x %d"):format(bits, (string.unpack(">I2", payload))) }
    end)())
    helper.wait_until(function() return logged[1] end)
    local other, _, server = serve(echo)
    local c <close> = raw(other)
    local stopper = neap.spawn(function() server:stop(0) end)
    assert.same({ "88 1001" }, answers(c))
    stopper:join()
  end)

  it("says goodbye for a handler that does not", function()
    local rows = {
      { function() end, "88 1000" }, { function() error "oh" end, "88 1011" },
      { function(ws) ws:close(4000) end, "88 4000" },
      { function(ws) ws.conn:close() end },
    }
    for _, row in ipairs(rows) do
      local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
        row[1](assert(websocket.accept(req, res, { close_timeout = LIMIT_S })))
      end)
      helper.after(function() server:stop(0) end)
      local c <close> = raw(server.address:match ":(%d+)$")
      local payload, bits = frames.read(c)
      assert.equal(row[2], payload and frames.show(payload, bits))
      if payload then assert(c:write(frame(0x88, payload))) end
      assert.is_nil((frames.read(c)))
    end
  end)

  it("sends and receives in pieces", function()
    local port = serve(function(ws)
      ws:send(coroutine.wrap(function()
        while true do
          local piece, _, last = ws:receive_piece()
          coroutine.yield(piece)
          if last then return end
        end
      end), "binary")
    end)
    local c <close> = raw(port)
    c:write(frame(2, "ab"), frame(0x89, "p"), frame(0, "c"), frame(0x80, "d"))
    assert.same({ "02 ab", "8a p", "00 c", "00 d", "80 ", byed }, (function()
      local list = {}
      for _ = 1, 6 do
        local payload, bits = frames.read(c)
        list[#list + 1] = bits == 0x88 and byed or ("%02x %s"):format(bits, payload)
      end
      return list
    end)())
  end)

  it("gives a long frame in pieces, and holds no more than one", function()
    local sizes, most = {}, 0
    local port = serve(function(ws)
      while true do
        local piece, _, last = ws:receive_piece()
        sizes[#sizes + 1] = #piece
        most = math.max(most, ws.conn.unread_bytes)
        if last then return end
      end
    end, { max_frame = 1 << 30 })
    local c <close> = raw(port)
    local n = 300001
    local task = neap.spawn(function() c:write(frame(0x81, ("\xc3\xa4"):rep(n))) end)
    assert.same({ byed }, answers(c))
    task:join()
    assert.equal((2 * n + 65535) // 65536, #sizes)
    assert.equal(2 * n % 65536, sizes[#sizes])
    assert.is_true(most <= 4 * 65536, most)
  end)

  it("broadcasts through a hub", function()
    local hub = net.hub()
    local port = serve(function(ws)
      hub:add(ws.conn)
      ws:receive()
    end)
    local a <close> = raw(port)
    local b <close> = raw(port)
    helper.wait_until(function() return #hub == 2 end)
    hub:send(websocket.frame "news")
    for _, c in ipairs { a, b } do assert.equal("news", (frames.read(c))) end
  end)

  it("checks its arguments", function()
    local port = serve(echo)
    local url = "ws://127.0.0.1:" .. port
    local ws <close> = assert(websocket.connect(url))
    for _, wrong in ipairs { { 1 }, { "a", "x" }, { function() end, 2 } } do
      local _, why = pcall(function() ws:send(table.unpack(wrong)) end)
      assert.truthy(why:find "^spec/websocket_spec.lua:%d+: bad argument #[12] to 'send'", why)
    end
    assert.has_error(function() ws:close(1005) end)
    assert.has_error(function() ws:close(1000, ("a"):rep(124)) end)
    assert.has_error(function() ws:ping(("a"):rep(126)) end)
    local bad = { max_message = 0, max_frame = 1.5, ping = 1 / 0, pong_timeout = "1" }
    for name, value in pairs(bad) do
      local fine, why = pcall(websocket.connect, url, { [name] = value })
      assert.is_false(fine)
      assert.truthy(tostring(why):find("bad argument #2 to 'connect' (option '" .. name, 1, true))
    end
    assert.has_error(function() websocket.connect(url, { nonsense = 1 }) end)
    assert.has_error(function() websocket.frame "\xff" end)
    assert.equal("EINVAL", select(3, ws:send "\xff"))
    assert.equal("EINVAL", select(3, websocket.connect "http://x/"))
  end)
end)

describe("a WebSocket client", function()
  it("talks to our server, also over TLS", function()
    local tls = { cert = certs.path "server.pem", key = certs.path "server.key" }
    for _, way in ipairs { { "ws", "127.0.0.1:0" }, { "wss", "tls://127.0.0.1:0", tls } } do
      local port = serve(echo, { max_message = 1 << 21 }, way[2], way[3])
      local ws = assert(websocket.connect(("%s://127.0.0.1:%s/x?y"):format(way[1], port), {
        tls = way[3] and { verify = false }, max_message = 1 << 21,
      }))
      local most = not helper.hard and 1 << 20 or way[3] and 3000 or 65536
      for _, n in ipairs { 0, 1, 7, 8, 125, 126, 65535, 65536, 1 << 20 } do
        n = math.min(n, most)
        local text = ("\xfe\xff0123456"):rep(n // 9 + 1):sub(1, n)
        assert(ws:send(text, "binary"))
        local got, kind = ws:receive()
        assert.is_true(got == text and kind == "binary")
      end
      assert.is_true(ws:close(1000, "bye"))
      assert.equal(1000, ws.close_code)
      assert.equal("ECANCELED", select(3, ws:send "x"))
    end
  end)

  it("refuses masked frames", function()
    local server = net.serve("127.0.0.1:0", function(conn)
      local key = conn:read_until("\r\n\r\n"):match "Key: ([^\r]*)"
      conn:write("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n" ..
        "Sec-WebSocket-Accept: ", core.accept(key), "\r\n\r\n", frame(0x81, "x"))
      conn:read "a"
    end)
    helper.after(function() server:stop(0) end)
    local ws <close> = assert(websocket.connect((server.address:gsub("^tcp", "ws"))))
    local message, why, code = ws:receive()
    assert.same({ nil, "EBADMSG" }, { message, code })
    assert.truthy(why:find "masked frame from a server")
  end)

  it("believes no wrong answer", function()
    local answer
    local server = net.serve("127.0.0.1:0", function(conn)
      local key = conn:read_until("\r\n\r\n"):match "Key: ([^\r]*)"
      conn:write((answer:gsub("KEY", (core.accept(key):gsub("%%", "%%%%")))), "\r\n\r\n")
      conn:read "a"
    end)
    helper.after(function() server:stop(0) end)
    local head = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket"
    for _, text in ipairs {
      "HTTP/1.1 403 Forbidden\r\nContent-Length: 0", "HTTP/1.1 101 x\r\nConnection: Upgrade\r\n" ..
        "Upgrade: h2c\r\nSec-WebSocket-Accept: KEY", head, head .. "\r\nSec-WebSocket-Accept: x",
      head .. "\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Protocol: z",
      head .. "\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Extensions: permessage-deflate",
    } do
      answer = text
      assert.equal("EPROTO", select(3, websocket.connect((server.address:gsub("^tcp", "ws")))))
    end
  end)

  it("gives up a close that nobody answers; another task may be receiving", function()
    local port = serve(function(ws) ws.conn:read "a" end)
    local ws = assert(websocket.connect("ws://127.0.0.1:" .. port, { close_timeout = 0.05 }))
    assert.equal("ETIMEDOUT", select(3, ws:close()))
    port = serve(echo)
    ws = assert(websocket.connect("ws://127.0.0.1:" .. port))
    local results
    local reader = neap.spawn(function() results = table.pack(ws:receive()) end)
    neap.yield()
    assert.is_true(ws:close(4000))
    reader:join()
    assert.equal(0, results.n > 1 and results[3] and 1 or 0)
    assert.equal(4000, ws.close_code)
  end)
end)

describe("UTF-8", function()
  it("is checked the same in any pieces", function()
    local rows = {
      { "\xc0\x80" }, { "\xc1\xbf" }, { "\xe0\x9f\xbf" }, { "\xed\xa0\x80" }, { "\xed\xbf\xbf" },
      { "\xf0\x8f\xbf\xbf" }, { "\xf4\x90\x80\x80" }, { "\xf5\x80\x80\x80" }, { "\xff" },
      { "\x80" }, { "\xc2" }, { "\xe2\x82" }, { "\xc2\x20" }, { "12345678\xc2" },
      { "", true }, { "\0", true }, { "\x7f\xc2\x80\xdf\xbf", true },
      { "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", true },
      { "123456789\xf0\x90\x80\x80\xf4\x8f\xbf\xbf12345678", true },
    }
    for _, row in ipairs(rows) do
      for at = 0, #row[1] do
        local state = core.utf8(row[1]:sub(1, at))
        state = state and core.utf8(row[1]:sub(at + 1), state, true)
        assert.equal(row[2] or false, state ~= nil, ("%q at %d"):format(row[1], at))
      end
    end
  end)
end)

-- Peers.

local python_server = [[
import asyncio, websockets
async def echo(ws, path=None):
    async for m in ws: await ws.send(m)
async def main():
    s = await websockets.serve(echo, "127.0.0.1", 0, compression=None)
    print(s.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()
asyncio.run(main())]]

local python_client = [[
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1], compression=None) as ws:
        for n in (0, 1, 125, 126, 65535, 65536, 200000):
            for m in ("\u00e4" * n, b"\xff" * n):
                await ws.send(m)
                assert await ws.recv() == m
        await ws.send(["frag", "ment", "s"])
        assert await ws.recv() == "fragments"
        await (await ws.ping(b"x"))
    print("code", ws.close_code)
asyncio.run(main())]]

local node_server = [[
const { WebSocketServer } = require("ws");
const s = new WebSocketServer({ host: "127.0.0.1", port: 0 },
  () => console.log(s.address().port));
s.on("connection", ws => ws.on("message", (m, binary) => ws.send(m, { binary })));]]

local node_client = [[
const WebSocket = require("ws");
const ws = new WebSocket(process.argv[2] || process.argv[1], { perMessageDeflate: true });
const sizes = [0, 1, 125, 126, 65535, 65536, 200000];
let i = 0;
const next = () => i < sizes.length ? ws.send("x".repeat(sizes[i])) : ws.close(4002, "done");
ws.on("open", next);
ws.on("message", m => { if (m.length != sizes[i]) process.exit(1); i++; next(); });
ws.on("close", (code, why) => { console.log("code", code, String(why)); });]]

local function talk(port)
  local ws = assert(websocket.connect("ws://127.0.0.1:" .. port, { timeout = LIMIT_S }))
  for _, n in ipairs { 0, 1, 125, 126, 65535, 65536, 200000 } do
    for _, kind in ipairs { "text", "binary" } do
      local message = (kind == "text" and "\xc3\xa4" or "\xff"):rep(n)
      assert(ws:send(message, kind))
      local got, what = ws:receive { timeout = LIMIT_S }
      assert.is_true(got == message and what == kind)
    end
  end
  ws:send(coroutine.wrap(function() for i = 1, 3 do coroutine.yield(tostring(i)) end end))
  assert.equal("123", (ws:receive { timeout = LIMIT_S }))
  assert.is_true(ws:close(1000, "done"))
  assert.equal(1000, ws.close_code)
end

describe("WebSocket peers", function()
  local servers = {
    { "Python's websockets", "/usr/bin/python3 -c " .. helper.quote(python_server) },
    { "Node's ws", "NODE_PATH=/usr/share/nodejs /usr/bin/node -e " .. helper.quote(node_server) },
  }
  for _, peer in ipairs(servers) do
    it("serve: " .. peer[1], function()
      local p = helper.start(peer[2])
      helper.wait_until(function() return p:out():find "\n" end, 20)
      talk(p:out():match "%d+")
      p:kill()
    end)
  end

  local clients = {
    { "Python's websockets", "/usr/bin/python3 -c " .. helper.quote(python_client), "code 1000" },
    { "Node's ws",
      "NODE_PATH=/usr/share/nodejs /usr/bin/node -e " .. helper.quote(node_client) .. " --",
      "code 4002" },
  }
  for _, peer in ipairs(clients) do
    it("connect: " .. peer[1], function()
      local port = serve(echo)
      local p = helper.start(("%s ws://127.0.0.1:%s/"):format(peer[2], port))
      local status = p:wait(30)
      assert.equal("", p:err())
      assert.equal(0, status)
      assert.equal(peer[3], (p:out():gsub("%s+$", "")))
    end)
  end
end)
