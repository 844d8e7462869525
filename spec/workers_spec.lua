-- neap --workers N: a supervisor and its workers, by real processes and real clients.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

-- Says where it listens; answers each line with its number, pid and NEAP_WORKER.
local answering = [[
local net = require "neap.net"
local workers = require "neap.workers"
local pid = require("neap.process").pid
local server = net.serve(arg[1], function(conn)
  for line in conn:lines() do
    if line == "die" then os.exit(3) end
    conn:write(workers.id, "/", workers.count, " ", pid, " ", os.getenv "NEAP_WORKER", "\n")
  end
end)
print("on " .. server.address)
]]

local function start(options, text, arguments, prefix)
  local path = helper.write_file(helper.tmpdir() .. "/script.lua", text)
  return helper.start(("%s exec %s --workers %s %s %s"):format(
    prefix or "", helper.quote(helper.neap), options, path, arguments or ""), { limit = 30 })
end

local function exists(pid) return helper.read_file("/proc/" .. pid .. "/stat") ~= nil end

-- Started and not ended, by the log: worker -> pid.
local function running(p)
  local pids = {}
  for line in p:err():gmatch "[^\n]+" do
    local id, pid = line:match "^neap: worker (%d+) pid (%d+) started"
    if id then pids[tonumber(id)] = tonumber(pid) end
  end
  return pids
end

local function supervisor_of(p)
  local stat = helper.read_file(("/proc/%d/stat"):format(running(p)[1]))
  return tonumber(stat:match "%) %a (%d+)")
end

local function kill(signal, pid) assert(os.execute(("kill -s %s %d"):format(signal, pid))) end

local function count(text, pattern) return select(2, text:gsub(pattern, "")) end

-- Waits for n lines "on ADDRESS": the addresses as a list.
local function listening(p, n)
  assert(helper.wait_until(function() return count(p:out(), "on %S+\n") >= n end), p:err())
  local list = {}
  for addr in p:out():gmatch "on (%S+)\n" do list[#list + 1] = addr end
  return list
end

local function ask(addr, line)
  local host, port = addr:match "^tcp://(.*):(%d+)$"
  local peer = host and host .. " " .. port or "-U " .. addr:match "^unix:(.*)$"
  return (helper.run(("echo %s | timeout -k 1 10 nc -N %s"):format(line or "who", peer)))
end

-- A port that was free a moment ago.
local function free_port()
  local l <close> = assert(net.listen "127.0.0.1:0")
  return l.address:match ":(%d+)$"
end

describe("neap --workers", function()
  it("refuses what is no number of workers, and what has no script", function()
    for _, bad in ipairs { "0 x.lua", "x x.lua", "2,pas x.lua", "2,grace=x x.lua", "1/2 x.lua",
      "2000 x.lua", "2 -", "2", "2 -i x.lua", "2," } do
      local out, err, status = helper.run_neap("--workers " .. bad)
      assert.equal(2, status, bad)
      assert.equal("", out)
      assert.matches("^neap: .*workers.-\nusage: ", err)
    end
    local _, err, status = helper.run_neap "--worker=1/2 x.lua"
    assert.equal(2, status)
    assert.matches("only the supervisor starts workers", err)
  end)

  it("gives all workers the one port that 0 stands for; an idle one answers", function()
    local p = start("2", answering, "127.0.0.1:0")
    local addrs = listening(p, 2)
    assert.equal(addrs[1], addrs[2])
    local pids = running(p)
    for busy, idle in ipairs { 2, 1 } do
      kill("STOP", pids[busy])
      assert.equal(("%d/2 %d %d\n"):format(idle, pids[idle], idle), ask(addrs[1]))
      kill("CONT", pids[busy])
    end
  end)

  it("shares a path", function()
    local path = helper.socket_path()
    local p = start("2", answering, "unix:" .. path)
    assert.same({ "unix:" .. path, "unix:" .. path }, listening(p, 2))
    local pids = running(p)
    for busy, idle in ipairs { 2, 1 } do
      kill("STOP", pids[busy])
      assert.matches("^" .. idle .. "/2 ", ask("unix:" .. path))
      kill("CONT", pids[busy])
    end
  end)

  it("lets idle workers take turns, so that long connections are spread", function()
    local p = start("2", answering, "127.0.0.1:0")
    local addr, open, seen = listening(p, 2)[1], {}, { 0, 0 }
    for i = 1, 40 do
      open[i] = assert(net.connect(addr))
      open[i]:write "who\n"
      local id = tonumber(open[i]:read({ timeout = 5 }):match "^%d")
      seen[id] = seen[id] + 1
    end
    for _, conn in ipairs(open) do conn:close() end
    local least = os.getenv "NEAP_POLL" == "uv" and 0 or 10 -- which has no turns
    assert.is_true(math.min(seen[1], seen[2]) >= least, table.concat(seen, ":"))
  end)

  it("lets each bind for itself with reuseport, and passes what cannot be bound twice", function()
    local text = answering .. [[
      local l = assert(net.listen "localhost:0")
      print("zero " .. l.address)]]
    local p = start("2,reuseport", text, "127.0.0.1:" .. free_port())
    local addrs = listening(p, 2)
    assert.equal(addrs[1], addrs[2])
    p:expect "zero .*zero "
    local zero = {}
    for addr in p:out():gmatch "zero (%S+)" do zero[#zero + 1] = addr end
    assert.equal(zero[1], zero[2])
    local seen, host, port = {}, addrs[1]:match "^tcp://(.*):(%d+)$"
    local many = "for i in {1..40}; do echo who | timeout -k 1 5 nc -N %s %s; done"
    local all = helper.run(many:format(host, port))
    for id in all:gmatch "(%d)/2" do seen[id] = true end
    assert.same({ ["1"] = true, ["2"] = true }, seen)
  end)

  it("shares a bound UDP port, and leaves clients their own", function()
    for _, mode in ipairs { "pass", "reuseport" } do
      local port = free_port()
      local p = start("2," .. mode, ([[
        local net = require "neap.net"
        local s = assert(net.datagram "udp://127.0.0.1:%s")
        local own = assert(net.datagram "udp://127.0.0.1:0")
        print("own " .. own.address) print("on " .. s.address)
        for msg, from in s:records() do assert(s:send("got " .. msg, from)) end
      ]]):format(port))
      local addrs = listening(p, 2)
      assert.equal(addrs[1], addrs[2])
      local own = {}
      for addr in p:out():gmatch "own (%S+)" do own[#own + 1] = addr end
      assert.not_equal(own[1], own[2])
      local client <close> = assert(net.datagram(nil, { connect = addrs[1] }))
      for i = 1, 8 do
        assert(client:send("a" .. i))
        assert.equal("got a" .. i, client:recv { timeout = 5 })
      end
      p:kill "KILL"
    end
  end)

  it("knows names, several sockets at a time, and the n-th port 0", function()
    local p = start("2", [[
      local net = require "neap.net"
      local list = {}
      for i = 1, 2 do
        local l = assert(net.listen { "127.0.0.1:0", "127.0.0.2:0" })
        list[i] = table.concat(l.addresses, ",")
      end
      local alone = assert(require("neap.workers").listen "127.0.0.1:0")
      assert(list[1] ~= list[2])
      print("on " .. table.concat(list, ";"))
      print("alone " .. alone.address)
      require("neap").sleep(60)]])
    local addrs = listening(p, 2)
    assert.equal(addrs[1], addrs[2])
    p:expect "alone .*alone"
    local one, two = p:out():match "alone (%S+).-alone (%S+)"
    assert.not_equal(one, two)
  end)

  it("tells mistakes where they were made", function()
    local p = start("1", [[
      local net = require "neap.net"
      local first = assert(net.listen "127.0.0.1:0")
      local fixed = first.address
      print(net.listen(fixed))
      print(net.listen "127.0.0.1:1x")
      print(pcall(net.listen, "127.0.0.1:0", { nonsense = true }))
      print(pcall(net.listen, "127.0.0.1:0", { backlog = {} }))
      print(pcall(function() local l = net.listen({}) return l end))
      local l = assert(net.listen "127.0.0.1:0")
      local addr = l.address
      l:close()
      local unix = "unix:" .. os.tmpname()
      os.remove(unix:sub(6))
      local u = assert(net.listen(unix))
      print(net.listen(unix))
      u:close()
      print(net.listen(unix) ~= nil)
      os.remove(unix:sub(6))]])
    assert.equal(0, p:wait())
    local lines = {}
    for line in p:out():gmatch "[^\n]+" do lines[#lines + 1] = line end
    local used = "^nil\tlisten %s: address already in use\tEADDRINUSE$"
    assert.matches(used:format "tcp://127.0.0.1:%d+", lines[1])
    assert.matches("^nil\tlisten 127.0.0.1:1x.*\tEINVAL$", lines[2])
    assert.matches("^false\t.*unknown option 'nonsense'", lines[3])
    assert.matches("^false\t.*backlog", lines[4])
    assert.matches("^false\t%S+script.lua:8: bad argument #1", lines[5])
    assert.matches(used:format "unix:%S+", lines[6])
    assert.equal("true", lines[7])
  end)

  it("gives a worker nothing but its control socket and what it listens on", function()
    local p = start("2", answering, "127.0.0.1:0", "exec 9</dev/zero;")
    listening(p, 2)
    for _, pid in pairs(running(p)) do
      local sockets, zero = 0, 0
      for name in require("lfs").dir("/proc/" .. pid .. "/fd") do
        local path = ("/proc/%d/fd/%s"):format(pid, name)
        local target = require("lfs").symlinkattributes(path, "target")
        if target and target:find "^socket:" then sockets = sockets + 1 end
        if target == "/dev/zero" then zero = zero + 1 end
      end
      assert.same({ 2, 0 }, { sockets, zero })
    end
  end)

  it("does not hand the control socket to the workers' children", function()
    local out = start("1", [[os.execute("ls -l /proc/self/fd")]])
    assert.equal(0, out:wait())
    assert.is_nil(out:out():find "socket:")
  end)
end)

describe("a worker", function()
  it("that is killed is started again under its number, and the address goes on", function()
    local p = start("2", answering, "127.0.0.1:0")
    local addr = listening(p, 2)[1]
    local old = running(p)
    kill("KILL", old[1])
    p:expect(("worker 1 pid %d ended: signal 9; restart in 0.1 s"):format(old[1]))
    assert.matches("^2/2 ", ask(addr)) -- nobody is refused meanwhile
    assert.equal(addr, listening(p, 3)[3])
    local new = running(p)
    assert.not_equal(old[1], new[1])
    assert.equal(old[2], new[2])
    kill("STOP", new[2])
    assert.equal(("1/2 %d 1\n"):format(new[1]), ask(addr))
    assert.equal("", ask(addr, "die"))
    p:expect "ended: status 3; restart in 0.2 s"
  end)

  it("that cannot run is started ever more rarely", function()
    local p, since = start("2", [[error "oh"]]), neap.now()
    p:expect "worker 1 pid %d+ ended: status 1; restart in 0.8 s\n"
    local took, err = neap.now() - since, p:err()
    for _, pause in ipairs { "0.1", "0.2", "0.4" } do
      assert.matches(("worker 1 pid %%d+ ended: status 1; restart in %s s\n"):format(pause), err)
    end
    assert.is_true(took >= 0.7, took .. " s for three pauses")
    assert.equal(4, count(err, "worker 1 pid %d+ started"))
    assert.is_true(count(err, ": oh\n") >= 4)
    kill("TERM", tonumber(helper.run(("pgrep -g %d neap"):format(p.pid)):match "%d+"))
    assert.equal(1, p:wait())
  end)

  it("is not started for a script that does not compile or exist", function()
    local p = start("2", "x = = 1")
    assert.equal(1, p:wait())
    assert.equal(1, count(p:err(), "\n"))
    assert.matches("unexpected symbol", p:err())
    local _, err, status = helper.run_neap "--workers=2 /no/such/script.lua"
    assert.equal(1, status)
    assert.matches("^neap: cannot open", err)
  end)

  it("that exits with 0 stays away; all of them end the supervisor", function()
    local p = start("3", "print(arg[0]:match '[^/]*$', #arg, ..., arg[1])", "a")
    assert.equal(0, p:wait())
    assert.equal(("script.lua\t1\ta\ta\n"):rep(3), p:out())
    assert.equal(3, count(p:err(), "ended: status 0\n"))
  end)
end)

describe("the supervisor", function()
  it("ends all on TERM and INT, with their worst status", function()
    for name, number in pairs { TERM = 15, INT = 2 } do
      local p = start("2", answering, "127.0.0.1:0")
      local addr = listening(p, 2)[1]
      local pids = running(p)
      kill(name, supervisor_of(p))
      assert.equal(128 + number, p:wait())
      for _, pid in pairs(pids) do assert.is_false(exists(pid)) end
      assert.is_nil((net.connect(addr)))
    end
  end)

  it("lets workers end in order, and passes HUP on", function()
    local p = start("2", [[
      local neap = require "neap"
      local s = neap.signals("HUP", "TERM")
      print "on x"
      for name in s do print("got " .. name) if name == "TERM" then return end end]])
    listening(p, 2)
    local pid = supervisor_of(p)
    kill("HUP", pid)
    p:expect "got HUP\n.*got HUP\n"
    kill("TERM", pid)
    assert.equal(0, p:wait())
    assert.equal(2, count(p:out(), "got TERM\n"))
  end)

  it("kills what does not end within the grace, or at the second signal", function()
    local stubborn = [[
      local neap = require "neap"
      local s = neap.signals("TERM")
      print "on x"
      for _ in s do print "no" end]]
    local p = start("2,grace=0.2", stubborn)
    listening(p, 2)
    kill("TERM", supervisor_of(p))
    assert.equal(137, p:wait())
    p = start("2", stubborn)
    listening(p, 2)
    local pid = supervisor_of(p)
    kill("TERM", pid)
    p:expect "no\n.*no\n"
    kill("TERM", pid)
    assert.equal(137, p:wait(3))
  end)

  it("does not leave workers behind when it is killed", function()
    local p = start("2", answering, "127.0.0.1:0")
    listening(p, 2)
    local pids = running(p)
    kill("KILL", supervisor_of(p))
    assert.is_true(helper.wait_until(function()
      return not exists(pids[1]) and not exists(pids[2])
    end))
  end)
end)
