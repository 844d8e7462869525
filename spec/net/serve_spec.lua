-- net.serve: connections in tasks of their own, limits, isolation, stopping. Clients: nc, socat.

local neap = require "neap"
local net = require "neap.net"
local helper = require "spec.support.helper"

-- A shell line that connects nc to the server.
local function nc(server, options)
  local path = server.address:match "^unix:(.*)$"
  if path then return ("nc %s -U %s"):format(options or "", path) end
  return ("nc %s %s %s"):format(options or "", server.address:match "^tcp://(.*):(%d+)$")
end

local function upper(c)
  for line in c:lines() do c:write(line:upper(), "\n") end
end

local function quiet() end

-- What is logged, as one text.
local function recorder()
  local lines = {}
  return function(line) lines[#lines + 1] = line end, lines
end

describe("serve", function()
  it("listens when it returns, and answers", function()
    local s <close> = net.serve("tcp://127.0.0.1:0", upper)
    assert.matches("^tcp://127%.0%.0%.1:%d+$", s.address)
    local out, _, status = helper.run(nc(s, "-N"), { stdin = "hello\nworld\n" })
    assert.equal("HELLO\nWORLD\n", out)
    assert.equal(0, status)
    assert.equal(1, s.total)
    assert.equal(0, s:stop())
    assert.matches("connections=0 total=1 stopped}$", tostring(s))
  end)

  it("raises when it cannot listen, with a code", function()
    local taken <close> = assert(net.listen "tcp://127.0.0.1:0")
    local ok, err = pcall(net.serve, taken.address, upper)
    assert.is_false(ok)
    assert.equal("EADDRINUSE", err.code)
    assert.equal("listen " .. taken.address .. ": address already in use", tostring(err))
  end)

  it("raises for what only a programmer can get wrong, at the caller's line", function()
    local here = "spec/net/serve_spec%.lua:%d+: bad argument "
    local a = "tcp://127.0.0.1:0"
    local cases = {
      { function() net.serve(a) end, here .. "#3 to 'serve' %(handler: function" },
      { function() net.serve(a, {}, 5) end, here .. "#3 to 'serve' %(handler" },
      { function() net.serve(nil, quiet) end, here .. "#1 to 'serve' %(address or listener" },
      { function() net.serve(a, 5, quiet) end, here .. "#2 to 'serve' %(options: table" },
      { function() net.serve(a, { timeout = "x" }, quiet) end, here .. "#2 .*option 'timeout'" },
      { function() net.serve(a, { max_connections = 0 }, quiet) end, here .. "#2 .*max_conn" },
      { function() net.serve(a, { line_max = 0 / 0 }, quiet) end, here .. "#2 .*line_max" },
      { function() net.serve(a, { log = 1 }, quiet) end, here .. "#2 .*option 'log'" },
      { function() net.serve(a, { backlgo = 1 }, quiet) end, here .. "#2 .*unknown.*'backlgo'" },
    }
    for i, case in ipairs(cases) do
      local ok, err = pcall(case[1])
      assert.is_false(ok, i)
      assert.matches(case[2], err, 1, false, i)
    end
  end)

  it("serves many at a time, each in a task of its own", function()
    local s <close> = net.serve("tcp://127.0.0.1:0", upper)
    local clients = {}
    for i = 1, 20 do
      local command = ("(echo client %d; sleep 0.2) | %s"):format(i, nc(s, "-N"))
      clients[i] = helper.start(command)
    end
    for i, client in ipairs(clients) do
      assert.equal(0, client:wait())
      assert.equal("CLIENT " .. i .. "\n", client:out())
    end
    assert.equal(20, s.total)
  end)

  it("serves a listener it was given and leaves it open", function()
    local path = helper.socket_path()
    local l <close> = assert(net.listen("unix:" .. path))
    local s = net.serve(l, upper)
    assert.equal("HI\n", (helper.run(nc(s, "-N"), { stdin = "hi\n" })))
    assert.equal(0, s:stop())
    assert.equal("number", type(l.fd))
    local second <close> = net.serve(l, function(c) c:write "second\n" end)
    assert.equal("second\n", (helper.run(nc(second, "-N"))))
  end)

  it("serves record sockets", function()
    local path = helper.socket_path()
    local s <close> = net.serve("unix-seqpacket:" .. path, function(c)
      for record in c:records() do c:send(record:upper()) end
    end)
    local command = ("exec socat -t 2 -T 5 - UNIX-CONNECT:%s,type=5"):format(path)
    local client = helper.start(command, { stdin = "record" })
    client:expect "RECORD"
    client:wait()
    assert.equal(1, s.total)
  end)

  it("closes politely when the handler returns, with the request unread", function()
    local s <close> = net.serve("tcp://127.0.0.1:0", function(c) c:write "bye\n" end)
    for _ = 1, 20 do
      local out = helper.run("head -c 100000 /dev/zero | " .. nc(s, "-N"))
      assert.equal("bye\n", out)
    end
  end)

  it("ends a child task of a handler with its connection", function()
    local ended
    local s <close> = net.serve("tcp://127.0.0.1:0", { log = quiet }, function(c)
      neap.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() ended = true end })
        neap.sleep(1000)
      end)
      neap.yield()
      c:write "done\n"
      error "over"
    end)
    assert.equal("done\n", (helper.run(nc(s, "-N"))))
    assert.is_true(ended)
  end)
end)

describe("a handler's error", function()
  it("is logged with peer and traceback, closes its connection and concerns no other", function()
    local log, lines = recorder()
    local s <close> = net.serve("tcp://127.0.0.1:0", { log = log }, function(c)
      for line in c:lines() do
        if line == "crash" then error "it broke" end
        c:write(line, "\n")
      end
    end)
    local survivor = helper.start("(echo one; sleep 0.5; echo two) | " .. nc(s, "-N"))
    survivor:expect "one"
    helper.run(nc(s, "-N"), { stdin = "crash\n" })
    assert.equal(0, survivor:wait())
    assert.equal("one\ntwo\n", survivor:out())
    assert.equal(1, #lines)
    local peer = "^neap: tcp://127%.0%.0%.1:%d+: "
    assert.matches(peer .. ".*serve_spec%.lua:%d+: it broke\nstack traceback:\n", lines[1])
  end)

  it("goes to standard error when nobody takes it", function()
    local script = [[
      local net = require "neap.net"
      local s
      s = net.serve("unix:" .. arg[1], function(c) s:stop() error "on its own" end)
    ]]
    local path = helper.socket_path()
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local p = helper.start(("exec %s %s %s"):format(helper.neap, file, path))
    helper.listening(path)
    helper.run("nc -N -U " .. path)
    assert.equal(0, p:wait())
    assert.matches("^neap: unix:.*on its own\nstack traceback:", p:err())
  end)

  it("is one line when it is what peers do: reset, broken pipe, deadline", function()
    local log, lines = recorder()
    local s <close> = net.serve("tcp://127.0.0.1:0", { log = log, timeout = 0.02 }, function(c)
      for _ in c:lines() do error "nothing comes" end
    end)
    helper.run("sleep 0.2 | " .. nc(s))
    assert.equal(1, #lines)
    assert.matches("timed out$", lines[1])
    assert.is_nil(lines[1]:find "\n")
    -- what assert(c:read()) raises
    local opts = { log = log, timeout = 0.02 }
    local s2 <close> = net.serve("tcp://127.0.0.1:0", opts, function(c)
      local _, message = c:read()
      error(message)
    end)
    helper.run("sleep 0.2 | " .. nc(s2))
    assert.equal(2, #lines)
    assert.is_nil(lines[2]:find "\n")
  end)
end)

describe("a handler that is cancelled", function()
  local current = require("neap.task.core").current

  it("concerns no other connection, though it ends without a wait and has a task", function()
    local s <close> = net.serve("tcp://127.0.0.1:0", { log = quiet }, function(c)
      neap.spawn(neap.sleep, 10)
      if c:read() == "cancel" then current():cancel() end
      c:write "bye\n"
      error "ends the task too"
    end)
    for _, line in ipairs { "cancel\n", "on\n" } do
      assert.equal("bye\n", (helper.run(nc(s, "-N"), { stdin = line })))
    end
    assert.equal(0, s.connections)
  end)

  it("stays what a script has in its hands when other connections have come since", function()
    local kept = {}
    local s <close> = net.serve("unix:" .. helper.socket_path(), { timeout = 5 }, function(c)
      if c:read() ~= "keep" then return end
      kept[#kept + 1] = neap.current()
      neap.current().name = "kept " .. #kept
    end)
    for i = 1, 12 do
      local c <close> = assert(net.connect(s.address))
      c:write(i % 3 == 0 and "keep\n" or "pass\n")
      assert.equal("", c:read("a", { timeout = 5 }))
    end
    assert.equal(4, #kept)
    for i, task in ipairs(kept) do
      assert.is_true(task:join())
      assert.equal("kept " .. i, task.name)
      assert.equal("returned", task.state)
      for k = 1, i - 1 do assert.not_equal(kept[k], task) end
    end
  end)

  it("has the server's timeout in each of many connections in a row", function()
    local s <close> = net.serve("unix:" .. helper.socket_path(), { timeout = 0.02 }, function(c)
      local begin = neap.now()
      local _, _, code = c:read()
      c:write(code, " ", neap.now() - begin >= 0.02 and "in time" or "early")
    end)
    for _ = 1, 5 do
      local c <close> = assert(net.connect(s.address))
      assert.equal("ETIMEDOUT in time", c:read("a", { timeout = 5 }))
    end
  end)

  it("is closed with its connection when it goes on all the same", function()
    local s = net.serve("tcp://127.0.0.1:0", function(c)
      while true do pcall(c.read, c) end
    end)
    local c <close> = assert(net.connect(s.address))
    helper.wait_until(function() return s.connections == 1 end)
    assert.equal(1, s:stop(0))
    assert.equal(0, s.connections)
    assert.equal("", c:read "a")
  end)
end)

describe("limits of serve", function()
  it("hold connections past max_connections in the backlog, and say so once", function()
    local most, now = 0, 0
    local log, lines = recorder()
    local s <close> = net.serve("tcp://127.0.0.1:0", { max_connections = 3, log = log }, function(c)
      now = now + 1
      most = math.max(most, now)
      assert(c:read())
      neap.sleep(0.02)
      c:write "served\n"
      now = now - 1
    end)
    local clients = {}
    for i = 1, 12 do clients[i] = helper.start(nc(s, "-N"), { stdin = "x\n" }) end
    for _, client in ipairs(clients) do
      client:wait()
      assert.equal("served\n", client:out())
    end
    assert.equal(3, most)
    assert.equal(12, s.total)
    assert.same({ "neap: " .. s.address
      .. ": 3 connections, the most at a time (max_connections): others wait" }, lines)
  end)

  it("bound lines", function()
    local log, lines = recorder()
    local s <close> = net.serve("tcp://127.0.0.1:0", { line_max = 100, log = log }, upper)
    helper.run("head -c 100000 /dev/zero | " .. nc(s, "-N"))
    assert.equal(1, #lines)
    assert.matches("message too long", lines[1])
  end)
end)

describe("server:stop", function()
  it("lets connections end within the grace and counts none", function()
    local s = net.serve("tcp://127.0.0.1:0", upper)
    local client = helper.start("(echo a; sleep 0.3; echo b) | " .. nc(s, "-N"))
    client:expect "A"
    assert.equal(0, s:stop(10))
    client:wait()
    assert.equal("A\nB\n", client:out())
    local _, _, status = helper.run(nc(s, "-z"))
    assert.not_equal(0, status) -- nobody listens any more
  end)

  it("cancels those that are left, lets them say goodbye, and counts them", function()
    local s = net.serve("tcp://127.0.0.1:0", function(c)
      local _ <close> = setmetatable({}, { __close = function() c:write "goodbye\n" end })
      for line in c:lines() do c:write(line, "\n") end
    end)
    local clients = {}
    for i = 1, 3 do
      clients[i] = helper.start("(echo hi; exec sleep 20) | " .. nc(s))
      clients[i]:expect "hi"
    end
    assert.equal(3, s:stop(0.05))
    assert.equal(0, s.connections)
    for _, client in ipairs(clients) do client:expect "goodbye" end
    assert.equal(0, s:stop())
  end)

  it("in a handler leaves that handler's own connection alone", function()
    local cancelled
    local s
    s = net.serve("tcp://127.0.0.1:0", function(c)
      cancelled = s:stop(0)
      c:write "stopped\n"
    end)
    assert.equal("stopped\n", (helper.run(nc(s, "-N"))))
    assert.equal(0, cancelled)
  end)

  it("refuses what is no time", function()
    local s <close> = net.serve("tcp://127.0.0.1:0", upper)
    for _, grace in ipairs { "x", -1, 0 / 0 } do
      local ok, err = pcall(s.stop, s, grace)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'stop'", err)
    end
  end)

  it("happens by itself when the group of the server is cancelled", function()
    local address
    local task = neap.spawn(function()
      neap.group(function()
        local s = net.serve("tcp://127.0.0.1:0", upper)
        address = s.address
      end)
    end)
    assert(helper.wait_until(function() return address end))
    local client = helper.start(nc({ address = address }), { stdin = "x\n" })
    client:expect "X"
    task:cancel()
    task:join()
    assert.truthy(client:wait())
    local again <close> = assert(net.listen(address))
    assert.equal(address, again.address)
  end)
end)

describe("a program that serves", function()
  it("lives until the server is stopped", function()
    local script = [[
      local neap, net = require "neap", require "neap.net"
      local s = net.serve("unix:" .. arg[1], function(c) c:write "served\n" end)
      neap.spawn(function()
        while s.total < 2 do neap.sleep(0.01) end
        s:stop(1)
        print "stopped"
      end)
    ]]
    local path = helper.socket_path()
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local p = helper.start(("exec %s %s %s"):format(helper.neap, file, path))
    helper.listening(path)
    for _ = 1, 2 do assert.equal("served\n", (helper.run("nc -N -U " .. path))) end
    assert.equal(0, p:wait())
    assert.equal("stopped\n", p:out())
  end)
end)
