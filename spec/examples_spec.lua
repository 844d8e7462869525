-- Every example, run as its header says, against the client that it names.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

local run, quote = helper.run, helper.quote

-- Starts an example; what it prints about its address, and the process.
local function start(name, arguments, opts)
  local p = helper.start(
    ("exec %s scripts/examples/%s.lua %s"):format(quote(helper.neap), name, arguments or ""), opts)
  return p
end

local function serve(name, arguments, opts)
  local p = start(name, arguments or "127.0.0.1:0", opts)
  local address = p:expect "listening on (%S+[^%s,])"
  local host, port = address:match "//(.-):(%d+)$"
  return { process = p, address = address, host = host, port = port }
end

local function free_of_errors(s) assert.equal("", s.process:err()) end

describe("the example", function()
  it("upper answers nc in upper case", function()
    local s = serve "upper"
    local out = run(("printf 'hello\\nworld\\n' | nc -N %s %s"):format(s.host, s.port))
    assert.equal("HELLO\nWORLD\n", out)
    free_of_errors(s)
  end)

  it("upper says what to type", function()
    local s = serve "upper"
    s.process:expect "printf 'hello\\nworld\\n' | nc %-N 127.0.0.1 9090"
  end)

  it("echo sends back what socat sends", function()
    local s = serve "echo"
    local text = ("some text %d\n"):rep(2000):gsub("%%d", "x")
    local out = run(("socat -t5 - TCP:%s:%s"):format(s.host, s.port), { stdin = text })
    assert.equal(#text, #out)
    assert.equal(text, out)
    free_of_errors(s)
  end)

  it("chat lets several nc read what each says", function()
    local s = serve "chat"
    local a = helper.start(("(echo ann; sleep 2; echo hi) | nc -w 5 %s %s"):format(s.host, s.port))
    a:expect "ann is here"
    local b = helper.start(("(echo bob; sleep 4) | nc -w 5 %s %s"):format(s.host, s.port))
    b:expect "bob is here"
    a:expect "bob is here"
    b:expect "ann: hi"
    free_of_errors(s)
  end)

  describe("kv", function()
    it("answers redis-cli", function()
      local s = serve "kv"
      local cli = ("redis-cli -h %s -p %s "):format(s.host, s.port)
      assert.equal("PONG\n", (run(cli .. "ping")))
      assert.equal("OK\n", (run(cli .. "set greeting 'hello there'")))
      assert.equal("hello there\n", (run(cli .. "get greeting")))
      assert.equal("\n", (run(cli .. "get nothing")))
      assert.equal("1\n", (run(cli .. "incr counter")))
      assert.equal("1\n", (run(cli .. "del greeting")))
      assert.matches("^ERR unknown command", (run(cli .. "flushall")))
      free_of_errors(s)
    end)

    it("understands inline commands", function()
      local s = serve "kv"
      local out = run(
        ("printf 'PING\\r\\nSET a 1\\r\\nGET a\\r\\nQUIT\\r\\n' | nc -N %s %s")
          :format(s.host, s.port))
      assert.equal("+PONG\r\n+OK\r\n$1\r\n1\r\n+OK\r\n", out)
    end)

    it("takes a pipe of commands", function()
      local s = serve "kv"
      local lines = {}
      for i = 1, 1000 do lines[i] = ("SET key%d value%d\r\n"):format(i, i) end
      local out = run(("redis-cli -h %s -p %s --pipe"):format(s.host, s.port),
        { stdin = table.concat(lines) })
      assert.matches("errors: 0, replies: 1000", out)
    end)

    it("stands redis-benchmark", function()
      local s = serve "kv"
      local out, _, status = run(
        ("redis-benchmark -h %s -p %s -t ping,set,get -P 16 -n 20000 -q"):format(s.host, s.port))
      assert.equal(0, status)
      assert.matches("SET: [%d.]+ requests per second", out)
      assert.matches("GET: [%d.]+ requests per second", out)
      free_of_errors(s)
    end)

    it("tells one peer that its bytes are no request", function()
      local s = serve "kv"
      run(("printf '*1\\r\\n$x\\r\\n' | nc -N %s %s"):format(s.host, s.port))
      s.process:expect "neap: tcp://127.0.0.1:%d+: .*bad message"
      assert.equal("PONG\n", (run(("redis-cli -h %s -p %s ping"):format(s.host, s.port))))
    end)
  end)

  it("tcp_proxy stands in front of a real redis-server", function()
    local dir = helper.tmpdir()
    local redis = helper.start(
      ("exec redis-server --port 0 --unixsocket %s/redis.sock --save '' --dir %s"):format(dir, dir))
    redis:expect "eady to accept connections"
    local s = serve("tcp_proxy", "127.0.0.1:0 unix:" .. dir .. "/redis.sock")
    local cli = ("redis-cli -h %s -p %s "):format(s.host, s.port)
    assert.equal("OK\n", (run(cli .. "set a b")))
    assert.equal("b\n", (run(cli .. "get a")))
    local value = ("x"):rep(300000)
    assert.equal("OK\n", (run(cli .. "-x set big", { stdin = value })))
    assert.equal(value .. "\n", (run(cli .. "get big")))
    free_of_errors(s)
  end)

  it("file_server sends nc what it asks for, and nothing outside", function()
    local dir = helper.tmpdir()
    os.execute(("mkdir %s/d %s/d/sub; ln -s /etc/hosts %s/d/link"):format(dir, dir, dir))
    helper.write_file(dir .. "/secret", "secret")
    helper.write_file(dir .. "/d/one", "first file\n")
    local size = helper.hard and 5000 or 1 << 20
    os.execute(("head -c %d /dev/urandom >%s/d/sub/big"):format(size, dir))
    local s = serve("file_server", "127.0.0.1:0 " .. dir .. "/d")
    local nc = ("nc -N %s %s"):format(s.host, s.port)
    local out = run("printf 'one\\nnone\\n../secret\\nlink\\nsub\\none\\r\\n' | " .. nc)
    assert.equal("11\nfirst file\nerror no such file or directory\nerror not below the directory\n"
      .. "error not below the directory\nerror illegal operation on a directory\n11\nfirst file\n",
      out)
    local command = "echo sub/big | %s | tail -n +2 | sha256sum; sha256sum <%s/d/sub/big"
    local sums = run(command:format(nc, dir))
    local got, want = sums:match "^(%x+)[^\n]*\n(%x+)"
    assert.equal(want, got)
    free_of_errors(s)
  end)

  it("watch prints what is added to a file, also to its successor", function()
    local log = helper.tmpdir() .. "/log"
    helper.write_file(log, "old\n")
    local p = start("watch", log)
    p:expect "watching"
    os.execute("echo one >>" .. log)
    p:expect "one\n"
    os.execute(("echo two >>%s; mv %s %s.1; echo three >%s"):format(log, log, log, log))
    p:expect "three\n"
    os.execute("echo four >>" .. log)
    p:expect "four\n"
    assert.equal(("watching %s\none\ntwo\nthree\nfour\n"):format(log), p:out())
    assert.equal("", p:err())
  end)

  it("tls_proxy ends TLS in front of a plain server, and reloads its certificate", function()
    local dir = helper.tmpdir()
    local function use(name)
      os.execute(("cp %s %s/c.pem && cp %s %s/k.pem"):format(
        certs.path(name .. ".pem"), dir, certs.path(name .. ".key"), dir))
    end
    use "server"
    local upper = serve("upper", "127.0.0.1:0")
    local s = serve("tls_proxy", ("%s/c.pem %s/k.pem 127.0.0.1:0 %s:%s"):format(
      dir, dir, upper.host, upper.port))
    local command = "printf 'hello\\n' | socat -t5 - OPENSSL:%s:%s,cafile=%s,commonname="
    command = command:format(s.host, s.port, certs.path "ca.pem")
    assert.equal("HELLO\n", (run(command .. "localhost")))
    use "other"
    s.process:kill "HUP"
    s.process:expect "certificate reloaded"
    assert.equal("HELLO\n", (run(command .. "other.test")))
    free_of_errors(s)
  end)

  it("http_hello, rest and clock answer curl", function()
    local function curl(s, args)
      return (run(("curl -sS --max-time 10 %s"):format(args:gsub("URL",
        ("http://%s:%s"):format(s.host, s.port)))))
    end
    assert.equal("Hello, World!\n", curl(serve "http_hello", "URL/"))
    local rest = serve "rest"
    assert.equal("201", curl(rest, "-o /dev/null -w '%{http_code}' -X PUT -d 'a b' URL/keys/x%20y"))
    assert.equal("a b", curl(rest, "URL/keys/x%20y"))
    assert.equal("x y\n", curl(rest, "URL/keys"))
    assert.equal("204", curl(rest, "-w '%{http_code}' -X DELETE URL/keys/x%20y"))
    assert.equal("no such key\n", curl(rest, "URL/keys/x%20y"))
    assert.equal("405", curl(rest, "-o /dev/null -w '%{http_code}' -X PATCH URL/keys/x"))
    local clock = serve("clock", "127.0.0.1:0 0.01")
    assert.matches("id: 1\ndata: %d%d:%d%d:%d%d\n\nid: 2\n",
      curl(clock, "-N URL/ | head -c 60"))
    for _, s in ipairs { rest, clock } do free_of_errors(s) end
  end)

  it("http_files serves a directory over HTTPS and HTTP", function()
    local pair = certs.path "server.pem" .. " " .. certs.path "server.key"
    local s = serve("http_files", "docs 127.0.0.1:0 " .. pair)
    local sum = run "sha256sum < docs/manual.md"
    assert.equal(sum, (run(("curl -sS --cacert %s https://127.0.0.1:%s/manual.md | sha256sum")
      :format(certs.path "ca.pem", s.port))))
    s.process:expect 'GET /manual%.md HTTP/1%.1" 200 %d+'
    free_of_errors(s)
    s = serve("http_files", "docs 127.0.0.1:0")
    assert.equal((run "head -c 100 docs/manual.md"),
      (run(("curl -sS -r 0-99 http://127.0.0.1:%s/manual.md"):format(s.port))))
    free_of_errors(s)
  end)

  it("http_proxy ends TLS in front of rest", function()
    local rest = serve "rest"
    local url = ("http://%s:%s"):format(rest.host, rest.port)
    local pair = certs.path "server.pem" .. " " .. certs.path "server.key"
    local s = serve("http_proxy", ("127.0.0.1:0 %s %s"):format(url, pair))
    local function curl(args, path, stdin)
      return (run(("curl -sS --max-time 10 --cacert %s %s https://127.0.0.1:%s%s"):format(
        certs.path "ca.pem", args, s.port, path), { stdin = stdin }))
    end
    assert.equal("201", curl("-w '%{http_code}' -T -", "/keys/a%20b", ("x"):rep(30000)))
    assert.equal(("x"):rep(30000), curl("-w ''", "/keys/a%20b"))
    assert.matches("cache%-control: no%-store\r\n", curl("-I", "/keys/a%20b"))
    assert.matches("Content%-Length: 30000\r\n", curl("-I", "/keys/a%20b"))
    assert.equal("405", curl("-o /dev/null -w '%{http_code}' -X PATCH", "/keys/x"))
    assert.equal("204", curl("-w '%{http_code}' -X DELETE", "/keys/a%20b"))
    rest.process:kill()
    helper.wait_until(function()
      local conn <close> = net.connect(rest.address)
      return not conn
    end)
    assert.equal("502 Bad Gateway\n502", curl("-w '%{http_code}'", "/keys"))
    free_of_errors(s)
  end)

  it("ws_echo answers Python's websockets", function()
    local s = serve "ws_echo"
    local command = "printf 'hello\\n' | timeout 10 /usr/bin/python3 -m websockets ws://%s:%s/"
    local out = run(command:format(s.host, s.port))
    assert.matches("Connected to ws://", out)
    assert.matches("Connection closed: 1000", out)
    free_of_errors(s)
  end)

  it("udp_echo answers socat", function()
    local s = serve("udp_echo", "udp://127.0.0.1:0")
    assert.equal("hello", (run(("printf hello | socat -t1 - UDP:%s:%s"):format(s.host, s.port))))
  end)

  describe("tftp", function()
    local function files()
      local dir = helper.tmpdir()
      helper.write_file(dir .. "/small", "a small file\n")
      -- two whole blocks: an empty one ends it
      helper.write_file(dir .. "/exact", ("0123456789abcdef"):rep(64))
      helper.write_file(dir .. "/large", ("line of text\n"):rep(20000))
      return dir
    end

    it("gives files to curl", function()
      local dir = files()
      local s = serve("tftp", dir .. " udp://127.0.0.1:0")
      for _, name in ipairs { "small", "exact", "large" } do
        local out, _, status = run(("curl -s tftp://%s:%s/%s"):format(s.host, s.port, name))
        assert.equal(0, status)
        assert.equal(helper.read_file(dir .. "/" .. name), out)
      end
    end)

    it("gives files to tftp, and refuses what is not below its directory", function()
      local dir = files()
      local s = serve("tftp", dir .. " udp://127.0.0.1:0")
      local out = helper.tmpdir()
      run(("cd %s && tftp %s %s -m binary -c get large"):format(out, s.host, s.port))
      assert.equal(helper.read_file(dir .. "/large"), helper.read_file(out .. "/large"))
      local _, _, status = run(
        ("curl -s tftp://%s:%s/../etc/passwd --path-as-is"):format(s.host, s.port))
      assert.not_equal(0, status)
      _, _, status = run(("curl -s tftp://%s:%s/missing"):format(s.host, s.port))
      assert.equal(68, status) -- CURLE_TFTP_NOTFOUND
    end)
  end)

  it("scgi answers behind nginx", function()
    local s = serve "scgi"
    local l <close> = assert(net.listen "127.0.0.1:0")
    local dir, host = helper.tmpdir(), l.address:match "//(.*)"
    local paths = {}
    for _, name in ipairs { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" } do
      paths[#paths + 1] = ("%s_temp_path %s/%s;"):format(name, dir, name)
    end
    local file = helper.write_file(dir .. "/conf", ([[
daemon off; worker_processes 1; pid %s/pid; error_log %s/log notice;
events {}
http { access_log off; %s client_body_buffer_size 1m; server { listen %s;
  location / { include /etc/nginx/scgi_params; scgi_pass %s:%s; } } }
]]):format(dir, dir, table.concat(paths, " "), host, s.host, s.port))
    local env = process.environ()
    env.NGINX = "4;" -- listeners by number, as an old nginx passes them to a new one
    local null <close> = assert(io.open "/dev/null")
    local nginx <close> = assert(process.spawn({ "nginx", "-e", dir .. "/log", "-c", file },
      { fds = { null, l }, env = env, stderr = "null", grace = 5 }))
    local url = ("http://%s/a?b=c"):format(host)
    assert.equal("GET /a?b=c\n", (run("curl -s --max-time 10 '" .. url .. "'")))
    local text = ("some text\n"):rep(5000)
    local out = run(("curl -s --max-time 10 --data-binary @- '%s'"):format(url), { stdin = text })
    assert.equal("POST /a?b=c\n" .. text:upper(), out)
    assert.equal("running", nginx.status)
    -- without nginx: what is none is not answered
    for _, bytes in ipairs { "3:abc,", "9999999999", "24:CONTENT_LENGTH\\0-1\\0SCGI\\0001\\0," } do
      assert.equal("", (run(("printf '%s' | nc -N %s %s"):format(bytes, s.host, s.port))))
    end
    free_of_errors(s)
  end)

  it("control answers socat's records", function()
    local path = helper.socket_path()
    local p = start("control", "unix-seqpacket:" .. path)
    p:expect "listening on"
    local ask = "printf %s | socat -t1 - UNIX-CONNECT:" .. path .. ",type=5"
    assert.matches("^up %d+ s, %d+ tasks$", (run(ask:format "status")))
    assert.matches("^uid %d+, pid %d+$", (run(ask:format "whoami")))
    assert.equal("unknown command; try help", (run(ask:format "'rm -rf'")))
    assert.equal("", p:err())
  end)

  it("receive_socket takes the socket that nc -F passes", function()
    local s = serve "upper"
    local p = start("receive_socket", s.host .. ":" .. s.port)
    p:expect("received tcp://" .. s.host:gsub("%.", "%%.") .. ":" .. s.port)
    p:expect "HELLO FROM A PASSED SOCKET"
    assert.equal(0, p:wait())
  end)

  it("ssh_fdpass hands a connected socket to ssh", function()
    local dir = helper.tmpdir()
    for _, key in ipairs { "host", "user" } do
      run(("ssh-keygen -q -t ed25519 -N '' -f %s/%s"):format(dir, key))
    end
    helper.write_file(dir .. "/config", ([[
HostKey %s/host
AuthorizedKeysFile %s/user.pub
StrictModes no
UsePAM no
PidFile none
]]):format(dir, dir))
    -- sshd wants it when root starts it
    os.execute "test -d /run/sshd || mkdir /run/sshd 2>/dev/null"
    local inetd = serve("ssh_inetd", "127.0.0.1:0 " .. dir .. "/config", { limit = 30 })
    local out, err, status = run(
      ("ssh -F none -i %s/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no "
      .. "-o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ProxyUseFdpass=yes "
      .. "-o ProxyCommand='%s scripts/examples/ssh_fdpass.lua %s %s' localhost "
      .. "echo through a passed socket")
      :format(dir, helper.neap, inetd.host, inetd.port))
    assert.equal("through a passed socket\n", out, err)
    assert.equal(0, status)
  end)

  it("workers answers from its worker processes in turn", function()
    local s = serve("workers", "127.0.0.1:0 2")
    local seen, different = {}, 0
    for _ = 1, 4 do
      local out = run(("printf 'who\\n' | nc -N %s %s"):format(s.host, s.port))
      local pid = out:match "^(%d+) answers who\n$"
      assert.truthy(pid, out)
      if not seen[pid] then
        seen[pid] = true
        different = different + 1
      end
    end
    assert.equal(2, different)
  end)

  it("notify_server is what systemd-notify talks to, barrier included", function()
    local path = helper.socket_path()
    local p = start("notify_server", "unix-dgram:" .. path)
    p:expect "listening on"
    local _, err, status = run("systemd-notify --ready --status='up and running'",
      { env = { NOTIFY_SOCKET = path } })
    assert.equal(0, status, err)
    p:expect "%d+: READY=1\n"
    p:expect "%d+: STATUS=up and running\n"
    p:expect "%d+: BARRIER=1\n"
    assert.equal("", p:err())
  end)

  it("activated is started by systemd-socket-activate and tells the manager", function()
    local path, manager = helper.socket_path(), helper.socket_path()
    local told = start("notify_server", "unix-dgram:" .. manager)
    told:expect "listening on"
    -- systemd-socket-activate gives its children an environment of its own
    local p <close> = assert(process.spawn({ "systemd-socket-activate", "-l", path,
      "-E", "NOTIFY_SOCKET=" .. manager, "--fdname=web",
      helper.neap, "scripts/examples/activated.lua" }, { stdout = "null", stderr = "pipe" }))
    assert.matches("^Listening on", p.stderr:read { timeout = 10 * helper.slow })
    assert.equal("HELLO\n", (run("printf 'hello\n' | nc -NU " .. path)))
    told:expect("%d+: READY=1\n%d+: STATUS=listening on unix:" .. path)
    p:kill "TERM"
    assert.same({ true, "exit", 0 }, { p:wait { timeout = 10 * helper.slow } })
    told:expect "%d+: STATUS=got TERM\n%d+: STOPPING=1\n%d+: BARRIER=1"
  end)

  it("generator asks with a generator that waits", function()
    local s = serve "upper"
    local out, err, status = helper.run_neap(
      ("scripts/examples/generator.lua %s:%s one two three"):format(s.host, s.port))
    assert.equal("one -> ONE\ntwo -> TWO\nthree -> THREE\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("generator ends at its deadline when nobody answers", function()
    local silent <close> = assert(net.listen "127.0.0.1:0")
    local host, port = silent.address:match "//(.-):(%d+)$"
    local out, err, status = helper.run_neap(
      ("scripts/examples/generator.lua %s:%s one"):format(host, port))
    assert.equal("", out)
    assert.matches("timed out", err)
    assert.equal(1, status)
  end)

  it("timers ticks, races and times out", function()
    local out, err, status = helper.run_neap "scripts/examples/timers.lua"
    assert.equal("", err)
    assert.equal(0, status)
    local words = {}
    for word in out:gmatch "ms%s+(%a+[^\n]*)" do words[#words + 1] = (word:gsub("%s+", " ")) end
    local last = 0 -- ticks that a busy machine missed are skipped, not made up for
    while words[1]:find "^tick" do
      local tick = tonumber(table.remove(words, 1):match "%d+")
      assert.truthy(tick > last)
      last = tick
    end
    assert.truthy(last >= 3)
    assert.same({ "race hare", "timeout nil timeout: timed out ETIMEDOUT" }, words)
  end)

  it("graceful reloads at HUP and ends in order at TERM", function()
    local p <close> = assert(process.spawn(
      { helper.neap, "scripts/examples/graceful.lua", "127.0.0.1:0" }, { stdout = "pipe" }))
    local port = assert(p.stdout:read { timeout = 10 }):match ":(%d+)$"
    local client = helper.start(("(echo a; sleep 0.5; echo b) | nc -N 127.0.0.1 %s"):format(port))
    client:expect "hello a"
    p:kill "HUP"
    assert.equal("reloaded: hello!", p.stdout:read { timeout = 10 })
    client:expect "hello! b"
    client:wait()
    p:kill "TERM"
    assert.equal("stopping; connections cancelled: 0", p.stdout:read { timeout = 10 })
    assert.equal("bye", p.stdout:read { timeout = 10 })
    assert.same({ true, "exit", 0 }, { p:wait { timeout = 10 } })
  end)
end)

describe("in a network of its own, the example", function()
  local setup = "sysctl -qw net.ipv4.ping_group_range='0 0'\n"
    .. "ip route add unreachable 10.7.0.0/16\n"
  local function isolated(command)
    local words = { "exec unshare -Urn sh -c", quote("ip link set lo up\n" .. setup .. command) }
    return run(table.concat(words, " "))
  end
  local neap_ping = quote(helper.neap) .. " scripts/examples/ping.lua "

  local sniff = "timeout 20 " .. quote(helper.neap) .. " scripts/examples/sniff.lua lo >$d/log &\n"

  it("ping finds the same hosts as ping", function()
    for _, host in ipairs { "127.0.0.1", "::1", "localhost", "10.7.0.1" } do
      local ours, err, status = isolated(neap_ping .. host .. " 2")
      local theirs, _, other = isolated("ping -c 2 -i 0.2 -W 1 " .. host)
      assert.equal(other == 0, status == 0, host .. ours .. err)
      local count = theirs:match "transmitted, (%d+)"
      assert.matches("2 packets transmitted, " .. (count or 0) .. " received", ours)
      if other == 0 then
        for _, line in ipairs { ours, theirs } do
          assert.matches("64 bytes from %S+.* icmp_seq=2 ttl=64 time=[%d.]+ ms", line)
        end
      end
    end
  end)

  it("ping and nping are answered alike, as sniff sees it", function()
    local out, err = isolated("d=" .. helper.tmpdir() .. "\n" .. sniff .. "pid=$!\n"
      .. "until grep -q listening $d/log; do sleep 0.02; done\n" .. neap_ping .. "127.0.0.1 1\n"
      .. "nping --icmp -c 1 --data-length 56 127.0.0.1\nkill $pid\ncat $d/log")
    assert.matches("1 packets transmitted, 1 received", out, 1, false, err)
    assert.matches("Raw packets sent: 1 %(84B%) | Rcvd: 1 %(84B%)", out)
    for _, kind in ipairs { "type 8", "type 0" } do
      local line = "in +127%.0%.0%.1 > 127%.0%.0%.1: ICMP " .. kind .. ", 98 bytes"
      assert.equal(2, select(2, out:gsub(line, "")), out)
    end
  end)

  it("sniff prints what ping, nping and curl send", function()
    local out, err = isolated("d=" .. helper.tmpdir() .. "\n" .. sniff .. [[
      pid=$!
      until grep -q listening $d/log; do sleep 0.02; done
      ping -c 1 127.0.0.1 >/dev/null
      ping -c 1 ::1 >/dev/null
      nping --udp -c 1 -g 4242 -p 4343 127.0.0.1 >/dev/null
      curl -s http://127.0.0.1:4444/
      sleep 0.2
      kill $pid
      cat $d/log]])
    for _, line in ipairs {
      "out +127%.0%.0%.1 > 127%.0%.0%.1: ICMP type 8, 98 bytes",
      "in +127%.0%.0%.1 > 127%.0%.0%.1: ICMP type 0, 98 bytes",
      "in +0:0:0:0:0:0:0:1 > 0:0:0:0:0:0:0:1: ICMPv6 type 129, 118 bytes",
      "in +127%.0%.0%.1%.4242 > 127%.0%.0%.1%.4343: UDP",
      "in +127%.0%.0%.1 > 127%.0%.0%.1: ICMP type 3", -- nobody is there
      "in +127%.0%.0%.1%.%d+ > 127%.0%.0%.1%.4444: TCP %[S",
      "in +127%.0%.0%.1%.4444 > 127%.0%.0%.1%.%d+: TCP %[RA%]",
    } do
      assert.matches(line, out, 1, false, err)
    end
    assert.is_nil(out:find("strange", 1, true), out)
  end)
end)

-- "dns_server" answers dig, dig +tcp and kdig in dns_spec.lua; "dig" asks it in
-- dns_resolve_spec.lua.

describe("the examples", function()
  it("all have a header that says how to try them, and a spec", function()
    local specs = io.popen "cat spec/examples*_spec.lua"
    local this = specs:read "a"
    specs:close()
    local list = io.popen "ls scripts/examples/*.lua scripts/examples/*/*.lua"
    for path in list:lines() do
      local text = helper.read_file(path)
      local name = path:match "^scripts/examples/(.+)%.lua$"
      assert.truthy(text:find("^%-%- " .. name .. "%.lua: "), path .. " has no header")
      assert.truthy(text:find("\n-- Try:   ", 1, true), path .. " does not say how to try it")
      assert.truthy(this:find('"' .. name .. '"', 1, true) or this:find(name .. ".lua", 1, true),
        path .. " has no spec")
    end
    list:close()
  end)
end)

assert(neap)
