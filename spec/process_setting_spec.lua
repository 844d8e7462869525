-- What a child is, apart from its program: its terminal, session, group, user, limits, and
-- descriptors at given numbers.

local helper = require "spec.support.helper"
local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local SECONDS = 20 * helper.slow
local root = io.popen("id -u"):read "l" == "0"

-- What a script of the shell writes.
local function sh(text, opts)
  opts = opts or {}
  opts.timeout = SECONDS
  local r = assert(process.run({ "sh", "-c", text }, opts))
  assert.equal("", r.stderr)
  return r.stdout
end

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  return list
end

-- A child on a pseudo-terminal; closed when the test ends.
local function on_pty(argv, pty, opts)
  opts = opts or {}
  opts.pty = pty or true
  local p = assert(process.spawn(argv, opts))
  helper.after(function() p:close() end)
  p.pty.timeout = SECONDS
  return p
end

-- Reads the terminal until the plain text came: all that came, without carriage returns.
local function expect(p, text)
  local all = ""
  repeat
    local piece, why = p.pty:recv()
    if not piece then error(("no %q but %q (%s)"):format(text, all, why)) end
    all = all .. piece:gsub("\r", "")
  until all:find(text, 1, true)
  return all
end

describe("a pseudo-terminal", function()
  it("is the child's terminal, of a size that can change", function()
    local text = "tty; stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo three"
    local p = on_pty({ "sh", "-c", text }, { rows = 33, cols = 44 })
    assert.matches("^/dev/pts/%d+\r\n33 44\r\nthree\r\n$", p.pty:read "a")
    assert.is_true((p:wait { timeout = SECONDS }))
    text = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.01; done"
    p = on_pty { "sh", "-c", text }
    expect(p, "24 80\n")
    assert.is_true(p:resize(50, 132))
    expect(p, "50 132\n")
    assert.is_true((p:wait { timeout = SECONDS }))
  end)

  it("is the controlling terminal of a session", function()
    local text = "echo to the terminal >/dev/tty; ps -o pid=,pgid=,sid=,tpgid= -p $$"
    local p = on_pty { "sh", "-c", text }
    local ids = words(p.pty:read "a":gsub("^to the terminal\r\n", ""))
    assert.same({ ids[1], ids[1], ids[1], ids[1] }, ids)
    assert.equal(tostring(p.pid), ids[1])
  end)

  it("edits lines and echoes, as a terminal does", function()
    local p = on_pty { "cat" }
    p.pty:write "helo\127lo\n" -- erase
    assert.matches("^helo.*lo\nhello\n$", expect(p, "\nhello\n"))
    p.pty:write "\4" -- end of file
    assert.is_true((p:wait { timeout = SECONDS }))
    assert.equal("", p.pty:read "a")
  end)

  it("interrupts on Ctrl-C, and does not where the child turned that off", function()
    local p = on_pty { "cat" }
    p.pty:write "x\n"
    expect(p, "x\nx\n")
    p.pty:write "\3"
    assert.same({ nil, "signal", 2 }, { p:wait { timeout = SECONDS } })
    p = on_pty { "sh", "-c", "stty raw -echo; echo ready; head -c 1 | od -An -tx1" }
    expect(p, "ready")
    p.pty:write "\3"
    expect(p, "03")
    assert.is_true((p:wait { timeout = SECONDS }))
  end)

  it("holds a conversation with a shell, and runs script(1) inside", function()
    local p = on_pty({ "sh", "-i" }, true, { env = { PS1 = "neap> ", PATH = os.getenv "PATH" } })
    expect(p, "neap> ")
    p.pty:write "echo $((6*7))\n"
    expect(p, "\n42\nneap> ")
    p.pty:write "script -qec 'stty size; tty' /dev/null\n"
    assert.matches("24 80\n/dev/pts/%d+\n", expect(p, "\nneap> "))
    p.pty:write "exit 7\n"
    assert.same({ nil, "exit", 7 }, { p:wait { timeout = SECONDS } })
  end)

  it("gives all that was written before its end, and then the end", function()
    local n = helper.hard and 500 or 20000
    local p = on_pty { "sh", "-c", "stty -onlcr; seq " .. n }
    local seen = 0
    for line in p.pty:lines() do
      seen = seen + 1
      if line ~= tostring(seen) then assert.equal(tostring(seen), line) end
    end
    assert.equal(n, seen)
    assert.is_nil((p.pty:read()))
  end)

  it("hangs up when our end is closed", function()
    local p = on_pty { "sh", "-c", "echo ready; sleep 60" }
    expect(p, "ready")
    p.pty:close()
    assert.same({ nil, "signal", 1 }, { p:wait { timeout = SECONDS } })
    local ok, message, code = p:resize(1, 1)
    assert.is_nil(ok)
    assert.equal(("resize the terminal of sh (pid %d): closed"):format(p.pid), message)
    assert.equal("ECANCELED", code)
  end)

  it("goes beside pipes", function()
    local p = on_pty({ "sh", "-c", "[ -t 0 ] && echo terminal; echo not >&2" }, true,
      { stdout = "pipe", stderr = "stdout" })
    assert.equal("terminal\nnot\n", p.stdout:read "a")
  end)

  it("is refused bad sizes, and resized only where there is one", function()
    for _, bad in ipairs { 1, "yes", { rows = 0 }, { cols = 65536 }, { rows = "x" } } do
      local ok, why = pcall(process.spawn, { "true" }, { pty = bad })
      assert.is_false(ok)
      assert.matches("option 'pty'", why)
    end
    local p <close> = assert(process.spawn { "true" })
    assert.is_nil(p.pty)
    assert.equal("ENOTTY", select(3, p:resize(1, 1)))
    assert.has_error(function() p:resize(0, 1) end)
    assert.has_error(function() p:resize(1) end)
  end)
end)

describe("a child's group", function()
  it("is ours, its own, another's, or a session's", function()
    local ours = words(sh("ps -o pgid=,sid= -p $$", { pgroup = false }))
    assert.same(words(helper.run(("ps -o pgid=,sid= -p %d"):format(process.pid))), ours)
    local ids = words(sh("ps -o pid=,pgid=,sid= -p $$", { pgroup = true }))
    assert.same({ ids[1], ids[1], ours[2] }, ids)
    ids = words(sh("ps -o pid=,pgid=,sid= -p $$", { session = true }))
    assert.same({ ids[1], ids[1], ids[1] }, ids)
    local leader <close> = assert(process.spawn({ "sleep", "60" }, { pgroup = true }))
    assert.equal(tostring(leader.pid), words(sh("ps -o pgid= -p $$", { pgroup = leader.pid }))[1])
  end)

  it("is signalled and ended as a whole", function()
    local text = "sleep 60 & echo $!; wait"
    local options = { pgroup = true, stdout = "pipe" }
    local p <close> = assert(process.spawn({ "sh", "-c", text }, options))
    local inner = p.stdout:read()
    local function gone(pid)
      local stat = helper.read_file("/proc/" .. pid .. "/stat")
      return not stat or stat:match "%) (%a)" == "Z"
    end
    assert.is_true(p:kill("TERM", { group = true }))
    p:wait()
    assert.is_true(helper.wait_until(function() return gone(inner) end))
    assert.equal("ESRCH", select(3, p:kill("TERM", { group = true })))

    -- what does not end with its leader is killed when the leader ended
    text = "(trap '' TERM; echo ready; while :; do sleep 0.02; done) & echo $!; wait"
    local q = assert(process.spawn({ "sh", "-c", text }, options))
    local a, b = q.stdout:read("l", "l")
    q:close()
    assert.is_true(helper.wait_until(function() return gone(tonumber(a) or tonumber(b)) end))
  end)

  it("is refused where there is none", function()
    local p <close> = assert(process.spawn { "sleep", "60" })
    assert.equal("EINVAL", select(3, p:kill("TERM", { group = true })))
    assert.has_error(function() p:kill("TERM", { grp = true }) end)
    local q, message, code = process.spawn({ "true" }, { pgroup = 0x7ffffff0 })
    assert.is_nil(q)
    assert.matches("^spawn true: process group: ", message)
    assert.truthy(code == "EPERM" or code == "ESRCH")
    for _, bad in ipairs { "x", 0, -1, 1.5, {} } do
      assert.has_error(function() process.spawn({ "true" }, { pgroup = bad }) end)
    end
    assert.has_error(function() process.spawn({ "true" }, { pgroup = 1, session = true }) end)
  end)
end)

describe("a child's user", function()
  it("is another, with that one's groups, by name and by number", function()
    local function id(opts) return (sh("id -u; id -g; id -G", opts):gsub("\n", " ")) end
    if not root then -- without the right to change: the step that failed is named
      local p, message, code = process.spawn({ "true" }, { uid = 0 })
      assert.is_nil(p)
      assert.matches("^spawn true: %a+: operation not permitted$", message)
      assert.equal("EPERM", code)
      return
    end
    local name = helper.run "getent passwd 65534":match "^[^:]+"
    local gid = tonumber((helper.run("id -g " .. name)))
    local all = ("65534 %d %s "):format(gid, (helper.run("id -G " .. name):gsub("\n", "")))
    assert.equal(all, id { uid = name })
    assert.equal(all, id { uid = 65534 })
    assert.equal("65534 7 7 4 1234 ", id { uid = name, gid = 7, groups = { 4, 1234 } })
    assert.equal("54321 77 77 ", id { uid = 54321, gid = 77 })
    local mine = helper.run "id -u":gsub("\n", "")
    assert.matches("^" .. mine .. " 12 ", id { gid = 12 })
    local status = sh("cat /proc/self/status", { uid = name })
    assert.matches("Uid:\t65534\t65534\t65534\t65534\n", status) -- the saved one, too
  end)

  it("stays the same without the right to change it", function()
    local uid, gid = tonumber((helper.run "id -u")), tonumber((helper.run "id -g"))
    local script = ([[
      local process = require "neap.process"
      print(assert(process.run({ "id", "-u" }, { uid = %d, gid = %d })).stdout)
      print((select(2, process.spawn({ "id" }, { groups = { 1, 2, 3 } }))))
      print((select(2, process.spawn({ "id" }, { gid = 4 }))))
      print((select(2, process.spawn({ "id" }, { uid = 65533, gid = %d }))))
    ]]):format(uid, gid, gid)
    -- in a user namespace of its own, which has one user and no right to set groups
    local path = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local out, err = helper.run(("unshare -U --map-current-user %s %s"):format(helper.neap, path))
    local lines, last = out:match "^(.*\n)([^\n]*)\n$"
    assert.equal(uid .. "\n\nspawn id: groups: operation not permitted\n"
      .. "spawn id: gid: invalid argument\n", lines, err)
    assert.matches("^spawn id: [gu]%a+: ", last) -- groups or uid: whichever differs
  end)

  it("is refused when the system does not know it", function()
    local none = "'neap-nobody': there is none of that name"
    for _, try in ipairs {
      { { uid = "neap-nobody" }, "option 'uid': " .. none },
      { { gid = "neap-nobody" }, "option 'gid': " .. none },
      { { groups = { 1, "neap-nobody" } }, "option 'groups': " .. none },
      { { uid = 54321 }, "option 'uid': the system knows no user 54321, so 'gid' is needed" },
    } do
      local p, message, code = process.spawn({ "true" }, try[1])
      assert.same({ nil, "spawn true: " .. try[2], "ENOENT" }, { p, message, code })
    end
    for _, bad in ipairs {
      { uid = -1 }, { uid = 4294967295 }, { uid = 1.5 }, { uid = {} }, { uid = true }, { gid = -1 },
      { groups = "adm" }, { groups = { {} } }, { groups = { -1 } },
    } do
      assert.has_error(function() process.spawn({ "true" }, bad) end)
    end
  end)
end)

describe("a child's limits", function()
  it("are soft, or soft and hard, by name", function()
    local text = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; ulimit -Sf"
    local function limits(opts) return words(sh(text, { rlimits = opts })) end
    assert.same({ "50", "60", "0", "0", "unlimited" },
      limits { nofile = { 50, 60 }, core = { 0, 0 }, fsize = "unlimited" })
    local hard = tonumber(words(sh "ulimit -Hn")[1]) or math.huge
    assert.same({ "99", tostring(hard) }, { table.unpack(limits { nofile = 99 }, 1, 2) })
    local r = assert(process.run({ "sh", "-c", "while :; do :; done" },
      { rlimits = { cpu = { 1, 1 } }, timeout = SECONDS }))
    assert.equal("signal", r.status)
  end)

  it("cannot be raised without the right to", function()
    local script = [[
      local process = require "neap.process"
      local limits = { nofile = { 99, 100 } }
      print((process.run({ "sh", "-c", "ulimit -n" }, { rlimits = limits })).stdout)
      print((select(2, process.spawn({ "true" }, { rlimits = { nofile = { 100, 101 } } }))))
    ]]
    local path = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local command = "ulimit -n 100; unshare -U --map-current-user %s %s"
    local out, err = helper.run(command:format(helper.neap, path))
    assert.equal("99\n\nspawn true: limits: operation not permitted\n", out, err)
  end)

  it("are refused when they are none", function()
    for _, bad in ipairs {
      3, { nofiles = 3 }, { nofile = "x" }, { nofile = -1 }, { nofile = {} }, { nofile = { 1 } },
      { nofile = { 1, {} } }, { nofile = 1.5 }, { [1] = 3 },
    } do
      local ok, why = pcall(process.spawn, { "true" }, { rlimits = bad })
      assert.is_false(ok)
      assert.matches("option 'rlimits'", why)
    end
  end)

  it("include the umask", function()
    assert.equal("0027\n", sh("umask", { umask = tonumber("027", 8) }))
    for _, bad in ipairs { -1, 512, "022" } do
      assert.has_error(function() process.spawn({ "true" }, { umask = bad }) end)
    end
  end)
end)

describe("descriptors at given numbers", function()
  it("are there, and nothing else is", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local a, b = net.pair "unix"
    local _ <close> = a
    local _ <close> = b
    local path = helper.write_file(helper.tmpdir() .. "/f", "at nine")
    local f = assert(io.open(path))
    local text = "cat <&9; echo; echo hello >&200; sleep 60"
    local p <close> = assert(process.spawn({ "bash", "-c", text },
      { stdout = "pipe", fds = { l }, fds_at = { [9] = f, [200] = b } }))
    f:close()
    assert.equal("at nine", p.stdout:read())
    assert.equal("hello", a:read { timeout = SECONDS })
    local function numbers()
      local seen = {}
      for name in lfs.dir("/proc/" .. p.pid .. "/fd") do
        if name:find "%d" then seen[#seen + 1] = tonumber(name) end
      end
      table.sort(seen)
      return seen
    end
    helper.wait_until(function() return #numbers() == 6 end)
    assert.same({ 0, 1, 2, 3, 9, 200 }, numbers())
    local inode = lfs.symlinkattributes("/proc/self/fd/" .. l.fd, "target")
    assert.equal(inode, lfs.symlinkattributes("/proc/" .. p.pid .. "/fd/3", "target"))
  end)

  it("may have the numbers of our own descriptors", function()
    local files, at, expected = {}, {}, ""
    local dir = helper.tmpdir()
    for i = 1, 6 do files[i] = assert(io.open(helper.write_file(dir .. "/" .. i, i .. "\n"))) end
    -- each under the number that another one of them has with us
    local text = "exec 2>&1"
    for i = 1, 6 do
      local number = require("neap.descriptor.core").dup(files[i % 6 + 1])
      at[number.fd] = files[i]
      number:close()
    end
    local list = {}
    for number in pairs(at) do list[#list + 1] = number end
    table.sort(list)
    for _, number in ipairs(list) do
      text = text .. ("; cat /proc/self/fd/%d"):format(number)
      expected = expected .. at[number]:read "a"
      at[number]:seek "set"
    end
    assert.equal(expected, assert(process.run({ "sh", "-c", text }, { fds_at = at })).stdout)
    for i = 1, 6 do files[i]:close() end
  end)

  it("are refused when taken, or none", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    for _, try in ipairs {
      { { fds_at = { [2] = l } }, "from 3 to 255" },
      { { fds_at = { [256] = l } }, "from 3 to 255" },
      { { fds_at = { x = l } }, "from 3 to 255" },
      { { fds_at = { [3.5] = l } }, "from 3 to 255" },
      { { fds_at = 3 }, "a table of number = descriptor" },
      { { fds_at = { [3] = {} } }, "option 'fds_at'" },
      { { fds = { l }, fds_at = { [3] = l } }, "has number 3 already" },
      { { listen = { l }, fds_at = { [3] = l } }, "has number 3 already" },
    } do
      local ok, why = pcall(process.spawn, { "true" }, try[1])
      assert.is_false(ok)
      assert.truthy(why:find(try[2], 1, true), why)
    end
    local p, _, code = process.spawn({ "true" }, { fds_at = { [7] = 99999 } })
    assert.is_nil(p)
    assert.equal("EBADF", code)
  end)
end)

describe("starting a child", function()
  it("searches the PATH of the child, and tells what is no program", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/neap-tool", "#!/bin/sh\necho found\n")
    os.execute("chmod +x " .. dir .. "/neap-tool")
    local text = helper.write_file(dir .. "/text", "echo no shebang\n")
    os.execute("chmod +x " .. text)
    local function tool(path, cwd)
      local r, _, code = process.run({ "neap-tool" }, { env = { PATH = path }, cwd = cwd })
      return r and r.stdout or code
    end
    assert.equal("found\n", tool("/nowhere:" .. text .. ":" .. dir))
    assert.equal("ENOENT", tool "/nowhere")
    assert.equal("found\n", tool("", dir))
    assert.equal("x\n", assert(process.run({ "echo", "x" }, { env = {} })).stdout)
    assert.equal("ENOEXEC", select(3, process.spawn { text }))
    os.execute(("cd %s && mkdir no && cp neap-tool no/ && chmod -x no/neap-tool"):format(dir))
    assert.equal("EACCES", tool(dir .. "/no:/nowhere"))
    assert.equal("ENOENT", select(3, process.spawn { ("x"):rep(5000) }))
  end)

  it("leaves nothing behind when a step fails", function()
    for _ = 1, 5 do
      assert.is_nil((process.spawn({ "true" }, { pty = true, stdout = "pipe", cwd = "/nowhere" })))
      assert.is_nil((process.spawn({ "neap-no-such" }, { pty = true, uid = 54321 })))
      assert.is_nil((process.spawn({ "neap-no-such" }, { pty = true, umask = 0 })))
    end
    neap.yield()
  end)
end)
