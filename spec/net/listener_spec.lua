-- Listening and accepting, against nc and socat.

local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"
local helper = require "spec.support.helper"

-- LeakSanitizer does not work under ptrace.
local strace_f = "exec env ASAN_OPTIONS=detect_leaks=0 strace -f"

-- "host port" for nc.
local function host_port(address)
  local host, port = address:match "^tcp://%[?([^%]]-)%]?:(%d+)$"
  return host, port
end

-- Starts an nc that says `text` and keeps the connection until it is closed by us.
local function nc(address, text)
  local path = address:match "^unix:(.*)$"
  if path then return helper.start("exec nc -U " .. path, { stdin = text }) end
  local host, port = host_port(address)
  if host == "::" then host = "127.0.0.1" end
  return helper.start(("exec nc %s %s"):format(host, port), { stdin = text })
end

local function open_descriptors()
  local n = 0
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

describe("listen", function()
  it("shows the port it was given, in an address that parses", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    assert.matches("^tcp://127%.0%.0%.1:%d+$", l.address)
    assert.same({ l.address }, l.addresses)
    assert.equal("neap.listener{" .. l.address .. " waiting=0}", tostring(l))
    assert.equal("number", math.type(l.fd) and type(l.fd))
    local again, message, code = net.listen(l.address)
    assert.is_nil(again)
    assert.equal("EADDRINUSE", code)
    assert.equal("listen " .. l.address .. ": address already in use", message)
  end)

  it("takes a bare port as TCP of both families on one socket", function()
    local l <close> = assert(net.listen ":0")
    assert.equal(1, #l.addresses)
    local port = l.address:match ":(%d+)$"
    for _, host in ipairs { "127.0.0.1", "::1" } do
      helper.start(("exec nc %s %s"):format(host, port), { stdin = host .. "\n" })
      local c <close> = assert(l:accept { timeout = 5 })
      assert.equal(host, c:read())
    end
  end)

  it("gives several addresses one port", function()
    local l <close> = assert(net.listen { "tcp://127.0.0.1:0", "tcp://[::1]:0" })
    assert.equal(2, #l.addresses)
    assert.equal(l.addresses[1]:match ":(%d+)$", l.addresses[2]:match ":(%d+)$")
    for _, address in ipairs(l.addresses) do
      nc(address, address .. "\n")
      local c <close> = assert(l:accept { timeout = 5 })
      assert.equal(address, c:read())
    end
  end)

  it("leaves nothing behind when one of several addresses fails", function()
    local taken <close> = assert(net.listen "tcp://127.0.0.1:0")
    local path = helper.socket_path()
    local before = open_descriptors()
    local l, message, code = net.listen { "unix:" .. path, taken.address }
    assert.is_nil(l)
    assert.equal("EADDRINUSE", code)
    assert.equal("listen " .. taken.address .. ": address already in use", message)
    assert.equal(before, open_descriptors())
  end)

  it("reports bad addresses as outcomes that say what is wrong", function()
    local long = "unix:/tmp/" .. ("x"):rep(200)
    local cases = {
      { "tcp://127.0.0.1:70000", "EINVAL" }, -- no such port
      { "tcp://127.0.0.1", "EINVAL" }, -- no port
      { "tcp://[127.0.0.1]:80", "EINVAL" }, -- brackets are for IPv6
      { "nonsense://x:1", "EINVAL" }, -- no such scheme
      { "udp://127.0.0.1:0", "EOPNOTSUPP" }, -- datagrams know no connections
      { long, "ENAMETOOLONG" }, -- past sun_path
      { "unix:/nowhere/at/all", "ENOENT" }, -- no such directory
      { "tcp://192.0.2.1:0", "EADDRNOTAVAIL" }, -- not an address of this host
      { "systemd:nothing", "ENOENT" }, -- nobody passed it
      { "fd:987", "EBADF" }, -- not open
    }
    for _, case in ipairs(cases) do
      local l, message, code = net.listen(case[1])
      assert.is_nil(l, case[1])
      assert.equal(case[2], code, case[1])
      assert.equal("listen " .. case[1] .. ": ", message:sub(1, #case[1] + 9))
    end
  end)

  it("raises for what only a programmer can get wrong, naming the argument", function()
    local cases = {
      { nil, nil, "#1" },
      { 80, { backlog = "many" }, "backlog" },
      { "tcp://127.0.0.1:0", "x", "#2" },
      { "tcp://127.0.0.1:0", { backlog = 0 }, "option 'backlog': 0 is not from 1 to 65535" },
      { "tcp://127.0.0.1:0", { bakclog = 1 }, "unknown option 'bakclog' %(known: backlog, mode" },
      { "tcp://127.0.0.1:0", { nodelay = 1 }, "option 'nodelay': a boolean expected, got 1" },
      { {}, nil, "a list of 1 to 16 addresses" },
      { { 1, 2 }, nil, "a list of address strings" },
    }
    for i, case in ipairs(cases) do
      local ok, err = pcall(net.listen, case[1], case[2])
      assert.is_false(ok, i)
      assert.matches(case[3], err, i)
    end
  end)

  it("sets and reads options by name", function()
    local l <close> = assert(net.listen("tcp://127.0.0.1:0", { nodelay = true, reuseport = true }))
    local l2 <close> = assert(net.listen(l.address, { reuseport = true }))
    assert.equal(l.address, l2.address)
    assert.is_true(l:option "reuseport")
    assert.is_true(l:option("keepalive", true))
    assert.is_true(l:option "keepalive")
    local function misspelt() l:option "nodelya" end
    assert.error_matches(misspelt, "unknown option 'nodelya' %(known: .*nodelay")
    assert.error_matches(function() l:option("keepalive", 3) end, "a boolean expected, got 3")
  end)
end)

describe("an AF_UNIX path", function()
  it("gets its mode at bind, whatever the umask", function()
    for _, mode in ipairs { tonumber("600", 8), tonumber("666", 8), tonumber("777", 8) } do
      local path = helper.socket_path()
      assert(net.listen("unix:" .. path, { mode = mode })):close() -- the file stays
      local text, got = lfs.attributes(path, "permissions"), 0
      for i = 1, 9 do got = got * 2 + (text:sub(i, i) == "-" and 0 or 1) end
      assert.equal(("%o"):format(mode), ("%o"):format(got))
    end
  end)

  it("is taken over when nobody answers on it, and only then", function()
    local path = helper.socket_path()
    assert(net.listen("unix:" .. path)):close()
    local l <close> = assert(net.listen("unix:" .. path)) -- the stale file is replaced
    local second, message, code = net.listen("unix:" .. path)
    assert.is_nil(second)
    assert.equal("EADDRINUSE", code)
    assert.equal("listen unix:" .. path .. ": address already in use", message)
    nc(l.address, "still\n")
    -- the probe of the second listen is the first in the backlog; it has gone
    local probe <close> = assert(l:accept { timeout = 5 })
    assert.is_nil(probe:read())
    local c <close> = assert(l:accept { timeout = 5 })
    assert.equal("still", c:read())
  end)

  it("that is no socket stays untouched", function()
    local path = helper.write_file(helper.tmpdir() .. "/file", "precious")
    local l, _, code = net.listen("unix:" .. path)
    assert.is_nil(l)
    assert.equal("EADDRINUSE", code)
    assert.equal("precious", helper.read_file(path))
  end)

  it("of another type that is alive stays, too", function()
    local path = helper.socket_path()
    local d <close> = assert(net.datagram("unix-dgram:" .. path))
    local l, _, code = net.listen("unix:" .. path)
    assert.is_nil(l)
    assert.equal("EADDRINUSE", code)
    assert.equal("unix-dgram:" .. path, d.address)
  end)

  it("may be an abstract name, with any bytes", function()
    local name = ("@neap-%d"):format(math.random(1 << 30))
    local l <close> = assert(net.listen("unix:" .. name))
    assert.equal("unix:" .. name, l.address)
    helper.start("exec socat - ABSTRACT-CONNECT:" .. name:sub(2), { stdin = "abstract\n" })
    local c <close> = assert(l:accept { timeout = 5 })
    assert.equal("abstract", c:read())
  end)
end)

describe("accept", function()
  it("waits for a connection and answers it", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local command = ("exec nc -N %s %s"):format(host_port(l.address))
    local client = helper.start(command, { stdin = "ping\n" })
    local c <close> = assert(l:accept { timeout = 5 })
    assert.equal("ping", c:read())
    c:write "pong\n"
    c:close()
    assert.equal(0, client:wait())
    assert.equal("pong\n", client:out())
  end)

  it("times out by option and by scope; 0 asks the kernel once", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    for _, timeout in ipairs { 0, 0.01 } do
      local c, message, code = l:accept { timeout = timeout }
      assert.is_nil(c)
      assert.equal("ETIMEDOUT", code)
      assert.equal("accept on " .. l.address .. ": timed out", message)
    end
    do
      local _ <close> = neap.deadline(0.01)
      assert.equal("ETIMEDOUT", select(3, l:accept()))
    end
    local client = nc(l.address, "")
    assert(helper.wait_until(function()
      local c = l:accept { timeout = 0 }
      if c then c:close() end
      return c
    end))
    assert.truthy(client:wait())
  end)

  it("gives each of several waiting tasks one connection", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local got = {}
    neap.group(function(g)
      for i = 1, 5 do
        g:spawn(function()
          local c <close> = assert(l:accept { timeout = 10 })
          got[i] = c:read()
        end)
      end
      neap.yield()
      assert.equal("neap.listener{" .. l.address .. " waiting=5}", tostring(l))
      for i = 1, 5 do nc(l.address, i .. "\n") end
    end)
    table.sort(got)
    assert.same({ "1", "2", "3", "4", "5" }, got)
  end)

  it("wakes every waiter with 'closed' when our side closes; so does any call after", function()
    local l = assert(net.listen "tcp://127.0.0.1:0")
    local seen = {}
    neap.group(function(g)
      for i = 1, 3 do
        g:spawn(function() seen[i] = table.pack(l:accept()) end)
      end
      g:spawn(function()
        for _ in l:accepts() do error "nobody connects" end
        seen[4] = "ended"
      end)
      neap.yield()
      assert.is_true(l:close())
    end)
    for i = 1, 3 do assert.same({ n = 3, nil, "closed", "ECANCELED" }, seen[i]) end
    assert.equal("ended", seen[4])
    assert.same({ n = 3, nil, "closed", "ECANCELED" }, table.pack(l:accept()))
    assert.is_true(l:close())
    assert.is_nil(l.fd)
    assert.matches("closed}$", tostring(l))
    assert.equal("ENOTSOCK", select(3, l:option "keepalive"))
  end)

  it("leaves the queue when cancelled, also two coroutines deep, and loses nothing", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local plain = neap.spawn(function() l:accept() end)
    local deep = neap.spawn(function()
      coroutine.wrap(function() coroutine.wrap(function() l:accept() end)() end)()
    end)
    neap.yield()
    plain:cancel()
    deep:cancel()
    plain:join()
    deep:join()
    assert.matches("waiting=0", tostring(l))
    nc(l.address, "kept\n")
    local c <close> = assert(l:accept { timeout = 5 })
    assert.equal("kept", c:read())
  end)

  it("takes nothing off the backlog that nobody asked for", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local before = open_descriptors()
    local clients = {}
    for i = 1, 5 do clients[i] = nc(l.address, i .. "\n") end
    local c <close> = assert(l:accept { timeout = 5 })
    neap.sleep(0.1)
    assert.equal(before + 1, open_descriptors())
    c:close()
    for _ = 2, 5 do assert(l:accept { timeout = 5 }):close() end
    for _, client in ipairs(clients) do assert.truthy(client:wait()) end
  end)

  it("is one accept4 for a lone connection, most of the time", function()
    local script = [[
      local neap, net = require "neap", require "neap.net"
      local l = assert(net.listen "tcp://127.0.0.1:0")
      io.stdout:write(l.address, "\n") io.stdout:flush()
      for _ = 1, 40 do assert(l:accept()):close() end
      l:close()
    ]]
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", script)
    local strace = strace_f .. " -o %s/trace -e trace=accept4 %s %s/s.lua"
    local p = helper.start(strace:format(dir, helper.neap, dir))
    local host, port = p:expect "tcp://([%d.]+):(%d+)"
    for _ = 1, 40 do
      local _, _, status = helper.run(("nc -N %s %s"):format(host, port))
      assert.equal(0, status)
    end
    assert.equal(0, p:wait())
    local calls, useless = 0, 0
    for line in helper.read_file(dir .. "/trace"):gmatch "[^\n]+" do
      if line:find "accept4%(" then calls = calls + 1 end
      if line:find "EAGAIN" then useless = useless + 1 end
    end
    assert.equal(40, calls - useless)
    assert.is_true(useless <= 6, useless .. " useless calls")
  end)

  it("survives what accept(2) may say of single connections", function()
    for _, errno in ipairs { "ECONNABORTED", "EPROTO", "EINTR", "ENETDOWN", "EAGAIN", "ENOBUFS" } do
      local script = [[
        local net = require "neap.net"
        local l = assert(net.listen "tcp://127.0.0.1:0")
        io.stdout:write(l.address, "\n") io.stdout:flush()
        local c = assert(l:accept { timeout = 20 })
        io.stdout:write("got ", c:read(), "\n")
        c:close()
        l:close()
      ]]
      local dir = helper.tmpdir()
      helper.write_file(dir .. "/s.lua", script)
      local inject = "-e inject=accept4:error=" .. errno .. ":when=1..2"
      local strace = strace_f .. " -o %s/trace %s %s %s/s.lua"
      local p = helper.start(strace:format(dir, inject, helper.neap, dir))
      local host, port = p:expect "tcp://([%d.]+):(%d+)"
      helper.start(("exec nc -N %s %s"):format(host, port), { stdin = "there\n" })
      p:expect "got there"
      assert.equal(0, p:wait(), errno)
    end
  end)

  it("raises from the iterator what is not its end", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local ok, err = pcall(function()
      for _ in l:accepts { timeout = 0.01 } do error "nobody connects" end
    end)
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
    assert.equal("accept on " .. l.address .. ": timed out", tostring(err))
    assert.error_matches(function() l:accept { timeot = 1 } end, "unknown option 'timeot'")
    assert.error_matches(function() l:accepts { timeout = "x" } end, "timeout")
  end)

  it("is a case of select", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local ch = neap.channel(1)
    ch:put "first"
    local i, value = neap.select { l, ch }
    assert.same({ 2, "first" }, { i, value })
    nc(l.address, "hello\n")
    local c
    i, c = neap.select { ch, l, timeout = 5 }
    assert.equal(2, i)
    assert.equal("hello", c:read())
    c:close()
  end)
end)

describe("a listening descriptor", function()
  it("moves out with take and comes back as fd: and by adopt", function()
    local l = assert(net.listen "tcp://127.0.0.1:0")
    local address = l.address
    local fd = l:take()
    assert.equal("ECANCELED", select(3, l:accept()))
    local second = assert(net.listen("fd:" .. fd))
    assert.equal(address, second.address)
    local third <close> = assert(net.adopt(second:take()))
    assert.equal(address, third.address)
    nc(address, "through\n")
    local c <close> = assert(third:accept { timeout = 5 })
    assert.equal("through", c:read())
  end)

  it("comes from systemd, by name", function()
    local script = [[
      local net = require "neap.net"
      local l = assert(net.listen "systemd:web")
      assert(select(3, net.listen "systemd:other") == "ENOENT")
      local c = assert(l:accept { timeout = 20 })
      c:write("activated ", c:read(), "\n")
      c:close()
      l:close()
    ]]
    local path = helper.socket_path()
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local command = "exec systemd-socket-activate -l %s --fdname=web %s %s"
    local p = helper.start(command:format(path, helper.neap, file))
    helper.listening(path)
    local client = helper.start("exec nc -NU " .. path, { stdin = "by socket\n" })
    assert.equal(0, p:wait(), p:err())
    client:wait()
    assert.equal("activated by socket\n", client:out())
  end)
end)

describe("a listener nobody closed", function()
  it("warns with the line that made it when it is collected", function()
    local _, err = helper.run_script [[
warn "@on"
local net = require "neap.net"
do
  local l = assert(net.listen "tcp://127.0.0.1:0")
  l = nil
end
collectgarbage() collectgarbage()
]]
    assert.matches("listener tcp://127%.0%.0%.1:%d+ was collected without close", err)
    assert.matches("%(made at [^)]*script%.lua:4%)", err)
  end)
end)

describe("at the descriptor limit", function()
  -- The child holds what it accepts; with 40 descriptors it runs out before 60 clients have come.
  local script = [[
    local neap, net = require "neap", require "neap.net"
    warn "@on"
    local l = assert(net.listen("unix:" .. arg[1]))
    local held = {}
    neap.spawn(function()
      for c in l:accepts() do held[#held + 1] = c end
    end)
    neap.spawn(function()
      while l.shed == 0 do neap.sleep(0.01) end
      io.stdout:write("shed\n") io.stdout:flush()
      local cpu = os.clock()
      neap.sleep(0.5)
      io.stdout:write(("cpu %.3f\n"):format(os.clock() - cpu)) io.stdout:flush()
      while #held > 0 do table.remove(held):close() end
      neap.sleep(1)
      io.stdout:write(("shed %d accepted %d\n"):format(l.shed, #held)) io.stdout:flush()
      while #held > 0 do table.remove(held):close() end
      l:close()
    end)
  ]]

  it("a listener turns few away, says so, spins not, and serves the rest when it can", function()
    local path = helper.socket_path()
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local p = helper.start(("ulimit -n 40; exec %s %s %s"):format(helper.neap, file, path))
    helper.listening(path)
    for _ = 1, 60 do helper.start("exec nc -U " .. path) end
    p:expect("shed\n", 20)
    local cpu = tonumber((p:expect("cpu ([%d.]+)", 20)))
    assert.is_true(cpu < 0.2 * helper.slow, cpu .. " s of CPU in 0.5 s")
    local shed, accepted = p:expect("shed (%d+) accepted (%d+)", 20)
    assert.is_true(tonumber(shed) <= 12, shed .. " of 60 were turned away")
    assert.is_true(tonumber(accepted) >= 5, "only " .. accepted .. " were served later")
    assert.equal(0, p:wait())
    local _, said = p:err():gsub("no descriptor is left to accept with", "")
    assert.is_true(said >= 1 and said <= 3, "said " .. said .. " times")
  end)
end)

describe("mem:", function()
  local name = "mem:listener-spec"

  it("connects inside the process", function()
    local l <close> = assert(net.listen(name))
    assert.equal(name, l.address)
    assert.same({ name }, l.addresses)
    assert.is_nil(l.fd)
    assert.equal("EADDRINUSE", select(3, net.listen(name)))
    neap.group(function(g)
      g:spawn(function()
        local c <close> = assert(l:accept())
        c:write((c:read():upper()), "\n")
      end)
      local c <close> = assert(net.connect(name))
      c:write "hello\n"
      assert.equal("HELLO", c:read())
      assert.is_nil(c:read())
    end)
  end)

  it("keeps what a client said before it was accepted, even if it is gone", function()
    local l <close> = assert(net.listen(name))
    for _, ending in ipairs { "shutdown", "close", "abort" } do
      local c = assert(net.connect(name))
      assert(c:write "early\n")
      c[ending](c)
      neap.sleep(0.01)
      local s <close> = assert(l:accept { timeout = 5 })
      if ending ~= "abort" then assert.equal("early", s:read("l", { timeout = 5 })) end
      local rest, _, code = s:read("l", { timeout = 5 })
      assert.is_nil(rest)
      assert.is_true(code == nil or code == "ECONNRESET", code)
      c:close()
    end
  end)

  it("refuses where nobody listens, or no longer", function()
    local c, message, code = net.connect(name)
    assert.is_nil(c)
    assert.equal("ECONNREFUSED", code)
    assert.equal("connect " .. name .. ": connection refused", message)
    local l = assert(net.listen(name))
    local early = assert(net.connect(name))
    early:write "in the backlog\n"
    l:close()
    local _ <close> = early
    local line, _, why = early:read()
    assert.is_nil(line)
    assert.is_true(why == nil or why == "ECONNRESET" or why == "EPIPE")
    assert.equal("ECONNREFUSED", select(3, net.connect(name)))
  end)

  it("holds as many as its backlog and accepts them in order", function()
    local l <close> = assert(net.listen(name, { backlog = 3 }))
    local clients = {}
    for i = 1, 3 do
      clients[i] = assert(net.connect(name))
      clients[i]:write(i, "\n")
    end
    assert.equal("EAGAIN", select(3, net.connect(name)))
    for i = 1, 3 do
      local c <close> = assert(l:accept { timeout = 5 })
      assert.equal(tostring(i), c:read())
      clients[i]:close()
    end
    local late <close> = assert(net.connect(name))
    local c <close> = assert(l:accept { timeout = 5 })
    assert.is_nil((c:recv(1, { timeout = 0 })))
    late:close()
  end)
end)

describe("lingerers at the descriptor limit", function()
  -- Answers and closes with the request unread; the clients do not close: each connection lingers.
  local server_script = [[
    local neap, net = require "neap", require "neap.net"
    local l = assert(net.listen("unix:" .. arg[1]))
    neap.spawn(function()
      local n = 0
      for c in l:accepts() do
        c:write "served\n"
        c:close()
        n = n + 1
        if n == 300 then break end
      end
      print("served", n, "turned away", l.shed)
      l:close()
      os.exit(0)
    end)
  ]]
  local client_script = [[
    local net = require "neap.net"
    local held, served = {}, 0
    for i = 1, 300 do
      local c
      repeat c = net.connect("unix:" .. arg[1]) until c
      c:write "request that nobody reads\n"
      c:flush()
      held[i] = c
      if c:read() == "served" then served = served + 1 end
    end
    print("answered", served)
    for _, c in ipairs(held) do c:abort() end
  ]]

  it("are kept, and nobody is told, while no connection is there to be turned away", function()
    local path = helper.write_file(helper.tmpdir() .. "/s.lua", [[
      local neap, net = require "neap", require "neap.net"
      local l <close> = assert(net.listen("unix:" .. arg[1]))
      local c = assert(net.connect(l.address))
      local peer <close> = assert(l:accept())
      assert(peer:write "x")
      peer:close()
      local files, file = {}, nil
      repeat -- each is kept: one that is collected between two tries would let it go on for ever
        file = io.open "/dev/null"
        files[#files + 1] = file
      until not file
      local _, _, code = l:accept { timeout = 0.05 }
      print(code, l.shed, neap.stats().lingering)
      c:close()
    ]])
    local command = "ulimit -n 40; exec %s %s %s"
    local out, err =
      helper.run(command:format(helper.neap, path, helper.socket_path()))
    assert.same({ "ETIMEDOUT\t0\t1\n", "" }, { out, err })
  end)

  it("make room for new connections, and none is turned away", function()
    local path = helper.socket_path()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/server.lua", server_script)
    helper.write_file(dir .. "/client.lua", client_script)
    local command = "ulimit -n 64; exec %s %s/server.lua %s"
    local server = helper.start(command:format(helper.neap, dir, path))
    helper.listening(path)
    local client = helper.start(("exec %s %s/client.lua %s"):format(helper.neap, dir, path))
    client:expect("answered\t300", 20)
    server:expect("served\t300\tturned away\t0", 20)
    assert.equal(0, client:wait())
    assert.truthy(server:wait())
  end)
end)
