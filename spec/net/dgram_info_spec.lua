-- What comes and goes with datagrams besides their bytes, and what ICMP says of those that were
-- sent.

local neap = require "neap"
local net = require "neap.net"
local helper = require "spec.support.helper"

local function port_of(address) return address:match ":(%d+)$" end

-- An address nobody listens on (any more).
local function nobody(address)
  local gone <close> = assert(net.datagram(address or "udp://127.0.0.1:0"))
  return gone.address
end

describe("the info of a datagram", function()
  it("tells TOS, ECN and the kernel's time", function()
    for _, address in ipairs { "udp://127.0.0.1:0", "udp://[::1]:0" } do
      local a <close> = assert(net.datagram(address, { tos = 0x2e << 2 | 1 }))
      local b <close> = assert(net.datagram(address, { info = true }))
      local before = os.time()
      a:send("x", b.address)
      local _, _, info = b:recv { info = true, timeout = 5 }
      assert.equal(0x2e << 2 | 1, info.tos)
      assert.equal(1, info.ecn)
      assert.is_true(info.time >= before and info.time <= os.time() + 1)
    end
  end)

  it("tells them of IPv4 on a socket of both families", function()
    local b <close> = assert(net.datagram("udp://:0", { info = true }))
    local a <close> = assert(net.datagram("udp://127.0.0.1:0", { tos = 8, ttl = 3 }))
    a:send("x", "127.0.0.1:" .. port_of(b.address))
    local _, _, info = b:recv { info = true, timeout = 5 }
    assert.equal(8, info.tos)
    assert.equal(3, info.ttl)
  end)
end)

describe("a datagram sent with", function()
  it("ttl and tos has them, the next one the socket's again", function()
    for _, address in ipairs { "udp://127.0.0.1:0", "udp://[::1]:0" } do
      local a <close> = assert(net.datagram(address))
      local b <close> = assert(net.datagram(address, { info = true }))
      assert.is_true(a:send("x", b.address, { ttl = 9, tos = 0x12 }))
      assert.is_true(a:send("y", b.address))
      local _, _, info = b:recv { info = true, timeout = 5 }
      assert.same({ 9, 0x12 }, { info.ttl, info.tos })
      _, _, info = b:recv { info = true, timeout = 5 }
      assert.same({ 64, 0 }, { info.ttl, info.tos })
    end
  end)

  it("from comes from there: an answer leaves by the address that was asked", function()
    for _, any in ipairs { "udp://0.0.0.0:0", "udp://:0" } do
      local server <close> = assert(net.datagram(any, { info = true }))
      local client <close> = assert(net.datagram "udp://127.0.0.1:0")
      for _, host in ipairs { "127.0.0.1", "127.0.0.77" } do
        assert(client:send("q", host .. ":" .. port_of(server.address)))
        local _, from, info = server:recv { info = true, timeout = 5 }
        assert.equal("udp://" .. host .. ":" .. port_of(server.address), info.to)
        assert.is_true(server:send("a", from, { from = info.to }))
        assert.equal(info.to, select(2, client:recv { timeout = 5 }))
      end
      assert.is_true(server:send("a", client.address, { from = "127.0.0.9", interface = "lo" }))
      assert.matches("^udp://127%.0%.0%.9:", select(2, client:recv { timeout = 5 }))
      assert.is_true(server:send("a", client.address, { interface = 1 }))
      assert.equal("a", (client:recv { timeout = 5 }))
    end
    local server <close> = assert(net.datagram "udp://[::]:0")
    local client <close> = assert(net.datagram "udp://[::1]:0")
    assert.is_true(server:send("a", client.address, { from = "::1" }))
    assert.equal("a", (client:recv { timeout = 5 }))
  end)

  it("what cannot be is refused, the socket goes on", function()
    local a <close> = assert(net.datagram "udp://127.0.0.1:0")
    local six <close> = assert(net.datagram("udp://[::1]:0", { v6only = true }))
    local path <close> = assert(net.datagram "unix-dgram:")
    local cases = {
      { a, { from = "192.0.2.1" }, "E%u+" }, -- not ours: by the routes EINVAL or ENETUNREACH
      { a, { from = "::1" }, "EAFNOSUPPORT" }, -- the other family
      { a, { from = "nonsense" }, "EINVAL" },
      { a, { from = "" }, "EINVAL" },
      { a, { from = "unix:/x" }, "EINVAL" },
      { a, { interface = "nosuchif0" }, "ENODEV" },
      { a, { interface = 4000000 }, "ENODEV" },
      { six, { from = "[fe80::1%nosuchif0]:1" }, "ENODEV" },
      { path, { ttl = 3 }, "EOPNOTSUPP" },
      { path, { from = "127.0.0.1" }, "EOPNOTSUPP" },
    }
    for i, case in ipairs(cases) do
      local ok, message, code = case[1]:send("x", case[1].address, case[2])
      assert.is_nil(ok, i)
      assert.matches("^" .. case[3] .. "$", code, 1, false, i .. ": " .. message)
      assert.matches("^send to ", message)
      assert.is_true(case[1]:send("x", case[1].address))
    end
    local bad = {
      { { ttl = 256 }, "ttl" }, { { tos = -1 }, "tos" }, { { ttl = "x" }, "ttl" },
      { { from = 5 }, "from" }, { { interface = true }, "interface" },
      { { interface = 0 }, "interface" }, { { interface = -3 }, "interface" },
    }
    for i, case in ipairs(bad) do
      local ok, err = pcall(a.send, a, "x", a.address, case[1])
      assert.is_false(ok, i)
      assert.matches(case[2], err)
    end
  end)
end)

describe("the error queue", function()
  it("tells who refused which message; recv and send go on", function()
    for _, address in ipairs { "udp://127.0.0.1:0", "udp://[::1]:0" } do
      local s <close> = assert(net.datagram(address, { errors = true }))
      local other <close> = assert(net.datagram(address))
      local gone = nobody(address)
      assert.is_true(s:send("is anybody there?", gone))
      assert.is_true(s:send("still works", other.address))
      assert.equal("ETIMEDOUT", select(3, s:recv { timeout = 0.01 }))
      local e = assert(s:recv_error { timeout = 5 })
      assert.equal("ECONNREFUSED", e.code)
      assert.equal("connection refused", e.message)
      assert.equal(gone, e.to)
      assert.equal("is anybody there?", e.data)
      local six = address:find "%["
      assert.equal(six and "icmpv6" or "icmp", e.origin)
      assert.equal(six and "icmp:[::1]" or "icmp:127.0.0.1", e.from)
      assert.same(six and { 1, 4 } or { 3, 3 }, { e.icmp_type, e.icmp_code })
      assert.equal("still works", (other:recv { timeout = 5 }))
      assert.equal("ETIMEDOUT", select(3, s:recv_error { timeout = 0 }))
    end
  end)

  it("is told of IPv4 on a socket of both families, and of an unbound one", function()
    for _, address in ipairs { "udp://:0", false } do
      local s <close> = assert(net.datagram(address or nil, { errors = true }))
      local gone = nobody()
      assert.is_true(s:send("x", gone))
      local e = assert(s:recv_error { timeout = 5 })
      assert.same({ gone, "icmp:127.0.0.1", "ECONNREFUSED" }, { e.to, e.from, e.code })
    end
  end)

  it("wakes whoever waits, with readers beside it and without", function()
    for _, reads in ipairs { true, false } do
      local s <close> = assert(net.datagram("udp://127.0.0.1:0", { errors = true }))
      local gone = nobody()
      neap.group(function(g)
        local reader = reads and g:spawn(function() return s:recv() end)
        local watcher = g:spawn(function() return s:recv_error { timeout = 5 } end)
        neap.sleep(0.01)
        -- what is there to be read must not keep a report from being told
        if not reads then s:send("to be read later", s.address) end
        neap.sleep(0.01)
        s:send("lost", gone)
        local _, e = assert(watcher:join())
        assert.equal("lost", e.data)
        if reader then reader:cancel() end
      end)
    end
  end)

  it("keeps the newest 64", function()
    local s <close> = assert(net.datagram("udp://127.0.0.1:0", { errors = true }))
    local gone = nobody()
    local n = 200
    for i = 1, n do
      assert.is_true(s:send(tostring(i), gone))
      neap.yield()
    end
    local count, last = 0, nil
    while true do
      local e = s:recv_error { timeout = 0.05 }
      if not e then break end
      count, last = count + 1, e.data
    end
    assert.is_true(count >= 1 and count < n, count)
    assert.equal(tostring(n), last)
  end)

  it("cuts what it tells of long messages", function()
    local s <close> = assert(net.datagram("udp://127.0.0.1:0", { errors = true }))
    assert.is_true(s:send(("0123456789"):rep(100), nobody()))
    local e = assert(s:recv_error { timeout = 5 })
    assert.equal(("0123456789"):rep(100):sub(1, 256), e.data)
  end)

  it("is closed with the socket, and has to be asked for", function()
    local s = assert(net.datagram("udp://127.0.0.1:0", { errors = true }))
    neap.group(function(g)
      g:spawn(function() assert.equal("ECANCELED", select(3, s:recv_error())) end)
      neap.yield()
      s:close()
    end)
    assert.equal("ECANCELED", select(3, s:recv_error()))
    local plain <close> = assert(net.datagram "udp://127.0.0.1:0")
    local _, message, code = plain:recv_error()
    assert.equal("EOPNOTSUPP", code)
    assert.matches("errors = true", message)
    local path, _, why = net.datagram("unix-dgram:", { errors = true })
    assert.is_nil(path)
    assert.equal("EOPNOTSUPP", why)
    assert.has_error(function() net.datagram(nil, { errors = 1 }) end)
    assert.has_error(function() plain:recv_error { info = true } end)
  end)

  it("names the path's MTU when a datagram is too large for it", function()
    local out, err = helper.run_isolated([[
      local net = require "neap.net"
      local s = assert(net.datagram("udp://10.9.0.1:0", { errors = true, mtu_discover = "do" }))
      print(select(3, s:send(("x"):rep(1400), "10.9.0.2:9")))
      local e = assert(s:recv_error { timeout = 5 })
      print(e.code, e.origin, e.mtu, e.to, e.from)
      print(s:send(("x"):rep(1200), "10.9.0.2:9"))
      s:close()
      local c <close> = assert(net.datagram(nil, { connect = "10.9.0.2:9", mtu_discover = "do" }))
      print(c:option "mtu", c:option "mtu_discover", select(3, c:send(("x"):rep(1400))))
    ]], "ip link add va type veth peer name vb\nip addr add 10.9.0.1/24 dev va\n"
      .. "ip link set va mtu 1300 up\nip link set vb up")
    assert.equal("EMSGSIZE\nEMSGSIZE\tlocal\t1300\tudp://10.9.0.2:0\tnil\ntrue\n"
      .. "1300\tdo\tEMSGSIZE\n", out, err)
  end)

  it("hears from a router that the path is narrower, and whose message was in the way", function()
    local out, err = helper.run_isolated([[
      local net = require "neap.net"
      local to = "10.20.0.9:9"
      local s <close> = assert(net.datagram("udp://0.0.0.0:0",
        { errors = true, mtu_discover = "do" }))
      print(s:send(("x"):rep(1400), to)) -- fits the link: nobody knows better yet
      local e = assert(s:recv_error { timeout = 5 })
      print(e.code, e.origin, e.icmp_type, e.icmp_code, e.mtu, e.from, e.to, #e.data)
      print(select(3, s:send(("x"):rep(1400), to))) -- now the kernel knows
      print(s:send(("x"):rep(1200), to))
      local c <close> = assert(net.datagram(nil, { connect = to }))
      print(c:option "mtu", c:send(("x"):rep(1400))) -- by default it is cut on its way
    ]], helper.second_network .. [[
      ip link add va type veth peer name vb netns $other
      ip addr add 10.10.0.1/24 dev va; ip link set va up
      nsenter -n -t $other sh -c 'ip addr add 10.10.0.2/24 dev vb; ip link set vb up
        ip link add wa type veth peer name wb; ip addr add 10.20.0.1/24 dev wa
        ip link set wa mtu 1300 up; ip link set wb up; sysctl -qw net.ipv4.ip_forward=1'
      ip route add 10.20.0.0/16 via 10.10.0.2
    ]])
    local report = { "EMSGSIZE", "icmp", 3, 4, 1300, "icmp:10.10.0.2", "udp://10.20.0.9:9", 256 }
    report = table.concat(report, "\t")
    assert.equal("true\n" .. report .. "\nEMSGSIZE\ntrue\n1300\ttrue\n", out, err)
  end)
end)
