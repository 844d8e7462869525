-- stream:send_file: the file's bytes, all of them and no others, in their turn; over descriptors
-- (sendfile) and over layers and memory (read and write) alike.

local helper = require "spec.support.helper"
local lfs = require "lfs"
local net = require "neap.net"
local neap = require "neap"

local MUCH <const> = helper.hard and 20000 or 8 << 20

local function numbered(n)
  local t = {}
  for i = 1, n // 9 + 1 do t[i] = ("%08d\n"):format(i) end
  return table.concat(t):sub(1, n)
end

local texts = {}

-- A file of `n` bytes in which every place can be told from every other; and the bytes.
local function file(n)
  local path = helper.tmpdir() .. "/file"
  texts[n] = texts[n] or numbered(n)
  local text = texts[n]
  helper.write_file(path, text)
  return path, text
end

local function ends(a, b)
  helper.after(function()
    a:abort()
    b:abort()
  end)
  return a, b
end

local function tcp()
  local l <close> = assert(net.listen "tcp://127.0.0.1:0")
  local a = assert(net.connect(l.address))
  return a, assert(l:accept())
end

local makers = {
  tcp = tcp,
  unix = function() return net.pair "unix" end,
  mem = function() return net.pair "mem" end,
  fault = function()
    local a, b = net.pair "unix"
    return net.fault(a, { seed = 9, cut = helper.hard and 0 or 100000, again = 0.2 }), b
  end,
}

for name, make in pairs(makers) do
  describe("send_file over " .. name, function()
    it("sends files of many sizes whole", function()
      local sizes = { 0, 1, 100, 65535, 65536, 65537, MUCH }
      if helper.hard then sizes = { 0, 1, 100, MUCH } end
      for _, size in ipairs(sizes) do
        local path, text = file(size)
        local a, b = ends(make())
        local got = neap.spawn(function()
          b.read_max = 1 << 30
          return b:read "a"
        end)
        assert.same({ size }, { a:send_file(path) })
        a:close()
        local _, all = assert(got:join())
        assert.is_true((all or "") == text, size .. " bytes")
      end
    end)

    it("waits as long as the reader takes, unless it is told how long", function()
      local path, text = file(MUCH)
      for _, options in ipairs { {}, { timeout = 20 * helper.slow } } do
        local a, b = ends(make())
        local f <close> = assert(io.open(path))
        local sender = neap.spawn(a.send_file, a, f, 0, MUCH, next(options) and options or nil)
        neap.sleep(0.1)
        assert.equal(#text, #assert(b:read(MUCH)))
        assert.same({ true, MUCH }, { sender:join() })
      end
    end)

    it("sends ranges, after what is queued and before what follows", function()
      local path, text = file(1000)
      local f <close> = assert(io.open(path))
      local a, b = ends(make())
      assert(a:write "before ")
      assert.equal(10, a:send_file(f, 90, 10))
      assert(a:write " between ")
      assert.equal(0, a:send_file(f, 5, 0))
      assert.equal(100, a:send_file(f, 900))
      assert.equal(0, a:send_file(f, 5000))
      a:close()
      assert.equal("before " .. text:sub(91, 100) .. " between " .. text:sub(901), b:read "a")
      assert.equal(text:sub(1, 8), f:read()) -- its own position
    end)

    it("keeps whole writes of other tasks out of it", function()
      local path, text = file(MUCH)
      local a, b = ends(make())
      local sender = neap.spawn(a.send_file, a, path)
      neap.sleep(0.02)
      local other = neap.spawn(a.write, a, "AFTER")
      local got = neap.spawn(function()
        b.read_max = 1 << 30
        return b:read(MUCH + 5)
      end)
      assert.is_true(select(2, got:join()) == text .. "AFTER")
      assert.same({ true, MUCH }, { sender:join() })
      assert(other:join())
    end)

    it("breaks the stream when a deadline or a cancellation ends it", function()
      local path = file(helper.hard and 2 << 20 or MUCH)
      local a, b = ends(make())
      a:option("send_buffer", 1 << 16) -- so that the kernel does not take it all; not every kind
      b:option("receive_buffer", 1 << 16)
      local r = table.pack(a:send_file(path, 0, nil, { timeout = 0.05 }))
      assert.equal("ETIMEDOUT", r[3])
      assert.is_true(r[4] > 0 and r[4] < (helper.hard and 2 << 20 or MUCH))
      assert.equal("ETIMEDOUT", select(3, a:write "x"))
      local c = ends(make())
      local f <close> = assert(io.open(path))
      local task = neap.spawn(c.send_file, c, f)
      neap.sleep(0.02)
      task:cancel()
      assert.is_false((task:join()))
      assert.equal("ECANCELED", select(3, c:write "x"))
    end)

    it("ends when the stream is closed or the peer is gone", function()
      local path = file(helper.hard and 2 << 20 or MUCH)
      local a = ends(make())
      local task = neap.spawn(a.send_file, a, path)
      neap.sleep(0.02)
      a:abort()
      assert.equal("ECANCELED", select(4, task:join()))
      assert.equal("ECANCELED", select(3, a:send_file(path)))
      local c, d = ends(make())
      task = neap.spawn(c.send_file, c, path)
      neap.sleep(0.02)
      d:abort()
      local code = select(4, task:join())
      assert.is_true(code == "ECONNRESET" or code == "EPIPE", tostring(code))
    end)

    it("says that the file is too short, before or when it is seen", function()
      local path = file(100)
      local a, b = ends(make())
      local r = table.pack(a:send_file(path, 50, 51))
      assert.same({ "ENODATA", 0 }, { r[3], r[4] })
      assert.truthy(r[2]:find("send_file to", 1, true))
      a:write "usable\n"
      assert.equal("usable", b:read())
      local big = file(MUCH)
      local task = neap.spawn(a.send_file, a, big, 0, MUCH)
      neap.sleep(0.02)
      if not helper.hard then
        os.execute("truncate -s 100 " .. big)
        local got = neap.spawn(function() while b:recv() do end end)
        local ended = table.pack(task:join())
        assert.equal("ENODATA", ended[4])
        assert.is_true(ended[5] < MUCH)
        a:close()
        got:join()
      end
    end)
  end)
end

describe("send_file", function()
  it("refuses what is no file", function()
    local a, b = ends(net.pair())
    local dir = helper.tmpdir()
    assert.equal("ENOENT", select(3, a:send_file(dir .. "/none")))
    local d <close> = assert(io.open(dir))
    assert.equal("EISDIR", select(3, a:send_file(d)))
    assert.equal("EINVAL", select(3, a:send_file(b)))
    local null <close> = assert(io.open "/dev/null")
    assert.equal("EINVAL", select(3, a:send_file(null)))
    local path = dir .. "/x"
    local w <close> = assert(io.open(path, "w"))
    w:write "not readable through this one"
    assert.equal("EBADF", select(3, a:send_file(w)))
    a:write "usable\n"
    assert.equal("usable", b:read())
  end)

  it("raises for bad arguments, at the caller's line", function()
    local a = ends(net.pair())
    local path = file(10)
    local f <close> = assert(io.open(path))
    for _, args in ipairs { {}, { true }, { {} }, { f, -1 }, { f, 0, -1 }, { f, "x" }, { f, 1.5 },
      { f, 0, 1, 2 }, { f, 0, 1, { speed = 1 } }, { -1 }, { path, -1 } } do
      local ok, err = pcall(function()
        local sent = a:send_file(table.unpack(args))
        return sent
      end)
      assert.is_false(ok)
      assert.truthy(tostring(err):find("sendfile_spec.lua:%d+: bad argument"), err)
    end
  end)

  it("takes the file's bytes though it is closed meanwhile", function()
    local path, text = file(MUCH)
    local a, b = ends(net.pair())
    local f = assert(io.open(path))
    local task = neap.spawn(a.send_file, a, f)
    neap.sleep(0.02)
    f:close()
    assert.is_true(b:read(MUCH) == text)
    assert.same({ true, MUCH }, { task:join() })
  end)

  it("sends to curl what sha256sum finds in the file", function()
    local dir = helper.tmpdir()
    os.execute(("head -c %d /dev/urandom >%s/f"):format(MUCH, dir))
    os.execute(("truncate -s %d %s/sparse"):format(helper.hard and 20000 or 100 << 20, dir))
    local server <close> = net.serve("127.0.0.1:0", function(c)
      local name = assert(c:read()):match "^GET (%S+)"
      repeat local line = c:read() until line == "\r" or not line
      local size = lfs.attributes(dir .. name).size
      c:write(("HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n"):format(size))
      assert(c:send_file(dir .. name, 0, size))
    end)
    local at = server.address:gsub("^tcp", "http")
    for _, name in ipairs { "f", "sparse" } do
      local command = ("curl -sS %s/%s | sha256sum; sha256sum <%s/%s"):format(at, name, dir, name)
      local out, err, status = helper.run(command)
      assert.equal(0, status, err)
      local got, want = out:match "^(%x+)[^\n]*\n(%x+)"
      assert.equal(want, got)
    end
    server:stop(0)
  end)

  for _, errno in ipairs { "EINVAL", "EIO", "ENOMEM" } do
    it("meets " .. errno .. " of the kernel", function()
      local path = file(MUCH)
      local script = helper.write_file(helper.tmpdir() .. "/s.lua", [[
        local net, neap = require "neap.net", require "neap"
        local a, b = net.pair()
        local t = neap.spawn(function() b.read_max = 1 << 30 return #b:read "a" end)
        local f <close> = io.open(arg[1])
        local n, _, code, sent = a:send_file(f)
        a:close()
        print(n or code, sent, select(2, t:join()))
        b:close()
      ]])
      local out, err = helper.run(("env ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null "
        .. "-e trace=sendfile -e inject=sendfile:error=%s:when=2+ %s %s %s"):format(errno,
        helper.neap, script, path))
      local first = helper.hard and 1 or 256 << 10
      if errno == "EINVAL" then
        assert.equal(("%d\tnil\t%d\n"):format(MUCH, MUCH), out, err)
      else
        local said, sent, got = out:match "^(%u+)\t(%d+)\t(%d+)\n$"
        assert.same({ errno, sent }, { said, got }, out .. err)
        assert.is_true(tonumber(sent) <= first)
      end
    end)
  end
end)
