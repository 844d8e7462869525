-- process.run: a program to its end, with an input, a deadline and a limit of output.

local helper = require "spec.support.helper"
local neap = require "neap"
local process = require "neap.process"

-- A script of the shell; its own process id is its first line of output.
local function sh(text, opts) return process.run({ "sh", "-c", text }, opts) end

-- Whether a process with that number runs.
local function alive(pid)
  local stat = helper.read_file("/proc/" .. pid .. "/stat")
  return stat ~= nil and stat:match "%) (%a)" ~= "Z"
end

local function gone(pid)
  return helper.wait_until(function() return not alive(pid) end)
end

describe("process.run", function()
  it("gives an input and collects the outputs", function()
    local r = assert(process.run({ "sort", "-n" }, { input = "3\n1\n2\n", timeout = 60 }))
    assert.same({ ok = true, status = "exit", code = 0, stdout = "1\n2\n3\n", stderr = "" }, r)
    r = assert(sh "echo out; echo err >&2; exit 4")
    assert.same({ ok = false, status = "exit", code = 4, stdout = "out\n", stderr = "err\n" }, r)
    r = assert(sh "kill -9 $$")
    assert.same({ ok = false, status = "signal", code = 9, stdout = "", stderr = "" }, r)
    assert.equal("", assert(process.run { "cat" }).stdout) -- no input is an empty one
  end)

  it("takes the options of spawn", function()
    local r = assert(sh("echo out; echo err >&2", { stderr = "stdout" }))
    assert.equal("out\nerr\n", r.stdout)
    assert.is_nil(r.stderr)
    assert.equal("/\n", assert(process.run({ "pwd" }, { cwd = "/" })).stdout)
    assert.is_nil(assert(process.run({ "echo", "x" }, { stdout = "null" })).stdout)
    local ours = assert(process.run({ "sh", "-c", "ps -o pgid= -p $$" }, { pgroup = false })).stdout
    local mine = assert(process.run { "ps", "-o", "pgid=", "-p", tostring(process.pid) }).stdout
    assert.equal(mine, ours)
  end)

  it("carries more than a pipe holds in both directions", function()
    local data = ("0123456789abcdef"):rep((helper.hard and 256 or 4096) * 16)
    local r = assert(process.run({ "cat" }, { input = data }))
    assert.is_true(r.stdout == data)
  end)

  it("does not mind who reads only a part of the input", function()
    local r = assert(sh("head -c 3", { input = ("abc"):rep(100000) }))
    assert.same({ "abc", 0 }, { r.stdout, r.code })
    assert.is_true(assert(process.run({ "true" }, { input = ("abc"):rep(100000) })).ok)
  end)

  it("ends the program and its group at the deadline, and tells what there was", function()
    local started = neap.now()
    local r, message, code, partial = sh("echo $$; sleep 60 & echo $!; exec sleep 60",
      { timeout = 0.3 * helper.slow })
    assert.is_nil(r)
    assert.same({ "run sh: timed out", "ETIMEDOUT" }, { message, code })
    assert.same({ "signal", 15, false }, { partial.status, partial.code, partial.ok })
    local first, second = partial.stdout:match "^(%d+)\n(%d+)\n$"
    assert.truthy(second, partial.stdout)
    assert.is_true(neap.now() - started < 30)
    assert.is_true(gone(first) and gone(second))
  end)

  it("waits for the outputs of what the program left behind, until the deadline", function()
    local r = assert(sh "(sleep 0.05; echo late) & echo early")
    assert.equal("early\nlate\n", r.stdout)
    local _, _, code, partial = sh("sleep 60 & echo $!", { timeout = 0.3 * helper.slow })
    assert.equal("ETIMEDOUT", code)
    assert.same({ true, "exit", 0 }, { partial.ok, partial.status, partial.code })
    -- a leader that ended by itself took with it our right to signal its group
    os.execute("kill " .. partial.stdout)
  end)

  it("kills what ignores the end", function()
    local _, _, code, partial = sh("trap '' TERM; echo; while :; do sleep 0.02; done",
      { timeout = 0.2 * helper.slow, grace = 0.05 })
    assert.same({ "ETIMEDOUT", "signal", 9 }, { code, partial.status, partial.code })
  end)

  it("ends what writes too much", function()
    local r, message, code, partial = process.run({ "yes" }, { output_max = 1000, timeout = 60 })
    assert.is_nil(r)
    assert.same({ "run yes: more than 1000 bytes of output", "EMSGSIZE" }, { message, code })
    assert.equal(1000, #partial.stdout)
    assert.equal("signal", partial.status)
    assert.equal("12345", assert(process.run({ "printf", "12345" }, { output_max = 5 })).stdout)
    assert.equal("EMSGSIZE", select(3, sh("printf 123; printf 456 >&2", { output_max = 5 })))
  end)

  it("is bounded by the caller's deadline, and ends with a cancelled task", function()
    local pid
    do
      local _ <close> = neap.deadline(0.3 * helper.slow)
      local _, message, code, partial = sh "echo $$; exec sleep 60"
      assert.same({ "run sh: timed out", "ETIMEDOUT" }, { message, code })
      assert.same({ "signal", 15 }, { partial.status, partial.code })
      pid = partial.stdout:match "%d+"
    end
    assert.is_true(gone(pid))
    local path = helper.tmpdir() .. "/pid"
    local task = neap.spawn(sh, "echo $$ >" .. path .. ".new; mv " .. path .. ".new " .. path
      .. "; exec sleep 60")
    assert(helper.wait_until(function() return helper.read_file(path) end))
    task:cancel()
    assert.is_false((task:join()))
    assert.is_true(gone(helper.read_file(path):match "%d+"))
  end)

  it("runs many at a time", function()
    neap.group(function(g)
      for i = 1, 20 do
        g:spawn(function()
          assert.equal(i .. "\n", assert(process.run({ "cat" }, { input = i .. "\n" })).stdout)
        end)
      end
    end)
  end)

  it("tells what cannot be started, and refuses bad arguments", function()
    local env = { PATH = "/usr/bin:/bin" }
    local r, message, code = process.run({ "neap-no-such-program" }, { env = env })
    assert.is_nil(r)
    assert.equal("spawn neap-no-such-program: no such file or directory", message)
    assert.equal("ENOENT", code)
    for _, bad in ipairs {
      { "sort" },
      { {} },
      { { "cat" }, "input" },
      { { "cat" }, { input = 3 } },
      { { "cat" }, { input = "", stdin = "null" } },
      { { "cat" }, { timeout = "1" } },
      { { "cat" }, { timeout = -1 } },
      { { "cat" }, { timeout = 0 / 0 } },
      { { "cat" }, { output_max = 1.5 } },
      { { "cat" }, { output_max = -1 } },
      { { "cat" }, { pty = true } },
      { { "cat" }, { inptu = "" } },
    } do
      local ok, why = pcall(process.run, bad[1], bad[2])
      assert.is_false(ok)
      assert.matches("bad argument #%d to 'run'", why)
    end
    local ok, why = pcall(function() process.run({ "cat" }, { input = 3 }) end)
    assert.is_false(ok)
    assert.matches("process_run_spec.lua:%d+: bad argument", why)
    ok, why = pcall(function() process.run({ "cat" }, { wd = 3 }) end)
    assert.is_false(ok)
    assert.matches("process_run_spec.lua:%d+: bad argument", why)
  end)
end)
