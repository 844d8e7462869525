-- starttls, and streams with TLS on them, on any stream that there is.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local peers = require "spec.support.tls"

local serve, upper = peers.serve, peers.upper

describe("starttls", function()
  local function pair(kind)
    local a, b = assert(net.pair(kind or "mem"))
    helper.after(function()
      a:abort()
      b:abort()
    end)
    return a, b
  end

  it("goes on with the stream as it is, from plain text to TLS", function()
    local a, b = pair "unix"
    local served = neap.spawn(function()
      assert.equal("STARTTLS", b:read())
      b:write "go\n"
      assert(b:starttls(certs.server { server = true }))
      upper(b)
    end)
    a:write "STARTTLS\n"
    assert.equal("go", a:read())
    assert.equal(a, a:starttls(certs.client { name = "localhost" }))
    a:write "hello\n"
    assert.equal("HELLO", a:read())
    assert.equal("localhost", a.tls.name)
    a:close()
    assert(served:join())
  end)

  it("refuses plaintext that came with the answer", function()
    local a, b = pair()
    b:write "220 ready\r\n250 injected\r\n"
    assert.equal("220 ready\r", a:read())
    local ok, message, code = a:starttls(certs.client { name = "localhost" })
    assert.is_nil(ok)
    assert.matches(": %d+ bytes of plaintext", message)
    assert.equal("EPROTO", code)
    assert.equal("250 injected\r", a:read()) -- it is as it was
  end)

  it("hands unread bytes to TLS when it is told so", function()
    local a, b = pair()
    local client = neap.spawn(function()
      a:write "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
      assert(a:starttls(certs.client { name = "localhost" }))
      a:write "hello\n"
      return a:read()
    end)
    assert.equal("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r", b:read())
    assert(helper.wait_until(function() return b:peek() end))
    assert(b:starttls(certs.server { server = true, unread = true }))
    assert.equal("hello", b:read())
    b:write "ok\n"
    assert.same({ true, "ok" }, { client:join() })
  end)

  it("tells a cut from an end", function()
    for _, polite in ipairs { true, false } do
      local server = serve({}, function(c)
        c:write "some"
        c:flush()
        if not polite then
          local fd = assert(require("neap.descriptor.core").dup(c.fd))
          c:read()
          local raw <close> = assert(net.adopt(fd))
          raw:shutdown()
        end
      end)
      local c <close> = assert(net.connect(server.address, certs.client()))
      if polite then
        assert.equal("some", c:read "a")
      else
        assert.equal("some", c:recv())
        c:write "now\n"
        local rest, message, code = c:read "a"
        assert.is_nil(rest)
        assert.matches("close_notify", message)
        assert.equal("ETRUNCATED", code)
      end
    end
  end)

  local function shaken(kind)
    local a, b = pair(kind)
    local task = neap.spawn(b.starttls, b, certs.server { server = true })
    assert(a:starttls(certs.client { name = "localhost" }))
    assert(task:join())
    return a, b
  end

  it("reads what the peer said before writing failed", function()
    local a, b = shaken "unix"
    b:write "hello\n"
    assert.equal("hello", a:read()) -- what came with the handshake fills a buffer of single bytes
    b:write "answer\n"
    assert(b:flush())
    b:abort()
    assert(helper.wait_until(function() return not (a:write "x" and a:flush()) end))
    assert.equal("answer", a:read())
    assert.is_nil((a:read()))
  end)

  it("leaves the stream free when it is cancelled", function()
    local a = pair()
    local task = neap.spawn(a.starttls, a, certs.client { name = "localhost" })
    neap.yield()
    task:cancel()
    task:join()
    local ok, _, code = a:read("l", { timeout = 0 })
    assert.is_nil(ok)
    assert.equal("ETIMEDOUT", code)
  end)

  it("takes many small records in turns", function()
    local a, b = shaken "unix"
    local n = helper.hard and 200 or 5000
    local writer = neap.spawn(function()
      for _ = 1, n do
        b:write "x"
        b:flush()
      end
    end)
    neap.sleep(0.01)
    local got = 0
    while got < n do
      local piece = assert(a:recv(1 << 16))
      assert.is_true(#piece <= 128)
      got = got + #piece
    end
    assert(writer:join())
  end)

  it("tells of itself while finalizers close it", function()
    for _ = 1, 5 do
      local a = shaken()
      setmetatable({}, { __gc = function() a:close() end })
      repeat local _ = a.tls until a.closed
      assert.is_nil(a.tls)
    end
  end)

  it("is refused while another task uses the stream, and without a name to check", function()
    local a = pair()
    local reader = neap.spawn(a.read, a)
    neap.yield()
    assert.has_error(function() a:starttls(certs.client { name = "x" }) end)
    reader:cancel()
    reader:join()
    local ok, message = pcall(function() a:starttls(certs.client()) end)
    assert.is_false(ok)
    assert.matches("tls_start_spec.lua:%d+: .*option 'name'", message)
  end)

  it("wakes with closed when the stream is closed meanwhile", function()
    local a = pair()
    local task = neap.spawn(a.starttls, a, certs.client { name = "localhost" })
    neap.yield()
    a:close()
    assert.same({ true, nil, "closed", "ECANCELED" }, { task:join() })
  end)

  it("can be piped: a proxy that ends TLS in front of a plain server", function()
    local plain = net.serve("tcp://127.0.0.1:0", upper)
    local server = serve({}, function(c)
      local up <close> = assert(net.connect(plain.address))
      net.pipe(c, up)
    end)
    helper.after(function() plain:stop(0) end)
    local c <close> = assert(net.connect(server.address, certs.client()))
    local sent = ("x"):rep(2000) .. "\n"
    local n = helper.hard and 5 or 500
    local writer = neap.spawn(function()
      for _ = 1, n do assert(c:write(sent)) end
      c:shutdown()
    end)
    for _ = 1, n do assert.equal(sent:upper(), assert(c:read "L")) end
    assert.is_nil(c:read())
    assert(writer:join())
  end)
end)
