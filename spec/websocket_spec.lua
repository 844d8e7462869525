-- neap.websocket: against Python's websockets and Node's ws both ways, and frame by frame where no
-- peer would send what has to be refused: the cases of the Autobahn test suite by what they are
-- published to expect.

local certs = require "spec.support.certs"
local codec = require "neap.codec.core"
local core = require "neap.websocket.core"
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

local HANDSHAKE = "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n" ..
  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" ..
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

-- A raw client behind its handshake.
local function raw(port, fields)
  local c = assert(net.connect("127.0.0.1:" .. port, { timeout = LIMIT_S }))
  helper.after(function() c:close() end)
  c.timeout = LIMIT_S
  assert(c:write(HANDSHAKE, fields or "", "\r\n"))
  local head = assert(c:read_until "\r\n\r\n")
  return c, head
end

-- A frame as a client sends it, also a wrong one.
local function frame(bits, payload, mask)
  mask = mask or "\1\2\3\4"
  local n = #payload
  local size = n < 126 and string.char(n | 0x80) or n < 65536 and string.pack(">BI2", 0xfe, n) or
    string.pack(">BI8", 0xff, n)
  local out = {}
  for i = 1, n do out[i] = string.char(payload:byte(i) ~ mask:byte((i - 1) % 4 + 1)) end
  return string.char(bits) .. size .. mask .. table.concat(out)
end

local frames = codec.websocket(false, 1 << 24)

-- What the server answers: "81 text", one per frame, until the end.
local function answers(c)
  local list = {}
  while true do
    local payload, bits = c:read(frames)
    if not payload then return list end
    if bits == 0x88 and #payload >= 2 then
      list[#list + 1] = ("88 %d"):format((string.unpack(">I2", payload)))
    else
      list[#list + 1] = ("%02x %s"):format(bits, payload)
    end
  end
end

local function close(code, reason)
  return frame(0x88, code and string.pack(">I2", code) .. (reason or "") or "")
end

local good = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
local bye, byed = close(1000), "88 1000"

-- Name, what is sent, what comes back. Sections and numbers are the Autobahn suite's.
local cases = {
  { "1.1.1 empty text", frame(0x81, "") .. bye, { "81 ", byed } },
  { "1.1.2 text of 125", frame(0x81, ("*"):rep(125)) .. bye, { "81 " .. ("*"):rep(125), byed } },
  { "1.1.3 text of 126", frame(0x81, ("*"):rep(126)) .. bye, { "81 " .. ("*"):rep(126), byed } },
  { "1.1.6 text of 65535", frame(0x81, ("*"):rep(65535)) .. bye,
    { "81 " .. ("*"):rep(65535), byed } },
  { "1.1.7 text of 65536", frame(0x81, ("*"):rep(65536)) .. bye,
    { "81 " .. ("*"):rep(65536), byed } },
  { "1.2.1 empty binary", frame(0x82, "") .. bye, { "82 ", byed } },
  { "1.2.3 binary of 126", frame(0x82, ("\xfe"):rep(126)) .. bye,
    { "82 " .. ("\xfe"):rep(126), byed } },
  { "2.1 ping without payload", frame(0x89, "") .. bye, { "8a ", byed } },
  { "2.2 ping with text", frame(0x89, "Hello") .. bye, { "8a Hello", byed } },
  { "2.3 ping with bytes", frame(0x89, "\0\xff\xfe\xfd") .. bye, { "8a \0\xff\xfe\xfd", byed } },
  { "2.4 ping of 125", frame(0x89, ("\xfe"):rep(125)) .. bye,
    { "8a " .. ("\xfe"):rep(125), byed } },
  { "2.5 ping of 126", frame(0x89, ("\xfe"):rep(126)), { "88 1002" } },
  { "2.7 unsolicited pong", frame(0x8a, "") .. bye, { byed } },
  { "2.8 pong with payload", frame(0x8a, "x") .. bye, { byed } },
  { "2.9 pong, then ping", frame(0x8a, "x") .. frame(0x89, "y") .. bye, { "8a y", byed } },
  { "2.10 ten pings", frame(0x89, "p"):rep(10) .. bye,
    { "8a p", "8a p", "8a p", "8a p", "8a p", "8a p", "8a p", "8a p", "8a p", "8a p", byed } },
  { "3.1 RSV 1", frame(0x91, "x"), { "88 1002" } },
  { "3.2 RSV 2 after a text", frame(0x81, "a") .. frame(0xa1, "x") .. frame(0x89, ""),
    { "81 a", "88 1002" } },
  { "3.3 RSV 3", frame(0x81, "a") .. frame(0xb1, "x"), { "81 a", "88 1002" } },
  { "3.4 RSV 4", frame(0x81, "a") .. frame(0xc1, "x"), { "81 a", "88 1002" } },
  { "3.5 RSV of binary", frame(0xd2, "x"), { "88 1002" } },
  { "3.6 RSV of ping", frame(0xe9, "x"), { "88 1002" } },
  { "3.7 RSV of close", frame(0xf8, ""), { "88 1002" } },
  { "5.1 ping in fragments", frame(0x09, "f") .. frame(0x80, "g"), { "88 1002" } },
  { "5.2 pong in fragments", frame(0x0a, "f") .. frame(0x80, "g"), { "88 1002" } },
  { "5.3 text in fragments", frame(0x01, "f1") .. frame(0x80, "f2") .. bye, { "81 f1f2", byed } },
  { "5.6 ping between", frame(0x01, "f1") .. frame(0x89, "p") .. frame(0x80, "f2") .. bye,
    { "8a p", "81 f1f2", byed } },
  { "5.9 continuation of nothing", frame(0x80, "x") .. frame(0x81, "y"), { "88 1002" } },
  { "5.12 unfinished one", frame(0x00, "x") .. frame(0x81, "y"), { "88 1002" } },
  { "5.15 another after an end", frame(0x01, "a") .. frame(0x80, "b") .. frame(0x00, "c"),
    { "81 ab", "88 1002" } },
  { "5.18 text inside text", frame(0x01, "a") .. frame(0x81, "b"), { "88 1002" } },
  { "5.19 pings among five", frame(0x01, "1") .. frame(0x00, "2") .. frame(0x89, "p") ..
    frame(0x00, "3") .. frame(0x00, "4") .. frame(0x89, "q") .. frame(0x80, "5") .. bye,
    { "8a p", "8a q", "81 12345", byed } },
  { "6.1.1 empty text", frame(0x81, "") .. bye, { "81 ", byed } },
  { "6.1.2 empty fragments", frame(0x01, "") .. frame(0x00, "") .. frame(0x80, "") .. bye,
    { "81 ", byed } },
  { "6.1.3 one not empty", frame(0x01, "") .. frame(0x00, "x") .. frame(0x80, "") .. bye,
    { "81 x", byed } },
  { "6.2.1 UTF-8", frame(0x81, "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc-UTF-8!!") .. bye,
    { "81 Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc-UTF-8!!", byed } },
  { "6.2.4 cut inside a character", frame(0x01, good:sub(1, 3)) .. frame(0x80, good:sub(4)) .. bye,
    { "81 " .. good, byed } },
  { "6.3.1 invalid", frame(0x81, good .. "\xed\xa0\x80edited"), { "88 1007" } },
  { "6.3.2 invalid, byte by byte", frame(0x01, "\xed") .. frame(0x00, "\xa0"), { "88 1007" } },
  { "6.4.1 fail fast", frame(0x01, good) .. frame(0x00, "\xf4\x90\x80\x80"), { "88 1007" } },
  { "6.6.1 cut at the end", frame(0x81, "\xce"), { "88 1007" } },
  { "7.1.1 text, then close", frame(0x81, "Hello") .. bye, { "81 Hello", byed } },
  { "7.1.2 two closes", bye .. bye, { byed } },
  { "7.1.3 ping after close", bye .. frame(0x89, "p"), { byed } },
  { "7.1.4 text after close", bye .. frame(0x81, "p"), { byed } },
  { "7.1.5 close inside a message", frame(0x01, "a") .. bye .. frame(0x80, "b"), { byed } },
  { "7.3.1 empty close", frame(0x88, ""), { "88 " } },
  { "7.3.2 close of one byte", frame(0x88, "a"), { "88 1002" } },
  { "7.3.4 with reason", close(1000, "Hello"), { byed } },
  { "7.3.5 reason of 123", close(1000, ("*"):rep(123)), { byed } },
  { "7.3.6 reason of 124", close(1000, ("*"):rep(124)), { "88 1002" } },
  { "7.5.1 reason that is no UTF-8", close(1000, good .. "\xed\xa0\x80"), { "88 1007" } },
  { "10.1.1 fragments of 1300", frame(0x01, ("*"):rep(1300)) .. frame(0x80, ("*"):rep(64)) .. bye,
    { "81 " .. ("*"):rep(1364), byed } },
  { "a frame without mask", "\x81\x01a", { "88 1002" } },
  { "a length of two bytes for 125", "\x81\xfe\0\x7d", { "88 1002" } },
  { "a length of eight bytes for 65535", "\x81\xff\0\0\0\0\0\0\xff\xff", { "88 1002" } },
  { "a length of 64 bits", "\x81\xff\x80\0\0\0\0\0\0\0", { "88 1002" } },
  { "a frame past the limit", "\x82\xff\0\0\0\0\0\1\0\1", { "88 1009" } },
  { "fragments past the limit", frame(0x02, ("a"):rep(40000)) .. frame(0x80, ("a"):rep(40000)),
    { "88 1009" } },
}
for _, opcode in ipairs { 3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf } do -- 4.1, 4.2
  cases[#cases + 1] = { "4 opcode " .. opcode, frame(0x81, "a") .. frame(0x80 | opcode, ""),
    { "81 a", "88 1002" } }
end
for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000,
  4999 } do -- 7.7
  cases[#cases + 1] = { "7.7 close " .. code, close(code), { "88 " .. code } }
end
for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535 } do -- 7.9
  cases[#cases + 1] = { "7.9 close " .. code, close(code), { "88 1002" } }
end

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
    c:write(HANDSHAKE, "\r\n", frame(0x81, "early"), bye)
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
      local at, to = HANDSHAKE:find(row[1], 1, true)
      if at then
        c:write(HANDSHAKE:sub(1, at - 1), row[2], HANDSHAKE:sub(to + 1), "\r\n")
        c:shutdown()
        assert.equal(row[3], c:read("a"):match "^HTTP/1.1 (%d+)", row[2])
        assert.equal(row[4] or "EPROTO", why[3])
      end
    end
    local c <close> = assert(net.connect(server.address))
    c:write(HANDSHAKE, "Origin: https://A.example\r\n\r\n")
    assert.equal("101", c:read():match "^HTTP/1.1 (%d+)")
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
      local payload, bits = c:read(frames)
      assert.same({ "", 0x89 }, { payload, bits })
      c:write(frame(0x8a, payload))
    end
    assert.truthy(c:read(frames))
    assert.is_nil((c:read(frames)))
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
      local payload, bits = c:read(frames)
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
        local payload, bits = c:read(frames)
        list[#list + 1] = bits == 0x88 and byed or ("%02x %s"):format(bits, payload)
      end
      return list
    end)())
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
    for _, c in ipairs { a, b } do assert.equal("news", (c:read(frames))) end
  end)

  it("checks its arguments", function()
    local port = serve(echo)
    local url = "ws://127.0.0.1:" .. port
    local ws <close> = assert(websocket.connect(url))
    assert.has_error(function() ws:send(1) end)
    assert.has_error(function() ws:send("a", "x") end)
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
      for _, n in ipairs { 0, 1, 7, 8, 125, 126, 65535, 65536, 1 << 20 } do
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
