-- neap.process: what a child gets, how it ends, what is left of it.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local function sh(text, opts) return assert(process.spawn({ "sh", "-c", text }, opts)) end

-- What a child writes to its standard output.
local function output(argv, opts)
  opts = opts or {}
  opts.stdout = "pipe"
  local p <close> = assert(process.spawn(argv, opts))
  local text = assert(p.stdout:read "a")
  return text, p:wait { timeout = 20 * helper.slow }
end

local function alive(pid)
  local stat = helper.read_file("/proc/" .. pid .. "/stat")
  return stat ~= nil and stat:match "%) (%a)" ~= "Z"
end

describe("process.spawn", function()
  it("tells how a child ended, as os.execute does", function()
    for text, expected in pairs {
      ["exit 0"] = { true, "exit", 0 },
      ["exit 3"] = { nil, "exit", 3 },
      ["kill -9 $$"] = { nil, "signal", 9 },
    } do
      local p <close> = sh(text)
      local a, b, c = p:wait()
      assert.same({ expected[1], expected[2], expected[3] }, { a, b, c })
      assert.same({ expected[1], expected[2], expected[3] }, { p:wait() }) -- again
      assert.equal(expected[2], p.status)
      assert.equal(expected[3], p.code)
    end
  end)

  it("joins pipes as streams", function()
    local p <close> = assert(process.spawn({ "sort", "-n" }, { stdin = "pipe", stdout = "pipe" }))
    assert(p.stdin:write("3\n", "1\n", "2\n"))
    p.stdin:close()
    assert.equal("1\n2\n3\n", p.stdout:read "a")
    assert.is_true((p:wait()))
  end)

  it("keeps the errors apart or together", function()
    local p <close> = sh("echo out; echo err >&2", { stdout = "pipe", stderr = "pipe" })
    assert.equal("out\n", p.stdout:read "a")
    assert.equal("err\n", p.stderr:read "a")
    p:wait()
    local both = output({ "sh", "-c", "echo out; echo err >&2" }, { stderr = "stdout" })
    assert.equal("out\nerr\n", both)
  end)

  it("carries a lot in both directions", function()
    local p <close> = assert(process.spawn({ "cat" }, { stdin = "pipe", stdout = "pipe" }))
    local data = ("0123456789abcdef"):rep(64 * 1024) -- 1 MiB: more than any pipe
    neap.spawn(function()
      assert(p.stdin:write(data))
      assert(p.stdin:flush())
      p.stdin:close()
    end)
    local got = p.stdout:read "a"
    assert.equal(#data, #got)
    assert.is_true(data == got)
  end)

  it("gives an empty standard input by default", function()
    assert.equal("", (output { "cat" }))
    assert.equal("/dev/null\n", (output { "readlink", "/proc/self/fd/0" }))
  end)

  it("gives objects that are open: files, descriptors, sockets, listeners", function()
    local path = helper.tmpdir() .. "/out"
    local f = assert(io.open(path, "w"))
    local p <close> = sh("echo to a file", { stdout = f })
    f:close()
    assert.is_true((p:wait()))
    assert.equal("to a file\n", helper.read_file(path))

    local ours, theirs = net.pair "unix"
    local _ <close> = ours
    local _ <close> = theirs
    local q <close> = sh("read line; echo got $line", { stdin = theirs, stdout = theirs })
    ours:write "this\n"
    assert.equal("got this", ours:read())
    assert.is_true((q:wait()))

    local l <close> = assert(net.listen "127.0.0.1:0")
    assert.matches("^socket:", (output({ "readlink", "/proc/self/fd/3" }, { fds = { l } })))
  end)

  it("lets the child see only what it was given", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local a, b = net.pair "unix"
    local _ <close> = a
    local _ <close> = b
    local inherited = assert(io.open "/dev/zero") -- close-on-exec, or not: either way
    local p <close> = sh("sleep 60", { stdin = "pipe" })
    local seen
    helper.wait_until(function() -- the dynamic linker opens libraries for a moment
      seen = {}
      for name in require("lfs").dir("/proc/" .. p.pid .. "/fd") do
        if name:find "%d" then seen[#seen + 1] = tonumber(name) end
      end
      table.sort(seen)
      return #seen == 3
    end, 5)
    inherited:close()
    assert.same({ 0, 1, 2 }, seen)
    assert.truthy(l)
  end)

  it("leaks nothing that neap itself inherited", function()
    local out = helper.run(([[exec 9</dev/zero; exec %s -e '
      local p = require("neap.process").spawn{"ls", "/proc/self/fd"}
      p:wait()' ]]):format(helper.neap))
    assert.equal("0\n1\n2\n3\n", out) -- 3: the directory that ls reads
  end)

  it("gives default signals, an empty mask and the former limit of descriptors", function()
    local text = output { "cat", "/proc/self/status" }
    assert.equal(("0"):rep(16), text:match "SigBlk:%s*(%x+)")
    -- glibc keeps 32 and 33 for itself; posix_spawn, with which make starts us, leaves them ignored
    assert.equal(0, tonumber(text:match "SigIgn:%s*(%x+)", 16) & ~0x180000000)
    local out = helper.run(([[ulimit -Sn 77; exec %s -e '
      require("neap.process").spawn({"sh", "-c", "ulimit -Sn"}):wait()']]):format(helper.neap))
    assert.equal("77\n", out)
  end)

  it("knows exit statuses though its parent ignored SIGCHLD", function()
    local script = [[print(require("neap.process").spawn({ "sh", "-c", "exit 3" }):wait())]]
    local out = helper.run(
      ("trap '' CHLD; exec %s -e %s"):format(helper.neap, helper.quote(script)))
    assert.equal("nil\texit\t3\n", out)
  end)

  it("sets environment and working directory", function()
    assert.equal("A=1\nB=two\n", (output({ "/usr/bin/env" }, { env = { B = "two", A = 1 } })))
    local env = process.environ()
    assert.equal(os.getenv "PATH", env.PATH)
    env.NEAP_SPEC = "yes"
    assert.matches("NEAP_SPEC=yes\n", (output({ "env" }, { env = env })))
    local dir = helper.tmpdir()
    assert.equal(dir .. "\n", (output({ "pwd" }, { cwd = dir })))
  end)

  it("names the program that cannot be started", function()
    local dir = helper.tmpdir()
    local text = helper.write_file(dir .. "/text", "no program")
    for program, why in pairs {
      ["neap-no-such-program"] = { "no such file or directory", "ENOENT" },
      [dir .. "/nothing"] = { "no such file or directory", "ENOENT" },
      [text] = { "permission denied", "EACCES" },
    } do
      local p, message, code = process.spawn { program }
      assert.is_nil(p)
      assert.same({ "spawn " .. program .. ": " .. why[1], why[2] }, { message, code })
    end
    local p, message, code = process.spawn({ "true" }, { cwd = dir .. "/nowhere" })
    assert.is_nil(p)
    assert.equal(
      ("spawn true: working directory %s/nowhere: no such file or directory"):format(dir), message)
    assert.equal("ENOENT", code)
  end)

  it("takes nothing when it fails, and nothing when it raises", function()
    local pipes = { stdin = "pipe", stdout = "pipe" }
    for _ = 1, 20 do assert.is_nil((process.spawn({ "neap-no-such-program" }, pipes))) end
    for _, bad in ipairs {
      { nil },
      { {} },
      { { "" } },
      { { "a\0b" } },
      { { {} } },
      { "ls -l" },
      { { "true" }, { stdin = "pipes" } },
      { { "true" }, { stdout = "stdout" } },
      { { "true" }, { stdin = {} } },
      { { "true" }, { stdin = io.tmpfile } },
      { { "true" }, { env = "A=1" } },
      { { "true" }, { env = { ["A=B"] = 1 } } },
      { { "true" }, { env = { "A" } } },
      { { "true" }, { cwd = 1 } },
      { { "true" }, { wd = "/" } },
      { { "true" }, { fds = 3 } },
      { { "true" }, { fds = { "x" } } },
    } do
      local ok, message = pcall(process.spawn, bad[1], bad[2])
      assert.is_false(ok)
      assert.matches("bad argument", message)
    end
  end)

  it("starts many at a time", function()
    neap.group(function(g)
      for i = 1, 30 do
        g:spawn(function()
          local p <close> = sh("exit " .. i)
          assert.equal(i, select(3, p:wait()))
        end)
      end
    end)
  end)
end)

describe("a child", function()
  it("is killed by name and number, and never after its end", function()
    local p <close> = process.spawn { "sleep", "60" } -- a starting dash can lose an INT
    assert.is_true(p:kill(0))
    assert.is_true(p:kill "INT")
    assert.same({ nil, "signal", 2 }, { p:wait { timeout = 5 } })
    local ok, message, code = p:kill()
    assert.is_nil(ok)
    assert.equal(("kill sleep (pid %d): no such process"):format(p.pid), message)
    assert.equal("ESRCH", code)
    assert.has_error(function() p:kill "NOSUCH" end)
  end)

  it("is waited for with a deadline, by several tasks, and in a select", function()
    local p <close> = sh("read x; exit 5", { stdin = "pipe" })
    local v, message, code = p:wait { timeout = 0.01 }
    assert.is_nil(v)
    assert.equal(("wait for sh (pid %d): timed out"):format(p.pid), message)
    assert.equal("ETIMEDOUT", code)
    local waiters = {}
    for i = 1, 3 do waiters[i] = neap.spawn(function() return p:wait() end) end
    neap.sleep(0.005)
    waiters[3]:cancel()
    p.stdin:close()
    for i = 1, 2 do assert.same({ true, nil, "exit", 5 }, { waiters[i]:join() }) end
    assert.is_false((waiters[3]:join()))
    assert.same({ 1, nil, "exit", 5 }, { neap.select { p } })
  end)

  it("is ended when its block is left", function()
    local pid
    do
      local p <close> = sh "sleep 60"
      pid = p.pid
      assert.is_true(alive(pid))
    end
    assert.is_false(alive(pid))
  end)

  it("is killed when it ignores TERM past its grace", function()
    local stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    local p = sh(stubborn, { stdout = "pipe", grace = 0.05 })
    assert.equal("ready", p.stdout:read())
    local started = neap.now()
    assert.same({ nil, "signal", 9 }, { p:close() })
    assert.is_true(neap.now() - started >= 0.05)
    assert.is_false(alive(p.pid))
    assert.same({ nil, "signal", 9 }, { p:close() }) -- again
  end)

  it("is ended when it is stopped", function()
    local p = sh "sleep 60"
    p:kill "STOP"
    assert.same({ nil, "signal", 15 }, { p:close() })
  end)

  it("is waited for in a nested coroutine that is cancelled", function()
    local p <close> = sh "sleep 60"
    local task = neap.spawn(function()
      coroutine.wrap(function() coroutine.wrap(function() p:wait() end)() end)()
    end)
    neap.sleep(0.005)
    task:cancel()
    assert.is_false((task:join()))
    assert.equal("running", p.status)
  end)

  it("ends with the task that was cancelled", function()
    local pid
    local task = neap.spawn(function()
      local p <close> = sh "sleep 60"
      pid = p.pid
      p:wait()
    end)
    neap.sleep(0.01)
    task:cancel()
    assert.is_false((task:join()))
    assert.is_false(alive(pid))
  end)

  it("is ended when nobody has it any more", function()
    local pid = (function() return sh("sleep 60").pid end)()
    assert.is_true(helper.wait_until(function()
      collectgarbage()
      return not alive(pid)
    end))
  end)

  it("does not outlive the program", function()
    local out = helper.run_script [[
      local process = require "neap.process"
      p = process.spawn { "sleep", "60" }
      print(p.pid)
    ]]
    local pid = out:match "%d+"
    assert.is_true(helper.wait_until(function() return not alive(pid) end))
  end)

  it("is watched without pidfd too", function()
    local strace = "strace -f -qq -o /dev/null -e inject=pidfd_open:error=ENOSYS"
    local script = [[print(require("neap.process").spawn({ "sh", "-c", "exit 4" }):wait())]]
    local command = ("%s %s -e %s"):format(strace, helper.neap, helper.quote(script))
    local out, err, status = helper.run(command)
    if status ~= 0 then return end -- no ptrace here
    assert.equal("", err)
    assert.equal("nil\texit\t4\n", out)
  end)

  it("prints itself", function()
    local p <close> = sh "exit 2"
    assert.matches("^neap%.process{sh pid=%d+ running}$", tostring(p))
    p:wait()
    assert.matches("^neap%.process{sh pid=%d+ exit=2}$", tostring(p))
  end)
end)
