-- Below UDP: ping sockets, raw sockets and captures, each in a network namespace of its own; and
-- what is said to those who may not.

local net = require "neap.net"
local helper = require "spec.support.helper"

local head = [[
local net = require "neap.net"
local checksum = require "neap.checksum"
local function echo(kind, id, sequence, text) -- an ICMP request with its checksum
  local zero = string.pack(">BBI2I2I2", kind, 0, 0, id, sequence) .. text
  return string.pack(">BBI2I2I2", kind, 0, checksum.internet(zero), id, sequence) .. text
end
]]

local may_ping = "sysctl -qw net.ipv4.ping_group_range='0 0'"

describe("a ping socket", function()
  it("gets the replies to its requests, of IPv4 and IPv6", function()
    local out, err = helper.run_isolated(head .. [[
      for _, case in ipairs { { "icmp:", "icmp:127.0.0.1", 8, 0 },
        { "icmp:127.0.0.1", "127.0.0.1", 8, 0 }, { "icmp:[::]", "icmp:[::1]", 128, 129 },
        { "icmp:", "icmp:localhost", 8, 0 }, { "icmp:[::1]", "localhost", 128, 129 } } do
        local s <close> = assert(net.datagram(case[1]))
        assert(s:send(echo(case[3], 1, 7, "hello"), case[2]))
        local msg, from, info = assert(s:recv { timeout = 5, info = true })
        local kind, _, _, _, sequence = string.unpack(">BBI2I2I2", msg)
        print(kind == case[4], sequence, msg:sub(9), from)
        local sent, why, code = s:send("short", case[2])
        print(sent, code)
      end
      local c <close> = assert(net.datagram(nil, { connect = "icmp:127.0.0.1" }))
      print(c.peer, c:send(echo(8, 1, 1, "x")), #c:recv { timeout = 5 })
    ]], may_ping)
    local four = "true\t7\thello\ticmp:127.0.0.1\nnil\tEINVAL\n"
    local six = "true\t7\thello\ticmp:[::1]\nnil\tEINVAL\n"
    assert.equal(four .. four .. six .. four .. six .. "icmp:127.0.0.1\ttrue\t9\n", out, err)
  end)

  it("hears of what could not be delivered", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram("icmp:", { errors = true }))
      print(select(3, s:send(echo(8, 1, 1, "x"), "icmp:10.7.0.1")))
      assert(s:send(echo(8, 1, 2, "far"), "icmp:10.9.0.2", { ttl = 1 }))
      local e = assert(s:recv_error { timeout = 5 })
      print(e.code, e.origin, e.from, e.to, e.icmp_type, e.icmp_code)
    ]], may_ping .. "\n" .. helper.second_network .. [[
      ip route add unreachable 10.7.0.0/16
      ip link add va type veth peer name vb netns $other
      ip addr add 10.10.0.1/24 dev va; ip link set va up
      nsenter -n -t $other sh -c 'ip addr add 10.10.0.2/24 dev vb; ip link set vb up; ip link set lo up
        sysctl -qw net.ipv4.ip_forward=1; ip route add 10.9.0.0/16 via 10.10.0.1'
      ip route add 10.9.0.0/16 via 10.10.0.2
    ]])
    assert.equal("EHOSTUNREACH\nEHOSTUNREACH\ticmp\ticmp:10.10.0.2\ticmp:10.9.0.2\t11\t0\n", out,
      err)
  end)

  it("says which setting forbids it", function()
    local out, err = helper.run_isolated([[
      print(require "neap.net".datagram "icmp:")
    ]]) -- the default of a new namespace: none
    assert.equal("nil\tdatagram icmp:: not permitted: this group may not ping "
      .. "(sysctl -w net.ipv4.ping_group_range='0 2147483647', ip(7) and icmp(7))\tEACCES\n",
      out, err)
  end)
end)

describe("a raw socket", function()
  it("of ICMP sends what has its checksum, and gets IPv4 with its header", function()
    local out, err = helper.run_isolated(head .. [[
      local s <close> = assert(net.datagram "raw:icmp")
      assert(s:send(echo(8, 77, 5, "hello"), "raw:127.0.0.1"))
      for _ = 1, 2 do -- our own request passes by, too
        local packet, from = assert(s:recv { timeout = 5 })
        local at = (packet:byte(1) & 15) * 4 + 1
        local kind, _, _, id, sequence, text = string.unpack(">BBI2I2I2z", packet .. "\0", at)
        print(kind, id, sequence, text, from, packet:byte(10), checksum.internet(packet:sub(at)))
      end
      local six <close> = assert(net.datagram "raw:icmpv6")
      assert(six:send("\128\0\0\0\0\77\0\5hello", "raw:[::1]")) -- here the kernel makes the checksum
      local packet, from, info = assert(six:recv { timeout = 5, info = true })
      print(packet:byte(1), packet:sub(9), from, info.to, info.ttl)
      print(checksum.internet(packet, checksum.pseudo("::1", "::1", 58, #packet)))
    ]])
    assert.equal("8\t77\t5\thello\traw:127.0.0.1\t1\t0\n0\t77\t5\thello\traw:127.0.0.1\t1\t0\n"
      .. "128\thello\traw:[::1]\traw:[::1]\t64\n0\n", out, err)
  end)

  it("with hdrincl sends the IP header it is given; checksums count", function()
    local out, err = helper.run_isolated(head .. [[
      local u <close> = assert(net.datagram "udp://127.0.0.1:0")
      local port = tonumber(u.address:match "%d+$")
      local s <close> = assert(net.datagram("raw:raw", { hdrincl = true }))
      for _, wrong in ipairs { 1, 0 } do
        local length = 8 + 5
        local zero = string.pack(">I2I2I2I2", 4242, port, length, 0) .. "hello"
        local sum = checksum.internet(zero, checksum.pseudo("127.0.0.9", "127.0.0.1", 17, length))
        local udp = string.pack(">I2I2I2I2", 4242, port, length, sum ~ wrong) .. "hello"
        local header = string.pack(">BBI2I2I2BBI2BBBBBBBB", 0x45, 0, 20 + length, 1, 0, 9, 17, 0,
          127, 0, 0, 9, 127, 0, 0, 1)
        assert(s:send(header .. udp, "raw:127.0.0.1"))
      end
      print(u:recv { timeout = 5 })
      print((select(3, u:recv { timeout = 0.05 })))
    ]])
    assert.equal("hello\tudp://127.0.0.9:4242\nETIMEDOUT\n", out, err)
  end)

  it("of any protocol and family reaches another one", function()
    local out, err = helper.run_isolated(head .. [[
      for _, case in ipairs { { "inet", "raw:127.0.0.1", 21 }, { "inet6", "raw:[::1]", 1 } } do
        local a <close> = assert(net.datagram("raw:253", { family = case[1] }))
        local b <close> = assert(net.datagram("raw:253", { family = case[1] }))
        assert(a:send("experiment", case[2]))
        local msg, from = assert(b:recv { timeout = 5 })
        print(msg:sub(case[3]), from)
        print(a:send_batch({ "one", "two" }, case[2]))
        local two = assert(b:recv_batch(8, { timeout = 5 }))
        print(two[1]:sub(case[3]), #two)
      end
      for _, address in ipairs { "raw:253", "raw:10.0.0.1" } do
        print(select(3, net.datagram(address, { promiscuous = true })))
      end
      print(select(3, net.datagram(nil, { connect = "raw:10.0.0.1" })))
      print(select(3, net.datagram("udp://127.0.0.1:0", { family = "inet" })))
    ]])
    assert.equal("experiment\traw:127.0.0.1\n2\none\t2\nexperiment\traw:[::1]\n2\none\t2\n"
      .. ("EINVAL\n"):rep(4), out, err)
  end)
end)

describe("a capture", function()
  it("has whole frames with their direction, time and type, and lets UDP be filtered", function()
    local out, err = helper.run_isolated(head .. [[
      -- IPv4 and UDP: tcpdump -dd 'ip and udp'
      local filter = { { 0x28, 0, 0, 12 }, { 0x15, 0, 3, 0x0800 }, { 0x30, 0, 0, 23 },
        { 0x15, 0, 1, 17 }, { 0x06, 0, 0, 0xffffffff }, { 0x06, 0, 0, 0 } }
      local p <close> = assert(net.datagram("packet:lo", { filter = filter, info = true }))
      local u <close> = assert(net.datagram "udp://127.0.0.1:0")
      local six <close> = assert(net.datagram "udp://[::1]:0")
      six:send("not to be seen", six.address)
      u:send("payload", u.address)
      for _, direction in ipairs { "out", "in" } do
        local frame, from, info = assert(p:recv { info = true, timeout = 5 })
        assert(info.direction == direction and info.protocol == 0x0800)
        assert(math.abs(info.time - os.time()) < 10 and info.ifindex == 1)
        print(frame:sub(43), from, #frame)
      end
      u:send(("x"):rep(1000), u.address)
      print(select(3, p:recv(100, { timeout = 5 })))
      local frame, _, info = assert(p:recv(100, { info = true, timeout = 5 }))
      print(#frame, info.truncated)
      local t = assert(net.datagram("packet:", { filter = filter }))
      u:send("again", u.address)
      local frames, froms = assert(t:recv_batch { timeout = 5 })
      print(frames[1]:sub(43), froms[1], t.address, tostring(t))
      t:close()
    ]])
    assert.equal("payload\tpacket:lo\t49\npayload\tpacket:lo\t49\nEMSGSIZE\n100\t1042\n"
      .. "again\tpacket:lo\tpacket:\tneap.datagram{packet:}\n", out, err)
  end)

  it("is for reading only, and ends with its interface", function()
    local out, err = helper.run_isolated(head .. [[
      local p <close> = assert(net.datagram("packet:va", { promiscuous = true, timeout = 5 }))
      print(p:send("x", "packet:va"))
      print(p:send_batch({ "x" }, "packet:va"))
      local d = io.popen("ip -d link show va"):read "a"
      print(d:match "promiscuity (%d)")
      os.execute "ip link del va"
      print(select(3, p:recv()))
      print(select(3, net.datagram "packet:va"))
      print(select(3, net.datagram(nil, { connect = "packet:lo" })))
    ]], "ip link add va type veth peer name vb\nip link set va up\nip link set vb up")
    local refused = "nil\tsend to packet:va: captures are for reading only\tEOPNOTSUPP\n"
    assert.equal(refused .. refused .. "1\nENETDOWN\nENODEV\nEOPNOTSUPP\n", out, err)
  end)

  it("of no valid program is refused", function()
    local out, err = helper.run_isolated(head .. [[
      for _, filter in ipairs { { { 0x28, 0, 0, 12 } }, -- without an end
        { { 0x15, 9, 9, 0 }, { 6, 0, 0, 0 } }, -- jumps past it
        { { 0xffff, 0, 0, 0 } } } do -- no such instruction
        local s, message, code = net.datagram("packet:lo", { filter = filter })
        print(s, code)
        s, message, code = net.datagram("udp://127.0.0.1:0", { filter = filter })
        print(s, code)
      end
    ]])
    assert.equal(("nil\tEINVAL\n"):rep(6), out, err)
    for i, filter in ipairs { 5, {}, { 5 }, { {} }, { { 6, 0, 0 } }, { { 6, 0, 0, -1 } },
      { { 6, 256, 0, 0 } }, { { 6, 0, 0, 1 << 32 } }, { { 6.5, 0, 0, 0 } },
      { { "6", 0, 0, 0 } } } do
      local ok, message = pcall(net.datagram, "packet:lo", { filter = filter })
      assert.is_false(ok, i)
      assert.matches("filter", message)
    end
    local long = {}
    for i = 1, 4097 do long[i] = { 6, 0, 0, 0 } end
    assert.is_false(pcall(net.datagram, "packet:lo", { filter = long }))
  end)

  it("and a raw socket name the capability that is missing", function()
    local script = helper.write_file(helper.tmpdir() .. "/s.lua", [[
      local net = require "neap.net"
      print(net.datagram "packet:lo")
      print(net.datagram "raw:icmp")
    ]])
    -- root of a user namespace, but of no network
    local out, err = helper.run("exec unshare -Ur " .. helper.quote(helper.neap) .. " " .. script)
    local cure = "not permitted: needs CAP_NET_RAW (be root, or setcap cap_net_raw+ep neap)"
    assert.equal(("nil\tdatagram packet:lo: %s\tEPERM\nnil\tdatagram raw:icmp: %s\tEPERM\n")
      :format(cure, cure), out, err)
  end)
end)

describe("a filter on a UDP socket", function()
  it("lets pass what it accepts", function()
    -- the eighth byte and on is the payload: only what begins with 'y'
    local filter = { { 0x30, 0, 0, 8 }, { 0x15, 0, 1, ("y"):byte() }, { 6, 0, 0, 0xffff },
      { 6, 0, 0, 0 } }
    local s <close> = assert(net.datagram("udp://127.0.0.1:0", { filter = filter }))
    local c <close> = assert(net.datagram(nil, { connect = s.address }))
    for _, msg in ipairs { "no", "yes", "nay", "yea" } do assert(c:send(msg)) end
    assert.equal("yes", (s:recv { timeout = 5 }))
    assert.equal("yea", (s:recv { timeout = 5 }))
  end)
end)
