-- neap.tls: the client side, whom it trusts and what it remembers.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local peers = require "spec.support.tls"
local tls = require "neap.tls"

local serve, s_server = peers.serve, peers.s_server

describe("a TLS client", function()
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
      { "other", { name = "foo.other.test" }, "hostname mismatch" }, -- "fo*" (RFC 9525 6.3)
      { "server", { name = "127.0.0.2" }, "IP address mismatch" },
      { "server", { name = "localhost", ca = false }, "unable to get local issuer certificate" },
      { "leaf", { name = "localhost" }, "unable to get local issuer certificate" }, -- a chain cut
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

  it("follows the chain that the server shows", function()
    local server = serve { cert = certs.path "chain.pem", key = certs.path "leaf.key" }
    local c <close> = assert(net.connect(server.address, certs.client { name = "localhost" }))
    assert.equal("CN=neap spec intermediate", c.tls.peer.issuer)
  end)

  it("sends nothing to who is not trusted", function()
    local got, over
    local l <close> = assert(net.listen("tls://127.0.0.1:0", certs.server {
      cert = certs.path "other.pem", key = certs.path "other.key" }))
    local task = neap.spawn(function()
      local conn <close> = l:accept()
      got = conn:read "a"
      over = true
    end)
    local c, message = net.connect(l.address, certs.client())
    assert.is_nil(c)
    assert.matches("IP address mismatch", message)
    assert(task:join { timeout = 5 * helper.slow })
    assert.is_true(over)
    assert.is_nil(got)
  end)

  it("trusts a directory, several authorities in a text, or the system's", function()
    local server = serve()
    local text = helper.read_file(certs.path "self.pem") .. helper.read_file(certs.path "ca.pem")
    for _, ca in ipairs { certs.path "trust", text } do
      local c <close> = assert(net.connect(server.address, { ca = ca }))
      c:write "x\n"
      assert.equal("X", c:read())
    end
    local ask = ("local c <close> = assert(net.connect(%q)) c:write 'x\\n' print(c:read())"):format(
      server.address)
    for _, env in ipairs { { SSL_CERT_FILE = certs.path "ca.pem" }, {
      SSL_CERT_DIR = certs.path "trust" } } do
      local out, err = helper.run_neap("-e " .. helper.quote(ask), { env = env })
      assert.equal("X\n", out, err)
    end
  end)

  it("asks for the name and offers its protocols", function()
    local other = ("-servername other.test -cert2 %s -key2 %s"):format(
      certs.path "other.pem", certs.path "other.key")
    local c <close> = assert(net.connect(s_server(other), certs.client { name = "other.test" }))
    assert.equal("CN=other.test", c.tls.peer.subject)
    local d <close> = assert(net.connect(s_server "-alpn b,c", certs.client {
      alpn = { "a", "b" } }))
    assert.equal("b", d.tls.alpn)
  end)

  it("refuses versions below its own minimum", function()
    local address = s_server "-tls1_2"
    local c, message, code = net.connect(address, certs.client { min_version = "1.3" })
    assert.is_nil(c)
    assert.matches("protocol version", message)
    assert.equal("ETLS", code)
  end)

  it("takes names of one label for a wildcard, and addresses", function()
    local server = serve()
    for _, name in ipairs { "a.example.test", "127.0.0.1", "::1", "localhost" } do
      local c <close> = assert(net.connect(server.address, certs.client { name = name }))
      c:write "x\n"
      assert.equal("X", c:read())
    end
  end)

  it("asks for a name without the dot at its end (RFC 6066 3)", function()
    local asked = {}
    local server = serve { names = function(name) asked[#asked + 1] = name end }
    for _, name in ipairs { "localhost.", "localhost" } do
      local c <close> = assert(net.connect(server.address, certs.client { name = name }))
      c:write "x\n"
      assert.equal("X", c:read())
    end
    assert.same({ "localhost", "localhost" }, asked)
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

  it("resumes with each server that has the secret of its tickets, and with no other", function()
    local function resumes(first, second)
      local ctx = assert(tls.context(certs.client()))
      local seen
      for _, tickets in ipairs { { first }, { second } } do
        local server = serve({ tickets = tickets[1] }, function(c)
          c:write(tostring(c.tls.resumed), "\n")
        end)
        local opts = { context = ctx, session = "both", name = "localhost" }
        local c <close> = assert(net.connect(server.address, opts))
        seen = c:read()
        c:read "a"
      end
      return seen
    end
    local secret, other = ("s"):rep(32), ("s"):rep(31) .. "t"
    assert.equal("true", resumes(secret, secret))
    assert.equal("false", resumes(secret, other))
    assert.equal("false", resumes(true, true))
    assert.equal("false", resumes(secret, false))
  end)

  it("resumes nothing without tickets; a reload with another secret ends those", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local own = assert(tls.context(certs.server { server = true, tickets = ("s"):rep(32) }))
      local server = serve({ context = own }, function(c)
        c:write(tostring(c.tls.resumed), "\n")
      end)
      local ctx = assert(tls.context(certs.client { max_version = version }))
      local function resumed()
        local c <close> = assert(net.connect(server.address, { context = ctx }))
        local line = c:read()
        c:read "a"
        return line
      end
      assert.equal("false", resumed())
      assert.equal("true", resumed())
      assert(own:reload())
      assert.equal("true", resumed())
      assert(own:reload { tickets = ("t"):rep(32) })
      assert.equal("false", resumed())
      assert.equal("true", resumed())
      assert(own:reload { tickets = false })
      assert.equal("false", resumed())
      assert.equal("false", resumed())
    end
  end)

  it("resumes nothing after a reload that trusts another authority of the same file", function()
    local path = helper.tmpdir() .. "/ca.pem"
    for _, version in ipairs { "1.2", "1.3" } do
      helper.write_file(path, helper.read_file(certs.path "ca.pem"))
      local own = assert(tls.context(certs.server { server = true, ca = path }))
      local server, _, logged = serve({ context = own }, function(c)
        c:write(tostring(c.tls.resumed), "\n")
      end)
      local ctx = assert(tls.context(certs.client { max_version = version,
        cert = certs.path "client.pem", key = certs.path "client.key" }))
      local function resumed()
        local c <close> = net.connect(server.address, { context = ctx })
        local line = c and c:read()
        if line then c:read "a" end
        return line
      end
      assert.equal("false", resumed())
      assert(own:reload())
      assert.equal("true", resumed())
      helper.write_file(path, helper.read_file(certs.path "self.pem"))
      assert(own:reload())
      assert.is_nil(resumed())
      assert(helper.wait_until(function() return #logged == 1 end))
      assert.matches("issuer certificate", logged[1])
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
