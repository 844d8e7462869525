-- Bodies that neap.http's client sends: early answers, 100-continue, deadlines, and what is tried
-- again. The servers are plain sockets where a server of our own would be too polite.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"

local LIMIT_S = 20 * helper.slow

local url_of = servers.url

-- Each connection is the handler's.
local function raw(handler, address, opts)
  opts = opts or {}
  opts.log = function() end
  local server = net.serve(address or "127.0.0.1:0", opts, handler)
  return url_of(server), server
end

-- Pieces without end; stops[1] is set when nobody wants more.
local function endless(stops)
  local mark = setmetatable({}, { __close = function() stops[1] = true end })
  local piece = ("x"):rep(30000)
  return coroutine.wrap(function()
    local _ <close> = mark
    while true do
      stops.pieces = (stops.pieces or 0) + 1
      neap.yield()
      coroutine.yield(piece)
    end
  end)
end

local ways = {
  { "TCP", "127.0.0.1:0" },
  { "TLS", "tls://127.0.0.1:0" },
  { "AF_UNIX", "unix:" },
}

describe("a body that is being sent", function()
  for _, way in ipairs(ways) do
    it("ends at an early answer, over " .. way[1], function()
      local address, opts, mine = way[2], {}, { timeout = LIMIT_S }
      if way[1] == "TLS" then opts, mine.tls = certs.server(), certs.client() end
      if way[1] == "AF_UNIX" then
        address = "unix:" .. helper.socket_path()
        mine.via = address
      end
      local url, server = raw(function(conn) -- answers, and reads nothing but the head
        conn:read_until "\r\n\r\n"
        conn:write "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nnot!"
        conn:flush()
        neap.sleep(LIMIT_S)
      end, address, opts)
      for i = 1, helper.hard and 2 or 10 do
        local text = i % 2 == 0
        mine.body = text and ("x"):rep(helper.hard and 20000 or 5000000) or endless {}
        mine.method = "PUT"
        local r = assert(http.request(url, mine))
        assert.equal(413, r.status)
        assert.equal("not!", r:body())
      end
      assert.equal(helper.hard and 2 or 10, server.total) -- none was used again
      assert.equal(10 // (helper.hard and 5 or 1), server.total)
    end)
  end

  it("ends when the answer comes while nothing is there to be sent", function()
    local url = raw(function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
      conn:read "a"
    end)
    local ended
    local r = assert(http.post(url, function()
      local _ <close> = setmetatable({}, { __close = function() ended = true end })
      neap.sleep(LIMIT_S)
    end, { timeout = LIMIT_S }))
    assert.equal(401, r.status)
    assert.is_true(ended)
    assert.equal("", r:body())
  end)

  it("is not late while its own source is, nor while it moves", function()
    local url = url_of(http.serve("127.0.0.1:0", function(req, res)
      res:send(200, tostring(#req:body()))
    end))
    local n = 0
    local r = assert(http.post(url, function()
      n = n + 1
      neap.sleep(0.05)
      return n <= 6 and "x" or nil
    end, { stall_timeout = 0.1 * helper.slow }))
    assert.equal("6", r:body())
  end)

  it("raises what its source raises, and sends no more", function()
    local got
    local url = raw(function(conn) got = conn:read "a" or "broken" end)
    for _, case in ipairs { { function() error "no more" end, "upload_spec.lua:%d+: no more$" },
      { function() return 5 end, "the body's iterator gave a number, no string$" } } do
      local ok, message = pcall(http.post, url, case[1])
      assert.is_false(ok)
      assert.matches(case[2], message)
      assert(helper.wait_until(function() return got end))
      assert.not_matches("\r\n0\r\n\r\n", got)
    end
  end)

  it("goes with its task", function()
    local stops = {}
    local url = raw(function(conn) conn:read "a" end)
    local task = neap.spawn(function() return http.post(url, endless(stops)) end)
    assert(helper.wait_until(function() return (stops.pieces or 0) > 3 end))
    task:cancel()
    assert.is_false((task:join()))
    assert(helper.wait_until(function()
      collectgarbage()
      return stops.pieces
    end))
    local before = stops.pieces
    neap.sleep(0.02)
    assert.equal(before, stops.pieces)
  end)
end)

describe("Expect: 100-continue", function()
  -- Answers the head with `first`, then what was read of the body with 200.
  local function asking(first)
    local bodies = {}
    local url = raw(function(conn)
      local head = conn:read_until "\r\n\r\n"
      assert.truthy(head:find("\r\nExpect: 100-continue", 1, true))
      bodies[#bodies + 1] = conn.unread_bytes
      if first then conn:write(first) end
      local body = conn:read(5)
      bodies[#bodies + 1] = body or "none"
      if body then conn:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" end
    end)
    return url, bodies
  end

  it("waits for the server's word, or a second", function()
    for _, first in ipairs { "HTTP/1.1 100 Continue\r\n\r\n",
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", false } do
      local url, bodies = asking(first)
      local began = neap.now()
      local r = assert(http.post(url, "hello", { expect = true }))
      assert.equal("ok", r:body())
      assert.same({ 0, "hello" }, bodies)
      assert.equal(not first, neap.now() - began >= 1)
    end
  end)

  it("sends no body to who does not want it, nor anything after it", function()
    local url, bodies = asking "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    local r = assert(http.post(url, "hello", { expect = true }))
    assert.equal(413, r.status)
    assert.equal("", r:body())
    assert(helper.wait_until(function() return #bodies == 2 end))
    assert.same({ 0, "none" }, bodies)
  end)

  it("is left out for who does not know it", function()
    local expectations = {}
    local url = raw(function(conn)
      local head = conn:read_until "\r\n\r\n"
      expectations[#expectations + 1] = head:find "Expect" and "yes" or "no"
      if head:find "Expect" then
        return conn:write "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
      end
      conn:write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", conn:read(5))
    end)
    assert.equal("hello", assert(http.post(url, "hello", { expect = true })):body())
    assert.same({ "yes", "no" }, expectations)
  end)

  it("is not asked again with an iterator that has begun", function()
    local requests = 0
    local url = raw(function(conn)
      requests = requests + 1
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 100 Continue\r\n\r\n"
      conn:flush()
      conn:read_until "\r\n"
      return conn:write "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
    end)
    local left = 3
    local function pieces()
      left = left - 1
      return left > 0 and "piece" or nil
    end
    local opts = { method = "PUT", body = pieces, expect = true }
    local reply <close> = assert(http.request(url, opts))
    assert.same({ 417, 1 }, { reply.status, requests })
  end)

  it("is understood by our own server", function()
    local url = url_of(http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
      if req.path == "/no" then return res:send(403, "no") end
      res:send(200, req:body())
    end))
    assert.equal("hello", assert(http.post(url, "hello", { expect = true })):body())
    assert.equal("no", assert(http.post(url .. "/no", "hello", { expect = true })):body())
    assert.equal("", assert(http.get(url, { expect = true })):body()) -- no body, nothing to expect
  end)
end)

describe("a request's deadline", function()
  it("counts connecting, redirects, the head and the body", function()
    local url = raw(function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
      for _ = 1, 1000 do
        if not conn:write "x" then return end
        conn:flush()
        neap.sleep(0.01)
      end
    end)
    local began = neap.now()
    local r = assert(http.get(url, { timeout = 0.2 * helper.slow }))
    local body, _, code = r:body()
    assert.is_nil(body)
    assert.equal("ETIMEDOUT", code)
    local took = neap.now() - began
    assert.is_true(took >= 0.2 * helper.slow and took < 2 * helper.slow)
    local hops = 0
    url = url_of(http.serve("127.0.0.1:0", { log = function() end }, function(_, res)
      hops = hops + 1
      neap.sleep(0.05)
      res:redirect "/"
    end))
    r, _, code = http.get(url, { timeout = 0.2 * helper.slow, redirects = 1000000 })
    assert.is_nil(r)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(hops > 1)
  end)

  it("may be one around it, whatever body is on its way", function()
    local url = raw(function() neap.event():wait() end)
    local ended = false
    local function dripping()
      local _ <close> = setmetatable({}, { __close = function(_, err) ended = err ~= nil end })
      neap.sleep(0.001)
      return "x"
    end
    for _, body in ipairs { "x", ("x"):rep(100000), ("x"):rep(16 << 20), dripping } do
      for _, expect in ipairs { false, true } do
        local _ <close> = neap.deadline(0.05)
        local r, _, code = http.post(url, body, { expect = expect })
        assert.is_nil(r)
        assert.equal("ETIMEDOUT", code)
      end
    end
    assert(helper.wait_until(function() return ended end))
  end)

  it("is none for a server that goes on sending", function()
    local url = raw(function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
      for _ = 1, 6 do
        conn:write "x"
        conn:flush()
        neap.sleep(0.04)
      end
    end)
    local r = assert(http.get(url, { stall_timeout = 0.1 * helper.slow }))
    assert.equal("xxxxxx", r:body())
  end)
end)

describe("a request on a kept connection", function()
  -- Answers the first request of a connection, and the second with `second`, then closes; at most
  -- `connections` of them.
  local function once(second)
    local url, server = raw(function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
      conn:read_until "\r\n\r\n"
      conn:write(second)
    end)
    assert.equal("x", assert(http.get(url)):body())
    return url, server
  end

  it("is sent again only if that may be done twice, and nothing was heard", function()
    local answer = "HTTP/1.1 100 Continue\r\n\r\n"
    local cases = {
      { "GET", nil, "", true }, { "HEAD", nil, "", true }, { "OPTIONS", nil, "", true },
      { "PUT", "b", "", true }, { "DELETE", nil, "", true }, { "TRACE", nil, "", true },
      { "POST", "b", "", false }, { "PATCH", "b", "", false }, { "LOCK", nil, "", false },
      { "PUT", function() return nil end, "", false },
      { "GET", nil, "HTTP/1.1 2", false }, { "GET", nil, answer, false },
    }
    for _, case in ipairs(cases) do
      local url, server = once(case[3])
      local r, _, code = http.request(url, { method = case[1], body = case[2] })
      if case[4] then
        assert(r, code)
        r:close()
      else
        assert.is_nil(r, case[1])
        assert.is_true(code == "EPIPE" or code == "ECONNRESET", code)
      end
      assert.equal(case[4] and 2 or 1, server.total, case[1])
      http.forget()
    end
  end)

  it("is not sent again on a new one", function()
    local url, server = raw(function(conn) conn:read_until "\r\n\r\n" end)
    local r, _, code = http.get(url)
    assert.is_nil(r)
    assert.equal("EPIPE", code)
    assert.equal(1, server.total)
  end)
end)
