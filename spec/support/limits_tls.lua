-- The limits of TLS, for spec/limits_spec.lua: a test for each row of the manual's table.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local net = require "neap.net"
local peers = require "spec.support.tls"
local tls = require "neap.tls"

local limits = {}

limits["TLS handshakes of a server at a time; one of them"] = function()
  local server, _, logged = peers.serve { handshake_timeout = 60 * helper.slow }
  local plain = server.address:gsub("^tls", "tcp")
  local function shakes(seconds)
    local c, _, code = net.connect(server.address, certs.client { timeout = seconds })
    if c then c:close() end
    return c and "yes" or code
  end
  local silent = {}
  for i = 1, 255 do silent[i] = assert(net.connect(plain)) end
  assert(helper.wait_until(function() return server.connections == 255 end))
  assert.equal("yes", shakes(10 * helper.slow))
  silent[256] = assert(net.connect(plain))
  assert(helper.wait_until(function() return server.connections == 256 end))
  assert.equal("ETIMEDOUT", shakes(0.3))
  table.remove(silent):close()
  assert.equal("yes", shakes(10 * helper.slow))
  for _, c in ipairs(silent) do c:abort() end
  assert(helper.wait_until(function() return server.connections == 0 end))
  assert.is_true(#logged >= 255)
end

limits["sessions that a client's TLS context keeps"] = function()
  local server = peers.serve({}, function(c) c:read() end)
  -- of TLS 1.2 a session may be used again: none goes by being used
  local ctx = assert(tls.context(certs.client { max_version = "1.2" }))
  local function resumed(session)
    local opts = { context = ctx, name = "localhost", session = session }
    local c <close> = assert(net.connect(server.address, opts))
    return c.tls.resumed
  end
  for i = 1, 65 do assert.is_false(resumed("s" .. i)) end
  assert.is_true(resumed "s65")
  assert.is_true(resumed "s2")
  assert.is_false(resumed "s1")
end

limits["a name of `alpn`; all of them"] = function()
  local function takes(names)
    return (pcall(function() return assert(tls.context { alpn = names }) end))
  end
  assert.is_true(takes { ("x"):rep(255) })
  assert.is_false(takes { ("x"):rep(256) })
  assert.is_false(takes { "" })
  local names = {}
  for i = 1, 16 do names[i] = ("x"):rep(255) end
  assert.is_true(takes(names))
  names[17] = "x"
  assert.is_false(takes(names))
end

limits["names of a peer's certificate in `tls.peer`"] = function()
  local dir, names = helper.tmpdir(), {}
  for i = 1, 300 do names[i] = ("DNS:h%03d.example.test"):format(i) end
  local out, err, status = helper.run(("openssl req -x509 -newkey ec -pkeyopt " ..
    "ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=many -addext subjectAltName=%s " ..
    "-keyout %s/k -out %s/c"):format(table.concat(names, ","), dir, dir))
  assert.equal(0, status, out .. err)
  local server = peers.serve { cert = dir .. "/c", key = dir .. "/k" }
  local c <close> = assert(net.connect(server.address, { ca = dir .. "/c",
    name = "h300.example.test" })) -- the check knows all of them
  assert.equal(4096 // #"h001.example.test\0", #c.tls.peer.names)
end

return limits
