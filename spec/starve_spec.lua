-- Memory that runs out (see spec/support/starve.lua) among tasks, streams and servers.

local starve = assert(loadfile("spec/support/starve.lua", "t", _ENV))()

starve("channels, events, semaphores, select", [[
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
]])

starve("tasks, groups, scopes, coroutines", [[
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
]])

starve("serving, reading, writing", [[
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
]])

starve("pipes, hubs, faults, memory", [[
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
]])

starve("writers that wait, closes, lingerers, aborts", [[
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
]])

starve("connections of a server that fails", [[
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
]])
