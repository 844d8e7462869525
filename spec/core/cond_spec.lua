-- Read conditions through codec values: the answer does not depend on how the bytes are split,
-- limits are exact, and hostile bytes get an error, never more.

local codec = require "neap.codec.core"

local MORE = "more"

-- One answer as a comparable list.
local function pack(...) return { n = select("#", ...), ... } end

-- All answers of a scanner that is fed `pieces`, until it ends or fails.
local function scan(c, pieces)
  local s, answers = c:scanner(), {}
  local function drain()
    while true do
      local r = pack(s:next())
      if r[1] == nil and r[2] == MORE then return true end
      answers[#answers + 1] = r
      assert(#answers < 1000, "answers without end")
      if r[1] == nil then return false end
    end
  end
  for _, piece in ipairs(pieces) do
    s:feed(piece)
    if not drain() then return answers end
  end
  s:finish()
  drain()
  return answers
end

local function bytes_of(text)
  local pieces = {}
  for i = 1, #text do pieces[i] = text:sub(i, i) end
  return pieces
end

-- The answers for all bytes at once; checks that every cut in two, and single bytes, give the same.
local function same_however_cut(c, text)
  local want = scan(c, { text })
  for cut = 1, #text - 1 do
    assert.same(want, scan(c, { text:sub(1, cut), text:sub(cut + 1) }), "cut at " .. cut)
  end
  assert.same(want, scan(c, bytes_of(text)), "single bytes")
  return want
end

-- Only the messages; a failure or an end adds its code or "end".
local function messages(c, text)
  local list = {}
  for i, r in ipairs(same_however_cut(c, text)) do
    if r[1] == nil then list[i] = r[3] or "end"
    elseif r.n == 1 then list[i] = r[1]
    else
      r.n = nil
      list[i] = r
    end
  end
  return list
end

describe("conditions", function()
  it("give the same frames at every cut", function()
    assert.same({ "one", "", "two\r", "end" }, messages(codec.line(), "one\n\ntwo\r\n"))
    assert.same({ "one", "rest", "end" }, messages(codec.line(), "one\nrest"))
    assert.same({ "one\n", "\n", "rest", "end" }, messages(codec.line(64, true), "one\n\nrest"))
    assert.same({ "abc", "def", "g", "end" }, messages(codec.count(3), "abcdefg"))
    assert.same({ "a;b", "", "c", "end" }, messages(codec.delim(";;"), "a;b;;;;c"))
    assert.same({ "a", "b", "-", "end" }, messages(codec.delim("--"), "a--b---"))
    assert.same({ "GET / HTTP/1.1\r\na: b", "body", "end" },
      messages(codec.delim("\r\n\r\n"), "GET / HTTP/1.1\r\na: b\r\n\r\nbody"))
    assert.same({ "aXaY", "c", "end" }, messages(codec.delim("aXaZ"), "aXaYaXaZc"))
    assert.same({ { 1, "ab" }, { 258, "" }, "end" },
      messages(codec.record(">I2s1"), "\0\1\2ab\1\2\0"))
    assert.same({ "ab", "", "end" }, messages(codec.record("z"), "ab\0\0"))
    assert.same({ { 1, 2 }, { 3, 4 }, "end" },
      messages(codec.record("<!4 b i4"), "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"))
    assert.same({ { "SET", "k", "" }, { "PING" }, { "get", "a b" }, "end" },
      messages(codec.resp(), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n\r\n*0\r\n" ..
        "*1\r\n$4\r\nPING\r\nget 'a b'\n"))
  end)

  it("give everything until the end, nothing included", function()
    local s = codec.all():scanner():feed("a"):feed "bc"
    assert.same({ nil, MORE, 1 }, { s:next() })
    assert.equal("abc", (s:finish():next()))
    assert.equal("", (s:next()))
  end)

  it("give what is there", function()
    assert.same({ "abc", 4 }, { codec.any():decode("abc") })
    assert.same({ "ab", 3 }, { codec.any(2):decode("abc") })
    assert.same({ nil, MORE, 1 }, { codec.any():decode("") })
    assert.equal(1, select("#", codec.any():decode("", 1, true)))
  end)

  it("test for the end with a count of 0, as io does", function()
    assert.same({ "", 1 }, { codec.count(0):decode("a") })
    assert.same({ nil, MORE, 1 }, { codec.count(0):decode("") })
    assert.equal(1, select("#", codec.count(0):decode("", 1, true)))
  end)

  it("begin where the last frame ended", function()
    local text = "12 abc\n\0\2hi"
    local n, pos = codec.number():decode(text)
    local line, record
    line, pos = codec.line():decode(text, pos)
    record, pos = codec.record(">s2"):decode(text, pos)
    assert.same({ 12, " abc", "hi", #text + 1 }, { n, line, record, pos })
    assert.has_error(function() codec.line():decode("abc", 5) end)
    assert.has_error(function() codec.line():decode("abc", 0) end)
  end)
end)

describe("limits are exact", function()
  local function code(c, text, eof) return (select(3, c:decode(text, 1, eof))) end
  local x = ("x"):rep(10)

  it("for lines and delimiters, which do not count the delimiter", function()
    assert.equal(x, (codec.line(10):decode(x .. "\n")))
    assert.equal("EMSGSIZE", code(codec.line(10), x .. "x\n"))
    assert.equal("EMSGSIZE", code(codec.line(10), x .. "x"))
    assert.same({ nil, MORE, 1 }, { codec.line(10):decode(x) })
    assert.equal(x, (codec.line(10):decode(x, 1, true)))
    assert.equal(x .. "\n", (codec.line(10, true):decode(x .. "\n")))
    assert.equal("EMSGSIZE", code(codec.line(10, true), x .. "x\n"))
    assert.equal(x, (codec.delim("\r\n", 10):decode(x .. "\r\n")))
    assert.same({ nil, MORE, 1 }, { codec.delim("\r\n", 10):decode(x .. "\r") })
    assert.equal("EMSGSIZE", code(codec.delim("\r\n", 10), x .. "x\r\n"))
    assert.equal("EMSGSIZE", code(codec.delim("\r\n", 10), x .. "x", true))
    assert.equal("", (codec.line(0):decode("\n")))
  end)

  it("for everything", function()
    assert.equal(x, (codec.all(10):decode(x, 1, true)))
    assert.equal("EMSGSIZE", code(codec.all(10), x .. "x"))
  end)

  it("for records, whole", function()
    local c = codec.record(">s1", 10)
    assert.equal(("y"):rep(9), (c:decode("\9" .. ("y"):rep(9))))
    assert.equal("EMSGSIZE", code(c, "\10"))
    assert.equal("EMSGSIZE", code(codec.record("z", 10), x))
    assert.equal(("x"):rep(9), (codec.record("z", 10):decode(("x"):rep(9) .. "\0")))
    assert.equal("EMSGSIZE", code(codec.record("c11", 10), ""))
  end)

  it("for requests, whole", function()
    local text = "*1\r\n$4\r\nPING\r\n"
    assert.same({ "PING" }, (codec.resp(#text):decode(text)))
    assert.equal("EMSGSIZE", code(codec.resp(#text - 1), text))
    assert.equal("EMSGSIZE", code(codec.resp(), "*1\r\n$16777216\r\n"))
    assert.equal("EMSGSIZE", code(codec.resp(), "*1048577\r\n"))
    assert.same({ nil, MORE, 1 }, { codec.resp():decode "*1048576\r\n" })
    assert.equal("EMSGSIZE", code(codec.resp(), ("x"):rep(65537)))
    assert.equal(65536, #codec.resp():decode(("x"):rep(65536) .. "\n")[1])
  end)
end)

describe("hostile bytes", function()
  local function outcome(c, text)
    local first, second, third = c:decode(text)
    return second ~= MORE and third or (first == nil and second) or "frame"
  end

  it("are refused with a code", function()
    local resp, max = codec.resp(), codec.record("<s8")
    for _, case in ipairs {
      { max, ("\255"):rep(8), "EMSGSIZE" }, -- 2^64-1 bytes
      { max, ("\255"):rep(7) .. "\127", "EMSGSIZE" }, -- 2^63-1
      { max, ("\0"):rep(7) .. "\128", "EMSGSIZE" }, -- 2^63
      { codec.record("<s16"), ("\0"):rep(15) .. "\1", "EMSGSIZE" }, -- past 64 bits
      { codec.record(">s16"), ("\0"):rep(15) .. "\1x", "frame" }, -- 1 in the other byte order
      { codec.record("<i16"), ("\0"):rep(15) .. "\1", "EBADMSG" }, -- an integer that Lua has not
      { codec.record("<i16"), ("\255"):rep(16), "frame" }, -- -1
      { resp, "*x\r\n", "EBADMSG" }, -- no number
      { resp, "*\r\n", "EBADMSG" }, -- empty number
      { resp, "*1x", "EBADMSG" }, -- no CR
      { resp, "*1\rx", "EBADMSG" }, -- no LF
      { resp, "*--1\r\n", "EBADMSG" }, -- two signs
      { resp, "*1\r\nx", "EBADMSG" }, -- no bulk string
      { resp, "*1\r\n$-1\r\n", "EBADMSG" }, -- null is no argument
      { resp, "*1\r\n$1\r\nabc", "EBADMSG" }, -- the string is longer than it says
      { resp, "*1\r\n$1\r\na\r\r", "EBADMSG" }, -- ends wrongly
      { resp, "*1\r\n$00000000001", "EBADMSG" }, -- zeros without end
      { resp, "*99999999999999999999", "EMSGSIZE" }, -- would overflow
      { resp, "*1\r\n$18446744073709551617\r\n", "EMSGSIZE" }, -- 2^64+1
      { resp, "get 'a\n", "EBADMSG" }, -- quote left open
      { resp, 'get "a\\"\n', "EBADMSG" }, -- closing quote is escaped
      { resp, 'get "a"b\n', "EBADMSG" }, -- text behind a closing quote
      { resp, "*-1\r\n", MORE }, -- ignored, as redis does
      { resp, " \t\r\n", MORE }, -- a blank line is skipped
      { codec.line(), "a\0b\n", "frame" }, -- zero bytes are bytes
    } do
      assert.equal(case[3], outcome(case[1], case[2]), ("%q"):format(case[2]))
      same_however_cut(case[1], case[2])
    end
  end)

  it("that end too early are told from the end", function()
    assert.equal("EPIPE", (select(3, codec.record(">I4"):decode("\0", 1, true))))
    assert.equal("EPIPE", (select(3, codec.record("z"):decode("abc", 1, true))))
    assert.equal("EPIPE", (select(3, codec.resp():decode("*1\r\n", 1, true))))
    assert.equal("EPIPE", (select(3, codec.resp():decode("PING", 1, true))))
    assert.equal(1, select("#", codec.resp():decode("\r\n", 1, true)))
    assert.equal(1, select("#", codec.record("b"):decode("", 1, true)))
  end)
end)

describe("numerals", function()
  -- What the stock library does with the same bytes, and what it leaves.
  local function by_io(text)
    local f = assert(io.tmpfile())
    f:write(text)
    f:seek "set"
    local n = f:read "n"
    local rest = f:read "a"
    f:close()
    return n, rest
  end

  it("are read as io.read reads them", function()
    for _, text in ipairs {
      "1", "-1 ", "+0x1F,", " \t\n\v\f\r12.5", "0x.8p3z", "1e5", "1e+5x", "1e", "1e-", "1.5.5",
      ".5", ".", "-", "+-1", "0x", "0xg", "00x1", "007", "0x1p", "0x1p-4 ", "1E5", "0X1P1", "nan",
      "inf", "-inf", "abc", "  ", "1\0002", "9e999", "9223372036854775808", "0xffffffffffffffffff",
      "1,5", "١", ("1"):rep(199) .. " ", ("1"):rep(200), ("1"):rep(200) .. " ", ("1"):rep(201),
      ("1"):rep(300), "0x" .. ("0"):rep(198) .. "1", ("0"):rep(199) .. "." .. "5",
      ("1"):rep(199) .. "e5", ("1"):rep(200) .. "e5", (" "):rep(50) .. "7",
    } do
      local n, rest = by_io(text)
      local got, pos = codec.number():decode(text, 1, true)
      assert.equal(n, got, text)
      assert.equal(math.type(n or ""), math.type(got or ""), text)
      assert.equal(rest, text:sub(pos), text)
      same_however_cut(codec.number(), text)
    end
  end)

  it("wait for the byte behind them", function()
    assert.same({ nil, MORE, 1 }, { codec.number():decode("12") })
    assert.same({ 12, 3 }, { codec.number():decode("12 ") })
    assert.same({ nil, MORE, 1 }, { codec.number():decode("1e") })
  end)

  it("may stand behind a bounded number of blanks", function()
    assert.equal(7, (codec.number(10):decode((" "):rep(10) .. "7\n")))
    assert.equal("EMSGSIZE", (select(3, codec.number(10):decode((" "):rep(11) .. "7\n"))))
  end)
end)

describe("record formats", function()
  it("are string.pack's", function()
    local values = {
      b = -1, B = 255, h = -2, H = 2, i = -3, I = 3, l = -4, j = -5, T = 6, f = 0.5, d = 1.5,
      n = 2.5, s = "str", s1 = "one", s3 = "three", z = "zero", c5 = "fixed", i3 = -70000, i16 = -9,
    }
    local names = {}
    for name in pairs(values) do names[#names + 1] = name end
    table.sort(names)
    local function equal(a, b)
      if a.n ~= b.n then return false end
      for i = 1, a.n do
        if a[i] ~= b[i] then return false end
      end
      return true
    end
    for _, order in ipairs { "<", ">", "!4<", "!8>", "!2" } do
      for _, a in ipairs(names) do
        for _, b in ipairs(names) do
          local format = order .. " " .. a .. b .. "x" .. a
          local ok, text = pcall(string.pack, format, values[a], values[b], values[a])
          if ok then
            local c = codec.record(format)
            local got, cut, more = pack(c:decode(text .. "rest")), c:decode(text:sub(1, -2))
            if not equal(pack(string.unpack(format, text)), got) then error(format) end
            if cut ~= nil or more ~= MORE then error(format .. ", a byte less") end
          else -- an alignment that is no power of two
            assert.is_false((pcall(codec.record, format)), format)
          end
        end
      end
    end
  end)

  it("with alignment alone are string.pack's", function()
    for _, format in ipairs {
      "!4 b Xi4 b", "!8 b Xs8 b", "! b Xd z", "!4 b Xx b", "!2 z Xi4 s1 Xi2 b",
    } do
      local ok, text = pcall(string.pack, format, "1", "2", "3")
      if not ok then text = string.pack(format, 1, 2, 3) end
      local want, got = pack(string.unpack(format, text)), pack(codec.record(format):decode(text))
      assert.same(want, got, format)
    end
  end)

  it("that string.unpack refuses are refused, saying where", function()
    for _, case in ipairs {
      { "", "reads nothing" },
      { "xx", "reads nothing" },
      { "<Xi4", "reads nothing" },
      { "i17", "option 'i' at position 1" }, -- integers have 1 to 16 bytes
      { "bi0", "option 'i' at position 2" },
      { "c", "option 'c' at position 1" }, -- without its size
      { "q", "option 'q' at position 1" },
      { "bX", "option 'X' at position 2" }, -- X of nothing
      { "bXz", "option 'X' at position 2" }, -- of something without alignment
      { "bXc4", "option 'X' at position 2" },
      { "bX<", "option 'X' at position 2" },
      { "!8 i3", "option 'i' at position 4" }, -- alignment of 3
      { "!17", "option '!' at position 1" },
      { "c99999999999", "option '9' at position 11" }, -- past an int
      { ("bz"):rep(17), "too many parts" },
      { "b\0b", "zero byte" },
    } do
      local ok, message = pcall(codec.record, case[1])
      assert.is_false(ok, case[1])
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)
end)

describe("inline requests", function()
  it("are split as redis-server splits them", function()
    for line, args in pairs {
      ["get k"] = { "get", "k" },
      ["  get \t k  \r"] = { "get", "k" },
      ['set "a b" \'c d\''] = { "set", "a b", "c d" },
      ['"\\x41\\n\\r\\t\\a\\b\\q\\"" x'] = { 'A\n\r\t\a\bq"', "x" },
      ["'\\'' '\\n'"] = { "'", "\\n" },
      ['a"b c"'] = { "ab c" },
      ['"" \'\''] = { "", "" },
      ['"\\xzz\\x4"'] = { "xzzx4" },
    } do
      assert.same(args, (codec.resp():decode(line .. "\n")), line)
    end
  end)
end)

describe("framing is linear", function()
  -- The bytes that have to be looked at again are those not yet scanned when the next piece comes.
  local function looked_at(c, text, piece)
    local s, sum = c:scanner(), 0
    for i = 1, #text, piece do
      s:feed(text:sub(i, i + piece - 1))
      local here = math.min(i + piece - 1, #text)
      sum = sum + here - s:scanned()
      local r, more = s:next()
      local last = i + piece > #text
      if last == (r == nil) or not last and more ~= MORE then error "answered at a wrong time" end
    end
    return sum
  end

  it("for a line of 256 KiB in pieces of 64 bytes", function()
    local n = 256 << 10
    local text = ("x"):rep(n - 1) .. "\n"
    assert.equal(n, looked_at(codec.line(n), text, 64))
    -- one byte of the delimiter may have come, and is looked at twice
    local work = looked_at(codec.delim("\r\n", n), text:sub(1, -2) .. "\r\n", 64)
    assert.is_true(work <= n + n // 64 + 1)
  end)

  it("in time: four times the bytes cost about four times as much", function()
    local function cost(c, text, piece)
      local best = math.huge
      for _ = 1, 3 do
        local from = os.clock()
        looked_at(c, text, piece)
        best = math.min(best, os.clock() - from)
      end
      return best
    end
    local function many(n) return "*" .. n .. "\r\n" .. ("$3\r\nabc\r\n"):rep(n) end
    local max = 1 << 24
    for name, make in pairs {
      line = function(n) return codec.line(max), ("x"):rep(n * 8) .. "\n" end,
      delim = function(n)
        return codec.delim("\r\n\r\n", max), ("\r\n\rx"):rep(n * 2) .. "\r\n\r\n"
      end,
      zero = function(n) return codec.record("z", max), ("x"):rep(n * 8) .. "\0" end,
      resp = function(n) return codec.resp(max), many(n) end,
      inline = function(n) return codec.resp(max), ("x"):rep(math.min(n * 2, 65000)) .. "\n" end,
      blanks = function(n) return codec.number(max), (" "):rep(n * 8) .. "1" .. "\n" end,
    } do
      local c, small = make(8000)
      local _, large = make(32000)
      local a, b = cost(c, small, 16), cost(c, large, 16)
      -- quadratic would be 16 times; the bound is generous, because machines are noisy
      assert.is_true(b < 10 * a + 0.01, ("%s: %.4f s, then %.4f s"):format(name, a, b))
    end
  end)
end)

describe("codecs and scanners", function()
  it("check their arguments", function()
    for _, f in ipairs {
      function() codec.line(-1) end,
      function() codec.count() end,
      function() codec.count(-1) end,
      function() codec.delim("") end,
      function() codec.delim() end,
      function() codec.record(1, -1) end,
      function() codec.line().decode(io.stdout, "x") end,
      function() codec.line().scanner {} end,
      function() codec.line():scanner():finish():feed "x" end,
    } do
      assert.has_error(f)
    end
  end)

  it("keep what no message took", function()
    local s = codec.line():scanner():feed "one\ntwo"
    assert.equal("one", (s:next()))
    assert.same({ nil, MORE, 1 }, { s:next() })
    assert.equal("two", s:rest())
    s:feed "!\n"
    assert.equal("two!", (s:next()))
    assert.equal("", s:rest())
    assert.is_nil(select(2, s:finish():next()))
  end)

  it("say what they are", function()
    assert.equal("neap.codec{line}", tostring(codec.line()))
    assert.equal("neap.scanner{RESP request in=3}", tostring(codec.resp():scanner():feed "*1\r"))
  end)

  it("keep their format and their bytes through collections", function()
    local s = codec.delim(("ab"):rep(50) .. "c", 1 << 20):scanner()
    for _ = 1, 200 do
      s:feed(("x"):rep(100))
      collectgarbage "step"
    end
    collectgarbage()
    s:feed(("ab"):rep(50) .. "c")
    assert.equal(20000, #s:next())
  end)
end)
