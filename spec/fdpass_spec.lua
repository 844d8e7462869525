-- Descriptors on streams: they arrive where they were sent, once, or are closed; none is lost and
-- none leaks.

local helper = require "spec.support.helper"
local descriptor = require "neap.descriptor.core"
local lfs = require "lfs"
local net = require "neap.net"
local neap = require "neap"

local function pair()
  local a, b = net.pair "unix"
  helper.after(function()
    a:abort()
    b:abort()
  end)
  return a, b
end

local function open_count()
  local n = 0
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

local function file(text)
  local path = helper.write_file(helper.tmpdir() .. "/f", text or "")
  local f = assert(io.open(path))
  helper.after(function()
    if io.type(f) == "file" then f:close() end
  end)
  return f
end

-- The text behind a received descriptor, which is consumed.
local function text_of(fd)
  local s <close> = assert(fd:adopt())
  return s:read "a"
end

describe("a stream that passes descriptors", function()
  it("delivers them with their bytes, up to the barrier", function()
    local a, b = pair()
    a:write "before "
    a:send("with", { fds = { file "one", file "two" } })
    a:write " after"
    a:flush()
    b:peek(17)
    local msg, fds <close> = b:recv(nil, { fds = 10 })
    assert.equal("before with", msg)
    assert.equal(2, #fds)
    assert.equal("one", text_of(fds[1]))
    assert.equal("two", text_of(fds[2]))
    local rest, none <close> = b:recv(nil, { fds = 10 })
    assert.equal(" after", rest)
    assert.equal(0, #none)
  end)

  it("keeps them until the bytes before them are read", function()
    local a, b = pair()
    a:send("123456", { fds = { file "x" } })
    local msg, fds = b:recv(4, { fds = 1 })
    assert.equal("1234", msg)
    assert.equal(0, #fds)
    b:unread "again "
    b:peek(8)
    msg, fds = b:recv(100, { fds = 1 })
    assert.equal("again 56", msg)
    assert.equal("x", text_of(fds[1]))
  end)

  it("survives bytes put back before anything was read", function()
    local a, b = pair()
    b:unread "put back "
    a:send("m", { fds = { file "here" } })
    assert.equal("put", b:read(3))
    b:peek(7)
    local msg, fds <close> = b:recv(100, { fds = 1 })
    assert.equal(" back m", msg)
    assert.equal("here", text_of(fds[1]))
  end)

  it("carries 253 in one message, and refuses 254", function()
    local a, b = pair()
    local list, before = {}, open_count()
    local f = file "many"
    for i = 1, 253 do list[i] = f end
    assert.equal(a, a:send("x", { fds = list }))
    do
      local msg, fds <close> = b:recv(1, { fds = 253 })
      assert.equal("x", msg)
      assert.equal(253, #fds)
    end
    list[254] = f
    assert.has_error(function() a:send("x", { fds = list }) end)
    collectgarbage()
    assert.is_true(open_count() <= before + 1)
  end)

  it("says when more came than were asked for; nothing is lost by that", function()
    local a, b = pair()
    a:send("two", { fds = { file "one", file "two" } })
    local v, message, code = b:recv(10, { fds = 1 })
    assert.is_nil(v)
    assert.equal("EMSGSIZE", code)
    assert.truthy(message:find "2 descriptors")
    local msg, fds <close> = b:recv(10, { fds = 2 })
    assert.equal("two", msg)
    assert.equal("two", text_of(fds[2]))
  end)

  it("passes any kind: listener, datagram and record sockets, pipes, itself", function()
    local a, b = pair()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local d <close> = assert(net.datagram "udp://127.0.0.1:0")
    local r1, r2 = net.pair "unix-seqpacket"
    a:send("x", { fds = { l, d, r1, a } })
    local _, fds <close> = b:recv(1, { fds = 4 })
    local l2 <close> = fds[1]:adopt()
    assert.equal(l.address, l2.address)
    local d2 <close> = fds[2]:adopt()
    assert.equal(d.address, d2.address)
    local r3 <close> = fds[3]:adopt()
    r2:send "record"
    assert.equal("record", r3:recv())
    local a2 <close> = fds[4]:adopt()
    a2:write "by another name"
    assert.equal("by another name", b:read(15))
    r1:close()
    r2:close()
  end)

  it("closes those that a plain read passes, and warns once", function()
    local _, err, status = helper.run_script [[
warn "@on"
local net, lfs = require "neap.net", require "lfs"
local function count() local n = 0 for _ in lfs.dir "/proc/self/fd" do n = n + 1 end return n end
local a, b = net.pair "unix"
local before = count()
for _ = 1, 3 do
  assert(a:send("line\n", { fds = { 2, 2 } }))
  assert(b:read() == "line")
end
assert(count() == before, count() - before)
a:close() b:close()
]]
    assert.equal(0, status, err)
    assert.equal(1, select(2, err:gsub("descriptors on [^\n]* closed: a plain read passed them",
      "")), err)
  end)

  it("bounds a flood", function()
    local a, b = pair()
    local f, before, most = file "flood", open_count(), 0
    local list = {}
    for i = 1, 250 do list[i] = f end
    local total = 280 -- 70 000 descriptors
    local sender = neap.spawn(function()
      for _ = 1, total do
        if not a:send("x", { fds = list }) then return end
      end
      a:shutdown()
    end)
    local reader = neap.spawn(function() return #b:read "a" end)
    while not sender:join { timeout = 0.002 } do most = math.max(most, open_count()) end
    assert.same({ true, total }, { reader:join { timeout = 20 * helper.slow } })
    assert.is_true(most - before <= 600, (most - before) .. " descriptors were open")
    assert.is_true(open_count() <= before)
  end)

  it("closes what is pending when it is closed", function()
    local before = open_count()
    local a, b = net.pair "unix"
    a:send("never read", { fds = { 0, 1, 2 } })
    b:peek(10)
    a:close()
    b:close()
    neap.sleep(0.01)
    assert.is_true(helper.wait_until(function() return open_count() <= before end, 3))
  end)

  it("reports once that the kernel dropped some, and keeps the bytes", function()
    local out, err, status = helper.run(("ulimit -n 40; exec %s %s"):format(
      helper.quote(helper.neap),
      helper.write_file(helper.tmpdir() .. "/s.lua", [[
local net = require "neap.net"
local a, b = net.pair "unix"
local hold = {}
local list = {}
for i = 1, 20 do list[i] = 2 end
assert(a:send("bytes", { fds = list })):flush()
while true do
  local f = io.open "/dev/null"
  if not f then break end
  hold[#hold + 1] = f
end
for _ = 1, 4 do table.remove(hold):close() end
local v, message, code = b:recv(100, { fds = 253 })
print(v, message, code)
local msg, fds = b:recv(100, { fds = 253 })
print(msg, #fds)
for _, f in ipairs(hold) do f:close() end
assert(a:send("again", { fds = { 2 } }))
msg, fds = b:recv(100, { fds = 1 })
print(msg, #fds)
fds[1]:close() a:close() b:close()
]])))
    assert.equal(0, status, err)
    assert.truthy(out:find "^nil\t[^\n]*\tEMFILE\nbytes\t0\nagain\t1\n$", out .. err)
  end)

  it("waits for room like any write, sends once, and in turn with whole writes", function()
    local a, b = pair()
    local first, second = 2 << 20, 500000
    if helper.hard then first, second = 600000, 20000 end -- a byte per system call
    local writer = neap.spawn(function() a:write(("w"):rep(first)) end)
    neap.yield()
    local sender = neap.spawn(function() return a:send(("s"):rep(second),
      { fds = { file "late" } }) end)
    neap.yield()
    assert.equal("ETIMEDOUT", select(3, a:send("not in time", { fds = { 0 }, timeout = 0.01 })))
    local text, got, len = {}, {}, 0
    while len < first + second do
      local msg, fds = b:recv(nil, { fds = 1 })
      text[#text + 1] = msg
      len = len + #msg
      for _, fd in ipairs(fds) do got[#got + 1] = fd end
    end
    assert.is_true(("w"):rep(first) .. ("s"):rep(second) == table.concat(text))
    assert.equal(1, #got)
    assert.equal("late", text_of(got[1]))
    writer:join()
    assert.same({ true, a }, { sender:join { timeout = 5 } })
  end)

  it("wakes a sender that waits on a full socket although nothing is queued", function()
    local a, b = pair()
    -- the kernel's buffer is filled behind the stream's back
    local other = assert(descriptor.dup(a)):adopt()
    repeat other:write(("f"):rep(1 << 16), { timeout = 1 }) until other.unsent_bytes > 0
    local queued = other.unsent_bytes
    local sender = neap.spawn(function() return a:send("!", { fds = { file "woken" } }) end)
    neap.sleep(0.01)
    local found
    local reader = neap.spawn(function()
      repeat
        local _, fds = b:recv(nil, { fds = 1 })
        found = found or fds[1]
      until found
    end)
    assert.same({ true, a }, { sender:join { timeout = 5 } })
    assert.is_true((reader:join { timeout = 5 }))
    assert.equal("woken", text_of(found))
    assert.is_true(queued > 0)
    other:abort()
  end)

  it("refuses them where they cannot travel", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local c <close> = assert(net.connect(l.address))
    assert.equal("EOPNOTSUPP", select(3, c:send("x", { fds = { 0 } })))
    local a, b = pair()
    for _, bad in ipairs { { {} }, { "x" }, { -1 }, { io.stdout, true } } do
      assert.has_error(function() a:send("x", { fds = bad }) end)
    end
    assert.equal("EBADF", select(3, a:send("x", { fds = { 99999 } })))
    assert.has_error(function() a:send("", { fds = { 0 } }) end)
    assert.has_error(function() a:send("x", { fsd = { 0 } }) end)
    assert.has_error(function() b:recv(1, { fds = 254 }) end)
    assert.has_error(function() b:recv(1, { fds = -1 }) end)
    local m = net.pair "mem"
    assert.equal("EOPNOTSUPP", select(3, m:send("x", { fds = { 0 } })))
    m:abort()
  end)

  it("passes them under the fault layer", function()
    for seed = 1, 10 do
      local a, b = pair()
      net.fault(a, { seed = seed, cut = 3, again = 0.5 })
      net.fault(b, { seed = -seed, cut = 3, again = 0.5 })
      neap.spawn(function()
        for i = 1, 5 do a:send("message " .. i, { fds = { file(tostring(i)) } }) end
        a:shutdown()
      end)
      local text, got = "", {}
      while true do
        local msg, fds = b:recv(nil, { fds = 5 })
        if not msg then break end
        text = text .. msg
        for _, fd in ipairs(fds) do got[#got + 1] = text_of(fd) end
      end
      assert.equal("message 1message 2message 3message 4message 5", text)
      assert.same({ "1", "2", "3", "4", "5" }, got)
    end
  end)

  it("knows the peer's credentials", function()
    local a, b = pair()
    local c = assert(b:credentials())
    local pid = tonumber(helper.read_file("/proc/self/stat"):match "^%d+")
    assert.equal(pid, c.pid)
    assert.is_true(math.type(c.uid) == "integer" and math.type(c.gid) == "integer")
    a:close()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local t <close> = assert(net.connect(l.address))
    assert.is_nil((t:credentials()))
  end)

  it("gets a connected socket from a real nc -F", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local child = helper.start_script(([[
local net, neap = require "neap.net", require "neap"
local process = require "neap.process"
local a, b = net.pair "unix"
local p = assert(process.spawn({ "nc", "-F", "127.0.0.1", "%s" }, { stdout = b }))
b:close()
local msg, fds = a:recv(1, { fds = 1 })
local c = assert(fds[1]:adopt())
c:write("through a passed socket\n")
print(c:read())
c:close() a:close() p:wait()
]]):format(l.address:match ":(%d+)$"))
    local c <close> = assert(l:accept { timeout = 10 })
    assert.equal("through a passed socket", c:read { timeout = 10 })
    c:write "answered\n"
    assert.equal(0, child:wait(10), child:err())
    assert.equal("answered\n", child:out())
  end)
end)
