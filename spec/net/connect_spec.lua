-- Names and connecting: lookups off the loop, races of addresses, what their messages say.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

-- A port of 127.0.0.1 on which nobody listens any more.
local function closed_port()
  local l = assert(net.listen "127.0.0.1:0")
  local port = l.address:match ":(%d+)$"
  l:close()
  return port
end

local function accept_one(l)
  local c = l:accept { timeout = 5 * helper.slow }
  if c then c:close() end
  return c ~= nil
end

local function open_descriptors()
  local n = 0
  for _ in require("lfs").dir "/proc/self/fd" do n = n + 1 end
  return n
end

describe("net.connect", function()
  it("connects to a literal of each family", function()
    for _, at in ipairs { "127.0.0.1:0", "[::1]:0" } do
      local l <close> = assert(net.listen(at))
      local accepted = neap.spawn(accept_one, l)
      local c <close> = assert(net.connect(l.address))
      assert.equal(l.address, c.peer)
      assert.is_true(select(2, accepted:join()))
    end
  end)

  it("says which address refused, completely", function()
    local address = "tcp://127.0.0.1:" .. closed_port()
    local c, message, code = net.connect(address)
    assert.is_nil(c)
    assert.equal("connect " .. address .. ": connection refused", message)
    assert.equal("ECONNREFUSED", code)
  end)

  it("gives the scheme to addresses without one", function()
    local port = closed_port()
    local _, message = net.connect("127.0.0.1:" .. port)
    assert.equal("connect tcp://127.0.0.1:" .. port .. ": connection refused", message)
  end)

  it("names every address of a name that was tried", function()
    local port = closed_port()
    local _, message, code = net.connect("tcp://localhost:" .. port)
    assert.equal("ECONNREFUSED", code)
    local v6 = message:match "%[::1%]:%d+ ([^;]+);"
    local tried = ("[::1]:%s %s; 127.0.0.1:%s connection refused"):format(port, v6, port)
    assert.equal(("connect tcp://localhost:%s: %s"):format(port, tried), message)
  end)

  it("reaches a listener on one family of a name only", function()
    for _, host in ipairs { "127.0.0.1", "[::1]" } do
      local l <close> = assert(net.listen(host .. ":0"))
      local accepted = neap.spawn(accept_one, l)
      local c <close> = assert(net.connect("localhost:" .. l.address:match ":(%d+)$"))
      assert.equal(l.address, c.peer)
      assert.is_true(select(2, accepted:join()))
    end
  end)

  it("looks a name of /etc/hosts up off the loop", function()
    local name
    for line in io.lines "/etc/hosts" do
      local list = line:match "^127%.0%.0%.1%s+([^#]+)"
      for word in (list or ""):gmatch "%S+" do
        if not word:find "localhost" then name = word end
      end
    end
    if not name then return end -- this host has no other name for itself
    local l <close> = assert(net.listen "127.0.0.1:0")
    local accepted = neap.spawn(accept_one, l)
    local c <close> = assert(net.connect(name .. ":" .. l.address:match ":(%d+)$"))
    assert.equal(l.address, c.peer)
    assert.is_true(select(2, accepted:join()))
  end)

  it("tells a name that does not exist, with the name in the message", function()
    local c, message, code = net.connect("tcp://nobody.invalid:80", { timeout = 1 })
    assert.is_nil(c)
    assert.matches("^connect tcp://nobody%.invalid:80: ", message)
    assert.truthy(({ ENOTFOUND = 1, EAI_AGAIN = 1, EAI_FAIL = 1, ETIMEDOUT = 1 })[code], code)
  end)

  it("ends a lookup at its deadline, at once", function()
    local started = neap.now()
    local _, message, code = net.connect("tcp://nobody.invalid:80", { timeout = 0.001 })
    assert.is_true(neap.now() - started < 1 * helper.slow)
    if code == "ETIMEDOUT" then
      assert.equal("connect tcp://nobody.invalid:80: looking the name up: timed out", message)
    end
  end)

  -- A listener whose backlog is full leaves the next SYN without an answer.
  local function deaf(backlog_of, address)
    local l = assert(net.listen(address, { backlog = 1 }))
    local held = {}
    for i = 1, backlog_of do
      local c = net.connect(l.address, { timeout = 0.05 * helper.slow })
      held[i] = c
      if not c then break end
    end
    return setmetatable({ address = l.address }, {
      __close = function()
        for _, c in pairs(held) do c:abort() end
        l:close()
      end,
    })
  end

  it("ends a race at its deadline and says who did not answer", function()
    local d <close> = deaf(20, "127.0.0.1:0")
    local port = d.address:match ":(%d+)$"
    local _, message, code = net.connect(d.address, { timeout = 0.05 })
    assert.equal("ETIMEDOUT", code)
    assert.equal("connect " .. d.address .. ": timed out", message)
    _, message, code = net.connect("localhost:" .. port, { timeout = 0.05 })
    assert.equal("ETIMEDOUT", code)
    assert.matches("; 127%.0%.0%.1:" .. port .. " timed out$", message)
  end)

  it("starts the next address after 250 ms when the first is silent", function()
    local d <close> = deaf(20, "[::1]:0")
    local port = d.address:match ":(%d+)$"
    local l <close> = assert(net.listen("127.0.0.1:" .. port))
    local accepted = neap.spawn(accept_one, l)
    local started = neap.now()
    local c <close> = assert(net.connect("localhost:" .. port, { timeout = 5 * helper.slow }))
    local took = neap.now() - started
    assert.equal(l.address, c.peer)
    assert.is_true(took >= 0.249 and took < 0.9 * helper.slow, "took " .. took)
    assert.is_true(select(2, accepted:join()))
  end)

  it("starts the next address at once when the first refuses", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local accepted = neap.spawn(accept_one, l)
    local started = neap.now()
    local c <close> = assert(net.connect("localhost:" .. l.address:match ":(%d+)$"))
    assert.is_true(neap.now() - started < 0.2 * helper.slow)
    assert.is_true(select(2, accepted:join()))
    assert.truthy(c)
  end)

  it("is cancelled while it looks up and while it connects, also two coroutines deep", function()
    local d <close> = deaf(20, "127.0.0.1:0")
    local function plain(address) return net.connect(address) end
    local function deep(address)
      return coroutine.wrap(function()
        return coroutine.wrap(function() return net.connect(address) end)()
      end)()
    end
    local slow, name = d.address, "nobody.invalid:80"
    for i, address in ipairs { "tcp://" .. name, slow, name, slow } do
      local task = neap.spawn(i <= 2 and plain or deep, address)
      neap.sleep(0.005)
      task:cancel()
      local started = neap.now()
      local ok = task:join()
      assert.is_true(neap.now() - started < 0.5 * helper.slow)
      assert.is_boolean(ok) -- a fast resolver may have answered before the cancellation
    end
  end)

  it("waits for room in the backlog of an AF_UNIX listener", function()
    local l <close> = assert(net.listen("unix:" .. helper.socket_path(), { backlog = 1 }))
    local clients = {}
    for i = 1, 5 do
      clients[i] = neap.spawn(function()
        local c <close> = assert(net.connect(l.address, { timeout = 5 * helper.slow }))
        return c:read "a"
      end)
    end
    neap.sleep(0.01)
    for _ = 1, 5 do assert(l:accept { timeout = 5 * helper.slow }):close() end
    for i = 1, 5 do assert.is_true((clients[i]:join())) end
  end)

  it("gives up on a full AF_UNIX backlog at the deadline", function()
    local path = "unix:" .. helper.socket_path()
    local l <close> = assert(net.listen(path, { backlog = 1 }))
    local held, code, message = {}, nil, nil
    for i = 1, 10 do
      held[i], message, code = net.connect(l.address, { timeout = 0.02 })
      if not held[i] then break end
    end
    for _, c in pairs(held) do c:abort() end
    assert.equal("ETIMEDOUT", code)
    assert.equal("connect " .. path .. ": timed out", message)
  end)

  it("tells what is wrong with AF_UNIX paths", function()
    local dir = helper.tmpdir()
    local _, message, code = net.connect("unix:" .. dir .. "/nothing")
    assert.equal("ENOENT", code)
    assert.equal("connect unix:" .. dir .. "/nothing: no such file or directory", message)
    _, _, code = net.connect("unix:/" .. ("x"):rep(200))
    assert.equal("ENAMETOOLONG", code)
  end)

  it("binds the local address and sets options before connecting", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local accepted = neap.spawn(accept_one, l)
    local c <close> = assert(net.connect(l.address, { bind = "127.0.0.3:0", nodelay = true }))
    assert.matches("^tcp://127%.0%.0%.3:%d+$", c.address)
    assert.is_true(c:option "nodelay")
    assert.is_true(select(2, accepted:join()))
  end)

  it("refuses a local address that cannot be", function()
    local _, message, code = net.connect("tcp://127.0.0.1:1", { bind = "192.0.2.1:0" })
    assert.equal("EADDRNOTAVAIL", code)
    assert.matches("^connect tcp://127%.0%.0%.1:1: ", message)
    _, message, code = net.connect("tcp://127.0.0.1:1", { bind = "nobody.invalid:0" })
    assert.equal("EINVAL", code)
    assert.matches("bind address nobody%.invalid:0: not a literal address$", message)
  end)

  it("never connects a socket to itself", function()
    -- Bound to the very address it connects to.
    local port = closed_port()
    local at = "127.0.0.1:" .. port
    local c, _, code = net.connect("tcp://" .. at, { bind = at })
    assert.is_nil(c)
    assert.equal("ECONNREFUSED", code)
  end)

  it("tells what it cannot do", function()
    local c, message, code = net.connect "tcp://localhost:http"
    assert.is_nil(c)
    assert.equal("EINVAL", code)
    assert.matches("port", message)
  end)

  it("raises for wrong types and unknown options", function()
    local ok, message = pcall(net.connect, {})
    assert.is_false(ok)
    assert.matches("string expected", message)
    ok, message = pcall(net.connect, "tcp://127.0.0.1:1", { nodeley = true })
    assert.is_false(ok)
    assert.matches("unknown option 'nodeley'", message)
    assert.matches("nodelay", message)
    ok, message = pcall(net.connect, "tcp://127.0.0.1:1", { nodelay = "yes" })
    assert.is_false(ok)
    assert.matches("option 'nodelay': a boolean expected", message)
  end)

  it("connects datagram and record sockets by their schemes", function()
    local udp <close> = assert(net.datagram "udp://127.0.0.1:0")
    local c <close> = assert(net.connect(udp.address))
    assert(c:send "ping")
    assert.equal("ping", (udp:recv()))

    local l <close> = assert(net.listen("unix-seqpacket:" .. helper.socket_path()))
    local r <close> = assert(net.connect(l.address))
    local s <close> = assert(l:accept())
    assert(r:send "record")
    assert.equal("record", (s:recv()))
  end)

  it("sends datagrams to names, in the family of the socket", function()
    local a <close> = assert(net.datagram "udp://127.0.0.1:0")
    local b <close> = assert(net.datagram "udp://127.0.0.1:0")
    local port = b.address:match ":(%d+)$"
    assert(a:send("to a name", "localhost:" .. port, { timeout = 5 }))
    assert.equal("to a name", (b:recv(100, { timeout = 5 })))
    local c <close> = assert(net.datagram("udp://127.0.0.1:0", { connect = "localhost:" .. port }))
    assert(c:send "connected")
    assert.equal("connected", (b:recv(100, { timeout = 5 })))
    local ok, message = a:send("x", "nobody.invalid:9", { timeout = 1 })
    assert.is_nil(ok)
    assert.matches("nobody%.invalid", message)
  end)

  it("takes the first address of a name that this host can use, for datagrams", function()
    local script = helper.write_file(helper.tmpdir() .. "/s.lua", [[
      local net = require "neap.net"
      local a = assert(net.datagram "localhost:0")
      print((a.address:gsub(":%d+$", "")))
      local port = a.address:match "%d+$"
      for _, at in ipairs { "udp://localhost:0", "127.0.0.1:0", ":0" } do
        local b = assert(net.datagram(at, { connect = "localhost:" .. port }))
        assert(b:send(at))
        print((a:recv { timeout = 5 }))
      end
      print(select(3, net.datagram("127.0.0.1:0", { connect = "[::1]:9" })))
    ]])
    local set_up = "ip link set lo up; ip -6 addr flush dev lo"
    local out, err = helper.run(("unshare -Urn sh -c '%s; exec %s %s'"):format(set_up, helper.neap,
      script))
    assert.equal("udp://127.0.0.1\nudp://localhost:0\n127.0.0.1:0\n:0\nEAFNOSUPPORT\n", out, err)
  end)

  it("connects to mem: names", function()
    local _, _, code = net.connect "mem:nobody"
    assert.equal("ECONNREFUSED", code)
    local l <close> = assert(net.listen "mem:somebody")
    local c <close> = assert(net.connect "mem:somebody")
    local s <close> = assert(l:accept())
    c:write "hello\n"
    assert.equal("hello", s:read())
  end)

  it("leaves nothing behind after many races", function()
    local port = closed_port()
    for _ = 1, 50 do assert.is_nil((net.connect("localhost:" .. port))) end
  end)
end)

describe("net.resolve", function()
  it("answers literals and localhost at once", function()
    assert.same({ "127.0.0.1" }, net.resolve "127.0.0.1")
    assert.same({ "::1" }, net.resolve "::1")
    assert.same({ "::1", "127.0.0.1" }, net.resolve "localhost")
    assert.same({ "127.0.0.1" }, net.resolve("a.localhost", { family = "inet" }))
    assert.same({ "::1" }, net.resolve("LOCALHOST.", { family = "inet6" }))
  end)

  it("keeps scheme and port of an address", function()
    assert.same({ "tcp://[::1]:80", "tcp://127.0.0.1:80" }, net.resolve "localhost:80")
    assert.same({ "udp://[::1]:53", "udp://127.0.0.1:53" }, net.resolve "udp://localhost:53")
  end)

  it("fails with the name", function()
    local list, message, code = net.resolve("nobody.invalid", { timeout = 1 })
    assert.is_nil(list)
    assert.matches("^resolve nobody%.invalid: ", message)
    assert.is_string(code)
  end)

  it("runs many lookups at a time and shares those of one name", function()
    local tasks, before = {}, open_descriptors()
    for i = 1, 60 do
      tasks[i] = neap.spawn(function()
        local list, _, code = net.resolve(("n%d.invalid"):format(i % 20), { timeout = 0.2 })
        return list == nil and code
      end)
    end
    for i = 1, 60 do
      local ok, code = tasks[i]:join()
      assert.is_true(ok)
      assert.is_string(code)
    end
    -- Lookups that were given up go on in their threads, with the C library's sockets.
    helper.wait_until(function() return open_descriptors() <= before end, 30)
  end)

  describe("with a name server that does not answer", function()
    local function run(script)
      local env, started = helper.resolver(), neap.now()
      local out, err, status = helper.run_script(script, { env = env })
      return out, err, status, neap.now() - started
    end

    it("answers others, abandons what was cancelled, and ends at once", function()
      local out, err, status, took = run [[
        local neap, net = require "neap", require "neap.net"
        for round = 1, 2 do -- more than may run at a time, each round
          neap.group(function(g)
            for i = 1, 10 do
              g:spawn(function()
                print(select(3, net.resolve("slow" .. round .. i, { timeout = 0.05 })))
              end)
            end
          end)
        end
        print(net.resolve("quick", { timeout = 5 })[1])
        for i = 1, 3 do neap.spawn(function() net.connect("slow" .. i .. ":80") end) end
        neap.sleep(0.01)
        print(net.resolve("quick", { timeout = 5 })[1])
        os.exit(7)
      ]]
      assert.equal("", err)
      assert.equal(("ETIMEDOUT\n"):rep(20) .. "127.0.0.1\n127.0.0.1\n", out)
      assert.equal(7, status)
      assert.is_true(took < 5 * helper.slow, "took " .. took)
    end)

    it("keeps the order of what waits", function()
      local out, err = run [[
        local neap, net = require "neap", require "neap.net"
        local order = {}
        local slow = {}
        for i = 1, 8 do slow[i] = neap.spawn(function() net.resolve("slow" .. i) end) end
        neap.yield()
        neap.group(function(g)
          for i = 1, 3 do
            g:spawn(function()
              net.resolve("quick" .. i)
              order[#order + 1] = i
            end)
          end
          neap.sleep(0.02)
          assert(#order == 0)
          slow[1]:cancel() -- one place at a time
        end)
        print(table.concat(order, " "))
        for i = 2, 8 do slow[i]:cancel() end
      ]]
      assert.equal("", err)
      assert.equal("1 2 3\n", out)
    end)
  end)

  it("refuses what is no name", function()
    local _, _, code = net.resolve ""
    assert.equal("EINVAL", code)
    _, _, code = net.resolve "a\0b"
    assert.equal("EINVAL", code)
    _, _, code = net.resolve(("x"):rep(300))
    assert.equal("ENAMETOOLONG", code)
    assert.has_error(function() net.resolve("a", { family = "ipx" }) end)
  end)
end)

describe("net.listen", function()
  it("gives both families of localhost the same port", function()
    local l <close> = assert(net.listen "localhost:0")
    assert.equal(2, #l.addresses)
    local a, b = l.addresses[1], l.addresses[2]
    assert.equal(a:match ":(%d+)$", b:match ":(%d+)$")
    for _, at in ipairs(l.addresses) do
      local c <close> = assert(net.connect(at))
      local s <close> = assert(l:accept { timeout = 5 })
      assert.truthy(c and s)
    end
  end)

  it("tells a name that does not exist", function()
    local _ <close> = neap.deadline(1)
    local l, message = net.listen "tcp://nobody.invalid:0"
    assert.is_nil(l)
    assert.matches("^listen tcp://nobody%.invalid:0: ", message)
  end)
end)

describe("net.pair", function()
  for _, kind in ipairs { "unix", "mem" } do
    it("connects two " .. kind .. " streams", function()
      local a, b = net.pair(kind)
      local _ <close> = a
      local _ <close> = b
      a:write "over\n"
      assert.equal("over", b:read())
      a:close()
      assert.is_nil((b:read()))
    end)
  end

  it("raises for unknown kinds", function()
    assert.has_error(function() net.pair "pigeon" end)
  end)
end)
