-- Addresses: what parses, what does not and why, and that every printed address parses to itself.

local codec = require "neap.codec.core"

describe("addresses", function()
  it("are taken apart", function()
    for _, row in ipairs {
      { "tcp://example.org:80", "tcp", "example.org", 80, false },
      { "udp://example.org.:65535", "udp", "example.org.", 65535, false },
      { "tls://[::1]:443", "tls", "::1", 443, true },
      { ":8080", "tcp", "", 8080, true },
      { "localhost:0", "tcp", "localhost", 0, false },
      { "127.0.0.1:1", "tcp", "127.0.0.1", 1, true },
      { "[fe80::1%eth0]:5", "tcp", "fe80::1%eth0", 5, true },
      { "tcp://:80", "tcp", "", 80, true },
      { "tcp:80", "tcp", "tcp", 80, false }, -- a host of that name: schemes end in "://"
      { "bücher.example:80", "tcp", "bücher.example", 80, false },
      { "a-b_c.d:00080", "tcp", "a-b_c.d", 80, false },
      { "1.2.3.4.example:1", "tcp", "1.2.3.4.example", 1, false },
      { "unix:/run/x", "unix", "/run/x", nil, false },
      { "unix:x:80", "unix", "x:80", nil, false },
      { "unix:@name", "unix", "@name", nil, false },
      { "unix:@a\0b", "unix", "@a\0b", nil, false },
      { "unix:", "unix", "", nil, false }, -- unnamed
      { "unix-dgram:/x", "unix-dgram", "/x", nil, false },
      { "unix-seqpacket:@x", "unix-seqpacket", "@x", nil, false },
      { "raw:icmp", "raw", "icmp", 1, true },
      { "icmp:", "icmp", "", nil, true },
      { "icmp:10.0.0.1", "icmp", "10.0.0.1", nil, true },
      { "icmp:[::1]", "icmp", "::1", nil, true },
      { "icmp:router.example", "icmp", "router.example", nil, false },
      { "packet:eth0.7", "packet", "eth0.7", nil, true },
      { "packet:", "packet", "", nil, true }, -- all interfaces
      { "raw:icmpv6", "raw", "icmpv6", 58, true },
      { "raw:255", "raw", "255", 255, true },
      { "raw:10.0.0.1", "raw", "10.0.0.1", nil, true },
      { "raw:[::1]", "raw", "::1", nil, true },
      { "fd:3", "fd", "3", 3, false },
      { "systemd:web-1", "systemd", "web-1", nil, false },
      { "mem:anything at all", "mem", "anything at all", nil, false },
    } do
      local a, message = codec.address(row[1])
      assert.truthy(a, message)
      assert.same({ scheme = row[2], host = row[3], port = row[4], literal = row[5] }, a, row[1])
    end
  end)

  it("without a scheme take the default", function()
    assert.equal("udp", codec.address(":53", "udp").scheme)
    assert.equal("unix-dgram", codec.address("/run/log", "unix-dgram").scheme)
    assert.equal("tcp", codec.address("tcp://:53", "udp").scheme)
    assert.has_error(function() codec.address(":53", "sctp") end)
  end)

  it("that do not parse say which part", function()
    for _, row in ipairs {
      { "", "port is missing" },
      { "host", "port is missing" },
      { "host:", "port is missing" },
      { "[::1]", "port is missing" },
      { "host:x", "port is not a number" },
      { "host:-1", "port is not a number" },
      { "host:+1", "port is not a number" },
      { "host: 1", "port is not a number" },
      { "host:65536", "port is not a number" },
      { "host:99999999999999999999", "port is not a number" },
      { "host:80/", "port is not a number" },
      { "host:8\0000", "port is not a number" },
      { "http://host:80", "unknown scheme" },
      { "TCP://host:80", "unknown scheme" }, -- schemes are lower case
      { "://host:80", "unknown scheme" },
      { "::1:80", "more than one ':'" }, -- IPv6 without brackets
      { "[::1:80", "'[' without ']'" },
      { "[::1]80", "not followed by ':'" },
      { "[::g]:80", "not an IPv6 address" },
      { "[127.0.0.1]:80", "not an IPv6 address" },
      { "[]:80", "not an IPv6 address" },
      { "[::1\0]:80", "not an IPv6 address" },
      { "[fe80::1%]:80", "scope is not" },
      { "[fe80::1%an-interface-name-too-long]:80", "scope is not" },
      { "ho st:80", "blank or control byte" },
      { "ho\0st:80", "blank or control byte" },
      { "user@host:80", "character that no name has" },
      { "host/path:80", "character that no name has" },
      { ("x"):rep(256) .. ":80", "longer than 255" },
      { "256.0.0.1:80", "looks like an IPv4 address" },
      { "127.1:80", "looks like an IPv4 address" }, -- resolvers disagree on these
      { "0x7f000001:80", "looks like an IPv4 address" },
      { "1.2.3.4.5:80", "looks like an IPv4 address" },
      { "127.0.0.1.:80", "looks like an IPv4 address" },
      { "unix:/a\0b", "zero byte" },
      { "raw:nonsense", "not a protocol" },
      { "raw:256", "not a protocol" },
      { "raw:", "not a protocol" },
      { "icmp:10.0.0.1:7", "more than one ':'" }, -- no ports
      { "icmp:[::1]:7", "nothing can follow" },
      { "icmp:[::1", "nothing can follow" },
      { "icmp:10.0.0", "looks like an IPv4 address" },
      { "packet:" .. ("x"):rep(16), "not an interface" },
      { "packet:a b", "not an interface" },
      { "fd:", "not a number" },
      { "fd:-1", "not a number" },
      { "fd:2147483648", "not a number" },
      { "systemd:", "name is missing" },
      { "systemd:a:b", "contains ':'" }, -- LISTEN_FDNAMES is a list with colons
      { "mem:", "name is missing" },
    } do
      local a, message, code = codec.address(row[1])
      assert.is_nil(a, row[1])
      assert.equal("EINVAL", code)
      assert.truthy(message:find(row[2], 1, true), ("%q: %s"):format(row[1], message))
    end
  end)

  it("print in one way, which parses to itself", function()
    for _, row in ipairs {
      { ":80", "tcp://0.0.0.0:80" },
      { "tcp://127.0.0.1:00", "tcp://127.0.0.1:0" },
      { "udp://[0:0::1]:53", "udp://[::1]:53" },
      { "tls://[::FFFF:1.2.3.4]:443", "tls://[::ffff:1.2.3.4]:443" }, -- IPv4 on an IPv6 socket
      { "[fe80::1%lo]:1", "tcp://[fe80::1%lo]:1" },
      { "[fe80::1%1]:1", "tcp://[fe80::1%lo]:1" },
      { "[fe80::1%4000000000]:1", "tcp://[fe80::1%4000000000]:1" }, -- no interface has it
      { "unix:", "unix:" },
      { "unix:/run/x", "unix:/run/x" },
      { "unix:relative \1", "unix:relative \1" },
      { "unix:./@x", "unix:./@x" },
      { "unix:@name", "unix:@name" },
      { "unix:@", "unix:@" }, -- the empty abstract name
      { "unix:@a\0b c\255", "unix:@a%00b%20c%ff" },
      { "unix:@%41%4", "unix:@A%254" }, -- %HH is a byte, another % is itself
      { "unix-dgram:@" .. ("\1"):rep(107), "unix-dgram:@" .. ("%01"):rep(107) },
      { "unix-seqpacket:/" .. ("x"):rep(107), "unix-seqpacket:/" .. ("x"):rep(107) },
      { "raw:10.0.0.1", "raw:10.0.0.1" },
      { "raw:[::1]", "raw:[::1]" },
      { "raw:icmp", "raw:0.0.0.0" },
      { "icmp:", "icmp:0.0.0.0" },
      { "icmp:[0::1]", "icmp:[::1]" },
      { "packet:", "packet:" },
      { "packet:1", "packet:lo" },
      { "packet:4000000", "packet:4000000" }, -- no interface has it
      { "raw:icmpv6", "raw:[::]" },
    } do
      local text, message = codec.canonical(row[1])
      assert.equal(row[2], text, message)
      assert.equal(text, codec.canonical(text))
    end
    assert.equal("tcp://[::]:80", codec.canonical(":80", "tcp", true))
    assert.equal("tcp://0.0.0.0:80", codec.canonical("0.0.0.0:80", "tcp", true))
  end)

  it("without a socket address say so", function()
    for _, row in ipairs {
      { "localhost:80", "EINVAL" }, -- needs a lookup
      { "mem:x", "EINVAL" },
      { "fd:1", "EINVAL" },
      { "systemd:x", "EINVAL" },
      { "[fe80::1%nosuchif0]:80", "ENODEV" },
      { "unix:/" .. ("x"):rep(108), "ENAMETOOLONG" }, -- sun_path has 108 bytes
      { "unix:@" .. ("x"):rep(108), "ENAMETOOLONG" },
    } do
      local text, message, code = codec.canonical(row[1])
      assert.is_nil(text)
      assert.equal(row[2], code, message)
    end
  end)
end)
