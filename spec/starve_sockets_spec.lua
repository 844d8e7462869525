-- Memory that runs out (see spec/support/starve.lua) among sockets of all kinds, names, children.

local starve = assert(loadfile("spec/support/starve.lua", "t", _ENV))()

starve("listeners, datagrams, records, descriptors", [[
  local neap, net = require "neap", require "neap.net"
  local l <close> = assert(net.listen("tcp://127.0.0.1:0"))
  local m <close> = assert(net.listen "mem:starve")
  local u <close> = assert(net.datagram("udp://127.0.0.1:0", { info = true }))
  local function answer(listener)
    local c <close> = listener:accept { timeout = 5 }
    assert(c:write(c:read(), "\n"))
  end
  neap.group(function(g)
    g:spawn(answer, l)
    g:spawn(answer, m)
    g:spawn(function()
      local msg, from, info = u:recv { info = true, timeout = 5 }
      assert(u:send(msg .. info.to, from))
    end)
    for _, address in ipairs { l.address, m.address } do
      local c <close> = assert(net.connect(address))
      assert(c:write "x\n")
      c:read()
    end
    local v <close> = assert(net.datagram(nil, { connect = u.address }))
    assert(v:send "y")
    v:recv { timeout = 5 }
  end)
  local a, b = assert(net.pair "unix-seqpacket")
  local _ <close> = b
  assert(a:send("z", { fds = { u, u, l } }))
  local _, _, info = b:recv { fds = 3 }
  local fds <close> = info.fds
  local x <close> = assert(fds[1]:adopt())
  local y <close> = assert(fds[3]:adopt())
  a:close()
  for _ in b:records() do break end
]])

starve("batches, reports, groups, filters", [[
  local neap, net = require "neap", require "neap.net"
  local s <close> = assert(net.datagram("udp://127.0.0.1:0",
    { gro = true, info = true, filter = { { 6, 0, 0, 0xffff } } }))
  local c <close> = assert(net.datagram("udp://127.0.0.1:0", { errors = true }))
  assert(s:join("239.1.2.3", { interface = "lo" }))
  neap.group(function(g)
    g:spawn(function()
      local n = 0
      repeat
        local msgs, froms = assert(s:recv_batch(8, { info = true, timeout = 5 }))
        n = n + #msgs
        assert(s:send_batch(msgs, froms))
      until n >= 4
    end)
    assert(c:send_batch({ "abc", "abc", "ab", "" }, s.address, { from = "127.0.0.1", ttl = 3 }))
    local got = 0
    repeat got = got + #assert(c:recv_batch { timeout = 5 }) until got >= 4
  end)
  local other <close> = assert(net.datagram(nil, { connect = s.address }))
  assert(other:send "and more")
  local msg, from = assert(s:recv { timeout = 5 })
  assert(s:send(msg, from))
  local gone = s.address
  s:close()
  assert(c:send("x", gone))
  assert(c:recv_error { timeout = 5 })
]])

starve("lookups, races, signals, processes", [[
  local neap, net, process = require "neap", require "neap.net", require "neap.process"
  net.resolve("localhost:80")
  net.connect("tcp://localhost:1", { bind = "127.0.0.1:0", nodelay = true })
  net.connect("unix:/nowhere", { timeout = 1 })
  local a, b = net.pair "unix"
  if a then a:close() b:close() end
  local s <close> = neap.signals("USR1", "USR2")
  if s then s:wait { timeout = 0.001 } end
  local p <close> = process.spawn({ "cat" }, { stdin = "pipe", stdout = "pipe", env = { A = 1 } })
  if p then
    p.stdin:write "x"
    p.stdin:close()
    p.stdout:read "a"
    p:wait()
  end
]])

starve("children on terminals, their results, peers", [[
  local net, process = require "neap.net", require "neap.process"
  local r = process.run({ "cat" }, { input = "x", timeout = 60, rlimits = { core = { 0, 0 } } })
  assert(not r or r.stdout == "x")
  local p <close> = process.spawn({ "true" }, { pty = true, fds_at = { [9] = 0 }, umask = 0 })
  if p then
    p.pty:read "a"
    p:wait()
  end
  local l <close> = net.listen("unix-seqpacket:@", { gid = "root" })
  local c <close> = l and net.connect(l.address)
  local a <close> = c and l:accept { timeout = 5 }
  local who = a and a:credentials { pidfd = true }
  if who then who.pidfd:close() end
  net.inherited()
]])

starve("resolvers", [[
  local dns, neap, net = require "neap.dns", require "neap", require "neap.net"
  local s <close> = assert(net.datagram "udp://127.0.0.1:0")
  local r <close> = assert(dns.resolver { servers = s.address, timeout = 0.05 })
  neap.group(function(g)
    local server = g:spawn(function()
      while true do -- to each question: no such records
        local q, from = s:recv()
        if not q then return end
        s:send(q:sub(1, 2) .. "\x84\0" .. q:sub(5), from)
      end
    end)
    local _, _, code = r:resolve("a", "MX")
    assert(code)
    assert(select(3, net.resolve("b", { resolver = r, family = "inet" })))
    assert(net.resolve("localhost", { resolver = r }))
    server:cancel()
    local task = g:spawn(function() r:resolve "c" end)
    neap.yield()
    task:cancel()
  end)
]])
