-- What the kernel may refuse at any time, injected by strace into the calls of a server under load:
-- it serves on, does not spin, keeps nothing, and says which connections failed.
--
-- Each case is a child under `strace --inject`: the calls numbered FIRST..LAST of one kind fail, a
-- load of small clients retries what failed, and what the child tells of itself after that is
-- compared with what it told before. libuv aborts the process when its own epoll_ctl fails, so that
-- call is left out where libuv is the watcher.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

local starved = "no descriptor is left to accept with"
local peer = "tcp://127%.0%.0%.1:%d+: "
local watcher_is_uv = os.getenv "NEAP_POLL" == "uv"
local CLIENTS <const>, ROUNDS <const> = 4, 12

-- An answer in pieces: sendmsg, not send. The hard build sends each byte by a call of its own,
-- which strace stops twice.
local BIG = ("big"):rep(helper.hard and 70 or 7000)

-- strace is one of the packages that `make deps` installs; an environment that forbids ptrace
-- cannot run these specs and must not look as if it had.
local function must_trace()
  local _, err, status = helper.run "exec strace -f -o /dev/null true"
  assert(status ~= 127, "strace is not installed: `make deps` does that")
  assert(status == 0, "strace cannot trace here (ptrace is not permitted): " .. err)
end

-- Answers lines; "?" asks for what it holds: connections, objects, tasks, descriptors, CPU seconds.
local server_script = [[
  local lfs, neap, net = require "lfs", require "neap", require "neap.net"
  warn "@on"
  local BIG = arg[2]
  local function held()
    collectgarbage()
    local n = 0
    for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
    local s = neap.stats()
    return n, s
  end
  local server
  server = net.serve(arg[1], { timeout = 3 }, function(c)
    for line in c:lines() do
      if line == "?" then
        local n, s = held()
        c:write(("%d %d %d %d %.3f\n"):format(server.connections, s.objects, s.tasks, n, os.clock()))
      elseif line == "end" then
        server:stop(0)
        return
      else
        if line == "big" then line = BIG end
        assert(c:write(line, "\n"))
        assert(c:flush())
      end
    end
  end)
  io.stdout:write("at ", server.address, "\n")
  io.stdout:flush()
]]

-- One connection, one answer per line; false when anything failed.
local function exchange(address, lines)
  local c <close> = net.connect(address, { timeout = 0.6 * helper.slow })
  if not c then return false end
  c.timeout = 0.6 * helper.slow
  for _, line in ipairs(lines) do
    if not c:write(line, "\n") then return false end
    if c:read() ~= (line == "big" and BIG or line) then return false end
  end
  return true
end

local function ask(address)
  local answer
  assert(helper.wait_until(function()
    local c <close> = net.connect(address, { timeout = 2 * helper.slow })
    if not c then return false end
    answer = c:write "?\n" and c:read("l", { timeout = 2 * helper.slow })
    return answer
  end), "the server does not answer any more")
  local t = {}
  for number in answer:gmatch "%S+" do t[#t + 1] = tonumber(number) end
  return { connections = t[1], objects = t[2], tasks = t[3], fds = t[4] }, t[5]
end

local function load(address)
  local good = 0
  neap.group(function(g)
    for i = 1, CLIENTS do
      g:spawn(function()
        for j = 1, ROUNDS do
          local word = ("%d of %d "):format(j, i)
          if exchange(address, { word, "big", word:rep(20) }) then good = good + 1 end
        end
      end)
    end
  end)
  return good
end

local function strace(inject, command)
  local text = "exec env ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o %s/trace -e inject=%s %s"
  return text:format(helper.tmpdir(), inject, command)
end

local function script(text)
  return helper.write_file(helper.tmpdir() .. "/s.lua", text)
end

-- case: syscall, errno, when; address of the server; log: what its standard error must say;
-- all: no exchange of the load may fail
local function survive(case)
  local what = case.syscall .. " " .. case.errno
  local inject = ("%s:error=%s:when=%s"):format(case.syscall, case.errno, case.when)
  local command = ("%s %s %s %s"):format(helper.neap, script(server_script), case.address(), BIG)
  local p = helper.start(strace(inject, command))
  local address = p:expect("at (%S+)\n", 20)
  local before = ask(address)
  local good = load(address)
  assert(good >= CLIENTS * ROUNDS - case.lost, ("%s: %d exchanges went well"):format(what, good))
  for i = 1, 5 do
    assert(exchange(address, { "after", tostring(i) }), what .. ": does not serve any more")
  end
  local after, cpu
  local same = helper.wait_until(function()
    after, cpu = ask(address)
    for name, n in pairs(after) do
      if n > before[name] then return false end
    end
    return true
  end, 8)
  if not same then assert.same(before, after, what) end
  neap.sleep(0.2)
  local _, later = ask(address)
  local used = later - cpu
  assert(used < 0.1 * helper.slow, ("%s: %.2f s of CPU while idle"):format(what, used))
  local c <close> = assert(net.connect(address))
  c:write "end\n"
  c:flush()
  assert.equal(0, p:wait(20), what .. p:err())
  if case.log then assert.matches(case.log, p:err(), 1, false, what) end
end

local function tcp() return "tcp://127.0.0.1:0" end
local function unix() return "unix:" .. helper.socket_path() end

-- Each errno of a system call in turn, all at the same time.
local function all(syscall, address, when, cases)
  must_trace()
  neap.group(function(g)
    for _, c in ipairs(cases) do
      g:spawn(survive, { syscall = syscall, address = address, when = c.when or when,
                         errno = c[1], lost = c.lost or 0, log = c.log })
    end
  end)
end

describe("a server whose kernel refuses", function()
  it("accept4", function()
    all("accept4", tcp, "3..12", {
      { "EINTR" }, { "EAGAIN" }, { "ECONNABORTED" }, { "ENOBUFS", lost = 10 },
      { "ENOMEM", lost = 10, log = "no memory is left to accept with" },
      { "EMFILE", log = starved, lost = 10 },
      { "ENFILE", log = starved, lost = 10 },
    })
  end)

  it("recvfrom", function()
    all("recvfrom", tcp, "20..26", {
      { "EINTR" }, { "EAGAIN", lost = 7 },
      { "ENOBUFS", lost = 7, log = "neap: " .. peer .. ".*no buffer space" },
      { "ENOMEM", lost = 7, log = "neap: " .. peer .. ".*not enough memory" },
      { "ECONNRESET", lost = 7, log = "neap: " .. peer .. "[^\n]*connection reset by peer\n" },
    })
  end)

  it("recvmsg", function()
    all("recvmsg", unix, "20..26", {
      { "EINTR" }, { "EAGAIN", lost = 7 },
      { "ENOBUFS", lost = 7, log = "no buffer space" },
      { "ENOMEM", lost = 7, log = "not enough memory" },
    })
  end)

  it("sendto", function()
    all("sendto", tcp, "20..26", {
      { "EINTR" }, { "EAGAIN", lost = 7 },
      { "ENOBUFS", lost = 7, log = "no buffer space" },
      { "ENOMEM", lost = 7, log = "not enough memory" },
      { "EPIPE", lost = 7, log = "broken pipe" },
    })
  end)

  if not helper.hard then -- which never writes more than one piece
    it("sendmsg", function()
      all("sendmsg", tcp, "10..16", {
        { "EINTR" }, { "EAGAIN", lost = 7 },
        { "ENOBUFS", lost = 7, log = "no buffer space" },
        { "ENOMEM", lost = 7, log = "not enough memory" },
      })
    end)
  end

  it("epoll_wait", function()
    all(watcher_is_uv and "epoll_pwait" or "epoll_wait", tcp, "20..40", { { "EINTR" } })
  end)

  if not watcher_is_uv then
    it("epoll_ctl", function()
      all("epoll_ctl", tcp, "10..16", {
        { "ENOMEM", lost = 10, log = "no memory is left to accept with" },
        { "ENOSPC", lost = 10, log = "no memory is left to accept with" },
      })
    end)
  end
end)

-- Connects again and again to arg[1]; prints what failed and, at the end, what is held.
local client_script = [[
  local lfs, neap, net = require "lfs", require "neap", require "neap.net"
  local function descriptors()
    local n = 0
    for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
    return n
  end
  local objects, fds = neap.stats().objects, descriptors()
  local good, codes = 0, {}
  for i = 1, 12 do
    local c, message, code = net.connect(arg[1], { timeout = 5 })
    if c then
      c:write(i, "\n")
      good = good + (c:read() == tostring(i) and 1 or 0)
      c:abort()
    else
      assert(message:find("connect " .. arg[1], 1, true), message)
      codes[code] = (codes[code] or 0) + 1
    end
  end
  local code, n = next(codes)
  print(good, code, n, neap.stats().objects - objects, descriptors() - fds)
]]

describe("a client whose kernel refuses", function()
  -- syscall, errno -> the exchanges that went well of 12, the code of the others and their number
  local cases = {
    { "socket", "EMFILE", 9, "EMFILE", 3 },
    { "socket", "ENFILE", 9, "ENFILE", 3 },
    { "socket", "ENOBUFS", 9, "ENOBUFS", 3 },
    { "socket", "ENOMEM", 9, "ENOMEM", 3 },
    { "connect", "ENOBUFS", 9, "ENOBUFS", 3 },
    { "connect", "ENOMEM", 9, "ENOMEM", 3 },
    { "connect", "EAGAIN", 9, "ENOBUFS", 3 },
    { "connect", "EINTR", 12 },
    { "connect", "ECONNABORTED", 9, "ECONNABORTED", 3 },
    { "epoll_ctl", "ENOMEM", false, "ENOMEM" },
  }

  for _, case in ipairs(cases) do
    local syscall, errno, good, code, n = table.unpack(case)
    if syscall ~= "epoll_ctl" or not watcher_is_uv then
      it(syscall .. " with " .. errno .. " goes on", function()
        must_trace()
        local s <close> = net.serve("tcp://127.0.0.1:0", { log = function() end }, function(c)
          for line in c:lines() do c:write(line, "\n") end
        end)
        local command = ("%s %s %s"):format(helper.neap, script(client_script), s.address)
        local when = syscall == "epoll_ctl" and "8..12" or "4..6"
        local inject = ("%s:error=%s:when=%s"):format(syscall, errno, when)
        local out, err, status = helper.run(strace(inject, command))
        assert.equal(0, status, err)
        if good then
          assert.equal(("%d\t%s\t%s\t0\t0\n"):format(good, code, n), out)
        else
          assert.matches("^%d+\t" .. code .. "\t%d+\t0\t0\n$", out)
        end
      end)
    end
  end
end)

-- Passes lines on from descriptor 3 to 4, both of them FIFOs, and says how that ended.
local pipe_script = [[
  local net = require "neap.net"
  local from, to = assert(net.adopt(3)), assert(net.adopt(4))
  local message, code
  for line in function()
    local line
    line, message, code = from:read()
    return line
  end do
    local ok
    ok, message, code = to:write(line, "\n")
    if ok then ok, message, code = to:flush() end
    if not ok then break end
  end
  io.stdout:write("ended ", tostring(code), "\n")
]]

describe("a pipe whose kernel refuses", function()
  local cases = {
    { "read", "EINTR", "nil" }, { "read", "EAGAIN", "nil" }, { "read", "ENOMEM", "ENOMEM" },
    { "writev", "EINTR", "nil" }, { "writev", "EAGAIN", "nil" }, { "writev", "ENOMEM", "ENOMEM" },
  }
  for _, case in ipairs(cases) do
    local syscall, errno, code = table.unpack(case)
    it(syscall .. " with " .. errno .. " loses nothing that it does not tell", function()
      must_trace()
      local dir = helper.tmpdir()
      assert(os.execute(("mkfifo %s/a %s/b"):format(dir, dir)))
      -- The second EAGAIN in a row is one that no kernel gives: its first made the pipe be watched.
      local inject = ("%s:error=%s:when=2 -P %s/a -P %s/b"):format(syscall, errno, dir, dir)
      local command = ("%s %s 3<%s/a 4>%s/b"):format(helper.neap, script(pipe_script), dir, dir)
      local p = helper.start(strace(inject, command))
      -- one line at a time, as a person would type them, and then the end
      helper.start(("exec 3>%s/a; for i in 1 2 3 4 5 6 7 8; do echo $i >&3; sleep 0.05; done")
        :format(dir))
      local reader = helper.start(("exec cat %s/b"):format(dir))
      local ended = p:expect "ended ([^\n]+)\n"
      assert.equal(0, p:wait())
      reader:wait()
      local got = reader:out()
      assert.equal(code, ended, got)
      assert.equal(code == "nil" and "1\n2\n3\n4\n5\n6\n7\n8\n" or ("1\n2\n3\n"):sub(1, #got), got)
    end)
  end
end)
