-- tls.context: what it reads, what it refuses, and how it says so.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local net = require "neap.net"
local tls = require "neap.tls"

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

  it("refuses a file that is cut anywhere, and says why", function()
    local chain, key = helper.read_file(certs.path "chain.pem"), certs.path "leaf.key"
    local second = chain:find("-----BEGIN", 2, true)
    local step = helper.hard and 331 or 37
    for at = 1, #chain - 2, step do
      local ctx, message, code = tls.context { server = true, cert = chain:sub(1, at), key = key }
      local whole = at >= second - 2 and at < second + 26 -- nothing of the second
      assert.equal(whole, ctx ~= nil, at .. ": " .. tostring(message))
      if not ctx then
        assert.matches("^tls context: cert", message)
        assert.is_truthy(code == "ECERT" or code == "ENOENT") -- before its first line: a path
      end
    end
    local text = helper.read_file(key)
    for at = 30, #text - 2, step do
      local _, message, code = tls.context { server = true, cert = certs.path "leaf.pem",
        key = text:sub(1, at) }
      assert.matches("^tls context: key", message)
      assert.equal("ECERT", code)
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
      { { tickets = false }, "option 'tickets': a server gives them" },
      { { server = true, tickets = 1 }, "option 'tickets': a secret or a boolean expected" },
      { { server = true, tickets = ("x"):rep(31) }, "option 'tickets': a secret of at least 32" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(function() local _ = tls.context(case[1]) end)
      assert.is_false(ok)
      assert.matches("tls_context_spec.lua:%d+: bad argument #1 to 'context' %(" ..
        case[2]:gsub("%p", "%%%0"), message)
    end
    local _, message = pcall(function() local _ = net.listen("tls://127.0.0.1:0", {}) end)
    assert.matches("tls_context_spec.lua:%d+: bad argument #2 to 'listen' %(option 'cert'", message)
    local named = certs.server { names = function() end }
    for _, opts in ipairs { named, { context = tls.context { server = true, cert = named.cert,
      key = named.key, names = named.names } } } do -- nobody would answer the question for one
      _, message = pcall(function() local _ = net.listen("tls://127.0.0.1:0", opts) end)
      assert.matches("tls_context_spec.lua:%d+: bad argument #2 to 'listen' %(option 'names'",
        message)
    end
    local own, other = tls.context(certs.server { server = true }), tls.context()
    local given = {
      listen = function(opts) return net.listen("tls://127.0.0.1:0", opts) end,
      serve = function(opts) return net.serve("tls://127.0.0.1:0", opts, function() end) end,
      connect = function(opts) return net.connect("tls://127.0.0.1:1", opts) end,
    }
    for name, call in pairs(given) do -- what a context decides already
      for key, value in pairs { ca = certs.path "ca.pem", verify = true, names = {} } do
        local context = name == "connect" and other or own
        _, message = pcall(function() local _ = call { context = context, [key] = value } end)
        assert.matches(("tls_context_spec.lua:%%d+: bad argument #2 to '%s' %%(option '%s'")
          :format(name, key), message)
      end
    end
    _, message = pcall(function() local _ = net.serve("tls://127.0.0.1:0", function() end) end)
    assert.matches("tls_context_spec.lua:%d+: bad argument #2 to 'serve' %(option 'cert'", message)
    _, message = pcall(function() local _ = net.connect("tls://localhost:1", { alpn = 1 }) end)
    assert.matches("tls_context_spec.lua:%d+: bad argument #2 to 'connect' %(option 'alpn'",
      message)
  end)
end)
