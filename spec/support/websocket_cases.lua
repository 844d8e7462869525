-- The cases of the Autobahn test suite (crossbario/autobahn-testsuite), by what they are published
-- to send and to expect: for each its number, what is sent, and what comes back of who echoes.
--
-- What is sent is a list of frames, { first byte, payload, bytes of it that never come }. Expected
-- are frames as frames.show prints them. Where the suite allows several outcomes, it is ours that
-- stands here. Cases that differ only in how their bytes are cut are one here: the spec cuts all.

local MINUTES = os.getenv "NEAP_ACCEPTANCE" ~= nil

local cases = {}

local BYE = { 0x88, "\3\xe8" }
local CLEAN = "88 1000"

-- A case that ends in a clean close, which our side begins.
local function fine(name, sent, ...)
  sent[#sent + 1] = BYE
  local expected = { ... }
  expected[#expected + 1] = CLEAN
  cases[#cases + 1] = { name, sent, expected }
end

local function refused(name, code, sent, ...)
  local expected = { ... }
  expected[#expected + 1] = "88 " .. code
  cases[#cases + 1] = { name, sent, expected }
end

-- 1: framing.
for i, n in ipairs { 0, 125, 126, 127, 128, 65535, 65536, 65536 } do
  local text, bytes = ("*"):rep(n), ("\xfe"):rep(n)
  fine("1.1." .. i, { { 0x81, text } }, "81 " .. text)
  fine("1.2." .. i, { { 0x82, bytes } }, "82 " .. bytes)
end

-- 2: pings and pongs.
local long = ("\xfe"):rep(125)
fine("2.1", { { 0x89, "" } }, "8a ")
fine("2.2", { { 0x89, "Hello, world!" } }, "8a Hello, world!")
fine("2.3", { { 0x89, "\0\xff\xfe\xfd\xfc\xfb\0\xff" } }, "8a \0\xff\xfe\xfd\xfc\xfb\0\xff")
fine("2.4, 2.6", { { 0x89, long } }, "8a " .. long)
refused("2.5", 1002, { { 0x89, long .. "\xfe" } })
fine("2.7", { { 0x8a, "" } })
fine("2.8", { { 0x8a, "unsolicited pong payload" } })
fine("2.9", { { 0x8a, "unsolicited pong payload" }, { 0x89, "ping payload" } }, "8a ping payload")
local pings, pongs = {}, {}
for i = 0, 9 do
  pings[#pings + 1], pongs[#pongs + 1] = { 0x89, "payload-" .. i }, "8a payload-" .. i
end
fine("2.10, 2.11", pings, table.unpack(pongs))

-- 3: reserved bits.
local hello = "Hello, world!"
refused("3.1", 1002, { { 0x91, hello } })
for rsv = 2, 4 do
  refused("3." .. rsv, 1002, { { 0x81, hello }, { 0x81 | rsv << 4, hello }, { 0x89, "" } },
    "81 " .. hello)
end
refused("3.5", 1002, { { 0xd2, hello } })
refused("3.6", 1002, { { 0xe9, hello } })
refused("3.7", 1002, { { 0xf8, "" } })

-- 4: reserved opcodes.
refused("4.1.1", 1002, { { 0x83, "" } })
refused("4.1.2", 1002, { { 0x84, "reserved opcode payload" } })
refused("4.2.1", 1002, { { 0x8b, "" } })
refused("4.2.2", 1002, { { 0x8c, "reserved opcode payload" } })
for i = 3, 5 do
  refused("4.1." .. i, 1002, { { 0x81, hello }, { 0x82 + i, i == 3 and "" or hello },
    { 0x89, "" } }, "81 " .. hello)
  refused("4.2." .. i, 1002, { { 0x81, hello }, { 0x8a + i, i == 3 and "" or hello },
    { 0x89, "" } }, "81 " .. hello)
end

-- 5: fragmentation.
local f1, f2, f3, f4, f5 = "fragment1", "fragment2", "fragment3", "fragment4", "fragment5"
local lost = "non-continuation payload"
refused("5.1", 1002, { { 0x09, f1 }, { 0x80, f2 } })
refused("5.2", 1002, { { 0x0a, f1 }, { 0x80, f2 } })
fine("5.3 to 5.5", { { 0x01, f1 }, { 0x80, f2 } }, "81 " .. f1 .. f2)
fine("5.6 to 5.8", { { 0x01, f1 }, { 0x89, "ping payload" }, { 0x80, f2 } }, "8a ping payload",
  "81 " .. f1 .. f2)
refused("5.9 to 5.11", 1002, { { 0x80, lost }, { 0x81, hello } })
refused("5.12 to 5.14", 1002, { { 0x00, lost }, { 0x81, hello } })
refused("5.15", 1002, { { 0x01, f1 }, { 0x80, f2 }, { 0x00, f3 }, { 0x81, f4 } }, "81 " .. f1 .. f2)
refused("5.16", 1002, { { 0x00, f1 }, { 0x01, f2 }, { 0x80, f3 } })
refused("5.17", 1002, { { 0x80, f1 }, { 0x01, f2 }, { 0x80, f3 } })
refused("5.18", 1002, { { 0x01, f1 }, { 0x81, f2 } })
fine("5.19, 5.20", { { 0x01, f1 }, { 0x00, f2 }, { 0x89, "pongme 1!" }, { 0x00, f3 }, { 0x00, f4 },
  { 0x89, "pongme 2!" }, { 0x80, f5 } }, "8a pongme 1!", "8a pongme 2!", "81 " .. f1 .. f2 .. f3 ..
  f4 .. f5)

-- 6: UTF-8.
local function by_one(text)
  local sent = {}
  for i = 1, #text do sent[i] = { i == 1 and 0x01 or 0x00, text:sub(i, i) } end
  sent[#sent + 1] = { 0x80, "" }
  return sent
end
local umlauts = "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!"
local greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
local broken = greek .. "\xed\xa0\x80edited"
fine("6.1.1", { { 0x81, "" } }, "81 ")
fine("6.1.2", { { 0x01, "" }, { 0x00, "" }, { 0x80, "" } }, "81 ")
fine("6.1.3", { { 0x01, "" }, { 0x00, "middle frame payload" }, { 0x80, "" } },
  "81 middle frame payload")
fine("6.2.1", { { 0x81, umlauts } }, "81 " .. umlauts)
fine("6.2.2", { { 0x01, umlauts:sub(1, 12) }, { 0x80, umlauts:sub(13) } }, "81 " .. umlauts)
fine("6.2.3", by_one(umlauts), "81 " .. umlauts)
fine("6.2.4", by_one(greek), "81 " .. greek)
refused("6.3.1", 1007, { { 0x81, broken } })
refused("6.3.2", 1007, by_one(broken))
-- 6.4, fail fast: the third part never comes.
refused("6.4.1", 1007, { { 0x01, greek }, { 0x00, "\xf4\x90\x80\x80" } })
refused("6.4.2", 1007, { { 0x01, greek .. "\xf4" }, { 0x00, "\x90" } })
refused("6.4.3", 1007, { { 0x81, greek .. "\xf4\x90\x80\x80", #"edited" } })
refused("6.4.4", 1007, { { 0x81, greek .. "\xf4\x90", #"\x80\x80edited" } })

-- 6.5 to 6.23, by Markus Kuhn's UTF-8-test.txt: { number of the first, valid ones }, ...
local function kuhn(section, valid, list)
  for i, text in ipairs(list) do
    local name = ("6.%d.%d"):format(section, i + (list.from or 0))
    if valid then fine(name, { { 0x81, text } }, "81 " .. text)
    else refused(name, 1007, { { 0x81, text } }) end
  end
end
local function spaced(from, to)
  local out = {}
  for i = from, to do out[#out + 1] = string.char(i, 0x20) end
  return table.concat(out)
end
local continuations = {}
for i = 0x80, 0xbe do continuations[#continuations + 1] = string.char(i) end
local cut = { "\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
  "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf" }
kuhn(5, true, { "hello$world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld",
  "hello\xf0\xa4\xad\xa2world", greek })
for i = 1, #greek do
  kuhn(6, utf8.len(greek, 1, i) ~= nil and utf8.len(greek:sub(1, i)) ~= nil,
    { greek:sub(1, i), from = i - 1 })
end
kuhn(7, true, { "\0", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80" })
kuhn(8, false, { "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80" })
kuhn(9, true, { "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf" })
kuhn(10, false, { "\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf" })
kuhn(11, true, { "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf" })
kuhn(11, false, { "\xf4\x90\x80\x80", from = 4 })
kuhn(12, false, { "\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf",
  "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf", table.concat(continuations) })
kuhn(13, false, { spaced(0xc0, 0xde), spaced(0xe0, 0xee), spaced(0xf0, 0xf6), spaced(0xf8, 0xfa),
  spaced(0xfc, 0xfc) })
kuhn(14, false, cut)
kuhn(15, false, { table.concat(cut) })
kuhn(16, false, { "\xfe", "\xff", "\xfe\xfe\xff\xff" })
kuhn(17, false, { "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf",
  "\xfc\x80\x80\x80\x80\xaf" })
kuhn(18, false, { "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf",
  "\xfc\x83\xbf\xbf\xbf\xbf" })
kuhn(19, false, { "\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80",
  "\xfc\x80\x80\x80\x80\x80" })
kuhn(20, false, { "\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80",
  "\xed\xbe\x80", "\xed\xbf\xbf" })
local pairs_of_surrogates = {}
for _, high in ipairs { "\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf" } do
  for _, low in ipairs { "\xed\xb0\x80", "\xed\xbf\xbf" } do
    table.insert(pairs_of_surrogates, high .. low)
  end
end
kuhn(21, false, pairs_of_surrogates)
local nobody = { "\xef\xbf\xbe", "\xef\xbf\xbf" } -- no characters, yet valid
for plane = 1, 16 do
  for last = 0xfffe, 0xffff do table.insert(nobody, utf8.char(plane << 16 | last)) end
end
kuhn(22, true, nobody)
kuhn(23, true, { "\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd",
  "\xef\xbf\xbe", "\xef\xbf\xbf" })

-- 7: the close.
local function closing(name, expected, ...)
  cases[#cases + 1] = { name, { ... }, expected }
end
local function code(n, reason) return { 0x88, string.pack(">I2", n) .. (reason or "") } end
closing("7.1.1", { "81 Hello World!", CLEAN }, { 0x81, "Hello World!" }, BYE)
closing("7.1.2", { CLEAN }, BYE, BYE)
closing("7.1.3", { CLEAN }, BYE, { 0x89, "" })
closing("7.1.4", { CLEAN }, BYE, { 0x81, "Hello World!" })
closing("7.1.5", { CLEAN }, { 0x01, f1 }, BYE, { 0x80, f2 })
local big = ("BAsd7&jh23"):rep(26215):sub(1, 256 << 10)
closing("7.1.6", { "81 " .. big, "81 Hello World!", CLEAN }, { 0x81, big },
  { 0x81, "Hello World!" }, BYE, { 0x89, "" })
closing("7.3.1", { "88 " }, { 0x88, "" })
closing("7.3.2", { "88 1002" }, { 0x88, "a" })
closing("7.3.3", { CLEAN }, code(1000))
closing("7.3.4", { CLEAN }, code(1000, "Hello World!"))
closing("7.3.5", { CLEAN }, code(1000, ("*"):rep(123)))
closing("7.3.6", { "88 1002" }, code(1000, ("*"):rep(124)))
closing("7.5.1", { "88 1007" }, code(1000, broken))
for i, n in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000,
  4999 } do
  closing("7.7." .. i, { "88 " .. n }, code(n))
end
for i, n in ipairs { 0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999 } do
  closing("7.9." .. i, { "88 1002" }, code(n))
end
closing("7.13.1", { "88 1002" }, code(5000))
closing("7.13.2", { "88 1002" }, code(65535))

-- 9: sizes, a sixteenth of the suite's unless there are minutes for them.
local scale = MINUTES and 1 or 16
local function pieces(first, text, size)
  local sent = {}
  for i = 1, #text, size do
    local bits = (i == 1 and first or 0) | (i + size > #text and 0x80 or 0)
    sent[#sent + 1] = { bits, text:sub(i, i + size - 1) }
  end
  return sent
end
for i, n in ipairs { 64, 256, 1024, 4096, 8192, 16384 } do
  local text = ("BAsd7&jh23"):rep((n << 10) // scale // 10)
  fine("9.1." .. i, { { 0x81, text } }, "81 " .. text)
  fine("9.2." .. i, { { 0x82, text } }, "82 " .. text)
end
local four = ("*"):rep((4 << 20) // scale)
for i, n in ipairs { 64, 256, 1024, 4096, 16384, 65536, 1 << 18, 1 << 20, 4 << 20 } do
  fine("9.3." .. i, pieces(0x01, four, n), "81 " .. four)
  fine("9.4." .. i, pieces(0x02, four, n), "82 " .. four)
end
for i = 1, 6 do -- chops of 64 bytes and more
  local text = ("BAsd7&jh23"):rep((1 << 20) // scale // 10)
  fine("9.5." .. i, { { 0x81, text } }, "81 " .. text)
  fine("9.6." .. i, { { 0x82, text } }, "82 " .. text)
  cases[#cases].chop, cases[#cases - 1].chop = 32 << i, 32 << i
end
for i, n in ipairs { 0, 16, 64, 256, 1024, 4096 } do
  for section, bits in pairs { [7] = 0x81, [8] = 0x82 } do
    local text, sent, expected = ("*"):rep(n), {}, {}
    for k = 1, 1000 // scale do
      sent[k], expected[k] = { bits, text }, ("%x %s"):format(bits, text)
    end
    fine(("9.%d.%d"):format(section, i), sent, table.unpack(expected))
  end
end

-- 10: fragments of 1300.
local stars = ("*"):rep(65536)
fine("10.1.1", pieces(0x01, stars, 1300), "81 " .. stars)

return cases
