-- neap.dns.codec: messages byte for byte, both ways; what must be refused; cut at every offset.

local codec = require "neap.dns.codec"
local helper = require "spec.support.helper"

local function hex(text) return (text:gsub("%s", ""):gsub("%x%x", function(h)
  return string.char(tonumber(h, 16))
end)) end

local function to_hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function header(qd, an, ns, ar, flags)
  return string.pack(">I2I2I2I2I2I2", 0x1234, flags or 0x8400, qd, an, ns, ar)
end

-- A record of the root with this data.
local function rr(type_number, data, class, ttl)
  return string.pack(">BI2I2I4s2", 0, type_number, class or 1, ttl or 60, data)
end

local function one(type_number, data) return header(0, 1, 0, 0) .. rr(type_number, data) end

-- The example of RFC 1035 4.1.4, as names of questions: F.ISI.ARPA, FOO.F.ISI.ARPA, ARPA, root.
local names = header(4, 0, 0, 0) .. hex [[
  01 46 03 495349 04 41525041 00 0001 0001
  03 464f4f c00c 0001 0001
  c012 0001 0001
  00 0001 0001]]

local many = { id = 7, qr = true, aa = true, rd = true, opcode = "QUERY", rcode = "NXDOMAIN",
  tc = false, ra = false, ad = false, cd = false,
  questions = { { name = "example.org", type = "ANY", class = "IN" } },
  answers = {
    { name = "example.org", type = "SOA", class = "IN", ttl = 1, mname = "ns.example.org",
      rname = "a\\.b.example.org", serial = 4294967295, refresh = 2, retry = 3, expire = 4,
      minimum = 5 },
    { name = "example.org", type = "NS", class = "IN", ttl = 2, target = "ns.example.org" },
    { name = "example.org", type = "MX", class = "IN", ttl = 3, preference = 10,
      exchange = "mail.example.org" },
    { name = "w.example.org", type = "CNAME", class = "IN", ttl = 4, target = "example.org" },
    { name = "1.2.0.192.in-addr.arpa", type = "PTR", class = "IN", ttl = 5,
      target = "w.example.org" },
    { name = "example.org", type = "TXT", class = "IN", ttl = 6,
      strings = { "one", "", "\0\255" } },
    { name = "example.org", type = "CAA", class = "IN", ttl = 7, flags = 128, tag = "issue",
      value = "ca.example" },
    { name = "_s._tcp.example.org", type = "SRV", class = "IN", ttl = 8, priority = 1, weight = 2,
      port = 65535, target = "w.example.org" },
  },
  authority = { { name = ".", type = "TYPE4711", class = "CLASS7", ttl = 0, data = "\1\2" } },
  additional = {
    { name = "ns.example.org", type = "A", class = "IN", ttl = 9, address = "192.0.2.255" },
    { name = "ns.example.org", type = "AAAA", class = "IN", ttl = 10,
      address = "2001:db8::1:0:0:1" },
    { name = "version.bind", type = "TXT", class = "CH", ttl = 0, strings = { "x" } },
  },
  edns = { size = 4096, version = 0, dnssec_ok = true,
    options = { { code = 10, data = "cookie" } } },
}

describe("neap.dns.codec", function()
  it("writes a query byte for byte", function()
    local bytes = codec.encode { id = 0xabcd, rd = true,
      questions = { { name = "www.Example.org.", type = "AAAA" } }, edns = { size = 1232 } }
    assert.equal("abcd01000001000000000001" .. "0377777707" .. to_hex "Example" .. "036f726700"
      .. "001c0001" .. "00002904d0000000000000", to_hex(bytes))
  end)

  it("writes an answer byte for byte, with compressed names", function()
    local bytes = codec.encode { id = 1, qr = true, aa = true,
      questions = { { name = "a.b", type = "MX" } },
      answers = { { name = "a.b", type = "MX", ttl = 258, preference = 5, exchange = "m.a.b" },
        { name = "m.a.b", type = "SRV", priority = 1, weight = 2, port = 3, target = "a.b" } } }
    assert.equal("000184000001000200000000" .. "01610162000" .. "00f0001"
      .. "c00c000f0001000001020006" .. "0005016dc00c"
      .. "c023002100010000000" .. "0000b" .. "000100020003" .. "0161016200", to_hex(bytes))
  end)

  it("reads names that point to earlier ones", function()
    local m = assert(codec.decode(names))
    local list = {}
    for i, q in ipairs(m.questions) do list[i] = q.name end
    assert.same({ "F.ISI.ARPA", "FOO.F.ISI.ARPA", "ARPA", "." }, list)
  end)

  it("gives back what it was given, of every type", function()
    local bytes = assert(codec.encode(many))
    assert.same(many, codec.decode(bytes))
    assert.equal(bytes, codec.encode(codec.decode(bytes)))
  end)

  it("prints and reads IPv6 addresses as RFC 5952 says", function()
    for given, printed in pairs {
      ["::"] = "::", ["::1"] = "::1", ["1::"] = "1::", ["0:0:1:0:0:0:0:1"] = "0:0:1::1",
      ["2001:DB8:0:0:1:0:0:1"] = "2001:db8::1:0:0:1", ["1:0:2:3:4:5:6:7"] = "1:0:2:3:4:5:6:7",
      ["::ffff:192.0.2.1"] = "::ffff:c000:201", ["1:2:3:4:5:6:7:8"] = "1:2:3:4:5:6:7:8",
      ["1:2:3:4:5:6:0:0"] = "1:2:3:4:5:6::",
    } do
      local m = { id = 0, answers = { { name = ".", type = "AAAA", address = given } } }
      assert.equal(printed, codec.decode(assert(codec.encode(m))).answers[1].address)
    end
  end)

  it("keeps every byte of a label in its escaped form", function()
    for c = 0, 255 do
      local bytes = header(1, 0, 0, 0) .. "\3a" .. string.char(c) .. "b\1.\0\0\1\0\1"
      local m = assert(codec.decode(bytes))
      m.questions[2] = nil
      assert.equal(to_hex(bytes), to_hex(assert(codec.encode(m))))
    end
    assert.equal("a\\.b\\000\\\\.c", codec.canonical "A\\.\\B\\000\\\\.\\067.")
  end)

  it("leaves out what has no room, and says so unless it is additional", function()
    local m = { id = 1, qr = true, questions = { { name = "x.y", type = "A" } }, answers = {},
      additional = {}, edns = { size = 512 } }
    for i = 1, 100 do m.answers[i] = { name = "x.y", type = "A", address = "10.0.0." .. i } end
    local bytes = assert(codec.encode(m, 512))
    local cut = assert(codec.decode(bytes))
    assert.is_true(cut.tc)
    assert.equal((512 - 12 - 9 - 11) // 16, #cut.answers)
    assert.equal(512, cut.edns.size)
    assert.truthy(#bytes <= 512)
    m.answers, m.additional = {}, m.answers
    cut = assert(codec.decode(assert(codec.encode(m, 512))))
    assert.is_false(cut.tc)
    assert.equal((512 - 12 - 9 - 11) // 16, #cut.additional)
  end)

  it("takes no name back into a pointer that was cut off", function()
    local long = ("x"):rep(60)
    local m = { id = 1, answers = { { name = long, type = "TXT", strings = ("t"):rep(400) } },
      additional = {} }
    local bytes = assert(codec.encode(m, 100))
    assert.equal(12, #bytes)
    assert.is_true(codec.decode(bytes).tc)
  end)

  local hostile = {
    { "empty", "", "inside the header" },
    { "half a header", names:sub(1, 11), "inside the header" },
    { "a question that is not there", header(1, 0, 0, 0), "questions%[1%].*a name" },
    { "counts that no message can keep", header(65535, 65535, 65535, 65535), "counts promise" },
    { "one record more than there is",
      header(0, 2, 0, 0) .. rr(1, "\1\2\3\4"), "answers%[2%].*a name" },
    { "a record more than counted", header(0, 0, 0, 0) .. rr(1, "\1\2\3\4"), "15 bytes follow" },
    { "a pointer to itself", header(1, 0, 0, 0) .. "\xc0\x0c\0\1\0\1", "not before" },
    { "a pointer forward",
      header(1, 0, 0, 0) .. "\xc0\x20\0\1\0\1" .. ("\0"):rep(40), "not before" },
    { "a loop of two", header(2, 0, 0, 0) .. "\1a\xc0\x10\0\xc0\x0c\0\1\0\1", "not before" },
    { "a loop through its own label", header(1, 0, 0, 0) .. "\1a\xc0\x0c\0\1\0\1", "not before" },
    { "a pointer into the header", header(1, 0, 0, 0, 0) .. "\xc0\x02\0\1\0\1", "into the header" },
    { "a pointer cut in two", header(1, 0, 0, 0) .. "\xc0", "inside a name" },
    { "a pointed name that runs into its pointer",
      header(0, 2, 0, 0) .. rr(9999, "\5ab") .. "\xc0\x17" .. rr(9999, ""):sub(2), "runs past" },
    { "a label of an unknown kind", header(1, 0, 0, 0) .. "\x41a\0\0\1\0\1", "unknown kind 1" },
    { "a label of kind 2", header(1, 0, 0, 0) .. "\x81a\0\0\1\0\1", "unknown kind 2" },
    { "a label past the end", header(1, 0, 0, 0) .. "\63abc", "inside a name" },
    { "a name of 257 bytes",
      header(1, 0, 0, 0) .. ("\1a"):rep(128) .. "\0\0\1\0\1", "longer than 255" },
    { "a name grown by pointers", header(2, 0, 0, 0) .. ("\1a"):rep(100) .. "\0\0\1\0\1"
      .. ("\1b"):rep(100) .. "\xc0\x0c\0\1\0\1", "longer than 255" },
    { "data past the end",
      header(0, 1, 0, 0) .. rr(1, "\1\2\3\4"):sub(1, -2), "the data of a record" },
    { "an address too short", one(1, "\1\2\3"), "ends inside an address" },
    { "an address too long", one(1, "\1\2\3\4\5"), "1 bytes too many" },
    { "an IPv6 address too short", one(28, ("x"):rep(15)), "ends inside an address" },
    { "an empty A", one(1, ""), "ends inside an address" },
    { "a name past its data", one(2, "\3ab"), "ends inside a name" },
    { "a name short of its data", one(5, "\0\0"), "1 bytes too many" },
    { "a string past its data", one(16, "\5abc"), "ends inside a string" },
    { "no string", one(16, ""), "ends inside a string" },
    { "an SOA without numbers", one(6, "\0\0\0\0"), "ends inside a number" },
    { "an SRV without target", one(33, "\0\1\0\1\0\1"), "ends inside a name" },
    { "a CAA tag past its data", one(257, "\0\9issue"), "ends inside a string" },
    { "an OPT among the answers", one(41, ""), "outside the additional" },
    { "two OPT", header(0, 0, 0, 2) .. rr(41, "") .. rr(41, ""), "second OPT" },
    { "an OPT of a name", header(0, 0, 0, 1) .. "\1a" .. rr(41, ""), "not of the root" },
    { "an option past its data",
      header(0, 0, 0, 1) .. rr(41, "\0\1\0\9abc"), "ends inside an option" },
    { "half an option", header(0, 0, 0, 1) .. rr(41, "\0\1\0"), "ends inside an option" },
  }
  for _, case in ipairs(hostile) do
    it("refuses " .. case[1], function()
      local m, text, code = codec.decode(case[2])
      assert.is_nil(m)
      assert.matches("^bad DNS message: .*" .. case[3], text)
      assert.equal("EBADMSG", code)
    end)
  end

  it("refuses to write what no message can have", function()
    local a = { name = "a", type = "A", address = "1.2.3.4" }
    local function with(field, value)
      local copy = {}
      for k, v in pairs(a) do copy[k] = v end
      copy[field] = value
      return { id = 1, answers = { copy } }
    end
    for _, case in ipairs {
      { with("name", ""), "domain name" }, { with("name", "a..b"), "domain name" },
      { with("name", ".a"), "domain name" }, { with("name", "a\\256"), "domain name" },
      { with("name", "a\\"), "domain name" }, { with("name", 5), "domain name" },
      { with("name", ("x"):rep(64)), "longer than 63" },
      { with("name", ("abc."):rep(64)), "longer than 255" },
      { with("type", "B"), "unknown type B" }, { with("type", "TYPE65536"), "unknown type" },
      { with("class", "XX"), "unknown class XX" }, { with("ttl", -1), "'ttl'" },
      { with("ttl", 2 ^ 31), "'ttl'" }, { with("address", "1.2.3"), "'address': an IPv4" },
      { with("address", "1.2.3.256"), "IPv4" }, { with("address", nil), "IPv4" },
      { { id = 1, answers = { 5 } }, "answers%[1%]: a table" },
      { { id = 65536 }, "'id'" }, { { id = 1, rcode = "BADVERS" }, "needs edns" },
      { { id = 1, opcode = "OPCODE16" }, "unknown opcode" },
      { { id = 1, answers = { { name = "a", type = "MX", preference = 1.5, exchange = "a" } } },
        "preference" },
      { { id = 1, answers = { { name = "a", type = "TXT", strings = { ("x"):rep(256) } } } },
        "255" },
      { { id = 1, answers = { { name = "a", type = "AAAA", address = "1::2::3" } } }, "IPv6" },
      { { id = 1, answers = { { name = "a", type = "AAAA", address = "1:2:3:4:5:6:7" } } },
        "IPv6" },
    } do
      local bytes, text, code = codec.encode(case[1])
      assert.is_nil(bytes)
      assert.matches("^DNS message: .*" .. case[2], text)
      assert.equal("EINVAL", code)
    end
  end)

  it("gives the same message cut at every offset", function()
    for _, whole in ipairs { names, assert(codec.encode(many)) } do
      local expected = codec.decode(whole)
      for cut = 0, #whole - 1 do
        local m, text = codec.message:decode(whole:sub(1, cut))
        assert.same({ nil, "more" }, { m, text })
        local _, _, code = codec.message:decode(whole:sub(1, cut), 1, true)
        assert.equal(cut > 0 and "EPIPE" or nil, code)
      end
      local m, after = codec.message:decode("before" .. whole .. "after", 7)
      assert.same(expected, m)
      assert.equal(7 + #whole, after)
    end
  end)

  it("gives the same frames cut at every offset", function()
    local a, b = codec.frame:encode(many), string.pack(">s2", names)
    local whole = a .. b
    for cut = 0, #whole do
      local list, pos, bytes = {}, 1, whole:sub(1, cut)
      for _, piece in ipairs { bytes, whole } do
        while true do
          local m, after = codec.frame:decode(piece, pos)
          if not m then
            assert.equal("more", after)
            break
          end
          list[#list + 1], pos = m, after
        end
      end
      assert.same({ many, codec.decode(names) }, list)
    end
    assert.is_nil(codec.frame:decode("", 1, true))
    assert.equal("EPIPE", (select(3, codec.frame:decode(a:sub(1, -2), 1, true))))
    assert.equal("EBADMSG", (select(3, codec.frame:decode(string.pack(">s2", "short")))))
  end)

  it("survives random changes in bounded time, and what it reads it can write", function()
    local seed <const> = 4
    math.randomseed(seed)
    local whole = assert(codec.encode(many))
    local read, count = 0, helper.hard and 200 or 3000
    for i = 1, count do
      local bytes = { whole:byte(1, -1) }
      for _ = 1, math.random(6) do bytes[math.random(#bytes)] = math.random(0, 255) end
      local cut = math.random(3) == 1 and math.random(#bytes) or #bytes
      local text = string.char(table.unpack(bytes, 1, cut))
      local m, why, code = codec.decode(text)
      if m then
        read = read + 1
        local again, problem = codec.encode(m)
        assert.truthy(again, ("seed %d, change %d: %s"):format(seed, i, problem))
        assert.same(m, codec.decode(again))
      else
        assert.equal("EBADMSG", code)
        assert.matches("^bad DNS message: ", why)
      end
    end
    assert.truthy(read > count / 30 and read < count * 29 / 30)
  end)

  it("looks at each place once, however many names point to it", function()
    -- A ladder: each record's owner points to the one before, which points to the one before …
    local parts, at, count = { "\1a\0" .. string.pack(">I2I2I4s2", 9999, 1, 0, "") }, 12, 5000
    local size = 12 + #parts[1]
    for i = 2, count do
      parts[i] = string.pack(">I2I2I2I4s2", 0xc000 | at, 9999, 1, 0, "")
      if size + #parts[i] < 0x3fff then at = size end
      size = size + #parts[i]
    end
    local before = os.clock()
    local m = assert(codec.decode(header(0, count, 0, 0) .. table.concat(parts)))
    assert.equal("a", m.answers[count].name)
    assert.truthy(os.clock() - before < 2)
  end)
end)
