-- Requests and replies on their way at the same time: neap.http's client with `duplex`, and
-- scripts/examples/http_proxy.lua, which passes both on, and says who asked and for which host.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"
local websocket = require "neap.websocket"

local LIMIT_S = 20 * helper.slow
local HEAD = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

local url_of = servers.url

-- Answers at once, and then each piece with itself in capitals.
local function upper()
  return url_of(http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
    res.headers["Content-Type"] = "text/plain"
    res:flush()
    for piece in req:chunks() do
      res:write(piece:upper())
      res:flush()
    end
  end))
end

local function example(name, arguments)
  local p = helper.start(("exec %s scripts/examples/%s.lua %s"):format(helper.quote(helper.neap),
    name, arguments))
  local address = p:expect "listening on (%S+[^%s,])"
  return p, address:match ":(%d+)$"
end

-- Our proxy in front of a URL: its own URL, the options that trust it, and its process.
local function front(url)
  local p, port = example("http_proxy", ("127.0.0.1:0 %s %s %s"):format(url,
    certs.path "server.pem", certs.path "server.key"))
  helper.after(http.forget)
  return "https://localhost:" .. port, { tls = certs.client(), timeout = LIMIT_S }, p
end

-- Sends a piece only when the one before has come back.
local function converse(url, opts)
  local ready = neap.channel(1)
  opts.method, opts.duplex, opts.body = "POST", true, function() return (ready:get()) end
  ready:put "one\n"
  local reply = assert(http.request(url, opts))
  local got, answers = "", 0
  for bytes in reply:chunks() do -- a piece may come back in several
    got = got .. bytes
    if bytes:find "\n$" then
      answers = answers + 1
      if answers == 4 then ready:close() else ready:put(("piece %d\n"):format(answers)) end
    end
  end
  return (got:gsub("\n", " "):gsub(" $", ""))
end

describe("a body that is sent beside its answer", function()
  it("goes on until it ends; the connection is kept", function()
    local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
      res:flush()
      for piece in req:chunks() do
        res:write(piece:upper())
        res:flush()
      end
    end)
    local url = url_of(server)
    for _ = 1, 3 do
      assert.equal("ONE PIECE 1 PIECE 2 PIECE 3", converse(url, { timeout = LIMIT_S }))
    end
    assert.equal(1, server.total)
  end)

  it("is given up with its reply", function()
    local pieces = 0
    local function body()
      neap.sleep(0.001)
      pieces = pieces + 1
      return "x"
    end
    do
      local reply <close> = assert(http.post(upper(), body, { duplex = true, timeout = LIMIT_S }))
      assert.equal("X", reply:chunks()():sub(1, 1))
    end
    local last = pieces
    neap.sleep(0.02 * helper.slow)
    assert.equal(last, pieces)
  end)

  it("ends with an answer that ends, of a server that reads no more", function()
    local server = net.serve("127.0.0.1:0", { log = function() end }, function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nnot!"
      conn:flush()
      neap.sleep(LIMIT_S)
    end)
    local url = url_of(server)
    local reply = assert(http.post(url, ("x"):rep(8 << 20), { duplex = true, timeout = LIMIT_S }))
    assert.equal(413, reply.status)
    assert.equal("not!", reply:body())
  end)

  it("tells who reads the answer what it raised", function()
    local n = 0
    local reply = assert(http.post(upper(), function()
      n = n + 1
      if n == 3 then error("no more of it", 0) end
      neap.sleep(0.02)
      return "x"
    end, { duplex = true, timeout = LIMIT_S }))
    local ok, message = pcall(function()
      for _ in reply:chunks() do end
    end)
    assert.is_false(ok)
    assert.equal("no more of it", message)
    reply:close()
  end)
end)

describe("a request's Host", function()
  it("is what the script says, for the first server", function()
    local there = url_of(http.serve("127.0.0.1:0", function(req, res) res:send(200, req.host) end))
    local here = url_of(http.serve("127.0.0.1:0", function(req, res)
      if req.path == "/there" then return res:redirect(there .. "/") end
      if req.path == "/here" then return res:redirect "/" end
      res:send(200, req.host)
    end))
    local opts = { headers = { hOST = "a.example:81" } }
    assert.equal("a.example:81", assert(http.get(here, opts)):body())
    assert.equal("a.example:81", assert(http.get(here .. "/here", opts)):body())
    assert.equal(there:match "//(.*)", assert(http.get(here .. "/there", opts)):body())
    for _, bad in ipairs { "", "a b", "a/b", "a@b", { "a", "b" }, 1 } do
      local ok, message = pcall(http.get, here, { headers = { Host = bad } })
      assert.is_false(ok)
      assert.matches("header Host", message)
    end
    assert.is_false((pcall(http.get, here, { headers = { Host = "a", host = "b" } })))
  end)
end)

describe("http_proxy", function()
  it("passes both directions on at once", function()
    local url, opts, p = front(upper())
    assert.equal("ONE PIECE 1 PIECE 2 PIECE 3", converse(url, opts))
    assert.equal("", p:err())
  end)

  it("passes an early answer on while the body is still being sent", function()
    local url, opts = front(url_of(http.serve("127.0.0.1:0", { log = function() end },
      function(_, res) res:send(413, "too much\n") end)))
    opts.method, opts.duplex = "POST", true
    local more = neap.event()
    opts.body = coroutine.wrap(function()
      coroutine.yield(("x"):rep(1000))
      more:wait() -- for ever, as it were
    end)
    local reply = assert(http.request(url, opts))
    assert.equal(413, reply.status)
    assert.equal("too much\n", reply:body())
    local command = "head -c %d /dev/zero | curl -sS -o /dev/null -w '%%{http_code}' " ..
      "--max-time 20 --cacert %s -H Expect: -T - %s/"
    assert.equal("413", (helper.run(command:format(32 << 20, certs.path "ca.pem", url))))
  end)

  it("goes on in one direction while the other one stands still", function()
    local size <const> = helper.hard and 100000 or 16 << 20
    local got, go = 0, neap.event()
    local upstream = url_of(net.serve("127.0.0.1:0", { log = function() end }, function(conn)
      conn:read_until "\r\n\r\n"
      conn:write(HEAD)
      neap.group(function(g)
        g:spawn(function() -- an answer that nobody reads for now
          local piece = ("%x\r\n%s\r\n"):format(size // 32, ("y"):rep(size // 32))
          for _ = 1, 32 do conn:write(piece) end
        end)
        repeat
          local piece = conn:recv(65536)
          got = got + #(piece or "")
        until not piece or got >= size
      end)
      conn:write "0\r\n\r\n"
      go:set()
    end))
    local url, opts = front(upstream)
    local sent = 0
    opts.method, opts.duplex, opts.body = "POST", true, function()
      sent = sent + 65536
      return sent <= size + 65536 and ("x"):rep(65536) or nil
    end
    local reply <close> = assert(http.request(url, opts))
    assert(helper.wait_until(function() return got >= size end, LIMIT_S))
    assert.equal(size // 32 * 32, #assert(reply:body()))
  end)

  it("says for which host, by whom and how it was asked, and lets nobody lie about it", function()
    local fields
    local url, opts = front(url_of(http.serve("127.0.0.1:0", function(req, res)
      fields = req.headers
      res:send(200, "x")
    end)))
    opts.headers = { ["X-Forwarded-For"] = "6.6.6.6", ["X-Real-IP"] = "6.6.6.6",
      ["X-Forwarded-Proto"] = "gopher", Forwarded = "for=6.6.6.6", ["X-Forwarded-Port"] = "6",
      ["X_Real_IP"] = "6.6.6.6", ["Set-Cookie"] = { "a=b", "c=d" } }
    assert(assert(http.get(url .. "/", opts)):body())
    local client = fields["x-real-ip"]
    assert.is_true(client == "127.0.0.1" or client == "::1", client)
    assert.same({ url:match "//(.*)", client, "https", url:match "//(.*)" }, { fields.host,
      fields["x-forwarded-for"], fields["x-forwarded-proto"], fields["x-forwarded-host"] })
    for _, name in ipairs { "forwarded", "x-forwarded-port", "x_real_ip", "set-cookie" } do
      assert.is_nil(fields[name], name)
    end
  end)

  it("asks no other server than its own, whatever the target is", function()
    local reached = 0
    local other = net.serve("127.0.0.10:0", { log = function() end }, function(conn)
      reached = reached + 1
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    end)
    helper.after(function() other:stop(0) end)
    local url, opts, p = front "http://127.0.0.1"
    local port = other.address:match "%d+$"
    for _, head in ipairs { ("CONNECT 0:%s HTTP/1.1\r\nHost: a"):format(port),
      "OPTIONS * HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost:",
      "GET / HTTP/1.1\r\nHost: a,b" } do
      local conn <close> = assert(net.connect(url:gsub("^https", "tls"), opts.tls))
      conn:write(head, "\r\nConnection: close\r\n\r\n")
      assert.matches("^HTTP/1.1 400 ", conn:read("a", { timeout = LIMIT_S }))
    end
    assert.equal(0, reached)
    assert.equal("", p:err())
  end)

  it("has no answer when the status is none", function()
    local url, opts, p = front(url_of(net.serve("127.0.0.1:0", function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"
    end)))
    assert.equal(502, assert(http.get(url .. "/", opts)).status)
    assert.equal("", p:err())
  end)

  it("lets the web chat's own pages in behind it, and no others", function()
    local _, port = example("webchat/server", "127.0.0.1:0")
    local url, opts, p = front("http://127.0.0.1:" .. port)
    local page = assert(assert(http.get(url .. "/", opts)):body())
    assert.matches("<title>Neap chat</title>", page)
    local function enter(origin)
      local ws, message, code = websocket.connect(url:gsub("^http", "ws") .. "/chat?name=Ann",
        { tls = certs.client(), origin = origin, timeout = LIMIT_S })
      return ws, message, code
    end
    local ws <close> = assert(enter(url))
    assert.matches("\nyou\nAnn\n", (ws:receive()))
    assert(ws:send "hello")
    local said
    repeat said = assert(ws:receive()) until said:find "\nsay\n"
    assert.matches("\nsay\nAnn\nhello$", said)
    for _, origin in ipairs { "https://evil.example", (url:gsub("^https", "http")), "null",
      url .. "0", (url:gsub("localhost", "localhost.evil.example")) } do
      local none, message, code = enter(origin)
      assert.is_nil(none, origin)
      assert.equal("EPROTO", code)
      assert.matches("403", message)
    end
    assert.equal("", p:err())
  end)
end)

describe("the origins that may connect", function()
  it("are those of the host and port that is asked for, or any", function()
    local opts
    local url = url_of(http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
      local ws <close> = websocket.accept(req, res, opts)
      if ws then ws:receive() end
    end))
    local function try(origin, headers)
      local ws = websocket.connect(url:gsub("^http", "ws"), { origin = origin, headers = headers })
      if ws then ws:close() end
      return ws ~= nil
    end
    for _, same in ipairs { {}, { origins = "same" } } do
      opts = same
      assert.is_true(try(url))
      assert.is_true(try(nil)) -- no browser
      assert.is_true(try("http://CHAT.example", { Host = "chat.example" }))
      assert.is_true(try("https://chat.example", { Host = "chat.example",
        ["X-Forwarded-Proto"] = "https" }))
      assert.is_false(try("http://chat.example", { Host = "chat.example",
        ["X-Forwarded-Proto"] = "https" }))
      -- a scheme's own port says nothing, wherever it stands
      assert.is_true(try("http://chat.example", { Host = "chat.example:80" }))
      assert.is_true(try("http://[::1]:80", { Host = "[::1]" }))
      assert.is_true(try("https://chat.example", { Host = "chat.example:443",
        ["X-Forwarded-Proto"] = "https" }))
      assert.is_false(try("http://chat.example", { Host = "chat.example:443" }))
      assert.is_false(try("http://chat.example", { Host = "chat.example:8080" }))
      assert.is_false(try((url:gsub("^http", "https"))))
      assert.is_false(try "null")
    end
    opts = { origins = "any" }
    assert.is_true(try "http://elsewhere.example" and try "null")
    local ok, message = pcall(websocket.accept, {}, {}, { origins = "some" })
    assert.is_false(ok)
    assert.matches("option 'origins'", message)
  end)
end)
