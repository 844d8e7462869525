-- neap.tls and Node's tls, each as the client and as the server of the other: sessions, names,
-- protocols, certificates of clients, refusals, and bytes in both directions.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local net = require "neap.net"
local peers = require "spec.support.tls"
local tls = require "neap.tls"

local LIMIT_S = 30

-- Runs JavaScript; `env` is what it knows of us.
local function node(script, env)
  local path = helper.write_file(helper.tmpdir() .. "/peer.js", script)
  env = env or {}
  env.CERTS = certs.path "."
  return helper.start("exec node " .. path, { env = env, limit = LIMIT_S })
end

local client = [[
const tls = require('tls'), fs = require('fs'), dir = process.env.CERTS + '/'
const read = name => fs.readFileSync(dir + name)
const options = { host: '127.0.0.1', port: +process.env.PORT, ca: read('ca.pem'),
  servername: process.env.NAME || 'localhost' }
]]

local server = [[
const tls = require('tls'), fs = require('fs'), dir = process.env.CERTS + '/'
const read = name => fs.readFileSync(dir + name)
const own = { cert: read('server.pem'), key: read('server.key') }
const started = s => s.listen(0, '127.0.0.1', () => console.log('PORT ' + s.address().port + '.'))
]]

local function node_server(script)
  local p = node(server .. script)
  return "tls://127.0.0.1:" .. p:expect("PORT (%d+)%.", LIMIT_S), p
end

describe("a TLS server of ours and Node's client", function()
  it("exchange a lot in both directions, in each version", function()
    local size = helper.hard and 20000 or 3000000
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      local _, port = peers.serve({ alpn = { "x" } }, function(c)
        repeat
          local piece = c:recv()
          if piece then c:write(piece) end
        until not piece
      end)
      local p = node(client .. [[
        const size = +process.env.SIZE, sent = Buffer.alloc(size, 'abcdefghijk')
        const s = tls.connect({ ...options, ALPNProtocols: ['y', 'x'], minVersion: process.env.V,
          maxVersion: process.env.V })
        const got = []
        s.on('secureConnect', () => s.end(sent))
        s.on('data', d => got.push(d))
        s.on('end', () => console.log(s.getProtocol(), s.alpnProtocol, s.authorized,
          Buffer.concat(got).equals(sent)))
      ]], { PORT = port, V = version, SIZE = tostring(size) })
      assert.equal(0, p:wait(LIMIT_S))
      assert.equal(version .. " x true true\n", p:out())
    end
  end)

  it("resume a session, and show the name's certificate", function()
    local other = assert(tls.context { server = true, cert = certs.path "other.pem",
      key = certs.path "other.key" })
    local _, port = peers.serve({ names = { ["other.test"] = other } }, function(c)
      c:write(tostring(c.tls.resumed), " ", c.tls.name)
    end)
    local p = node(client .. [[
      let session, left = 3
      const again = () => {
        const s = tls.connect({ ...options, session })
        s.on('session', x => session = x)
        let got = ''
        s.on('data', d => got += d)
        s.on('end', () => console.log((s.getPeerCertificate().subject || {}).CN, got))
        s.on('close', () => --left > 0 && again())
      }
      again()
    ]], { PORT = port, NAME = "other.test" })
    assert.equal(0, p:wait(LIMIT_S))
    assert.equal("other.test false other.test\nundefined true other.test\n" ..
      "undefined true other.test\n", p:out())
  end)

  it("know the client by its certificate, and refuse one without", function()
    local seen
    local _, port, logged = peers.serve({ ca = certs.path "ca.pem" }, function(c)
      seen = c.tls.peer.subject
      c:write "hello\n"
    end)
    local script = client .. [[
      const own = process.env.WITH ? { cert: read('client.pem'), key: read('client.key') } : {}
      const s = tls.connect({ ...options, ...own })
      s.on('data', d => process.stdout.write(d))
      s.on('error', e => console.log(e.code))
    ]]
    local p = node(script, { PORT = port, WITH = "1" })
    assert.equal(0, p:wait(LIMIT_S))
    assert.equal("hello\n", p:out())
    assert.equal("CN=a client,O=Neap", seen)
    p = node(script, { PORT = port })
    assert.equal(0, p:wait(LIMIT_S))
    assert.equal("ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED\n", p:out())
    assert(helper.wait_until(function() return #logged == 1 end))
    assert.matches("peer did not return a certificate", logged[1])
  end)

  it("are refused by the client, with its reason in our log", function()
    for cert, reason in pairs { expired = "CERT_HAS_EXPIRED",
      self = "DEPTH_ZERO_SELF_SIGNED_CERT", leaf = "UNABLE_TO_VERIFY_LEAF_SIGNATURE" } do
      local _, port = peers.serve { cert = certs.path(cert .. ".pem"),
        key = certs.path(cert .. ".key") }
      local p = node(client .. "tls.connect(options).on('error', e => console.log(e.code))",
        { PORT = port })
      assert.equal(0, p:wait(LIMIT_S))
      assert.equal(reason .. "\n", p:out())
    end
  end)
end)

describe("a TLS client of ours and Node's server", function()
  it("exchange a lot in both directions, and see each other's end", function()
    local size = helper.hard and 20000 or 3000000
    local address, p = node_server [[
      started(tls.createServer({ ...own, ALPNProtocols: ['b', 'a'] }, s => {
        s.pipe(s)
        s.on('end', () => console.log('END.'))
      }))
    ]]
    local c <close> = assert(net.connect(address, certs.client { alpn = { "a", "z" } }))
    assert.equal("a", c.tls.alpn)
    local sent = ("abcdefghijk"):rep(size // 11)
    local neap = require "neap"
    local writer = neap.spawn(function()
      assert(c:write(sent))
      assert(c:shutdown())
    end)
    assert.is_true(c:read(#sent, { timeout = LIMIT_S * helper.slow }) == sent)
    assert(writer:join())
    assert.is_nil((c:read()))
    p:expect "END%."
  end)

  it("resume a session of each version, choose by name, and show who we are", function()
    local address = node_server [[
      const other = tls.createSecureContext({ cert: read('other.pem'), key: read('other.key') })
      started(tls.createServer({ ...own, ca: read('ca.pem'), requestCert: true,
        rejectUnauthorized: false, SNICallback: (name, f) => f(null, name === 'other.test' && other)
      }, s => {
        const who = s.getPeerCertificate().subject
        s.write(`${s.isSessionReused()} ${who ? who.CN : 'nobody'}\n`)
      }))
    ]]
    for _, version in ipairs { "1.2", "1.3" } do
      local ctx = assert(tls.context(certs.client { max_version = version }))
      local seen = {}
      for i = 1, 2 do
        local c <close> = assert(net.connect(address, { context = ctx, name = "other.test" }))
        seen[i] = assert(c:read())
        assert.equal("CN=other.test", c.tls.peer.subject)
      end
      assert.same({ "false nobody", "true nobody" }, seen)
    end
    local c <close> = assert(net.connect(address, certs.client { name = "localhost",
      cert = certs.path "client.pem", key = certs.path "client.key" }))
    assert.equal("false a client", c:read())
  end)

  it("tell a cut from an end", function()
    local address = node_server [[
      started(tls.createServer(own, s => {
        s.write('some')
        s.once('data', () => s.destroy())
      }))
    ]]
    local c <close> = assert(net.connect(address, certs.client()))
    assert.equal("some", c:read(4))
    c:write "now\n"
    local rest, _, code = c:read "a"
    assert.is_nil(rest)
    assert.is_truthy(code == "ETRUNCATED" or code == "ECONNRESET", code)
  end)
end)
