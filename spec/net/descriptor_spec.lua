-- Descriptors as objects: ownership, what they are, and passing them over AF_UNIX.

local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"
local helper = require "spec.support.helper"

local descriptors = require "neap.descriptor.core"

local function is_open(fd) return lfs.symlinkattributes("/proc/self/fd/" .. fd, "target") ~= nil end

local function open_descriptors()
  local n = 0
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

-- Two connected sockets, closed when the test ends.
local function pair_of(kind)
  local a, b = assert(net.pair(kind))
  helper.after(function() return a:close(), b:close() end)
  return a, b
end

-- A descriptor object over a copy of what an open file has.
local function file_descriptor(text)
  local path = helper.write_file(helper.tmpdir() .. "/file", text or "")
  local f <close> = assert(io.open(path))
  return assert(descriptors.dup(f))
end

local kinds = { "unix-dgram", "unix-seqpacket" }

describe("a descriptor object", function()
  it("owns its number until it is closed", function()
    local d = file_descriptor()
    local fd = d.fd
    assert.is_true(is_open(fd))
    assert.equal("neap.descriptor{fd " .. fd .. "}", tostring(d))
    assert.is_true(d:close())
    assert.is_true(d:close())
    assert.is_false(is_open(fd))
    assert.is_nil(d.fd)
    assert.equal("neap.descriptor{closed}", tostring(d))
    assert.equal("ECANCELED", select(3, d:adopt()))
    assert.equal("ECANCELED", select(3, d:take()))
  end)

  it("closes at the end of its block and when it is collected", function()
    local fd
    do
      local d <close> = file_descriptor()
      fd = d.fd
    end
    assert.is_false(is_open(fd))
    fd = file_descriptor().fd
    collectgarbage()
    collectgarbage()
    assert.is_false(is_open(fd))
  end)

  it("is closed when it is collected, be it young or not", function()
    local numbers = {}
    for i = 1, 40 do numbers[i] = file_descriptor().fd end
    collectgarbage()
    collectgarbage()
    for _, fd in ipairs(numbers) do assert.is_false(is_open(fd)) end
  end)

  it("stays what it is where nobody has loaded the module of descriptors", function()
    local out, err, status = helper.run_script [[
      local pair, neap = require("neap.pair.core").pair, require "neap"
      local a, b <close> = pair "unix"
      do
        local d <close> = a:take()
        for _ = 1, 3 do
          collectgarbage()
          neap.sleep(0)
        end
        print((tostring(d):gsub("%d+", "N")))
      end
      print(b:read())
    ]]
    assert.same({ "neap.descriptor{fd N}\nnil\n", "", 0 }, { out, err, status })
  end)

  it("needs one cycle of the collector when it was closed", function()
    local dead = setmetatable({}, { __mode = "k" }) -- what has a finalizer stays for another
    for _, verb in ipairs { "close", "take", "adopt" } do
      local d = file_descriptor()
      dead[d] = true
      local got = d[verb](d)
      if verb == "take" then got = net.own(got) end
      if verb ~= "close" then got:close() end
    end
    for _ = 1, 40 do file_descriptor():close() end
    collectgarbage()
    assert.is_nil(next(dead))
  end)

  it("gives its number away with take", function()
    local d = file_descriptor()
    local fd = d:take()
    assert.is_nil(d.fd)
    assert.is_true(is_open(fd))
    local again <close> = assert(net.own(fd))
    assert.equal(fd, again.fd)
  end)

  it("exists only for an open number", function()
    local d, message, code = net.own(985)
    assert.is_nil(d)
    assert.equal("EBADF", code)
    assert.equal("descriptor 985: bad file descriptor", message)
    assert.error_matches(function() net.own(-1) end, "not a descriptor number")
    assert.error_matches(function() net.own "x" end, "number expected")
  end)
end)

describe("adopt", function()
  it("finds out what a descriptor is", function()
    local listener <close> = assert(net.listen "tcp://127.0.0.1:0")
    local udp <close> = assert(net.datagram "udp://127.0.0.1:0")
    local a = pair_of "unix-seqpacket"
    local cases = {
      { assert(descriptors.dup(listener)), "^neap%.listener{tcp://127%.0%.0%.1:%d+" },
      { assert(descriptors.dup(udp)), "^neap%.datagram{udp://127%.0%.0%.1:%d+" },
      { assert(descriptors.dup(a)), "^neap%.datagram{unix%-seqpacket:" },
      { file_descriptor "text\n", "^neap%.stream{" },
    }
    for i, case in ipairs(cases) do
      local d, pattern = table.unpack(case)
      local fd = d.fd
      local object = assert(d:adopt())
      assert.is_nil(d.fd)
      assert.equal(fd, object.fd)
      assert.matches(pattern, tostring(object), 1, false, i)
      object:close()
    end
  end)

  it("reads a file through", function()
    local s <close> = assert(file_descriptor("one\ntwo\n"):adopt())
    assert.equal("one", s:read())
    assert.equal("two\n", s:read "a")
  end)

  it("takes a number, also when it fails", function()
    local s <close> = assert(net.adopt(file_descriptor("by number\n"):take()))
    assert.equal("by number", s:read())
    local object, message, code = net.adopt(984)
    assert.is_nil(object)
    assert.equal("EBADF", code)
    assert.equal("adopt descriptor 984: bad file descriptor", message)
    assert.error_matches(function() net.adopt "x" end, "number expected")
    assert.error_matches(function() net.adopt(-3) end, "not a descriptor number")
  end)

  it("leaves what has no object in its slot", function()
    -- an epoll set of this process: it has no file type
    local number
    for name in lfs.dir "/proc/self/fd" do
      local target = lfs.symlinkattributes("/proc/self/fd/" .. name, "target")
      if target and target:find "eventpoll" then number = tonumber(name) end
    end
    local d <close> = assert(descriptors.dup(number))
    local object, _, code = d:adopt()
    assert.is_nil(object)
    assert.equal("EOPNOTSUPP", code)
    assert.equal("number", type(d.fd))
  end)

  it("puts a socket's blocking mode back when it gives it away", function()
    local script = [[
      local net, D = require "neap.net", require "neap.descriptor.core"
      -- descriptor 5 is a blocking socket the shell opened
      local function blocking(fd)
        for line in io.lines("/proc/self/fdinfo/" .. fd) do
          local flags = line:match "^flags:%s*(%d+)"
          if flags then return tonumber(flags, 8) & tonumber("4000", 8) == 0 end
        end
      end
      assert(blocking(5))
      local u = assert(net.datagram "fd:5")
      assert(not blocking(5))
      assert(u:take() == 5)
      assert(blocking(5))
      print "restored"
    ]]
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local command = "exec 5<>/dev/udp/127.0.0.1/9; exec %s %s"
    local out, err = helper.run(command:format(helper.neap, file))
    assert.equal("restored\n", out, err)
  end)
end)

for _, kind in ipairs(kinds) do
  describe("descriptors over " .. kind, function()
    it("arrive as owned objects, close-on-exec, in a to-be-closed list", function()
      local a, b = pair_of(kind)
      local d <close> = file_descriptor "passed on\n"
      local l <close> = assert(net.listen "tcp://127.0.0.1:0")
      local f <close> = assert(io.tmpfile())
      assert.is_true(a:send("take these", { fds = { d, l, f, l.fd, a } }))
      local msg, _, info = b:recv { fds = 10, timeout = 5 }
      assert.equal("take these", msg)
      local fds <close> = info.fds
      assert.equal(5, #fds)
      assert.equal("number", type(d.fd)) -- ours stays ours
      for i = 1, 5 do
        local path = "/proc/self/fdinfo/" .. fds[i].fd
        local flags = tonumber(helper.read_file(path):match "flags:%s*(%d+)", 8)
        assert.equal(tonumber("2000000", 8), flags & tonumber("2000000", 8))
      end
      local s <close> = assert(fds[1]:adopt())
      assert.equal("passed on", s:read())
      assert.is_nil(fds[1].fd)
      local l2 <close> = assert(fds[2]:adopt())
      assert.equal(l.address, l2.address)
    end)

    it("come 253 at a time, the kernel's limit", function()
      local a, b = pair_of(kind)
      local d <close> = file_descriptor()
      local many = {}
      for i = 1, 253 do many[i] = d end
      local before = open_descriptors()
      assert.is_true(a:send("", { fds = many }))
      local msg, _, info = b:recv { fds = 253, timeout = 5 }
      assert.equal("", msg)
      assert.equal(253, #info.fds)
      assert.equal(before + 253, open_descriptors())
      do local _ <close> = info.fds end
      assert.equal(before, open_descriptors())
      many[254] = d
      local function too_many() a:send("x", { fds = many }) end
      assert.error_matches(too_many, "254 descriptors, the kernel's limit is 253")
    end)

    it("are closed when nobody asked for them, or for fewer", function()
      local a, b = pair_of(kind)
      local d <close> = file_descriptor()
      local before = open_descriptors()
      for _ = 1, 3 do assert.is_true(a:send("x", { fds = { d, d, d } })) end
      assert.equal("x", (b:recv { timeout = 5 }))
      assert.equal(before, open_descriptors())
      local _, _, info = b:recv { timeout = 5, info = true }
      assert.is_nil(info.fds)
      assert.equal(before, open_descriptors())
      _, _, info = b:recv { timeout = 5, fds = 1 }
      assert.equal(1, #info.fds)
      assert.equal(before + 1, open_descriptors())
      info.fds[1]:close()
    end)

    it("do not pile up in a flood nobody reads them from", function()
      local a, b = pair_of(kind)
      local d <close> = file_descriptor()
      local before, n = open_descriptors(), 500
      neap.group(function(g)
        g:spawn(function()
          for _ = 1, n do assert(a:send("x", { fds = { d, d, d, d } })) end
        end)
        for _ = 1, n do
          assert.equal("x", (b:recv { timeout = 5 * helper.slow }))
          assert.is_true(open_descriptors() <= before + 4)
        end
      end)
    end)

    it("are refused as arguments when they are none", function()
      local a = pair_of(kind)
      local d = file_descriptor()
      d:close()
      local bad = {
        { "x", "a list of descriptors expected" },
        { { "x" }, "item 1 is not an open descriptor" },
        { { 0, {} }, "item 2 is not an open descriptor" },
        { { d }, "item 1 is not an open descriptor" }, -- closed
        { { -1 }, "item 1 is not an open descriptor" },
      }
      for i, case in ipairs(bad) do
        local ok, err = pcall(a.send, a, "x", { fds = case[1] })
        assert.is_false(ok, i)
        assert.matches(case[2], err, 1, false, i)
      end
      assert.equal("EBADF", select(3, a:send("x", { fds = { 983 } })))
    end)
  end)
end

describe("descriptors over other sockets", function()
  it("do not travel", function()
    local u <close> = assert(net.datagram "udp://127.0.0.1:0")
    local ok, message, code = u:send("x", u.address, { fds = { u } })
    assert.is_nil(ok)
    assert.equal("EOPNOTSUPP", code)
    assert.matches("AF_UNIX only", message)
  end)
end)

describe("at the descriptor limit", function()
  it("a message loses its descriptors, which is told, and keeps its bytes", function()
    local script = [[
      local net = require "neap.net"
      for _, kind in ipairs { "unix-dgram", "unix-seqpacket" } do
        local a, b = assert(net.pair(kind))
        local files = {}
        assert(a:send("bytes", { fds = { a, a, a, a } }))
        assert(a:send "next")
        while true do
          local f = io.open "/dev/null"
          if not f then break end
          files[#files + 1] = f
        end
        table.remove(files):close()
        table.remove(files):close()
        local msg, message, code = b:recv { fds = 4, timeout = 5 }
        print(kind, msg, code)
        for _, f in ipairs(files) do f:close() end
        print((b:recv { timeout = 5 }))
        print((b:recv { timeout = 5 }))
        a:close()
        b:close()
      end
    ]]
    local file = helper.write_file(helper.tmpdir() .. "/s.lua", script)
    local out, err = helper.run(("ulimit -n 40; exec %s %s"):format(helper.neap, file))
    assert.equal("", err)
    local rest = "\tnil\tEMFILE\nbytes\nnext\n"
    assert.equal("unix-dgram" .. rest .. "unix-seqpacket" .. rest, out)
  end)
end)
