-- recv_batch and send_batch: the same datagrams as one by one, in order, whatever the kernel joins
-- and cuts on the way.

local neap = require "neap"
local net = require "neap.net"
local helper = require "spec.support.helper"

local function port_of(address) return address:match ":(%d+)$" end

local function udp(opts) return assert(net.datagram("udp://127.0.0.1:0", opts)) end

-- Receives n messages by batches: messages, senders.
local function collect(s, n, size)
  local all, from = {}, {}
  while #all < n do
    local msgs, froms = assert(s:recv_batch(size, { timeout = 5 * helper.slow }))
    assert.is_true(#msgs >= 1 and #msgs <= (size or 64) and #froms == #msgs)
    table.move(msgs, 1, #msgs, #all + 1, all)
    table.move(froms, 1, #froms, #from + 1, from)
  end
  return all, from
end

-- Messages of these lengths, each different.
local function messages(...)
  local list = {}
  for i, n in ipairs { ... } do list[i] = (string.char(64 + i)):rep(n) end
  return list
end

local mixes = {
  equal = messages(100, 100, 100, 100),
  tail = messages(100, 100, 30, 100, 100, 100, 7),
  longer = messages(10, 20, 30, 30, 20),
  empty = messages(0, 0, 5, 5, 0, 5, 5),
  large = messages(30000, 30000, 30000, 30000, 100),
  one = messages(1),
}

describe("batches", function()
  it("arrive as they were sent, joined or not", function()
    for name, mix in pairs(mixes) do
      for _, gro in ipairs { true, false } do
        local a <close> = udp()
        local b <close> = udp { gro = gro, receive_buffer = 1 << 20 }
        assert.equal(#mix, a:send_batch(mix, b.address), name)
        local got, from = collect(b, #mix)
        assert.same(mix, got, name)
        for i = 1, #mix do assert.equal(a.address, from[i]) end
      end
    end
  end)

  it("of equal pieces leave as one system call", function()
    local text = [[
      local net = require "neap.net"
      local s <close> = assert(net.datagram "udp://127.0.0.1:0")
      local list = {}
      for i = 1, 50 do list[i] = ("x"):rep(100) end
      print(s:send_batch(list, s.address))
      local n = 0
      while n < 50 do n = n + #s:recv_batch(64, { timeout = 5 }) end
      print(n)
    ]]
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", text)
    local strace = "env ASAN_OPTIONS=detect_leaks=0 strace -f -e trace=sendmmsg,recvmmsg -o "
    local out, err = helper.run(strace .. dir .. "/trace " .. helper.neap .. " " .. dir .. "/s.lua")
    assert.equal("50\n50\n", out, err)
    local trace = helper.read_file(dir .. "/trace")
    assert.equal(1, select(2, trace:gsub("sendmmsg%(", "")))
    assert.matches("sendmmsg%(.*5000", trace)
  end)

  it("go without UDP_SEGMENT where the kernel refuses it", function()
    local text = [[
      local net = require "neap.net"
      local s <close> = assert(net.datagram "udp://127.0.0.1:0")
      for _ = 1, 2 do
        print(s:send_batch({ "one", "two", "end" }, s.address))
        for _ = 1, 3 do io.write((s:recv { timeout = 5 }), " ") end
        print()
      end
    ]]
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", text)
    local strace = "env ASAN_OPTIONS=detect_leaks=0 strace -f -o %s/trace -e inject=%s %s %s/s.lua"
    for _, fault in ipairs { "sendmmsg:error=EIO:when=1", "sendmmsg:error=EINVAL:when=1",
      "sendmmsg:error=EINTR:when=1", "recvfrom,recvmsg:error=EINTR:when=1" } do
      local out, err = helper.run(strace:format(dir, fault, helper.neap, dir))
      assert.equal("3\none two end \n3\none two end \n", out, err)
    end
  end)

  it("go to an address each, and what came goes back by one call", function()
    local server <close> = assert(net.datagram "udp://:0")
    local clients = {}
    for i = 1, 5 do clients[i] = udp() end
    local port = port_of(server.address)
    for i, c in ipairs(clients) do
      for k = 1, 3 do assert(c:send(i .. "." .. k, "127.0.0.1:" .. port)) end
    end
    local msgs, froms = collect(server, 15)
    assert.equal(15, server:send_batch(msgs, froms))
    for i, c in ipairs(clients) do
      for k = 1, 3 do assert.equal(i .. "." .. k, (c:recv { timeout = 5 })) end
      c:close()
    end
  end)

  it("of a connected socket need no address", function()
    local s <close> = udp()
    local c <close> = assert(net.datagram(nil, { connect = s.address }))
    assert.equal(2, c:send_batch { "a", "b" })
    assert.same({ "a", "b" }, (collect(s, 2)))
    assert.equal(0, c:send_batch {})
  end)

  it("tell the info of each", function()
    local b <close> = udp { info = true, gro = true }
    local a <close> = udp()
    assert.equal(3, a:send_batch(messages(10, 10, 4), b.address, { ttl = 5, tos = 4 }))
    local seen = 0
    while seen < 3 do
      local msgs, _, infos = assert(b:recv_batch { info = true, timeout = 5 })
      assert.equal(#msgs, #infos)
      for i, info in ipairs(infos) do
        seen = seen + 1
        assert.same({ 5, 4, b.address }, { info.ttl, info.tos, info.to }, i)
      end
    end
  end)

  it("stop before a cut message, which is told next", function()
    local a <close> = udp()
    local b <close> = udp()
    for _, msg in ipairs { "ok", "0123456789", "fine" } do a:send(msg, b.address) end
    assert.same({ "ok" }, (b:recv_batch(8, { max = 4, timeout = 5 })))
    local msgs, message, code = b:recv_batch(8, { max = 4, timeout = 5 })
    assert.is_nil(msgs)
    assert.equal("EMSGSIZE", code)
    assert.matches("10 bytes came, 4 were asked for", message)
    assert.same({ "fine" }, (b:recv_batch(8, { max = 4, timeout = 5 })))
    a:send("0123456789", b.address)
    local cut = table.pack(b:recv_batch { max = 4, info = true, timeout = 5 })
    assert.same({ "0123" }, cut[1])
    assert.equal(10, cut[3][1].truncated)
  end)

  it("and single calls take turns on what was joined", function()
    local a <close> = udp()
    local b <close> = udp { gro = true }
    local mix = messages(50, 50, 50, 50, 50, 50, 9)
    assert.equal(7, a:send_batch(mix, b.address))
    local got = { (b:recv { timeout = 5 }) }
    local two = assert(b:recv_batch(2, { timeout = 5 }))
    table.move(two, 1, #two, #got + 1, got)
    got[#got + 1] = b:recv(50, { timeout = 5 })
    while #got < 7 do got[#got + 1] = b:recv { timeout = 5 } end
    assert.same(mix, got)
    assert.equal("ETIMEDOUT", select(3, b:recv { timeout = 0.01 }))
  end)

  it("are taken apart too when joining begins after the first message", function()
    local a <close> = udp()
    local b <close> = udp()
    local mix = messages(50, 50, 50)
    assert(a:send("first", b.address))
    assert.equal("first", (b:recv { timeout = 5 }))
    for _, on in ipairs { true, false } do
      assert(b:option("gro", on))
      assert.equal(3, a:send_batch(mix, b.address))
      for i = 1, 3 do assert.equal(mix[i], (b:recv { timeout = 5 })) end
      assert(a:send("too long", b.address))
      assert.equal("EMSGSIZE", select(3, b:recv(3, { timeout = 5 })))
      assert(a:send("too long", b.address))
      local _, _, info = assert(b:recv(3, { timeout = 5, info = true }))
      assert.equal(8, info.truncated)
    end
  end)

  it("wait, and are shared by several receivers", function()
    local s <close> = udp()
    local c <close> = udp()
    local seen = {}
    assert.equal("ETIMEDOUT", select(3, s:recv_batch { timeout = 0.01 }))
    neap.group(function(g)
      for _ = 1, 3 do
        g:spawn(function()
          while true do
            local msgs = assert(s:recv_batch(2, { timeout = 5 }))
            for _, m in ipairs(msgs) do seen[#seen + 1] = tonumber(m) end
            if #seen >= 30 then return g:cancel() end
          end
        end)
      end
      neap.yield()
      for i = 1, 30 do
        c:send(tostring(i), s.address)
        if i % 7 == 0 then neap.sleep(0.001) end
      end
    end)
    table.sort(seen)
    for i = 1, 30 do assert.equal(i, seen[i]) end
  end)

  it("report what cannot be sent, after what could", function()
    local s <close> = udp()
    local ok, message, code = s:send_batch({ ("x"):rep(70000), "y" }, s.address)
    assert.is_nil(ok)
    assert.equal("EMSGSIZE", code)
    assert.equal("send to " .. s.address .. ": message too long", message)
    assert.equal(1, s:send_batch({ "y", ("x"):rep(70000) }, s.address))
    assert.equal(1, s:send_batch({ "y", "z" }, { s.address, "10.0.0.1" }))
    assert.equal("EINVAL", select(3, s:send_batch({ "z" }, { "10.0.0.1" })))
    assert.equal("EINVAL", select(3, s:send_batch({ "z" }, "localhost:9")))
    assert.equal("EPROTOTYPE", select(3, s:send_batch({ "z" }, "unix-dgram:/x")))
    assert.equal("EDESTADDRREQ", select(3, s:send_batch { "z" }))
    assert.same({ "y", "y" }, (collect(s, 2)))
    local bad = {
      { function() s:send_batch() end, "table expected" },
      { function() s:send_batch("x", s.address) end, "table expected" },
      { function() s:send_batch({ "x", 5 }, s.address) end, "message #2 is not a string" },
      { function() s:send_batch({ "x" }, {}) end, "as many addresses as messages" },
      { function() s:send_batch({ "x" }, { false }) end, "address #1 is not a string" },
      { function() s:send_batch({ "x" }, nil, { fds = {} }) end, "unknown option 'fds'" },
      { function() s:recv_batch(0) end, "not from 1 to 1024" },
      { function() s:recv_batch(1025) end, "not from 1 to 1024" },
      { function() s:recv_batch(1000, { max = 1 << 20 }) end, "more than 64 MiB" },
      { function() s:recv_batch { fds = 1 } end, "unknown option 'fds'" },
    }
    for i, case in ipairs(bad) do
      local fine, err = pcall(case[1])
      assert.is_false(fine, i)
      assert.matches(case[2], err)
    end
    s:close()
    assert.equal("ECANCELED", select(3, s:send_batch({ "x" }, "127.0.0.1:9")))
    assert.equal("ECANCELED", select(3, s:recv_batch()))
  end)

  it("of AF_UNIX wait for a full receiver, and lose nothing", function()
    local server <close> = assert(net.datagram("unix-dgram:" .. helper.socket_path()))
    local client <close> = assert(net.datagram "unix-dgram:")
    local n, list = 500, {}
    for i = 1, n do list[i] = tostring(i) end
    neap.group(function(g)
      g:spawn(function() assert.equal(n, client:send_batch(list, server.address)) end)
      assert.same(list, (collect(server, n)))
    end)
    -- nobody reads: the deadline comes, and tells how many are gone
    local gone = client:send_batch(list, server.address, { timeout = 0.05 })
    assert.is_true(gone >= 1 and gone < n)
    local late = table.pack(client:send_batch(list, server.address, { timeout = 0.01 }))
    assert.equal("ETIMEDOUT", late[3])
  end)

  it("of records keep their end; descriptors in batches are closed", function()
    local a, b = assert(net.pair "unix-seqpacket")
    local c, d = assert(net.pair "unix-dgram")
    helper.after(function() return b:close(), c:close(), d:close() end)
    assert.equal(3, a:send_batch { "x", "", "z" })
    a:close()
    assert.same({ "x", "", "z" }, (collect(b, 3)))
    assert.same({ n = 1 }, table.pack(b:recv_batch()))
    assert.is_true(c:send("with", { fds = { c } }))
    assert.is_true(c:send("more", { fds = { c } }))
    assert.is_true(c:send("never taken", { fds = { c, d } }))
    local msgs = d:recv_batch { max = 4, timeout = 5 }
    assert.same({ "with", "more" }, msgs)
  end)
end)
