-- Traps that others fell into, from the outside: DESIGN §7 and the issue's bad input. A trap has
-- its spec where its object has; here is the map (conformance: spec/stream/conformance.lua), and
-- below what none of those proves.
--
--   a timed-out read loses its bytes         conformance "loses nothing when time runs out"
--   a timed-out waiter swallows a wake-up    cancel "leaves every queue", channel, select, listener
--   closing under a waiter                   conformance "wakes every kind of waiter", net/*
--   completion before the yield              event "is seen at once", channel, select, net/dgram
--   EMFILE on accept                         net/listener "at the descriptor limit", inject
--   a reset hides data                       conformance "reads what came before a reset"
--   a line without an end                    conformance "keeps limits exactly", below
--   unread bytes and layers                  conformance over fault:, pipe
--   unread bytes and STARTTLS                tls_start "hands unread bytes", "refuses plaintext"
--   a handshake in the accept loop           tls "lets a silent client go", "as many handshakes"
--   a cut that looks like an end             tls_start "tells a cut from an end"
--   a failed write hides an answer           tls_start "reads what the peer said", http "413"
--   two readers, two requests                http "refuses what is ambiguous", "malformed chunks"
--   plain wraps; two tasks on one generator  coroutine
--   a loop that ignores timeouts             scope "raises the 100th", conformance, below
--   sleeping tasks                           task "a million timers in bounded time"
--   `localhost`, slow lookups                net/connect
--   os.exit with output pending              runtime "sends what was written first, and lingers"
--   /dev/null, a file, closed as 0, 1, 2     stream_spec, command "standard descriptors"
--   a flood of descriptors                   fdpass "bounds a flood", net/descriptor
--   shortages and interruptions              inject; memory: starve
--   wrong arguments at the caller's line     arguments; addresses: core/address, net/listener
--   error codes                              core/error (all names), each where it comes from

local helper = require "spec.support.helper"
local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"

local function quiet() end

-- A server of lines whose healthy client is asked again and again while `f` misbehaves: the other
-- connections notice nothing, and nothing is left. Returns what was logged.
local function beside(f, opts)
  local log = {}
  local o = { log = function(line) log[#log + 1] = line end }
  for k, v in pairs(opts or {}) do o[k] = v end
  local s <close> = net.serve("tcp://127.0.0.1:0", o, function(c)
    for line in c:lines() do
      assert(line ~= "boom", "boom")
      assert(c:write(line, "\n"))
    end
  end)
  local done, worst, asked = false, 0, 0
  neap.group(function(g)
    local healthy = g:spawn(function()
      local c <close> = assert(net.connect(s.address))
      repeat
        local before = neap.now()
        assert(c:write "ping\n")
        assert(c:read("l", { timeout = 10 * helper.slow }) == "ping")
        worst = math.max(worst, neap.now() - before)
        asked = asked + 1
        neap.sleep(0.002)
      until done and asked >= 5
    end)
    f(s)
    done = true
    assert(healthy:join())
  end)
  assert.is_true(worst < 1 * helper.slow, worst .. " s for an answer")
  local alone = helper.wait_until(function() return s.connections == 0 end, 5)
  assert.is_true(alone, s.connections .. " connections are left")
  return log
end

describe("a timeout", function()
  it("that would restart at every inner wait is one instant: a peer that drips bytes", function()
    local a, b = assert(net.pair "unix")
    local _ <close> = a
    local dripping = neap.spawn(function()
      while b:write "x" and b:flush() do neap.sleep(0.01) end
    end)
    for _, read in ipairs {
      function() return a:read("l", { timeout = 0.1 }) end,
      function() return a:read(100000, { timeout = 0.1 }) end,
      function() return a:read_until("--", { timeout = 0.1 }) end,
      function() return a:unpack("s4", { timeout = 0.1 }) end,
      function() return a:read("a", { timeout = 0.1 }) end,
      function() return neap.timeout(0.1, function() return a:read() end) end,
    } do
      local before = neap.now()
      local value, _, code = read()
      local took = neap.now() - before
      if value then -- enough x's for a count that unpack read from them would be wrong
        error("got " .. tostring(value))
      end
      assert.is_true(code == "ETIMEDOUT" or code == "EMSGSIZE", code)
      assert.is_true(took < 0.4 * helper.slow, took .. " s")
    end
    dripping:cancel()
    dripping:join()
    b:abort()
  end)

  it("that a handler ignores in a loop ends with a place in the log", function()
    local log = {}
    local options = { timeout = 0.001, log = function(line) log[#log + 1] = line end }
    local line
    local s <close> = net.serve("tcp://127.0.0.1:0", options, function(c)
      line = debug.getinfo(1, "l").currentline + 1
      while true do c:read() end
    end)
    local c <close> = assert(net.connect(s.address))
    assert.is_nil((c:read("l", { timeout = 10 * helper.slow })))
    assert(helper.wait_until(function() return #log > 0 end))
    assert.equal(1, #log)
    assert.matches("^neap: tcp://127%.0%.0%.1:%d+: ", log[1])
    assert.matches("timed out", log[1])
    assert.matches("traps_spec.lua:" .. line .. ":", log[1])
  end)
end)

describe("the peer", function()
  it("that ended while the handler sleeps costs no CPU", function()
    for _, address in ipairs { "tcp://127.0.0.1:0", "unix:" .. helper.socket_path() } do
      local s <close> = net.serve(address, { log = quiet }, function(c)
        c:read()
        neap.sleep(0.5)
        c:write "late\n"
      end)
      local clients = {}
      for i = 1, 20 do
        local c = assert(net.connect(s.address))
        c:write("go\n", ("more\n"):rep(10))
        assert(c:shutdown())
        clients[i] = c
      end
      neap.sleep(0.05)
      local cpu = os.clock()
      neap.sleep(0.3)
      cpu = os.clock() - cpu
      assert.is_true(cpu < 0.1 * helper.slow, cpu .. " s of CPU in 0.3 s")
      for _, c in ipairs(clients) do
        assert.equal("late", c:read())
        c:close()
      end
    end
  end)

  it("that resets affects nobody else", function()
    local log = beside(function(s)
      for i = 1, 50 do
        local c = assert(net.connect(s.address))
        c:write(("half a line"):rep(i))
        c:flush()
        if i % 2 == 0 then neap.yield() end
        c:abort()
      end
    end)
    for _, line in ipairs(log) do assert.falsy(line:find "\n") end -- one line, no traceback
  end)

  it("that stalls affects nobody else, and is let go at its deadline", function()
    local log = beside(function(s)
      local stalled = {}
      for i = 1, 50 do
        stalled[i] = assert(net.connect(s.address))
        stalled[i]:write "no end of a line"
        stalled[i]:flush()
      end
      for _, c in ipairs(stalled) do
        c:read("l", { timeout = 10 * helper.slow })
        c:abort()
      end
    end, { timeout = 0.3 })
    assert.equal(50, #log)
    assert.matches("timed out$", log[1])
  end)

  it("that never reads affects nobody else", function()
    local log = beside(function(s)
      local c <close> = assert(net.connect(s.address))
      local line = ("x"):rep(helper.hard and 2000 or 60000) .. "\n"
      repeat local ok = c:write(line, { timeout = 1 * helper.slow }) until not ok
    end, { timeout = 0.2 * helper.slow })
    assert.is_true(#log >= 1)
  end)

  it("that floods, half-closes and sends a line without an end affects nobody else", function()
    local log = beside(function(s)
      local host, port = s.address:match "tcp://([%d.]+):(%d+)"
      -- 4 MB of short lines, then the end; all of it is answered
      local n = helper.hard and 40000 or 4000000
      local flood = "yes | head -c %d | nc -N %s %s | wc -c"
      assert.equal(n .. "\n", (helper.run(flood:format(n, host, port))))
      local endless = "head -c 50000000 /dev/zero | nc -N %s %s | wc -c"
      local rest = helper.run(endless:format(host, port))
      assert.equal("0\n", rest)
    end)
    assert.equal(1, #log)
    assert.matches("message too long", log[1])
  end)

  it("that leaves a reply unread, with its request unread here, gets it: 1000 of 1000", function()
    local s <close> = net.serve("tcp://127.0.0.1:0", { log = quiet }, function(c)
      c:write "reply\n"
    end)
    local whole, n = 0, helper.slow > 1 and 200 or 1000
    neap.group(function(g)
      for _ = 1, 10 do
        g:spawn(function()
          for i = 1, n // 10 do
            local c <close> = assert(net.connect(s.address))
            c:write(("request nobody reads "):rep(i))
            c:flush()
            if c:read "a" == "reply\n" then whole = whole + 1 end
          end
        end)
      end
    end)
    assert.equal(n, whole)
  end)
end)

-- Answers n clients and closes with the request unread; the clients keep their ends open.
local lingerers_script = [[
  local neap, net = require "neap", require "neap.net"
  local server
  server = net.serve("unix:" .. arg[1], function(c)
    c:write "served\n"
    if server.total == 1000 then neap.spawn(function() server:stop(5) os.exit(0) end) end
  end)
]]

describe("1000 lingerers at the descriptor limit", function()
  it("keep no client from its answer", function()
    local path = helper.socket_path()
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", lingerers_script)
    local p = helper.start(("ulimit -n 100; exec %s %s %s"):format(helper.neap, file, path))
    helper.listening(path)
    local limit = { timeout = 10 * helper.slow }
    local held, served = {}, 0
    for i = 1, 1000 do
      local c = assert(net.connect("unix:" .. path, limit))
      assert(c:write "request that nobody reads\n")
      assert(c:flush())
      if c:read("l", limit) == "served" then served = served + 1 end
      held[i] = c
    end
    for _, c in ipairs(held) do c:abort() end
    assert.equal(1000, served)
    assert.equal(0, p:wait(20), p:err())
  end)
end)

describe("a descriptor number", function()
  it("that is used again brings no event of the connection before it", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local seen = {}
    for i = 1, 100 do
      local a = assert(net.connect(l.address))
      local b = assert(l:accept { timeout = 5 })
      seen[b.fd] = (seen[b.fd] or 0) + 1
      -- an event of the old one is due in the very turn in which its number is used again
      a:write "of the old one\n"
      a:flush()
      b:abort()
      local c, d = assert(net.pair "unix")
      local value, _, code = d:recv(100, { timeout = 0.002 })
      assert.is_nil(value, i)
      assert.equal("ETIMEDOUT", code)
      c:write "new\n"
      assert.equal("new", d:read("l", { timeout = 5 }))
      c:abort()
      d:abort()
      a:abort()
    end
    local most = 0
    for _, n in pairs(seen) do most = math.max(most, n) end
    assert.is_true(most > 10, "no number was used again")
  end)
end)

describe("arguments", function()
  it("are checked before anything is taken", function()
    local function open()
      local n = 0
      for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
      return n
    end
    local before, objects = open(), neap.stats().objects
    local path = helper.socket_path()
    for _, f in ipairs {
      function() net.listen("tcp://127.0.0.1:0", { backlogg = 1 }) end,
      function() net.listen("unix:" .. path, { mode = {} }) end,
      function() net.connect("tcp://127.0.0.1:9", { nodelay = "perhaps" }) end,
      function() net.connect("tcp://127.0.0.1:9", { timeout = "x" }) end,
      function() net.datagram("udp://127.0.0.1:0", { inof = true }) end,
      function() net.serve("tcp://127.0.0.1:0", { max_connections = 0 }, quiet) end,
      function() net.serve("tcp://127.0.0.1:0", { nodely = true }, quiet) end,
      function() net.serve("tcp://127.0.0.1:0", {}) end,
      function() net.pair "none" end,
      function() net.hub { policy = "none" } end,
    } do
      local line = debug.getinfo(f, "S").linedefined
      local ok, err = pcall(f)
      assert.is_false(ok, "line " .. line .. " does not raise")
      assert.matches("traps_spec.lua:" .. line .. ": bad argument #%d", tostring(err))
    end
    assert.equal(before, open())
    assert.equal(objects, neap.stats().objects)
    assert.is_nil(lfs.attributes(path))
  end)

  it("that the system refuses are outcomes: message and code", function()
    local used <close> = assert(net.listen "tcp://127.0.0.1:0")
    local dir = helper.tmpdir()
    local cases = {
      { used.address, "EADDRINUSE", "address already in use" },
      { "unix:" .. dir .. "/" .. ("x"):rep(200), "ENAMETOOLONG", "too long" },
      { "unix:" .. dir .. "/none/s", "ENOENT", "no such file or directory" },
      { "tcp://127.0.0.1:65536", "EINVAL", "port" },
      { "tcp://[::1:80", "EINVAL", "%]" },
    }
    assert(lfs.mkdir(dir .. "/closed"))
    assert(os.execute("chmod 0 " .. dir .. "/closed"))
    helper.after(function() os.execute("chmod 700 " .. dir .. "/closed") end)
    for _, case in ipairs(cases) do
      local l, message, code = net.listen(case[1])
      assert.is_nil(l, case[1])
      assert.equal(case[2], code, message)
      assert.matches("^listen ", message)
      assert.matches(case[3], message)
    end
    -- permissions are nothing to root
    local script = helper.write_file(dir .. "/s.lua", [[
      local l, message, code = require "neap.net".listen("unix:" .. arg[1] .. "/closed/s")
      io.stdout:write(tostring(l), " ", message, " ", code, "\n")
    ]])
    local command = ("%s %s %s"):format(helper.neap, script, dir)
    if helper.run "id -u" == "0\n" then
      command = "setpriv --reuid 65534 --clear-groups --inh-caps=-all " .. command
    end
    os.execute(("chmod 755 %s; chmod 644 %s/s.lua"):format(dir, dir))
    local out, err = helper.run(command)
    assert.matches("^nil listen unix:.*permission denied EACCES\n$", out, 1, false, err)
  end)
end)

describe("one error", function()
  it("of a handler ends its connection, not the process", function()
    local log = beside(function(s)
      local c <close> = assert(net.connect(s.address))
      c:write "boom\n"
      assert.is_nil((c:read("l", { timeout = 10 })))
    end)
    assert.equal(1, #log)
    assert.matches("^neap: tcp://127%.0%.0%.1:%d+: .*boom\nstack traceback:\n.*traps_spec", log[1])
  end)
end)

describe("the collector", function()
  it("is incremental: young collections would scan all stacks", function()
    local out, err = helper.run_script [[print(collectgarbage "incremental")]]
    assert.equal("incremental\n", out, err)
  end)
end)

describe("ports", function()
  it("of specs are the kernel's choice", function()
    local fixed = [['listen[ (]+"[^"]*:[1-9][0-9]+"']]
    local out = helper.run("grep -rnE " .. fixed .. " spec --include='*_spec.lua'")
    for line in out:gmatch "[^\n]+" do
      assert.matches("65536", line) -- the one that does not parse
    end
  end)
end)
