-- A refusal arrives: the alert that ends a handshake is not overtaken by the reset that closing
-- with unread bytes would be.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local peers = require "spec.support.tls"
local dup = require("neap.descriptor.core").dup

local TIMES = helper.slow > 1 and 30 or 100
local LIMIT_S = 10 * helper.slow
local BEHIND = ("behind it "):rep(helper.hard and 300 or 100000) -- more than one read takes

local function plain(server) return (server.address:gsub("^tls", "tcp")) end

-- The ClientHello of a client of ours with these options.
local function hello(opts)
  local l <close> = assert(net.listen "tcp://127.0.0.1:0")
  local recorder = neap.spawn(function()
    local c <close> = assert(l:accept())
    local head = assert(c:read(5))
    return head .. assert(c:read(((">I2"):unpack(head, 4))))
  end)
  assert.is_nil((net.connect("tls" .. l.address:sub(4), opts)))
  return select(2, assert(recorder:join()))
end

-- What a client hears that sends `first` and much more, then reads to the end.
local function answer(address, first)
  local c <close> = assert(net.connect(address, { timeout = LIMIT_S }))
  local writer = neap.spawn(function()
    c:write(first, BEHIND)
    c:flush()
  end)
  local said, message = c:read "a"
  writer:join()
  return said, message
end

describe("a server's refusal", function()
  it("of a version reaches a client that sends on, each time", function()
    local server, _, logged = peers.serve { max_version = "1.2" }
    local first = hello(certs.client { min_version = "1.3" })
    for i = 1, TIMES do
      assert.equal("\21\3\3\0\2\2\70", (answer(plain(server), first)), i) -- protocol_version
    end
    assert(helper.wait_until(function() return #logged == TIMES end))
    assert.matches("unsupported protocol$", logged[1])
  end)

  it("of a message that is none, too", function()
    local server = peers.serve()
    for i = 1, TIMES do
      local said, message = answer(plain(server), "\22\3\1\0\5\1\0\0\1\0")
      assert.equal("\21\3\3\0\2\2\50", said, i .. " " .. tostring(message)) -- decode_error
    end
  end)

  it("of bytes in the middle of a connection, too", function()
    local server, _, logged = peers.serve()
    for i = 1, TIMES do
      local c <close> = assert(net.connect(server.address, certs.client()))
      c:write "hello\n"
      assert.equal("HELLO", c:read("l", { timeout = LIMIT_S }))
      local raw <close> = assert(net.adopt(assert(dup(c.fd))))
      raw:write("\23\3\3\0\20", BEHIND)
      local writer = neap.spawn(raw.flush, raw)
      local line, message, code = c:read("l", { timeout = LIMIT_S })
      writer:join()
      assert.is_nil(line)
      assert.matches("alert bad record mac", message, 1, true, tostring(i))
      assert.equal("ETLS", code)
    end
    assert(helper.wait_until(function() return #logged == TIMES end))
  end)
end)

describe("a client's refusal", function()
  it("reaches the server, each time", function()
    local server, _, logged = peers.serve()
    for i = 1, TIMES do
      local c, message, code = net.connect(server.address, certs.client { name = "other.test" })
      assert.is_nil(c)
      assert.equal("ECERT", code, message)
      assert(helper.wait_until(function() return #logged == i end))
      assert.matches("alert bad certificate$", logged[i])
    end
  end)
end)
