-- net.pipe by splice: what is moved inside the kernel is the same bytes, counts and ends as what is
-- copied, also when the move is cut short in any place.

local helper = require "spec.support.helper"
local lfs = require "lfs"
local net = require "neap.net"
local neap = require "neap"

local UNIT <const> = helper.hard and 64 or 64 << 10 -- of the numbered text
local MANY <const> = helper.hard and 40 or 256

-- The i-th unit of a text in which every place can be told from every other.
local function unit(i) return ("%08d"):format(i):rep(UNIT // 8) end

-- Connected TCP sockets.
local function tcp()
  local l <close> = assert(net.listen "tcp://127.0.0.1:0")
  local a = assert(net.connect(l.address))
  return a, assert(l:accept())
end

local function unix() return net.pair "unix" end

-- A client's end, a server's end, the task of the pipe between them, and its two streams.
local function between(make, opts)
  local client, a = make()
  local b, server = make()
  helper.after(function()
    for _, s in ipairs { client, a, b, server } do s:abort() end
  end)
  local task = neap.spawn(function() return table.pack(net.pipe(a, b, opts)) end)
  return client, server, task, a, b
end

local function result(task) return select(2, assert(task:join { timeout = 10 * helper.slow })) end

local function send(s, from, to)
  return neap.spawn(function()
    for i = from, to do
      if not s:write(unit(i)) then return end
    end
    s:shutdown()
  end)
end

-- Reads units from..to and compares; then the end if `ended`.
local function expect(s, from, to, ended)
  for i = from, to do
    local got = s:read(UNIT)
    if got ~= unit(i) then
      error(("unit %d: got %s"):format(i, got and #got .. " bytes, " .. got:sub(1, 8) or got), 2)
    end
  end
  if ended then assert.is_nil(s:read(1)) end
end

-- The ends of pipes that this process has open, more than it had at first.
local first
local function pipes()
  local n = first and -first or 0
  for name in lfs.dir "/proc/self/fd" do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. name, "target")
    if target and target:find "^pipe:" then n = n + 1 end
  end
  return n
end

first = pipes()

-- Fills the way through b to a server that does not read, until bytes lie in a lent pipe; or, if
-- what was moved last was little, in b's queue.
local function stall(client, server, b)
  local before = pipes()
  local writer = send(client, 1, 4 * MANY)
  expect(server, 1, MANY)
  assert(helper.wait_until(function() return pipes() > before or b.unsent_bytes > 0 end))
  neap.sleep(0.02)
  return writer
end

-- Such a way whose pipe has a deadline, which has not come before bytes stand still.
local function stalled(make, seconds)
  local client, server, task, a, b = between(make, { timeout = seconds })
  local filling = neap.spawn(stall, client, server, b)
  assert(helper.wait_until(function()
    return filling.state == "returned" or task.state == "returned"
  end, 60))
  if filling.state == "returned" then
    return client, server, task, a, b, select(2, filling:join())
  end
  filling:cancel()
  filling:join()
  return stalled(make, 4 * seconds)
end

for name, make in pairs { tcp = tcp, unix = unix } do
  describe("splice over " .. name, function()
    it("moves much both ways at the same time, and counts", function()
      local client, server, task = between(make)
      send(client, 1, MANY)
      send(server, 5001, 5000 + MANY)
      local other = neap.spawn(expect, server, 1, MANY, true)
      expect(client, 5001, 5000 + MANY, true)
      assert(other:join())
      assert.same({ MANY * UNIT, MANY * UNIT, n = 2 }, result(task))
    end)

    it("passes an end on while the other direction goes on", function()
      local client, server, task = between(make)
      send(client, 1, MANY)
      expect(server, 1, MANY, true)
      for i = 1, 3 do
        server:write(unit(i), "\n")
        assert.equal(unit(i), client:read { timeout = 5 * helper.slow } )
      end
      server:close()
      assert.is_nil(client:read())
      assert.same({ MANY * UNIT, 3 * (UNIT + 1), n = 2 }, result(task))
    end)

    it("goes on with small messages after much", function()
      local client, server, task = between(make)
      local writer = neap.spawn(client.write, client, unit(0):rep(MANY))
      assert.equal(MANY * UNIT, #server:read(MANY * UNIT))
      assert(writer:join())
      for i = 1, 50 do
        client:write(i, "\n")
        assert.equal(tostring(i), server:read())
        server:write("re ", i, "\n")
        assert.equal("re " .. i, client:read())
      end
      neap.spawn(client.write, client, unit(7):rep(MANY))
      assert.equal(MANY * UNIT, #server:read(MANY * UNIT))
      client:close()
      server:close()
      result(task)
    end)

    it("loses nothing at a deadline: what lies in the pipe goes on", function()
      local _, server, task, a, b, writer = stalled(make, 0.3)
      local r = result(task)
      assert.equal("ETIMEDOUT", r[3])
      assert.equal(0, pipes())
      local passed = r[4]
      assert.is_true(passed > MANY * UNIT)
      assert.equal(passed, MANY * UNIT + #assert(server:read(passed - MANY * UNIT)))
      local again = neap.spawn(net.pipe, a, b)
      local whole = (passed + UNIT - 1) // UNIT
      local rest = whole * UNIT - passed
      if rest > 0 then assert.equal(unit(whole):sub(UNIT - rest + 1), server:read(rest)) end
      expect(server, whole + 1, 4 * MANY, true)
      server:close()
      assert.same({ true, 4 * MANY * UNIT - passed, 0 }, { again:join() })
      writer:join()
    end)

    it("sends what lies in the pipe when one of the two is closed", function()
      local client, server, task, a, b = between(make)
      stall(client, server, b)
      b:close()
      local r = result(task)
      assert.equal("ECANCELED", r[3])
      local rest = r[4] - MANY * UNIT
      assert.equal(rest, #server:read(rest))
      assert.is_nil(server:read(1))
      a:abort()
    end)

    it("gives the streams back when its task is cancelled", function()
      local client, server, task, a, b = between(make)
      stall(client, server, b)
      task:cancel()
      assert.is_false((task:join()))
      assert.equal(0, pipes())
      a:abort()
      b:close()
      local i, more = MANY + 1
      repeat
        more = server:read(UNIT)
        assert.is_true(not more or more == unit(i):sub(1, #more))
        i = i + 1
      until not more or #more < UNIT
    end)

    it("ends with the failure of the receiver, and of the sender after its bytes", function()
      local client, server, task, _, b = between(make)
      stall(client, server, b)
      server:abort()
      local r = result(task)
      assert.is_true(r[3] == "ECONNRESET" or r[3] == "EPIPE", r[3])
      assert.equal(0, pipes())
      local c2, s2, second, _, d = between(make)
      stall(c2, s2, d)
      c2:abort()
      local got = neap.spawn(function()
        repeat until not s2:recv()
        s2:close()
      end)
      helper.wait_until(function() return second:join { timeout = 0.01 } end, 1)
      d:close()
      got:join()
      result(second)
    end)

    it("does not pass the fault layer by", function()
      local client, a = make()
      local b, server = make()
      net.fault(a, { seed = 3 })
      local before = pipes()
      local task = neap.spawn(function() return table.pack(net.pipe(a, b)) end)
      send(client, 1, MANY)
      neap.sleep(0.05)
      assert.equal(before, pipes())
      expect(server, 1, MANY, true)
      server:close()
      assert.same({ MANY * UNIT, 0, n = 2 }, result(task))
      for _, s in ipairs { client, a, b } do s:close() end
    end)
  end)
end

describe("splice", function()
  it("holds a bounded number of pipes; the others copy", function()
    local n = helper.hard and 3 or 70
    local tasks, ends = {}, {}
    for i = 1, n do
      local client, server, task = between(unix)
      tasks[i], ends[i] = task, { client, server }
      neap.spawn(function()
        for j = 1, 24 do client:write(unit(j)) end
        client:shutdown()
      end)
    end
    assert(helper.wait_until(function() return pipes() > 0 end))
    neap.sleep(0.1)
    local held = pipes()
    assert.is_true(held > 0 and held <= 2 * 64, held .. " ends of pipes")
    for i = 1, n do
      expect(ends[i][2], 1, 24, true)
      ends[i][2]:close()
      assert.same({ 24 * UNIT, 0, n = 2 }, result(tasks[i]))
    end
    assert.equal(0, pipes())
  end)

  -- The proxy below is a process of its own, between socat and socat.
  local proxy = [[
    local net, neap = require "neap.net", require "neap"
    local l = assert(net.listen "tcp://127.0.0.1:0")
    print(l.address:match ":(%d+)$")
    io.stdout:flush()
    local c <close> = assert(l:accept())
    local up <close> = assert(net.connect(arg[1]))
    if arg[2] then
      local held = {}
      while true do
        local f = io.open "/dev/null"
        if not f then break end
        held[#held + 1] = f
      end
    end
    print(net.pipe(c, up))
  ]]

  local function through(command, bytes)
    local dir = helper.tmpdir()
    os.execute(("head -c %d /dev/urandom >%s/in"):format(bytes, dir))
    local sink = helper.start(("exec socat -u UNIX-LISTEN:%s/s CREATE:%s/out"):format(dir, dir))
    helper.listening(dir .. "/s")
    local script = helper.write_file(dir .. "/proxy.lua", proxy)
    local p = helper.start(command:format(("%s %s unix:%s/s"):format(helper.neap, script, dir)))
    local port = p:expect "^(%d+)\n"
    local client = helper.start(("exec socat -u OPEN:%s/in TCP:127.0.0.1:%s"):format(dir, port))
    assert.equal(0, client:wait(20))
    assert.equal(0, sink:wait(20), sink:err())
    assert.equal(0, p:wait(20), p:err())
    assert.equal(("%s\n%d\t0\n"):format(port, bytes), p:out())
    local same = os.execute(("cmp -s %s/in %s/out"):format(dir, dir))
    assert.is_true(same)
  end

  local much = helper.hard and 20000 or 32 << 20

  it("carries between real programs", function() through("exec %s", much) end)

  it("copies when no descriptor is left for a pipe", function()
    through("ulimit -n 30; exec %s full", much)
  end)

  for errno, whens in pairs { EINVAL = { "1+", "2+", "7" }, ENOSYS = { "1+" } } do
    for _, when in ipairs(whens) do
      it("copies when the kernel refuses with " .. errno .. " at call " .. when, function()
        local inject = ("-e trace=splice -e inject=splice:error=%s:when=%s"):format(errno, when)
        local strace = "exec env ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null "
        through(strace .. inject .. " %s", helper.hard and 3000 or 4 << 20)
      end)
    end
  end
end)
