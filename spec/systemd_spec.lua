-- systemd's two protocols, from both ends: sockets that are passed (sd_listen_fds) and the messages
-- to the service manager (sd_notify). The peers are systemd's own programs, and Neap itself.

local helper = require "spec.support.helper"
local lfs = require "lfs"
local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local patience = 10 * helper.slow

local function script_file(text) return helper.write_file(helper.tmpdir() .. "/s.lua", text) end

-- Runs Lua text in a child Neap; what it prints, its errors, its exit status.
local function child(text, opts)
  opts.stdout, opts.stderr = "pipe", "pipe"
  local p <close> = assert(process.spawn({ helper.neap, script_file(text) }, opts))
  local out = assert(p.stdout:read("a", { timeout = patience }))
  local err = assert(p.stderr:read("a", { timeout = patience }))
  return out, err, select(3, p:wait { timeout = patience })
end

describe("a systemd: address", function()
  it("gives the sockets of that name, once", function()
    local a <close> = assert(net.listen "127.0.0.1:0")
    local b <close> = assert(net.listen "127.0.0.1:0")
    local c <close> = assert(net.listen("unix:" .. helper.socket_path()))
    local out, err = child([[
      local net = require "neap.net"
      local web = assert(net.listen "systemd:web")
      print(table.concat(web.addresses, " "))
      print(assert(net.listen "systemd:control").address)
      print((select(2, net.listen "systemd:web")))
      print(select(3, net.listen "systemd:web"))
      print(select(3, net.listen "systemd:other"))
    ]], { listen = { a, c, b }, listen_names = { "web", "control", "web" } })
    assert.equal(table.concat({
      a.address .. " " .. b.address, c.address,
      "listen systemd:web: the descriptors of that name were taken before", "EADDRINUSE", "ENOENT",
    }, "\n") .. "\n", out, err)
  end)

  it("gives sockets of datagrams, one at each call", function()
    local a <close> = assert(net.datagram "udp://127.0.0.1:0")
    local b <close> = assert(net.datagram "unix-dgram:")
    local l <close> = assert(net.listen "127.0.0.1:0")
    assert(a:send("early", a.address))
    local out, err = child([[
      local net = require "neap.net"
      local one, two = assert(net.datagram "systemd:in"), assert(net.datagram "systemd:in")
      print(one.address, two.address)
      print((one:recv { timeout = 5 }))
      print(select(3, net.datagram "systemd:in"))
      print(select(3, net.datagram "systemd:none"))
      print(net.datagram "systemd:web")
      print(select(3, net.listen "systemd:web"))
    ]], { listen = { a, l, b }, listen_names = { "in", "web", "in" } })
    assert.equal(table.concat({
      a.address .. "\t" .. b.address, "early", "EADDRINUSE", "ENOENT",
      "nil\tdatagram systemd:web: descriptor 4 is no socket of datagrams (listen() takes it)\t"
        .. "EPROTOTYPE",
      "",
    }, "\n") .. "\n", out, err)
  end)

  it("works with a connection that came before the child", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local conn <close> = assert(net.connect(l.address))
    local p <close> = assert(process.spawn({ helper.neap, script_file [[
      local l <close> = assert(require "neap.net".listen "systemd:unknown")
      local conn <close> = assert(l:accept { timeout = 10 })
      conn:write(conn:read(), " from ", tostring(require "neap.process".pid), "\n")
    ]] }, { listen = { l } }))
    assert(conn:write "hello\n")
    assert.equal("hello from " .. p.pid, conn:read { timeout = patience })
    conn:close()
    assert.equal(0, select(3, p:wait { timeout = patience }))
  end)

  it("refuses what is meant for another process, or is no number", function()
    local tries = {
      { {}, "LISTEN_PID is not set", "ENOENT" },
      { { LISTEN_FDS = 1 }, "LISTEN_PID is not set", "ENOENT" },
      { { LISTEN_PID = "@" }, "LISTEN_FDS is not set", "ENOENT" },
      { { LISTEN_PID = 1, LISTEN_FDS = 1 }, "are for process 1, this is %d+", "ENOENT" },
      { { LISTEN_PID = "", LISTEN_FDS = 1 }, "are for process , this is", "ENOENT" },
      { { LISTEN_PID = "@x", LISTEN_FDS = 1 }, "are for process %d+x, this", "ENOENT" },
      { { LISTEN_PID = "@", LISTEN_FDS = "1x" }, "LISTEN_FDS is '1x'", "EINVAL" },
      { { LISTEN_PID = "@", LISTEN_FDS = -1 }, "LISTEN_FDS is '%-1'", "EINVAL" },
      { { LISTEN_PID = "@", LISTEN_FDS = "99999999999999999999" }, "not a number from", "EINVAL" },
      { { LISTEN_PID = "@", LISTEN_FDS = 0 }, "no descriptor of that name", "ENOENT" },
      { { LISTEN_PID = "@", LISTEN_FDS = 2, LISTEN_FDNAMES = "a" }, "has 1 name, LISTEN_FDS is 2",
        "EINVAL" },
      -- a lie: descriptor 3 is the loop's own
      { { LISTEN_PID = "@", LISTEN_FDS = 1 }, "descriptor 3 is not a socket", "ENOTSOCK" },
    }
    local text = [[print(net.listen "systemd:unknown")]]
    for _, try in ipairs(tries) do
      -- the shell's pid is the one that neap has, too
      local command = ""
      for name, value in pairs(try[1]) do
        command = command .. ("export %s='%s'; "):format(name, (tostring(value):gsub("@", "'$$'")))
      end
      command = command .. ("exec %s -e '%s'"):format(helper.neap, text)
      local p <close> = assert(process.spawn({ "sh", "-c", command }, { stdout = "pipe" }))
      local out = assert(p.stdout:read("a", { timeout = patience }))
      assert.matches(try[2], out)
      assert.matches("\t" .. try[3] .. "\n$", out)
    end
  end)

  it("refuses what is no listening socket and leaves it open", function()
    local text = [[
      local net = require "neap.net"
      for _, address in ipairs { "systemd:x", arg[1], "fd:1", "fd:99" } do
        local _, message, code = net.listen(address)
        print(message, code)
      end
    ]]
    local null <close> = assert(io.open "/dev/null")
    local dgram <close> = assert(net.datagram "udp://127.0.0.1:0")
    local a, b = net.pair "unix"
    helper.after(function() b:close() end)
    helper.after(function() a:close() end)
    for reason, object in pairs {
      ["descriptor 3 is not a socket\tENOTSOCK"] = null,
      ["does not listen (datagram() takes it)\tEINVAL"] = dgram,
      ["does not listen (adopt() takes it)\tEINVAL"] = a,
    } do
      local out, err = child(text:gsub("arg%[1%]", '"fd:3"'),
        { listen = { object }, listen_names = { "x" } })
      local first, second = out:match "^([^\n]*)\n([^\n]*)\n"
      assert.truthy(first:find(reason, 1, true), out .. err)
      assert.truthy(second:find(reason, 1, true), out .. err) -- it was still there
      assert.truthy(out:find "listen fd:1: descriptor 1 is not a socket\tENOTSOCK", out)
      assert.truthy(out:find "listen fd:99: descriptor 99 is not open\tEBADF", out)
    end
  end)

  it("is nothing that grandchildren get", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local out, err = child([[
      local net, process = require "neap.net", require "neap.process"
      local l <close> = assert(net.listen "systemd:web")
      -- by the host's own means: no descriptor
      print(io.popen "readlink /proc/self/fd/3 || echo closed":read())
      local env = process.environ()
      print(env.LISTEN_PID, env.LISTEN_FDS, env.LISTEN_FDNAMES, env.PATH ~= nil)
      local show = "echo ${LISTEN_PID-none} ${LISTEN_FDS-none} ${LISTEN_FDNAMES-none} $KEPT;"
        .. "readlink /proc/self/fd/3 || echo closed"
      local p <close> = assert(process.spawn({ "sh", "-c", show }, { stdout = "pipe" }))
      io.write(p.stdout:read "a")
      p:wait()
    ]], (function()
      local env = process.environ()
      env.KEPT, env.LISTEN_FDS, env.LISTEN_PID = "kept", "7", "1"
      return { listen = { l }, listen_names = { "web" }, env = env }
    end)())
    assert.equal("closed\nnil\tnil\tnil\ttrue\nnone none none kept\nclosed\n", out, err)
  end)

  it("takes what systemd-socket-activate opened", function()
    local path = helper.socket_path()
    local file = script_file [[
      local net = require "neap.net"
      local l <close> = assert(net.listen "systemd:web")
      local c <close> = assert(l:accept { timeout = 20 })
      c:write("activated ", c:read(), "\n")
    ]]
    local p = helper.start(
      ("exec systemd-socket-activate -l %s --fdname=web %s %s"):format(path, helper.neap, file))
    p:expect "Listening on"
    local conn <close> = assert(net.connect("unix:" .. path))
    assert(conn:write "by systemd\n")
    assert.equal("activated by systemd", conn:read { timeout = patience }, p:err())
    conn:close()
    assert.equal(0, p:wait(), p:err())
  end)
end)

describe("net.inherited", function()
  it("gives what was passed, of whatever kind, once and by name", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local udp <close> = assert(net.datagram "udp://127.0.0.1:0")
    local path = helper.write_file(helper.tmpdir() .. "/f", "a file\n")
    local f = assert(io.open(path))
    helper.after(function() f:close() end)
    local a, b = net.pair "unix"
    helper.after(function()
      a:close()
      b:close()
    end)
    local out, err = child([[
      local net = require "neap.net"
      local web = assert(net.listen "systemd:web")
      do
        local conns <close> = assert(net.inherited "conn")
        print(#conns, conns.names[1])
        local conn <close> = conns[1]:adopt()
        conn:write "kept over a restart\n"
      end
      local rest <close> = assert(net.inherited())
      print(#rest, table.concat(rest.names, " "))
      print(io.popen "readlink /proc/self/fd/3 || echo closed":read()) -- sealed
      for i, fd in ipairs(rest) do print(rest.names[i], tostring(fd:adopt()):match "{(%a*)") end
      print(#assert(net.inherited()), #assert(net.inherited "web"))
      print((select(2, net.listen "systemd:state")))
    ]],
      { listen = { a, l, f, udp }, listen_names = { "conn", "web", "state", "dgram" } })
    assert.equal(table.concat({
      "1\tconn", "2\tstate dgram", "closed", "state\tfd", "dgram\tudp", "0\t0",
      "listen systemd:state: the descriptors of that name were taken before",
    }, "\n") .. "\n", (out:gsub("state\t%a*", "state\tfd")), err)
    assert.equal("kept over a restart", b:read { timeout = patience })
  end)

  it("does not give away what is the runtime's own", function()
    -- LISTEN_FDS lies: 3, 4 … of the child are what the loop has opened
    local command = ("export LISTEN_PID=$$ LISTEN_FDS=9; exec %s -e '%s'"):format(helper.neap,
      [[print(#net.inherited()); print(select(3, net.listen "systemd:unknown"))]])
    local p <close> = assert(process.spawn({ "sh", "-c", command }, { stdout = "pipe" }))
    assert.equal("0\nENOTSOCK\n", p.stdout:read("a", { timeout = patience }))
  end)

  it("tells that there is nothing, or nonsense", function()
    local text = [[print(require "neap.net".inherited())]]
    local env = process.environ()
    assert.equal("nil\tinherited: no descriptors were passed (LISTEN_PID is not set)\tENOENT\n",
      (child(text, { env = env })))
    assert.equal("0\n", (child([[print(#require "neap.net".inherited "x")]], { listen = {} })))
    assert.has_error(function() net.inherited {} end)
  end)
end)

describe("a datagram's systemd: address", function()
  it("takes what systemd-socket-activate opened", function()
    local path = helper.socket_path()
    local file = script_file [[
      local s <close> = assert(require "neap.net".datagram "systemd:in")
      print("got " .. s:recv { timeout = 20 })
    ]]
    local p = helper.start(("exec systemd-socket-activate -d -l %s --fdname=in %s %s"):format(
      path, helper.neap, file))
    p:expect "Listening on"
    local c <close> = assert(net.datagram(nil, { connect = "unix-dgram:" .. path }))
    assert(c:send "by systemd")
    p:expect "got by systemd"
    assert.equal(0, p:wait(), p:err())
  end)
end)

describe("process.spawn's listen", function()
  -- systemd-socket-activate passes on what sd_listen_fds(3) gives it: the check is systemd's own.
  it("satisfies systemd's own sd_listen_fds", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local p <close> = assert(process.spawn({
      "systemd-socket-activate", helper.neap, script_file [[
        local l <close> = assert(require "neap.net".listen "systemd:unknown")
        local c <close> = assert(l:accept { timeout = 20 })
        c:write("through two ", c:read(), "\n")
      ]] }, { listen = { l }, stderr = "pipe" }))
    local conn <close> = assert(net.connect(l.address))
    assert(conn:write "hands\n")
    assert.equal("through two hands", conn:read { timeout = patience })
    conn:close()
    assert.equal(0, select(3, p:wait { timeout = patience }))
  end)

  it("starts a dbus-daemon on our socket", function()
    local path = helper.socket_path()
    local l <close> = assert(net.listen("unix:" .. path))
    local bus <close> = assert(process.spawn(
      { "dbus-daemon", "--session", "--address=systemd:", "--nofork", "--nopidfile" },
      { listen = { l }, stderr = "null" }))
    local out, err = helper.run(("dbus-send --bus=unix:path=%s --print-reply "
      .. "--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"):format(path))
    assert.matches('string "org.freedesktop.DBus"', out, err)
    assert.equal("running", bus.status)
  end)

  -- nginx has a variable of its own for this; an old nginx passes its listeners to a new one so.
  it("has a sibling for nginx: descriptors at known numbers", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local dir, host = helper.tmpdir(), l.address:match "//(.*)"
    local paths = {}
    for _, name in ipairs { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" } do
      paths[#paths + 1] = ("%s_temp_path %s/%s;"):format(name, dir, name)
    end
    local file = helper.write_file(dir .. "/conf", ([[
daemon off; worker_processes 1; pid %s/pid; error_log %s/log notice;
events {}
http { access_log off; %s server { listen %s; return 200 "by nginx\n"; } }
]]):format(dir, dir, table.concat(paths, " "), host))
    local env = process.environ()
    env.NGINX = "4;"
    local null <close> = assert(io.open "/dev/null")
    local server <close> = assert(process.spawn({ "nginx", "-e", dir .. "/log", "-c", file },
      { fds = { null, l }, env = env, stderr = "null", grace = 5 }))
    assert.equal("by nginx\n", (helper.run("curl -s --max-time 10 http://" .. host)))
    assert.matches('using inherited sockets from "4;"', helper.read_file(dir .. "/log"))
    assert.equal("running", server.status)
  end)

  it("passes all sockets of a listener, and other descriptors after them", function()
    local l <close> = assert(net.listen { "127.0.0.1:0", "127.0.0.2:0" })
    local f <close> = assert(io.open "/dev/null")
    local p <close> = assert(process.spawn({ "sh", "-c",
      "echo $LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$)); readlink /proc/self/fd/5" },
      { listen = { l }, listen_names = { "web" }, fds = { f }, stdout = "pipe" }))
    assert.equal("2 web:web 0\n/dev/null\n", p.stdout:read("a", { timeout = patience }))
    p:wait()
  end)

  it("passes none when the list is empty, and no names when there are none", function()
    local p <close> = assert(process.spawn({ "sh", "-c",
      "echo $LISTEN_FDS ${LISTEN_FDNAMES-none} $((LISTEN_PID - $$))" },
      { listen = {}, stdout = "pipe" }))
    assert.equal("0 none 0\n", p.stdout:read("a", { timeout = patience }))
    p:wait()
  end)

  it("refuses bad arguments", function()
    local l <close> = assert(net.listen "127.0.0.1:0")
    local closed = assert(net.listen "127.0.0.1:0")
    closed:close()
    for _, try in ipairs {
      { { listen = 3 }, "option 'listen': a list of listeners expected" },
      { { listen = { "x" } }, "option 'listen': " },
      { { listen = { closed } }, "option 'listen': " },
      { { listen_names = { "a" } }, "as many names as 'listen' has listeners" },
      { { listen = { l }, listen_names = {} }, "as many names" },
      { { listen = { l }, listen_names = { "a:b" } }, "contains ':'" },
      { { listen = { l }, listen_names = { "a\n" } }, "not printable" },
      { { listen = { l }, listen_names = { "" } }, "empty" },
      { { listen = { l }, listen_names = { ("x"):rep(256) } }, "longer than 255" },
      { { listen = { l }, listen_names = { false } }, "a string expected" },
      { { listen = (function()
        local many = {}
        for i = 1, 254 do many[i] = l end
        return many
      end)() }, "too many" },
    } do
      local ok, message = pcall(process.spawn, { "true" }, try[1])
      assert.is_false(ok, try[2])
      assert.truthy(tostring(message):find(try[2], 1, true), message)
    end
  end)
end)

-- A manager on an address of its own, and a function that runs text in a child that tells it.
local function manager(address)
  local socket = assert(net.datagram("unix-dgram:" .. (address or helper.socket_path())))
  helper.after(function() socket:close() end)
  local env = process.environ()
  env.NOTIFY_SOCKET = socket.address:match "^unix%-dgram:(.*)$"
  return socket, env
end

describe("neap.notify", function()
  it("says what sd_notify(3) lays down", function()
    local path = helper.socket_path()
    for _, address in ipairs { path, "@neap-spec-" .. process.pid } do
      local socket, env = manager(address)
      local out, err = child([[
        local neap = require "neap"
        print(neap.notify { ready = true, status = "up; 100 %", watchdog = true, mainpid = 42 })
        print(neap.notify { stopping = true, ready = false })
        print(neap.notify { watchdog = "trigger" })
        print(neap.notify { reloading = true })
        print(neap.notify { fdstore_remove = "web" })
      ]], { env = env })
      assert.equal(("true\n"):rep(5), out, err)
      local function next_message() return assert(socket:recv { timeout = patience }) end
      assert.equal("MAINPID=42\nREADY=1\nSTATUS=up; 100 %\nWATCHDOG=1", next_message())
      assert.equal("STOPPING=1", next_message())
      assert.equal("WATCHDOG=trigger", next_message())
      local usec = tonumber(next_message():match "^RELOADING=1\nMONOTONIC_USEC=(%d+)$")
      assert.is_true(math.abs(usec / 1e6 - neap.now()) < 60)
      local uptime = tonumber(helper.read_file "/proc/uptime":match "^%S+")
      assert.is_true(uptime - usec / 1e6 > -1) -- CLOCK_MONOTONIC is behind CLOCK_BOOTTIME
      assert.equal("FDSTOREREMOVE=1\nFDNAME=web", next_message())
    end
  end)

  it("stores descriptors", function()
    local socket, env = manager()
    local out, err = child([[
      local neap, net = require "neap", require "neap.net"
      local l <close> = assert(net.listen "127.0.0.1:0")
      print(neap.notify { fdstore = { l }, fdname = "web" })
      print(l.address)
    ]], { env = env })
    local message, _, info = assert(socket:recv { fds = 2, info = true, timeout = patience })
    assert.equal("FDNAME=web\nFDSTORE=1", message, err)
    local fds <close> = info.fds
    assert.equal(1, #fds)
    local l <close> = assert(fds[1]:adopt())
    assert.equal("true\n" .. l.address .. "\n", out)
  end)

  it("waits at a barrier until the manager has closed its descriptor", function()
    local socket, env = manager()
    env.STAMP = helper.tmpdir() .. "/over"
    local p = assert(process.spawn({ helper.neap, script_file [[
      local neap = require "neap"
      print(neap.notify { ready = true, barrier = true })
      io.open(os.getenv "STAMP", "w"):close()
      print(neap.notify { barrier = true, timeout = 0.05 })
    ]] }, { env = env, stdout = "pipe" }))
    local _ <close> = p
    assert.equal("READY=1", socket:recv { timeout = patience })
    local message, _, info = assert(socket:recv { fds = 2, info = true, timeout = patience })
    assert.equal("BARRIER=1", message)
    assert.equal(1, #info.fds)
    neap.sleep(0.1)
    assert.is_nil(lfs.attributes(env.STAMP))
    info.fds[1]:close()
    assert.equal("true", p.stdout:read { timeout = patience })
    assert.matches("^nil\tnotify: barrier: .*timed out.*\tETIMEDOUT$",
      p.stdout:read { timeout = patience })
    p:wait { timeout = patience }
  end)

  it("tells that nobody is there", function()
    local text = [[print(require "neap".notify { ready = true })]]
    local env = process.environ()
    for address, expected in pairs {
      [""] = "NOTIFY_SOCKET is not set%)\tENOTCONN",
      ["vsock:2:3"] = "no AF_UNIX address\tEAFNOSUPPORT",
      ["@"] = "no AF_UNIX address\tEAFNOSUPPORT",
      ["/nonexistent/neap"] = "^nil\tnotify: .*/nonexistent/neap.*\tENOENT",
      ["@neap-nobody-here"] = "\tECONNREFUSED",
      ["/" .. ("x"):rep(200)] = "\tENAMETOOLONG",
    } do
      env.NOTIFY_SOCKET = address
      local out = child(text, { env = env })
      assert.matches(expected, out)
    end
    env.NOTIFY_SOCKET = nil
    assert.matches("\tENOTCONN\n$", (child(text, { env = env })))
  end)

  it("raises for what is no message, at the caller's line", function()
    for _, try in ipairs {
      { nil, "table expected, got nil" },
      { { redy = true }, "unknown field 'redy'" },
      { { ready = 1 }, "field 'ready': true or false expected" },
      { { status = "a\nREADY=1" }, "field 'status': a string of one line expected" },
      { { mainpid = 1.5 }, "field 'mainpid': a process id expected" },
      { { watchdog = "now" }, "field 'watchdog': true, false or 'trigger' expected" },
      { { fdname = "a:b", fdstore = {} }, "field 'fdname': a name" },
      { { fdname = "a" }, "only with 'fdstore'" },
      { { fdstore = 3 }, "field 'fdstore': a list" },
      { { timeout = -1 }, "field 'timeout': seconds" },
    } do
      local ok, message = pcall(function() return (neap.notify(try[1])) end)
      assert.is_false(ok)
      assert.matches("^[^:]*systemd_spec%.lua:%d+: bad argument #1 to 'notify' %(", message)
      assert.truthy(message:find(try[2], 1, true), message)
    end
  end)
end)

describe("systemd-notify", function()
  it("is understood, its barrier included", function()
    local socket, env = manager()
    local p <close> = assert(process.spawn(
      { "systemd-notify", "--ready", "--status=from the real one" }, { env = env }))
    local message, _, info = assert(socket:recv { fds = 1, info = true, timeout = patience })
    assert.truthy(message:find("READY=1", 1, true))
    assert.truthy(message:find("STATUS=from the real one", 1, true))
    local pid = info.credentials.pid -- run by root it speaks for its parent
    assert.is_true(pid == p.pid or pid == process.pid)
    message, _, info = assert(socket:recv { fds = 1, info = true, timeout = patience })
    assert.equal("BARRIER=1", message)
    assert.equal("ETIMEDOUT", select(3, p:wait { timeout = 0.1 }))
    info.fds[1]:close()
    assert.same({ true, "exit", 0 }, { p:wait { timeout = patience } })
  end)
end)
