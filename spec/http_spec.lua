-- neap.http as a server: against curl, wget, wrk and nginx. What it refuses is in
-- http_refusals_spec.lua, its patience in http_limits_spec.lua.

local certs = require "spec.support.certs"
local codec = require "neap.codec.core"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"

local LIMIT_S = 10 * helper.slow

local function serve(...)
  local server, _, logged = servers.http(...)
  return server, server.address:match ":(%d+)$", logged
end

local function hello(_, res) res:send(200, "hello\n", { ["Content-Type"] = "text/plain" }) end

-- All that the server says to these bytes until it ends the connection, or we do.
local function exchange(server, bytes, keep)
  local c <close> = assert(net.connect(server.address, { timeout = LIMIT_S }))
  c.timeout = LIMIT_S
  assert(c:write(bytes))
  if not keep then c:shutdown() end
  return c:read "a"
end

local function run(command, opts)
  local p = helper.start(command, opts)
  local status = p:wait(20)
  return p:out(), status, p:err()
end

describe("the codec of HTTP heads", function()
  local whole = "\r\nPOST http://h:8/p?q=1 HTTP/1.1\r\nHost: x\r\nA: 1\r\nContent-Length: 3\r\n" ..
    "Connection: Keep-Alive, Upgrade\r\nExpect: 100-continue\r\na:\t2 \r\n\r\n"

  it("tells the parts of a request, however it is cut", function()
    for at = 0, #whole do
      local scanner = codec.http_request():scanner()
      scanner:feed(whole:sub(1, at))
      local head = scanner:next()
      if not head then
        scanner:feed(whole:sub(at + 1))
        head = scanner:next()
      end
      assert.same({
        method = "POST", target = "http://h:8/p?q=1", path = "/p", query = "q=1", host = "h:8",
        version = 11, keep_alive = true, upgrade = true, expects = true, length = 3,
        headers = {
          host = "x", a = "1, 2", ["content-length"] = "3", expect = "100-continue",
          connection = "Keep-Alive, Upgrade",
        },
      }, head)
    end
  end)

  it("gives the parts of a request that most need, and others when they are asked for", function()
    local parts = codec.http_request(nil, true)
    for at = 0, #whole do
      local scanner = parts:scanner()
      scanner:feed(whole:sub(1, at))
      local got = table.pack(scanner:next())
      if not got[1] then
        scanner:feed(whole:sub(at + 1))
        got = table.pack(scanner:next())
      end
      assert.same({ "POST", "/p", whole:sub(3), 11, true, 3, n = 6 }, got)
    end
    local head = whole:sub(3)
    local function part(name) return codec.http_part(head, name) end
    assert.equal("http://h:8/p?q=1", part "target")
    assert.equal("q=1", part "query")
    assert.equal("h:8", part "host")
    assert.is_true(part "upgrade" and part "expects")
    assert.same(codec.http_request():decode(whole).headers, codec.http_fields(head))
    local function decode(text) return table.pack(parts:decode(text)) end
    local plain = "GET /a HTTP/1.0\r\n\r\n"
    assert.same({ "GET", "/a", plain, 10, false, false, #plain + 1, n = 7 }, decode(plain))
    assert.is_nil(codec.http_part(plain, "query"))
    assert.is_nil(codec.http_part(plain, "host"))
    local chunked = "PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert.is_true(decode(chunked)[6])
    local bad = "GET / HTTP/1.1\r\n\r\n"
    assert.same({ false, 400, "no Host", #bad + 1, n = 4 }, decode(bad))
    assert.has_error(function() codec.http_part(head, "nothing") end)
    assert.has_error(function() codec.http_part(bad, "target") end)
    assert.has_error(function() codec.http_fields "no head" end)
  end)

  it("tells the parts of a response", function()
    assert.same({
      status = 404, reason = "Not Found", version = 10, headers = { ["set-cookie"] = "a=1\nb=2" },
    }, (codec.http_response():decode(
      "HTTP/1.0 404 Not Found\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\n")))
    local head = codec.http_response():decode "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert.is_true(head.chunked)
    for _, bad in ipairs { "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1", "ICY 200 OK",
      "HTTP/1.1 099 x" } do
      assert.is_truthy(codec.http_response():decode(bad .. "\r\n\r\n").refusal, bad)
    end
  end)

  it("bounds a head", function()
    local head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal("/", codec.http_request(#head):decode(head).path)
    assert.equal("EMSGSIZE", select(3, codec.http_request(#head - 1):decode(head)))
    assert.equal("EMSGSIZE", select(3, codec.http_request(10):decode(("\r\n"):rep(5))))
    assert.equal("EBADMSG", select(3, codec.http_request():decode "GET / HTTP/1.1\nHost: x\n\n"))
    assert.equal("more", select(2, codec.http_request():decode(head:sub(1, -2))))
    assert.equal("EPIPE", select(3, codec.http_request():decode(head:sub(1, -2), 1, true)))
  end)
end)

describe("an HTTP server", function()
  it("answers the same however a request is cut, and pipelined ones in order", function()
    local server = serve(function(req, res)
      res:send(200, req.method .. req.path .. req:body() .. "\n")
    end)
    local bytes = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n" ..
      "Content-Length: 3\r\n\r\nabcPOST /3 HTTP/1.1\r\nHost: a\r\n" ..
      "Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" ..
      "GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    local function bodies(text)
      local list = {}
      for body in text:gmatch "\r\n\r\n([^\n]*)\n" do list[#list + 1] = body end
      return list
    end
    for at = 1, #bytes, helper.hard and 37 or 1 do
      local c <close> = assert(net.connect(server.address))
      c:write(bytes:sub(1, at))
      c:flush()
      neap.yield()
      c:write(bytes:sub(at + 1))
      assert.same({ "GET/1", "POST/2abc", "POST/3de", "GET/4" },
        bodies(c:read("a", { timeout = LIMIT_S })))
    end
  end)

  it("answers curl: bodies up and down, HEAD, 100-continue, keep-alive", function()
    local server, port = serve(function(req, res)
      if req.path == "/" then return res:send(200, "hello\n") end
      if req.path == "/pieces" then
        for i = 1, 3 do res:write("piece ", i, "\n") end
      elseif req.path == "/count" then
        local n = 0
        for piece in req:chunks() do n = n + #piece end
        res:send(200, n .. "\n")
      end
    end)
    local url = "http://127.0.0.1:" .. port
    local command = "curl -sS -w '%{num_connects} ' URL/ URL/ URL/pieces"
    local out, status = run((command:gsub("URL", url)))
    assert.equal(0, status)
    assert.equal("hello\n1 hello\n0 piece 1\npiece 2\npiece 3\n0 ", out)
    out = run(("curl -sSI %s/"):format(url))
    assert.matches("^HTTP/1.1 200 OK\r\nDate: %a+, %d%d %a+ %d%d%d%d %d%d:%d%d:%d%d GMT\r\n", out)
    assert.matches("Content%-Length: 6\r\n", out)
    out = run(("curl -sSI %s/pieces"):format(url))
    assert.matches("Transfer%-Encoding: chunked\r\n", out)
    local size = helper.hard and 3000 or 900000
    for _, how in ipairs { "", "-H 'Transfer-Encoding: chunked'", "-H 'Expect: 100-continue'" } do
      command = "head -c %d /dev/zero | curl -sS %s --data-binary @- %s/count"
      out = run(command:format(size, how, url))
      assert.equal(size .. "\n", out)
    end
    assert.equal("404 Not Found\n", (run(("curl -sS %s/nothing"):format(url))))
    assert.equal("hello\n", (run(("curl -sS --http1.0 %s/"):format(url))))
    assert.equal("piece 1\npiece 2\npiece 3\n", (run(("curl -sS --http1.0 %s/pieces"):format(url))))
    assert.is_true(server.total < 14) -- the three of the first command came on one
  end)

  it("answers wget and wrk", function()
    local _, port, logged = serve(hello)
    assert.equal("hello\n", (run(("wget -qO- http://127.0.0.1:%s/"):format(port))))
    local out = run(("wrk -t1 -c8 -d1 http://127.0.0.1:%s/"):format(port))
    assert.matches("Requests/sec: +%d+", out)
    assert.not_matches("Socket errors", out)
    assert.not_matches("Non%-2xx", out)
    assert.same({}, logged)
  end)

  it("serves over TLS and AF_UNIX", function()
    local opts = certs.server()
    local _, port = serve(hello, opts, "tls://127.0.0.1:0")
    assert.equal("hello\n", (run(("curl -sS --cacert %s https://localhost:%s/"):format(
      certs.path "ca.pem", port))))
    local path = helper.socket_path()
    serve(hello, nil, "unix:" .. path)
    assert.equal("hello\n", (run(("curl -sS --unix-socket %s http://x/"):format(path))))
  end)

  it("says nothing of a client that leaves TLS without a word", function()
    local server, _, logged = serve(hello, certs.server(), "tls://127.0.0.1:0")
    local c <close> = assert(net.connect(server.address, certs.client { name = "localhost" }))
    c:write "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert(c:read_until "hello\n")
    local raw <close> = net.adopt(assert(require("neap.descriptor.core").dup(c.fd)))
    raw:shutdown()
    assert(helper.wait_until(function() return server.connections == 0 end))
    assert.same({}, logged)
  end)

  it("stands behind nginx, over TCP and AF_UNIX", function()
    local dir = helper.tmpdir()
    local path = helper.socket_path()
    local function who(req, res)
      res:send(200, req.headers["x-from"] .. " " .. req:body() .. "\n")
    end
    local _, port = serve(who)
    serve(who, nil, "unix:" .. path)
    helper.write_file(dir .. "/nginx.conf", ([[
      user root; daemon off; pid %s/pid; error_log stderr; worker_processes 1;
      events { worker_connections 64; }
      http {
        access_log off; client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f;
        uwsgi_temp_path %s/u; scgi_temp_path %s/s;
        upstream tcp { server 127.0.0.1:%s; keepalive 4; }
        upstream local { server unix:%s; keepalive 4; }
        server { listen unix:%s/front;
          proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-From nginx;
          location /tcp { proxy_pass http://tcp; }
          location /unix { proxy_pass http://local; }
        }
      }]]):format(dir, dir, dir, dir, dir, dir, port, path, dir))
    helper.start(("exec nginx -p %s -c %s/nginx.conf"):format(dir, dir))
    local curl = ("curl -sS --unix-socket %s/front -d body http://x/"):format(dir)
    helper.answers(("unix:%s/front"):format(dir))
    for _ = 1, 3 do
      assert.equal("nginx body\n", (run(curl .. "tcp")))
      assert.equal("nginx body\n", (run(curl .. "unix")))
    end
  end)

  it("answers 413 to a client that is still sending, every time", function()
    local server, port = serve(function(req, res)
      local body, _, code = req:body()
      if body then return res:send(200, "") end
      res:send(code == "EMSGSIZE" and 413 or 400, "too much\n")
    end, { max_body = 1000 })
    for _ = 1, helper.hard and 2 or 20 do
      local c <close> = assert(net.connect(server.address))
      c:write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
      local writer = neap.spawn(function()
        for _ = 1, helper.hard and 2 or 100 do
          if not c:write(("x"):rep(20000)) then return end
        end
      end)
      local head = assert(c:read(codec.http_response(), { timeout = LIMIT_S }))
      assert.equal(413, head.status)
      assert.equal("too much\n", c:read(9, { timeout = LIMIT_S }))
      writer:cancel()
      writer:join()
      c:abort()
    end
    local out = run(("head -c 3000 /dev/zero | curl -s -o /dev/null -w '%%{http_code}' " ..
      "-H 'Transfer-Encoding: chunked' --data-binary @- http://127.0.0.1:%s/"):format(port))
    assert.equal("413", out)
  end)

  it("does not read the body of who waits for 100 and is refused", function()
    local server = serve(function(_, res) res:send(403, "no\n") end)
    local answer = exchange(server, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" ..
      "Content-Length: 5\r\n\r\n", true)
    assert.matches("^HTTP/1%.1 403 ", answer) -- no 100 before it, and the connection ends
  end)

  it("drops a small body that its handler did not want, and ends at a large one", function()
    local server = serve(hello)
    local function both(size)
      local bytes = ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" ..
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"):format(size, ("x"):rep(size))
      local _, n = exchange(server, bytes):gsub("HTTP/1%.1 200", "")
      return n
    end
    assert.equal(2, both(1000))
    if not helper.hard then assert.equal(1, both(300000)) end
  end)

  it("answers 500 for an error, breaks what was begun, and logs both with a traceback", function()
    local server, _, logged = serve(function(req, res)
      if req.path == "/begun" then
        res:write "some"
        res:flush()
      end
      error "oh"
    end)
    assert.matches("^HTTP/1%.1 500 ", exchange(server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    local c <close> = assert(net.connect(server.address))
    c:write "GET /begun HTTP/1.1\r\nHost: a\r\n\r\n"
    local rest, _, code = c:read("a", { timeout = LIMIT_S })
    assert.is_nil(rest)
    assert.equal("ECONNRESET", code)
    assert(helper.wait_until(function() return #logged == 2 end))
    for i = 1, 2 do assert.matches("http_spec.lua:%d+: oh\nstack traceback", logged[i]) end
  end)

  it("answers 500 for an error that is nothing, or cannot say what it is, and lives on", function()
    local silent = setmetatable({}, { __tostring = function(e) return e.message end })
    local server, _, logged = serve(function(req)
      if req.path == "/nil" then error() end
      error(silent)
    end)
    for i, path in ipairs { "/nil", "/silent", "/nil" } do
      assert.matches("^HTTP/1%.1 500 ",
        exchange(server, ("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path)))
      assert(helper.wait_until(function() return #logged == i end))
    end
    assert.matches(": nil\nstack traceback", logged[1])
    assert.matches(": %(error object is a table value%)\nstack traceback", logged[2])
  end)

  it("asks for no body that its answer has overtaken", function()
    local server = serve(function(req, res)
      if req.path == "/begun" then res:write "some" else res:send(200, "all") end
      req:body()
    end)
    for _, path in ipairs { "/begun", "/" } do
      local answer = exchange(server, "POST " .. path .. " HTTP/1.1\r\nHost: a\r\n" ..
        "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
      assert.not_matches("HTTP/1.1 100", answer)
    end
    server = serve(function(req, res) res:send(200, req:body()) end)
    assert.matches("^HTTP/1%.1 200 ", (exchange(server,
      "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")))
  end)

  it("answers 500 also when the headers were the error, without any of them", function()
    local server = serve(function(_, res)
      res.headers["Content-Encoding"] = "gzip"
      res.headers["A b"] = "x"
      res:send(200, "")
    end)
    local answer = exchange(server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("^HTTP/1%.1 500 ", answer)
    assert.not_matches("gzip", answer)
  end)

  it("sends nothing past what was said about the length", function()
    local server, _, logged = serve(function(req, res)
      res.content_length = req.path == "/odd" and "3\r\nA: b" or 3
      res:write "ab"
      res:write "cdHTTP/1.1 200 OK"
    end)
    local c <close> = assert(net.connect(server.address))
    c:write "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local seen = c:read(4096, { timeout = LIMIT_S }) or ""
    assert.not_matches("cd", seen)
    assert(helper.wait_until(function() return #logged == 1 end))
    assert.matches("spec/http_spec.lua:%d+: more than content_length %(3%)", logged[1])
    local answer = exchange(server, "GET /odd HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("^HTTP/1%.1 500 ", answer)
    assert.matches("spec/http_spec.lua:%d+: bad content_length", logged[2])
  end)

  it("keeps to what was said about the length", function()
    local server = serve(function(req, res)
      res.content_length = 10
      res:write(req.path == "/right" and "0123456789" or "short")
    end)
    local answer = exchange(server, "GET /right HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("\r\n\r\n0123456789$", answer)
    local c <close> = assert(net.connect(server.address))
    c:write "GET /short HTTP/1.1\r\nHost: a\r\n\r\n"
    assert.is_nil((c:read("a", { timeout = LIMIT_S })))
  end)

  it("lets go of who is idle or slow, each by its own deadline", function()
    local server, _, logged = serve(function(req, res)
      local body, _, code = req:body()
      res:send(body and 200 or 408, code or "")
    end, { head_timeout = 0.05, idle_timeout = 0.15, body_timeout = 0.05 })
    local function answer(bytes)
      local c <close> = assert(net.connect(server.address))
      local began = neap.now()
      if bytes ~= "" then c:write(bytes) end
      return c:read("a", { timeout = LIMIT_S }), neap.now() - began
    end
    local text, took = answer ""
    assert.equal("", text)
    assert.is_true(took >= 0.1)
    assert.matches("^HTTP/1%.1 408 ", (answer "GET / HTT"))
    assert.matches("the head took too long$", logged[#logged])
    assert.matches("^HTTP/1%.1 408 .*ETIMEDOUT$",
      (answer "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"))
  end)

  it("lets no value become a header, and no handler frame what it does not send", function()
    local errors = {}
    local server = serve(function(_, res)
      for _, headers in ipairs { { ["A"] = "b\r\nC: d" }, { ["A b"] = "c" }, { [""] = "c" },
        { ["Content-Length"] = "5" }, { ["transfer-encoding"] = "chunked" } } do
        local ok, message = pcall(function() local _ = res:send(200, "", headers) end)
        errors[#errors + 1] = not ok and message or nil
      end
      res:send(200, "fine", { ["Set-Cookie"] = { "a=1", "b=2" } })
    end)
    local answer = exchange(server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.equal(5, #errors)
    for _, message in ipairs(errors) do assert.matches("^spec/http_spec.lua:%d+: ", message) end
    assert.matches("Set%-Cookie: a=1\r\nSet%-Cookie: b=2\r\n", answer)
    assert.matches("fine$", answer)
  end)

  it("sends events to curl as they come", function()
    local _, port = serve(function(_, res)
      local send = res:events()
      send("one\ntwo", { id = 1, event = "x" })
      neap.sleep(0.05)
      send "three"
    end)
    assert.equal("event: x\nid: 1\ndata: one\ndata: two\n\ndata: three\n\n",
      (run(("curl -sSN http://127.0.0.1:%s/"):format(port))))
  end)

  it("ends a stream of events that HEAD asked for", function()
    local server = serve(function(_, res)
      local send = res:events()
      for _ in neap.every(0.001) do
        local ok, _, code = send "tick"
        if not ok then return assert(code == "EPIPE") end
      end
    end)
    local _, n = exchange(server, ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(2)):gsub(
      "Content%-Type: text/event%-stream\r\n", "")
    assert.equal(2, n)
  end)

  it("writes trailers, reads them, and tells forms and cookies", function()
    local server = serve(function(req, res)
      if req.method == "POST" and req.chunked then
        local body = req:body()
        res:write(body, " ", req:trailers()["x-sum"])
        return res:finish { ["X-End"] = "yes" }
      end
      local form = req:form()
      res:send(200, form.a .. form.b .. req.query["q"] .. req:cookies().c)
    end)
    assert.matches("\r\n5\r\nab 12\r\n0\r\nX%-End: yes\r\n\r\n$", (exchange(server,
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" ..
      "2\r\nab\r\n0\r\nX-Sum: 12\r\n\r\n")
      :gsub("3\r\nab \r\n2\r\n12", "5\r\nab 12")))
    assert.matches("1x y&34$", exchange(server, "POST /?q=%33 HTTP/1.1\r\nHost: a\r\n" ..
      "Cookie: b=1; c=4\r\nContent-Length: 12\r\n\r\na=1&b=x+y%26"))
  end)

  it("hands its connection to another protocol", function()
    local server = serve(function(req, res)
      local conn = req:take()
      conn:write "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
      for line in conn:lines() do conn:write(line:upper(), "\n") end
      assert(not res.sent)
    end)
    assert.matches("\r\n\r\nHELLO\n$", exchange(server,
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello\n"))
  end)

  it("says nothing on a connection that is another protocol's, when its handler fails", function()
    local server, _, logged = serve(function(req)
      req:take():write "hello\n"
      error "oh"
    end)
    assert.equal("hello\n", exchange(server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert(helper.wait_until(function() return #logged == 1 end))
    assert.matches(": oh\n", logged[1])
  end)

  it("writes an access log", function()
    local lines = {}
    local server = serve(hello, { access_log = function(line) lines[#lines + 1] = line end })
    exchange(server, "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.equal(1, #lines)
    assert.matches('^127%.0%.0%.1 %- %- %[%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d %+0000%] ' ..
      '"GET /x%?y HTTP/1%.1" 200 6$', lines[1])
    exchange(server, 'GET /"\\ HTTP/1.1\r\nHost: a\r\n\r\n')
    assert.matches('"GET /%%22%%5C HTTP/1%.1" 200 6$', lines[2])
  end)

  it("writes one line for each request, also of errors and other protocols", function()
    local lines = {}
    local server = serve(function(req, res)
      if req.path == "/taken" then return req:take():write "x" end
      if req.path == "/lost" then
        req:take()
        error "oh"
      end
      if req.path == "/sent" then res:send(201, "abc") end
      if req.path == "/begun" then res:write "ab" end
      if req.path ~= "/short" then error "oh" end
      res.content_length = 5
      res:write "abcd"
    end, { access_log = function(line) lines[#lines + 1] = line end })
    for path, said in pairs { taken = "101 %-", lost = "101 %-", sent = "201 3", begun = "200 2",
      none = "500 26", short = "200 4" } do
      lines = {}
      exchange(server, ("GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
      assert(helper.wait_until(function() return server.connections == 0 end))
      assert.equal(1, #lines, path)
      assert.matches(('"GET /%s HTTP/1%%.1" %s$'):format(path, said), lines[1])
    end
  end)

  it("raises for wrong arguments at the caller's line", function()
    local cases = {
      { {}, nil, "handler: function expected" },
      { { max_body = -1 }, hello, "option 'max_body'" },
      { { max_head = 1.5 }, hello, "option 'max_head'" },
      { { idle_timeout = "x" }, hello, "option 'idle_timeout'" },
      { { nonsense = 1 }, hello, "nonsense" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(function()
        local _ = http.serve("127.0.0.1:0", case[1], case[2])
      end)
      assert.is_false(ok)
      assert.matches("^spec/http_spec.lua:%d+: .*" .. case[3], message)
    end
  end)
end)
