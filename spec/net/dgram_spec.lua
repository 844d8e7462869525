-- Datagram and record sockets, against socat and each other.

local neap = require "neap"
local net = require "neap.net"
local helper = require "spec.support.helper"

local function port_of(address) return address:match ":(%d+)$" end

-- LeakSanitizer does not work under ptrace.
local strace_f = "env ASAN_OPTIONS=detect_leaks=0 strace -f"

-- Two connected sockets, closed when the test ends.
local function pair_of(kind)
  local a, b = assert(net.pair(kind))
  helper.after(function() return a:close(), b:close() end)
  return a, b
end

-- Both kinds of UDP loopback.
local families = { "udp://127.0.0.1:0", "udp://[::1]:0" }

describe("UDP", function()
  it("brings a message and its sender, an empty one too", function()
    for _, address in ipairs(families) do
      local a <close> = assert(net.datagram(address))
      local b <close> = assert(net.datagram(address))
      for _, msg in ipairs { "hello", "", ("x"):rep(60000), "\0\255" } do
        assert.is_true(a:send(msg, b.address))
        local got, from, info = b:recv { timeout = 5 }
        assert.equal(msg, got)
        assert.equal(a.address, from)
        assert.is_nil(info)
      end
    end
  end)

  it("answers socat", function()
    local s <close> = assert(net.datagram "udp://127.0.0.1:0")
    local command = "exec socat -t 5 -T 2 - UDP:127.0.0.1:" .. port_of(s.address)
    local client = helper.start(command, { stdin = "to upper" })
    local msg, from = assert(s:recv { timeout = 5 })
    assert.is_true(s:send(msg:upper(), from))
    client:expect "TO UPPER"
  end)

  it("of both families shows an IPv4 peer as what it is and answers it", function()
    local s <close> = assert(net.datagram "udp://:0")
    local c4 <close> = assert(net.datagram "udp://127.0.0.1:0")
    local c6 <close> = assert(net.datagram "udp://[::1]:0")
    for _, case in ipairs { { c4, "127.0.0.1" }, { c6, "[::1]" } } do
      local c, host = case[1], case[2]
      assert.is_true(c:send("hi", "udp://" .. host .. ":" .. port_of(s.address)))
      local _, from = s:recv { timeout = 5 }
      assert.equal(c.address, from)
      assert.is_true(s:send("back", from))
      assert.equal("back", (c:recv { timeout = 5 }))
    end
  end)

  it("sends unbound, with a port of the kernel's choice, to either family", function()
    local u <close> = assert(net.datagram())
    for _, address in ipairs(families) do
      local s <close> = assert(net.datagram(address))
      -- the scheme goes without saying
      assert.is_true(u:send("out", s.address:match "^udp://(.*)$"))
      local msg, from = s:recv { timeout = 5 }
      assert.equal("out", msg)
      assert.is_true(s:send("in", from))
      local answer, sender = u:recv { timeout = 5 }
      assert.equal("in", answer)
      assert.equal(s.address, sender)
    end
  end)

  it("connected hears and reaches its peer only", function()
    local s <close> = assert(net.datagram "udp://127.0.0.1:0")
    local c <close> = assert(net.datagram(nil, { connect = s.address }))
    local other <close> = assert(net.datagram "udp://127.0.0.1:0")
    assert.equal(s.address, c.peer)
    assert.is_true(c:send "ping")
    local _, from = s:recv { timeout = 5 }
    assert.equal(c.address, from)
    other:send("noise", c.address)
    s:send("pong", from)
    local msg, peer = c:recv { timeout = 5 }
    assert.equal("pong", msg)
    assert.equal(s.address, peer)
    assert.equal("ETIMEDOUT", select(3, c:recv { timeout = 0.02 }))
  end)

  it("tells a refusal once and goes on", function()
    local gone = assert(net.datagram "udp://127.0.0.1:0")
    local c <close> = assert(net.datagram("udp://127.0.0.1:0", { connect = gone.address }))
    local address = gone.address
    gone:close()
    assert.is_true(c:send "anybody?")
    local msg, message, code = c:recv { timeout = 5 }
    assert.is_nil(msg)
    assert.equal("ECONNREFUSED", code)
    assert.equal("recv on " .. address .. ": connection refused", message)
    local back <close> = assert(net.datagram(address))
    assert.is_true(c:send "now?")
    assert.equal("now?", (back:recv { timeout = 5 }))
  end)

  it("wakes a waiting receiver with the refusal", function()
    local gone = assert(net.datagram "udp://127.0.0.1:0")
    local c <close> = assert(net.datagram(nil, { connect = gone.address }))
    gone:close()
    neap.group(function(g)
      g:spawn(function() assert.equal("ECONNREFUSED", select(3, c:recv { timeout = 5 })) end)
      neap.sleep(0.01)
      c:send "x"
    end)
  end)

  it("never passes a cut message off as whole", function()
    local a <close> = assert(net.datagram "udp://127.0.0.1:0")
    local b <close> = assert(net.datagram "udp://127.0.0.1:0")
    for _ = 1, 3 do a:send("0123456789", b.address) end
    local msg, message, code = b:recv(4, { timeout = 5 })
    assert.is_nil(msg)
    assert.equal("EMSGSIZE", code)
    assert.matches("10 bytes came, 4 were asked for", message)
    local from, info
    msg, from, info = b:recv(4, { info = true, timeout = 5 })
    assert.equal("0123", msg)
    assert.equal(a.address, from)
    assert.equal(10, info.truncated)
    msg, from, info = b:recv(10, { info = true, timeout = 5 })
    assert.equal("0123456789", msg)
    assert.equal(a.address, from)
    assert.is_nil(info.truncated)
  end)

  it("tells where a message was sent to, over what, and its TTL", function()
    for _, address in ipairs(families) do
      local a <close> = assert(net.datagram(address))
      local b <close> = assert(net.datagram(address, { info = true }))
      a:send("x", b.address)
      local _, _, info = b:recv { info = true, timeout = 5 }
      assert.equal(b.address, info.to)
      assert.is_true(info.ifindex > 0)
      assert.equal(64, info.ttl)
    end
  end)

  it("tells so of IPv4 on a socket of both families", function()
    local any <close> = assert(net.datagram("udp://:0", { info = true }))
    local a <close> = assert(net.datagram "udp://127.0.0.1:0")
    a:send("x", "127.0.0.1:" .. port_of(any.address))
    local _, _, info = any:recv { info = true, timeout = 5 }
    assert.equal("udp://127.0.0.1:" .. port_of(any.address), info.to)
  end)

  it("keeps many senders apart, more than it remembers, of either family", function()
    local each <const>, rounds <const> = 100, helper.hard and 3 or 14
    for _, address in ipairs { "udp://127.0.0.1:0", "udp://:0", "udp://[::1]:0" } do
      local s <close> = assert(net.datagram(address, { receive_buffer = 1 << 20 }))
      local host = address:find "%[" and "[::1]:" or "127.0.0.1:"
      for round = 1, rounds do
        local clients = {}
        for i = 1, each do clients[i] = assert(net.datagram("udp://" .. host .. "0")) end
        for pass = 1, 2 do
          for i, c in ipairs(clients) do c:send(tostring(i), host .. port_of(s.address)) end
          local n = 0
          while n < each do
            local msgs, froms = assert(s:recv_batch(round % 2 == 0 and 1 or 64, { timeout = 5 }))
            for k, msg in ipairs(msgs) do
              assert.equal(clients[tonumber(msg)].address, froms[k])
              if pass == 1 then assert.is_true(s:send(msg, froms[k])) end
            end
            if pass == 2 then assert.equal(#msgs, s:send_batch(msgs, froms)) end
            n = n + #msgs
          end
          for i, c in ipairs(clients) do assert.equal(tostring(i), (c:recv { timeout = 5 })) end
        end
        for _, c in ipairs(clients) do c:close() end
      end
    end
  end)

  it("reports what cannot be sent", function()
    local u <close> = assert(net.datagram "udp://127.0.0.1:0")
    local cases = {
      { ("x"):rep(70000), u.address, "EMSGSIZE" }, -- longer than UDP can carry
      { "x", nil, "EDESTADDRREQ" }, -- nobody to send to
      { "x", "udp://127.0.0.1:99999", "EINVAL" }, -- no such port
      { "x", "unix-dgram:/tmp/x", "EPROTOTYPE" }, -- another kind of socket
      { "x", "udp://255.255.255.255:9", "EACCES" }, -- broadcast was not asked for
    }
    for i, case in ipairs(cases) do
      local ok, message, code = u:send(case[1], case[2])
      assert.is_nil(ok, i)
      assert.equal(case[3], code, i)
      assert.equal("send to " .. (case[2] or u.address), message:match "^(.-): ", i)
    end
  end)

  it("gives several receivers one message each", function()
    local s <close> = assert(net.datagram "udp://127.0.0.1:0")
    local c <close> = assert(net.datagram "udp://127.0.0.1:0")
    local got = {}
    neap.group(function(g)
      for _ = 1, 4 do
        g:spawn(function()
          local msg = s:recv { timeout = 5 }
          got[#got + 1] = msg
        end)
      end
      neap.yield()
      for i = 1, 4 do c:send(tostring(i), s.address) end
    end)
    assert.same({ "1", "2", "3", "4" }, got)
  end)

  it("wakes its waiters when our side closes", function()
    local s = assert(net.datagram "udp://127.0.0.1:0")
    local seen
    neap.group(function(g)
      g:spawn(function() seen = table.pack(s:recv()) end)
      neap.yield()
      s:close()
    end)
    assert.same({ n = 3, nil, "closed", "ECANCELED" }, seen)
    assert.same({ n = 3, nil, "closed", "ECANCELED" }, table.pack(s:send("x", "127.0.0.1:1")))
    assert.is_nil(s.fd)
    assert.matches("^neap%.datagram{udp://.* closed}$", tostring(s))
  end)

  it("leaves the queue when cancelled, and the next message stays for others", function()
    local s <close> = assert(net.datagram "udp://127.0.0.1:0")
    local task = neap.spawn(function() coroutine.wrap(function() s:recv() end)() end)
    neap.yield()
    task:cancel()
    task:join()
    assert.is_true(s:send("mine", s.address))
    assert.equal("mine", (s:recv { timeout = 5 }))
  end)

  it("takes options by name, refuses others", function()
    local s <close> = assert(net.datagram("udp://127.0.0.1:0", { broadcast = true, ttl = 7 }))
    assert.is_true(s:option "broadcast")
    assert.equal(7, s:option "ttl")
    assert.is_true(s:option("ttl", 8))
    assert.equal(8, s:option "ttl")
    local other <close> = assert(net.datagram("udp://127.0.0.1:0", { info = true }))
    s:send("x", other.address)
    assert.equal(8, (select(3, other:recv { info = true, timeout = 5 })).ttl)
    s.timeout = 0.01
    assert.equal("ETIMEDOUT", select(3, s:recv()))
    local bad = {
      { function() net.datagram(nil, { brodcast = true }) end, "unknown option 'brodcast'" },
      { function() net.datagram(5, { mode = "x" }) end, "mode" },
      { function() s:recv(0) end, "not from 1 to" },
      { function() s:recv(1 << 30) end, "not from 1 to" },
      { function() s:recv { fds = 254 } end, "254 is not from 0 to 253" },
      { function() s:recv { infos = true } end, "unknown option 'infos'" },
      { function() s:send() end, "#1" },
      { function() s:send({}, "x") end, "#1" },
      { function() s:send("x", 1 == 1) end, "#2" },
      { function() s.peer = "x" end, "field 'peer' cannot be set" },
      { function() s.timeout = -1 end, "seconds" },
    }
    for i, case in ipairs(bad) do
      local ok, err = pcall(case[1])
      assert.is_false(ok, i)
      assert.matches(case[2], err, 1, false, i)
    end
  end)

  it("reports bad addresses as outcomes", function()
    local cases = {
      { "tcp://127.0.0.1:0", nil, "EPROTOTYPE" }, -- a stream
      { "udp://127.0.0.1", nil, "EINVAL" }, -- no port
      { "unix-seqpacket:/tmp/x", nil, "EDESTADDRREQ" }, -- records need a peer
      { "udp://127.0.0.1:0", "unix-dgram:/tmp/x", "EINVAL" }, -- two kinds
      { nil, "unix-dgram:/tmp/neap.nobody", "ENOENT" }, -- nobody there
      { "udp://192.0.2.1:0", nil, "EADDRNOTAVAIL" }, -- not ours
      { "fd:986", nil, "EBADF" }, -- not open
    }
    for i, case in ipairs(cases) do
      local s, message, code = net.datagram(case[1], { connect = case[2] })
      assert.is_nil(s, i)
      assert.equal(case[3], code, i)
      assert.equal("datagram ", message:sub(1, 9), i)
    end
  end)

  it("goes on when the kernel interrupts, and says what else it says", function()
    local script = [[
      local net = require "neap.net"
      local s = assert(net.datagram "udp://127.0.0.1:0")
      for _ = 1, 3 do
        local ok, message, code = s:send("x", s.address)
        print(ok, code)
        if ok then print((s:recv { timeout = 5 })) end
      end
      s:close()
    ]]
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", script)
    local strace = strace_f .. " -o %s/trace -e inject=sendto,sendmsg:error=%s:when=2"
      .. " -e inject=recvfrom,recvmsg:error=%s:when=1 %s %s/s.lua"
    local cases = {
      { "EINTR", "EINTR", "true\tnil\nx\ntrue\tnil\nx\ntrue\tnil\nx\n" },
      { "ENOBUFS", "EAGAIN", "true\tnil\nx\nnil\tENOBUFS\ntrue\tnil\nx\n" },
      { "EAGAIN", "EAGAIN", "true\tnil\nx\ntrue\tnil\nx\ntrue\tnil\nx\n" },
    }
    for _, case in ipairs(cases) do
      local out, err, status = helper.run(strace:format(dir, case[1], case[2], helper.neap, dir))
      assert.equal(0, status, err)
      assert.equal(case[3], out)
    end
  end)
end)

describe("AF_UNIX datagrams", function()
  it("carry messages between paths, abstract names and names of the kernel's choice", function()
    local path = helper.socket_path()
    local server <close> = assert(net.datagram("unix-dgram:" .. path))
    local named <close> = assert(net.datagram("unix-dgram:" .. path .. ".client"))
    local auto <close> = assert(net.datagram "unix-dgram:")
    for _, client in ipairs { named, auto } do
      for _, msg in ipairs { "hi", "" } do
        assert.is_true(client:send(msg, server.address))
        local got, from = server:recv { timeout = 5 }
        assert.equal(msg, got)
        assert.equal(client.address, from)
        assert.is_true(server:send("re:" .. got, from))
        assert.equal("re:" .. msg, (client:recv { timeout = 5 }))
      end
    end
  end)

  it("come from socat", function()
    local path = helper.socket_path()
    local server <close> = assert(net.datagram("unix-dgram:" .. path))
    helper.start("exec socat -u - UNIX-SENDTO:" .. path, { stdin = "from outside" })
    assert.equal("from outside", (server:recv { timeout = 5 }))
  end)

  it("tell who sent them", function()
    local a, b = pair_of "unix-dgram"
    a:send "x"
    local _, _, info = b:recv { info = true, timeout = 5 }
    assert.equal("number", type(info.credentials.pid))
    assert.equal(tonumber((helper.run "id -u")), info.credentials.uid)
  end)

  it("wait for a full receiver, connected or not, and lose nothing", function()
    local path = helper.socket_path()
    local server <close> = assert(net.datagram("unix-dgram:" .. path))
    local client <close> = assert(net.datagram "unix-dgram:")
    local connected <close> = assert(net.datagram(nil, { connect = server.address }))
    local n = 2000
    neap.group(function(g)
      for _, socket in ipairs { client, connected } do
        g:spawn(function()
          for i = 1, n do
            assert(socket:send(tostring(i), socket == client and server.address or nil))
          end
        end)
      end
      local next_of = { [client.address] = 1 }
      for _ = 1, 2 * n do
        local msg, from = assert(server:recv { timeout = 10 * helper.slow })
        local expected = next_of[from] or 1
        assert.equal(tostring(expected), msg)
        next_of[from] = expected + 1
      end
    end)
  end)

  it("end a waiting send at its deadline, and when our side closes", function()
    local path = helper.socket_path()
    local server <close> = assert(net.datagram("unix-dgram:" .. path))
    local client = assert(net.datagram "unix-dgram:")
    local ok, message, code
    for _ = 1, 100000 do
      ok, message, code = client:send("x", server.address, { timeout = 0.01 })
      if not ok then break end
    end
    assert.is_nil(ok)
    assert.equal("ETIMEDOUT", code)
    assert.equal("send to " .. server.address .. ": timed out", message)
    neap.group(function(g)
      g:spawn(function() assert.equal("ECANCELED", select(3, client:send("x", server.address))) end)
      neap.yield()
      client:close()
    end)
  end)
end)

describe("records", function()
  it("keep their boundaries, empty ones too, up to the end", function()
    local a, b = pair_of "unix-seqpacket"
    local sent = { "one", "", "three", "", ("x"):rep(50000), "" }
    for _, record in ipairs(sent) do assert.is_true(a:send(record)) end
    a:close()
    local got = {}
    for record in b:records() do got[#got + 1] = record end
    assert.same(sent, got)
    assert.same({ n = 1 }, table.pack(b:recv()))
    assert.equal("EPIPE", select(3, b:send "late"))
  end)

  it("come from and go to socat", function()
    local path = helper.socket_path()
    local l <close> = assert(net.listen("unix-seqpacket:" .. path))
    assert.equal("unix-seqpacket:" .. path, l.address)
    local command = "exec socat -T 5 - UNIX-CONNECT:" .. path .. ",type=5"
    local client = helper.start(command, { stdin = "status" })
    local c <close> = assert(l:accept { timeout = 5 })
    assert.equal("status", (c:recv { timeout = 5 }))
    assert.is_true(c:send "running")
    client:expect "running"
    assert.equal("number", type(assert(c:credentials()).pid))
    c:close()
    assert.truthy(client:wait())
  end)

  it("connect, and end when the listener's side closes", function()
    local path = helper.socket_path()
    local l <close> = assert(net.listen("unix-seqpacket:" .. path))
    local c <close> = assert(net.datagram(nil, { connect = l.address }))
    local s <close> = assert(l:accept { timeout = 5 })
    assert.equal(l.address, c.peer)
    assert.is_true(c:send "q")
    assert.equal("q", (s:recv { timeout = 5 }))
    s:send "a"
    s:close()
    local record, from = c:recv { timeout = 5 }
    assert.equal("a", record)
    assert.equal(l.address, from)
    assert.is_nil((c:recv { timeout = 5 }))
  end)

  it("that came before a reset are read before it is told", function()
    local a, b = pair_of "unix-seqpacket"
    assert.is_true(a:send "first")
    assert.is_true(a:send "")
    assert.is_true(a:send "last")
    assert.is_true(b:send "never read: its loss is the reset")
    a:close()
    assert.equal("first", (b:recv()))
    assert.equal("", (b:recv()))
    assert.equal("last", (b:recv()))
    assert.equal("ECONNRESET", select(3, b:recv()))
    assert.equal(1, select("#", b:recv()))
  end)

  it("raise what is not their end", function()
    local a, b = pair_of "unix-seqpacket"
    local ok, err = pcall(function()
      for _ in b:records { timeout = 0.01 } do error "there is none" end
    end)
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
    a:send "0123456789"
    ok, err = pcall(function()
      for _ in b:records(4) do error "it does not fit" end
    end)
    assert.is_false(ok)
    assert.equal("EMSGSIZE", err.code)
    neap.group(function(g)
      g:spawn(function()
        for _ in b:records() do error "there is none" end
      end)
      neap.yield()
      b:close()
    end)
  end)

  it("wait for the reader", function()
    local a, b = pair_of "unix-seqpacket"
    local n = 3000
    neap.group(function(g)
      g:spawn(function()
        for i = 1, n do assert(a:send(tostring(i))) end
        a:close()
      end)
      local i = 0
      for record in b:records() do
        i = i + 1
        assert.equal(tostring(i), record)
      end
      assert.equal(n, i)
    end)
  end)
end)
