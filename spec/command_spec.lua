-- The command line: options, their errors, the script's arguments, signals, limits, standard
-- descriptors, the prompt.

local helper = require "spec.support.helper"
local run_neap, run_script = helper.run_neap, helper.run_script

describe("arguments", function()
  it("print help and succeed", function()
    for _, option in ipairs { "-h", "--help" } do
      local out, err, status = run_neap(option)
      assert.matches("^usage: neap ", out)
      assert.equal("", err)
      assert.equal(0, status)
    end
  end)

  it("name Neap's, Lua's and libuv's versions", function()
    for _, option in ipairs { "-v", "--version" } do
      local out, _, status = run_neap(option)
      assert.matches("^Neap %d+%.%d+%.%d+, Lua 5%.4%.%d+, libuv %d+%.%d+%.%d+\n$", out)
      assert.equal(0, status)
    end
  end)

  it("that are bad end with status 2, the reason and the usage", function()
    for line, reason in pairs {
      ["-x"] = "unrecognized option '-x'",
      ["--nothing"] = "unrecognized option '--nothing'",
      ["-ix"] = "unrecognized option '-ix'",
      ["-e"] = "a value is missing after '-e'",
      ["-l"] = "a value is missing after '-l'",
      ["-e ''"] = "a value is missing after '-e'",
    } do
      local out, err, status = run_neap(line)
      assert.equal("", out)
      assert.equal("neap: " .. reason, err:match "^[^\n]*")
      assert.matches("\nusage: neap ", err)
      assert.equal(2, status)
    end
  end)

  it("run code, with modules as globals", function()
    local out, err, status = run_neap [[-e 'print(neap == require "neap", net == require "neap.net", no_such_thing)']]
    assert.equal("true\ttrue\tnil\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("run -e and -l in their order, before the script", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/mod.lua", "print('mod') return { v = 7 }")
    helper.write_file(dir .. "/s.lua", "print('script', m.v, mod.v, ...)")
    local out, err = run_neap([[-e 'print("first")' -l mod -e'print("second")' -l m=mod s.lua a b]], { cwd = dir })
    assert.equal("", err)
    assert.equal("first\nmod\nsecond\nscript\t7\t7\ta\tb\n", out)
  end)

  it("of a script keep their places in arg", function()
    local out = run_script("print(#arg, arg[1], arg[2], arg[0]:match('[^/]*$'), arg[-1] ~= nil, arg[3]) print(...)")
    assert.equal("0\tnil\tnil\tscript.lua\ttrue\tnil\n\n", out)
  end)

  it("after - belong to the program on standard input", function()
    local out = run_neap("- one two", { stdin = "print(arg[0], arg[1], ...)" })
    assert.equal("-\tone\tone\ttwo\n", out)
  end)

  it("may be missing: the program is standard input", function()
    local out, _, status = run_neap("", { stdin = "print('piped') os.exit(9)" })
    assert.equal("piped\n", out)
    assert.equal(9, status)
  end)

  it("after -- are never options", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/-e", "print('a file called -e', ...)")
    assert.equal("a file called -e\t-x\n", (run_neap("-- -e -x", { cwd = dir })))
  end)

  it("are told apart from failing scripts", function()
    assert.equal(1, select(3, run_neap "/no/such/script.lua"))
    assert.equal(1, select(3, run_neap "-e 'error(1)'"))
    assert.equal(1, select(3, run_neap "-e 'syntax error'"))
    assert.equal(1, select(3, run_neap "-l no.such.module"))
  end)

  it("name a mistake in -e before anything runs", function()
    local out, err, status = run_neap [[-e 'print("ran")' -e 'x = = 1']]
    assert.equal("", out)
    assert.matches("^neap: %(command line%):1: unexpected symbol near '='\n$", err)
    assert.equal(1, status)
  end)
end)

describe("a script", function()
  it("waits in its main task", function()
    local out = run_script [[local neap = require "neap"
      local t = neap.now() neap.sleep(0.02) print(neap.now() - t >= 0.02)]]
    assert.equal("true\n", out)
  end)

  it("finds LPeg, re and Lua C modules with no environment set", function()
    local out, err = run_neap [[-e 'print(require"re".match("abc", "[a-c]+"), require"lpeg".type(require"lpeg".P(1)))']]
    assert.equal("", err)
    assert.equal("4\tpattern\n", out)
  end)

  it("may be executable, with #! and neap in the path", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/tool", "#!/usr/bin/env neap\nprint('tool', ...)\n")
    os.execute("chmod +x " .. dir .. "/tool")
    local out = helper.run(("PATH=%s:$PATH %s/tool x"):format(helper.build, dir))
    assert.equal("tool\tx\n", out)
  end)

  it("uses the baked library when the source tree is not there", function()
    local dir = helper.tmpdir()
    local out, err = helper.run(("cp %s %s/neap && cd %s && ./neap -e 'print(debug.getinfo(neap.spawn).what, " ..
      "package.searchpath(\"neap\", package.path), net ~= nil)'"):format(helper.neap, dir, dir))
    assert.equal("", err)
    assert.matches("\tnil\t", out:gsub("nil\t.-\ttrue", "nil\ttrue"):gsub("\tnil\ttrue", "\tnil\t"))
  end)

  it("whose output goes nowhere ends normally", function()
    local _, err, status = helper.run(helper.quote(helper.neap) .. [[ -e 'for _ = 1, 1e4 do print("x") end io.stderr:write("end")' | head -n 1; exit ${PIPESTATUS[0]}]])
    assert.equal("end", err)
    assert.equal(0, status)
  end)
end)

describe("a signal", function()
  for name, number in pairs { INT = 2, TERM = 15 } do
    it(name .. " cancels the main group, then ends the process as itself", function()
      local p = helper.start_script([[local neap = require "neap"
        local x <close> = setmetatable({}, { __close = function() neap.sleep(0.01) print("goodbye") end })
        print("ready") io.stdout:flush() neap.sleep(60)]])
      p:expect "ready"
      os.execute(("kill -s %s %d"):format(name, tonumber(helper.run(("pgrep -g %d neap"):format(p.pid)):match "%d+")))
      assert.equal(128 + number, p:wait())
      assert.matches("goodbye\n$", p:out())
    end)
  end

  -- What computes and never waits when the signal comes.
  local computing = {
    ["in the main task"] = "print 'ready' while true do end",
    ["in a coroutine in pcall"] = [[
      print "ready"
      print(pcall(coroutine.wrap(function() while true do end end)))
      print(pcall(neap.sleep, 0))]],
    ["in a generator, now here, now there"] = [[
      print "ready"
      for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end]],
    ["in a coroutine that has waited"] = [[
      coroutine.wrap(function() neap.sleep(0.001) print "ready" while true do end end)()]],
    ["in new coroutines"] = [[
      print "ready"
      while true do coroutine.wrap(function() for _ = 1, 3 do end end)() end]],
    ["in a nested group's task"] = [[
      neap.group(function(g)
        g:spawn(function() neap.group(function(h) h:spawn(function()
          neap.sleep(0.001)
          print "ready"
          while true do end
        end) end) end)
      end)]],
    ["in tasks that give way"] = [[
      print "ready"
      for _ = 1, 3 do neap.spawn(function() while true do neap.yield() end end) end]],
    ["where nothing can wait"] = [[
      print "ready"
      table.sort({ 1, 2, 3 }, function() while true do end end)]],
  }
  for where, text in pairs(computing) do
    it("interrupts a computation " .. where, function()
      local p = helper.start_script([[local neap = require "neap"
        io.stdout:setvbuf "line"
        local x <close> = setmetatable({}, { __close = function() neap.sleep(0.001) print "goodbye" end })
        neap.on_exit(function() neap.sleep(0.001) print "exit" end)
        ]] .. text)
      p:expect "ready"
      os.execute(("kill -s INT %d"):format(tonumber(helper.run(("pgrep -g %d neap"):format(p.pid)):match "%d+")))
      assert.equal(128 + 2, p:wait())
      assert.matches("goodbye\nexit\n$", p:out())
      assert.equal("", p:err())
    end)
  end

  it("leaves a shielded computation alone", function()
    local p = helper.start_script([[local neap = require "neap"
      io.stdout:setvbuf "line"
      neap.shield(10, function()
        local stop = neap.now() + 0.3
        print "ready"
        while neap.now() < stop do end
        print "whole"
      end)
      neap.sleep(0)
      print "not here"]])
    p:expect "ready"
    os.execute(("kill -s TERM %d"):format(tonumber(helper.run(("pgrep -g %d neap"):format(p.pid)):match "%d+")))
    assert.equal(128 + 15, p:wait())
    assert.equal("ready\nwhole\n", p:out())
  end)

  it("that comes twice ends at once", function()
    local p = helper.start_script([[local neap = require "neap"
      local x <close> = setmetatable({}, { __close = function() print("closing") io.stdout:flush()
        while true do end end })
      print("ready") io.stdout:flush() neap.sleep(60)]])
    p:expect "ready"
    local pid = tonumber(helper.run(("pgrep -g %d neap"):format(p.pid)):match "%d+")
    os.execute("kill -s TERM " .. pid)
    p:expect "closing"
    os.execute("kill -s TERM " .. pid)
    assert.equal(128 + 15, p:wait())
  end)

  it("PIPE is not for us", function()
    local out = run_script [[print(os.execute("kill -s PIPE $PPID")) print "alive"]]
    assert.matches("alive\n$", out)
  end)
end)

describe("limits", function()
  it("of descriptors are raised, and children get the original", function()
    local out = helper.run(([[ulimit -Sn 200; %s -e 'for l in io.lines("/proc/self/limits") do
      if l:find "open files" then print(l:match "(%%d+)%%s+(%%d+)") end end
      local p <close> = process.spawn({"sh", "-c", "ulimit -Sn"}, {stdout = "pipe"})
      io.write(p.stdout:read "a")']]):format(helper.quote(helper.neap)))
    local soft, hard, child = out:match "^(%d+)\t(%d+)\n(%d+)\n$"
    assert.equal(hard, soft)
    assert.equal("200", child)
  end)
end)

describe("standard descriptors", function()
  local program = [[local f = io.open("/dev/null") local neap = require "neap" neap.sleep(0)
    io.stderr:write(tostring(io.read("a")), "\n") print "x" f:close() os.exit(0)]]

  it("may be closed", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", program)
    for _, closed in ipairs { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" } do
      local _, _, status = run_neap(dir .. "/s.lua " .. closed)
      assert.equal(0, status, closed)
    end
  end)

  it("that are closed are not given to sockets", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", [[local l = assert(require "neap.net".listen("127.0.0.1:0"))
      local f = assert(io.open(arg[1], "w")) f:write(require "lfs" and "", l.fd > 2 and "good" or "bad") f:close() l:close()]])
    run_neap(("%s/s.lua %s/out <&- >&- 2>&-"):format(dir, dir))
    assert.equal("good", helper.read_file(dir .. "/out"))
  end)

  it("may be /dev/null or files", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", [[local neap = require "neap"
      local got = neap.stdin:read "a" neap.stdout:write("[", got or "nil", "]") neap.stdout:flush()]])
    assert.equal("[]", (run_neap(dir .. "/s.lua </dev/null")))
    assert.equal("[text]", (run_neap(dir .. "/s.lua", { stdin = "text" })))
    assert.equal("[text]", (run_neap(("%s/s.lua | cat"):format(dir), { stdin = "text" })))
    assert.equal(0, select(3, run_neap(dir .. "/s.lua >/dev/null")))
  end)
end)

describe("the prompt", function()
  local function session(lines, options)
    local out, err, status = run_neap("-i " .. (options or ""), { stdin = lines })
    return out:gsub("^Neap[^\n]*\n", ""):gsub("> ", ""):gsub(">", ""), err, status
  end

  it("prints the values of expressions", function()
    local out, err, status = session "1 + 1\n=2, 'x'\nnil\nlocal x = 1\nprint(x)\n"
    assert.equal("2\n2\tx\nnil\nnil\n\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("reads on until a chunk is complete", function()
    assert.equal("1\n2\n\n", (session "for i = 1, 2 do\nprint(i)\nend\n"))
  end)

  it("reports mistakes and goes on", function()
    local out, err = session "error 'oops'\nx x\n3\n"
    assert.equal("3\n\n", out)
    assert.matches("^stdin:1: oops\nstack traceback:\n", err)
    assert.matches("\nstdin:1: syntax error near 'x'\n$", err)
  end)

  it("survives the loss of print, and asks a prompt for its text", function()
    local out, err = session "1\nprint = nil\n2\n"
    assert.equal("1\n\n", out)
    assert.equal("neap: error calling 'print' (attempt to call a nil value)\n", err)
    local text = "_PROMPT = setmetatable({}, { __tostring = function() return '$' end })"
    assert.equal("$1\n$\n", (session("1\n", "-e " .. helper.quote(text))))
  end)

  it("waits", function()
    assert.equal("true\n\n", (session "local t = neap.now() neap.sleep(0.01) print(neap.now() - t >= 0.01)\n"))
  end)

  it("lets other tasks run while it waits for a line", function()
    local out = helper.run(("{ echo 'neap.spawn(function() print(\"from a task\") end)'; sleep 0.3; echo '\"end\"'; } | %s -i"):format(
      helper.quote(helper.neap)))
    assert.matches("from a task.*end", out)
  end)

  it("comes back when a computation is interrupted", function()
    local dir = helper.tmpdir()
    os.execute("mkfifo " .. dir .. "/fifo")
    local p = helper.start(([[(echo 'print "ready" io.stdout:flush() while true do end'; cat %s/fifo) | exec %s -i]]):format(
      dir, helper.quote(helper.neap)))
    p:expect "ready"
    os.execute(("kill -s INT %d"):format(tonumber(helper.run(("pgrep -g %d -x neap"):format(p.pid)):match "%d+")))
    p:expect "interrupted!"
    helper.write_file(dir .. "/fifo", "'still ' .. 'here'\n")
    assert.equal(0, p:wait())
    assert.matches("still here", p:out())
    assert.matches("^interrupted!\nstack traceback:\n", p:err())
  end)

  it("comes after the script", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/s.lua", "v = 42")
    assert.equal("42\n\n", (session("v\n", dir .. "/s.lua")))
  end)
end)

describe("warnings", function()
  local leak = "local net = require 'neap.net' do local a, b = net.pair() end collectgarbage() collectgarbage() warn 'mine'"

  it("of objects that nobody closed are shown unasked, others as in stock Lua", function()
    local out, err = helper.run_script(leak)
    assert.equal("", out)
    assert.matches("^Lua warning: neap: an open stream was collected without close %(made at [^\n]*script.lua:1%)\n", err)
    assert.is_nil(err:find "mine")
    assert.matches("Lua warning: mine\n", select(2, helper.run_script("warn '@on' " .. leak)))
  end)

  it("are not given for what the end of the program leaves open", function()
    local _, err, status = helper.run_script "keep = { require 'neap.net'.pair() }"
    assert.equal("", err)
    assert.equal(0, status)
  end)
end)
