-- neap.websocket when things go wrong: each limit of the manual's table, peers that read slowly or
-- are silent, tasks that are cancelled in the middle, streams that cut and stall (fault layer).

local frames = require "spec.support.frames"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local LIMIT_S = 10 * helper.slow
local frame = frames.make
local bye, byed = frame(0x88, frames.close(1000)), "88 1000"

-- Both ends of a connection in memory, or over TCP: a raw client's stream, and our WebSocket in a
-- task that f(ws) runs in; what f returns, or raises, is the table's once it has ended.
local made = 0
local function connect(f, opts, address)
  local result = {}
  made = made + 1
  local server = http.serve(address or "mem:websocket-limits-" .. made, { log = function() end },
    function(req, res)
      local ws <close> = assert(websocket.accept(req, res, opts))
      result.ws = ws
      for i, v in pairs(table.pack(pcall(f, ws))) do result[i] = v end
      result.ended = true
    end)
  helper.after(function() server:stop(0) end)
  local conn = assert(net.connect(server.address))
  helper.after(function() conn:close() end)
  conn.timeout = LIMIT_S
  frames.shake(conn)
  return conn, result
end

local function ended(result)
  return helper.wait_until(function() return result.ended end, 10)
end

-- The limits. Of each row of the manual's table a test, which is given the default in the row.

local function refused_past(name)
  return function(default)
    assert.truthy(default:find(name == "max_frame" and "as `max_message`" or "1 MiB", 1, true))
    for _, size in ipairs { 999, 1000, 1001 } do
      local conn, result = connect(function(ws) return ws:receive() end, { [name] = 1000 })
      conn:write(frame(0x82, ("x"):rep(size)), bye)
      assert.same({ size > 1000 and "88 1009" or byed }, frames.answers(conn, true))
      ended(result)
      assert.equal(size > 1000 and "EMSGSIZE" or nil, result[4])
      assert.equal(size <= 1000, result[2] ~= nil)
    end
    local conn, result = connect(function(ws) return ws:receive() end, {})
    conn:write(frames.head(0x82, (1 << 20) + 1, "\0\0\0\0"))
    assert.same({ "88 1009" }, frames.answers(conn, true))
    ended(result)
    assert.equal("EMSGSIZE", result[4])
  end
end

local limits = {
  max_message = refused_past "max_message",
  max_frame = refused_past "max_frame",

  ping = function(default)
    assert.truthy(default:find "^30 s")
    local conn = connect(function(ws) ws:receive() end, { ping = 0.03 })
    local start = neap.now()
    assert.same({ "", 0x89, false }, { frames.read(conn) })
    assert.is_true(neap.now() - start >= 0.025)
  end,

  pong_timeout = function(default)
    assert.truthy(default:find "^10 s")
    local conn, result = connect(function(ws) return ws:receive() end,
      { ping = 0.02, pong_timeout = 0.05 * helper.slow })
    for _ = 1, 3 do -- whatever comes is life
      assert.equal(0x89, select(2, frames.read(conn)))
      conn:write(frame(0x8a, "unasked"))
    end
    assert.equal(0x89, select(2, frames.read(conn)))
    local start = neap.now()
    assert.falsy(conn:read(1))
    assert.is_true(neap.now() - start >= 0.04 * helper.slow)
    ended(result)
    assert.equal("ETIMEDOUT", result[4])
  end,

  close_timeout = function(default)
    assert.truthy(default:find "^5 s")
    local _, result = connect(function(ws) return ws:close() end, { close_timeout = 0.03 })
    local start = neap.now()
    ended(result)
    assert.is_true(neap.now() - start >= 0.025)
    assert.equal("ETIMEDOUT", result[4])
  end,

  write_timeout = function(default)
    assert.truthy(default:find "^60 s")
    local most = 0
    local _, result = connect(function(ws)
      local text = ("x"):rep(100000)
      while true do
        local ok, message, code = ws:send(text)
        most = math.max(most, ws.conn.unsent_bytes or 0)
        if not ok then return ok, message, code end
      end
    end, { write_timeout = 0.05 }, "127.0.0.1:0")
    ended(result)
    assert.equal("ETIMEDOUT", result[4])
    assert.is_true(most < 1 << 20, most) -- who does not read is not queued for without end
  end,
}

describe("the limit of a WebSocket", function()
  local manual = helper.read_file "docs/manual.md"
  local section = manual:match "\n## WebSocket\n(.-)\n## "
  local seen = {}
  for name, default in section:gmatch "\n| `([%w_]+)` | ([^|]+) |" do
    seen[name] = true
    it(name, function()
      assert(limits[name], "no test for this row of the manual")(default)
    end)
  end

  it("has its row in the manual", function()
    for name in pairs(limits) do assert.is_true(seen[name], name) end
  end)
end)

describe("a WebSocket that is not closed in peace", function()
  it("ends for a task that was busy while another one closed it", function()
    local busy, closing = neap.event(), neap.event()
    local conn, result = connect(function(ws)
      local closer = neap.spawn(function()
        busy:wait()
        neap.spawn(function() closing:set() end) -- runs when the closer waits
        return ws:close(4000)
      end)
      local seen = {}
      for message in ws:messages() do
        seen[#seen + 1] = message
        busy:set()
        closing:wait()
      end
      return table.concat(seen), select(2, closer:join()), ws.close_code
    end)
    conn:write(frame(0x81, "a"))
    assert.equal("88 4000", frames.show(frames.read(conn)))
    conn:write(frame(0x81, "nobody's"), frame(0x88, frames.close(4000)))
    ended(result)
    assert.same({ true, "a", true, 4000 }, { table.unpack(result, 1, 4) })
  end)

  it("closes the connection when its close is cancelled", function()
    local closed
    local conn, result = connect(function(ws)
      local closer = neap.spawn(function() ws:close() end)
      helper.wait_until(function() return ws.closing end)
      neap.yield()
      closer:cancel()
      closer:join()
      closed = ws.conn.closed
    end, { close_timeout = LIMIT_S })
    assert.equal(byed, frames.show(frames.read(conn)))
    ended(result)
    assert.is_true(closed)
  end)

  it("says 1006 of a reset", function()
    local conn, result = connect(function(ws) return select(3, ws:receive()), ws.close_code end, {},
      "127.0.0.1:0")
    conn:abort()
    ended(result)
    assert.same({ true, "ECONNRESET", 1006 }, { table.unpack(result, 1, 3) })
  end)
end)

describe("the deadline of a task that receives from a WebSocket", function()
  -- The client sends `first`, and then `flood` until f is through: whether it was before all time.
  local function flooded(f, opts, first, flood)
    local conn, result = connect(f, opts)
    conn:write(first)
    local by = neap.now() + LIMIT_S
    repeat until result.ended or not conn:write(flood) or neap.now() > by
    assert.is_true(neap.now() < by, "it went on as long as anything came")
    ended(result)
    return result
  end

  it("is met while frames come that end no message", function()
    for first, flood in pairs { [frame(0x01, "a")] = frame(0x00, ""):rep(2000),
      [frame(0x8a, "b")] = frame(0x8a, ""):rep(2000) } do
      local result = flooded(function(ws)
        local own = select(3, ws:receive { timeout = 0.02 })
        return own, select(3, neap.timeout(0.02, ws.receive, ws)), ws.conn:abort()
      end, {}, first, flood)
      assert.same({ true, "ETIMEDOUT", "ETIMEDOUT" }, { table.unpack(result, 1, 3) })
    end
  end)

  it("that closes is met while messages come", function()
    local flood = frame(0x82, "0123456789"):rep(60)
    local result = flooded(function(ws)
      ws:receive()
      return select(3, ws:close())
    end, { close_timeout = 0.2 }, flood, flood)
    assert.same({ true, "ETIMEDOUT" }, { table.unpack(result, 1, 2) })
  end)

  local ways = {
    ["its own"] = function(ws) return ws:receive { timeout = 0.01 } end,
    ["one around it"] = function(ws) return neap.timeout(0.01, ws.receive, ws) end,
  }
  for name, receive in pairs(ways) do
    it("keeps no dead peer alive, however short: " .. name, function()
      local opts = { ping = 0.04, pong_timeout = 0.04 * helper.slow }
      local conn, result = connect(function(ws)
        for _ = 1, 300 * helper.slow do
          local _, message, code = receive(ws)
          if ws.conn.closed then return message, code, ws.close_code end
        end
        return "never noticed"
      end, opts)
      assert.same({ "", 0x89, false }, { frames.read(conn) })
      ended(result)
      assert.same({ true, "the peer does not answer: timed out", "ETIMEDOUT", 1006 },
        { table.unpack(result, 1, 4) })
      -- one that answers stays
      local live
      live, result = connect(function(ws)
        repeat local _, _, code = receive(ws) until code ~= "ETIMEDOUT" or ws.conn.closed
        return ws.close_code
      end, { ping = 0.04, pong_timeout = LIMIT_S })
      for _ = 1, 3 do
        assert.same({ "", 0x89, false }, { frames.read(live) })
        live:write(frame(0x8a, ""))
      end
      live:write(bye)
      ended(result)
      assert.equal(1000, result[2])
    end)
  end

  it("leaves the message to whoever receives next, in pieces too", function()
    local long, missing = ("x"):rep(helper.hard and 700 or 70000), false
    local conn, result = connect(function(ws)
      local first = neap.spawn(function() ws:receive() end)
      helper.wait_until(function() return ws.pieces and ws.size == #long end, 10)
      first:cancel()
      first:join()
      missing = true
      local got = {}
      repeat
        local piece, kind, last = ws:receive_piece()
        assert(#piece <= 65536 and kind == "binary")
        got[#got + 1] = piece
      until last
      return table.concat(got) == long .. "end", (ws:receive())
    end)
    conn:write(frame(0x02, long))
    helper.wait_until(function() return missing end, 10)
    conn:write(frame(0x80, "end"), frame(0x01, "a "), frame(0x80, "new one"), bye)
    frames.answers(conn, true)
    ended(result)
    assert.same({ true, true, "a new one" }, { table.unpack(result, 1, 3) })
  end)
end)

describe("a WebSocket whose tasks are cancelled", function()
  it("loses nothing of a message that is half here", function()
    local half, missing = neap.event(), false
    local conn, result = connect(function(ws)
      local first = neap.spawn(function() ws:receive() end)
      half:wait()
      helper.wait_until(function() return ws.pieces end)
      first:cancel()
      first:join()
      assert.equal("ETIMEDOUT", select(3, ws:receive { timeout = 0.01 }))
      assert.equal("ETIMEDOUT", select(3, neap.timeout(0.01, ws.receive, ws)))
      missing = true
      return ws:receive()
    end)
    conn:write(frame(0x01, "first "))
    half:set()
    helper.wait_until(function() return missing end)
    conn:write(frame(0x89, "p"), frame(0x80, "second"), bye)
    assert.same({ "8a p", byed }, frames.answers(conn, true))
    ended(result)
    assert.same({ true, "first second", "text" }, { result[1], result[2], result[3] })
  end)

  it("breaks the connection with a message that was half sent", function()
    local conn, result = connect(function(ws)
      local task = neap.spawn(function()
        ws:send(function()
          neap.sleep(0.001)
          return "piece"
        end)
      end)
      neap.sleep(0.02)
      task:cancel()
      task:join()
      return ws:send "more"
    end)
    local kinds = {}
    while true do
      local payload, bits = frames.read(conn)
      if not payload then break end
      kinds[bits] = payload
    end
    assert.same({ [0x01] = "piece", [0] = "piece" }, kinds) -- never an end
    ended(result)
    assert.equal("ECANCELED", result[4])
  end)
end)

describe("a WebSocket's message in pieces", function()
  it("costs no more for each piece when there are more of them", function()
    local collect = require "neap.websocket.receiving".collect
    local piece = ("x"):rep(100)
    local function seconds(n)
      collectgarbage()
      local ws, start = { limits = { max_message = 1 << 30 } }, os.clock()
      for _ = 1, n do collect(ws, piece) end
      local text = table.concat(ws.pieces)
      assert.equal(n * #piece, #text)
      return os.clock() - start
    end
    local n <const> = helper.hard and 20000 or 100000
    local few = math.min(seconds(n), seconds(n))
    local many = math.min(seconds(4 * n), seconds(4 * n))
    assert.is_true(many < 8 * few, ("%g s, then %g s"):format(few, many))
  end)

  it("breaks the connection when its last frame cannot be sent", function()
    local closed
    local _, result = connect(function(ws)
      local conn, n = ws.conn, 0
      local ok, message, code = ws:send(function()
        n = n + 1
        if n == 1 then return "piece" end
        local full <const> = 256 << 10
        repeat -- until the kernel takes no more, and our queue is full
          conn:write(("x"):rep(full - conn.unsent_bytes))
          conn:flush { timeout = 0.02 }
        until conn.unsent_bytes == full
      end)
      closed = conn.closed
      return ok, message, code
    end, { write_timeout = 0.05 }, "127.0.0.1:0")
    ended(result)
    assert.same({ true, nil, "ETIMEDOUT" }, { result[1], result[2], result[4] })
    assert.is_true(closed)
  end)
end)

describe("messages of several tasks", function()
  it("do not mix, and control frames pass between their pieces", function()
    local conn, result = connect(function(ws)
      local function pieces(letter)
        local n = 0
        return function()
          n = n + 1
          neap.yield()
          return n <= 5 and letter or nil
        end
      end
      local a = neap.spawn(function() ws:send(pieces "a") end)
      local b = neap.spawn(function() ws:send(pieces "b", "binary") end)
      local c = neap.spawn(function() ws:send "c" end)
      neap.yield()
      ws:ping "p"
      a:join()
      b:join()
      c:join()
    end)
    local text, open = {}, false
    while true do
      local payload, bits = frames.read(conn)
      if bits == 0x88 then break end
      if bits ~= 0x89 then
        assert.equal(open, bits & 0x0f == 0)
        open = bits < 0x80
        text[#text + 1] = payload
      end
    end
    conn:write(bye)
    ended(result)
    local all = table.concat(text)
    for _, word in ipairs { "aaaaa", "bbbbb", "c" } do assert.truthy(all:find(word)) end
    assert.equal(11, #all)
  end)

  it("end when the connection is closed in the middle of one", function()
    local outcomes = {}
    local conn, result = connect(function(ws)
      local long = neap.spawn(function()
        outcomes.long = select(3, ws:send(function()
          neap.sleep(0.002)
          return "x"
        end))
      end)
      local waiting = neap.spawn(function() outcomes.waiting = select(3, ws:send "y") end)
      neap.sleep(0.01)
      ws:close(4000)
      long:join()
      waiting:join()
    end)
    while true do
      local payload, bits = frames.read(conn)
      if bits == 0x88 then
        assert.equal("88 4000", frames.show(payload, bits))
        break
      end
      assert.equal("x", payload)
    end
    neap.sleep(0.01)
    conn:write(frame(0x88, frames.close(4000)))
    assert.is_nil((frames.read(conn))) -- no data behind a close frame
    ended(result)
    assert.same({ long = "ECANCELED", waiting = "ECANCELED" }, outcomes)
  end)
end)

describe("a slow reader of a WebSocket", function()
  it("slows down who sends in pieces", function()
    local n = 0
    local conn, result = connect(function(ws)
      local text = ("x"):rep(65536)
      ws:send(function()
        n = n + 1
        return n <= 400 and text or nil
      end)
    end, {}, "127.0.0.1:0")
    neap.sleep(0.05)
    assert.is_true(n < 400) -- 25 MB are more than all buffers on the way
    local total = 0
    while true do
      local payload, bits = frames.read(conn)
      if bits == 0x88 then break end
      total = total + #payload
    end
    conn:write(bye)
    ended(result)
    assert.equal(400 * 65536, total)
  end)

  for _, policy in ipairs { "drop", "disconnect" } do
    it("is treated by a hub as its policy says: " .. policy, function()
      if helper.hard then return end -- 20 MB in system calls of a byte
      local hub = net.hub { policy = policy }
      local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
        local ws <close> = assert(websocket.accept(req, res, { close_timeout = 0.05 }))
        hub:add(ws.conn)
        ws:receive()
      end)
      helper.after(function() server:stop(0) end)
      local slow = assert(net.connect(server.address))
      local quick = assert(net.connect(server.address))
      for _, c in ipairs { slow, quick } do
        helper.after(function() c:close() end)
        c.timeout = LIMIT_S
        frames.shake(c)
      end
      helper.wait_until(function() return #hub == 2 end)
      local text = ("n"):rep(100000)
      local message, got = websocket.frame(text), 0
      for _ = 1, 200 do -- 20 MB
        hub:send(message)
        assert.is_true(frames.read(quick) == text)
        got = got + 1
      end
      local stats = hub:stats()
      assert.equal(200, got)
      if policy == "drop" then
        assert.is_true(stats.dropped > 0)
        assert.is_true(frames.read(slow) == text) -- whole messages, only fewer
        assert.equal(2, #hub)
      else
        assert.equal(1, stats.disconnected)
        assert.equal(1, #hub)
      end
    end)
  end
end)

describe("a WebSocket over streams that cut and stall", function()
  it("echoes the same", function()
    for seed = 1, helper.hard and 2 or 12 do
      local a, b = assert(net.pair "mem")
      helper.after(function()
        a:abort()
        b:abort()
      end)
      net.fault(a, { seed = seed, cut = 7, again = 0.3 })
      net.fault(b, { seed = -seed, cut = 5, again = 0.3 })
      local compress = seed % 2 == 0 and { threshold = 0 } or nil
      local serve = http.handler({ log = print }, function(req, res)
        local ws = assert(websocket.accept(req, res, { deflate = compress }))
        for message, kind in ws:messages() do ws:send(message, kind) end
      end)
      local server = neap.spawn(function()
        serve(b)
        b:close()
      end)
      a.timeout = LIMIT_S
      frames.shake(a, compress and "Sec-WebSocket-Extensions: permessage-deflate\r\n")
      for _, text in ipairs { "", "one", ("long "):rep(500), "\xc3\xa4\xc3\xb6" } do
        local sender = neap.spawn(function()
          a:write(frame(0x01, text:sub(1, #text // 2)), frame(0x89, "p"),
            frame(0x80, text:sub(#text // 2 + 1)))
        end)
        assert.equal("8a p", frames.show(frames.read(a)))
        local payload, bits = frames.read(a)
        if bits & 0x40 == 0 then assert.equal(text, payload) end
        assert.equal(1, bits & 0x0f)
        sender:join()
      end
      a:write(bye)
      assert.equal(byed, frames.show(frames.read(a)))
      a:close()
      server:join()
    end
  end)
end)

describe("a WebSocket of a page", function()
  it("is refused by a function that looks at its origin", function()
    local asked
    local server = http.serve("mem:websocket-origins", { log = function() end },
      function(req, res)
        local ws = websocket.accept(req, res, { origins = function(origin, request)
          asked = { origin, request.path }
          return origin == "https://good.example"
        end })
        if ws then ws:close() end
      end)
    helper.after(function() server:stop(0) end)
    for origin, status in pairs { ["https://good.example"] = "101", ["https://bad"] = "403",
      ["null"] = "403" } do
      local c <close> = assert(net.connect(server.address))
      c:write(frames.REQUEST, "Origin: ", origin, "\r\n\r\n")
      assert.equal(status, c:read():match "^HTTP/1.1 (%d+)")
      assert.same({ origin, "/" }, asked)
      if status == "101" then
        c:read_until "\r\n\r\n"
        c:write(bye)
        c:read "a"
      end
    end
  end)
end)
