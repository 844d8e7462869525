-- The internet checksum, against RFC 1071's example and a slow one of its own.

local checksum = require "neap.checksum"

-- As RFC 1071 says it, word by word.
local function slow(bytes, sum)
  sum = sum or 0
  if #bytes % 2 == 1 then bytes = bytes .. "\0" end
  for i = 1, #bytes, 2 do
    sum = sum + string.unpack(">I2", bytes, i)
    sum = (sum & 0xffff) + (sum >> 16)
  end
  return ~sum & 0xffff
end

describe("the internet checksum", function()
  it("is that of RFC 1071's example", function()
    assert.equal(~0xddf2 & 0xffff, checksum.internet "\x00\x01\xf2\x03\xf4\xf5\xf6\xf7")
    assert.equal(0xffff, checksum.internet "")
    assert.equal(0xfeff, checksum.internet "\1")
  end)

  it("is that of a word-by-word sum, for every length", function()
    math.randomseed(1071)
    for n = 0, 300 do
      local bytes = {}
      for i = 1, n do bytes[i] = string.char(math.random(0, 255)) end
      local text = table.concat(bytes)
      assert.equal(slow(text), checksum.internet(text), n)
    end
    assert.equal(slow(("\xff"):rep(100001)), checksum.internet(("\xff"):rep(100001)))
  end)

  it("of bytes with theirs in place is 0", function()
    local header = "\x45\0\0\x3c\x1c\x46\x40\0\x40\x06%s\xac\x10\x0a\x63\xac\x10\x0a\x0c"
    local sum = checksum.internet(header:format "\0\0")
    assert.equal(0xb1e6, sum)
    assert.equal(0, checksum.internet(header:format(string.pack(">I2", sum))))
  end)

  it("begins with a pseudo header", function()
    for _, case in ipairs {
      { "10.0.0.1", "10.0.0.2", "\10\0\0\1\10\0\0\2\0\17\0\5" },
      { "::1", "2001:db8::ff", ("\0"):rep(15) .. "\1" .. "\x20\x01\x0d\xb8" .. ("\0"):rep(11)
        .. "\xff" .. "\0\0\0\5\0\0\0\17" },
    } do
      local sum = checksum.pseudo(case[1], case[2], 17, 5)
      assert.equal(slow(case[3] .. "hello"), checksum.internet("hello", sum))
    end
  end)

  it("refuses what is no address, protocol or length", function()
    for i, args in ipairs {
      {}, { "10.0.0.1" }, { "10.0.0.1", "::1", 17, 8 }, { "10.0.0", "10.0.0.1", 17, 8 },
      { "[::1]", "[::1]", 17, 8 }, { "10.0.0.1", "10.0.0.1", 256, 8 },
      { "10.0.0.1", "10.0.0.1", -1, 8 }, { "10.0.0.1", "10.0.0.1", 17, 65536 },
      { "::1", "::1", 17, 1 << 32 }, { "::1", "::1", 17, -1 }, { "::1", "::1", 17, 1.5 },
    } do
      assert.is_false(pcall(checksum.pseudo, table.unpack(args)), i)
    end
    for _, sum in ipairs { -1, 1 << 32, 0.5, "x" } do
      assert.is_false(pcall(checksum.internet, "x", sum))
    end
    assert.is_false(pcall(checksum.internet))
  end)
end)
