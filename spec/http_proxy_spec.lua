-- neap.http's client through proxies: tinyproxy, and proxies of our own that tell what they saw.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local net = require "neap.net"
local servers = require "spec.support.servers"
local websocket = require "neap.websocket"

local function serve(...)
  local server, url = servers.http(...)
  return url, server
end

-- A forward proxy: what it was asked for, as lines, and its URL.
local function proxy(opts, address)
  local seen = {}
  local url, server = serve(function(req, res)
    seen[#seen + 1] = ("%s %s %s"):format(req.method, req.target,
      req.headers["proxy-authorization"] or "-")
    if req.method ~= "CONNECT" then
      local reply <close> = assert(http.request(req.target, { method = req.method }))
      return res:send(reply.status, reply:body())
    end
    local there <close> = assert(net.connect("tcp://" .. req.target))
    local conn = req:take()
    -- the length says nothing here (RFC 9110 8.6)
    conn:write "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n"
    net.pipe(conn, there)
  end, opts, address)
  return url, seen, server
end

-- A proxy that answers each connection with these bytes.
local canned = servers.canned

describe("an HTTP client's proxy", function()
  it("is asked for http:// in absolute form, and told who asks; the server is not", function()
    local fields
    local url = serve(function(req, res)
      fields = req.headers
      res:send(200, "x")
    end)
    local through, seen, asked = proxy()
    local with = through:gsub("://", "://me:se%%3Acret@")
    for _ = 1, 2 do
      assert.equal("x", assert(http.get(url .. "/a?b", { proxy = with })):body())
    end
    local line = ("GET %s/a?b %s"):format(url, http.basic("me", "se:cret"))
    assert.same({ line, line }, seen)
    assert.equal("Basic bWU6c2U6Y3JldA==", http.basic("me", "se:cret"))
    assert.is_nil(fields["proxy-authorization"])
    assert.equal(1, asked.total) -- kept
    assert.equal("x", assert(http.get(url)):body())
    assert.equal(2, #seen)
    assert.equal("x", assert(http.get(url, { proxy = through })):body())
    assert.equal(2, asked.total) -- other credentials
  end)

  it("makes a tunnel for https://, in which it learns nothing, and which is kept", function()
    local url, server = serve(function(req, res)
      res:send(200, req.host .. (req.headers["proxy-authorization"] or "-"))
    end, certs.server(), "tls://localhost:0")
    local port = url:match ":%d+$"
    local through, seen = proxy()
    local opts = { tls = certs.client(), proxy = through:gsub("://", "://me:x@"), timeout = 20 }
    local r = assert(http.get("https://localhost" .. port, opts))
    assert.equal("CN=localhost", r.tls.peer.subject)
    assert.equal("localhost" .. port .. "-", r:body())
    assert.same({ ("CONNECT localhost%s %s"):format(port, http.basic("me", "x")) }, seen)
    opts.proxy = through
    opts.tls = nil
    local none, _, code = http.get("https://localhost" .. port, opts)
    assert.is_nil(none)
    assert.equal("ECERT", code)
    assert.equal(2, server.total)
  end)

  it("makes a tunnel for what becomes another protocol", function()
    local url = serve(function(req, res)
      local ws <close> = assert(websocket.accept(req, res))
      for message, kind in ws:messages() do ws:send(message, kind) end
    end)
    local through, seen = proxy()
    local ws <close> = assert(websocket.connect((url:gsub("^http", "ws")), { proxy = through }))
    ws:send "hello"
    assert.equal("hello", (ws:receive()))
    assert.same({ ("CONNECT %s -"):format(url:match "//(.*)$") }, seen)
  end)

  it("may speak TLS itself", function()
    local url = serve(function(_, res) res:send(200, "x") end)
    local secure, seen = proxy(certs.server(), "tls://localhost:0")
    local none, message, code = http.get(url, { proxy = secure })
    assert.is_nil(none)
    assert.equal("ECERT", code) -- nobody here knows that authority
    assert.matches("^proxy https://.*: connect tls://", message)
    assert.same({}, seen)
  end)

  it("is told apart from the server when there is no way through", function()
    local dead = net.listen "127.0.0.1:0"
    local nobody = dead.address:gsub("^tcp", "http")
    dead:close()
    local refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    local cases = {
      { "http", nobody, "ECONNREFUSED", "^proxy http://127%.0%.0%.1:%d+: connect tcp://" },
      { "https", canned(refusal), "EPROXY",
        "^proxy http://[%d.:]+: CONNECT 127%.0%.0%.1:1: 407 Proxy Authentication Required$" },
      { "https", canned "SSH-2.0-x\r\n\r\n", "EBADMSG", ": CONNECT 127.0.0.1:1: malformed" },
      { "https", canned(("HTTP/1.1 100 x\r\n\r\n"):rep(11) .. "HTTP/1.1 200 OK\r\n\r\n"), "EBADMSG",
        "too many interim responses" },
      { "https", canned "", "EPIPE", ": CONNECT 127.0.0.1:1: it closed the connection$" },
      { "https", canned "HTTP/1.1 200 OK\r\n\r\nmore", "EPROTO", "plaintext" },
      { "http", "ftp://a:1", "EINVAL", "^request http://127.0.0.1:1/: proxy: http:// or" },
      { "http", "http://a", "EINVAL", "a proxy's port expected$" },
      { "http", "http://a:1/x", "EINVAL", "a proxy has no path$" },
    }
    for _, case in ipairs(cases) do
      local r, message, code = http.get(case[1] .. "://127.0.0.1:1/", { proxy = case[2] })
      assert.is_nil(r)
      assert.equal(case[3], code, message)
      assert.matches(case[4], message)
    end
    local r = assert(http.get("http://127.0.0.1:1/", { proxy = canned(refusal) }))
    assert.equal(407, r.status) -- of what it is asked for itself, its answer is the answer
    assert.equal("", r:body())
  end)

  it("comes from the environment when that is asked for, and from nowhere else", function()
    local through = proxy()
    local script = [[
      local choose = require("neap.http.proxy").choose
      local parse = require("neap.http.url").parse
      for _, url in ipairs { "http://a/", "https://a/", "http://b.org/", "http://x.b.org/",
        "http://xb.org/", "http://c:81/", "http://c:82/", "http://10.1.2.3/", "http://11.1.2.3/",
        "http://[::1]/" } do
        local one = choose("environment", parse(url))
        print(url, one and one.text or "direct")
      end
      assert(not choose(nil, parse "http://a/"))]]
    local env = {
      http_proxy = "http://u:p@h:1", HTTP_PROXY = "http://wrong:1", HTTPS_PROXY = "s:2",
      no_proxy = " .b.org, c:81,10.0.0.0/8,[::1]", all_proxy = "http://all:3",
    }
    local out, err = helper.run_script(script, { env = env })
    assert.equal("", err)
    local function lines(s) return (s:gsub(" +", "\t")) end
    assert.equal(lines [[
http://a/ http://h:1
https://a/ http://s:2
http://b.org/ direct
http://x.b.org/ direct
http://xb.org/ http://h:1
http://c:81/ direct
http://c:82/ http://h:1
http://10.1.2.3/ direct
http://11.1.2.3/ http://h:1
http://[::1]/ direct
]], out)
    out = helper.run_script(script, { env = { HTTP_PROXY = "http://wrong:1", no_proxy = "*" } })
    assert.not_matches("wrong", out)
    out = helper.run_script(script, { env = { HTTP_PROXY = "http://w:1", ALL_PROXY = "w:3" } })
    assert.matches("http://a/\thttp://w:3\n", out)
    local url = serve(function(_, res) res:send(200, "x") end)
    out, err = helper.run_script(([[
      local http = require "neap.http"
      print(assert(http.get(%q, { proxy = "environment" })):body())
      print(assert(http.get(%q)):body())
      print(http.get("http://127.0.0.1:1", { proxy = "environment" }).status)]]):format(url, url),
      { env = { http_proxy = through } })
    assert.equal("", err)
    assert.equal("x\nx\n500\n", out)
  end)

  it("is one of the two: a way of its own, or a proxy", function()
    local ok, message = pcall(function()
      local _ = http.get("http://a", { proxy = "a:1", via = "b:1" })
    end)
    assert.is_false(ok)
    assert.matches("^spec/http_proxy_spec.lua:%d+: bad argument #2 to 'get'", message)
  end)
end)

describe("tinyproxy", function()
  it("carries requests and tunnels, and wants to know who asks", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/conf", ("Port 8888\nListen 127.0.0.1\nTimeout 20\nMaxClients 20\n" ..
      "LogFile \"%s/log\"\nLogLevel Info\nBasicAuth me secret\n"):format(dir))
    local out, err, status = helper.run_isolated(([[
      local http = require "neap.http"
      local net = require "neap.net"
      local neap = require "neap"
      local function hello(req, res) res:send(200, req.method .. " " .. #req:body()) end
      local plain = http.serve("127.0.0.1:0", hello)
      local secure = http.serve("tls://127.0.0.1:0", %s, hello)
      local urls = { (plain.address:gsub("^tcp", "http")),
        "https://localhost" .. secure.address:match ":%%d+$" }
      while true do
        local c = net.connect "127.0.0.1:8888"
        if c then c:close() break end
        neap.sleep(0.05)
      end
      local function body()
        local sent
        return function()
          sent = not sent
          return sent and ("x"):rep(100000) or nil
        end
      end
      for i, url in ipairs(urls) do
        for _, with in ipairs { "http://me:secret@127.0.0.1:8888", "http://127.0.0.1:8888" } do
          local opts = { proxy = with, timeout = 20, method = "POST", body = body(),
            tls = i == 2 and { ca = %q } or nil }
          local r, message, code = http.request(url, opts)
          print(i, code or r.status, r and r.status == 200 and r:body() or
            message and message:match "(407.*)$" or "-")
          if r then r:close() end
        end
      end
      http.forget()
      plain:stop(0)
      secure:stop(0)]]):format(("{ cert = %q, key = %q }"):format(certs.path "server.pem",
        certs.path "server.key"), certs.path "ca.pem"),
      ("tinyproxy -d -c %s/conf >/dev/null 2>&1 &"):format(dir), { limit = 40 })
    assert.equal("1\t200\tPOST 100000\n1\t407\t-\n2\t200\tPOST 100000\n" ..
      "2\tEPROXY\t407 Proxy Authentication Required\n", out, err)
    assert.equal(0, status)
  end)
end)
