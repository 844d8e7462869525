-- dns.resolve and resolvers: against knotd and dnsmasq, dns.serve, and servers that refuse, lie,
-- are silent or answer what zzuf makes of an answer; names for connecting by c-ares.

local certs = require "spec.support.certs"
local dns = require "neap.dns"
local helper = require "spec.support.helper"
local neap = require "neap"
local lfs = require "lfs"
local net = require "neap.net"

local codec = dns.codec
local user = (helper.run "id -un"):match "%S+"
local soa = { type = "SOA", mname = "ns", rname = "admin", serial = 1, refresh = 2, retry = 3,
  expire = 4, minimum = 60 }

local function serve(...) return dns.serve("127.0.0.1:0", dns.zone("example.org", { soa, ... })) end

local function by(s, opts)
  opts = opts or {}
  opts.servers = type(s) == "string" and s or s.address
  opts.timeout = opts.timeout or 5 * helper.slow
  return opts
end

-- The descriptors of this process.
local function descriptors()
  local n = 0
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

local a_record = { name = "a", type = "A", address = "10.0.0.1" }

-- A UDP server in this process: handler(query, bytes) returns the bytes to send, or nil.
local function server(handler)
  local socket = assert(net.datagram "udp://127.0.0.1:0")
  helper.after(function() socket:close() end)
  neap.spawn(function()
    while true do
      local bytes, from = socket:recv()
      if not bytes then return end
      for _, out in ipairs { handler(assert(codec.decode(bytes)), bytes) } do
        socket:send(out, from)
      end
    end
  end)
  return socket
end

describe("dns.resolve", function()
  it("gives records, of what aliases lead to, over UDP and TCP", function()
    local s <close> = serve(a_record, { name = "www", type = "CNAME", target = "a" },
      { type = "MX", preference = 10, exchange = "a" })
    for _, tcp in ipairs { false, true } do
      local list, reply = dns.resolve("WWW.example.org", nil, by(s, { tcp = tcp }))
      assert.equal(1, #list)
      assert.equal("10.0.0.1", list[1].address)
      assert.equal("a.example.org", list[1].name)
      assert.equal(2, #reply.answers)
      list = dns.resolve("example.org", "MX", by(s, { tcp = tcp }))
      assert.same({ name = "example.org", type = "MX", class = "IN", ttl = 3600, preference = 10,
        exchange = "a.example.org" }, list[1])
      local alias = dns.resolve("www.example.org", "CNAME", by(s, { tcp = tcp }))
      assert.equal("a.example.org", alias[1].target)
    end
  end)

  it("tells a missing name from missing records, and what servers refuse", function()
    local s <close> = serve(a_record)
    local list, message, code, reply = dns.resolve("b.example.org", "A", by(s))
    assert.is_nil(list)
    assert.equal("resolve b.example.org A: NXDOMAIN", message)
    assert.equal("NXDOMAIN", code)
    assert.equal("SOA", reply.authority[1].type)
    list, message, code, reply = dns.resolve("a.example.org", "MX", by(s))
    assert.is_nil(list)
    assert.equal("resolve a.example.org MX: no such records", message)
    assert.equal("NODATA", code)
    assert.equal("NOERROR", reply.rcode)
    for _, tcp in ipairs { false, true } do
      assert.equal("REFUSED", (select(3, dns.resolve("a.net", "A", by(s, { tcp = tcp })))))
    end
    for _, rcode in ipairs { "SERVFAIL", "NOTIMP", "YXDOMAIN", "RCODE11" } do
      local other = server(function(q) return (codec.encode(codec.reply(q, rcode))) end)
      assert.equal(rcode, (select(3, dns.resolve("a", "A", by(other.address)))))
    end
  end)

  it("comes back over TCP for what a datagram cannot carry", function()
    local text, seen = ("x"):rep(20000), {}
    local z = dns.zone("example.org", { soa, { name = "long", type = "TXT", strings = text } })
    local s <close> = dns.serve("127.0.0.1:0", function(q, info)
      seen[#seen + 1] = info.tcp and "tcp" or "udp"
      assert.equal(1232, q.edns.size)
      return z(q)
    end)
    local list = assert(dns.resolve("long.example.org", "TXT", by(s)))
    assert.equal(text, table.concat(list[1].strings))
    assert.same({ "udp", "tcp" }, seen)
  end)

  it("goes on to the next server after silence and failure", function()
    local s <close> = serve(a_record)
    local silent = server(function() end)
    local failing = server(function(q) return (codec.encode(codec.reply(q, "SERVFAIL"))) end)
    for _, first in ipairs { silent.address, failing.address, "127.0.0.1:1" } do
      local opts = { servers = { first, s.address }, timeout = 2 * helper.slow }
      assert.equal("10.0.0.1", assert(dns.resolve("a.example.org", "A", opts))[1].address)
    end
  end)

  it("asks again when a datagram was lost, and gives up at its deadline", function()
    local count = 0
    local s = server(function(q)
      count = count + 1
      if count > 1 then
        local reply = codec.reply(q)
        reply.answers = { { name = "a", type = "A", address = "10.0.0.1" } }
        return (codec.encode(reply))
      end
    end)
    assert(dns.resolve("a", "A", by(s.address, { timeout = 1 * helper.slow })))
    assert.equal(2, count)
    local silent = server(function() end)
    for _, opts in ipairs { { timeout = 0.2 }, { timeout = 5, scope = 0.2 } } do
      local begun = neap.now()
      local scope <close> = neap.deadline(opts.scope or 60)
      local none, message, code = dns.resolve("a", "A", by(silent.address,
        { timeout = opts.timeout }))
      assert.is_nil(none)
      assert.equal("resolve a A: timed out", message)
      assert.equal("ETIMEDOUT", code)
      assert.truthy(neap.now() - begun >= 0.19 and neap.now() - begun < 0.2 + helper.slow)
      assert.truthy(scope)
    end
    local begun = neap.now() -- one try ends before the deadline
    assert.equal("ETIMEDOUT",
      (select(3, dns.resolve("a", "A", { servers = silent.address, tries = 1, timeout = 0.3 }))))
    assert.truthy(neap.now() - begun < 0.3 + helper.slow)
    assert.equal("ECONNREFUSED",
      (select(3, dns.resolve("a", "A", by("127.0.0.1:1", { tries = 1 })))))
  end)

  it("believes only what answers the question, and only records that belong to it", function()
    local s = server(function(q, bytes)
      local function reply(change)
        local m = codec.reply(q)
        m.answers = { { name = "a", type = "A", address = "6.6.6.6" } }
        for k, v in pairs(change) do m[k] = v end
        return (codec.encode(m))
      end
      return "short", bytes, reply { id = q.id ~ 1 },
        reply { questions = { { name = "b", type = "A" } } }, reply { answers = {
          { name = "other", type = "A", address = "6.6.6.6" },
          { name = "b", type = "A", address = "10.0.0.1" },
          { name = "a", type = "CNAME", target = "B" }, { name = "a", type = "MX",
            preference = 1, exchange = "c" }, { name = "b", type = "CNAME", target = "a" } } }
    end)
    local list = assert(dns.resolve("a", "A", by(s.address)))
    assert.equal(1, #list)
    assert.equal("10.0.0.1", list[1].address)
    assert.equal("b", list[1].name)
  end)

  it("leaves EDNS out for servers that do not know it, several times", function()
    local with = 0
    local s = server(function(q)
      if q.edns then with = with + 1 end
      local reply = codec.reply(q, q.edns and "FORMERR" or "NOERROR")
      reply.edns = nil
      if not q.edns then
        reply.answers = { { name = q.questions[1].name, type = "A", address = "10.0.0.1" } }
      end
      return (codec.encode(reply))
    end)
    local r <close> = assert(dns.resolver(by(s.address)))
    for i = 1, 3 do assert.equal("10.0.0.1", assert(r:resolve("a" .. i))[1].address) end
    assert.truthy(with >= 1)
    with = 0
    assert(dns.resolve("a", "A", by(s.address, { edns = false })))
    assert.equal(0, with)
  end)

  it("gives a code for answers that are none", function()
    local name = "\1a\0\0\1\0\1"
    for i, tail in ipairs {
      "", -- the record it promises is missing
      "\192\12\0\1\0\1\0\0\0\9\0\9\1\2\3\4", -- longer than it is
      "\192\12\0\1\0\1\0\0\0\9\255\255\1\2\3\4", "\192\12\0\1\0\1\0\0\0\9\0\3\1\2\3",
      "\192\30\0\1\0\1\0\0\0\9\0\4\1\2\3\4", -- points ahead
      "\192\19\0\1\0\1\0\0\0\9\0\4\1\2\3\4", -- and at itself
    } do
      local s = server(function(_, bytes)
        return bytes:sub(1, 2) .. "\x81\x80\0\1\0\1\0\0\0\0" .. name .. tail
      end)
      assert.equal("EBADMSG", (select(3, dns.resolve("a", "A", by(s.address)))), "case " .. i)
    end
  end)

  it("gives a code for streams that lie or end", function()
    local tail = "\x83\x80\0\1\0\0\0\0\0\0\1a\0\0\1\0\1" -- TC is set, no records
    local function head(q) return string.pack(">I2", q.id) .. tail end
    for i, answer in ipairs {
      function(c) c:close() end,
      function(c) c:abort() end,
      function(c) c:write("\0\0") end,
      function(c) c:write("\0\3abc") end,
      function(c) c:write("\255\255abc") end,
      function(c) c:write("\0") end,
      function(c, q) c:write(string.pack(">s2", head(q))) end, -- cut again, over TCP
      function(c, q) c:write(string.pack(">s2", head(q):sub(1, 14))) end,
      function(c, q) c:write(string.pack(">I2", 4096), head(q), ("\0"):rep(5000)) end,
    } do
      local listener, socket
      repeat -- one port for both
        listener = assert(net.listen "127.0.0.1:0")
        socket = net.datagram("udp://" .. listener.address:match "//(.*)")
        if not socket then listener:close() end
      until socket
      local _ <close> = socket
      local _ <close> = listener
      local function udp()
        while true do
          local bytes, from = socket:recv()
          if not bytes then return end
          socket:send(head(codec.decode(bytes)), from)
        end
      end
      local function tcp()
        for c in listener:accepts() do
          local bytes = c:unpack(">s2", { timeout = 5 })
          if bytes then answer(c, codec.decode(bytes)) end
          c:close()
        end
      end
      local tasks = { neap.spawn(udp), neap.spawn(tcp) }
      local list, _, code = dns.resolve("a", "A", { servers = listener.address:match "//(.*)",
        timeout = 0.3 * math.min(helper.slow, 5), tries = 1 })
      assert.is_nil(list, "case " .. i)
      assert.truthy(({ EBADMSG = 1, ECONNREFUSED = 1, ETIMEDOUT = 1, NODATA = 1 })[code],
        ("case %d: %s"):format(i, code))
      for _, t in ipairs(tasks) do t:cancel() t:join() end
    end
  end)

  it("lives with what zzuf makes of answers", function()
    local reply = codec.reply { id = 7, questions = { { name = "a", type = "ANY" } } }
    reply.answers = { { name = "a", type = "A", address = "10.0.0.1" },
      { name = "a", type = "TXT", strings = ("text"):rep(20) },
      { name = "a", type = "MX", preference = 1, exchange = "mail.a" } }
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/answer", (codec.encode(reply)))
    -- the header and the question stay, or nobody would read the rest
    local loop = "cd %s && for i in $(seq 1 60);"
      .. " do zzuf -s $i -r 0.02 -b 19- <answer >a$i || exit 1; done"
    assert.equal(0, (select(3, helper.run(loop:format(dir)))))
    local i, good = 0, 0
    local s = server(function(q)
      return string.pack(">I2", q.id) .. helper.read_file(dir .. "/a" .. i):sub(3)
    end)
    local r <close> = assert(dns.resolver(by(s.address, { edns = false })))
    for n = 1, 60 do
      i = n
      local list, _, code = r:resolve("a", "ANY")
      if list then good = good + 1
      else assert.truthy(code == "EBADMSG" or code == "NODATA", code) end
    end
    assert.truthy(good > 0 and good < 60, good .. " good ones")
  end)

  it("tells what is wrong with arguments, at the caller's line", function()
    for i, f in ipairs {
      function() dns.resolve() end, function() dns.resolve("a", 5) end,
      function() dns.resolve("a", "A", 5) end,
      function() dns.resolve("a", "A", { server = "x" }) end,
      function() dns.resolve("a", "A", { servers = "localhost" }) end,
      function() dns.resolve("a", "A", { servers = {} }) end,
      function() dns.resolve("a", "A", { servers = { 5 } }) end,
      function() dns.resolve("a", "A", { timeout = -1 }) end,
      function() dns.resolve("a", "A", { tries = 0 }) end,
      function() dns.resolver(5) end, function() dns.resolver { tries = 11 } end,
      function() dns.reverse(5) end,
      function() net.connect("a:1", { resolver = "other" }) end,
      function() net.resolve("a", { resolver = 5 }) end,
    } do
      local ok, message = pcall(f)
      assert.is_false(ok, "case " .. i)
      assert.matches("dns_resolve_spec.lua:%d+: bad argument", message, "case " .. i)
    end
    assert.equal("EINVAL", (select(3, dns.resolve("a..b"))))
    assert.equal("EINVAL", (select(3, dns.resolve("a", "NONSENSE"))))
    assert.equal("EINVAL", (select(3, dns.reverse "10.0.0")))
  end)
end)

describe("a resolver", function()
  it("carries many questions at once", function()
    local waiting, most = 0, 0
    local s <close> = dns.serve("127.0.0.1:0", { tasks = 200 }, function(q)
      waiting = waiting + 1
      most = math.max(most, waiting)
      neap.sleep(0.2)
      waiting = waiting - 1
      local reply = dns.reply(q)
      local n = tonumber(q.questions[1].name:match "%d+")
      reply.answers = { { name = q.questions[1].name, type = "A", address = "10.0.0." .. n } }
      return reply
    end)
    local count, begun = helper.hard and 20 or 200, neap.now()
    local r <close> = assert(dns.resolver(by(s, { timeout = 10 * helper.slow })))
    local right = 0
    neap.group(function(g)
      for i = 1, count do
        g:spawn(function()
          local list = assert(r:resolve("h" .. i))
          if list[1].address == "10.0.0." .. i then right = right + 1 end
        end)
      end
    end)
    assert.equal(count, right)
    assert.truthy(most > count / 2, most .. " at once")
    assert.truthy(neap.now() - begun < 3 * helper.slow)
  end)

  it("forgets one question and answers the others", function()
    local s <close> = dns.serve("127.0.0.1:0", function(q)
      neap.sleep(0.2)
      local reply = dns.reply(q)
      reply.answers = { { name = q.questions[1].name, type = "A", address = "10.0.0.1" } }
      return reply
    end)
    local r <close> = assert(dns.resolver(by(s)))
    local kept = neap.spawn(function() return r:resolve "kept" end)
    local lost = neap.spawn(function() return r:resolve "lost" end)
    neap.sleep(0.05)
    lost:cancel()
    local ok, list = kept:join()
    assert.is_true(ok)
    assert.equal("10.0.0.1", list[1].address)
    assert.is_false((lost:join()))
    -- and the last one: nothing is left of it, its socket included
    local sockets = descriptors()
    local last = neap.spawn(function() return r:resolve "last" end)
    neap.sleep(0.05)
    assert.truthy(descriptors() > sockets)
    last:cancel()
    last:join()
    assert.equal(sockets, descriptors())
  end)

  it("ends its questions when it is closed, and takes no more", function()
    local silent = server(function() end)
    local r = assert(dns.resolver(by(silent.address)))
    local task = neap.spawn(function() return r:resolve "a" end)
    neap.yield()
    assert.is_true(r:close())
    local _, none, message, code = task:join()
    assert.is_nil(none)
    assert.equal("resolve a A: closed", message)
    assert.equal("ECANCELED", code)
    assert.equal("ECANCELED", (select(3, r:resolve "a")))
    assert.equal("ECANCELED", (select(3, net.resolve("a", { resolver = r }))))
    assert.is_true(r:close())
    assert.matches("closed", tostring(r))
  end)

  it("says what is waited for", function()
    local silent = server(function() end)
    local r <close> = assert(dns.resolver(by(silent.address)))
    local task = neap.spawn(function() return r:resolve("a", "MX") end)
    neap.sleep(0.01)
    local found
    for _, t in ipairs(neap.tasks()) do
      if t.task == task then found = t.waiting end
    end
    local place = silent.address:gsub("^udp://", "")
    assert.equal(("DNS answer from %s: a MX"):format(place), found)
    task:cancel()
    task:join()
  end)

  it("warns when it is collected open", function()
    local out, err = helper.run_script [[
      require("neap.dns").resolver { servers = "127.0.0.1" }
      collectgarbage() collectgarbage()
      print "done"
    ]]
    assert.equal("done\n", out)
    local warning = "resolver 127.0.0.1:53 was collected without close %(made at .*script.lua:1%)"
    assert.matches(warning, err)
  end)

  it("gives the names of an address", function()
    local asked = {}
    local s = server(function(q)
      asked[#asked + 1] = q.questions[1].name .. " " .. q.questions[1].type
      local reply = codec.reply(q)
      reply.answers = { { name = q.questions[1].name, type = "PTR", target = "a.example.org" } }
      return (codec.encode(reply))
    end)
    assert.same({ "a.example.org" }, (dns.reverse("192.0.2.1", by(s.address))))
    local r <close> = assert(dns.resolver(by(s.address)))
    assert.same({ "a.example.org" }, (r:reverse "2001:db8::1f"))
    assert.same({ "1.2.0.192.in-addr.arpa PTR",
      "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR" }, asked)
  end)
end)

describe("names for connecting, by c-ares", function()
  it("are looked up by a resolver, both families", function()
    local s <close> = serve({ name = "a", type = "A", address = "127.0.0.1" },
      { name = "both", type = "A", address = "127.0.0.1" },
      { name = "both", type = "AAAA", address = "::1" })
    local r <close> = assert(dns.resolver(by(s)))
    assert.same({ "127.0.0.1" }, net.resolve("a.example.org", { resolver = r }))
    local both = net.resolve("both.example.org:80", { resolver = r })
    table.sort(both)
    assert.same({ "tcp://127.0.0.1:80", "tcp://[::1]:80" }, both)
    assert.same({ "::1" }, net.resolve("both.example.org", { resolver = r, family = "inet6" }))
    assert.equal("ENOTFOUND", (select(3, net.resolve("b.example.org", { resolver = r }))))
    local l <close> = assert(net.listen "127.0.0.1:0")
    local port = l.address:match ":(%d+)$"
    local c <close> = assert(net.connect("a.example.org:" .. port, { resolver = r }))
    assert.equal(l.address, c.peer)
    assert.same({ "127.0.0.1" }, net.resolve("127.0.0.1", { resolver = "c-ares" }))
    assert.same({ "::1", "127.0.0.1" }, net.resolve("localhost", { resolver = "c-ares" }))
    assert.truthy(net.resolve("localhost", { resolver = "system" }))
  end)

  it("are those that TLS asks for and checks", function()
    local s <close> = dns.serve("127.0.0.1:0", dns.zone("example.test", { soa,
      { name = "a", type = "A", address = "127.0.0.1" } }))
    local r <close> = assert(dns.resolver(by(s)))
    local named
    local served = net.serve("tls://127.0.0.1:0", certs.server { log = function() end },
      function(c)
        named = c.tls.name
        c:write "hello\n"
      end)
    helper.after(function() served:stop(0) end)
    local port = served.address:match ":(%d+)$"
    local opts = certs.client { resolver = r, timeout = 10 * helper.slow }
    local c <close> = assert(net.connect("tls://a.example.test:" .. port, opts))
    assert.equal("hello", c:read())
    assert.equal("a.example.test", named)
    assert.equal("ENOTFOUND", (select(3, net.connect("tls://b.example.test:" .. port, opts))))
    opts.resolver = "c-ares"
    local d <close> = assert(net.connect("tls://localhost:" .. port, opts))
    assert.equal("hello", d:read())
  end)

  it("are looked up any number at once", function()
    local waiting, most = 0, 0
    local s <close> = dns.serve("127.0.0.1:0", { tasks = 200 }, function(q)
      waiting = waiting + 1
      most = math.max(most, waiting)
      neap.sleep(0.2)
      waiting = waiting - 1
      local reply = dns.reply(q)
      local name = q.questions[1].name
      reply.answers = { { name = name, type = "A", address = "10.0.0." .. name:match "%d+" } }
      return reply
    end)
    local r <close> = assert(dns.resolver(by(s, { timeout = 10 * helper.slow })))
    local count, right = helper.hard and 20 or 100, 0
    neap.group(function(g)
      for i = 1, count do
        g:spawn(function()
          local list = assert(net.resolve("h" .. i, { resolver = r, family = "inet" }))
          if list[1] == "10.0.0." .. i then right = right + 1 end
        end)
      end
    end)
    assert.equal(count, right)
    assert.truthy(most > 8 and most > count / 2, most .. " at once")
  end)

  it("are cancelled and time out", function()
    local silent = server(function() end)
    local r <close> = assert(dns.resolver(by(silent.address)))
    local _, message, code = net.connect("a:80", { resolver = r, timeout = 0.1 })
    assert.equal("ETIMEDOUT", code)
    assert.matches("looking the name up", message)
    local task = neap.spawn(function() return net.resolve("a", { resolver = r }) end)
    neap.sleep(0.01)
    task:cancel()
    assert.is_false((task:join()))
    local none, _, why = dns.resolver { servers = silent.address, timeout = 0.2, tries = 1 }
    assert.truthy(none, why)
    local other <close> = none
    assert.equal("EAI_AGAIN", (select(3, net.resolve("a", { resolver = other }))))
  end)

  -- In namespaces of its own: port 53, /etc/hosts and resolv.conf.
  it("follow /etc/hosts and resolv.conf, also when that changes", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/hosts", "10.9.8.7 from-hosts\n")
    helper.write_file(dir .. "/resolv.conf", "nameserver 127.0.0.1\nsearch example.org\n")
    local script = helper.write_file(dir .. "/script.lua", ([[
      local dns, net, neap = require "neap.dns", require "neap.net", require "neap"
      local soa = { type = "SOA", mname = "ns", rname = "admin", serial = 1, refresh = 2, retry = 3,
        expire = 4, minimum = 60 }
      local function serve(place, address)
        return dns.serve(place, dns.zone("example.org",
          { soa, { name = "a", type = "A", address = address } }))
      end
      local one <close> = serve("127.0.0.1:53", "10.0.0.1")
      local two <close> = serve("127.0.0.2:53", "10.0.0.2")
      local o = { resolver = "c-ares", timeout = %d }
      print(net.resolve("from-hosts", o)[1])
      print(assert(net.resolve("a", o))[1]) -- by the search domain
      print(assert(dns.resolve "a.example.org")[1].address)
      print((select(3, dns.resolve "a"))) -- whole names only
      local kept <close> = assert(dns.resolver())
      local f = assert(io.open("%s/resolv.conf", "w"))
      f:write "nameserver 127.0.0.2\n"
      f:close()
      print(assert(dns.resolve "a.example.org")[1].address)
      print(assert(kept:resolve "a.example.org")[1].address)
    ]]):format(10 * helper.slow, dir))
    local inner = ("mount --bind %s/hosts /etc/hosts"
      .. " && mount --bind %s/resolv.conf /etc/resolv.conf && ip link set lo up"
      .. " && exec %s %s"):format(dir, dir, helper.neap, script)
    local out, err = helper.run("unshare -Urmn sh -c " .. helper.quote(inner))
    assert.equal("10.9.8.7\n10.0.0.1\n10.0.0.1\nREFUSED\n10.0.0.2\n10.0.0.1\n", out, err)
  end)
end)

describe("real servers", function()
  local zone_file = [[
$ORIGIN example.org.
$TTL 3600
@ SOA ns admin 7 3600 600 86400 60
@ NS ns
@ MX 10 mail
@ CAA 0 issue "ca.example.net"
@ TXT "first" "second"
ns A 192.0.2.53
host A 192.0.2.80
host AAAA 2001:db8::80
www CNAME host
_http._tcp SRV 1 5 80 host
long TXT %s
]]

  it("knotd's records, each type", function()
    local dir = helper.tmpdir()
    local strings = {}
    for i = 1, 40 do strings[i] = ('"%s"'):format(("text %02d "):format(i):rep(20)) end
    helper.write_file(dir .. "/example.org.zone", zone_file:format(table.concat(strings, " ")))
    local free <close> = assert(net.listen "127.0.0.1:0")
    local port = free.address:match ":(%d+)$"
    free:close() -- knotd cannot say which port it was given
    helper.write_file(dir .. "/conf", ([[
server:
  listen: 127.0.0.1@%s
  rundir: %s
  user: "%s"
database:
  storage: %s
log:
  - target: stderr
    any: info
zone:
  - domain: example.org
    storage: %s
    file: example.org.zone
    zonefile-load: whole
    journal-content: none
]]):format(port, dir, user, dir, dir))
    local p = helper.start(("exec knotd -c %s/conf"):format(dir))
    p:expect "server started in the foreground"
    local r <close> = assert(dns.resolver(by("127.0.0.1:" .. port)))
    local function one(name, kind)
      local list = assert(r:resolve(name, kind))
      assert.equal(1, #list)
      local rr = list[1]
      rr.class, rr.ttl, rr.type, rr.name = nil, nil, nil, nil
      return rr
    end
    assert.truthy(helper.wait_until(function() return (r:resolve("example.org", "SOA")) end))
    assert.same({ address = "192.0.2.80" }, one("host.example.org", "A"))
    assert.same({ address = "192.0.2.80" }, one("www.example.org", "A"))
    assert.same({ address = "2001:db8::80" }, one("www.example.org", "AAAA"))
    assert.same({ target = "host.example.org" }, one("www.example.org", "CNAME"))
    assert.same({ target = "ns.example.org" }, one("example.org", "NS"))
    assert.same({ preference = 10, exchange = "mail.example.org" }, one("example.org", "MX"))
    assert.same({ flags = 0, tag = "issue", value = "ca.example.net" }, one("example.org", "CAA"))
    assert.same({ strings = { "first", "second" } }, one("example.org", "TXT"))
    assert.same({ priority = 1, weight = 5, port = 80, target = "host.example.org" },
      one("_http._tcp.example.org", "SRV"))
    assert.same({ mname = "ns.example.org", rname = "admin.example.org", serial = 7, refresh = 3600,
      retry = 600, expire = 86400, minimum = 60 }, one("example.org", "SOA"))
    assert.equal(40, #one("long.example.org", "TXT").strings) -- over TCP
    assert.equal("NXDOMAIN", (select(3, r:resolve "gone.example.org")))
    assert.equal("NODATA", (select(3, r:resolve("host.example.org", "MX"))))
    assert.equal("REFUSED", (select(3, r:resolve "example.net")))
  end)

  it("dnsmasq's, which forwards to nobody", function()
    local free <close> = assert(net.listen "127.0.0.1:0")
    local port = free.address:match ":(%d+)$"
    free:close()
    helper.start(("exec dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts "
      .. "--listen-address=127.0.0.1 --bind-interfaces --port=%s --user=%s --pid-file= "
      .. "--host-record=a.test,192.0.2.1,2001:db8::1 --ptr-record=9.2.0.192.in-addr.arpa,nine.test "
      .. "--log-facility=-"):format(port, user))
    local r <close> = assert(dns.resolver(by("127.0.0.1:" .. port)))
    assert.truthy(helper.wait_until(function() return (r:resolve "a.test") end))
    assert.equal("2001:db8::1", r:resolve("a.test", "AAAA")[1].address)
    assert.same({ "a.test" }, (r:reverse "192.0.2.1"))
    assert.same({ "nine.test" }, (r:reverse "192.0.2.9"))
    assert.equal(2, #net.resolve("a.test", { resolver = r }))
    assert.equal("REFUSED", (select(3, r:resolve "elsewhere.example")))
  end)
end)

describe("the example dig", function()
  local function dig(arguments)
    return helper.run_neap("scripts/examples/dig.lua " .. arguments)
  end

  it("asks what the example dns_server serves", function()
    local p = helper.start(("exec %s scripts/examples/dns_server.lua 127.0.0.1:0")
      :format(helper.quote(helper.neap)))
    local at = "@127.0.0.1:" .. p:expect "listening on udp://127.0.0.1:(%d+) and tcp"
    local out, err, status = dig(at .. " example.org mx caa soa")
    assert.equal(0, status)
    assert.equal("", err)
    assert.matches("example.org. 3600 MX 10 mail.example.org\n", out)
    assert.matches("example.org. 3600 CAA 0 issue ca.example.net\n", out)
    assert.matches("SOA ns.example.org admin.example.org 2024010101 3600 600 86400 60\n", out)
    out = dig(at .. " _http._tcp.example.org SRV")
    assert.equal("_http._tcp.example.org. 3600 SRV 1 5 80 host.example.org\n", out)
    out, err, status = dig(at .. " www.example.org A TXT")
    assert.equal("host.example.org. 300 A 192.0.2.80\n", out)
    assert.equal("; resolve www.example.org TXT: no such records\n", err)
    assert.equal(1, status)
  end)

  it("says how it is used, and what fails", function()
    assert.equal(2, (select(3, dig "")))
    local _, err, status = dig "@127.0.0.1:1 -x 192.0.2.1"
    assert.equal(1, status)
    assert.matches("resolve 1.2.0.192.in%-addr.arpa PTR: connection refused", err)
  end)
end)
