-- neap.codec as scripts see it; the conditions beneath are in core/cond_spec.lua.

local codec = require "neap.codec"
local lpeg = require "lpeg"
local neap = require "neap"
local net = require "neap.net"

describe("neap.codec", function()
  it("decodes strings message by message", function()
    local text, pos, lines = "one\ntwo\nthr", 1, {}
    local c = codec.line()
    while true do
      local line, next_pos = c:decode(text, pos)
      if line == nil then
        assert.equal("more", next_pos)
        break
      end
      lines[#lines + 1], pos = line, next_pos
    end
    assert.same({ "one", "two" }, lines)
    assert.equal("thr", (c:decode(text, pos, true)))
  end)

  it("has each kind, with its limit", function()
    assert.equal("a", (codec.line(1, false):decode "a\n"))
    assert.equal("a\n", (codec.line(1, true):decode "a\n"))
    assert.equal("EMSGSIZE", (select(3, codec.line(0):decode "a\n")))
    assert.equal("a", (codec.until_("--", 1):decode "a--"))
    assert.equal("EMSGSIZE", (select(3, codec.until_("--", 0):decode "a--")))
    assert.equal("ab", (codec.count(2):decode "abc"))
    assert.same({ 1, "x", 5 }, { codec.record(">I1s2", 4):decode "\1\0\1x" })
    assert.equal("EMSGSIZE", (select(3, codec.record(">I1s2", 3):decode "\1\0\1x")))
    assert.same({ "PING" }, (codec.resp(6):decode "PING\r\n"))
    assert.equal("EMSGSIZE", (select(3, codec.resp(3):decode "PING\r\n")))
    assert.equal(7, (codec.number(1):decode " 7 "))
    assert.equal("EMSGSIZE", (select(3, codec.number(0):decode " 7 ")))
    assert.equal("ab", (codec.any(2):decode "abc"))
    assert.equal("abc", (codec.all(3):decode("abc", 1, true)))
    assert.equal("EMSGSIZE", (select(3, codec.all(2):decode("abc", 1, true))))
  end)

  it("raises for wrong arguments, at the caller's line", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local ok, message = pcall(function() codec.until_("x", "many") end)
    assert.is_false(ok)
    assert.truthy(message:find("codec_spec.lua:" .. line .. ": bad argument #2", 1, true), message)
  end)
end)

local P, R, C = lpeg.P, lpeg.R, lpeg.C
local pairs_grammar = C(R "az" ^ 1) * "=" * (R "09" ^ 1 / tonumber)

-- Every codec with messages, each a list of its values.
local cases = {
  { "line", codec.line(), { { "one" }, { "" }, { "two\r" } } },
  { "line with its end", codec.line(10, true), { { "one\n" }, { "\n" } } },
  { "until_", codec.until_ "--", { { "a" }, { "" }, { "-x" } } },
  { "fixed", codec.fixed(3), { { "abc" }, { "\0\0\0" } } },
  { "netstring", codec.netstring(), { { "abc" }, { "" }, { ("x"):rep(12) }, { "1:a," } } },
  { "prefixed", codec.prefixed ">I2", { { "abc" }, { "" }, { ("x"):rep(300) } } },
  { "prefixed, little", codec.prefixed "<I3", { { "abc" }, { "" } } },
  { "prefixed, counting itself", codec.prefixed("<I4", 100, -4), { { "abc" }, { "" } } },
  { "tlv", codec.tlv ">I1I2", { { 7, "abc" }, { 255, "" } } },
  { "tlv, signed and little", codec.tlv "<i2I1", { { -3, "abc" }, { 300, "" } } },
  { "tlv of postgres", codec.tlv(">I1I4", 100, -4), { { 81, "q\0" }, { 83, "" } } },
  { "record", codec.record ">I2s1z", { { 258, "ab", "c" }, { 0, "", "" } } },
  { "record with names", codec.record(">I2s1", { "id", "name" }),
    { { { id = 1, name = "a" } }, { { id = 2, name = "" } } } },
  { "resp", codec.resp(), { { { "SET", "k", "" } }, { { "PING" } } } },
  { "map", codec.line():map(tonumber, tostring), { { 1 }, { 2.5 } } },
  { "map of map", codec.line():map(tonumber, tostring)
    :map(function(n) return n, n + 1 end, function(n) return n end), { { 1, 2 }, { 7, 8 } } },
  { "grammar", codec.line():grammar(pairs_grammar, function(k, v) return k .. "=" .. v end),
    { { "ab", 12 }, { "c", 0 } } },
  { "grammar without captures", codec.line():grammar(P "a" ^ 1), { { "a" }, { "aaa" } } },
  { "of", codec.netstring():of(codec.tlv ">I1I1"), { { 1, "ab" }, { 2, "" } } },
  { "of of", codec.prefixed(">I2"):of(codec.netstring():of(codec.line())), { { "ab" }, { "" } } },
  { "each", codec.netstring():each(codec.tlv ">I1I1"),
    { { {} }, { { { 1, "ab" }, { 2, "" } } } } },
  { "sequence", codec.sequence { codec.record(">I1I2", { "kind", "size" }),
    function(head) return head.size end, codec.line() },
    { { { { kind = 1, size = 3 }, "a\nb", "end" } }, { { { kind = 2, size = 0 }, "", "" } } } },
  { "sequence by kind", codec.sequence { codec.prefixed ">I1", function(name)
    return name == "n" and codec.netstring() or name == "t" and codec.tlv ">I1I1"
      or nil, "unknown"
  end }, { { { "n", "abc" } }, { { "t", { 1, "x" } } } } },
  { "choice", codec.choice { ["*"] = codec.line(), other = codec.netstring() },
    { { "*", "*a b" }, { "3", "3:a" and "abc" }, { "*", "*" } } },
  { "new", codec.new { decode = function(_, bytes, pos, eof)
    if #bytes < pos then return nil, not eof and "more" or nil end
    return bytes:byte(pos), pos + 1
  end, encode = function(_, n) return string.char(n) end }, { { 0 }, { 10 }, { 255 } } },
}

local function encoded(c, messages)
  local out = {}
  for i, m in ipairs(messages) do out[i] = assert(c:encode(table.unpack(m))) end
  return table.concat(out), out
end

-- What a source of messages gives, up to its end.
local function all(next_message)
  local list = {}
  while true do
    local r = table.pack(next_message())
    if r[1] == nil then return list, r[2] end
    r.n = nil
    list[#list + 1] = r
    assert(#list < 1000, "messages without end")
  end
end

local function scan(c, ...)
  local s, list = c:scanner(), {}
  for _, piece in ipairs { ... } do
    s:feed(piece)
    local more, why = all(function() return s:next() end)
    assert.equal("more", why)
    table.move(more, 1, #more, #list + 1, list)
  end
  s:finish()
  local rest, why = all(function() return s:next() end)
  assert.is_nil(why)
  return table.move(rest, 1, #rest, #list + 1, list)
end

describe("every codec", function()
  for _, case in ipairs(cases) do
    local name, c, messages = table.unpack(case)
    it("reads what it wrote, cut at every offset: " .. name, function()
      local bytes = encoded(c, messages)
      local pos, list = 1, {}
      while pos <= #bytes do
        local r = table.pack(c:decode(bytes, pos))
        assert.truthy(r[1] ~= nil, r[2])
        pos = r[r.n]
        list[#list + 1] = { table.unpack(r, 1, r.n - 1) }
      end
      assert.same(messages, list)
      for cut = 0, #bytes do
        assert.same(messages, scan(c, bytes:sub(1, cut), bytes:sub(cut + 1)), "cut at " .. cut)
      end
      local single = {}
      for i = 1, #bytes do single[i] = bytes:sub(i, i) end
      assert.same(messages, scan(c, table.unpack(single)))
    end)

    it("says that more is needed, never too much, and where the end came: " .. name, function()
      local _, each = encoded(c, messages)
      for _, bytes in ipairs(each) do
        for cut = 0, #bytes - 1 do
          local r = table.pack(c:decode(bytes:sub(1, cut), 1, false))
          assert.same({ "more" }, { r[2] })
          assert.truthy((r[3] or 1) >= 1 and (r[3] or 1) <= #bytes - cut, "missing at " .. cut)
        end
        assert.is_nil((select(2, c:decode("", 1, true))))
      end
    end)

    it("serves streams: " .. name, function()
      local bytes = encoded(c, messages)
      for _, step in ipairs { 1, 3, #bytes } do
        local a, b = net.pair "mem"
        local _ <close> = a
        local _ <close> = b
        neap.spawn(function()
          for i = 1, #bytes, step do
            a:write(bytes:sub(i, i + step - 1)):flush()
            neap.yield()
          end
          a:shutdown()
        end)
        assert.same(messages, (all(b:messages(c))))
      end
      local a, b = net.pair "mem"
      local _ <close> = a
      local _ <close> = b
      for _, m in ipairs(messages) do assert.equal(a, a:send_message(c, table.unpack(m))) end
      assert.same(messages[1], { b:read_message(c) })
      a:close()
      assert.same(messages[2], { b:read_message(c, { timeout = 10 }) })
    end)
  end
end)

describe("hostile bytes", function()
  local nested, kept = P { "(" * lpeg.V(1) ^ 0 * ")" }, P { lpeg.Ct("(" * lpeg.V(1) ^ -1 * ")") }
  local head = codec.record(">i4", { "size" })
  local body = codec.sequence { head, function(h) return h.size end, max = 100 }
  -- codec, bytes, code; at_end: only there
  local hostile = {
    { codec.netstring(), "00:,", "EBADMSG" }, { codec.netstring(), "01:a,", "EBADMSG" },
    { codec.netstring(), "-1:a,", "EBADMSG" }, { codec.netstring(), "a", "EBADMSG" },
    { codec.netstring(), ":", "EBADMSG" }, { codec.netstring(), "3:abcd", "EBADMSG" },
    { codec.netstring(), "1 :a,", "EBADMSG" }, { codec.netstring(9), "10", "EMSGSIZE" },
    { codec.netstring(), ("9"):rep(30), "EMSGSIZE" },
    { codec.netstring(), "3:ab", "EPIPE", true }, { codec.netstring(), "3", "EPIPE", true },
    { codec.prefixed(">I4"), "\255\255\255\255", "EMSGSIZE" },
    { codec.prefixed(">i4"), "\255\255\255\255", "EBADMSG" },
    { codec.prefixed(">I8"), ("\255"):rep(8), "EMSGSIZE" },
    { codec.prefixed(">i8"), ("\255"):rep(8), "EBADMSG" },
    { codec.prefixed(">I8", 1 << 62, 9), "\127" .. ("\255"):rep(7), "EMSGSIZE" },
    { codec.prefixed(">I2", 2), "\0\3", "EMSGSIZE" },
    { codec.prefixed(">I4", 100, -4), "\0\0\0\3", "EBADMSG" },
    { codec.prefixed(">I2"), "\0", "EPIPE", true },
    { codec.prefixed(">I2"), "\0\1", "EPIPE", true },
    { codec.tlv(">I1I4"), "\1\255\255\255\255", "EMSGSIZE" },
    { codec.tlv(">I1i2"), "\1\255\255", "EBADMSG" },
    { codec.tlv(">I1I2"), "\1", "EPIPE", true }, { codec.tlv(">I1I2"), "\1\0\1", "EPIPE", true },
    { codec.fixed(3), "ab", "EPIPE", true },
    { codec.record(">s4"), "\255\255\255\255", "EMSGSIZE" },
    { codec.line():map(tonumber), "x\n", "EBADMSG" },
    { codec.line():grammar(pairs_grammar), "a=1 \n", "EBADMSG" },
    { codec.line():grammar(nested), ("("):rep(1000) .. (")"):rep(1000) .. "\n", "EBADMSG" },
    { codec.line():grammar(kept), ("("):rep(250) .. (")"):rep(250) .. "\n", "EBADMSG" },
    { codec.netstring():of(codec.tlv ">I1I1"), "3:\1\2a,", "EBADMSG" }, -- lies within its frame
    { codec.netstring():of(codec.tlv ">I1I1"), "4:\1\1ab,", "EBADMSG" }, -- bytes are left over
    { codec.netstring():of(codec.tlv ">I1I1"), "0:,", "EBADMSG" },
    { codec.netstring():of(codec.netstring(1)), "5:2:ab,,", "EMSGSIZE" },
    { codec.netstring():each(codec.tlv ">I1I1"), "5:\1\1a\2\9,", "EBADMSG" },
    { codec.netstring():each(codec.new { decode = function(_, _, pos) return "", pos end }), "1:a,",
      "EBADMSG" },
    { body, "\255\255\255\255", "EBADMSG" }, { body, "\127\255\255\255", "EMSGSIZE" },
    { body, "\0\0\0\97", "EMSGSIZE" }, { body, "\0\0\0\2a", "EPIPE", true },
    { body, "\0", "EPIPE", true },
    { codec.choice { a = codec.line() }, "b", "EBADMSG" },
    { codec.choice { a = codec.fixed(2) }, "a", "EPIPE", true },
  }

  it("get a code, however they are cut", function()
    for i, case in ipairs(hostile) do
      local c, bytes, code, at_end = table.unpack(case)
      assert.equal(code, (select(3, c:decode(bytes, 1, at_end))), "case " .. i)
      for cut = 1, #bytes, #bytes // 40 + 1 do
        local s = c:scanner():feed(bytes:sub(1, cut))
        local r = table.pack(s:next())
        if r[2] == "more" then r = table.pack(s:feed(bytes:sub(cut + 1)):next()) end
        if at_end then
          assert.equal("more", r[2])
          r = table.pack(s:finish():next())
        end
        assert.equal(code, r[3], ("case %d cut at %d"):format(i, cut))
      end
    end
  end)

  it("are raised by iterators and told by read_message", function()
    for i, case in ipairs(hostile) do
      local c, bytes, code = table.unpack(case)
      local a, b = net.pair "mem"
      local _ <close> = a
      local _ <close> = b
      a:write(bytes):shutdown()
      local ok, err = pcall(b:messages(c))
      assert.is_false(ok, "case " .. i)
      assert.equal(code, err.code, "case " .. i)
    end
  end)

  it("are refused before what they promise has come", function()
    local a, b = net.pair "mem"
    local _ <close> = a
    local _ <close> = b
    b.read_max = 1000
    local c = codec.sequence { codec.prefixed ">I1", function() return 2000 end }
    a:write "\1x":flush()
    assert.equal("EMSGSIZE", (select(3, b:read_message(c, { timeout = 10 }))))
    assert.equal("\1x", b:read(2)) -- they stay
  end)
end)

describe("encoders", function()
  it("refuse what would be read as another message", function()
    for i, case in ipairs {
      { codec.line(), "a\nb", "EINVAL" }, { codec.line(3), "abcd", "EMSGSIZE" },
      { codec.line(9, true), "a", "EINVAL" }, { codec.line(9, true), "a\nb\n", "EINVAL" },
      { codec.until_ "--", "a--", "EINVAL" }, { codec.until_ "--", "a-", "EINVAL" },
      { codec.until_("--", 2), "abc", "EMSGSIZE" }, { codec.fixed(3), "ab", "EINVAL" },
      { codec.fixed(3), "abcd", "EINVAL" }, { codec.netstring(2), "abc", "EMSGSIZE" },
      { codec.prefixed ">I1", ("x"):rep(256), "EMSGSIZE" },
      { codec.prefixed(">I2", 2), "abc", "EMSGSIZE" },
      { codec.prefixed(">I2", 9, 4), "abc", "EMSGSIZE" }, -- a length below zero
      { codec.tlv ">I1I2", { 256, "" }, "EINVAL" }, { codec.tlv ">I1I2", { -1, "" }, "EINVAL" },
      { codec.tlv ">i1I2", { 128, "" }, "EINVAL" },
      { codec.record ">I1", { 256 }, "EINVAL" }, { codec.record "z", { "a\0b" }, "EINVAL" },
      { codec.record(">s1", 3), { "abc" }, "EMSGSIZE" },
      { codec.record(">I1", { "n" }), {}, "EINVAL" },
      { codec.number(), 0 / 0, "EINVAL" }, { codec.any(2), "abc", "EINVAL" },
      { codec.all(2), "abc", "EMSGSIZE" }, { codec.count(2), "abc", "EINVAL" },
      { codec.line():of(codec.netstring()), "a\nb", "EINVAL" },
      { codec.choice { a = codec.line() }, "b", "EINVAL" },
      { codec.sequence { codec.fixed(1), 2 }, { "a", "b" }, "EINVAL" },
      { codec.sequence { codec.fixed(1), 2, max = 2 }, { "a", "bc" }, "EMSGSIZE" },
    } do
      assert.equal(case[3], (select(3, case[1]:encode(case[2]))), "case " .. i)
    end
    local a, b = net.pair "mem"
    local _ <close> = a
    local _ <close> = b
    assert.equal("EINVAL", (select(3, a:send_message(codec.line(), "a\nb"))))
    a:close()
    assert.equal("", b:read "a") -- nothing was written
  end)

  it("take several values also as a list", function()
    assert.equal("\1\0\2ab", codec.tlv(">I1I2"):encode { 1, "ab" })
    assert.equal("\1\2ab", codec.record(">I1s1"):encode { 1, "ab" })
    assert.equal("1.5\n", codec.number():encode(1.5))
    assert.equal(1.5, (codec.number():decode(codec.number():encode(1.5))))
  end)
end)

describe("codec.parse", function()
  it("takes bytes that are one message, a datagram's", function()
    local c = codec.tlv ">I1I2"
    assert.same({ 1, "ab" }, { codec.parse(c, "\1\0\2ab") })
    for bytes, code in pairs { ["\1\0\2abc"] = "EBADMSG", ["\1\0\2a"] = "EBADMSG",
      [""] = "EBADMSG" } do
      assert.equal(code, (select(3, codec.parse(c, bytes))))
    end
  end)
end)

describe("composing", function()
  it("raises for what is no codec, at the caller's line", function()
    local line = codec.line()
    for i, f in ipairs {
      function() codec.record(">I1", { "a", "b" }) end, function() codec.record(">I1", { 5 }) end,
      function() codec.prefixed ">I9" end, function() codec.prefixed ">I2I2" end,
      function() codec.tlv ">I2" end, function() codec.tlv ">I1s1" end,
      function() codec.prefixed "" end, function() codec.prefixed(">I2", -1) end,
      function() codec.fixed(0) end, function() codec.netstring(-1) end,
      function() line:map() end, function() line:map(tonumber, 5) end,
      function() line:grammar "x" end, function() line:of(5) end, function() line:each {} end,
      function() codec.sequence {} end, function() codec.sequence { 5, "x" } end,
      function() codec.sequence { line, max = -1 } end, function() codec.choice { ab = line } end,
      function() codec.choice { a = 5 } end, function() codec.new {} end,
      function() codec.parse(line) end, function() codec.parse(5, "") end,
    } do
      local ok, message = pcall(f)
      assert.is_false(ok, "case " .. i)
      assert.matches("codec_spec.lua:%d+: bad argument", message, "case " .. i)
    end
  end)

  it("raises for a part that is none, and for a codec without an encoder", function()
    assert.has_error(function()
      codec.sequence({ function() return {} end }):decode "a"
    end)
    local reader = codec.new { decode = function() return nil, "more" end }
    assert.has_error(function() codec.line():of(reader):encode "a" end)
  end)
end)
