-- Every error code that the reference or the manual promises, made to happen, call by call.
--
-- The promises are read from the documents; `causes` has one cause for each pair of call and code.
-- A promise without a cause fails, and so does a cause that nobody promised: the documents and
-- what happens are kept the same. Causes are real where nature has one; else the kernel's answer is
-- injected by strace.

local certs = require "spec.support.certs"
local codec = require "neap.codec"
local core = require "neap.codec.core"
local dns = require "neap.dns"
local fs = require "neap.fs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"
local tls = require "neap.tls"
local process = require "neap.process"
local websocket = require "neap.websocket"
local zlib = require "neap.zlib"

local soon <const> = 0.01
local P = require("lpeg").P

-- ---- children: what needs another environment than this process has ----

-- The lines of a child's output are message and code of the failure it met.
local function child(command, text, env)
  local dir = helper.tmpdir()
  os.execute("chmod 755 " .. dir)
  local path = helper.write_file(dir .. "/s.lua", [[
    local neap, net = require "neap", require "neap.net"
    local process, dns = require "neap.process", require "neap.dns"
    local value, message, code = (function(...) ]] .. text .. [[ end)(...)
    io.stdout:write(tostring(value), "\n", tostring(message), "\n", tostring(code), "\n")
    os.exit(0)]])
  local line = command:gsub("NEAP", ("%s %s %s"):format(helper.neap, path, dir))
  local out, err, status = helper.run(line, { env = env })
  local value, message, code = out:match "^(.-)\n(.-)\n(.-)\n$"
  assert(code, ("%s\n%s%s%s"):format(line, out, err, tostring(status)))
  if value ~= "nil" then return value end
  return nil, message, code
end

-- Without a descriptor to spare.
local function starved(text)
  return function()
    return child("ulimit -n 40; exec NEAP", [[
      local l, held = assert(net.listen "tcp://127.0.0.1:0"), {}
      local a, b = assert(net.pair())
      assert(a:send("x", { fds = { 0, 0 } }))
      KEPT = { l, a, b, held } -- a tail call leaves the locals
      local function fill()
        repeat
          local f = io.open "/dev/null"
          held[#held + 1] = f
        until not f
      end
      fill()
      ]] .. text)
  end
end

local function injected(syscalls, code, text)
  return function()
    local inject = syscalls:gsub("%%", code)
    return child("exec env ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null -e inject="
      .. inject .. " NEAP", text)
  end
end

-- Permissions are nothing to root.
local function unprivileged(text)
  return function()
    local root = helper.run "id -u" == "0\n"
    local drop = root and "setpriv --reuid 65534 --clear-groups --inh-caps=-all " or ""
    return child("exec " .. drop .. "NEAP", text)
  end
end

-- With a resolver that answers as the name says: spec/support/names.c.
local function named(text)
  return function() return child("exec NEAP", text, helper.resolver()) end
end

-- ---- situations ----

local function closing(...)
  local list = { ... }
  helper.after(function()
    for _, object in ipairs(list) do object:close() end
  end)
  return ...
end

local function pair(kind) return closing(assert(net.pair(kind))) end

-- A stream whose peer has said these bytes, and ended.
local function said(bytes)
  local a, b = pair()
  b:write(bytes)
  b:shutdown()
  return a
end

local function closed()
  local a = pair()
  a:close()
  return a
end

-- A TCP connection that its peer has reset.
local function reset()
  local l = closing(assert(net.listen "tcp://127.0.0.1:0"))
  local c = closing(assert(net.connect(l.address)))
  assert(l:accept()):abort()
  return c
end

local function nobody()
  local l = assert(net.listen "tcp://127.0.0.1:0")
  l:close()
  return l.address
end

local function udp(opts) return closing(assert(net.datagram("udp://127.0.0.1:0", opts))) end

-- A connected UDP socket whose first message nobody got.
local function refused()
  local gone = assert(net.datagram "udp://127.0.0.1:0")
  gone:close()
  local s = udp { connect = gone.address }
  assert(s:send "x")
  return s
end

-- Asks a name server over TCP that answers so.
local function ask_server(answer)
  local l = closing(assert(net.listen "tcp://127.0.0.1:0"))
  neap.spawn(function()
    local c <close> = assert(l:accept())
    c:unpack ">s2"
    answer(c)
  end)
  return dns.query("name", "A", { server = l.address:match "//(.*)", tcp = true })
end

-- What dns.query or dns.resolve makes of a name server's answer.
local function name_server_says(call, rcode)
  return function()
    local s <close> = dns.serve("127.0.0.1:0", function(q) return dns.reply(q, rcode) end)
    return dns[call]("name", "A", { [call == "query" and "server" or "servers"] = s.address,
      timeout = 5 * helper.slow })
  end
end

local function serve_tls()
  local opts = certs.server { log = function() end }
  local server = net.serve("tls://127.0.0.1:0", opts, function() end)
  helper.after(function() server:stop(0) end)
  return server.address
end

local function expired(f, ...)
  local _ <close> = neap.deadline(soon)
  return f(...)
end

local function raised(f)
  local ok, err = pcall(f)
  assert(not ok)
  return nil, tostring(err), err.code
end

local function true_child() return closing(assert(process.spawn { "sleep", "60" })) end

local too_long <const> = "unix:/" .. ("x"):rep(200)
local elsewhere <const> = "192.0.2.1:0" -- an address for documents, RFC 5737

-- ---- the causes, by call and code ----

local causes = {
  ["neap.sleep"] = { ETIMEDOUT = function() return expired(neap.sleep, 10) end },
  ["neap.group"] = {
    ETIMEDOUT = function()
      return expired(neap.group, function(g) g:spawn(neap.sleep, 10) end)
    end,
    ECANCELED = function()
      return neap.group(function(g)
        g:cancel()
        neap.sleep(10)
      end)
    end,
  },
  ["neap.timeout"] = { ETIMEDOUT = function() return neap.timeout(soon, neap.sleep, 10) end },
  ["neap.all"] = {
    ETIMEDOUT = function() return expired(neap.all, function() neap.sleep(10) end) end,
  },
  ["neap.race"] = {
    ETIMEDOUT = function() return expired(neap.race, function() neap.sleep(10) end) end,
  },
  ["neap.every"] = {
    ETIMEDOUT = function()
      return raised(function()
        local _ <close> = neap.deadline(soon)
        for _ in neap.every(10) do end
      end)
    end,
  },
  ["neap.select"] = {
    ETIMEDOUT = function() return neap.select { neap.event(), timeout = soon } end,
  },
  ["neap.watchdog"] = {
    EOPNOTSUPP = function()
      local out = helper.run(([[%sLUA_CPATH='%s/?.so' exec lua5.4 -e '
        local neap = require "neap"
        print(select(2, neap.run(neap.watchdog, 1)))']]):format(helper.preload(), helper.build))
      return nil, out:match "^(.*)\t(.-)\n$"
    end,
  },
  ["neap.notify"] = {
    ENOTCONN = function()
      return child("exec env -u NOTIFY_SOCKET NEAP", "return neap.notify {}")
    end,
    EAFNOSUPPORT = function()
      return child("exec NEAP", "return neap.notify { ready = true }", { NOTIFY_SOCKET = "x" })
    end,
    ENOENT = function()
      local env = { NOTIFY_SOCKET = helper.socket_path() }
      return child("exec NEAP", "return neap.notify { ready = true }", env)
    end,
    ECONNREFUSED = function()
      local path = helper.socket_path()
      assert(net.datagram("unix-dgram:" .. path)):close()
      return child("exec NEAP", "return neap.notify { ready = true }", { NOTIFY_SOCKET = path })
    end,
    ETIMEDOUT = function()
      local path = helper.socket_path()
      closing(assert(net.datagram("unix-dgram:" .. path)))
      local text = "return neap.notify { barrier = true, timeout = 0.01 }"
      return child("exec NEAP", text, { NOTIFY_SOCKET = path })
    end,
  },
  ["task:join"] = {
    ETIMEDOUT = function()
      local task = neap.spawn(neap.sleep, 60)
      local result = table.pack(task:join { timeout = soon })
      task:cancel()
      return table.unpack(result)
    end,
  },
  ["channel:put"] = {
    EPIPE = function()
      local ch = neap.channel()
      ch:close()
      return ch:put(1)
    end,
    ETIMEDOUT = function() return neap.channel():put(1, { timeout = soon }) end,
  },
  ["channel:get"] = {
    ETIMEDOUT = function() return neap.channel():get { timeout = soon } end,
  },
  ["event:wait"] = { ETIMEDOUT = function() return neap.event():wait { timeout = soon } end },
  ["semaphore:acquire"] = {
    ETIMEDOUT = function() return neap.semaphore(0):acquire { timeout = soon } end,
  },
  ["signals:wait"] = {
    ETIMEDOUT = function() return closing(neap.signals "USR2"):wait { timeout = soon } end,
    ECANCELED = function()
      local s = neap.signals "USR2"
      s:close()
      return s:wait()
    end,
  },

  ["neap.net.connect"] = {
    EINVAL = function() return net.connect "tcp://127.0.0.1:http" end,
    EPROTONOSUPPORT = function() return net.connect "raw:icmp" end,
    ENOTFOUND = named [[return net.connect "missing:80"]],
    EAI_AGAIN = named [[return net.connect "later:80"]],
    EAI_FAIL = named [[return net.connect "never:80"]],
    ETIMEDOUT = named [[return net.connect("slow:80", { timeout = 0.01 })]],
    ECONNREFUSED = function() return net.connect(nobody()) end,
    EADDRINUSE = function()
      local used = closing(assert(net.listen "tcp://127.0.0.1:0"))
      return net.connect(nobody(), { bind = used.address })
    end,
    EADDRNOTAVAIL = function() return net.connect(nobody(), { bind = elsewhere }) end,
    EACCES = unprivileged [[return net.connect("udp://255.255.255.255:9")]],
    ENAMETOOLONG = function() return net.connect(too_long) end,
    ENOENT = function() return net.connect("unix:" .. helper.socket_path()) end,
    ECERT = function() return net.connect(serve_tls()) end,
    ETLS = function()
      local server = net.serve("tcp://127.0.0.1:0", function(c) c:write "no handshake\n" end)
      helper.after(function() server:stop(0) end)
      return net.connect((server.address:gsub("^tcp", "tls")))
    end,
    ENETUNREACH = function() return net.connect "tcp://255.255.255.255:9" end,
    EHOSTUNREACH = injected("connect:error=%", "EHOSTUNREACH",
      [[return net.connect "tcp://127.0.0.1:1"]]),
    EMFILE = starved "return net.connect(l.address)",
    ENFILE = injected("socket:error=%", "ENFILE", [[return net.connect "tcp://127.0.0.1:1"]]),
  },
  ["neap.net.resolve"] = {
    EINVAL = function() return net.resolve "" end,
    EPROTONOSUPPORT = function() return net.resolve "unix:/tmp" end,
    ENOTFOUND = named [[return net.resolve "missing"]],
    EAI_AGAIN = named [[return net.resolve "later"]],
    EAI_FAIL = named [[return net.resolve "never"]],
    ETIMEDOUT = named [[return net.resolve("slow", { timeout = 0.01 })]],
  },
  ["neap.net.inherited"] = {
    ENOENT = function() return net.inherited() end,
    EINVAL = function()
      return child("export LISTEN_PID=$$ LISTEN_FDS=x; exec NEAP", "return net.inherited()")
    end,
  },
  ["neap.net.listen"] = {
    EADDRINUSE = function()
      return net.listen(closing(assert(net.listen "tcp://127.0.0.1:0")).address)
    end,
    EADDRNOTAVAIL = function() return net.listen(elsewhere) end,
    EACCES = unprivileged [[return net.listen "unix:/not.ours"]],
    ENAMETOOLONG = function() return net.listen(too_long) end,
    EINVAL = function() return net.listen "tcp://[::1" end,
    EOPNOTSUPP = function() return net.listen "udp://127.0.0.1:0" end,
    ENOTFOUND = named [[return net.listen "missing:0"]],
    EAI_AGAIN = named [[return net.listen "later:0"]],
    EAI_FAIL = named [[return net.listen "never:0"]],
    ENOENT = function() return net.listen("unix:" .. helper.tmpdir() .. "/none/s") end,
    EBADF = function() return net.listen("fd:" .. 987) end,
    ENOTSOCK = function() return net.listen "fd:0" end,
    EMFILE = starved [[return net.listen "tcp://127.0.0.1:0"]],
    ENFILE = injected("socket:error=%", "ENFILE", [[return net.listen "tcp://127.0.0.1:0"]]),
  },
  ["neap.net.datagram"] = {
    EADDRINUSE = function() return net.datagram(udp().address) end,
    EADDRNOTAVAIL = function() return net.datagram("udp://" .. elsewhere) end,
    EACCES = unprivileged [[return net.datagram "unix-dgram:/not.ours"]],
    EINVAL = function() return net.datagram "udp://127.0.0.1:x" end,
    EPERM = unprivileged [[return net.datagram "raw:icmp"]],
    ENODEV = function() return net.datagram "udp://[fe80::1%no-such]:0" end,
    EPROTOTYPE = function() return net.datagram "tcp://127.0.0.1:0" end,
  },
  ["neap.net.pair"] = {
    EMFILE = starved "return net.pair()",
    ENFILE = injected("socketpair:error=%", "ENFILE", "return net.pair()"),
    ENOMEM = injected("socketpair:error=%", "ENOMEM", "return net.pair()"),
  },
  ["neap.net.adopt"] = {
    EBADF = function() return net.adopt(987) end,
    EISDIR = function()
      return child("exec NEAP 3</tmp", "return net.adopt(3)")
    end,
    EOPNOTSUPP = function() -- an epoll set
      return child("exec NEAP", [[
        for i = 3, 20 do
          local p = io.popen("readlink /proc/" .. process.pid .. "/fd/" .. i)
          if p:read "a":find "eventpoll" then return net.adopt(i) end
        end]])
    end,
  },
  ["neap.net.own"] = {
    EBADF = function() return net.own(987) end,
  },
  ["neap.net.pipe"] = {
    ETIMEDOUT = function()
      local a, b = pair(), pair()
      return net.pipe(a, b, { timeout = soon })
    end,
    ECANCELED = function()
      local a, b = pair(), pair()
      neap.spawn(function() a:close() end)
      return net.pipe(a, b)
    end,
  },
  ["neap.net.hub"] = {
    ENOBUFS = function()
      local hub, a = net.hub { limit = 1000 }, pair()
      hub:add(a)
      for _ = 1, 100 do hub:send(("x"):rep(64 << 10)) end
      return a:write "x"
    end,
  },

  ["stream:read"] = {
    ETIMEDOUT = function() return pair():read { timeout = soon } end,
    EMSGSIZE = function()
      local a = said "12345"
      a.line_max = 4
      return a:read()
    end,
    EPIPE = function() return said "*1\r\n$5\r\n":read(codec.resp()) end,
    EBADMSG = function() return said "*x\r\n":read(codec.resp()) end,
    ECONNRESET = function() return reset():read() end,
    ETRUNCATED = function()
      local a, b = pair()
      neap.spawn(function()
        b:starttls(certs.server { server = true })
        b:abort()
      end)
      assert(a:starttls(certs.client { name = "localhost" }))
      return a:read()
    end,
    ECANCELED = function() return closed():read() end,
  },
  ["stream:recv"] = {
    EMSGSIZE = function()
      local a, b = pair()
      assert(b:send("x", { fds = { 0, 0 } }))
      return a:recv(1, { fds = 1 })
    end,
    EMFILE = starved "return b:recv(1, { fds = 2 })",
  },
  ["stream:unpack"] = {
    EPIPE = function() return said "\0":unpack ">I2" end,
    EBADMSG = function() return said(("\xff"):rep(16)):unpack "I16" end,
  },
  ["stream:read_message"] = {
    EBADMSG = function() return said "03:abc,":read_message(codec.netstring()) end,
    EMSGSIZE = function() return said "3:abc,":read_message(codec.netstring(2)) end,
    EPIPE = function() return said "3:a":read_message(codec.netstring()) end,
    ETIMEDOUT = function() return pair():read_message(codec.line(), { timeout = soon }) end,
    ECANCELED = function() return closed():read_message(codec.line()) end,
  },
  ["stream:send_message"] = {
    EINVAL = function() return pair():send_message(codec.line(), "two\nlines") end,
    EMSGSIZE = function() return pair():send_message(codec.netstring(2), "abc") end,
  },
  ["stream:starttls"] = {
    EPROTO = function()
      local a = said "go on\nplaintext"
      a:read()
      return a:starttls { name = "server" }
    end,
    ETIMEDOUT = function() return pair():starttls { name = "server", timeout = soon } end,
    ECERT = function() -- of an authority that we do not know
      local a, b = pair()
      neap.spawn(b.starttls, b, certs.server { server = true })
      return a:starttls { name = "localhost" }
    end,
    ETLS = function() return said "no handshake\n":starttls { name = "server" } end,
  },
  ["stream:unread"] = { ECANCELED = function() return closed():unread "x" end },
  ["stream:write"] = {
    EPIPE = function()
      local a, b = pair()
      b:close()
      while a:write "x" and a:flush() do end
      return a:write "x"
    end,
    ECONNRESET = function()
      local c = reset()
      c:read()
      return c:write "x"
    end,
    ETIMEDOUT = function() return pair():write(("x"):rep(8 << 20), { timeout = soon }) end,
    ECANCELED = function() return closed():write "x" end,
  },
  ["stream:send"] = {
    EOPNOTSUPP = function()
      local c = reset()
      return c:send("x", { fds = { 0 } })
    end,
    ETIMEDOUT = function()
      local a = pair()
      repeat
        local ok, message, code = a:send(("x"):rep(100000), { timeout = soon })
        if not ok then return nil, message, code end
      until false
    end,
  },
  ["stream:take"] = { EOPNOTSUPP = function() return pair "mem":take() end },
  ["stream:option"] = {
    ENOTSOCK = function() return pair "mem":option "type" end,
    ENOPROTOOPT = function() return pair():option "nodelay" end,
  },
  ["stream:credentials"] = {
    ENOTSOCK = function() return pair "mem":credentials() end,
    EOPNOTSUPP = function()
      local l = closing(assert(net.listen "tcp://127.0.0.1:0"))
      return closing(assert(net.connect(l.address))):credentials()
    end,
  },
  ["stream:match"] = {
    EMSGSIZE = function() return said "xxxxx":match(P "y", 4) end,
    EPIPE = function() return said "x":match(P "xy") end,
    ETIMEDOUT = function() return pair():match(P "x", nil, { timeout = soon }) end,
    EBADMSG = function()
      return said(("("):rep(1000)):match(P { "(" * require("lpeg").V(1) ^ 0 * ")" })
    end,
  },

  ["listener:accept"] = {
    ETIMEDOUT = function()
      return closing(assert(net.listen "tcp://127.0.0.1:0")):accept { timeout = soon }
    end,
    ECANCELED = function()
      local l = assert(net.listen "tcp://127.0.0.1:0")
      l:close()
      return l:accept()
    end,
  },
  ["listener:take"] = {
    EOPNOTSUPP = function() return closing(assert(net.listen "mem:codes")):take() end,
  },
  ["datagram:send"] = {
    EMSGSIZE = function() return udp { connect = "127.0.0.1:9" }:send(("x"):rep(70000)) end,
    EDESTADDRREQ = function() return udp():send "x" end,
    ECONNREFUSED = function() return refused():send "y" end,
    EPIPE = function()
      local a, b = pair "unix-seqpacket"
      b:close()
      return a:send "x"
    end,
    ENOENT = function()
      local s = closing(assert(net.datagram "unix-dgram:"))
      return s:send("x", "unix-dgram:" .. helper.socket_path())
    end,
    ENAMETOOLONG = function()
      return closing(assert(net.datagram "unix-dgram:")):send("x", "unix-dgram:" .. too_long:sub(6))
    end,
    ETIMEDOUT = function()
      local a = pair "unix-dgram"
      repeat
        local ok, message, code = a:send("x", { timeout = soon })
        if not ok then return nil, message, code end
      until false
    end,
    EHOSTUNREACH = injected("sendto,sendmsg:error=%", "EHOSTUNREACH",
      [[return net.datagram():send("x", "127.0.0.1:9")]]),
    ENETUNREACH = injected("sendto,sendmsg:error=%", "ENETUNREACH",
      [[return net.datagram():send("x", "127.0.0.1:9")]]),
    ENODEV = function() return udp():send("x", "[fe80::1%no-such]:9") end,
    EOPNOTSUPP = function() return udp { connect = "127.0.0.1:9" }:send("x", { fds = { 0 } }) end,
  },
  ["datagram:send_message"] = {
    EINVAL = function() return udp():send_message(codec.line(), "a\nb") end,
    EMSGSIZE = function() return udp():send_message(codec.line(1), "ab") end,
  },
  ["datagram:read_message"] = {
    EBADMSG = function()
      local a = udp()
      assert(a:send("12345", a.address))
      return a:read_message(codec.netstring(), { timeout = 5 })
    end,
    EMSGSIZE = function()
      local a = udp()
      assert(a:send("12345\n", a.address))
      return a:read_message(codec.line(4), { timeout = 5 })
    end,
  },
  ["datagram:recv"] = {
    EMSGSIZE = function()
      local a = udp()
      assert(a:send("12345", a.address))
      return a:recv(4)
    end,
    ECONNREFUSED = function() return refused():recv { timeout = 5 } end,
    EMFILE = starved [[
      for i = 1, 6 do held[i]:close() end
      local c, d = assert(net.pair "unix-dgram")
      assert(c:send("x", { fds = { 0, 0, 0 } }))
      fill()
      return d:recv { fds = 3 }]],
  },
  ["datagram:recv_batch"] = {
    EMSGSIZE = function()
      local a = udp()
      assert(a:send("12345", a.address))
      return a:recv_batch(4, { max = 4 })
    end,
  },
  ["datagram:recv_error"] = {
    EOPNOTSUPP = function() return udp():recv_error() end,
    ETIMEDOUT = function() return udp { errors = true }:recv_error { timeout = soon } end,
    ECANCELED = function()
      local a = udp { errors = true }
      a:close()
      return a:recv_error()
    end,
  },
  ["datagram:join"] = {
    EINVAL = function() return udp():join "127.0.0.1" end,
    ENODEV = function() return udp():join("239.1.2.3", { interface = "no-such" }) end,
    EADDRINUSE = function()
      local a = udp()
      assert(a:join("239.1.2.3", { interface = "lo" }))
      return a:join("239.1.2.3", { interface = "lo" })
    end,
    ENOBUFS = function() -- net.ipv4.igmp_max_memberships
      local a = udp()
      for i = 1, 2000 do
        local group = ("239.1.%d.%d"):format(i // 200, i % 200)
        local ok, message, code = a:join(group, { interface = "lo" })
        if not ok then return nil, message, code end
      end
    end,
  },
  ["datagram:option"] = {
    ENODEV = function() return udp():option("multicast_interface", "no-such") end,
  },
  ["datagram:leave"] = {
    EADDRNOTAVAIL = function() return udp():leave("239.1.2.3", { interface = "lo" }) end,
  },
  ["descriptor:adopt"] = {
    EOPNOTSUPP = function()
      return child("exec NEAP", [[
        for i = 3, 20 do
          local p = io.popen("readlink /proc/" .. process.pid .. "/fd/" .. i)
          if p:read "a":find "eventpoll" then
            local a, b = net.pair()
            assert(a:send("x", { fds = { i } }))
            local _, fds = b:recv(1, { fds = 1 })
            return fds[1]:adopt()
          end
        end]])
    end,
    EISDIR = function() return child("exec NEAP 3</tmp", "return net.own(3):adopt()") end,
  },
  ["hub:add"] = { ECANCELED = function() return net.hub():add(closed()) end },
  ["hub:send"] = {
    ETIMEDOUT = function()
      local hub, a = net.hub { policy = "wait", limit = 1000 }, pair()
      hub:add(a)
      repeat
        local n, message, code = hub:send(("x"):rep(64 << 10), { timeout = soon })
        if not n then return nil, message, code end
      until false
    end,
  },

  ["neap.dns.query"] = {
    NXDOMAIN = name_server_says("query", "NXDOMAIN"),
    SERVFAIL = name_server_says("query", "SERVFAIL"),
    REFUSED = name_server_says("query", "REFUSED"),
    NOTIMP = name_server_says("query", "NOTIMP"),
    FORMERR = name_server_says("query", "FORMERR"),
    EINVAL = function() return dns.query("a..b", "A", { server = "127.0.0.1:9" }) end,
    ETIMEDOUT = function()
      local server = udp().address:match "//(.*)"
      return dns.query("name", "A", { server = server, timeout = 3 * soon })
    end,
    ECONNREFUSED = function()
      return dns.query("name", "A", { server = nobody():match "//(.*)", tcp = true })
    end,
    EBADMSG = function() return ask_server(function(c) c:write "\0\1x" end) end,
    EPIPE = function() return ask_server(function() end) end,
  },

  ["neap.dns.resolve"] = {
    NXDOMAIN = name_server_says("resolve", "NXDOMAIN"),
    SERVFAIL = name_server_says("resolve", "SERVFAIL"),
    REFUSED = name_server_says("resolve", "REFUSED"),
    NOTIMP = name_server_says("resolve", "NOTIMP"),
    FORMERR = name_server_says("resolve", "FORMERR"),
    NODATA = name_server_says("resolve", "NOERROR"),
    EINVAL = function() return dns.resolve "a..b" end,
    ETIMEDOUT = function()
      local server = udp().address:match "//(.*)"
      return dns.resolve("name", "A", { servers = server, timeout = 3 * soon })
    end,
    ECONNREFUSED = function()
      return dns.resolve("name", "A", { servers = nobody():match "//(.*)", tcp = true })
    end,
    ENETUNREACH = function()
      return child("exec unshare -Urn NEAP", [[
        return require "neap.dns".resolve("name", "A", { servers = "192.0.2.1" })]])
    end,
    EMFILE = starved [[return dns.resolve("name", "A", { servers = "192.0.2.1" })]],
    EBADMSG = function()
      local s = udp()
      neap.spawn(function()
        local query, from = s:recv()
        s:send(query:sub(1, 2) .. "\x81\x80" .. query:sub(5, 6) .. "\0\1" .. query:sub(9), from)
      end)
      return dns.resolve("name", "A", { servers = s.address, edns = false })
    end,
    ENOBUFS = function()
      local r <close> = dns.resolver { servers = udp().address, timeout = 60 }
      local asker, result = nil, nil
      local ok = pcall(neap.group, function(g)
        while not result do
          asker = g:spawn(function()
            local t = table.pack(r:resolve "name")
            result = t
            error "enough"
          end)
          neap.yield()
        end
      end)
      assert(asker and not ok)
      return table.unpack(result, 1, 3)
    end,
  },

  ["resolver:resolve"] = {
    ECANCELED = function()
      local r = dns.resolver()
      r:close()
      return r:resolve "name"
    end,
  },

  ["neap.process.spawn"] = {
    ENOENT = function() return process.spawn { "no-such-program" } end,
    EACCES = function() return process.spawn { helper.write_file(helper.socket_path(), "") } end,
    ENOEXEC = function()
      local path = helper.write_file(helper.socket_path(), "no program")
      os.execute("chmod 755 " .. path)
      return process.spawn { path }
    end,
    ENOSPC = injected("openat:error=% -P /dev/ptmx", "ENOSPC", [[
      return process.spawn({ "true" }, { pty = true })]]),
    EPERM = unprivileged [[return process.spawn({ "true" }, { uid = 0 })]],
    E2BIG = function() return process.spawn { "true", ("x"):rep(1 << 20) } end,
    ENOTDIR = function() return process.spawn({ "true" }, { cwd = "/dev/null" }) end,
    EMFILE = starved [[return process.spawn({ "true" }, { stdout = "pipe" })]],
    EAGAIN = injected("clone,clone3,fork,vfork:error=%", "EAGAIN", [[
      return process.spawn { "true" }]]),
    EBADF = function() return process.spawn({ "true" }, { fds = { 987 } }) end,
  },
  ["process:wait"] = { ETIMEDOUT = function() return true_child():wait { timeout = soon } end },
  ["neap.process.run"] = {
    ETIMEDOUT = function() return process.run({ "sleep", "60" }, { timeout = soon }) end,
    EMSGSIZE = function() return process.run({ "echo", "long" }, { output_max = 1 }) end,
  },
  ["process:resize"] = {
    ENOTTY = function() return true_child():resize(1, 1) end,
    ECANCELED = function()
      local p = assert(process.spawn({ "sleep", "60" }, { pty = true }))
      p:close()
      return p:resize(1, 1)
    end,
  },
  ["process:kill"] = {
    EINVAL = function() return true_child():kill("TERM", { group = true }) end,
    ESRCH = function()
      local p = closing(assert(process.spawn { "true" }))
      p:wait()
      return p:kill()
    end,
    EPERM = injected("kill,pidfd_send_signal:error=%", "EPERM", [[
      return assert(process.spawn { "sleep", "1" }):kill(0)]]),
  },
}

causes["neap.tls.context"] = {
  ECERT = function() -- the key of another certificate
    return tls.context { cert = certs.path "server.pem", key = certs.path "other.key" }
  end,
  ENOENT = function() return tls.context { ca = "/nonexistent" } end,
  EINVAL = function() return tls.context { ca = "/dev/null" } end,
  EACCES = function()
    return child("setpriv --reuid 65534 --clear-groups NEAP", [[
      return require("neap.tls").context { ca = "/etc/shadow" }]])
  end,
}

-- ---- HTTP ----

local function http_server(...) return (select(2, servers.http(...))) end

-- The reply's body, of a server that says these bytes to every request.
local function http_answer(bytes, timeout)
  local server = net.serve("127.0.0.1:0", { log = function() end }, function(conn)
    conn:read_until "\r\n\r\n"
    conn:write(bytes)
    if timeout then conn:read() end
  end)
  helper.after(function() server:stop(0) end)
  return http.get((server.address:gsub("^tcp", "http")), { timeout = timeout, max_body = 10 })
end

local function body_of(...)
  local reply <close> = assert(http_answer(...))
  return reply:body()
end

-- What req:body() gives for a request with these bytes as its body.
local function received(fields, bytes, opts)
  local results
  local url = http_server(function(req) results = table.pack(req:body()) end, opts)
  local conn <close> = assert(net.connect((url:gsub("^http", "tcp"))))
  conn:write("POST / HTTP/1.1\r\nHost: a\r\n", fields, "\r\n\r\n", bytes)
  if not (opts and opts.body_timeout) then conn:shutdown() end
  conn:read "a"
  return table.unpack(results, 1, 3)
end

local ok = "HTTP/1.1 200 OK\r\n"

causes["response:file"] = {
  EINVAL = function()
    local results
    local reply = http.get(http_server(function(_, res)
      results = table.pack(res:file "/dev/null")
      res:send(404)
    end))
    reply:close()
    return table.unpack(results, 1, results.n)
  end,
}
causes["response:events"] = {
  EPIPE = function()
    local results
    local url = http_server(function(_, res) results = table.pack(res:events() "an event") end)
    http.request(url, { method = "HEAD" }):close()
    return table.unpack(results, 1, results.n)
  end,
}
local function refusing_proxy()
  return http_server(function(_, res) res:send(407) end)
end

causes["neap.http.request"] = {
  EINVAL = function() return http.get "ftp://a/" end,
  ELOOP = function()
    return http.get(http_server(function(_, res) res:redirect "/" end))
  end,
  EBADMSG = function() return http_answer "SSH-2.0-x\r\n\r\n" end,
  EPIPE = function() return http_answer "" end,
  ETIMEDOUT = function() return http_answer("", soon) end,
  EPROXY = function() return http.get("https://127.0.0.1:1/", { proxy = refusing_proxy() }) end,
}
causes["reply:body"] = {
  EMSGSIZE = function() return body_of(ok .. "Content-Length: 11\r\n\r\n") end,
  EBADMSG = function() return body_of(ok .. "Transfer-Encoding: chunked\r\n\r\nx\r\n") end,
  EPIPE = function() return body_of(ok .. "Content-Length: 5\r\n\r\nabc") end,
  ETIMEDOUT = function() return body_of(ok .. "Content-Length: 5\r\n\r\nabc", 0.1) end,
}
causes["request:body"] = {
  EMSGSIZE = function() return received("Content-Length: 11", "", { max_body = 10 }) end,
  EBADMSG = function() return received("Transfer-Encoding: chunked", "x\r\n") end,
  EPIPE = function() return received("Content-Length: 5", "abc") end,
  ETIMEDOUT = function() return received("Content-Length: 5", "abc", { body_timeout = 0.05 }) end,
}

-- What await gives when the client leaves after so long.
local function awaited(leaves_after, opts)
  local results = neap.channel(1)
  local url = http_server(function(req) results:put(table.pack(req:await(neap.event(), opts))) end)
  local conn <close> = assert(net.connect((url:gsub("^http", "tcp"):gsub("/$", ""))))
  conn:write "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
  conn:flush()
  neap.sleep(leaves_after)
  conn:close()
  return table.unpack(results:get { timeout = 10 }, 1, 3)
end

causes["request:await"] = {
  EPIPE = function() return awaited(0.01) end,
  ETIMEDOUT = function() return awaited(0.05, { timeout = 0.001 }) end,
}

-- What accept gives for a request with these fields.
local function accepted(fields)
  local results
  local url = http_server(function(req, res)
    results = table.pack(websocket.accept(req, res, { origins = {} }))
  end)
  http.get(url, { headers = fields }):body()
  return table.unpack(results, 1, 3)
end

-- A client's WebSocket, to a server that says these bytes in place of frames.
local function websocket_to(bytes, stay)
  local url = http_server(function(req, res)
    local ws = assert(websocket.accept(req, res))
    req.conn:write(bytes)
    req.conn:flush()
    if stay then ws.conn:read "a" end
    ws.conn:close() -- without the close frame that its end would send
  end)
  local ws = assert(websocket.connect((url:gsub("^http", "ws")), { close_timeout = 0.05 }))
  helper.after(function() ws.conn:close() end)
  return ws
end

local function receives(bytes)
  return function() return websocket_to(bytes):receive() end
end

local function closed_websocket()
  local ws = websocket_to("\x88\0", true)
  ws:close()
  return ws
end

causes["neap.websocket.accept"] = {
  EPROTO = function() return accepted {} end,
  EACCES = function()
    return accepted {
      Connection = "upgrade", Upgrade = "websocket", Origin = "https://a",
      ["Sec-WebSocket-Version"] = "13", ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ==",
    }
  end,
}
causes["neap.websocket.connect"] = {
  EPROXY = function()
    return websocket.connect("ws://127.0.0.1:1/", { proxy = refusing_proxy() })
  end,
  EINVAL = function() return websocket.connect "http://a/" end,
  EPROTO = function()
    local url = http_server(function(_, res) res:send(200) end)
    return websocket.connect((url:gsub("^http", "ws")))
  end,
}
causes["websocket:receive"] = {
  EBADMSG = receives "\x83\0",
  EMSGSIZE = receives "\x82\x7f\0\0\0\1\0\0\0\0",
  EPIPE = receives "\x82\5ab",
  ECANCELED = function()
    local ws = websocket_to("", true)
    ws:close()
    return ws:receive()
  end,
  ETIMEDOUT = function() return websocket_to("", true):receive { timeout = soon } end,
}
causes["websocket:send"] = {
  EINVAL = function() return websocket_to("", true):send "\xff" end,
  ECANCELED = function() return closed_websocket():send "x" end,
}
causes["websocket:close"] = {
  ETIMEDOUT = function() return websocket_to("", true):close() end,
}

-- Of codecs: the message that does it, and the code.
local function decoded(c, bytes)
  return function() return c:decode(bytes, 1, true) end
end

causes["neap.codec.fixed"] = { EPIPE = decoded(codec.fixed(2), "x") }
causes["neap.codec.netstring"] = { EBADMSG = decoded(codec.netstring(), "03:abc,") }
causes["neap.codec.prefixed"] = { EBADMSG = decoded(codec.prefixed("i1"), "\xff") }
causes["neap.codec.choice"] = { EBADMSG = decoded(codec.choice { a = codec.fixed(2) }, "x") }
causes["neap.codec.parse"] = {
  EBADMSG = function() return codec.parse(codec.fixed(2), "abc") end,
  EMSGSIZE = function() return codec.parse(codec.netstring(2), "3:abc,") end,
}
causes["Codec:map"] = {
  EBADMSG = decoded(codec.line():map(function() return nil, "no such thing" end), "x\n"),
}
causes["Codec:grammar"] = { EBADMSG = decoded(codec.line():grammar(P "y"), "x\n") }
causes["Codec:of"] = { EBADMSG = decoded(codec.line():of(codec.fixed(1)), "xy\n") }

-- Files: what the kernel says of a path or of a disk is the same for every call that has it, so a
-- code of theirs is caused once: here, or in their own specs, which name it.
local files = { calls = { "^neap%.fs%.", "^file:", "^watch:", "^stream:send_file$" },
  specs = { "spec/fs_spec.lua", "spec/sendfile_spec.lua" } }

local function loop()
  local path = helper.socket_path()
  assert(os.execute(("ln -s %s %s"):format(path, path)))
  return fs.realpath(path)
end

causes["neap.fs.realpath"] = { ELOOP = loop }
causes["neap.fs.link"] = {
  EXDEV = function() return fs.link("/proc/self/status", helper.socket_path()) end,
}
causes["neap.fs.open"] = {
  EXDEV = function() return fs.open("../etc/passwd", "r", { beneath = "/tmp" }) end,
}
causes["neap.fs.chown"] = { EPERM = unprivileged [[
  return require "neap.fs".chown("/", 0, 0)]] }
causes["neap.fs.write"] = { EACCES = unprivileged [[
  return require "neap.fs".write("/not.ours", "text")]] }
for _, code in ipairs { "EROFS", "EMFILE" } do
  causes["neap.fs.write"][code] = injected("openat:error=% -P /dev/full", code, [[
    return require "neap.fs".write("/dev/full", "text", { atomic = false })]])
end

causes["neap.fs.watch"] = {
  ENOSYS = injected("inotify_init1,inotify_init:error=%", "ENOSYS", [[
    return require "neap.fs".watch "/tmp"]]),
}
causes["file:close"] = {
  EDQUOT = injected("write,writev,pwrite64,pwritev:error=% -P /dev/full", "EDQUOT", [[
    local f = assert(require "neap.fs".open("/dev/full", "w"))
    f:write "text"
    return f:close()]]),
}
causes["file:write"] = {
  EFBIG = injected("write,writev,pwrite64,pwritev:error=% -P /dev/full", "EFBIG", [[
    local f = assert(require "neap.fs".open("/dev/full", "w"))
    local ok, message, code = f:write "text"
    if ok then ok, message, code = f:flush() end
    return ok, message, code]]),
}

causes["stream:send_file"] = {
  ENODATA = function()
    local a, b = net.pair()
    helper.after(function()
      a:close()
      b:close()
    end)
    return a:send_file("/etc/passwd", 0, 1 << 40)
  end,
}

causes["cookies:set"] = {
  EINVAL = function() return http.cookies():set("http://a.org/", "c=1; Domain=b.org") end,
}

local compressed = zlib.compress "some text"

local function inflater(bytes, max)
  local i = zlib.inflater()
  if max then i:decompress(bytes, max) else i:feed(bytes) end
  return i
end

causes["neap.zlib.decompress"] = {
  EBADMSG = function() return zlib.decompress "no such thing" end,
  EPIPE = function() return zlib.decompress(compressed:sub(1, -2)) end,
  EMSGSIZE = function() return zlib.decompress(compressed, { max = 8 }) end,
}
causes["inflater:decompress"] = {
  EBADMSG = function() return inflater "":decompress "no such thing" end,
  EMSGSIZE = function() return inflater "":decompress(compressed, 8) end,
}
causes["inflater:next"] = {
  EBADMSG = function() return inflater "no such thing":next() end,
  EMSGSIZE = function() return inflater(compressed, 8):next() end,
}
causes["inflater:finish"] = {
  EPIPE = function() return inflater "":finish() end,
  EBADMSG = function() return inflater(compressed .. "more", 100):finish() end,
  EMSGSIZE = function() return inflater(compressed, 8):finish() end,
}
for _, name in ipairs { "compress", "feed", "next", "finish", "reset" } do
  causes["deflater:" .. name] = {
    ECANCELED = function()
      local d = zlib.deflater()
      d:close()
      return d[name](d, name ~= "next" and "x" or nil)
    end,
  }
end
for _, name in ipairs { "decompress", "feed", "next", "finish", "reset" } do
  local list = causes["inflater:" .. name] or {}
  causes["inflater:" .. name] = list
  list.ECANCELED = function()
    local i = zlib.inflater()
    i:close()
    return i[name](i, name ~= "next" and "x" or nil)
  end
end

-- ---- what is promised ----

local known = { EAI_AGAIN = true, EAI_FAIL = true, ENOTFOUND = true, ECERT = true, ETLS = true,
  ETRUNCATED = true, NXDOMAIN = true, NODATA = true, SERVFAIL = true, REFUSED = true,
  NOTIMP = true, FORMERR = true, EPROXY = true }
for code = -133, -1 do known[core.error(code)] = true end

local function read(path) return assert(helper.read_file(path)) end

local function codes_in(text)
  local list = {}
  for word in text:gmatch "%f[%w_][EFNRS][%u%d_]+%f[^%w_]" do
    if known[word] then list[#list + 1] = word end
  end
  return list
end

-- { ["call code"] = true } of the reference: the codes that stand under the heading of each call.
local function promised_by_reference()
  local found, call = {}, nil
  for line in read("docs/reference.md"):gmatch "[^\n]+" do
    if line:find "^#" then call = line:match "^### `([^`%(]+)%(" end
    for _, code in ipairs(codes_in(call and line or "")) do found[call .. " " .. code] = true end
  end
  return found
end

-- The rows of the manual's table: { codes, calls }.
local function promised_by_manual()
  local rows = {}
  for codes, calls in read("docs/manual.md"):match "## Error codes(.*)"
    :gmatch "\n| (`[EN][^|]*) |[^|]*|([^|]*)|" do
    local row = { codes = codes_in(codes), calls = {} }
    for call in calls:gmatch "`[%w_%.]-([%w_]+)[`%(]" do row.calls[#row.calls + 1] = call end
    rows[#rows + 1] = row
  end
  return rows
end

-- The calls of that name that have a cause of that code.
local function caused(call, code)
  for name, list in pairs(causes) do
    if list[code] and (not call or name:match "[%w_]+$" == call) then return true end
  end
end

-- Whether it is a call of files, and one of them has a cause of that code.
local function of_files(call, code)
  local function is(name)
    for _, pattern in ipairs(files.calls) do
      if name:find(pattern) then return true end
    end
  end
  if not is(call) then return false end
  for name, list in pairs(causes) do
    if is(name) and list[code] then return true end
  end
  for _, path in ipairs(files.specs) do
    if read(path):find(('"%s"'):format(code), 1, true) then return true end
  end
end

local function sorted(t)
  local list = {}
  for key in pairs(t) do list[#list + 1] = key end
  table.sort(list)
  return list
end

describe("the error code", function()
  for _, call in ipairs(sorted(causes)) do
    for _, code in ipairs(sorted(causes[call])) do
      it(code .. " of " .. call, function()
        local value, message, got = causes[call][code]()
        assert.is_nil(value)
        assert.equal(code, got, message)
        assert.is_true(type(message) == "string" and #message > 5, message)
      end)
    end
  end
end)

describe("the documents", function()
  it("promise no code that is not caused here", function()
    local missing = {}
    for promise in pairs(promised_by_reference()) do
      local call, code = promise:match "(%S+) (%S+)"
      local here = causes[call] and causes[call][code] or of_files(call, code)
      if not here then missing[promise] = true end
    end
    for _, row in ipairs(promised_by_manual()) do
      for _, code in ipairs(row.codes) do
        if not caused(nil, code) then missing[code] = true end
        for _, call in ipairs(row.calls) do
          if not caused(call, code) then missing[call .. " " .. code] = true end
        end
      end
    end
    assert.equal("", table.concat(sorted(missing), "\n"))
  end)

  it("have every code that is caused here in the manual's table", function()
    local there, missing = {}, {}
    for _, row in ipairs(promised_by_manual()) do
      for _, code in ipairs(row.codes) do there[code] = true end
    end
    for _, list in pairs(causes) do
      for code in pairs(list) do
        if not there[code] then missing[code] = true end
      end
    end
    assert.equal("", table.concat(sorted(missing), "\n"))
  end)
end)
