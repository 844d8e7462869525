-- Each limit of the manual's table: one below it, at it, one above.
--
-- The table is read from the manual; `limits` has a test for each of its rows, by the row's first
-- column. A row without a test fails, and so does a test without a row.

local codec = require "neap.codec"
local fs = require "neap.fs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"
local servers = require "spec.support.servers"

local soon <const> = 0.02
local limits = {}

local function pair(kind)
  local a, b = assert(net.pair(kind))
  helper.after(function()
    a:abort()
    b:abort()
  end)
  return a, b
end

local function sockets(kind)
  local a, b = assert(net.pair(kind))
  helper.after(function()
    a:close()
    b:close()
  end)
  return a, b
end

local function open_descriptors()
  local n = 0
  for _ in require("lfs").dir "/proc/self/fd" do n = n + 1 end
  return n
end

local function listen(opts)
  local l = assert(net.listen("tcp://127.0.0.1:0", opts))
  helper.after(function() l:close() end)
  return l
end

-- What `read` says of a stream that has got these bytes: the length of its result, or the code.
local function outcome(read, ...)
  local a, b = pair "mem"
  neap.spawn(function(...)
    b:write(...)
    b:shutdown()
  end, ...)
  local result, _, code = read(a)
  if code == "EMSGSIZE" then -- the bytes stay
    a.line_max, a.read_max = 64 << 20, 64 << 20
    assert.is_true(#a:read "a" > 0)
  end
  return result and #result or code
end

local function raises(pattern, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert.matches(pattern, tostring(message))
end

limits["a line or delimited read"] = function()
  local max <const> = 64 << 10
  assert.equal(max, (pair "mem").line_max)
  for n, wanted in pairs { [max - 1] = max - 1, [max] = max, [max + 1] = "EMSGSIZE" } do
    local line = ("x"):rep(n)
    assert.equal(wanted, outcome(function(s) return s:read() end, line, "\n"))
    assert.equal(wanted, outcome(function(s) return s:read_until "--" end, line, "--"))
  end
  for n, wanted in pairs { [4] = 4, [5] = 5, [6] = "EMSGSIZE" } do
    local line = ("x"):rep(n)
    assert.equal(wanted, outcome(function(s)
      s.line_max = 5
      return s:read "l"
    end, line, "\n"))
    assert.equal(wanted, outcome(function(s) return s:read_until("\n", 5) end, line, "\n"))
  end
end

limits['a counted read, a record, `"a"`'] = function()
  local default <const> = 16 << 20
  assert.equal(default, (pair "mem").read_max)
  local max <const> = helper.hard and 5000 or default
  local whole = ("x"):rep(max + 1)
  for n, wanted in pairs { [max - 1] = max - 1, [max] = max, [max + 1] = "EMSGSIZE" } do
    local bytes = whole:sub(1, n)
    for _, format in ipairs { n, "a" } do
      assert.equal(wanted, outcome(function(s)
        if max ~= default then s.read_max = max end
        return s:read(format)
      end, bytes))
    end
  end
  for n, wanted in pairs { [95] = 95, [96] = 96, [97] = "EMSGSIZE" } do
    assert.equal(wanted, outcome(function(s)
      s.read_max = 100 -- of which the length takes four
      return s:unpack ">s4"
    end, (">s4"):pack(("x"):rep(n))))
  end
end

-- A stream whose kernel takes no more.
local function stuffed()
  local a, b = pair()
  while a.unsent_bytes == 0 do
    a:write(("x"):rep(1000))
    a:flush { timeout = 0.001 }
  end
  return a, b
end

limits["bytes queued before `write` waits; goes on below"] = function()
  local high <const>, low <const> = 256 << 10, 64 << 10
  local a, b = stuffed()
  assert(a:write(("x"):rep(high - 1 - a.unsent_bytes), { timeout = 0 }))
  assert(a:write("x", { timeout = 0 }))
  assert.equal(high, a.unsent_bytes)
  local writer = neap.spawn(function()
    assert(a:write "x")
    return a.unsent_bytes
  end)
  neap.sleep(soon)
  assert.equal("waiting", writer.state)
  local left
  repeat
    assert(b:recv(4096))
    neap.yield()
    left = a.unsent_bytes
    if left > low then assert.is_true(writer.state ~= "returned", "at " .. left) end
  until left <= low
  local ok, n = writer:join { timeout = 5 * helper.slow }
  assert.is_true(ok)
  assert.is_true(n <= low, tostring(n))
end

limits["bytes queued for a hub's member"] = function()
  local limit <const> = 10000
  local hub = net.hub { policy = "drop", limit = limit }
  local a = stuffed()
  a:write(("x"):rep(limit - 1 - a.unsent_bytes))
  hub:add(a)
  for _, n in ipairs { limit, limit + 1 } do -- one below, then at the limit
    hub:send "x"
    assert.equal(n, a.unsent_bytes)
    assert.equal(0, hub:stats().dropped)
  end
  hub:send "x"
  assert.equal(1, hub:stats().dropped)
  assert.equal(limit + 1, a.unsent_bytes)
  -- The default.
  hub = net.hub { policy = "drop" }
  hub:add(a)
  a:write(("x"):rep((256 << 10) - a.unsent_bytes))
  hub:send "x"
  assert.equal(0, hub:stats().dropped)
  hub:send "x"
  assert.equal(1, hub:stats().dropped)
end

limits["one datagram or record in `recv`"] = function()
  for _, kind in ipairs { "unix-dgram", "unix-seqpacket" } do
    local a, b = sockets(kind)
    for n, wanted in pairs { [65535] = 65535, [65536] = 65536, [65537] = "EMSGSIZE" } do
      assert(a:send(("x"):rep(n)))
      local message, _, code = b:recv()
      assert.equal(wanted, message and #message or code)
    end
    assert(a:send "x")
    assert.equal("x", (b:recv(16 << 20)))
    raises("1 to", b.recv, b, (16 << 20) + 1)
    raises("1 to", b.recv, b, 0)
  end
end

limits["datagrams in `recv_batch`"] = function()
  local a, b = sockets "unix-seqpacket"
  for n, wanted in pairs { [63] = 63, [64] = 64, [65] = 64 } do
    local sender = neap.spawn(function()
      for _ = 1, n do assert(a:send "x") end
    end)
    local got = {}
    while #got < n do
      local batch = assert(b:recv_batch())
      assert.is_true(#batch <= wanted)
      table.move(batch, 1, #batch, #got + 1, got)
    end
    assert.is_true((sender:join()))
  end
  assert(a:send "x")
  assert.same({ "x" }, (b:recv_batch(1023)))
  assert(a:send "x")
  assert.same({ "x" }, (b:recv_batch(1024, { max = 65536 }))) -- 64 MiB
  raises("1024", b.recv_batch, b, 1025)
  raises("64 MiB", b.recv_batch, b, 1024, { max = 65537 })
end

limits["reports of the error queue that wait for `recv_error`"] = function()
  for n, wanted in pairs { [63] = 63, [64] = 64, [65] = 64 } do
    local gone = assert(net.datagram "udp://127.0.0.1:0")
    gone:close()
    local s <close> = assert(net.datagram("udp://127.0.0.1:0", { errors = true }))
    for i = 1, n do
      repeat -- an earlier report may be the failure of a later send
        local ok, _, code = s:send(tostring(i), gone.address)
      until ok or code ~= "ECONNREFUSED"
      neap.yield()
    end
    neap.sleep(soon)
    local count, last = 0, nil
    while true do
      local report = s:recv_error { timeout = 0 }
      if not report then break end
      count, last = count + 1, report
    end
    assert.equal(wanted, count)
    assert.truthy(last)
  end
end

limits["descriptors in a message, and pending on a stream"] = function()
  local a, b = pair()
  local file = assert(io.open "/dev/null")
  helper.after(function() file:close() end)
  local list = {}
  for i = 1, 254 do
    list[i] = file
    if i >= 252 and i <= 253 then
      assert(a:send("x", { fds = list }))
      local _, fds <close> = b:recv(1, { fds = 253 })
      assert.equal(i, #fds)
    end
  end
  raises("253", a.send, a, "x", { fds = list })
  raises("253", b.recv, b, 1, { fds = 254 })
  -- A frame that goes on past them: they wait for the next recv, until there are too many.
  local before = open_descriptors()
  for i = 1, 254 do
    assert(a:send("x", { fds = { file } }))
    if i >= 252 then
      assert(a:flush())
      assert.equal("ETIMEDOUT", select(3, b:read(1000, { timeout = soon * helper.slow })))
      assert.equal(i, b.unread_bytes)
      local kept = open_descriptors() - before
      assert.is_true(i <= 252 and kept == i or i > 252 and kept <= 1, kept .. " of " .. i)
    end
  end
end

limits["connections of a server"] = function()
  local server <close> = net.serve("tcp://127.0.0.1:0", { max_connections = 3 }, function(c)
    c:write "served\n"
    c:read()
  end)
  local clients = {}
  for i = 1, 4 do
    clients[i] = assert(net.connect(server.address))
    local line = clients[i]:read("l", { timeout = i == 4 and soon or 10 * helper.slow })
    assert.equal(i <= 3 and "served" or nil, line)
    assert.equal(math.min(i, 3), server.connections)
  end
  clients[1]:close()
  assert.equal("served", clients[4]:read("l", { timeout = 10 * helper.slow }))
  for i = 2, 4 do clients[i]:close() end
  for _, bad in ipairs { 0, -1 } do
    raises("max_connections", net.serve, "mem:limits", { max_connections = bad }, print)
  end
end

limits["a wait on a served connection"] = function()
  local seen = neap.channel(3)
  local function handler(c)
    seen:put(c.timeout or "none")
    c:read()
  end
  for given, wanted in pairs { [0.5] = 0.5, [false] = "none", default = 300 } do
    local opts = { log = function() end }
    if given ~= "default" then opts.timeout = given end
    local server = net.serve("mem:limits", opts, handler)
    local c = assert(net.connect "mem:limits")
    assert.equal(wanted, seen:get { timeout = 5 })
    c:close()
    server:stop()
  end
end

limits["connections waiting in the kernel"] = function()
  local most = tonumber(helper.read_file "/proc/sys/net/core/somaxconn")
  local function backlog(l)
    local line = helper.run("ss -Hltn 'sport = :" .. l.address:match ":(%d+)$" .. "'")
    return tonumber(line:match "LISTEN%s+%d+%s+(%d+)")
  end
  assert.equal(math.min(4096, most), backlog(listen()))
  assert.equal(1, backlog(listen { backlog = 1 }))
  assert.equal(math.min(65535, most), backlog(listen { backlog = 65535 }))
  raises("backlog", net.listen, "tcp://127.0.0.1:0", { backlog = 65536 })
  raises("backlog", net.listen, "tcp://127.0.0.1:0", { backlog = 0 })
  -- In memory it is exact.
  local l <close> = assert(net.listen("mem:limits", { backlog = 2 }))
  local clients = {}
  for i = 1, 3 do
    clients[i] = net.connect("mem:limits", { timeout = soon })
    assert.equal(i <= 2, clients[i] ~= nil)
  end
  for i = 1, 2 do
    assert(l:accept()):abort()
    clients[i]:abort()
  end
end

limits["closed connections that deliver their last bytes"] = function()
  local l, peers = listen(), {}
  local conns = {}
  for i = 1, 1025 do
    conns[i] = assert(net.connect(l.address))
    peers[i] = assert(l:accept())
  end
  local before = neap.stats().lingering
  for i, c in ipairs(conns) do
    c:close()
    if i >= 1023 then assert.equal(before + math.min(i, 1024), neap.stats().lingering) end
  end
  -- The oldest was cut off, the next one was not.
  for i = 1, 2 do
    peers[i]:write "x"
    local ok, _, code = peers[i]:flush()
    assert.equal(i == 2, ok ~= nil, code)
  end
  for _, p in ipairs(peers) do p:close() end
end

limits["lookups at a time"] = function()
  for n, answered in pairs { [7] = true, [8] = false, [9] = false } do
    local out, err = helper.run_script(([[
      local neap, net = require "neap", require "neap.net"
      local slow = {}
      for i = 1, %d do slow[i] = neap.spawn(function() net.resolve("slow" .. i) end) end
      neap.yield()
      print((net.resolve("quick", { timeout = %g })) ~= nil)
      for _, task in ipairs(slow) do task:cancel() end
    ]]):format(n, answered and 10 * helper.slow or soon), { env = helper.resolver() })
    assert.equal(tostring(answered) .. "\n", out, err)
  end
end

limits["parts of a `string.pack` record, fixed ones in a row being one"] = function()
  local a, b = pair "mem"
  b:write(("\0"):rep(64 + 200))
  assert.equal(31, select("#", a:unpack(("s1"):rep(31))))
  assert.equal(32, select("#", a:unpack(("s1"):rep(32))))
  raises("too many", a.unpack, a, ("s1"):rep(33))
  assert.equal(200, select("#", a:unpack(("B"):rep(200))))
end

limits["strings in a RESP request; an inline one"] = function()
  local resp = codec.resp(64 << 20)
  assert.equal("more", select(2, resp:decode(("*%d\r\n"):format((1 << 20) - 1))))
  assert.equal("more", select(2, resp:decode(("*%d\r\n"):format(1 << 20))))
  assert.equal("EMSGSIZE", select(3, resp:decode(("*%d\r\n"):format((1 << 20) + 1))))
  for n, wanted in pairs { [65535] = 65535, [65536] = 65536, [65537] = "EMSGSIZE" } do
    local request, _, code = resp:decode(("x"):rep(n) .. "\n")
    assert.equal(wanted, request and #request[1] or code)
  end
end

limits["values a channel buffers"] = function()
  assert.equal((1 << 24) - 1, neap.channel((1 << 24) - 1):capacity())
  assert.equal(1 << 24, neap.channel(1 << 24):capacity())
  raises("argument", neap.channel, (1 << 24) + 1)
  raises("argument", neap.channel, -1)
  for n = 0, 2 do
    local ch = neap.channel(n)
    for i = 1, n + 1 do
      local code = select(3, ch:put(i, { timeout = 0 }))
      assert.equal(i > n and "ETIMEDOUT" or nil, code)
    end
  end
end

limits["cases of `select`"] = function()
  local list = { timeout = 0 }
  for i = 1, 1001 do
    list[i] = neap.event()
    if i == 999 or i == 1000 then assert.equal("ETIMEDOUT", select(3, neap.select(list))) end
  end
  raises("1000", neap.select, list)
end

limits["descriptors given to a child, beside 0, 1 and 2"] = function()
  local list = {}
  for i = 1, 254 do
    list[i] = 0
    if i == 252 or i == 253 then
      local p <close> = assert(process.spawn({ "true" }, { fds = list }))
      assert.is_true((p:wait { timeout = 10 * helper.slow }))
    end
  end
  raises("253", process.spawn, { "true" }, { fds = list })
end

limits["an AF_UNIX path, an abstract name with its `@`"] = function()
  local dir = helper.tmpdir() .. "/"
  for n, wanted in pairs { [107] = true, [108] = true, [109] = "ENAMETOOLONG" } do
    for _, address in ipairs { "unix:" .. dir .. ("x"):rep(n - #dir),
      "unix:@" .. dir:sub(2) .. ("x"):rep(n - #dir) } do
      local l, _, code = net.listen(address)
      assert.equal(wanted, l and true or code)
      if l then
        assert.equal(address, l.address)
        assert(net.connect(address)):close()
        l:close()
      end
    end
  end
end

limits["a host name"] = function()
  for n, wanted in pairs { [253] = "ENOTFOUND", [255] = "ENOTFOUND", [256] = "ENAMETOOLONG" } do
    local name = "missing" .. ("x.123456789"):rep(30):sub(1, n - 7)
    local script = ([[print(select(3, require "neap.net".resolve %q))]]):format(name)
    local out = helper.run_script(script, { env = helper.resolver() })
    assert.equal(wanted .. "\n", out)
  end
end

limits["addresses of one listener"] = function()
  local list = {}
  for i = 1, 17 do
    list[i] = "127.0.0.1:0"
    if i == 15 or i == 16 then
      list[i] = "127.0.0." .. i .. ":0"
      local l <close> = assert(net.listen(list))
      assert.equal(i, #l.addresses)
    else
      list[i] = "127.0.0." .. i .. ":0"
    end
  end
  raises("16", net.listen, list)
end

limits["time a cancelled task has for goodbyes"] = function()
  neap.group(function()
    local function goodbye(seconds)
      local result
      local task = neap.spawn(function()
        local _ <close> = setmetatable({}, { __close = function()
          result = table.pack(pcall(neap.sleep, seconds))
        end })
        neap.sleep(60)
      end)
      neap.yield()
      task:cancel()
      return function()
        task:join()
        return table.unpack(result)
      end
    end
    local below, above = goodbye(0.7), goodbye(1.5)
    local started = neap.now()
    assert.same({ true, true }, { below() })
    local ok, err = above()
    assert.is_false(ok)
    assert.equal(neap.cancelled, err)
    local took = neap.now() - started
    assert.is_true(took >= 0.98 and took < 1.4 * helper.slow, tostring(took))
  end)
end

limits["results of one expired deadline that may be ignored in a row"] = function()
  local a = pair()
  local d <close> = neap.deadline(0)
  for i = 1, 99 do assert.equal("ETIMEDOUT", select(3, a:read()), i) end
  raises("timed out", a.read, a)
  assert.truthy(d)
end

limits["calls of `neap.fs` at a time; left to themselves"] = function()
  local dir = helper.tmpdir()
  assert(os.execute("mkfifo " .. dir .. "/fifo"))
  -- opening a FIFO that nobody writes to holds a thread; the program's end does not wait for it
  local out, err, status = helper.run_script(([[
    local fs, neap = require "neap.fs", require "neap"
    local function stuck(n)
      local tasks = {}
      for i = 1, n do tasks[i] = neap.spawn(fs.open, %q) end
      neap.sleep(0.05)
      return tasks
    end
    local function cancel(tasks)
      for _, t in ipairs(tasks) do t:cancel() end
      for _, t in ipairs(tasks) do t:join() end
    end
    local function answers() return neap.timeout(0.3, fs.stat, "/") ~= nil end
    local some = stuck(7)
    print(answers()) -- the eighth
    local one = stuck(1)
    print(answers()) -- the ninth has to wait
    cancel(some)
    cancel(one)
    print(answers()) -- eight are left to themselves
    cancel(stuck(8))
    cancel(stuck(8))
    cancel(stuck(7))
    print(answers()) -- the thirty-second
    cancel(stuck(1))
    print(answers())
    os.exit(0)
  ]]):format(dir .. "/fifo"), { limit = 30, env = { ASAN_OPTIONS = "detect_leaks=0" } })
  assert.equal(0, status, err)
  assert.equal("true\nfalse\ntrue\ntrue\nfalse\n", out)
end

-- Of names only the bound's code: 16 MiB of them would be 65 thousand files.
limits["`fs.read`; names in `fs.scandir`"] = function()
  local path, max = helper.tmpdir() .. "/sparse", 16 << 20
  for _, size in ipairs { max - 1, max, max + 1 } do
    assert(os.execute(("truncate -s %d %s"):format(size, path)))
    local text, _, code = fs.read(path)
    if size > max then assert.equal("EMSGSIZE", code) else assert.equal(size, #text) end
  end
  helper.write_file(path, ("x"):rep(11))
  assert.equal(11, #fs.read(path, 11))
  assert.equal("EMSGSIZE", select(3, fs.read(path, 10)))
end

limits["pipes of the kernel that `net.pipe` uses at a time"] = function()
  local function pipes()
    local n = 0
    for name in require("lfs").dir "/proc/self/fd" do
      local target = require("lfs").symlinkattributes("/proc/self/fd/" .. name, "target")
      if target and target:find "^pipe:" then n = n + 1 end
    end
    return n
  end
  local before, tasks, outs, ends = pipes(), {}, {}, {}
  local piece, count = ("x"):rep(helper.hard and 64 or 1 << 16), 48
  local function used() return (pipes() - before) // 2 end
  local function copied() -- bytes stand here instead
    local n = 0
    for _, b in ipairs(outs) do n = n + (b.unsent_bytes > 0 and 1 or 0) end
    return n
  end
  local function fill(n) -- pairs whose server does not read: bytes stay in each one's pipe
    for i = #tasks + 1, n do
      local client, a = sockets "unix"
      local b, server = sockets "unix"
      tasks[i] = neap.spawn(net.pipe, a, b)
      outs[i], ends[i] = b, server
      neap.spawn(function()
        for _ = 1, count do client:write(piece) end
        client:shutdown()
      end)
    end
    if not helper.hard then helper.wait_until(function() return used() + copied() == n end) end
    return used()
  end
  if helper.hard then
    fill(3)
    neap.sleep(soon)
    assert.is_true(used() <= 3)
  else
    assert.equal(63, fill(63))
    assert.equal(64, fill(64))
    assert.equal(64, fill(67))
  end
  for i, server in ipairs(ends) do
    assert.equal(count * #piece, #assert(server:read "a"))
    server:close()
    assert.same({ true, count * #piece, 0 }, { tasks[i]:join() })
  end
end

limits["cookies of a domain, and in all; a name and its value"] = function()
  local jar = require("neap.http").cookies()
  for n, wanted in ipairs { 49, 50, 50 } do
    for i = 1, 48 + n do assert(jar:set("http://a.org/", ("c%d=1"):format(i))) end
    assert.equal(wanted, #jar:all())
    jar:clear()
  end
  for i = 1, 3001 do
    assert(jar:set(("http://h%d.org/"):format(i // 50), ("c%d=1"):format(i)))
    assert.equal(math.min(i, 3000), jar.count)
  end
  assert(jar:set("http://a.org/", "x=" .. ("y"):rep(4094)))
  assert(jar:set("http://a.org/", "x=" .. ("y"):rep(4095)))
  assert.is_nil((jar:set("http://a.org/", "x=" .. ("y"):rep(4096))))
end

limits["content codings taken off one reply"] = function()
  local zlib = require "neap.zlib"
  local server = http.serve("127.0.0.1:0", function(req, res)
    local n, text = tonumber(req.query.n), "text"
    for _ = 1, n do text = zlib.compress(text, { format = "gzip" }) end
    res:send(200, text, { ["Content-Encoding"] = ("gzip,"):rep(n) })
  end)
  for n, left in pairs { [4] = 0, [5] = 0, [6] = 1 } do
    local reply = assert(http.get(server.address:gsub("^tcp", "http") .. "/?n=" .. n))
    local text = assert(reply:body())
    assert.equal(left == 0 and "text" or zlib.compress("text", { format = "gzip" }), text)
    assert.equal(left == 1 and "gzip" or nil, reply.headers["content-encoding"])
  end
  http.forget()
  server:stop(0)
end

limits["a decompressed text"] = function()
  local zlib = require "neap.zlib"
  local default <const> = 64 << 20
  for n, wanted in pairs {
    [default - 1] = default - 1, [default] = default, [default + 1] = "EMSGSIZE",
  } do
    local bytes = zlib.compress(("\0"):rep(n), { level = 1 })
    local text, _, code = zlib.decompress(bytes)
    assert.equal(wanted, text and #text or code)
    local i <close> = zlib.inflater()
    text, _, code = i:decompress(bytes)
    assert.equal(wanted, text and #text or code)
  end
end

-- ---- HTTP ----

local http_server = servers.http

-- The status of the answer to these bytes, and its body.
local function http_status(server, ...)
  local c <close> = assert(net.connect(server.address, { timeout = 20 * helper.slow }))
  c:write(...)
  c:shutdown()
  local status, body = c:read("a"):match "^HTTP/1.1 (%d+).-\r\n\r\n(.*)$"
  return tonumber(status), body
end

local function says_length(req, res)
  local body, _, code = req:body()
  res:send(200, tostring(body and #body or code))
end

limits["an HTTP request's head; its fields; a field's name"] = function()
  local server = http_server(says_length)
  local first, last = "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n\r\n"
  local rest = (16 << 10) - #first - #last - #"A: "
  for n, wanted in pairs { [rest - 1] = 200, [rest] = 200, [rest + 1] = 431 } do
    assert.equal(wanted, (http_status(server, first, "A: ", ("x"):rep(n), last)))
  end
  for n, wanted in pairs { [98] = 200, [99] = 200, [100] = 431 } do -- besides Host
    assert.equal(wanted, (http_status(server, first, ("A: b\r\n"):rep(n), "\r\n")))
  end
  for n, wanted in pairs { [255] = 200, [256] = 200, [257] = 431 } do
    assert.equal(wanted, (http_status(server, first, ("x"):rep(n), ": b", last)))
  end
  server = http_server(says_length, { max_head = #first + #last })
  assert.equal(200, (http_status(server, first, "\r\n")))
  assert.equal(431, (http_status(server, first, "A: bc", last)))
end

limits["an HTTP request's body; a reply's"] = function()
  local server = http_server(says_length, { max_body = helper.hard and 3000 or nil })
  local max = helper.hard and 3000 or 1 << 20
  local post = "POST / HTTP/1.1\r\nHost: a\r\n"
  for n, wanted in pairs { [max - 1] = max - 1, [max] = max, [max + 1] = "EMSGSIZE" } do
    local _, body = http_status(server, post, "Content-Length: ", n, "\r\n\r\n", ("x"):rep(n))
    assert.equal(tostring(wanted), body)
    _, body = http_status(server, post, "Transfer-Encoding: chunked\r\n\r\n",
      ("%x"):format(n), "\r\n", ("x"):rep(n), "\r\n0\r\n\r\n")
    assert.equal(tostring(wanted), body)
  end
  local _, url = http_server(function(_, res) res:send(200, "12345") end)
  for n, wanted in pairs { [4] = "EMSGSIZE", [5] = "12345", [6] = "12345" } do
    local body, _, code = assert(http.get(url, { max_body = n })):body()
    assert.equal(wanted, body or code)
  end
  local big = (64 << 20) + 1
  server = net.serve("127.0.0.1:0", { log = function() end }, function(c)
    c:read_until "\r\n\r\n"
    c:write("HTTP/1.1 200 OK\r\nContent-Length: ", big, "\r\n\r\n")
  end)
  helper.after(function() server:stop(0) end)
  url = server.address:gsub("^tcp", "http")
  for n, wanted in pairs { [big] = "EMSGSIZE", [big - 1] = "EPIPE" } do -- the latter is read
    big = n
    assert.equal(wanted, select(3, assert(http.get(url)):body()))
  end
end

limits["an HTTP chunk's size line; a body's trailer fields"] = function()
  local server = http_server(says_length)
  local post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
  for n, wanted in pairs { [255] = "1", [256] = "1", [257] = "EMSGSIZE" } do
    local _, body = http_status(server, post, "1;", ("x"):rep(n - 2), "\r\nx\r\n0\r\n\r\n")
    assert.equal(wanted, body)
  end
  for n, wanted in pairs { [8191] = "0", [8192] = "0", [8193] = "EMSGSIZE" } do
    local line = "A: " .. ("x"):rep(n // 2 - 3)
    local other = "B: " .. ("x"):rep(n - #line - 3)
    local _, body = http_status(server, post, "0\r\n", line, "\r\n", other, "\r\n\r\n")
    assert.equal(wanted, body)
  end
end

limits["an HTTP reply's head; answers before it; redirects"] = function()
  local bytes
  local server = net.serve("127.0.0.1:0", { log = function() end }, function(c)
    c:read_until "\r\n\r\n"
    c:write(bytes)
  end)
  helper.after(function() server:stop(0) end)
  local url = server.address:gsub("^tcp", "http")
  local function outcome_of(text)
    bytes = text
    local r <close>, _, code = http.get(url)
    return r and r.status or code
  end
  local first, last = "HTTP/1.1 204 x\r\nA: ", "\r\nConnection: close\r\n\r\n"
  local rest = (64 << 10) - #first - #last
  for n, wanted in pairs { [rest - 1] = 204, [rest] = 204, [rest + 1] = "EMSGSIZE" } do
    assert.equal(wanted, outcome_of(first .. ("x"):rep(n) .. last))
  end
  for n, wanted in pairs { [8] = 204, [9] = 204, [10] = "EBADMSG" } do
    assert.equal(wanted, outcome_of(("HTTP/1.1 103 x\r\n\r\n"):rep(n) .. first .. last))
  end
  local hops
  local _, hopping = http_server(function(_, res)
    hops = hops - 1
    if hops >= 0 then return res:redirect "/" end
    res:send(200, "x")
  end)
  local function hop(n, opts)
    hops = n
    local r <close>, _, code = http.get(hopping, opts)
    return r and r.status or code
  end
  for n, wanted in pairs { [9] = 200, [10] = 200, [11] = "ELOOP" } do
    assert.equal(wanted, hop(n))
  end
  for n, wanted in pairs { [1] = 200, [2] = 200, [3] = "ELOOP" } do
    assert.equal(wanted, hop(n, { redirects = 2 }))
  end
end

limits["connections that HTTP's client keeps"] = function()
  for n, left in pairs { [7] = 7, [8] = 8, [9] = 8 } do
    local server, url = http_server(function(_, res) res:send(200, "x") end)
    local replies = {}
    for i = 1, n do replies[i] = assert(http.get(url)) end -- at once, each on its own
    assert.equal(n, server.connections)
    for i = 1, n do assert(replies[i]:body()) end
    assert(helper.wait_until(function() return server.connections == left end), n)
    http.forget()
  end
  -- In all, and for how long: 64 servers, and what http.pool sets: spec/http_pool_spec.lua too.
  http.pool { total = 3 }
  local all, kept = {}, nil
  local function open()
    kept = 0
    for _, server in ipairs(all) do kept = kept + server.connections end
    return kept
  end
  for n, left in ipairs { 1, 2, 3, 3 } do -- two below to one above
    local server, url = http_server(function(_, res) res:send(200, "x") end)
    all[n] = server
    assert(http.get(url)):body()
    assert(helper.wait_until(function() return open() == left end), n)
  end
  neap.sleep(0.05)
  http.pool { idle_timeout = 10 * helper.slow } -- they are younger
  assert.equal(3, open())
  http.pool { idle_timeout = 0.05 }
  assert(helper.wait_until(function() return open() == 0 end))
  http.pool { total = 64, idle_timeout = 30 }
  raises("'total'", http.pool, { total = 1025 })
end

for _, name in ipairs { "tls", "websocket" } do
  local file = ("spec/support/limits_%s.lua"):format(name)
  local more = assert(loadfile(file, "t", _ENV))() -- _ENV: busted's assert
  for row, test in pairs(more) do limits[row] = test end
end

-- The first column of the manual's table.
local function rows()
  local list = {}
  local text = assert(helper.read_file "docs/manual.md"):match "\n## Limits\n(.-)\n## "
  for row in text:gmatch "\n| ([^|]+) |" do
    if row ~= "what" then list[#list + 1] = row end
  end
  return list
end

describe("the limit of", function()
  for _, row in ipairs(rows()) do
    it(row, function()
      assert.is_function(limits[row], "no test of this limit")
      limits[row]()
    end)
  end

  it("nothing that the manual leaves out", function()
    local there = {}
    for _, row in ipairs(rows()) do there[row] = true end
    for row in pairs(limits) do assert.is_true(there[row], row) end
  end)
end)
