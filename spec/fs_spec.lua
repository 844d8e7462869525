-- neap.fs against real files: of all sizes, missing, forbidden, full, growing, blocking; and what a
-- cancelled call leaves behind.

local fs = require "neap.fs"
local helper = require "spec.support.helper"
local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"

local BIG <const> = helper.hard and 3000 or 300000

local function text(n)
  local t = {}
  for i = 1, n // 9 + 1 do t[i] = ("%08d\n"):format(i) end
  return table.concat(t):sub(1, n)
end

local function fails(code, what, ...)
  local r = table.pack(...)
  assert.is_nil(r[1])
  assert.equal(code, r[3])
  assert.truthy(r[2]:find(what, 1, true), r[2])
end

describe("a file", function()
  it("reads as io does, whatever its size", function()
    local path = helper.tmpdir() .. "/f"
    local sizes = { 0, 1, 8, 9, 65535, 65536, 65537, BIG }
    if helper.hard then sizes = { 0, 1, 8, 9, 50, 51, BIG } end
    for _, size in ipairs(sizes) do
      helper.write_file(path, text(size))
      local f <close> = assert(fs.open(path))
      local g <close> = assert(io.open(path))
      if size > 18 then -- several formats are all or nothing
        assert.same(table.pack(g:read("l", 3, "L", 0)), table.pack(f:read("l", 3, "L", 0)))
      end
      f:seek "set"
      g:seek "set"
      local n = 0
      for line in f:lines "L" do
        assert.equal(g:read "L", line)
        n = n + #line
      end
      assert.equal(size, n)
      assert.equal(g:seek(), f:seek())
      assert.same({ g:read(1), g:read "a" }, { f:read(1), f:read "a" })
    end
  end)

  it("has one position for reading and writing, as io", function()
    local dir = helper.tmpdir()
    for name, open in pairs { ours = fs.open, theirs = io.open } do
      local path = dir .. "/" .. name
      helper.write_file(path, "0123456789\nabcdef\n")
      local f = assert(open(path, "r+"))
      assert.equal("0123456789", f:read())
      assert.equal(11, f:seek())
      f:seek("cur", 0) -- what io asks for between reading and writing
      assert.equal(f, f:write("AB", 1, 2.5))
      f:seek("cur", 0)
      assert.equal("", f:read())
      assert.equal(18, f:seek "end")
      assert.equal(3, f:seek("set", 3))
      assert.equal("34", f:read(2))
      assert.is_nil(f:seek("set", -1))
      assert.equal(8, f:seek("end", -10))
      f:write "x"
      f:flush()
      assert(f:close())
      assert.equal("01234567x9\nAB12.5\n", helper.read_file(path))
    end
  end)

  it("reads what is added after its end", function()
    local path = helper.tmpdir() .. "/log"
    helper.write_file(path, "one\n")
    local f <close> = assert(fs.open(path))
    assert.equal("one", f:read())
    assert.is_nil(f:read())
    local w <close> = assert(fs.open(path, "a"))
    assert(w:write("two\n", "three"))
    assert.equal("two", f:read())
    assert.equal("three", f:read())
    assert.is_nil(f:read())
    assert(w:write "\n")
    assert.equal("", f:read())
  end)

  it("opens in io's modes", function()
    local path = helper.tmpdir() .. "/m"
    fails("ENOENT", "open " .. path, fs.open(path))
    fails("ENOENT", path, fs.open(path, "r+"))
    assert(fs.open(path, "wx", { mode = 384 })):close()
    assert.equal(384, fs.stat(path).mode) -- 0600
    fails("EEXIST", path, fs.open(path, "wx"))
    local f = assert(fs.open(path, "w+b"))
    assert(f:write "one")
    f:seek "set"
    assert.equal("one", f:read "a")
    f:close()
    f = assert(fs.open(path, "a+"))
    assert.equal("o", f:read(1))
    assert(f:write "two")
    f:close()
    assert.equal("onetwo", helper.read_file(path))
    assert(fs.open(path, "w")):close()
    assert.equal("", helper.read_file(path))
    for _, mode in ipairs { "", "x", "rx", "rr", "r++", "wq", "+" } do
      assert.has_error(function() fs.open(path, mode) end)
    end
  end)

  it("says what it cannot do", function()
    local dir = helper.tmpdir()
    fails("EISDIR", dir, fs.open(dir))
    fails("EISDIR", dir, fs.open(dir, "w"))
    fails("ENOTDIR", "/dev/null/x", fs.open "/dev/null/x")
    fails("ENOENT", dir .. "/no/file", fs.open(dir .. "/no/file", "w"))
    helper.write_file(dir .. "/r", "text")
    local r <close> = assert(fs.open(dir .. "/r"))
    fails("EBADF", "write " .. dir .. "/r", r:write "x")
    local w <close> = assert(fs.open(dir .. "/w", "w"))
    fails("EBADF", "read", w:read())
    fails("EINVAL", "truncate", r:truncate(2))
    r:close()
    assert.is_true(r:close())
    assert.is_true(r.closed)
    for _, name in ipairs { "read", "write", "sync", "stat", "seek", "truncate", "flush" } do
      assert.equal("ECANCELED", select(3, r[name](r)), name)
    end
    for line in r:lines() do error(line) end
  end)

  it("raises for bad arguments", function()
    local f <close> = assert(fs.open(helper.write_file(helper.tmpdir() .. "/x", "x"), "r+"))
    for _, bad in ipairs {
      function() f:read "z" end, function() f:read(-1) end, function() f:write({}, 1) end,
      function() f:write(nil) end, function() f:seek "middle" end,
      function() f:seek("set", 1.5) end, function() f:truncate(-1) end,
      function() f:sync { speed = 1 } end, function() f.nothing = 1 end,
      function() f.read(io.stdout) end, function() fs.open() end, function() fs.open "a\0b" end,
      function() fs.open("x", "r", { mode = -1 }) end, function() fs.open({}, "r") end,
      function() fs.read("x", -1) end, function() fs.write("x") end,
      function() fs.write("x", "y", { atomic = true, append = true }) end,
      function() fs.chmod("x") end, function() fs.chmod("x", 4096) end,
      function() fs.utime("x", 1) end, function() fs.utime("x", 0 / 0, 1) end,
      function() fs.rename("x") end, function() fs.stat("x", { timeout = -1 }) end,
      function() fs.chown("x", 1 << 40) end, function() fs.scandir(nil) end,
    } do
      local ok, err = pcall(bad)
      assert.is_false(ok)
      assert.truthy(tostring(err):find "fs_spec.lua:%d+:", tostring(err))
    end
  end)

  it("writes whole, in turns, from several tasks", function()
    local path = helper.tmpdir() .. "/log"
    local f <close> = assert(fs.open(path, "w"))
    neap.group(function(g)
      for i = 1, 20 do
        g:spawn(function()
          for j = 1, 5 do assert(f:write(i, " ", j, (" x"):rep(i), "\n")) end
        end)
      end
    end)
    assert(f:sync())
    local lines = 0
    for line in io.lines(path) do
      local i, rest = line:match "^(%d+) %d([ x]*)$"
      assert.equal((" x"):rep(tonumber(i)), rest)
      lines = lines + 1
    end
    assert.equal(100, lines)
    assert.equal(lfs.attributes(path).size, f:seek())
  end)

  it("gives the methods of streams", function()
    local lpeg = require "lpeg"
    local codec = require "neap.codec"
    local path = helper.write_file(helper.tmpdir() .. "/x", "12;\0\3abcline\nlast")
    local f <close> = assert(fs.open(path))
    assert.equal("12", f:read_until ";")
    assert.equal("abc", f:unpack ">s2")
    assert.equal("li", f:peek(2))
    assert.equal("line", f:match(lpeg.C(lpeg.R "az" ^ 1) * "\n"))
    assert.equal(f, f:unread "x")
    local got = {}
    for m in f:messages(codec.line()) do got[#got + 1] = m end
    assert.same({ "xlast" }, got)
    f.line_max = 2
    f:seek "set"
    f:unread "long line"
    fails("EMSGSIZE", "read", f:read())
    f.timeout = 5
    assert.equal(5, f.timeout)
    assert.equal(path, f.path)
    assert.truthy(tostring(f):find(path, 1, true))
  end)

  it("meets a full disk where it is, and keeps what fits", function()
    local dir = helper.tmpdir()
    local script = helper.write_file(dir .. "/s.lua", [[
      local fs = require "neap.fs"
      local dir = arg[1]
      local f = assert(fs.open(dir .. "/f", "w"))
      local total, ok, message, code = 0
      repeat
        ok, message, code = f:write(("x"):rep(100000))
        total = total + 100000
      until not ok or total > 1e7
      print(code, message, f:seek(), fs.stat(dir .. "/f").size)
      print(select(3, fs.write(dir .. "/g", ("y"):rep(100000), { atomic = true })))
      for name in assert(fs.scandir(dir)) do print(name) end
      f:close()
    ]])
    os.execute("mkdir " .. dir .. "/t")
    local inside = ("mount -t tmpfs -o size=1m none %s/t && exec %s %s %s/t"):format(dir,
      helper.neap, script, dir)
    local out, err = helper.run("unshare -Urm sh -c " .. helper.quote(inside), {
      env = { ASAN_OPTIONS = "detect_leaks=0" } })
    local code, message, at, size, second, names =
      out:match "^(%u+)\t([^\n]-)\t(%d+)\t(%d+)\n(%u+)\n(.*)$"
    assert.equal("ENOSPC", code, out .. err)
    assert.truthy(message:find("write " .. dir .. "/t/f", 1, true))
    assert.equal(size, at)
    assert.is_true(tonumber(size) > 900000)
    assert.equal("ENOSPC", second)
    assert.equal("f\n", names) -- nothing half-written is left
  end)

  it("is a stream when it is no regular file", function()
    local full <close> = assert(fs.open("/dev/full", "w"))
    full:write "x"
    assert.equal("ENOSPC", select(3, full:flush()))
    local null <close> = assert(fs.open "/dev/null")
    assert.is_nil(null:read())
    local dir = helper.tmpdir()
    os.execute("mkfifo " .. dir .. "/p")
    local reader = neap.spawn(function()
      local f <close> = assert(fs.open(dir .. "/p"))
      return f:read("l", "a")
    end)
    local w = assert(fs.open(dir .. "/p", "w"))
    w:write "line\nrest"
    w:close()
    assert.same({ true, "line", "rest" }, { reader:join() })
  end)

  it("does not hold others up: a FIFO without a peer", function()
    local dir = helper.tmpdir()
    os.execute("mkfifo " .. dir .. "/p")
    local stuck = {}
    for i = 1, 12 do stuck[i] = neap.spawn(fs.open, dir .. "/p") end
    neap.sleep(0.02)
    fails("ETIMEDOUT", "stat", fs.stat(dir, { timeout = 0.05 })) -- eight are at work
    for i = 1, 4 do
      stuck[i]:cancel()
      assert.is_false((stuck[i]:join()))
    end
    for i = 5, 12 do stuck[i]:cancel() end
    assert.equal("directory", fs.stat(dir, { timeout = 5 * helper.slow }).type)
    fails("ETIMEDOUT", "open " .. dir .. "/p", fs.open(dir .. "/p", { timeout = 0.02 }))
    -- they go, and close what they got, when the other end comes
    local w = assert(io.popen("exec timeout 5 cat >" .. dir .. "/p", "w"))
    w:close()
  end)

  it("is closed when it is collected, but not under its reader", function()
    local path = helper.write_file(helper.tmpdir() .. "/x", text(BIG))
    local out, err = helper.run_script(([[
      local fs, neap = require "neap.fs", require "neap"
      local task = neap.spawn(function() return #fs.open(%q):read "a" end)
      local sum, n = 0, 0
      for line in fs.open(%q):lines "L" do
        sum, n = sum + #line, n + 1
        if n %% 100 == 0 then collectgarbage() end
      end
      collectgarbage()
      print(sum, select(2, task:join()))
      warn "@on"
      collectgarbage()
      fs.open(%q)
      collectgarbage()
      print(neap.stats().objects)
    ]]):format(path, path, path))
    assert.equal(("%d\t%d\n0\n"):format(BIG, BIG), out, err)
    assert.truthy(err:find "collected without close %(made at [^\n]*script.lua:12%)", err)
  end)

  it("can be cancelled in the middle of a read, and used on", function()
    local path = helper.write_file(helper.tmpdir() .. "/x", text(BIG))
    local f <close> = assert(fs.open(path))
    local task = neap.spawn(function() return f:read "a" end)
    neap.yield()
    task:cancel()
    assert.is_false((task:join()))
    f:seek "set"
    assert.equal(BIG, #f:read "a")
    f:seek "set"
    local again = neap.spawn(f.read, f, "a")
    neap.yield()
    f:close()
    local r = table.pack(again:join())
    assert.is_true(r[2] == nil and r[4] == "ECANCELED" or #r[2] == BIG)
  end)

  it("holds 100 MB of zeros without holding the loop", function()
    if helper.hard then return end
    local path = helper.tmpdir() .. "/sparse"
    os.execute("truncate -s 100M " .. path)
    local f <close> = assert(fs.open(path))
    local ticks, n = 0, 0
    local ticker = neap.spawn(function()
      for _ in neap.every(0.001) do ticks = ticks + 1 end
    end)
    repeat
      local piece = f:read(1 << 20)
      n = n + #(piece or "")
    until not piece
    ticker:cancel()
    assert.equal(100 << 20, n)
    assert.is_true(ticks >= 3, ticks .. " ticks")
    fails("EMSGSIZE", "read " .. path, fs.read(path))
    assert.equal(100 << 20, #fs.read(path, 100 << 20))
  end)

  it("ends the program though a request is stuck", function()
    local dir = helper.tmpdir()
    os.execute("mkfifo " .. dir .. "/p")
    local out, err, status = helper.run_script(([[
      local fs, neap = require "neap.fs", require "neap"
      print(select(3, fs.read("%s/p", { timeout = 0.05 })))
      neap.spawn(fs.open, "%s/p")
      neap.sleep(0.02)
      os.exit(3)
    ]]):format(dir, dir), { limit = 10, env = { ASAN_OPTIONS = "detect_leaks=0" } })
    assert.equal(3, status, err)
    assert.equal("ETIMEDOUT\n", out)
  end)
end)

describe("whole files", function()
  it("are read and written", function()
    local path = helper.tmpdir() .. "/f"
    local both = { atomic = true, sync = true }
    for _, opts in ipairs { {}, { atomic = true }, { sync = true }, both } do
      for _, size in ipairs { 0, 1, 4096, BIG } do
        assert(fs.write(path, text(size), opts))
        assert.is_true(fs.read(path) == text(size))
        assert.is_true(helper.read_file(path) == text(size))
      end
    end
    assert(fs.write(path, "more", { append = true }))
    assert.equal(text(BIG) .. "more", fs.read(path))
    assert.equal("", fs.read("/dev/null"))
    assert.truthy(fs.read("/proc/self/status"):find "^Name:")
    fails("EEXIST", path, fs.write(path, "", { exclusive = true }))
    fails("EMSGSIZE", path, fs.read(path, 10))
    fails("ENOSPC", "/dev/full", fs.write("/dev/full", "x"))
    fails("EISDIR", "read /", fs.read "/")
    fails("ENOENT", "/nowhere/f", fs.write("/nowhere/f", "x", { atomic = true }))
  end)

  it("are replaced at once: whoever reads sees one or the other, and a link stays one", function()
    local dir = helper.tmpdir()
    local path = dir .. "/f"
    assert(fs.write(path, ("a"):rep(5000), { mode = 416 }))
    assert(fs.chmod(path, 416))
    assert(fs.symlink("f", dir .. "/link"))
    local done
    local reader = neap.spawn(function()
      while not done do
        local s = fs.read(path)
        assert(s == ("a"):rep(5000) or s == ("b"):rep(9000), #s)
      end
    end)
    for i = 1, 40 do
      local s = i % 2 == 0 and ("a"):rep(5000) or ("b"):rep(9000)
      assert(fs.write(dir .. "/link", s, { atomic = true }))
    end
    done = true
    assert(reader:join())
    assert.equal("link", fs.lstat(dir .. "/link").type)
    assert.equal(416, fs.stat(path).mode)
    local names = {}
    for name in assert(fs.scandir(dir)) do names[#names + 1] = name end
    assert.same({ "f", "link" }, names)
  end)
end)

describe("paths", function()
  it("are made, asked, renamed and removed", function()
    local dir = assert(fs.mkdtemp(helper.tmpdir() .. "/XXXXXX"))
    assert(fs.mkdir(dir .. "/d", 448))
    assert.equal(448, fs.stat(dir .. "/d").mode)
    fails("EEXIST", dir, fs.mkdir(dir .. "/d"))
    assert(fs.write(dir .. "/d/f", "text"))
    local st = assert(fs.stat(dir .. "/d/f"))
    assert.same({ "file", 4, 1 }, { st.type, st.size, st.nlink })
    assert.is_true(math.abs(st.mtime - os.time()) < 100)
    assert(fs.utime(dir .. "/d/f", 1.5, -2.25))
    st = fs.stat(dir .. "/d/f")
    assert.same({ 1.5, -2.25 }, { st.atime, st.mtime })
    assert(fs.link(dir .. "/d/f", dir .. "/d/g"))
    assert(fs.symlink("f", dir .. "/d/l"))
    assert(fs.copyfile(dir .. "/d/l", dir .. "/d/c"))
    fails("EEXIST", "to " .. dir .. "/d/c", fs.copyfile(dir .. "/d/f", dir .. "/d/c", {
      exclusive = true }))
    assert.equal("f", fs.readlink(dir .. "/d/l"))
    assert.equal(dir .. "/d/f", fs.realpath(dir .. "/d/../d/l"))
    fails("EINVAL", "readlink", fs.readlink(dir .. "/d/f"))
    os.execute("mkfifo " .. dir .. "/d/p")
    assert(fs.mkdir(dir .. "/d/sub"))
    local got = {}
    for name, kind in assert(fs.scandir(dir .. "/d")) do got[#got + 1] = name .. " " .. kind end
    assert.same({ "c file", "f file", "g file", "l link", "p fifo", "sub directory" }, got)
    assert.equal(2, fs.stat(dir .. "/d/g").nlink)
    assert(fs.rename(dir .. "/d/g", dir .. "/d/h"))
    fails("ENOENT", dir .. "/d/g to", fs.rename(dir .. "/d/g", dir .. "/d/h"))
    assert(fs.chmod(dir .. "/d/h", 292))
    assert.equal(292, fs.stat(dir .. "/d/h").mode)
    assert(fs.chown(dir .. "/d/h", -1, -1))
    fails("ENOTEMPTY", "rmdir", fs.rmdir(dir .. "/d"))
    for name in assert(fs.scandir(dir .. "/d")) do
      if name ~= "sub" then assert(fs.unlink(dir .. "/d/" .. name)) end
    end
    assert(fs.rmdir(dir .. "/d/sub"))
    assert(fs.rmdir(dir .. "/d"))
    fails("ENOENT", "scandir", fs.scandir(dir .. "/d"))
    fails("ENOTDIR", "scandir", fs.scandir "/dev/null")
    fails("EINVAL", "mkdtemp", fs.mkdtemp(dir .. "/none"))
  end)

  it("are forbidden to those who may not", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/secret", "x")
    os.execute(("chmod 755 %s; chmod 600 %s/secret"):format(dir, dir))
    local script = helper.write_file(dir .. "/s.lua", [[
      local fs = require "neap.fs"
      print(select(3, fs.open(arg[1] .. "/secret")), select(3, fs.read(arg[1] .. "/secret")),
        select(3, fs.write(arg[1] .. "/new", "x")), select(3, fs.unlink(arg[1] .. "/secret")),
        select(3, fs.chown(arg[1] .. "/secret", 0, 0)), select(3, fs.watch(arg[1] .. "/secret")))
    ]])
    local as = helper.run("id -u"):find "^0" and "setpriv --reuid 65534 --clear-groups " or
      "unshare -U "
    helper.write_file(dir .. "/neap", helper.read_file(helper.neap))
    os.execute(("chmod 755 %s/neap; chmod 644 %s"):format(dir, script))
    local out, err = helper.run(("cd /; %s %s/neap %s %s"):format(as, dir, script, dir), {
      env = { ASAN_OPTIONS = "detect_leaks=0" } })
    assert.equal("EACCES\tEACCES\tEACCES\tEACCES\tEPERM\tEACCES\n", out, err)
  end)

  it("are served while many ask at the same time", function()
    local n, dir = helper.hard and 50 or 1000, helper.tmpdir()
    neap.group(function(g)
      for i = 1, n do
        g:spawn(function()
          assert(fs.write(dir .. "/" .. i, tostring(i)))
          assert.equal(tostring(i), fs.read(dir .. "/" .. i))
          assert(fs.unlink(dir .. "/" .. i))
        end)
      end
    end)
    assert.is_nil(assert(fs.scandir(dir))())
    local threads = 0
    for _ in lfs.dir "/proc/self/task" do threads = threads + 1 end
    assert.is_true(threads <= 2 + 1 + 40, threads .. " threads")
  end)
end)

describe("a watch", function()
  local function collect(w, want)
    local got = {}
    while #got < want do
      local what, name, dir = w:event { timeout = 5 * helper.slow }
      assert(what, name)
      got[#got + 1] = what .. " " .. tostring(name) .. (dir and "/" or "")
    end
    return got
  end

  it("tells what happens in a directory", function()
    local dir = helper.tmpdir()
    local w <close> = assert(fs.watch(dir))
    assert.equal("ETIMEDOUT", select(3, w:event { timeout = 0.01 }))
    local task = neap.spawn(collect, w, 3)
    fs.write(dir .. "/a", "x")
    assert.same({ "create a", "modify a", "written a" }, select(2, task:join()))
    fs.rename(dir .. "/a", dir .. "/b")
    fs.mkdir(dir .. "/d")
    fs.chmod(dir .. "/b", 384)
    fs.unlink(dir .. "/b")
    assert.same({ "moved_from a", "moved_to b", "create d/", "attrib b", "delete b" },
      collect(w, 5))
  end)

  it("ends when what it watches is gone", function()
    local dir = helper.tmpdir() .. "/d"
    fs.mkdir(dir)
    local w <close> = assert(fs.watch(dir))
    local got = neap.spawn(function()
      local t = {}
      for what in w:events() do t[#t + 1] = what end
      return t
    end)
    neap.yield()
    fs.rmdir(dir)
    assert.equal("gone", select(2, got:join())[1])
    assert.is_nil(w:event())
    fails("ENOENT", "watch " .. dir, fs.watch(dir))
  end)

  it("wakes its waiters when it is closed, and can be cancelled", function()
    local dir = helper.tmpdir()
    local w = assert(fs.watch(dir))
    local one = neap.spawn(w.event, w)
    local two = neap.spawn(function() for _ in w:events() do end return "ended" end)
    local three = neap.spawn(w.event, w)
    neap.sleep(0.005)
    three:cancel()
    assert.is_false((three:join()))
    assert.truthy(tostring(w):find(dir, 1, true))
    w:close()
    assert.equal("ECANCELED", select(4, one:join()))
    assert.equal("ended", select(2, two:join()))
    assert.equal("ECANCELED", select(3, w:event()))
    w:close()
  end)
end)

describe("a file in a send", function()
  it("is a file of neap.fs too", function()
    local path = helper.write_file(helper.tmpdir() .. "/x", text(BIG))
    local f <close> = assert(fs.open(path))
    local a, b = net.pair()
    f:read(9)
    assert.equal(7, a:send_file(f, 1, 7))
    assert.equal(text(8):sub(2), b:read(7))
    assert.equal(9, f:seek())
    a:close()
    b:close()
  end)
end)
