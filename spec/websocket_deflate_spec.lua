-- permessage-deflate (RFC 7692): what is agreed on, the RFC's own examples byte for byte, what a
-- hostile peer may send, the compression cases of the Autobahn suite, and peers.

local deflate = require "neap.websocket.deflate"
local frames = require "spec.support.frames"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"
local zlib = require "neap.zlib"

local LIMIT_S = 10 * helper.slow
local NAME = "permessage-deflate"
local OFFER = "Sec-WebSocket-Extensions: " .. NAME .. "\r\n"
local MINUTES = os.getenv "NEAP_ACCEPTANCE" ~= nil

local function echo(ws)
  for message, kind in ws:messages() do ws:send(message, kind) end
end

-- A server whose WebSockets are given to f; its port.
local function serve(f, opts)
  local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
    local ws <close> = websocket.accept(req, res, opts)
    if ws then f(ws) end
  end)
  helper.after(function() server:stop(0) end)
  return server.address:match ":(%d+)$"
end

-- A raw client behind its handshake, and the answer's head.
local function raw(port, fields)
  local c = assert(net.connect("127.0.0.1:" .. port, { timeout = LIMIT_S }))
  helper.after(function() c:close() end)
  c.timeout = LIMIT_S
  return c, frames.shake(c, fields or OFFER)
end

local function connect(port, opts)
  opts.timeout = LIMIT_S
  return websocket.connect("ws://127.0.0.1:" .. port, opts)
end

local frame = frames.make
local bye, byed = frame(0x88, frames.close(1000)), "88 1000"

describe("permessage-deflate with takeover", function()
  it("breaks the connection when a compressed message could not be sent", function()
    local release = neap.event()
    helper.after(function() release:set() end)
    local port = serve(function() release:wait() end, { deflate = { takeover = true } })
    local ws = assert(connect(port, { deflate = { takeover = true, threshold = 0 } }))
    helper.after(function() ws.conn:abort() end)
    local other = neap.spawn(function() ws.conn:write(("x"):rep(32 << 20)) end) -- has the turn
    neap.yield()
    neap.timeout(0.05, function() ws:send "lost, but in the window" end)
    assert.is_true(ws.conn.closed)
    other:join()
  end)
end)

describe("permessage-deflate is agreed on:", function()
  it("the field is read as RFC 6455 9.1 has it", function()
    local function show(field)
      local list = deflate.parse(field)
      if not list then return "malformed" end
      local out = {}
      for i, one in ipairs(list) do
        local params = {}
        for name, value in pairs(one.params) do
          params[#params + 1] = name .. "=" .. tostring(value)
        end
        table.sort(params)
        out[i] = one.name .. "(" .. table.concat(params, " ") .. ")" .. (one.twice and "!" or "")
      end
      return table.concat(out, " ")
    end
    for _, row in ipairs {
      { "", "" }, { "a", "a()" }, { " a , b ", "a() b()" }, { "a,,b", "a() b()" },
      { "a;b", "a(b=true)" }, { "a ; b = c ; d", "a(b=c d=true)" }, { 'a;b="c"', "a(b=c)" },
      { 'a;b="\\c"', "a(b=c)" }, { "a;b;b", "a(b=true)!" }, { "a;b=1;b=1", "a(b=1)!" },
      { "\ta\t;\tb", "a(b=true)" }, { "a;", "malformed" }, { "a;b=", "malformed" },
      { "a b", "malformed" }, { "a;b=\"c", "malformed" }, { 'a;b=""', "malformed" },
      { 'a;b="c d"', "malformed" }, { "a;b c", "malformed" }, { "(", "malformed" },
      { "a;=b", "malformed" }, { "a\0", "malformed" },
    } do
      assert.equal(row[2], show(row[1]), row[1])
    end
  end)

  -- Of a server: its options, what is offered, the answer ("": none).
  local strict = "; server_no_context_takeover; client_no_context_takeover"
  local takeover = { takeover = true }
  local offers = {
    { true, NAME, NAME .. strict },
    { true, "Permessage-Deflate", NAME .. strict },
    { takeover, NAME, NAME },
    { takeover, NAME .. "; server_no_context_takeover", NAME .. "; server_no_context_takeover" },
    { takeover, NAME .. "; client_no_context_takeover", NAME .. "; client_no_context_takeover" },
    { takeover, NAME .. "; client_max_window_bits", NAME },
    { takeover, NAME .. "; client_max_window_bits=10", NAME .. "; client_max_window_bits=10" },
    { takeover, NAME .. "; server_max_window_bits=10", NAME .. "; server_max_window_bits=10" },
    { takeover, NAME .. "; server_max_window_bits=15", NAME .. "; server_max_window_bits=15" },
    { takeover, NAME .. '; server_max_window_bits="8"', NAME .. "; server_max_window_bits=8" },
    { { takeover = true, window_bits = 11 }, NAME, NAME .. "; server_max_window_bits=11" },
    { { takeover = true, window_bits = 11 }, NAME .. "; client_max_window_bits",
      NAME .. "; server_max_window_bits=11; client_max_window_bits=11" },
    { { takeover = true, window_bits = 11 }, NAME .. "; client_max_window_bits=9",
      NAME .. "; server_max_window_bits=11; client_max_window_bits=9" },
    -- what is wrong is declined, and the next one looked at
    { takeover, NAME .. "; server_max_window_bits", "" },
    { takeover, NAME .. "; server_max_window_bits=7", "" },
    { takeover, NAME .. "; server_max_window_bits=16", "" },
    { takeover, NAME .. "; server_max_window_bits=08", "" },
    { takeover, NAME .. "; client_max_window_bits=0", "" },
    { takeover, NAME .. "; client_max_window_bits=1x", "" },
    { takeover, NAME .. "; server_no_context_takeover=1", "" },
    { takeover, NAME .. "; client_no_context_takeover=true", "" },
    { takeover, NAME .. "; client_max_window_bits; client_max_window_bits=10", "" },
    { takeover, NAME .. "; nonsense", "" },
    { takeover, "x-webkit-deflate-frame", "" },
    { takeover,
      "foo, " .. NAME .. "; nonsense, " .. NAME .. "; client_max_window_bits=12, " .. NAME,
      NAME .. "; client_max_window_bits=12" },
    { false, NAME, "" },
  }
  it("a server takes the first offer that is right", function()
    for _, row in ipairs(offers) do
      local how, answer
      local config = deflate.config(row[1])
      if config then how, answer = deflate.accept(row[2], config) end
      assert.equal(row[3], answer or "", row[2])
      assert.equal(row[3] ~= "", how ~= nil)
    end
    local how = deflate.accept(NAME .. "; server_max_window_bits=9; client_max_window_bits=10; " ..
      "client_no_context_takeover", deflate.config(takeover))
    assert.same({ 9, 10, true, false },
      { how.window_bits, how.receive_bits, how.takeover, how.receive_takeover })
  end)

  it("a malformed offer is answered with 400", function()
    for _, opts in ipairs { {}, { deflate = true } } do
      local c <close> = assert(net.connect("127.0.0.1:" .. serve(echo, opts)))
      c:write(frames.REQUEST, "Sec-WebSocket-Extensions: a;;\r\n\r\n")
      assert.equal("HTTP/1.1 400", c:read():sub(1, 12))
    end
  end)

  -- Of a client: its options, what the server answers, whether that is believed.
  local answers = {
    { true, NAME .. strict, true }, { true, NAME .. "; server_no_context_takeover", true },
    { true, NAME, false }, { takeover, NAME, true },
    { takeover, NAME .. strict, true },
    { takeover, NAME .. "; client_max_window_bits=10; server_max_window_bits=8", true },
    { takeover, NAME .. "; client_max_window_bits", false },
    { takeover, NAME .. "; server_max_window_bits=16", false },
    { takeover, NAME .. "; server_max_window_bits", false },
    { takeover, NAME .. "; server_no_context_takeover=1", false },
    { takeover, NAME .. "; server_no_context_takeover; server_no_context_takeover", false },
    { takeover, NAME .. "; nonsense=1", false }, { takeover, NAME .. ", " .. NAME, false },
    { takeover, "foo", false }, { takeover, "foo, " .. NAME, false }, { takeover, "a;", false },
    { { takeover = true, window_bits = 10 }, NAME, false },
    { { takeover = true, window_bits = 10 }, NAME .. "; server_max_window_bits=11", false },
    { { takeover = true, window_bits = 10 }, NAME .. "; server_max_window_bits=10", true },
    { { takeover = true, window_bits = 10 },
      NAME .. "; server_max_window_bits=9; client_max_window_bits=11", false },
    { false, NAME, false },
  }
  it("a client believes what it has asked for", function()
    local answer
    local server = net.serve("127.0.0.1:0", function(conn)
      frames.answer(conn, "Sec-WebSocket-Extensions: " .. answer .. "\r\n")
      conn:read "a"
    end)
    helper.after(function() server:stop(0) end)
    for _, row in ipairs(answers) do
      answer = row[2]
      local ws, _, code = connect(server.address:match ":(%d+)$", { deflate = row[1] })
      assert.equal(row[3], ws ~= nil, answer)
      if ws then ws.conn:close() else assert.equal("EPROTO", code) end
    end
  end)

  it("options are checked", function()
    for _, wrong in ipairs { 1, "yes", { window_bits = 8 }, { window_bits = 16 }, { level = 0 },
      { level = "6" }, { threshold = -1 }, { takeover = 1 }, { nonsense = 1 } } do
      local fine, why = pcall(connect, 1, { deflate = wrong })
      assert.is_false(fine)
      assert.truthy(tostring(why):find("option 'deflate'", 1, true), why)
    end
  end)

  it("both of ours agree, and say so", function()
    local theirs
    local port = serve(function(ws) theirs = ws.compression end,
      { deflate = { takeover = true, window_bits = 12 } })
    local ws <close> = assert(connect(port, { deflate = { takeover = true, window_bits = 14 } }))
    ws:receive()
    assert.same({ 12, 12, true, true }, { ws.compression.window_bits, ws.compression.receive_bits,
      ws.compression.takeover, ws.compression.receive_takeover })
    assert.same({ 12, 12 }, { theirs.window_bits, theirs.receive_bits })
    local plain <close> = assert(connect(port, {}))
    assert.is_false(plain.compression)
  end)
end)

local hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
local function packed(text)
  return zlib.deflater({ format = "raw" }):compress(text, "sync"):sub(1, -5)
end

-- Name, what is sent, what comes back (our own messages are too short to be compressed).
local cases = {
  { "7.2.3.1 one frame", frame(0xc1, hello) .. bye, { "81 Hello", byed } },
  { "7.2.3.1 two frames", frame(0x41, hello:sub(1, 3)) .. frame(0x80, hello:sub(4)) .. bye,
    { "81 Hello", byed } },
  { "7.2.3.2 the window is kept", frame(0xc1, hello) .. frame(0xc1, "\xf2\x00\x11\x00\x00") .. bye,
    { "81 Hello", "81 Hello", byed } },
  { "7.2.3.3 stored", frame(0xc1, "\x00\x05\x00\xfa\xffHello\x00") .. bye, { "81 Hello", byed } },
  { "7.2.3.4 BFINAL", frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00") .. frame(0xc1, hello) .. bye,
    { "81 Hello", "81 Hello", byed } },
  { "7.2.3.5 two blocks",
    frame(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00") .. bye,
    { "81 Hello", byed } },
  { "7.2.3.6 empty", frame(0xc1, "\0") .. frame(0xc2, "\0") .. bye, { "81 ", "82 ", byed } },
  { "a frame without bytes", frame(0xc1, "") .. bye, { "81 ", byed } },
  { "plain beside compressed", frame(0x81, "a") .. frame(0xc2, hello) .. frame(0x01, "b") ..
    frame(0x80, "c") .. bye, { "81 a", "82 Hello", "81 bc", byed } },
  { "empty frames and pings between", frame(0x41, "") .. frame(0x89, "p") .. frame(0x00, hello) ..
    frame(0x89, "q") .. frame(0x80, "") .. bye, { "8a p", "8a q", "81 Hello", byed } },
  { "a close between", frame(0x41, hello) .. bye, { byed } },
  { "RSV1 of a continuation", frame(0x41, hello) .. frame(0xc0, ""), { "88 1002" } },
  { "RSV1 of a control frame", frame(0xc9, ""), { "88 1002" } },
  { "RSV1 and RSV2", frame(0xe1, hello), { "88 1002" } },
  { "RSV1 of a close", frame(0xc8, ""), { "88 1002" } },
  { "bytes that are no deflate", frame(0xc1, "\xff\xff\xff"), { "88 1007" } },
  { "a reference past the window", frame(0xc1, "\x02\x13\x00\x00"), { "88 1007" } },
  { "text that is not UTF-8", frame(0xc1, packed "ab\xff"), { "88 1007" } },
  { "text that ends inside a character", frame(0xc1, packed "\xc3"), { "88 1007" } },
  { "a character in two frames", frame(0x41, packed "\xc3" .. "\0\0\xff\xff") ..
    frame(0x80, packed "\xa4") .. bye, { "81 \xc3\xa4", byed } },
  { "any bytes as binary", frame(0xc2, packed "ab\xff") .. bye, { "82 ab\xff", byed } },
  { "a message past the limit", frame(0xc2, packed(("\0"):rep(65537))), { "88 1009" } },
  { "at the limit", frame(0xc2, packed(("\0"):rep(1 << 16))) .. bye,
    { "82 " .. ("\0"):rep(1 << 16), byed } },
}

describe("compressed messages", function()
  local options = { deflate = { takeover = true, threshold = 1 << 20 }, max_message = 65536 }

  it("are taken as the RFC's examples and rules say, however they are cut", function()
    local port = serve(echo, options)
    for _, case in ipairs(cases) do
      for _, size in ipairs { #case[2], 1 } do
        if size > 1 or #case[2] < 300 and not helper.hard then
          local c <close> = raw(port)
          for i = 1, #case[2], size do
            if c:write(case[2]:sub(i, i + size - 1)) then c:flush() end
          end
          assert.same(case[3], frames.answers(c, true), case[1])
        end
      end
    end
  end)

  it("are sent so when it pays", function()
    local port = serve(echo, { deflate = { threshold = 20 } })
    local c <close> = raw(port)
    local random = {}
    math.randomseed(7)
    for i = 1, 300 do random[i] = string.char(math.random(0, 255)) end
    random = table.concat(random)
    for _, row in ipairs { { "a", 0x82 }, { ("a"):rep(19), 0x82 }, { ("a"):rep(20), 0xc2 },
      { random, 0x82 }, { ("a"):rep(20), 0xc2 } } do
      c:write(frame(0x82, row[1]))
      local payload, bits = frames.read(c)
      assert.equal(row[2], bits)
      if bits == 0xc2 then
        payload = zlib.decompress(payload .. "\0\0\xff\xff\3\0", { format = "raw" })
      end
      assert.equal(row[1], payload)
    end
  end)

  it("refer to earlier ones when that was agreed on, and else not", function()
    local text = ("a sentence that comes again; "):rep(3) .. "once"
    for _, row in ipairs { { true, false }, { { takeover = true, threshold = 0 }, true } } do
      local opts = row[1] == true and { threshold = 0 } or row[1]
      local c <close> = raw(serve(echo, { deflate = opts }))
      c:write(frame(0x81, text), frame(0x81, text))
      local first, second = frames.read(c), frames.read(c)
      assert.equal(row[2], #second < #first // 2)
      assert.equal(not row[2], first == second)
    end
  end)

  it("go out in pieces as they are made", function()
    local port = serve(function(ws)
      ws:send(coroutine.wrap(function()
        for i = 1, 100 do coroutine.yield(("%d,"):format(i):rep(1000)) end
      end))
    end, { deflate = true })
    local ws <close> = assert(connect(port, { deflate = true }))
    local text, n = {}, 0
    for i = 1, 100 do text[i] = ("%d,"):format(i):rep(1000) end
    local got = {}
    while true do
      local piece, _, last = ws:receive_piece { timeout = LIMIT_S }
      got[#got + 1], n = assert(piece), n + 1
      if last then break end
    end
    assert.is_true(table.concat(got) == table.concat(text))
    assert.is_true(n > 2)
  end)

  it("that are bombs end at the limit, and cost no more than it", function()
    local size = helper.hard and 1 << 20 or 64 << 20
    local deflater, bomb = zlib.deflater { format = "raw" }, {}
    for i = 1, size >> 20 do bomb[i] = deflater:compress(("\0"):rep(1 << 20)) end
    bomb = table.concat(bomb) .. deflater:compress("", "sync"):sub(1, -5)
    local results
    local port = serve(function(ws) results = table.pack(ws:receive()) end,
      { deflate = true, max_message = 1 << 17 })
    local c <close> = raw(port)
    collectgarbage()
    local before = collectgarbage "count"
    c:write(frame(0xc2, bomb))
    assert.same({ "88 1009" }, frames.answers(c, true))
    assert.is_true(collectgarbage "count" - before < 4096)
    assert.equal("EMSGSIZE", results[3])
    -- in pieces there is no limit, and each is small
    local total, longest = 0, 0
    port = serve(function(ws)
      repeat
        local piece, _, last = assert(ws:receive_piece())
        total, longest = total + #piece, math.max(longest, #piece)
      until last
    end, { deflate = true })
    local d <close> = raw(port)
    d:write(frame(0xc2, bomb))
    frames.answers(d, true)
    assert.same({ size, 65536 }, { total, longest })
  end)

  it("keep no memory between them without takeover", function()
    if helper.sanitized or helper.hard then return end
    local function resident()
      return tonumber(helper.read_file("/proc/self/statm"):match " (%d+)")
    end
    local port = serve(echo, { deflate = true })
    local text, list = ("some text "):rep(500), {}
    local function talk()
      local ws = assert(connect(port, { deflate = true }))
      list[#list + 1] = ws
      assert(ws:send(text))
      assert.equal(text, (ws:receive()))
    end
    for _ = 1, 5 do talk() end
    local before = resident()
    for _ = 1, 100 do talk() end
    assert.is_true((resident() - before) * 4 < 20 << 10) -- KiB; kept, it would be 60 MiB
    for _, ws in ipairs(list) do ws:close() end
  end)

  it("are inflated for a task that receives while another one closes", function()
    local received
    local c = raw(serve(function(ws)
      local closer = neap.spawn(function() ws:close(4000) end)
      received = ws:receive()
      ws:receive()
      closer:join()
    end, { deflate = true }))
    assert.equal("88 4000", frames.show(frames.read(c)))
    c:write(frame(0xc1, hello), frame(0x88, frames.close(4000)))
    assert.same({}, frames.answers(c, true))
    helper.wait_until(function() return received end)
    assert.equal("Hello", received)
  end)

  it("go to a hub once", function()
    local hub = net.hub()
    local port = serve(function(ws)
      hub:add(ws.conn)
      ws:receive()
    end, { deflate = true })
    local a <close> = assert(connect(port, { deflate = true }))
    local b <close> = assert(connect(port, { deflate = true }))
    helper.wait_until(function() return #hub == 2 end)
    local news = ("news "):rep(100)
    for _ = 1, 3 do
      hub:send(websocket.frame(news, "text", true))
      for _, ws in ipairs { a, b } do assert.equal(news, (ws:receive())) end
    end
    assert.is_true(#websocket.frame(news, "text", true) < 30)
  end)
end)

-- Sections 12 and 13: sizes, how they are cut, and parameters.
local sizes = { { 16 }, { 64 }, { 256 }, { 1024 }, { 4096 }, { 8192 }, { 16384 }, { 32768 },
  { 65536 }, { 131072 }, { 8192, 256 }, { 16384, 256 }, { 32768, 256 }, { 65536, 256 },
  { 131072, 256 }, { 131072, 1024 }, { 131072, 4096 }, { 131072, 32768 } }
local parameters = { true, { takeover = true }, { window_bits = 9 },
  { takeover = true, window_bits = 9 }, { takeover = true, window_bits = 15, level = 9 },
  { window_bits = 9, level = 1 } }

local function corpus()
  math.randomseed(12)
  local json, bytes, html = {}, {}, {}
  for i = 1, 4000 do
    json[i] = ('{"id": %d, "name": "n\xc3\xa4me%d"},'):format(i, math.random(100))
    bytes[i] = string.pack("<I8I8", math.random(0), math.random(0))
    html[i] = ("<li class=c%d>%d</li>\n"):format(math.random(9), i)
  end
  return { json = table.concat(json), bytes = table.concat(bytes), html = table.concat(html) }
end

-- As many messages of that size, echoed; cut: frames of so many bytes.
local function exchange(ws, text, size, cut, count)
  local at = 1
  for _ = 1, count do
    local message = (text .. text):sub(at, at + size - 1)
    at = (at + size) % #text + 1
    local what = message
    if cut then
      local from = 1 - cut
      what = function()
        from = from + cut
        return from <= #message and message:sub(from, from + cut - 1) or nil
      end
    end
    local sender = neap.spawn(function() assert(ws:send(what, "binary")) end)
    local got, kind = ws:receive { timeout = LIMIT_S }
    sender:join()
    assert.is_true(got == message and kind == "binary")
  end
end

describe("the Autobahn cases of compression", function()
  for i, how in ipairs(parameters) do
    it(("12 and 13, parameters %d"):format(i), function()
      if type(how) == "table" then how.threshold = 0 end
      local port = serve(echo, { deflate = how, max_message = 1 << 20 })
      local ws <close> = assert(connect(port, { deflate = how, max_message = 1 << 20 }))
      for _, text in pairs(corpus()) do
        for _, size in ipairs(sizes) do
          if not helper.hard or size[1] <= 4096 then
            exchange(ws, text, size[1], size[2], MINUTES and 100 or 3)
          end
        end
      end
    end)
  end
end)

-- Peers.

local python_server = [[
import asyncio, websockets
async def echo(ws, path=None):
    async for m in ws: await ws.send(m)
async def main():
    s = await websockets.serve(echo, "127.0.0.1", 0, max_size=None)
    print(s.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()
asyncio.run(main())]]

local python_client = [[
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1], max_size=None) as ws:
        print([e.name for e in ws.extensions])
        for n in (0, 1, 1023, 1024, 65535, 65536, 200000):
            for m in ("\u00e4b" * n, b"\xff\x01" * n):
                await ws.send(m)
                assert await ws.recv() == m
        await ws.send(["frag" * 999, "ment", "s"])
        assert await ws.recv() == "frag" * 999 + "ments"
    print("code", ws.close_code)
asyncio.run(main())]]

local node_server = [[
const { WebSocketServer } = require("ws");
const s = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: OPTIONS },
  () => console.log(s.address().port));
s.on("connection", ws => ws.on("message", (m, binary) => ws.send(m, { binary })));]]

local node_client = [[
const WebSocket = require("ws");
const ws = new WebSocket(process.argv[2] || process.argv[1], { perMessageDeflate: OPTIONS });
const sizes = [0, 1, 1023, 1024, 65535, 65536, 200000];
let i = 0;
const text = n => "xy".repeat(n);
const next = () => i < sizes.length ? ws.send(text(sizes[i])) : ws.close(4002, "done");
ws.on("open", () => { console.log(ws.extensions.split(";")[0]); next(); });
ws.on("message", m => { if (String(m) != text(sizes[i])) process.exit(1); i++; next(); });
ws.on("close", (code, why) => { console.log("code", code, String(why)); });]]

local node_options = { "true", "{ threshold: 0, serverNoContextTakeover: true }",
  "{ threshold: 0, clientMaxWindowBits: 10, serverMaxWindowBits: 9 }" }

local function talk(port, how)
  local ws = assert(connect(port, { deflate = how }))
  assert.truthy(ws.compression)
  for _, n in ipairs { 0, 1, 125, 1023, 1024, 65535, 65536, 200000 } do
    for _, kind in ipairs { "text", "binary" } do
      local message = (kind == "text" and "\xc3\xa4b" or "\xff\1"):rep(n)
      assert(ws:send(message, kind))
      local got, what = ws:receive { timeout = LIMIT_S }
      assert.is_true(got == message and what == kind)
    end
  end
  ws:send(coroutine.wrap(function() for i = 1, 3 do coroutine.yield(tostring(i)) end end))
  assert.equal("123", (ws:receive { timeout = LIMIT_S }))
  assert.is_true(ws:close(1000, "done"))
end

local hows = { true, { takeover = true, threshold = 0 } }

describe("peers of compression:", function()
  local servers = { { "Python's websockets",
    "/usr/bin/python3 -c " .. helper.quote(python_server) } }
  local clients = { { "Python's websockets",
    "/usr/bin/python3 -c " .. helper.quote(python_client), "permessage%-deflate.*code 1000" } }
  for _, options in ipairs(node_options) do
    local node = "NODE_PATH=/usr/share/nodejs /usr/bin/node -e "
    servers[#servers + 1] = { "Node's ws " .. options,
      node .. helper.quote((node_server:gsub("OPTIONS", options))) }
    clients[#clients + 1] = { "Node's ws " .. options,
      node .. helper.quote((node_client:gsub("OPTIONS", options))) .. " --",
      "permessage%-deflate\ncode 4002" }
  end
  for _, peer in ipairs(servers) do
    it("serve: " .. peer[1], function()
      local p = helper.start(peer[2])
      helper.wait_until(function() return p:out():find "\n" end, 20)
      for _, how in ipairs(hows) do talk(p:out():match "%d+", how) end
      p:kill()
    end)
  end
  for _, peer in ipairs(clients) do
    it("connect: " .. peer[1], function()
      for _, how in ipairs(hows) do
        local port = serve(echo, { deflate = how })
        local p = helper.start(("%s ws://127.0.0.1:%s/"):format(peer[2], port))
        local status = p:wait(30)
        assert.equal("", p:err())
        assert.equal(0, status)
        assert.truthy(p:out():find(peer[3]), p:out())
      end
    end)
  end
end)
