-- neap.tls: the serving side, against openssl(1), curl and ourselves.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local peers = require "spec.support.tls"
local tls = require "neap.tls"

local serve, s_client, upper = peers.serve, peers.s_client, peers.upper
local LIMIT_S = 10 * helper.slow

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
    assert.equal("a client", seen.common_name)
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

  it("says all that it has to say in two sends", function()
    if helper.hard then return end -- each byte is one
    local dir = helper.tmpdir()
    local path = helper.write_file(dir .. "/server.lua", ([[
      local server = net.serve("tls://127.0.0.1:0", { cert = %q, key = %q }, function(c)
        c:write(c:read():upper(), "\n")
      end)
      print(server.address)]]):format(certs.path "server.pem", certs.path "server.key"))
    local p = helper.start(("ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o %s/calls -e trace=" ..
      "sendto,sendmsg,shutdown %s -lnet=neap.net %s"):format(dir, helper.neap, path))
    local c <close> = assert(net.connect(p:expect "(tls://[%d.:]+)", certs.client()))
    c:write "hello\n"
    assert.equal("HELLO\n", c:read "a") -- with close_notify, or it were a failure
    local calls = helper.wait_until(function()
      local text = helper.read_file(dir .. "/calls")
      return text and text:find "shutdown" and text
    end)
    local _, sends = calls:gsub("send%a+%(", "")
    assert.equal(2, sends, calls) -- up to Finished; a ticket, the answer, close_notify
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
