-- Compression: against gzip, zcat and Python's zlib, both ways; cut anywhere, corrupted anywhere,
-- and bombs.

local helper = require "spec.support.helper"
local zlib = require "neap.zlib"

local formats <const> = { "raw", "zlib", "gzip" }

-- Text with something to find in it, of n bytes, the same every time.
local function text_of(n, seed)
  local words, size = {}, 0
  local x = seed or 1
  while size < n do
    x = (x * 1103515245 + 12345) & 0x7fffffff
    words[#words + 1] = x % 7 == 0 and ("%d"):format(x) or ("word%d "):format(x >> 8 & 63)
    size = size + #words[#words]
  end
  return table.concat(words):sub(1, n)
end

local text <const> = text_of(50000)

-- Standard output of a shell line that reads `input`.
local function shell(line, input)
  local path = helper.write_file(helper.tmpdir() .. "/input", input)
  local out, err, status = helper.run(("%s < %s"):format(line, path))
  assert.equal(0, status, err)
  return out
end

local function python(program, input)
  return shell("python3 -c " .. helper.quote("import sys, zlib\ni = sys.stdin.buffer.read()\n"
    .. "def out(b): sys.stdout.buffer.write(b)\n" .. program), input)
end

-- Python's number for a format.
local function wbits(format, bits)
  return format == "raw" and -bits or format == "gzip" and bits + 16 or bits
end

local function fails(code, pattern, value, message, got)
  assert.is_nil(value)
  assert.equal(code, got)
  if pattern then assert.matches(pattern, message) end
end

describe("zlib.compress and zlib.decompress", function()
  it("give back what they got, in every format, level and strategy", function()
    for _, format in ipairs(formats) do
      for _, s in ipairs { "", "x", ("\0"):rep(70000), text } do
        for level = 0, 9 do
          local c = zlib.compress(s, { format = format, level = level })
          assert.is_true(zlib.decompress(c, { format = format }) == s)
        end
        for _, strategy in ipairs { "default", "filtered", "huffman", "rle", "fixed" } do
          local c = zlib.compress(s, { format = format, strategy = strategy, memory = 1 })
          assert.is_true(zlib.decompress(c, { format = format }) == s)
        end
      end
    end
  end)

  it("tell zlib and gzip apart by themselves", function()
    assert.equal(text, zlib.decompress(zlib.compress(text)))
    assert.equal(text, zlib.decompress(zlib.compress(text, { format = "gzip" })))
    fails("EBADMSG", "incorrect header check", zlib.decompress(zlib.compress(text),
      { format = "gzip" }))
    fails("EBADMSG", "incorrect header check", zlib.decompress(zlib.compress(text,
      { format = "gzip" }), { format = "zlib" }))
  end)

  it("write what gzip and zcat read, and read what gzip writes", function()
    for _, s in ipairs { "", text } do
      local c = zlib.compress(s, { format = "gzip", level = 9 })
      assert.is_true(shell("gzip -dc", c) == s)
      assert.is_true(shell("zcat", c .. c) == s .. s)
      for level = 1, 9, 4 do
        local g = shell("gzip -nc" .. level, s)
        assert.is_true(zlib.decompress(g) == s)
        assert.is_true(zlib.decompress(g .. c .. g) == s .. s .. s) -- RFC 1952 2.2: members
        fails("EBADMSG", "behind the end", zlib.decompress(g .. c, { joined = false }))
      end
    end
    -- A header with a name and a time in it.
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/named.txt", text)
    assert.is_true(zlib.decompress(shell("gzip -c " .. dir .. "/named.txt", "")) == text)
  end)

  it("write what Python reads, and read what it writes, in windows of every size", function()
    for _, format in ipairs(formats) do
      for bits = 9, 15, helper.hard and 6 or 2 do
        local opts = { format = format, window_bits = bits }
        local n = wbits(format, bits)
        local c = zlib.compress(text, opts)
        assert.is_true(python(("out(zlib.decompress(i, %d))"):format(n), c) == text)
        local p = python(("c = zlib.compressobj(6, 8, %d)\nout(c.compress(i) + c.flush())")
          :format(n), text)
        assert.is_true(zlib.decompress(p, opts) == text)
      end
    end
    fails("EBADMSG", "window size", zlib.decompress(zlib.compress(text), { window_bits = 9 }))
  end)

  it("share dictionaries with Python", function()
    local words = text_of(2000)
    local s = text_of(3000)
    for _, format in ipairs { "zlib", "raw" } do
      local opts = { format = format, dictionary = words }
      local c = zlib.compress(s, opts)
      assert.is_true(#c < #zlib.compress(s, { format = format }) / 2)
      assert.is_true(zlib.decompress(c, opts) == s)
      local program = ("d = zlib.decompressobj(%d, zdict = i[:2000])\nout(d.decompress(i[2000:]))")
        :format(wbits(format, 15))
      assert.is_true(python(program, words .. c) == s)
    end
    local c = zlib.compress(s, { dictionary = words })
    fails("EBADMSG", "needs a dictionary", zlib.decompress(c))
    fails("EBADMSG", "another dictionary", zlib.decompress(c, { dictionary = "other" }))
  end)

  it("fail on every cut", function()
    for _, format in ipairs(formats) do
      local s = text:sub(1, helper.hard and 200 or 2000)
      local c = zlib.compress(s, { format = format })
      for n = 0, #c - 1 do
        fails("EPIPE", "end is missing", zlib.decompress(c:sub(1, n), { format = format }))
      end
      fails("EBADMSG", "behind the end", zlib.decompress(c .. "\0", { format = format }))
    end
  end)

  it("never give another text than was compressed, whichever bit is changed", function()
    for _, format in ipairs { "zlib", "gzip" } do
      local s = text:sub(1, 400)
      local c = zlib.compress(s, { format = format })
      local failed = 0
      for i = 1, #c do
        for bit = 0, 7 do
          local byte = string.char(c:byte(i) ~ 1 << bit)
          local got, message, code = zlib.decompress(c:sub(1, i - 1) .. byte .. c:sub(i + 1),
            { format = format })
          if got then
            assert.equal(s, got) -- a gzip header's time or system
          else
            assert.is_true(code == "EBADMSG" or code == "EPIPE", message)
            failed = failed + 1
          end
        end
      end
      assert.is_true(failed > (#c - 9) * 8 - 8, format .. ": " .. failed)
    end
  end)

  it("stop at a limit", function()
    local bomb = zlib.compress(("\0"):rep(10 << 20), { format = "gzip", level = 9 })
    assert.is_true(#bomb < 11000)
    fails("EMSGSIZE", "longer than its limit", zlib.decompress(bomb, { max = 1 << 20 }))
    fails("EMSGSIZE", nil, zlib.decompress(bomb, { max = (10 << 20) - 1 }))
    assert.equal(10 << 20, #zlib.decompress(bomb, { max = 10 << 20 }))
    fails("EMSGSIZE", nil, zlib.decompress(zlib.compress "x", { max = 0 }))
    assert.equal("", zlib.decompress(zlib.compress "", { max = 0 }))
  end)

  it("refuse wrong arguments", function()
    local function raises(pattern, f, ...)
      local ok, message = pcall(f, ...)
      assert.is_false(ok)
      assert.matches(pattern, message)
    end
    for _, f in ipairs { zlib.compress, zlib.decompress } do
      raises("string expected", f)
      raises("table expected", f, "", 5)
      raises("unknown option 'speed' %(known: dictionary", f, "", { speed = 1 })
      raises("no such value 'lz4'", f, "", { format = "lz4" })
      raises("7 is not from 8 to 15", f, "", { window_bits = 7 })
      raises("16 is not from 8 to 15", f, "", { window_bits = 16 })
      raises("over 32 KiB", f, "", { dictionary = ("x"):rep(32769) })
      raises("not with gzip", f, "", { dictionary = "x", format = "gzip" })
    end
    raises("no such value 'auto'", zlib.compress, "", { format = "auto" })
    raises("no such value 'slow'", zlib.compress, "", { strategy = "slow" })
    raises("10 is not from 0 to 9", zlib.compress, "", { level = 10 })
    raises("0 is not from 1 to 9", zlib.compress, "", { memory = 0 })
    raises("'max': %-1 is not", zlib.decompress, "", { max = -1 })
    raises("a boolean", zlib.decompress, "", { joined = 1 })
    raises("unknown option 'max'", zlib.inflater, { max = 1 })
    local d, i = zlib.deflater(), zlib.inflater()
    raises("invalid option 'later'", d.compress, d, "", "later")
    raises("at least 64", d.next, d, 63)
    raises("at least 1 ", i.next, i, 0)
    raises("at least 0 ", i.decompress, i, "", -1)
    raises("neap.deflater expected", d.compress, i, "")
    raises("neap.inflater expected", i.decompress, d, "")
    raises("string expected", d.feed, d)
  end)
end)

-- What is ready, max bytes at a time.
local function pieces(z, max)
  return function() return z:next(max) end
end

describe("a deflater and an inflater", function()
  it("give the same however the bytes are cut", function()
    local s = text:sub(1, helper.hard and 500 or 5000)
    for _, format in ipairs(formats) do
      local d, i = zlib.deflater { format = format }, zlib.inflater { format = format }
      local c, got = {}, {}
      for at = 1, #s do c[#c + 1] = d:compress(s:sub(at, at)) end
      c[#c + 1] = d:finish()
      local all = table.concat(c)
      assert.is_true(all == zlib.compress(s, { format = format }))
      for at = 1, #all do
        assert.is_false(i.ended)
        i:feed(all:sub(at, at))
        for piece in pieces(i, 1) do
          assert.equal(1, #piece)
          got[#got + 1] = piece
        end
      end
      assert.is_true(i.ended and d.ended)
      assert.is_true(i:finish())
      assert.is_true(table.concat(got) == s)
      assert.equal(#s, i.total_out)
      assert.equal(#all, i.total_in)
    end
  end)

  it("flush, and Python can read all that was written", function()
    local d = zlib.deflater { format = "raw" }
    local one, two, three = d:compress("one", "sync"), d:compress("two", "full"), d:finish "three"
    assert.equal("\0\0\xff\xff", one:sub(-4))
    assert.equal("\0\0\xff\xff", two:sub(-4))
    local out = python(([[
d = zlib.decompressobj(-15)
for n in (%d, %d, %d):
    out(d.decompress(i[:n]) + b"|")
    i = i[n:]
assert d.eof]]):format(#one, #two, #three), one .. two .. three)
    assert.equal("one|two|three|", out)
  end)

  it("serve permessage-deflate: messages, context takeover, none, empty ones", function()
    for _, takeover in ipairs { true, false } do
      local d, i = zlib.deflater { format = "raw" }, zlib.inflater { format = "raw", joined = true }
      local sizes = {}
      for _, message in ipairs { text, text, "", "", "x", text } do
        local c = d:compress(message, "sync")
        if c == "" then c = "\0\0\0\xff\xff" end -- nothing is new
        assert.equal("\0\0\xff\xff", c:sub(-4))
        sizes[#sizes + 1] = #c
        assert.is_true(i:decompress(c:sub(1, -5)) .. i:decompress "\0\0\xff\xff" == message)
        if not takeover then
          d:reset()
          i:reset()
        end
      end
      -- What lies a window back is not found again; what the table of the last 32 KiB has is.
      assert.is_true(takeover == (sizes[2] < sizes[1]), sizes[1] .. " " .. sizes[2])
    end
  end)

  it("read the example messages of RFC 7692 section 7.2.3", function()
    local hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
    local i = zlib.inflater { format = "raw", joined = true }
    local function message(bytes) return i:decompress(bytes .. "\0\0\xff\xff") end
    assert.equal("Hello", message(hello))
    assert.equal("Hello", message "\xf2\x00\x11\x00\x00") -- out of the window of the first
    i:reset()
    assert.equal("Hello", message "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00") -- stored
    assert.equal("Hello", message "\xf3\x48\xcd\xc9\xc9\x07\x00\x00") -- a final block
    assert.equal("Hello", message "\xf2\x00\x11\x00\x00") -- whose window stays
    assert.equal("Hello", message "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")
    assert.equal("\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff",
      zlib.deflater { format = "raw" }:compress("Hello", "sync"))
  end)

  it("without joined end at a final block", function()
    local c = zlib.compress("one", { format = "raw" })
    local i = zlib.inflater { format = "raw" }
    assert.equal("one", i:decompress(c .. c))
    assert.equal(c, i:rest())
    fails("EBADMSG", "behind the end", i:finish())
  end)

  -- Read byte by byte, the window is all that an inflater of zlib's can look back into.
  local function reads(c, bits)
    local i, n = zlib.inflater { format = "raw", window_bits = bits }, 0
    i:feed(c)
    while true do
      local piece, _, code = i:next(1)
      if not piece then return not code and n end
      n = n + #piece
    end
  end

  it("of raw data keep to their window, 256 bytes included", function()
    local s = text:sub(1, 20000)
    for bits = 8, 15 do
      for level = 1, 9, 4 do
        for memory = 1, 9, 4 do
          local opts = { format = "raw", window_bits = bits, level = level, memory = memory }
          local c = zlib.compress(s, opts)
          assert.equal(#s, reads(c, bits), bits .. " " .. level .. " " .. memory)
        end
      end
    end
    assert.is_false(reads(zlib.compress(s, { format = "raw", window_bits = 10 }), 8))
  end)

  it("take a large message through in pieces of bounded size", function()
    local piece <const> = ("0123456789abcdef"):rep(4096)
    local count <const> = helper.hard and 20 or 400
    local d, i = zlib.deflater { level = 1 }, zlib.inflater()
    local got, most = 0, 0
    local function drain()
      for c in pieces(d, 4096) do
        assert.is_true(#c <= 4096)
        i:feed(c)
        for out in pieces(i, 10000) do
          assert.is_true(#out <= 10000)
          got = got + #out
        end
      end
      collectgarbage()
      most = math.max(most, collectgarbage "count")
    end
    collectgarbage()
    local before = collectgarbage "count"
    for _ = 1, count do
      d:feed(piece)
      drain()
    end
    d:feed("", "finish")
    drain()
    assert.equal(count * #piece, got)
    assert.is_true(i:finish())
    assert.is_true(most - before < 1024, most - before .. " KiB")
  end)

  it("meet a bomb with a few bytes of memory", function()
    local d, parts = zlib.deflater { format = "gzip" }, {}
    local zeros = ("\0"):rep(1 << 20)
    for _ = 1, helper.hard and 4 or 100 do parts[#parts + 1] = d:compress(zeros) end
    parts[#parts + 1] = d:finish()
    local i = zlib.inflater { format = "gzip" }
    collectgarbage()
    local before = collectgarbage "count"
    fails("EMSGSIZE", "longer", i:decompress(table.concat(parts), 100000))
    assert.is_true(collectgarbage "count" - before < 2048)
    -- Nobody knows what is missing: it stays at that, until it begins again.
    fails("EMSGSIZE", "longer", i:decompress(""))
    fails("EMSGSIZE", "longer", i:next())
    fails("EMSGSIZE", "longer", i:finish())
    assert.equal("x", i:reset():decompress(zlib.compress("x", { format = "gzip" })))
  end)

  it("give what came before a failure, then the failure, again and again", function()
    local c = zlib.compress(text)
    local i = zlib.inflater()
    i:feed(c:sub(1, -5) .. "\0\0\0\0")
    local got = {}
    while true do
      local piece, message, code = i:next(1000)
      if not piece then
        fails("EBADMSG", "incorrect data check", piece, message, code)
        break
      end
      got[#got + 1] = piece
    end
    assert.is_true(table.concat(got) == text)
    fails("EBADMSG", "incorrect data check", i:next())
    fails("EBADMSG", "incorrect data check", i:decompress "more")
    fails("EPIPE", nil, i:finish())
    i:reset()
    assert.is_true(i:decompress(c) == text)
  end)

  it("take up what is behind the end as gzip does, and nothing else", function()
    local g = zlib.compress("one", { format = "gzip" })
    for _, format in ipairs { "auto", "gzip" } do
      local i = zlib.inflater { format = format }
      assert.equal("one", i:decompress(g))
      assert.is_true(i.ended)
      assert.equal("one", i:decompress(g)) -- a member that came later
      assert.equal("", i:decompress(g:sub(1, 5)))
      fails("EPIPE", "missing", i:finish())
      assert.equal("one", i:decompress(g:sub(6) .. "tail"))
      assert.equal("tail", i:rest())
      fails("EBADMSG", "behind the end", i:finish())
    end
    local i = zlib.inflater()
    assert.equal("one", i:decompress(zlib.compress "one" .. g))
    assert.equal(g, i:rest())
  end)

  it("have an end", function()
    local d <close> = zlib.deflater()
    local i <close> = zlib.inflater()
    assert.matches("^neap.deflater{in=0 out=0}$", tostring(d))
    local c = d:compress("x", "finish")
    assert.matches("^neap.deflater{in=1 out=9 ended}$", tostring(d))
    assert.is_nil(d:next())
    assert.has_error(function() d:compress "y" end)
    assert.has_error(function() d:feed "y" end)
    assert.has_error(function() d:finish() end)
    assert.equal(c, d:reset():finish "x")
    assert.equal("x", i:decompress(c))
    for _, z in ipairs { d, i } do
      assert.is_true(z:close())
      assert.is_true(z:close())
      assert.is_true(z.closed)
      assert.is_false(z.ended)
      fails("ECANCELED", "closed", z:feed "x")
      fails("ECANCELED", "closed", z:next())
      fails("ECANCELED", "closed", z:finish())
      fails("ECANCELED", "closed", z:reset())
      assert.matches("closed", tostring(z))
    end
    fails("ECANCELED", "closed", d:compress "x")
    fails("ECANCELED", "closed", i:decompress "x")
    assert.equal("", i:rest())
    assert.is_nil(i.nothing)
  end)

  it("hold no string when they wait for more", function()
    local d, i = zlib.deflater(), zlib.inflater()
    for _ = 1, 3 do
      collectgarbage()
      local before = collectgarbage "count"
      i:decompress(d:compress(("x"):rep(10 << 20), "sync"))
      collectgarbage()
      assert.is_true(collectgarbage "count" - before < 1024)
    end
  end)

  it("survive finalizers that use them in the middle", function()
    local d, i = zlib.deflater { level = 0 }, zlib.inflater()
    local calls = 0
    local function plant()
      setmetatable({}, { __gc = function()
        calls = calls + 1
        d:feed "more "
        i:feed "nothing that is compressed"
        i:next(1)
        if calls < 200 then plant() else d:close() i:close() end
      end })
    end
    plant()
    local ok, steps = true, 0
    while ok and not d.closed and steps < 1e6 do
      steps = steps + 1
      ok = pcall(function()
        d:feed(text)
        for c in pieces(d, 5000) do
          i:feed(c)
          i:decompress(text, 1 << 20)
          i:reset()
        end
      end)
      if not d.closed then ok = true end
      collectgarbage "step"
    end
    assert.is_true(calls >= 200)
  end)

  it("give their memory back when nobody closes them", function()
    local function resident()
      return tonumber(helper.read_file "/proc/self/statm":match "^%d+ (%d+)") * 4
    end
    for _ = 1, 50 do zlib.deflater():compress "x" end
    local before = resident()
    for _ = 1, helper.hard and 50 or 2000 do zlib.deflater():compress "x" end -- 500 MiB in all
    assert.is_true(resident() - before < 65536 * helper.slow, resident() - before .. " KiB")
  end)
end)
