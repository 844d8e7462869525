-- What neap.http's server grants a slow client, and what it answers where the handler does not.

local codec = require "neap.codec.core"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"

local slow = helper.hard and 8 or helper.slow -- there is much waiting here
local LIMIT_S = 20 * slow

local function serve(...)
  local server, _, logged = servers.http(...)
  return server, logged
end

local function connect(server, opts)
  local c = assert(net.connect(server.address, opts))
  helper.after(function() c:abort() end)
  c.timeout = LIMIT_S
  return c
end

-- Writes the text a byte at a time until all is told or the server has ended the connection.
local function drip(c, text, pause)
  return neap.spawn(function()
    for i = 1, #text do
      if not c:write(text:sub(i, i)) or not c:flush() then return end
      neap.sleep(pause)
    end
  end)
end

-- What the server says to this, and how long it took.
local function answer_to(server, text, pause, first)
  local c, began = connect(server), neap.now()
  if first then c:write(first) end
  local task = drip(c, text, pause)
  local answer = c:read "a"
  task:cancel()
  task:join()
  return answer or "", neap.now() - began
end

local POST = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"

describe("a slow client", function()
  it("gets so long for its head, however it is fed", function()
    local server, logged = serve(function(_, res) res:send(200) end,
      { head_timeout = 0.1 * slow, idle_timeout = 0.3 * slow })
    for _, text in ipairs { "GET /" .. ("x"):rep(1000), ("\r\n"):rep(1000),
      "GET / HTTP/1.1\r\n" .. ("A: b\r\n"):rep(200) } do
      local answer, took = answer_to(server, text, 0.01 * slow)
      assert.matches("^HTTP/1%.1 408 ", answer)
      assert.is_true(took >= 0.1 * slow and took < 0.4 * slow, tostring(took))
      assert.matches("the head took too long$", logged[#logged])
    end
    assert.equal(3, #logged)
  end)

  it("gets no longer for its next head when a handler has set its own deadline", function()
    local server = serve(function(req, res)
      req.conn.timeout, req.conn.write_timeout = nil, nil
      res:send(200, "x")
    end, { head_timeout = 0.1 * slow, idle_timeout = 0.3 * slow })
    local answer, took = answer_to(server, "GET /" .. ("x"):rep(1000), 0.01 * slow,
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("^HTTP/1%.1 200 .*xHTTP/1%.1 408 ", answer)
    assert.is_true(took < 0.4 * slow, tostring(took))
  end)

  it("gets so long for its body, and longer only for what it sends", function()
    local server, logged = serve(function(req, res)
      local body, message, code = req:body()
      res:send(body and 200 or 408, ("%s %s"):format(message, code))
    end, { body_timeout = 0.4 * slow, body_rate = 500 / slow })
    local answer, took = answer_to(server, ("x"):rep(1000), 0.02 * slow, POST)
    assert.matches("^HTTP/1%.1 408 .*\r\nConnection: close\r\n.*timed out ETIMEDOUT$", answer)
    assert.is_true(took >= 0.4 * slow and took < 4 * slow, tostring(took))
    assert.matches("^neap: tcp://[%d.:]+: http: .*timed out$", logged[1])
    answer = answer_to(server, ("5\r\nhello\r\n"):rep(1000), 0.02 * slow,
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert.matches("^HTTP/1%.1 408 ", answer)
    local c = connect(server)
    c:write "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n"
    for _ = 1, 20 do -- twice the deadline, at a rate that is fine
      c:write(("x"):rep(500))
      c:flush()
      neap.sleep(0.04 * slow)
    end
    assert.equal(200, c:read(codec.http_response()).status)
    assert.equal(2, #logged)
  end)

  it("is not charged for the handler's own time", function()
    local server = serve(function(req, res)
      local n = 0
      for piece in req:chunks() do
        n = n + #piece
        neap.sleep(0.1 * slow)
      end
      res:send(200, tostring(n))
    end, { body_timeout = 0.15 * slow, body_rate = 1e9 })
    local c = connect(server)
    c:write "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    for _ = 1, 4 do
      c:write "x"
      c:flush()
      neap.sleep(0.1 * slow)
    end
    assert.equal(200, c:read(codec.http_response()).status)
  end)

  local function reader(server, path)
    local c = connect(server, { receive_buffer = 4096 })
    c:write("GET ", path, " HTTP/1.1\r\nHost: a\r\n\r\n")
    return c
  end

  it("loses the connection when it takes nothing of the answer", function()
    local results = {}
    local dir = helper.tmpdir()
    local size = 12 << 20
    local file = assert(io.open(dir .. "/f", "w"))
    file:seek("set", size - 1)
    file:write "x"
    file:close()
    local server, logged = serve(function(req, res)
      if req.path == "/file" then results.file = select(3, res:file(dir .. "/f"))
      elseif req.path == "/send" then results.send = select(3, res:send(200, ("x"):rep(size)))
      elseif req.path == "/write" then
        for _ = 1, 1000 do
          local ok, _, code = res:write(("x"):rep(size // 1000))
          if not ok then
            results.write = code
            break
          end
        end
      end
    end, { write_timeout = 0.2 * slow })
    for i, path in ipairs { "file", "send", "write" } do
      local c = reader(server, "/" .. path)
      assert(helper.wait_until(function() return results[path] and server.connections == 0 end))
      assert.equal("ETIMEDOUT", results[path], path)
      assert.equal(i, #logged)
      assert.matches("^neap: tcp://[%d.:]+: http: the answer is not taken$", logged[i])
      c:abort()
    end
  end)

  if not helper.hard then -- where each write is a byte
    it("keeps it while it takes something, and gets all", function()
      local size = 3 << 20
      local server, logged = serve(function(req, res)
        if req.path == "/close" then res.keep_alive = false end
        res:send(200, ("x"):rep(size))
      end, { write_timeout = 0.3 * slow, head_timeout = 0.1 * slow, idle_timeout = 0.1 * slow })
      for _, path in ipairs { "/", "/close" } do
        local c, got = reader(server, path), 0
        assert(c:read(codec.http_response()))
        while got < size do
          got = got + #assert(c:read(math.min(size // 30, size - got)))
          neap.sleep(0.02 * slow)
        end
        c:abort()
      end
      assert.same({}, logged)
    end)

    it("gets the last answer of a connection that ends, also in more than 2 s", function()
      local size = 500000
      local server = serve(function(_, res)
        res.keep_alive = false
        res:send(200, ("x"):rep(size))
      end)
      local c = reader(server, "/")
      local head = c:read(codec.http_response())
      neap.sleep(2.5)
      assert.equal(size, #c:read(head.length))
      assert.is_nil((c:read(1)))
    end)
  end

  it("is let go when it is idle, also sooner than a head may take", function()
    local server, logged = serve(function(_, res) res:send(200) end,
      { head_timeout = 3600, idle_timeout = 0.05 })
    for _, bytes in ipairs { "", "GET / HTTP/1.1\r\nHost: a\r\n\r\n" } do
      local c <close> = connect(server)
      c:write(bytes)
      assert(c:read("a", { timeout = LIMIT_S }))
    end
    assert.same({}, logged)
  end)

  it("is let go when it is idle, and not while it gets its answer", function()
    local server, logged = serve(function(_, res) res:send(200, ("x"):rep(200000)) end,
      { head_timeout = 0.05 * slow, idle_timeout = 0.05 * slow, write_timeout = 0.2 * slow })
    local c = assert(net.connect(server.address, { receive_buffer = 4096 }))
    c:write(("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(40))
    assert(helper.wait_until(function() return server.total == 1 and server.connections == 0 end))
    assert.matches("the answer is not taken$", logged[1])
    c:abort()
  end)
end)

describe("a handler that sends nothing", function()
  local function ask(handler, request, opts)
    local server, logged = serve(handler, opts)
    local c = connect(server)
    c:write(request or "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    c:shutdown()
    return c:read "a", logged
  end

  it("has answered with the status that it set", function()
    for _, status in ipairs { 200, 201, 202, 204, 304, 403, 404, 500 } do
      local answer = ask(function(_, res)
        res.status = status
        res.headers["X-A"] = "b"
      end)
      assert.matches("^HTTP/1%.1 " .. status .. " ", answer)
      assert.matches("\r\nX%-A: b\r\n", answer)
      assert.matches("\r\n\r\n$", answer)
      local framed = answer:find "Content%-Length: 0\r\n" ~= nil
      assert.equal(status ~= 204 and status ~= 304, framed)
    end
  end)

  it("has found nothing when it set none, whatever headers there are", function()
    local answer = ask(function(_, res)
      res.headers["X-A"], res.headers["content-type"] = "b", "text/html"
    end)
    assert.matches("^HTTP/1%.1 404 ", answer)
    assert.matches("\r\nX%-A: b\r\n", answer)
    local _, types = answer:gsub("[Cc]ontent%-[Tt]ype:", "")
    assert.equal(1, types)
  end)

  it("leaves a body's failure to us, also when it raises that", function()
    local chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    local sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: "
    local cases = {
      { chunked .. "x\r\n", 400, "malformed chunk size" },
      { chunked .. "5\r\nab", 400, "the end came inside the body" },
      { sized .. "11\r\n\r\nhello world", 413, "the body is too long" },
      { chunked .. "b\r\nhello world\r\n0\r\n\r\n", 413, "the body is too long" },
    }
    local handlers = {
      function(req) req:body() end,
      function(req) for _ in req:chunks() do end end, -- luacheck: ignore 542
      function(req) error(select(2, req:body()), 0) end, -- as the stock assert does
    }
    for _, case in ipairs(cases) do
      for i, handler in ipairs(handlers) do
        local answer, logged = ask(handler, case[1], { max_body = 10 })
        assert.matches("^HTTP/1%.1 " .. case[2] .. " .*\r\nConnection: close\r\n", answer)
        assert(helper.wait_until(function() return #logged > 0 end))
        assert.equal(1, #logged)
        assert.truthy(logged[1]:find(case[3], 1, true), logged[1])
        assert.matches("^neap: tcp://[%d.:]+: ", logged[1])
        if i < 3 then assert.not_matches("\n", logged[1]) end
      end
    end
  end)

  it("leaves an error to us: 500", function()
    local answer = ask(function(req)
      req:body()
      error "other"
    end, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n", { max_body = 10 })
    assert.matches("^HTTP/1%.1 500 ", answer)
  end)
end)

describe("an answer", function()
  it("says that the connection ends when the body stands in the way", function()
    local server = serve(function(req, res)
      if req.path == "/read" then req:body() end
      if req.path == "/might" then req:chunks() end
      res:send(200)
    end)
    local post = "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n"
    local cases = {
      { "/", "Content-Length: 65536", ("x"):rep(65536), false },
      { "/", "Content-Length: 65537", "", true },
      { "/read", "Content-Length: 65537", ("x"):rep(65537), false },
      { "/", "Content-Length: 1\r\nExpect: 100-continue", "", true },
      { "/might", "Content-Length: 1\r\nExpect: 100-continue", "", true },
      { "/read", "Content-Length: 2000000", "", true }, -- past max_body
    }
    for i, case in ipairs(cases) do
      local c = connect(server)
      c:write(post:format(case[1], case[2]), case[3])
      local head = c:read(codec.http_response())
      assert.equal(case[4], head.headers.connection == "close", i)
      c:abort()
    end
  end)

  it("has the headers of send before those that were set", function()
    local server = serve(function(_, res)
      res.headers["cache-control"], res.headers["X-A"] = "no-store", "a"
      res:send(200, "", { ["Cache-Control"] = "max-age=5" })
    end)
    local c = connect(server)
    c:write "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local fields = c:read(codec.http_response()).headers
    assert.equal("max-age=5", fields["cache-control"])
    assert.equal("a", fields["x-a"])
  end)
end)

describe("a body of chunks of one byte", function()
  it("costs no more than a few times its size", function()
    local n = helper.hard and 2000 or helper.sanitized and 50000 or 300000
    local server = serve(function(req, res)
      collectgarbage()
      local before, most, read = collectgarbage "count", 0, req.input
      assert(read == nil)
      local task = neap.spawn(function()
        while true do
          collectgarbage()
          most = math.max(most, collectgarbage "count")
          neap.sleep(0.02)
        end
      end)
      local body = req:body()
      task:cancel()
      res:send(200, ("%d %d"):format(#body, math.max(most - before, 0) * 1024 // 1))
    end)
    local c = connect(server)
    c:write "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ = 1, n // 1000 do c:write(("1\r\nx\r\n"):rep(1000)) end
    c:write "0\r\n\r\n"
    local head = c:read(codec.http_response())
    assert.equal(200, head.status)
    local size, cost = c:read(head.length):match "^(%d+) (%d+)$"
    assert.equal(n, tonumber(size))
    assert.is_true(tonumber(cost) < 4 * n + (1 << 20), cost)
  end)
end)
