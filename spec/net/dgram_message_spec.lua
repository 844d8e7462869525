-- Codecs over datagram and record sockets: what is sent is read, and what is no message hurts
-- nobody else.

local codec = require "neap.codec"
local dns = require "neap.dns"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

local function closing(...)
  local list = { ... }
  helper.after(function()
    for _, socket in ipairs(list) do socket:close() end
  end)
  return ...
end

local function udp(opts) return closing(assert(net.datagram("udp://127.0.0.1:0", opts))) end

local function pair_of(kind) return closing(net.pair(kind)) end

describe("messages of a datagram socket", function()
  local tagged = codec.tlv ">I1I2"
  -- codec, message, its values
  local cases = {
    { codec.line(), "a line" }, { codec.netstring(), ("x"):rep(1000) }, { codec.netstring(), "" },
    { tagged, { 7, "ab" }, 7, "ab" },
    { codec.record(">I1z", { "kind", "name" }), { kind = 1, name = "n" } },
    { codec.sequence { codec.fixed(2), codec.line() }, { "ab", "rest" } },
    { codec.line():map(tonumber, tostring), 12 },
    { dns.codec.message, { id = 5, questions = { { name = "a", type = "A" } } } },
  }

  it("are what was sent, whatever the codec", function()
    local a, b = udp(), udp()
    for i, case in ipairs(cases) do
      local c, message = case[1], case[2]
      assert.is_true(b:send_message(c, message, a.address))
      local got = table.pack(a:read_message(c, { timeout = 5 }))
      assert.equal(b.address, got[case[3] and 3 or 2], "case " .. i)
      if case[3] then
        assert.same({ case[3], case[4] }, { got[1], got[2] })
      elseif i == #cases then
        assert.equal(5, got[1].id)
      else
        assert.same(message, got[1])
      end
    end
  end)

  it("are iterated on every kind of socket; what is none is left out", function()
    for _, kind in ipairs { "unix-dgram", "unix-seqpacket" } do
      local a, b = pair_of(kind)
      for _, bytes in ipairs { "3:abc,", "rubbish", "", "3:abc,3:def,", "2:a", "0:," } do
        assert(b:send(bytes))
      end
      b:send_message(codec.netstring(), "last")
      local seen = {}
      for m in a:messages(codec.netstring()) do
        seen[#seen + 1] = m
        if m == "last" then break end
      end
      assert.same({ "abc", "", "last" }, seen, kind)
    end
  end)

  it("tell their sender; of one that is none, too", function()
    local server, client = udp(), udp()
    local task = neap.spawn(function()
      for n, from in server:messages(codec.line():map(tonumber, tostring)) do
        assert(server:send_message(codec.line(), "got " .. n, from))
      end
      return "ended"
    end)
    client:send("x\n", server.address)
    client:send("5\n", server.address)
    assert.equal("got 5", (client:read_message(codec.line(), { timeout = 5 })))
    server:close()
    assert.same({ true, "ended" }, { task:join() })
    local a = udp()
    client:send("x\n", a.address)
    local none, message, code, from, info = a:read_message(codec.netstring(),
      { timeout = 5, info = true })
    assert.is_nil(none)
    assert.matches("netstring", message)
    assert.equal("EBADMSG", code)
    assert.equal(client.address, from)
    assert.equal(a.address, info.to)
  end)

  it("come with descriptors", function()
    local a, b = pair_of "unix-dgram"
    assert(b:send_message(tagged, { 1, "fd" }, nil, { fds = { b } }))
    local tag, text, _, info = a:read_message(tagged, { fds = 1, timeout = 5 })
    assert.same({ 1, "fd" }, { tag, text })
    assert.equal(1, #info.fds)
    info.fds[1]:close()
  end)

  it("end with a record socket's peer; other failures are told or raised", function()
    local a, b = pair_of "unix-seqpacket"
    b:close()
    assert.is_nil((a:read_message(codec.line())))
    assert.is_nil(a:messages(codec.line())())
    local silent = udp { timeout = 0.01 }
    assert.equal("ETIMEDOUT", (select(3, silent:read_message(codec.line()))))
    local ok, err = pcall(silent:messages(codec.line()))
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
    silent:close()
    assert.equal("ECANCELED", (select(3, silent:read_message(codec.line()))))
    assert.is_nil(silent:messages(codec.line())())
    assert.equal("ECANCELED", (select(3, silent:send_message(codec.line(), "x", "udp://[::1]:1"))))
  end)

  it("are not sent where they cannot be encoded, or by what is no codec", function()
    local a, b = pair_of "unix-dgram"
    assert.equal("EINVAL", (select(3, b:send_message(codec.line(), "a\nb"))))
    assert.equal("EMSGSIZE", (select(3, b:send_message(codec.line(3), "four"))))
    assert.equal("EDESTADDRREQ", (select(3, udp():send_message(codec.line(), "x"))))
    assert.equal("ETIMEDOUT", (select(3, a:recv { timeout = 0 })))
    for i, f in ipairs {
      function() a:messages "line" end, function() a:messages() end,
      function() a:read_message {} end, function() a:send_message({ decode = print }, "x") end,
      function() a:read_message(codec.line(), { tiemout = 1 }) end,
      function() a:send_message(codec.line(), "x", { tiemout = 1 }) end,
    } do
      local ok, err = pcall(f)
      assert.is_false(ok, i)
      assert.matches("^[^\n]*dgram_message_spec.lua:%d+: bad argument", tostring(err), i)
    end
  end)

  it("of any bytes make nobody raise", function()
    local a, b = pair_of "unix-dgram"
    local seed = 7
    local list = { codec.line(), codec.netstring(), tagged, dns.codec.message,
      codec.choice { a = codec.netstring(), ["*"] = codec.line() } }
    for i = 1, helper.hard and 100 or 1000 do
      local bytes = {}
      for k = 1, i % 20 do
        seed = (seed * 1103515245 + 12345) & 0x7fffffff
        bytes[k] = string.char(("0123:,a\n\0\1\255"):byte(1 + (seed >> 8) % 11))
      end
      assert(b:send(table.concat(bytes)))
      local first, _, code = a:read_message(list[1 + i % #list])
      assert.is_true(first ~= nil or code == "EBADMSG" or code == "EMSGSIZE", code)
    end
  end)
end)
