-- neap.dns: asking and serving, against dig, kdig and servers that lie, are silent or know no EDNS.

local dns = require "neap.dns"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

local codec = dns.codec
local soa = { type = "SOA", mname = "ns", rname = "admin", serial = 1, refresh = 2, retry = 3,
  expire = 4, minimum = 60 }

local function zone(...) return dns.zone("example.org", { soa, ... }) end

local function query(s, name, kind, opts)
  opts = opts or {}
  opts.server = s.address
  opts.timeout = opts.timeout or 5 * helper.slow
  return dns.query(name, kind, opts)
end

-- "name type value" of records
local function lines(list)
  local out = {}
  for i, rr in ipairs(list) do
    local value = rr.address or rr.target or rr.exchange or rr.mname
    out[i] = ("%s %s %s"):format(rr.name, rr.type, value)
  end
  return out
end

describe("a zone", function()
  local z = zone({ name = "a", type = "A", address = "10.0.0.1" },
    { name = "a", type = "AAAA", address = "::1" },
    { name = "www", type = "CNAME", target = "a" },
    { name = "out", type = "CNAME", target = "x.net." },
    { name = "l1", type = "CNAME", target = "l2" }, { name = "l2", type = "CNAME", target = "l1" },
    { name = "gone", type = "CNAME", target = "nothing" },
    { name = "x.deep", type = "A", address = "10.0.0.2" },
    { name = "*.wild", type = "A", address = "10.0.0.3" },
    { name = "there.wild", type = "MX", preference = 1, exchange = "a" })

  local function ask(name, kind, change)
    local question = { name = name, type = kind, class = "IN" }
    local q = { id = 9, opcode = "QUERY", questions = { question } }
    for k, v in pairs(change or {}) do q[k] = v end
    local reply = z:answer(q)
    assert(codec.encode(reply))
    return reply
  end

  it("follows aliases inside, and leaves at its border", function()
    assert.same({ "www.example.org CNAME a.example.org", "a.example.org A 10.0.0.1" },
      lines(ask("www.example.org", "A").answers))
    assert.same({ "www.example.org CNAME a.example.org" },
      lines(ask("www.example.org", "CNAME").answers))
    assert.same({ "out.example.org CNAME x.net." }, lines(ask("out.example.org", "A").answers))
    assert.equal(16, #ask("l1.example.org", "A").answers)
    local gone = ask("gone.example.org", "A")
    assert.equal("NXDOMAIN", gone.rcode)
    assert.equal(1, #gone.answers)
  end)

  it("denies names and types with its SOA, kept as long as its minimum", function()
    for _, case in ipairs { { "nope.example.org", "A", "NXDOMAIN" }, { "a.example.org", "TXT" },
      { "deep.example.org", "A" }, { "y.a.example.org", "A", "NXDOMAIN" } } do
      local reply = ask(case[1], case[2])
      assert.equal(case[3], reply.rcode)
      assert.same({}, reply.answers)
      assert.same({ "example.org SOA ns.example.org" }, lines(reply.authority))
      assert.equal(60, reply.authority[1].ttl)
      assert.is_true(reply.aa)
    end
  end)

  it("finds names in any case, and wildcards only for what does not exist", function()
    assert.equal("10.0.0.1", ask("A.eXample.ORG.", "A").answers[1].address)
    assert.same({ "some.where.wild.example.org A 10.0.0.3" },
      lines(ask("some.where.wild.example.org", "A").answers))
    assert.same({}, ask("there.wild.example.org", "A").answers)
    local mx = ask("there.wild.example.org", "MX")
    assert.same({ "a.example.org A 10.0.0.1", "a.example.org AAAA ::1" }, lines(mx.additional))
    assert.equal("NXDOMAIN", ask("x.there.wild.example.org", "A").rcode)
  end)

  it("refuses what is not its own", function()
    assert.equal("REFUSED", ask("example.net", "A").rcode)
    assert.equal("REFUSED", ask("notexample.org", "A").rcode)
    assert.equal("REFUSED", ask("a\\.example.org", "A").rcode)
    assert.equal("REFUSED", ask("example.org", "AXFR").rcode)
    assert.equal("NOTIMP", ask("example.org", "A", { opcode = "UPDATE" }).rcode)
    assert.equal("FORMERR", ask("example.org", "A", { questions = {} }).rcode)
  end)

  it("raises for records that cannot be", function()
    for text, records in pairs {
      ["one SOA record"] = { { type = "A", address = "1.2.3.4" } },
      ["record 2: .*IPv4"] = { soa, { name = "a", type = "A", address = "x" } },
      ["not in the zone"] = { soa, { name = "a.net.", type = "A", address = "1.2.3.4" } },
      ["beside a CNAME"] = { soa, { name = "a", type = "A", address = "1.2.3.4" },
        { name = "a", type = "CNAME", target = "b" } },
    } do
      local ok, message = pcall(dns.zone, "example.org", records)
      assert.is_false(ok)
      assert.matches(text, message)
    end
  end)
end)

describe("dns.serve and dns.query", function()
  it("ask and answer over UDP and TCP", function()
    local z = zone { name = "a", type = "A", address = "10.0.0.1" }
    local s <close> = dns.serve("127.0.0.1:0", z)
    for _, tcp in ipairs { false, true } do
      local list, reply = query(s, "A.example.org", "A", { tcp = tcp })
      assert.same({ "a.example.org A 10.0.0.1" }, lines(list))
      assert.is_true(reply.aa)
      assert.same({}, (query(s, "a.example.org", "MX", { tcp = tcp })))
      local none, message, code, denial = query(s, "b.example.org", "A", { tcp = tcp })
      assert.is_nil(none)
      assert.equal(("query b.example.org A at %s: NXDOMAIN"):format(s.address), message)
      assert.equal("NXDOMAIN", code)
      assert.equal("SOA", denial.authority[1].type)
    end
  end)

  it("come back over TCP for what a datagram cannot carry", function()
    local text, seen = ("x"):rep(20000), {}
    local z = zone { name = "long", type = "TXT", strings = text }
    local s <close> = dns.serve("127.0.0.1:0", function(q, info)
      seen[#seen + 1] = info.tcp and "tcp" or "udp"
      return z(q, info)
    end)
    local list = assert(query(s, "long.example.org", "TXT"))
    assert.equal(text, table.concat(list[1].strings))
    assert.same({ "udp", "tcp" }, seen)
  end)

  it("answer an error of the handler with SERVFAIL, and log it", function()
    local log = {}
    local s <close> = dns.serve("127.0.0.1:0", { log = function(line) log[#log + 1] = line end },
      function(q)
        if q.questions[1].name == "raise" then error "broken handler" end
        local reply = dns.reply(q)
        reply.answers = { { name = "a", type = "A", address = "nonsense" } }
        return reply
      end)
    assert.equal("SERVFAIL", (select(3, query(s, "raise"))))
    assert.equal("SERVFAIL", (select(3, query(s, "encode"))))
    assert.matches("broken handler", log[1])
    assert.matches("IPv4", log[2])
  end)

  it("let handlers wait beside each other", function()
    local s <close> = dns.serve("127.0.0.1:0", function(q)
      neap.sleep(0.1)
      return dns.reply(q)
    end)
    local begun = neap.now()
    neap.group(function(g)
      for _ = 1, 8 do g:spawn(function() assert(query(s, "a")) end) end
    end)
    assert.truthy(neap.now() - begun < 0.6 * helper.slow)
  end)

  it("send again when a datagram was lost, and give up at the deadline", function()
    local count = 0
    local s <close> = dns.serve("127.0.0.1:0", function(q)
      count = count + 1
      if count > 1 then return dns.reply(q) end
    end)
    assert.same({}, (query(s, "a", "A", { timeout = 1 * helper.slow })))
    assert.equal(2, count)
    local silent <close> = assert(net.datagram "udp://127.0.0.1:0")
    local begun = neap.now()
    local none, message, code = dns.query("a", "A", { server = silent.address, timeout = 0.2 })
    assert.is_nil(none)
    assert.matches("timed out", message)
    assert.equal("ETIMEDOUT", code)
    assert.truthy(neap.now() - begun < 0.2 + 0.5 * helper.slow)
    local ids = {}
    for _ = 1, 3 do ids[(silent:recv()):sub(1, 2)] = true end
    assert.truthy(next(ids, (next(ids)))) -- a new one each time
  end)

  it("believe only what answers the query", function()
    local socket <close> = assert(net.datagram "udp://127.0.0.1:0")
    local task = neap.spawn(function()
      local bytes, from = socket:recv()
      local q = codec.decode(bytes)
      local function send(change)
        local reply = dns.reply(q)
        reply.answers = { { name = "a", type = "A", address = "6.6.6.6" } }
        for k, v in pairs(change) do reply[k] = v end
        socket:send(codec.encode(reply), from)
      end
      socket:send("short", from)
      send { id = q.id ~ 1 }
      send { qr = false }
      send { questions = { { name = "b", type = "A" } } }
      send { questions = {} }
      send { answers = { { name = "a", type = "A", address = "10.0.0.1" } } }
    end)
    local list = assert(dns.query("a", "A", { server = socket.address, timeout = 5 }))
    assert.equal("10.0.0.1", list[1].address)
    assert.is_true(task:join())
  end)

  it("leave EDNS out for a server that does not know it", function()
    local s <close> = dns.serve("127.0.0.1:0", function(q)
      local reply = dns.reply(q, q.edns and "FORMERR" or "NOERROR")
      reply.edns = nil
      return reply
    end)
    assert.same({}, (query(s, "a")))
  end)

  it("tell what is wrong with arguments and servers", function()
    local none, message, code = dns.query("a..b", "A", { server = "127.0.0.1" })
    assert.is_nil(none)
    assert.matches("a%.%.b", message)
    assert.equal("EINVAL", code)
    local nobody = { server = "127.0.0.1:1", tcp = true }
    assert.equal("ECONNREFUSED", (select(3, dns.query("a", "A", nobody))))
    assert.has_error(function() dns.query("a", "A") end)
    assert.has_error(function() dns.query("a", "A", { server = "::1", timeout = -1 }) end)
    assert.has_error(function() dns.serve("127.0.0.1:0", 5) end)
    local taken <close> = dns.serve("127.0.0.1:0", zone())
    local ok, err = pcall(dns.serve, taken.address, zone())
    assert.is_false(ok)
    assert.equal("EADDRINUSE", err.code)
  end)

  it("drop responses and rubbish, and say FORMERR to what has a header", function()
    local s <close> = dns.serve("127.0.0.1:0", zone())
    local peer <close> = assert(net.datagram(nil, { connect = "udp://" .. s.address }))
    peer:send "rubbish"
    peer:send(codec.encode { id = 1, qr = true, questions = { { name = "a", type = "A" } } })
    peer:send(string.pack(">I2I2I2I2I2I2", 77, 0, 9, 9, 9, 9))
    local reply = codec.decode((peer:recv { timeout = 5 }))
    assert.equal(77, reply.id)
    assert.equal("FORMERR", reply.rcode)
    peer:send(codec.encode { id = 2, questions = { { name = "example.org", type = "A" } },
      edns = { version = 1 } })
    assert.equal("BADVERS", codec.decode((peer:recv { timeout = 5 })).rcode)
  end)
end)

describe("the example dns_server", function()
  local function start()
    local p = helper.start(("exec %s scripts/examples/dns_server.lua 127.0.0.1:0")
      :format(helper.quote(helper.neap)))
    local port = p:expect "listening on udp://127.0.0.1:(%d+) and tcp"
    return p, ("@127.0.0.1 -p %s "):format(port), port
  end

  local function dig(at, arguments)
    return (helper.run(("dig +time=%d +tries=1 %s%s"):format(5 * helper.slow, at, arguments)))
  end

  it("answers dig, over UDP and TCP", function()
    local p, at = start()
    for _, way in ipairs { "+notcp ", "+tcp " } do
      assert.equal("host.example.org.\n192.0.2.80\n", dig(at, way .. "+short www.example.org"))
      assert.equal("10 mail.example.org.\n", dig(at, way .. "+short example.org MX"))
      assert.equal('0 issue "ca.example.net"\n', dig(at, way .. "+short example.org CAA"))
      assert.equal("1 5 80 host.example.org.\n",
        dig(at, way .. "+short _http._tcp.example.org SRV"))
      assert.equal("2001:db8::25\n", dig(at, way .. "+short mail.example.org AAAA"))
      assert.equal("ns.example.org. admin.example.org. 2024010101 3600 600 86400 60\n",
        dig(at, way .. "+short example.org SOA"))
      assert.equal("192.0.2.99\n", dig(at, way .. "+short ann.users.example.org"))
      assert.matches("status: NXDOMAIN.*flags: qr aa.*AUTHORITY: 1",
        dig(at, way .. "nope.example.org"))
      assert.matches("status: REFUSED", dig(at, way .. "example.net"))
    end
    assert.equal("", p:err())
  end)

  it("truncates for dig, which comes back over TCP", function()
    local _, at = start()
    local cut = dig(at, "+ignore +noedns long.example.org TXT")
    assert.matches("flags: qr aa tc.*ANSWER: 0", cut)
    local whole = dig(at, "long.example.org TXT")
    assert.matches("Truncated, retrying in TCP mode", whole)
    assert.matches("SERVER: [^\n]* %(TCP%)", whole)
    local text = whole:gsub('" "', "")
    assert.truthy(text:find(("a text too long for a datagram; "):rep(100), 1, true))
  end)

  it("answers kdig", function()
    local _, at = start()
    local function kdig(arguments)
      return (helper.run(("kdig +timeout=%d +retry=0 %s%s"):format(5 * helper.slow, at, arguments)))
    end
    assert.equal("host.example.org.\n192.0.2.80\n", kdig "+short www.example.org")
    assert.equal("192.0.2.53\n", kdig "+tcp +short ns.example.org A")
    assert.matches("a text too long", kdig "+short long.example.org TXT")
    assert.matches("status: NXDOMAIN", kdig "nope.example.org")
    assert.matches("BADVERS", kdig "+edns=1 www.example.org")
  end)

  it("loses no query of dnsperf's", function()
    local _, _, port = start()
    local queries = "www.example.org A\nnope.example.org A\nexample.org MX\nlong.example.org TXT\n"
    local path = helper.write_file(helper.tmpdir() .. "/queries", queries)
    for _, mode in ipairs { "udp", "tcp" } do
      local out = helper.run(("dnsperf -m %s -s 127.0.0.1 -p %s -d %s -c 4 -n 50 -t %d")
        :format(mode, port, path, 5 * helper.slow))
      assert.matches("Queries completed: +200 %(100.00%%%)", out)
      assert.matches("NOERROR 150 .*NXDOMAIN 50 ", out)
    end
  end)

  local function well(port, p)
    local list, message = dns.query("host.example.org", "A",
      { server = "127.0.0.1:" .. port, timeout = 5 * helper.slow })
    assert.truthy(list, message)
    assert.equal("192.0.2.80", list[1].address)
    assert.equal("", p:err())
  end

  local sample = assert(codec.encode { id = 4, rd = true,
    questions = { { name = "www.example.org", type = "A" } },
    edns = { size = 1232, options = { { code = 10, data = "12345678" } } } })

  it("goes on answering whatever the queries are", function()
    local p, _, port = start()
    local peer <close> = assert(net.datagram(nil, { connect = "udp://127.0.0.1:" .. port }))
    math.randomseed(11)
    for i = 1, helper.hard and 400 or 2000 do
      local bytes = { sample:byte(1, -1) }
      for _ = 1, math.random(4) do bytes[math.random(#bytes)] = math.random(0, 255) end
      local cut = math.random(4) == 1 and math.random(#bytes) or #bytes
      peer:send(string.char(table.unpack(bytes, 1, cut)))
      if i % 100 == 0 then well(port, p) end
    end
    for _ = 1, 50 do
      local bytes = { sample:byte(1, -1) }
      bytes[math.random(#bytes)] = math.random(0, 255)
      local conn <close> = assert(net.connect("127.0.0.1:" .. port))
      conn:write(string.pack(">s2", string.char(table.unpack(bytes))), "\0\5ab")
    end
    well(port, p)
  end)

  it("goes on answering what zzuf makes of queries", function()
    local p, _, port = start()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/query", sample)
    local loop = "cd %s && for i in $(seq 1 40); do zzuf -s $i -r 0.03 <query >q$i || exit 1; done"
    local _, _, status = helper.run(loop:format(dir))
    assert.equal(0, status)
    local peer <close> = assert(net.datagram(nil, { connect = "udp://127.0.0.1:" .. port }))
    local different = 0
    for i = 1, 40 do
      local bytes = helper.read_file(dir .. "/q" .. i)
      if bytes ~= sample then different = different + 1 end
      peer:send(bytes)
    end
    assert.truthy(different > 30)
    well(port, p)
  end)
end)
