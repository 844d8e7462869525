-- neap.tls against openssl(1) and curl, and against itself where a case needs both sides.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local tls = require "neap.tls"

local LIMIT_S = 10 * helper.slow

local function upper(conn)
  for line in conn:lines() do conn:write(line:upper(), "\n") end
end

local function serve(more, handler)
  local logged = {}
  local opts = certs.server(more)
  opts.log = function(line) logged[#logged + 1] = line end
  local server = net.serve("tls://127.0.0.1:0", opts, handler or upper)
  helper.after(function() server:stop(0) end)
  return server, server.address:match ":(%d+)$", logged
end

-- openssl s_client as a client of ours: what it said, and its exit status.
local function s_client(port, args, stdin)
  local command = "openssl s_client -connect 127.0.0.1:%s -CAfile %s -verify_return_error %s"
  command = command:format(port, certs.path "ca.pem", args or "")
  local p = helper.start(command, { stdin = stdin or "" })
  local status = p:wait()
  return p:out() .. p:err(), status
end

describe("a TLS server", function()
  it("answers openssl s_client, in each version", function()
    local _, port = serve({}, function(conn) conn:write(conn:read():upper(), "\n") end)
    for _, version in ipairs { "-tls1_2", "-tls1_3" } do
      local out = s_client(port, version .. " -quiet", "hello\n")
      assert.matches("HELLO\n", out)
    end
  end)

  it("answers curl", function()
    local _, port = serve({ alpn = { "http/1.1" } }, function(conn)
      repeat local line = assert(conn:read "l") until line == "\r"
      conn:write "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"
      conn:write(conn.tls.alpn and "alpn\n" or "none\n")
    end)
    local p = helper.start(("curl -sS --cacert %s https://localhost:%s/"):format(
      certs.path "ca.pem", port))
    assert.equal(0, p:wait())
    assert.equal("alpn\n", p:out())
  end)

  it("refuses versions below its own minimum", function()
    local _, port, logged = serve { min_version = "1.3" }
    local _, status = s_client(port, "-tls1_2")
    assert.not_equal(0, status)
    assert(helper.wait_until(function() return #logged > 0 end))
    assert.matches("handshake .*protocol", logged[1])
  end)

  it("chooses the protocol by its own order and refuses a client without one of them", function()
    local _, port, logged = serve({ alpn = { "b", "a" } }, function(c)
      c:write(c.tls.alpn, "\n")
    end)
    assert.matches("^b\n", (s_client(port, "-alpn a,b -quiet")))
    assert.matches("alert no application protocol", (s_client(port, "-alpn c")))
    assert(helper.wait_until(function() return #logged > 0 end))
  end)

  it("shows who the client is when it asks for a certificate", function()
    local seen
    local _, port, logged = serve({ ca = certs.path "ca.pem" }, function(c) seen = c.tls.peer end)
    local out = s_client(port, ("-cert %s -key %s"):format(
      certs.path "client.pem", certs.path "client.key"))
    assert.matches("Verify return code: 0", out)
    assert.equal("CN=a client,O=Neap", seen.subject)
    assert.equal("CN=neap spec authority", seen.issuer)
    assert.same({ "client@example.test" }, seen.names)
    assert.equal(64, #seen.fingerprint)
    local now = os.time()
    assert.is_true(seen.not_before <= now and now < seen.not_after)
    local p = io.popen(("openssl x509 -noout -serial -fingerprint -sha256 -in %s"):format(
      certs.path "client.pem"))
    local text = p:read("a"):lower():gsub(":", "")
    p:close()
    assert.equal(seen.serial, text:match "serial=(%x+)")
    assert.equal(seen.fingerprint, text:match "fingerprint=(%x+)")
    assert.same({}, logged)
  end)

  it("refuses a client without a certificate, or with another authority's", function()
    local _, port, logged = serve { ca = certs.path "ca.pem" }
    s_client(port, "-tls1_3 -quiet -no_ign_eof", "hello\n")
    s_client(port, ("-cert %s -key %s"):format(certs.path "self.pem", certs.path "self.key"))
    assert(helper.wait_until(function() return #logged == 2 end))
    assert.matches("peer did not return a certificate", logged[1])
    assert.matches("self%-signed certificate", logged[2])
  end)

  it("lets clients without one in when it only asks", function()
    local seen = {}
    local _, port = serve({ ca = certs.path "ca.pem", verify = "request" }, function(c)
      seen[#seen + 1] = c.tls.peer and c.tls.peer.subject or "nobody"
    end)
    s_client(port)
    s_client(port, ("-cert %s -key %s"):format(certs.path "client.pem", certs.path "client.key"))
    assert.same({ "nobody", "CN=a client,O=Neap" }, seen)
  end)

  it("shows the certificate of the name that was asked for", function()
    local other = assert(tls.context { server = true, cert = certs.path "other.pem",
      key = certs.path "other.key" })
    local _, port = serve { names = { ["other.test"] = other, ["*.other.test"] = other } }
    assert.matches("subject=CN = other.test", (s_client(port, "-servername other.test")))
    assert.matches("subject=CN = other.test", (s_client(port, "-servername WWW.other.test")))
    assert.matches("subject=CN = localhost", (s_client(port, "-servername localhost")))
    assert.matches("subject=CN = localhost", (s_client(port, "-noservername")))
  end)

  it("asks of a client what the name's context asks, also of one that resumes", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local strict = assert(tls.context { server = true, cert = certs.path "other.pem",
        key = certs.path "other.key", ca = certs.path "ca.pem" })
      local server, _, logged = serve({ names = { ["other.test"] = strict } }, function(c)
        c:write(c.tls.peer and "known" or "unknown")
      end)
      local ctx = assert(tls.context { verify = false, max_version = version })
      local function ask(name)
        local c <close> = net.connect(server.address, { context = ctx, name = name, session = "x" })
        return c and c:read "a" -- in TLS 1.3 the refusal comes after the client's end of it
      end
      for _ = 1, 2 do assert.equal("unknown", ask "localhost") end
      assert.is_nil(ask "other.test") -- the ticket says nothing about who it is
      assert(helper.wait_until(function() return #logged == 1 end))
      assert.matches("peer did not return a certificate", logged[1])
    end
    local new = assert(tls.context { server = true, cert = certs.path "other.pem",
      key = certs.path "other.key", min_version = "1.3" })
    local _, port, logged = serve { names = { ["other.test"] = new } }
    local _, status = s_client(port, "-tls1_2 -servername other.test")
    assert.not_equal(0, status)
    assert(helper.wait_until(function() return #logged == 1 end))
    assert.matches("protocol", logged[1])
  end)

  it("asks a function for the certificate, which may wait", function()
    local asked = {}
    local other = assert(tls.context { server = true, cert = certs.path "other.pem",
      key = certs.path "other.key" })
    local _, port = serve { names = function(name)
      neap.sleep(0.01)
      asked[#asked + 1] = name or "nothing"
      return name == "other.test" and other or nil
    end }
    assert.matches("subject=CN = other.test", (s_client(port, "-servername other.test")))
    assert.matches("subject=CN = localhost", (s_client(port, "-noservername")))
    assert.same({ "other.test", "nothing" }, asked)
  end)

  it("reloads its certificates without closing anything", function()
    local dir = helper.tmpdir()
    local function use(name)
      for _, kind in ipairs { ".pem", ".key" } do
        os.execute(("cp %s %s/x%s"):format(certs.path(name .. kind), dir, kind))
      end
    end
    use "server"
    local ctx = assert(tls.context { server = true, cert = dir .. "/x.pem", key = dir .. "/x.key" })
    local server = net.serve("tls://127.0.0.1:0", { context = ctx }, upper)
    helper.after(function() server:stop(0) end)
    local port = server.address:match ":(%d+)$"
    local before <close> = assert(net.connect(server.address, certs.client()))
    use "other"
    assert(ctx:reload())
    assert.matches("subject=CN = other.test", (s_client(port)))
    assert(before:write "still\n")
    assert.equal("STILL", before:read())
    helper.write_file(dir .. "/x.pem", "nonsense")
    local none, message, code = ctx:reload()
    assert.is_nil(none)
    assert.matches("no certificate in it", message)
    assert.equal("ECERT", code)
    assert.matches("subject=CN = other.test", (s_client(port)))
  end)

  it("lets a silent client go at the deadline of the handshake, and others in meanwhile", function()
    local server, _, logged = serve { handshake_timeout = 0.2 * helper.slow }
    local silent <close> = assert(net.connect((server.address:gsub("^tls", "tcp"))))
    local c <close> = assert(net.connect(server.address, certs.client()))
    c:write "hello\n"
    assert.equal("HELLO", c:read())
    assert(helper.wait_until(function() return #logged > 0 end))
    assert.matches("handshake .*timed out", logged[1])
    assert.equal("", silent:read("a", { timeout = LIMIT_S }))
  end)

  it("does as many handshakes at a time as it is told", function()
    local server = serve { handshakes = 1, handshake_timeout = 0.3 * helper.slow }
    local _ <close> = assert(net.connect((server.address:gsub("^tls", "tcp"))))
    assert(helper.wait_until(function() return server.connections == 1 end))
    local began = neap.now()
    local c <close> = assert(net.connect(server.address, certs.client()))
    assert.is_true(neap.now() - began > 0.1 * helper.slow) -- it stood in line behind the first
    c:write "hello\n"
    assert.equal("HELLO", c:read())
  end)

  it("refuses what is no TLS, in one line, and goes on", function()
    local server, _, logged = serve()
    local plain <close> = assert(net.connect((server.address:gsub("^tls", "tcp"))))
    plain:write "GET / HTTP/1.0\r\n\r\n"
    plain:read("a", { timeout = LIMIT_S })
    assert(helper.wait_until(function() return #logged > 0 end))
    assert.matches("^neap: tcp://[%d.:]+: handshake .*http request$", logged[1])
    local c <close> = assert(net.connect(server.address, certs.client()))
    c:write "hello\n"
    assert.equal("HELLO", c:read())
  end)

  it("survives records and handshakes that are broken at each place", function()
    local server, _, logged = serve()
    local recorded = {}
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    neap.spawn(function()
      local c <close> = l:accept()
      recorded[1] = c:recv()
    end)
    assert.is_nil((net.connect("tls" .. l.address:sub(4), certs.client())))
    local hello = assert(recorded[1])
    local step = helper.hard and 97 or 13
    local cases = 0
    for at = 1, #hello, step do
      cases = cases + 1
      local byte = string.char(hello:byte(at) ~ 0x55)
      local c <close> = assert(net.connect((server.address:gsub("^tls", "tcp"))))
      c:write(hello:sub(1, at - 1), byte, hello:sub(at + 1))
      c:shutdown()
      c:read("a", { timeout = LIMIT_S })
    end
    assert(helper.wait_until(function() return server.connections == 0 end))
    assert.equal(cases, #logged)
  end)
end)

describe("a TLS client", function()
  local function s_server(args)
    local l = assert(net.listen "127.0.0.1:0") -- a port that is free now
    local port = l.address:match ":(%d+)$"
    l:close()
    local command = "openssl s_server -accept 127.0.0.1:%s -rev -cert %s -key %s %s"
    local p = helper.start(command:format(port, certs.path "server.pem", certs.path "server.key",
      args or ""))
    p:expect "ACCEPT"
    return "tls://127.0.0.1:" .. port, p
  end

  it("talks to openssl s_server", function()
    local address = s_server()
    local c <close> = assert(net.connect(address, certs.client()))
    c:write "hello\n"
    assert.equal("olleh", c:read())
    assert.equal("TLSv1.3", c.tls.version)
    assert.equal("CN=localhost", c.tls.peer.subject)
    assert.same({ "localhost", "*.example.test", "127.0.0.1", "0:0:0:0:0:0:0:1" }, c.tls.peer.names)
  end)

  it("shows its certificate when it is asked", function()
    local address, p = s_server("-Verify 1 -CAfile " .. certs.path "ca.pem")
    local c <close> = assert(net.connect(address, certs.client {
      cert = certs.path "client.pem", key = certs.path "client.key" }))
    c:write "hello\n"
    assert.equal("olleh", c:read())
    p:expect "depth=0 O = Neap, CN = a client\nverify return:1"
  end)

  it("does not trust who is unknown, expired or somebody else, and says why", function()
    local cases = {
      { "self", { name = "localhost" }, "self%-signed certificate" },
      { "expired", { name = "localhost" }, "certificate has expired" },
      { "other", { name = "localhost" }, "hostname mismatch" },
      { "server", { name = "a.b.example.test" }, "hostname mismatch" },
      { "server", { name = "127.0.0.2" }, "IP address mismatch" },
      { "server", { name = "localhost", ca = false }, "unable to get local issuer certificate" },
    }
    for _, case in ipairs(cases) do
      local name, more, why = table.unpack(case)
      local server = serve { cert = certs.path(name .. ".pem"), key = certs.path(name .. ".key") }
      local opts = certs.client(more)
      if opts.ca == false then opts.ca = nil end
      local c, message, code = net.connect(server.address, opts)
      assert.is_nil(c)
      assert.matches("^connect tls://127%.0%.0%.1:%d+: .*" .. why, message)
      assert.equal("ECERT", code)
    end
  end)

  it("takes names of one label for a wildcard, and addresses", function()
    local server = serve()
    for _, name in ipairs { "a.example.test", "127.0.0.1", "::1", "localhost" } do
      local c <close> = assert(net.connect(server.address, certs.client { name = name }))
      c:write "x\n"
      assert.equal("X", c:read())
    end
  end)

  it("checks nothing when it is told so", function()
    local server = serve { cert = certs.path "self.pem", key = certs.path "self.key" }
    local c <close> = assert(net.connect(server.address, { verify = false }))
    c:write "x\n"
    assert.equal("X", c:read())
  end)

  it("resumes a session, once per ticket, in each version", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local ctx = assert(tls.context(certs.client { max_version = version }))
      local server = serve({}, function(c) c:write(tostring(c.tls.resumed), "\n") end)
      local seen = {}
      for i = 1, 3 do
        local c <close> = assert(net.connect(server.address, { context = ctx }))
        seen[i] = c:read()
        assert.equal(seen[i], tostring(c.tls.resumed))
        c:read "a"
      end
      assert.same({ "false", "true", "true" }, seen)
    end
  end)

  it("writes its keys where SSLKEYLOGFILE says", function()
    local server = serve()
    local path = helper.tmpdir() .. "/keys"
    local p = helper.start(("%s -e %s"):format(helper.neap, helper.quote(([[
      local c <close> = assert(net.connect(%q, { ca = %q }))
      c:write "x\n" print(c:read())]]):format(server.address, certs.path "ca.pem"))),
      { env = { SSLKEYLOGFILE = path } })
    assert.equal(0, p:wait())
    assert.equal("X\n", p:out())
    assert.matches("CLIENT_TRAFFIC_SECRET_0 %x+ %x+\n", helper.read_file(path))
  end)

  it("gives up at its deadline, and when it is cancelled, and leaves nothing", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local address = l.address:gsub("^tcp", "tls")
    local c, message, code = net.connect(address, certs.client { timeout = 0.05 })
    assert.is_nil(c)
    assert.matches("^connect tls://.*timed out", message)
    assert.equal("ETIMEDOUT", code)
    local task = neap.spawn(net.connect, address, certs.client())
    neap.sleep(0.05)
    task:cancel()
    assert.is_false((task:join()))
  end)

  it("names a server that speaks something else", function()
    local server = net.serve("tcp://127.0.0.1:0", function(c) c:write "220 hello\r\n" end)
    helper.after(function() server:stop(0) end)
    local c, message, code = net.connect((server.address:gsub("^tcp", "tls")), certs.client())
    assert.is_nil(c)
    assert.matches("wrong version number", message)
    assert.equal("ETLS", code)
  end)
end)

describe("starttls", function()
  local function pair(kind)
    local a, b = assert(net.pair(kind or "mem"))
    helper.after(function()
      a:abort()
      b:abort()
    end)
    return a, b
  end

  it("goes on with the stream as it is, from plain text to TLS", function()
    local a, b = pair "unix"
    local served = neap.spawn(function()
      assert.equal("STARTTLS", b:read())
      b:write "go\n"
      assert(b:starttls(certs.server { server = true }))
      upper(b)
    end)
    a:write "STARTTLS\n"
    assert.equal("go", a:read())
    assert.equal(a, a:starttls(certs.client { name = "localhost" }))
    a:write "hello\n"
    assert.equal("HELLO", a:read())
    assert.equal("localhost", a.tls.name)
    a:close()
    assert(served:join())
  end)

  it("refuses plaintext that came with the answer", function()
    local a, b = pair()
    b:write "220 ready\r\n250 injected\r\n"
    assert.equal("220 ready\r", a:read())
    local ok, message, code = a:starttls(certs.client { name = "localhost" })
    assert.is_nil(ok)
    assert.matches(": %d+ bytes of plaintext", message)
    assert.equal("EPROTO", code)
    assert.equal("250 injected\r", a:read()) -- it is as it was
  end)

  it("hands unread bytes to TLS when it is told so", function()
    local a, b = pair()
    local client = neap.spawn(function()
      a:write "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
      assert(a:starttls(certs.client { name = "localhost" }))
      a:write "hello\n"
      return a:read()
    end)
    assert.equal("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r", b:read())
    assert(helper.wait_until(function() return b:peek() end))
    assert(b:starttls(certs.server { server = true, unread = true }))
    assert.equal("hello", b:read())
    b:write "ok\n"
    assert.same({ true, "ok" }, { client:join() })
  end)

  it("tells a cut from an end", function()
    for _, polite in ipairs { true, false } do
      local server = serve({}, function(c)
        c:write "some"
        c:flush()
        if not polite then
          local fd = assert(require("neap.descriptor.core").dup(c.fd))
          c:read()
          local raw <close> = assert(net.adopt(fd))
          raw:shutdown()
        end
      end)
      local c <close> = assert(net.connect(server.address, certs.client()))
      if polite then
        assert.equal("some", c:read "a")
      else
        assert.equal("some", c:recv())
        c:write "now\n"
        local rest, message, code = c:read "a"
        assert.is_nil(rest)
        assert.matches("close_notify", message)
        assert.equal("ETRUNCATED", code)
      end
    end
  end)

  local function shaken(kind)
    local a, b = pair(kind)
    local task = neap.spawn(b.starttls, b, certs.server { server = true })
    assert(a:starttls(certs.client { name = "localhost" }))
    assert(task:join())
    return a, b
  end

  it("reads what the peer said before writing failed", function()
    local a, b = shaken "unix"
    b:write "hello\n"
    assert.equal("hello", a:read()) -- what came with the handshake fills a buffer of single bytes
    b:write "answer\n"
    assert(b:flush())
    b:abort()
    assert(helper.wait_until(function() return not (a:write "x" and a:flush()) end))
    assert.equal("answer", a:read())
    assert.is_nil((a:read()))
  end)

  it("leaves the stream free when it is cancelled", function()
    local a = pair()
    local task = neap.spawn(a.starttls, a, certs.client { name = "localhost" })
    neap.yield()
    task:cancel()
    task:join()
    local ok, _, code = a:read("l", { timeout = 0 })
    assert.is_nil(ok)
    assert.equal("ETIMEDOUT", code)
  end)

  it("takes many small records in turns", function()
    local a, b = shaken "unix"
    local n = helper.hard and 200 or 5000
    local writer = neap.spawn(function()
      for _ = 1, n do
        b:write "x"
        b:flush()
      end
    end)
    neap.sleep(0.01)
    local got = 0
    while got < n do
      local piece = assert(a:recv(1 << 16))
      assert.is_true(#piece <= 128)
      got = got + #piece
    end
    assert(writer:join())
  end)

  it("tells of itself while finalizers close it", function()
    for _ = 1, 5 do
      local a = shaken()
      setmetatable({}, { __gc = function() a:close() end })
      repeat local _ = a.tls until a.closed
      assert.is_nil(a.tls)
    end
  end)

  it("is refused while another task uses the stream, and without a name to check", function()
    local a = pair()
    local reader = neap.spawn(a.read, a)
    neap.yield()
    assert.has_error(function() a:starttls(certs.client { name = "x" }) end)
    reader:cancel()
    reader:join()
    local ok, message = pcall(function() a:starttls(certs.client()) end)
    assert.is_false(ok)
    assert.matches("tls_spec.lua:%d+: .*option 'name'", message)
  end)

  it("wakes with closed when the stream is closed meanwhile", function()
    local a = pair()
    local task = neap.spawn(a.starttls, a, certs.client { name = "localhost" })
    neap.yield()
    a:close()
    assert.same({ true, nil, "closed", "ECANCELED" }, { task:join() })
  end)

  it("can be piped: a proxy that ends TLS in front of a plain server", function()
    local plain = net.serve("tcp://127.0.0.1:0", upper)
    local server = serve({}, function(c)
      local up <close> = assert(net.connect(plain.address))
      net.pipe(c, up)
    end)
    helper.after(function() plain:stop(0) end)
    local c <close> = assert(net.connect(server.address, certs.client()))
    local sent = ("x"):rep(2000) .. "\n"
    local n = helper.hard and 5 or 500
    local writer = neap.spawn(function()
      for _ = 1, n do assert(c:write(sent)) end
      c:shutdown()
    end)
    for _ = 1, n do assert.equal(sent:upper(), assert(c:read "L")) end
    assert.is_nil(c:read())
    assert(writer:join())
  end)
end)

describe("tls.context", function()
  it("reads PEM text as well as files", function()
    local cert, key = helper.read_file(certs.path "server.pem"),
      helper.read_file(certs.path "server.key")
    assert(tls.context { server = true, cert = cert, key = key })
    assert(tls.context { server = true, cert = cert .. key })
    assert(tls.context { server = true, cert = certs.path "both.pem" })
    assert(tls.context { ca = helper.read_file(certs.path "ca.pem") })
    assert(tls.context { server = true, cert = certs.path "server.pem",
      key = certs.path "locked.key", password = "secret" })
  end)

  it("says which of them it cannot use, and why", function()
    local server, key = certs.path "server.pem", certs.path "server.key"
    local cases = {
      { { cert = "/nonexistent", key = key }, "cert /nonexistent: no such file", "ENOENT" },
      { { cert = "/", key = key }, "cert /: not a regular file", "EINVAL" },
      { { cert = key, key = key }, "cert .*: no certificate in it", "ECERT" },
      { { cert = server, key = server }, "key .*: no private key in it", "ECERT" },
      { { cert = server }, "key .*: no private key in it", "ECERT" },
      { { cert = server, key = certs.path "other.key" }, "key .*: .*mismatch", "ECERT" },
      { { cert = server, key = certs.path "locked.key" }, "key .*", "ECERT" },
      { { cert = server, key = certs.path "locked.key", password = "wrong" }, "key .*", "ECERT" },
      { { cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key = key },
        "cert: ", "ECERT" },
      { { cert = server, key = key, ca = "/nonexistent" }, "ca /nonexistent: no such", "ENOENT" },
      { { cert = server, key = key, ciphers = "NONE-SUCH" }, "ciphers", "EINVAL" },
    }
    for _, case in ipairs(cases) do
      case[1].server = true
      local ctx, message, code = tls.context(case[1])
      assert.is_nil(ctx)
      assert.matches("^tls context: " .. case[2], message)
      assert.equal(case[3], code)
    end
  end)

  it("raises for wrong arguments at the caller's line, naming them", function()
    local cases = {
      { { cret = "x" }, "unknown option 'cret'" },
      { { min_version = "1.1" }, "option 'min_version'" },
      { { min_version = "1.3", max_version = "1.2" }, "option 'max_version'" },
      { { verify = "maybe" }, "option 'verify'" },
      { { server = true, verify = true }, "option 'verify': a server needs 'ca'" },
      { { alpn = {} }, "option 'alpn'" },
      { { alpn = { "" } }, "option 'alpn'" },
      { { alpn = "h2" }, "option 'alpn'" },
      { { key = "x" }, "option 'cert'" },
      { { cert = 1 }, "option 'cert'" },
      { { names = 1 }, "option 'names'" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(function() local _ = tls.context(case[1]) end)
      assert.is_false(ok)
      assert.matches("tls_spec.lua:%d+: bad argument #1 to 'context' %(" ..
        case[2]:gsub("%p", "%%%0"), message)
    end
    local _, message = pcall(function() local _ = net.listen("tls://127.0.0.1:0", {}) end)
    assert.matches("tls_spec.lua:%d+: bad argument #2 to 'listen' %(option 'cert'", message)
    _, message = pcall(function() local _ = net.serve("tls://127.0.0.1:0", function() end) end)
    assert.matches("tls_spec.lua:%d+: bad argument #2 to 'serve' %(option 'cert'", message)
    _, message = pcall(function() local _ = net.connect("tls://localhost:1", { alpn = 1 }) end)
    assert.matches("tls_spec.lua:%d+: bad argument #2 to 'connect' %(option 'alpn'", message)
  end)
end)
