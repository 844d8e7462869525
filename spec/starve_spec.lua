-- Memory that runs out, at each allocation of Lua's and of our own in turn: a run ends, well or
-- with an error; nothing crashes, hangs or leaks (the sanitized builds see to that). A new kind of
-- object adds a row. The rows that move much are sampled, every 3rd allocation or so: NEAP_STARVE=1
-- makes it each.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"

local scripts = {
  ["channels, events, semaphores, select"] = [[
    local neap = require "neap"
    neap.group(function(g)
      local ch, b, e, s = neap.channel(), neap.channel(40), neap.event(), neap.semaphore(1)
      g:spawn(function() for i = 1, 40 do ch:put(i) end ch:close() end)
      g:spawn(function() for v in ch do b:put(v) end b:close() end)
      g:spawn(function() repeat local _, v = neap.select { b, e } until not v e:set() end)
      g:spawn(function() local _ <close> = s:permit() e:wait { timeout = 1 } end)
      g:spawn(function() if s:acquire { timeout = 1 } then s:release() end end)
      g:spawn(function() neap.select { { ch, "put", 1 }, e } end)
    end)
  ]],
  ["tasks, groups, scopes, coroutines"] = [[
    local neap = require "neap"
    neap.on_exit(function() neap.yield() end)
    local t = neap.spawn(function() neap.sleep(10) end)
    local name = coroutine.wrap(function()
      for v in coroutine.wrap(function() neap.sleep(0.001) coroutine.yield(1) end) do
        coroutine.yield(v)
      end
    end)()
    t.name = "sleeper" .. name
    neap.timeout(0.001, function() neap.event():wait() end)
    do local _ <close> = neap.deadline(0.001) neap.channel():get() end
    t:cancel()
    t:join()
    neap.all(function() neap.yield() end, function()
      return neap.race(function() neap.sleep(10) end, function() neap.yield() end)
    end)
    for _ in neap.every(0.001) do break end
    pcall(neap.group, function(g) g:spawn(error, "oops") neap.sleep(10) end)
  ]],
  ["listeners, datagrams, records, descriptors"] = [[
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
  ]],
}

scripts["batches, reports, groups, filters"] = [[
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
]]

scripts["lookups, races, signals, processes"] = [[
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
]]

scripts["children on terminals, their results, peers"] = [[
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
]]

scripts["resolvers"] = [[
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
]]

scripts["serving, reading, writing"] = [[
  local neap, net = require "neap", require "neap.net"
  local server <close> = net.serve("tcp://127.0.0.1:0", { timeout = 5, log = function() end },
    function(c)
      if assert(c:read "l") == "fail" then error "as asked" end
      assert(c:write(assert(c:read(3)), assert(c:read_until "--"), assert(c:unpack "s1"),
        ("x"):rep(BIG)))
      assert(neap.spawn(function() return c:flush() end):join())
      for line in c:lines() do assert(c:write(line:upper(), "\n")) end
    end)
  local bad <close> = assert(net.connect(server.address))
  assert(bad:write "fail\n")
  bad:read()
  local c <close> = assert(net.connect(server.address, { timeout = 5 }))
  c.timeout = 5
  assert(c:write("begin\n", "abcde--", string.pack("s1", "record")))
  assert(#c:read(3 + 2 + 6 + BIG) == 11 + BIG)
  assert(c:write(("a line\n"):rep(40)))
  c:unread "unread\n"
  assert(c:peek(3) == "unr")
  c:read()
  for _ = 1, 40 do assert(c:read() == "A LINE") end
  assert(c:write(("y"):rep(BIG)))
  assert(c:shutdown())
  assert(c:read "a")
]]

scripts["pipes, hubs, faults, memory"] = [[
  local neap, net = require "neap", require "neap.net"
  local a, b = assert(net.pair "unix")
  local c, d = assert(net.pair "mem")
  neap.on_exit(function() a:abort() b:abort() c:abort() d:abort() end)
  net.fault(a, { seed = 1, cut = 100, again = 0.1 })
  neap.group(function(g)
    g:spawn(function() assert(net.pipe(b, c)) end)
    g:spawn(function()
      assert(a:write(("z"):rep(3000), "\n"))
      assert(a:shutdown())
      assert(a:read "a")
    end)
    assert(#d:read "L" == 3001)
    assert(d:write("answer", ("w"):rep(3000)))
    assert(d:shutdown())
    assert(d:read "a")
  end)
  local hub = net.hub { policy = "drop" }
  local e, f = assert(net.pair "unix")
  hub:add(e)
  if hub:send "to all\n" == 1 then f:read() end
  hub:remove(e)
  e:abort()
  f:abort()
]]

scripts["writers that wait, closes, lingerers, aborts"] = [[
  local neap, net = require "neap", require "neap.net"
  for _, kind in ipairs { "unix", "mem" } do
    local a, b = assert(net.pair(kind))
    local _ <close>, _ = a, neap.on_exit(function() b:abort() end)
    neap.all(
      function() assert(a:write(("v"):rep(BIG))) end,
      function() assert(b:read(BIG)) end)
    local task = neap.spawn(function() a:write(("u"):rep(BIG)) end)
    neap.yield()
    a:close()
    b:read "a"
    b:abort()
    task:join()
  end
  local a, b = assert(net.pair "unix")
  assert(b:send("fd", { fds = { a } }))
  local _, fds = a:recv(10, { fds = 1 })
  if fds then for _, fd in ipairs(fds) do fd:close() end end
  a:write "not read"
  b:close()
  a:close()
]]

scripts["files, watches, sends of files"] = [[
  local neap, net, fs = require "neap", require "neap.net", require "neap.fs"
  local dir = assert(fs.mkdtemp "TMPDIR/XXXXXX")
  do
    local w <close> = assert(fs.watch(dir))
    assert(fs.write(dir .. "/a", "text\n", { atomic = true }))
    assert(w:event { timeout = 5 })
    local f <close> = assert(fs.open(dir .. "/a", "r+"))
    assert(f:read() == "text" and f:write("more\n"):seek "end" == 10)
    f:seek "set"
    for line in f:lines() do assert(#line == 4) end
    assert(fs.read(dir .. "/a") == "text\nmore\n" and f:stat().size == 10)
    for name in assert(fs.scandir(dir)) do assert(name == "a") end
    local a, b = assert(net.pair())
    local _ <close> = a
    local _ <close> = b
    assert(a:send_file(f, 5) == 5 and b:read() == "more")
    local t = neap.spawn(f.read, f, "a")
    t:cancel()
    t:join()
    assert(f:close())
  end
]]

scripts["connections of a server that fails"] = [[
  local neap, net = require "neap", require "neap.net"
  local clients = {}
  pcall(neap.group, function(g)
    local server <close> = net.serve("tcp://127.0.0.1:0", { log = function() end }, function(c)
      local line = c:read()
      if line == "spawn" then neap.spawn(neap.yield) end
      if line == "abort" then c:write(("x"):rep(3000)) c:abort() end
      if line == "fail" then error "as asked" end
    end)
    for i, line in ipairs { "fail", "end", "spawn", "abort" } do
      clients[i] = assert(net.connect(server.address, { timeout = 5 }))
      assert(clients[i]:write(line, "\n"))
      neap.sleep(0.001)
    end
  end)
  for i, client in ipairs(clients) do
    local _, _, code = client:read("a", { timeout = 0.5 })
    if code == "ETIMEDOUT" then io.stderr:write("WRONG: left open ", i, "\n") end
    client:close()
  end
]]

scripts["TLS and HTTP, a server and its client"] = [[
  local http, neap, tls = require "neap.http", require "neap", require "neap.tls"
  local cert, key = "CERTS/server.pem", "CERTS/server.key"
  local other = assert(tls.context { server = true, cert = cert, key = key })
  local server <close> = http.serve("tls://127.0.0.1:0", { cert = cert, key = key,
    names = { localhost = other }, log = function() end }, function(req, res)
    if req.path == "/all" then return res:send(200, req:body()) end
    for piece in req:chunks() do res:write(piece) end
    res:finish { ["X-End"] = "1" }
  end)
  local opts = { tls = { ca = "CERTS/ca.pem", name = "localhost" }, timeout = 5, body = "text" }
  for _, path in ipairs { "/all", "/pieces" } do
    local r <close> = assert(http.request(server.address:gsub("^tls", "https") .. path, opts))
    assert(r:body() == "text" and r.tls.peer)
  end
]]

scripts["compression, whole and as it comes"] = [[
  local zlib = require "neap.zlib"
  local text = ("some text "):rep(2000)
  for _, format in ipairs { "raw", "zlib", "gzip" } do
    local opts = { format = format, dictionary = format ~= "gzip" and "some" or nil }
    assert(zlib.decompress(zlib.compress(text, opts), opts) == text)
    local d <close> = zlib.deflater(opts)
    opts.joined = true
    local i <close> = zlib.inflater(opts)
    for n = 1, 3 do
      if n == 3 then d:reset() i:reset() end
      d:feed(text:sub(1, 5000)):feed(text:sub(5001), n == 2 and "finish" or "sync")
      local got = {}
      for piece in function() return d:next(500) end do
        i:feed(piece)
        for out in function() return i:next(1000) end do got[#got + 1] = out end
      end
      assert(table.concat(got) == text)
      if n == 2 then d:reset() end
    end
  end
]]

-- More than the kernel's buffers hold; the hard build, which moves single bytes, has small queues.
local BIG <const> = helper.hard and "20000" or "(1 << 20)"

local sampled = helper.sanitized and 7 or 3

local function step(script)
  local long = script:find "BIG" or script:find "net.serve"
    or script:find "serve%(" or script:find "neap.dns"
  return tonumber(os.getenv "NEAP_STARVE") or long and sampled or 1
end

local function build()
  local program = helper.tmpdir() .. "/starve"
  local command = [[%s -g -Wall -Werror %s -Isrc $(pkg-config --cflags lua5.4) -o %s \
    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc spec/support/starve.c %s/libneap.a \
    $(pkg-config --libs lua5.4 libuv openssl libcares zlib) -lm -ldl -lpthread]]
  local out, err, status =
    helper.run(command:format(helper.cc, helper.cflags, program, helper.build))
  assert.equal("", out .. err)
  assert.equal(0, status)
  return program
end

describe("without memory", function()
  for name, script in pairs(scripts) do
    it("a run ends in order: " .. name, function()
      local program = build()
      local text = script:gsub("BIG", BIG):gsub("TMPDIR", helper.tmpdir())
        :gsub("CERTS/", certs.path "")
      local path = helper.write_file(helper.tmpdir() .. "/script.lua", text)
      local whole, _, fine = helper.run(("%s %s 1000000"):format(program, path))
      assert.equal("1 runs: 0 without a runtime, 0 failed, 1 ended well\n", whole)
      assert.equal(0, fine)
      local by = step(script)
      local command = ("%s %s 1 %d"):format(program, path, by)
      local out, err, status = helper.run(command, { limit = 120 })
      assert.equal(0, status, err)
      assert.is_nil(err:find("WRONG", 1, true), err)
      local runs, failed = out:match "^(%d+) runs: %d+ without a runtime, (%d+) failed"
      assert.is_true(tonumber(runs) > 300 // by and tonumber(failed) > 200 // by, out)
    end)
  end
end)
