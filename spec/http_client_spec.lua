-- neap.http as a client: against our own server, nginx, and bytes that no server should send.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"
local urls = require "neap.http.url"

local function serve(...)
  local server, url = servers.http(...)
  return url, server
end

-- A server that answers each connection with these bytes.
local function canned(bytes) return servers.canned(bytes) .. "/" end

describe("the URL of a request", function()
  it("is taken apart", function()
    local cases = {
      { "http://a", "tcp://a:80", "/", "a" },
      { "HTTP://a:80/x?y#z", "tcp://a:80", "/x?y", "a" },
      { "https://a/?q", "tls://a:443", "/?q", "a" },
      { "http://a:8080?q", "tcp://a:8080", "/?q", "a:8080" },
      { "http://[::1]:81/", "tcp://[::1]:81", "/", "[::1]:81" },
      { "http://[::1]/", "tcp://[::1]:80", "/", "[::1]" },
    }
    for _, case in ipairs(cases) do
      local url = assert(urls.parse(case[1]))
      assert.same({ case[2], case[3], case[4] }, { url.address, url.target, url.authority })
    end
    for _, bad in ipairs { "a", "ftp://a/", "http://", "http:///x", "http://a b/", "http://a/b c",
      "http://a/\r\nX: y", "http://u@a/" } do
      assert.is_nil((urls.parse(bad)), bad)
      local r, _, code = http.get(bad)
      assert.is_nil(r)
      assert.equal("EINVAL", code)
    end
  end)

  it("joins a redirect's target", function()
    local url = urls.parse "http://h/a/b?c"
    for _, case in ipairs { { "/x", "http://h/x" }, { "x", "http://h/a/x" },
      { "../x", "http://h/x" }, { "?y", "http://h/a/b?y" },
      { "//i/x", "http://i/x" }, { "https://j/", "https://j/" },
      { "./x/../y", "http://h/a/y" }, { "", "http://h/a/b?c" }, { "#z", "http://h/a/b?c#z" },
      { "x?to=/i/../j#/./z", "http://h/a/x?to=/i/../j#/./z" } } do
      assert.equal(case[2], urls.join(url, case[1]))
    end
  end)
end)

describe("an HTTP client", function()
  it("gets and posts, text and pieces", function()
    local seen
    local url = serve(function(req, res)
      seen = { req.method, req.headers["x-a"], req:body() }
      res.headers["X-B"] = "b"
      for i = 1, 3 do res:write(i) end
    end)
    local r = assert(http.get(url .. "/", { headers = { ["X-A"] = "a" } }))
    assert.same({ 200, "OK", "b" }, { r.status, r.reason, r.headers["x-b"] })
    assert.equal("123", r:body())
    assert.equal("123", r:body()) -- it was read once
    assert.same({ "GET", "a", "" }, seen)
    assert.equal("123", assert(http.post(url, "text")):body())
    assert.same({ "POST", nil, "text" }, seen)
    local n = 0
    local function pieces()
      n = n + 1
      return n <= 3 and ("x"):rep(n) or nil
    end
    assert(http.post(url, pieces)):body()
    assert.same({ "POST", nil, "xxxxxx" }, seen)
    local got = {}
    for piece in assert(http.request(url, { method = "PUT" })):chunks() do got[#got + 1] = piece end
    assert.equal("123", table.concat(got))
    assert.equal("", assert(http.request(url, { method = "HEAD" })):body())
  end)

  it("says that there is no body where one is expected", function()
    local url = serve(function(req, res) res:send(200, tostring(req.headers["content-length"])) end)
    local lengths = { POST = "0", PUT = "0", PATCH = "0", GET = "nil", DELETE = "nil" }
    for method, length in pairs(lengths) do
      assert.equal(length, assert(http.request(url, { method = method })):body(), method)
    end
  end)

  it("keeps connections, also past an answer without a body, and opens one when it must", function()
    local url, server = serve(function(req, res)
      if req.path == "/close" then res.keep_alive = false end
      res:send(req.path == "/none" and 204 or 200, "x")
    end)
    for _, path in ipairs { "/", "/none", "/", "/" } do assert(http.get(url .. path)):body() end
    assert.equal(1, server.total)
    assert(http.get(url .. "/close")):body()
    assert(http.get(url .. "/")):body()
    assert.equal(2, server.total)
    local held <close> = assert(http.get(url .. "/")) -- not read: it holds its connection
    assert(http.get(url .. "/")):body()
    assert.equal(3, server.total)
    assert.equal(200, held.status)
  end)

  it("tries a safe request again when a kept connection was closed, and no other", function()
    local url, server = serve(function(_, res) res:send(200, "x") end, { idle_timeout = 0.05,
      head_timeout = 0.05 })
    assert(http.get(url)):body()
    neap.sleep(0.15 * helper.slow)
    assert.equal("x", assert(http.get(url)):body())
    assert.equal(2, server.total)
    neap.sleep(0.15 * helper.slow)
    if os.getenv "NEAP_POLL" ~= "uv" then -- which tells only who waits of an end
      assert.equal("x", assert(http.post(url, "y")):body())
      assert.equal(3, server.total)
    end
    server = net.serve("127.0.0.1:0", { log = function() end }, function(c) -- closes too late
      c:read_until "\r\n\r\n"
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
      c:read_until "\r\n\r\n"
    end)
    helper.after(function() server:stop(0) end)
    url = server.address:gsub("^tcp", "http")
    for _ = 1, 2 do assert.equal("x", assert(http.get(url)):body()) end
    assert.equal(2, server.total)
    local r, message, code = http.post(url, "y")
    assert.is_nil(r)
    assert.matches("^POST http://", message)
    assert.is_true(code == "EPIPE" or code == "ECONNRESET")
    assert.equal(2, server.total)
  end)

  it("keeps no connection that says something unasked, and few in all", function()
    local answers = 0
    local url = canned("HTTP/1.1 204 No Content\r\n\r\n" ..
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")
    for _ = 1, 2 do
      local r = assert(http.get(url))
      r:body()
      if r.status == 204 then answers = answers + 1 end
    end
    assert.equal(2, answers)
    local all = {}
    for i = 1, 70 do
      local server
      url, server = serve(function(_, res) res:send(200) end)
      all[i] = server
      assert(http.get(url)):body()
    end
    local function open()
      local n = 0
      for _, server in ipairs(all) do n = n + server.connections end
      return n
    end
    assert(helper.wait_until(function() return open() <= 64 end))
    assert.equal(64, open())
  end)

  it("speaks TLS with whom it reaches another way, and keeps that apart", function()
    local _, server = serve(function(req, res) res:send(200, tostring(req.conn.tls ~= nil)) end,
      certs.server(), "tls://127.0.0.1:0")
    local via = server.address:gsub("^tls", "tcp")
    local r = assert(http.get("https://localhost/", { via = via, tls = certs.client() }))
    assert.equal("true", r:body())
    local none, _, code = http.get("https://localhost/", { via = via })
    assert.is_nil(none)
    assert.equal("ECERT", code)
    local port = via:match ":%d+$"
    local there = serve(function(_, res) res:send(200, "there") end)
    local r2 = assert(http.get("http://127.0.0.1/", { via = there:match ":%d+$" }))
    assert.equal("there", r2:body())
    none = http.get("http://127.0.0.1" .. port) -- TLS's port, not a connection to `there`
    assert.is_nil(none)
    assert(http.get("http://127.0.0.1" .. there:match ":%d+$")):body()
  end)

  it("follows redirects as browsers do, and no further than it is told", function()
    local other, seen = serve(function(req, res)
      res:send(200, req.method .. " " .. (req.headers.authorization or "nobody"))
    end), nil
    local url
    url = serve(function(req, res)
      seen = req.method
      local status = tonumber(req.path:match "^/(%d+)$")
      if status then return res:redirect("end", status) end
      if req.path == "/other" then return res:redirect(other .. "/") end
      if req.path == "/loop" then return res:redirect "/loop" end
      res:send(200, req.method .. req:body())
    end)
    for status, expected in pairs { [301] = "GET", [302] = "GET", [303] = "GET", [307] = "POSTx",
      [308] = "POSTx" } do
      local r = assert(http.post(url .. "/" .. status, "x"))
      assert.equal(expected, r:body())
      assert.equal(url .. "/end", r.url)
    end
    local secret = { headers = { Authorization = "me" } }
    assert.equal("GET nobody", assert(http.get(url .. "/other", secret)):body())
    local r, _, code = http.get(url .. "/loop")
    assert.is_nil(r)
    assert.equal("ELOOP", code)
    local stopped <close> = assert(http.get(url .. "/302", { redirects = 0 }))
    assert.equal(302, stopped.status)
    assert.equal("GET", seen)
  end)

  it("speaks TLS and AF_UNIX", function()
    local url = serve(function(_, res) res:send(200, "x") end, certs.server(), "tls://127.0.0.1:0")
    local r = assert(http.get(url, { tls = certs.client() }))
    assert.equal("CN=localhost", r.tls.peer.subject)
    assert.equal("x", r:body())
    local none, message, code = http.get(url)
    assert.is_nil(none)
    assert.equal("ECERT", code)
    assert.matches("certificate", message)
    local path = helper.socket_path()
    serve(function(req, res) res:send(200, req.host) end, nil, "unix:" .. path)
    assert.equal("there", assert(http.get("http://there/", { via = "unix:" .. path })):body())
  end)

  it("gets files from nginx, and its errors", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/file", ("0123456789"):rep(10000))
    helper.write_file(dir .. "/nginx.conf", ([[
      user root; daemon off; pid %s/pid; error_log stderr; worker_processes 1;
      events { worker_connections 64; }
      http { access_log off; client_body_temp_path %s/b; proxy_temp_path %s/p;
        fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
        server { listen unix:%s/front; root %s; } }]]):gsub("%%s", dir))
    helper.start(("exec nginx -p %s -c %s/nginx.conf"):format(dir, dir))
    local via = { via = ("unix:%s/front"):format(dir) }
    helper.answers(via.via)
    assert.equal(100000, #assert(http.get("http://x/file", via)):body())
    assert.equal(404, (function()
      local r <close> = assert(http.get("http://x/none", via))
      return r.status
    end)())
    via.max_body = 1000
    local r = assert(http.get("http://x/file", via))
    assert.equal("EMSGSIZE", select(3, r:body()))
    http.forget()
  end)

  it("refuses what is no answer, and tells what was cut short", function()
    local cases = {
      { "", "EPIPE" }, { "SSH-2.0-x\r\n\r\n", "EBADMSG" }, { "HTTP/1.1 200 OK\n\n", "EBADMSG" },
      { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "EBADMSG" },
      { "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "EBADMSG" },
      { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "EBADMSG" },
      { ("HTTP/1.1 100 Continue\r\n\r\n"):rep(20), "EBADMSG" },
      { "HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(20000), "EMSGSIZE" },
    }
    for _, case in ipairs(cases) do
      local r, message, code = http.get(canned(case[1]))
      assert.is_nil(r)
      assert.equal(case[2], code, case[1]:sub(1, 60))
      assert.matches("^GET http://127", message)
    end
    for _, cut in ipairs { "Content-Length: 5\r\n\r\nabc",
      "Transfer-Encoding: chunked\r\n\r\n3\r\nab",
      "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" } do
      local r = assert(http.get(canned("HTTP/1.1 200 OK\r\n" .. cut)))
      assert.equal("EPIPE", select(3, r:body()))
    end
    assert.equal("abc", assert(http.get(canned "HTTP/1.0 200 OK\r\n\r\nabc")):body())
    local hinted = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    local answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    assert.equal("abc", assert(http.get(canned(hinted .. answer))):body())
  end)

  it("hands its connection to another protocol, once", function()
    local url = canned "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nhello\n"
    local r = assert(http.get(url, { headers = { Connection = "Upgrade", Upgrade = "lines" } }))
    assert.equal(101, r.status)
    local conn <close> = r:take()
    assert.equal("hello", conn:read())
    r:close()
    assert.is_false(conn.closed)
    assert.has_error(function() r:take() end, "the reply has let go of its connection")
  end)

  it("gives up at its deadline and when it is cancelled, and leaves nothing open", function()
    local url = serve(function(_, res)
      neap.sleep(5)
      res:send(200)
    end)
    local r, _, code = http.get(url, { timeout = 0.05 })
    assert.is_nil(r)
    assert.equal("ETIMEDOUT", code)
    local task = neap.spawn(http.get, url)
    neap.sleep(0.02)
    task:cancel()
    assert.is_false((task:join()))
  end)

  it("takes in nothing of a body that nobody wants any more", function()
    local ended, piece = neap.event(), ("x"):rep(65536)
    local url = serve(function(_, res)
      repeat until not res:write(piece)
      ended:set()
    end)
    for _, way in ipairs { "close", "body" } do
      local before = neap.stats().lingering
      local r = assert(http.get(url, { max_body = 1 << 20 }))
      assert(way == "body" or r:chunks()())
      assert.is_nil((r[way](r)))
      assert.equal(before, neap.stats().lingering)
      assert(ended:wait { timeout = 10 * helper.slow })
      ended:clear()
    end
  end)

  it("leaves nothing open when it is cancelled while a redirect's own body comes", function()
    local begun, gone = neap.event(), neap.event()
    local url = serve(function(req, res)
      res.status, res.headers.Location = 302, "/x"
      res:write "some"
      res:flush()
      begun:set()
      req:await(neap.event())
      gone:set()
    end)
    collectgarbage "stop" -- which would close it, some time
    helper.after(function() collectgarbage "restart" end)
    local task = neap.spawn(http.get, url)
    begun:wait()
    neap.sleep(0.01) -- the head has been read
    task:cancel()
    assert.is_false((task:join()))
    assert(gone:wait { timeout = 10 })
  end)

  it("raises for wrong arguments at the caller's line", function()
    local cases = {
      { nil, {}, "string expected" }, { "http://a", { methd = "x" }, "unknown option 'methd'" },
      { "http://a", { method = "a b" }, "option 'method'" },
      { "http://127.0.0.1:1", { body = 1 }, "option 'body'" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(function() local _ = http.request(case[1], case[2]) end)
      assert.is_false(ok)
      local where = "^spec/http_client_spec.lua:%d+: bad argument #%d to 'request' %(.*"
      assert.matches(where .. case[3], message)
    end
  end)
end)
