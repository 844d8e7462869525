-- Broadcast and multicast: groups of both families, any source and one, on an interface of our own.

local net = require "neap.net"
local helper = require "spec.support.helper"

-- Two ends of a cable in one namespace: va has 10.9.0.1 and 10.9.0.3, vb has 10.9.0.2.
local cable = [[
ip link add va type veth peer name vb
ip addr add 10.9.0.1/24 dev va
ip addr add 10.9.0.3/24 dev va
ip addr add 10.9.0.2/24 dev vb
ip -6 addr add fe80::a/64 dev va nodad
ip -6 addr add fe80::b/64 dev vb nodad
ip link set va up
ip link set vb up
# both ends are ours: packets from our own addresses would be refused
sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.vb.accept_local=1
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.vb.rp_filter=0
]]

local head = [[
local net = require "neap.net"
local function brief(s) return (s:recv { timeout = 0.2 }) end
]]

describe("a datagram to", function()
  it("a broadcast address reaches whoever is bound to any", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram("udp://0.0.0.0:0", { info = true, bindtodevice = "vb" }))
      local port = s.address:match "%d+$"
      local plain <close> = assert(net.datagram "udp://10.9.0.1:0")
      print(select(3, plain:send("x", "10.9.0.255:" .. port)))
      local c <close> = assert(net.datagram("udp://10.9.0.1:0",
        { broadcast = true, bindtodevice = "va" }))
      print(c:send("to all", "10.9.0.255:" .. port))
      local msg, from, info = s:recv { info = true, timeout = 5 }
      print(msg, from == c.address, info.to == "udp://10.9.0.255:" .. port)
    ]], cable)
    assert.equal("EACCES\ntrue\nto all\ttrue\ttrue\n", out, err)
  end)

  for _, case in ipairs {
    { "an IPv4 group", "0.0.0.0", "239.1.2.3", "10.9.0.1" },
    { "an IPv6 group", "[::]", "ff12::1:2", "[fe80::a%va]" },
  } do
    it(case[1] .. " reaches its members on the interface they joined on, until they leave",
      function()
        local out, err = helper.run_isolated(head .. ([[
        local any, group, from = %q, %q, %q
        local s <close> = assert(net.datagram("udp://" .. any .. ":0", { info = true,
          multicast_all = false }))
        local port = s.address:match "%%d+$"
        local bare = group:find ":" and "[" .. group .. "%%vb]" or group
        local to = "udp://" .. (group:find ":" and "[" .. group .. "%%va]" or group) .. ":" .. port
        local c <close> = assert(net.datagram("udp://" .. from .. ":0",
          { multicast_interface = "va", multicast_ttl = 3, multicast_loop = false }))
        c:send("early", to)
        print(brief(s))
        print(s:join(bare, { interface = "vb" }))
        print(select(3, s:join(bare, { interface = "vb" })))
        c:send("member", to)
        local msg, _, info = s:recv { info = true, timeout = 5 }
        print(msg, info.ttl, info.to:find(group, 1, true) ~= nil)
        print(s:leave(bare, { interface = "vb" }))
        c:send("late", to)
        print(brief(s))
        print(select(3, s:leave(bare, { interface = "vb" })))
      ]]):format(case[2], case[3], case[4]), cable)
        assert.equal("nil\ntrue\nEADDRINUSE\nmember\t3\ttrue\ntrue\nnil\nEADDRNOTAVAIL\n", out, err)
      end)
  end

  it("a group comes back to this host by loop, and from all sources or one", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram("udp://239.1.2.3:0", { multicast_all = false }))
      local to = s.address
      local function from(host)
        return assert(net.datagram("udp://" .. host .. ":0", { multicast_interface = "va" }))
      end
      local one <close>, three = from "10.9.0.1"
      three = from "10.9.0.3"
      print(s:join("239.1.2.3", { interface = "va", source = "10.9.0.3" }))
      one:send("one", to)
      three:send("three", to)
      print(brief(s), brief(s))
      print(s:join("239.1.2.3", { interface = "va", source = "10.9.0.1" }))
      one:send("one", to)
      print(brief(s))
      print(s:leave("239.1.2.3", { interface = "va", source = "10.9.0.3" }))
      three:send("three", to)
      print(brief(s))
      one:option("multicast_loop", false)
      one:send("one", to)
      print(brief(s))
      print(select(3, s:leave("239.1.2.3", { interface = "va", source = "10.9.0.3" })))
      three:close()
    ]], cable)
    assert.equal("true\nthree\tnil\ntrue\none\ntrue\nnil\nnil\nEADDRNOTAVAIL\n", out, err)
  end)

  it("a group of IPv6 comes from one source", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram("udp://[::]:0", { multicast_all = false }))
      local to = "udp://[ff12::7%va]:" .. s.address:match "%d+$"
      local function from(host)
        return assert(net.datagram("udp://[" .. host .. "%va]:0",
          { multicast_interface = "va", multicast_loop = false }))
      end
      local a <close>, c = from "fe80::a"
      c = from "fe80::c"
      print(s:join("ff12::7", { interface = "vb", source = "fe80::c" }))
      a:send("a", to)
      c:send("c", to)
      print(brief(s), brief(s))
      print(s:leave("ff12::7", { interface = "vb", source = "fe80::c" }))
      c:send("c", to)
      print(brief(s))
      c:close()
    ]], cable .. "ip -6 addr add fe80::c/64 dev va nodad\n")
    assert.equal("true\nc\tnil\ntrue\nnil\n", out, err)
  end)

  it("a group of IPv4 reaches a socket of both families, from socat too", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram "udp://:0")
      print(s:join("239.1.2.3", { interface = "lo" }))
      local port = s.address:match "%d+$"
      local p = io.popen("echo from socat | socat -u - UDP4-DATAGRAM:239.1.2.3:" .. port
        .. ",ip-multicast-if=127.0.0.1")
      io.write(s:recv { timeout = 5 } or "nothing")
      p:close()
    ]])
    assert.equal("true\nfrom socat\n", out, err)
  end)

  it("an interface that vanishes is no more; the membership is gone with it", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram "udp://0.0.0.0:0")
      print(s:join("239.1.2.3", { interface = "vb" }))
      os.execute "ip link del va"
      print(select(3, s:join("239.1.2.4", { interface = "vb" })))
      print(select(3, s:send("x", "10.9.0.2:9", { interface = "vb" })))
      print(select(3, s:leave("239.1.2.3", { interface = "vb" })))
    ]], cable)
    assert.equal("true\nENODEV\nENODEV\nENODEV\n", out, err)
  end)
end)

describe("groups", function()
  it("that are none are refused", function()
    local s <close> = assert(net.datagram "udp://127.0.0.1:0")
    local path <close> = assert(net.datagram "unix-dgram:")
    local cases = {
      { s, "10.0.0.1", nil, "EINVAL" }, -- no group
      { s, "239.1.2", nil, "EINVAL" }, -- no address
      { s, "", nil, "EINVAL" },
      { s, "group.example", nil, "EINVAL" }, -- a name
      { s, "unix:/x", nil, "EINVAL" },
      { s, "239.1.2.3", { interface = "nosuchif0" }, "ENODEV" },
      { s, "239.1.2.3", { interface = 4000000 }, "ENODEV" },
      { s, "239.1.2.3", { interface = "lo", source = "::1" }, "EINVAL" }, -- two families
      { s, "239.1.2.3", { interface = "lo", source = "x" }, "EINVAL" },
      { s, "[ff02::1%nosuchif0]", nil, "ENODEV" },
      { path, "239.1.2.3", { interface = "lo" }, "EOPNOTSUPP" },
    }
    for i, case in ipairs(cases) do
      for _, verb in ipairs { "join", "leave" } do
        local ok, message, code = case[1][verb](case[1], case[2], case[3])
        assert.is_nil(ok, i)
        assert.equal(verb .. " " .. case[2], message:sub(1, #verb + 1 + #case[2]))
        if verb == "join" then assert.equal(case[4], code, i .. ": " .. message) end
      end
    end
    for i, args in ipairs { {}, { 5, 6 }, { "239.1.2.3", { interfaces = "lo" } },
      { "239.1.2.3", { interface = {} } }, { "239.1.2.3", { source = 1 } } } do
      assert.is_false(pcall(s.join, s, table.unpack(args)), i)
    end
    s:close()
    assert.equal("ECANCELED", select(3, s:join "239.1.2.3"))
  end)
end)
