-- neap.codec as scripts see it; the conditions beneath are in core/cond_spec.lua.

local codec = require "neap.codec"

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
    assert.equal("a", (codec.delim("--", 1):decode "a--"))
    assert.equal("EMSGSIZE", (select(3, codec.delim("--", 0):decode "a--")))
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
    local ok, message = pcall(function() codec.delim("x", "many") end)
    assert.is_false(ok)
    assert.truthy(message:find("codec_spec.lua:" .. line .. ": bad argument #2", 1, true), message)
  end)
end)
