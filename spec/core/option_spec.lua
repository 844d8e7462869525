-- Socket options: every row of the table against real sockets of each family.

local codec = require "neap.codec.core"
local dgram = require "neap.dgram.core"
local listener = require "neap.listener.core"

local rows = codec.options()

local function tcp4() return assert(listener.listen("tcp://127.0.0.1:0", {})) end
local function tcp6() return assert(listener.listen("tcp://[::1]:0", {})) end
local function udp4() return assert(dgram.datagram("udp://127.0.0.1:0", {})) end
local function udp6() return assert(dgram.datagram("udp://[::1]:0", {})) end
local function unix() return assert(dgram.datagram("unix-dgram:", {})) end
local makers = { tcp4 = tcp4, tcp6 = tcp6, udp4 = udp4, udp6 = udp6, unix = unix }

local types = {
  boolean = "boolean", integer = "number", seconds = "number", string = "string",
  ["seconds|false"] = "boolean", ["string|integer"] = "string",
}

describe("socket options", function()
  it("are described, once each", function()
    local seen = {}
    for _, row in ipairs(rows) do
      assert.is_nil(seen[row.name])
      seen[row.name] = true
      assert.truthy(row.name:find "^[%l%d_]+$")
      assert.truthy(types[row.type], row.name)
      assert.truthy(#row.doc > 10 and #row.doc < 90, row.name)
    end
  end)

  it("can all be read, or have no place on that socket", function()
    for family, make in pairs(makers) do
      local socket <close> = make()
      for _, row in ipairs(rows) do
        local value, message, code = socket:option(row.name)
        if value == nil then
          local want = row.name == "mtu" and family ~= "unix" and "ENOTCONN" or "ENOPROTOOPT"
          assert.equal(want, code, family .. ": " .. tostring(message))
        else
          assert.equal(types[row.type], type(value), family .. " " .. row.name)
        end
      end
    end
  end)

  it("are on every TCP listener, those of IPv6 on IPv6 only", function()
    local four <close> = tcp4()
    local six <close> = tcp6()
    -- of UDP, of raw sockets, of sockets with a peer; Linux does not tell the interface of IPv4
    local others = { gro = true, hdrincl = true, mtu = true, multicast_interface = true }
    for _, row in ipairs(rows) do
      local both = not others[row.name]
      assert.is_true(not both or six:option(row.name) ~= nil, row.name)
      if row.name == "v6only" then both = false end
      assert.is_true(not both or four:option(row.name) ~= nil, row.name)
    end
  end)

  -- Setting and reading back; where the kernel changes the value, what it makes of it.
  local cases = {
    { tcp4, "nodelay", true }, { tcp4, "nodelay", false }, { tcp6, "nodelay", true },
    { tcp4, "keepalive", true },
    { tcp4, "keepalive_idle", 30 }, { tcp4, "keepalive_idle", 1.2, 2 }, -- whole seconds, never less
    { tcp4, "keepalive_interval", 5 }, { tcp4, "keepalive_count", 3 },
    { tcp4, "user_timeout", 1.5 }, { tcp4, "user_timeout", 0.0001, 0.001 }, -- milliseconds
    { tcp4, "congestion", "reno" },
    { tcp4, "fastopen", 16 }, { tcp4, "notsent_lowat", 16384 },
    { tcp4, "linger", 3 }, { tcp4, "linger", 0 }, { tcp4, "linger", false },
    { tcp4, "linger", 0.5, 1 },
    { tcp4, "send_buffer", 20000, 40000 }, -- Linux doubles
    { tcp4, "receive_buffer", 20000, 40000 },
    { tcp4, "ttl", 7 }, { tcp6, "ttl", 7 }, { udp4, "hops", 7 }, { udp6, "hops", 7 },
    { udp4, "tos", 0x10 }, { udp6, "tos", 0x10 }, { udp6, "traffic_class", 0x20 },
    { udp4, "broadcast", true }, { unix, "broadcast", true },
    { udp4, "multicast_ttl", 4 }, { udp6, "multicast_ttl", 4 },
    { udp4, "multicast_loop", false }, { udp6, "multicast_loop", false },
    { udp4, "multicast_all", false }, { udp6, "multicast_all", false },
    { udp6, "multicast_interface", "lo" }, { udp6, "multicast_interface", 1, "lo" },
    { udp6, "multicast_interface", 0, "" }, -- by the routes again
    { udp4, "mtu_discover", "do" }, { udp6, "mtu_discover", "probe" },
    { udp4, "gro", true }, { udp6, "gro", true },
    { udp4, "freebind", true }, { udp6, "freebind", true },
    { udp4, "reuseaddr", true }, { udp4, "reuseport", true },
    { udp4, "priority", 3 },
    { tcp4, "defer_accept", 3 }, { tcp4, "defer_accept", 0 }, -- retries after 1, 3, 7 … seconds
    { tcp4, "mss", 1000 }, { tcp4, "quickack", false },
    { unix, "send_buffer", 20000, 40000 },
  }
  for _, case in ipairs(cases) do
    local make, name, value, want = table.unpack(case)
    if want == nil then want = value end
    it(("set and read %s = %s"):format(name, value), function()
      local socket <close> = make()
      assert.is_true(assert(socket:option(name, value)))
      assert.equal(want, (socket:option(name)))
    end)
  end

  it("that count from the beginning are given there", function()
    local net = require "neap.net"
    local l <close> = assert(net.listen("tcp://[::1]:0", { v6only = true, reuseaddr = false }))
    assert.is_true(l:option "v6only")
    assert.is_false(l:option "reuseaddr")
    for _, wanted in ipairs { true, false } do
      local c <close> = assert(net.connect(l.address, { fastopen_connect = wanted, timeout = 5 }))
      assert.equal(wanted, c:option "fastopen_connect")
    end
  end)

  it("that need privilege are set, or EPERM says so", function()
    local socket <close> = udp4()
    local ok, _, code = socket:option("mark", 7)
    assert.equal(ok and "7" or "EPERM", code or tostring(socket:option "mark"))
    local raw <close>, _, refused = dgram.datagram("raw:47", { hdrincl = true })
    assert.equal(raw and "true" or "EPERM", refused or tostring(raw:option "hdrincl"))
  end)

  it("have each a case of setting and reading", function()
    local set = { bindtodevice = true, v6only = true, fastopen_connect = true, mark = true,
      hdrincl = true } -- in the tests around
    for _, case in ipairs(cases) do set[case[2]] = true end
    for _, row in ipairs(rows) do
      assert.is_true(set[row.name] or row.readonly or false, row.name)
    end
  end)

  it("bind to a device, and to any again", function()
    local socket <close> = udp4()
    local ok, message, code = socket:option("bindtodevice", "lo")
    if code == "EPERM" then return assert.is_nil(ok, message) end -- needs CAP_NET_RAW before 5.7
    assert.is_true(ok, message)
    assert.equal("lo", socket:option "bindtodevice")
    assert.is_true(socket:option("bindtodevice", ""))
    assert.equal("", socket:option "bindtodevice")
    assert.equal("ENODEV", select(3, socket:option("bindtodevice", "nosuchif0")))
  end)

  it("that the kernel refuses are results", function()
    local tcp <close> = tcp4()
    local udp <close> = udp4()
    local path <close> = unix()
    for _, case in ipairs {
      { udp, "nodelay", true, "ENOPROTOOPT" },
      { udp, "v6only", true, "ENOPROTOOPT" },
      { path, "ttl", 1, "ENOPROTOOPT" },
      { path, "multicast_interface", "lo", "ENOPROTOOPT" },
      { udp, "multicast_interface", "nosuchif0", "ENODEV" },
      { udp, "multicast_interface", 4000000, "EADDRNOTAVAIL" }, -- as the kernel says it
      { udp, "hdrincl", true, "ENOPROTOOPT" },
      { path, "nodelay", true, "ENOPROTOOPT" },
      { tcp, "congestion", "nonsense", "ENOENT" },
      { tcp, "ttl", 256, "EINVAL" },
      { tcp, "keepalive_idle", 0, "EINVAL" },
      { tcp, "keepalive_idle", 1e12, "EINVAL" }, -- past an int
      { tcp, "user_timeout", 1e7, "EINVAL" }, -- past an int of milliseconds
      { tcp, "linger", 1e10, "EINVAL" },
    } do
      local ok, message, code = case[1]:option(case[2], case[3])
      assert.is_nil(ok)
      assert.equal(case[4], code, message)
      assert.truthy(message:find(case[2], 1, true))
    end
  end)

  it("tell what a socket is", function()
    for name, want in pairs {
      tcp4 = { "stream", "inet", "tcp", true },
      tcp6 = { "stream", "inet6", "tcp", true },
      udp4 = { "dgram", "inet", "udp", false },
      udp6 = { "dgram", "inet6", "udp", false },
      unix = { "dgram", "unix", "0", false },
    } do
      local socket <close> = makers[name]()
      local got = {}
      for i, option in ipairs { "type", "domain", "protocol", "accepting" } do
        got[i] = socket:option(option)
      end
      assert.same(want, got)
      assert.equal("", socket:option "error")
    end
  end)

  it("that are only read, unknown or of the wrong type raise", function()
    local socket <close> = tcp4()
    for _, case in ipairs {
      { "error", "", "can only be read" },
      { "accepting", true, "can only be read" },
      { "no_delay", true, "unknown option 'no_delay'" },
      { "nodelay", 1, "option 'nodelay'" },
      { "ttl", "7", "option 'ttl'" },
      { "ttl", 7.5, "option 'ttl'" },
      { "ttl", 1 << 40, "option 'ttl'" },
      { "linger", true, "option 'linger'" },
      { "mtu", 1500, "can only be read" },
      { "mtu_discover", "never", [[one of "dont", "want", "do", "probe", "interface", "omit"]] },
      { "mtu_discover", 2, "one of" },
      { "multicast_interface", -1, "an interface's name or number expected" },
      { "multicast_interface", true, "an interface's name or number expected" },
      { "linger", -1, "option 'linger'" },
      { "linger", 0 / 0, "option 'linger'" },
      { "keepalive_idle", 1 / 0, "option 'keepalive_idle'" },
      { "congestion", ("x"):rep(64), "option 'congestion'" },
      { "bindtodevice", "l\0o", "option 'bindtodevice'" },
    } do
      local ok, message = pcall(socket.option, socket, case[1], case[2])
      assert.is_false(ok, case[1])
      assert.truthy(tostring(message):find(case[3], 1, true), message)
    end
  end)

  it("of both families are set for both on an IPv6 socket", function()
    local socket <close> = assert(dgram.datagram("udp://[::]:0", { v6only = false }))
    assert.is_true(socket:option("ttl", 9))
    local peer <close> = udp4()
    -- the packet leaves as IPv4; the receiver sees its TTL, once it has asked for it
    local info
    for _ = 1, 2 do
      assert(socket:send("x", peer.address))
      info = select(3, assert(peer:recv(10, { info = true, timeout = 5 })))
    end
    assert.equal(9, info.ttl)
  end)
end)
