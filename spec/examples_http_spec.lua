-- The examples over HTTP and WebSocket that stand apart: long polling, a JSON client, ws_client;
-- and what goes through http_proxy.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"

local run, quote = helper.run, helper.quote

local function example(name, arguments)
  return ("exec %s scripts/examples/%s.lua %s"):format(quote(helper.neap), name, arguments)
end

local function serve(name, arguments)
  local p = helper.start(example(name, arguments or "127.0.0.1:0"))
  local address = p:expect "listening on (%S+[^%s,])"
  return { process = p, address = address, url = "http" .. address:match "://.*" }
end

describe("long_poll", function()
  local function curl(s, arguments, path)
    return (run(("curl -sS --max-time 20 %s '%s%s'"):format(arguments, s.url, path)))
  end
  local what = "-w ' %{http_code} %header{link}'"

  it("answers who waits when a message comes, and who comes later from the history", function()
    local s = serve "long_poll"
    local waiting = {}
    for i = 1, 3 do
      waiting[i] = helper.start(("curl -sSv --max-time 20 '%s/news?since=0&wait=20'"):format(s.url))
    end
    for _, w in ipairs(waiting) do w:expect "> Accept: [^\n]*\n>" end
    assert.equal("1\n", curl(s, "-d 'hello, you'", "/news"))
    for _, w in ipairs(waiting) do
      assert.equal(0, w:wait())
      assert.equal("hello, you", w:out())
    end
    assert.equal("2\n", curl(s, "--data-binary $'two\\nlines'", "/news"))
    assert.equal('hello, you 200 </news?since=1>; rel="next"', curl(s, what, "/news?since=0"))
    assert.equal('two\nlines 200 </news?since=2>; rel="next"', curl(s, what, "/news?since=1"))
    for _, no in ipairs { 99, -1, math.mininteger } do
      assert.equal('hello, you 200 </news?since=1>; rel="next"',
        curl(s, what, "/news?since=" .. no))
    end
    local begin = neap.now()
    assert.equal(' 204 </news?since=2>; rel="next"', curl(s, what, "/news?since=2&wait=0.05"))
    assert.equal(' 204 </news?since=2>; rel="next"', curl(s, what, "/news?wait=-1"))
    assert.is_true(neap.now() - begin < 10 * helper.slow)
    assert.matches("^HTTP/1.1 200 OK\r\n.*X%-Content%-Type%-Options: nosniff\r\n",
      curl(s, "-I", "/news?since=0"))
    assert.equal("", s.process:err())
  end)

  it("keeps no more than its limits", function()
    local s = serve "long_poll"
    local status = "-o /dev/null -w '%{http_code}\\n'"
    assert.equal("413\n", curl(s, status .. " -d " .. ("x"):rep(16385), "/news"))
    assert.equal("404\n", curl(s, status, "/a%20b"))
    assert.equal("404\n", curl(s, status, "/" .. ("x"):rep(65)))
    assert.equal("201\n", curl(s, status .. " -d x", "/first"))
    local list = curl(s, "-d x", "/many/../c[001-100]") -- curl drops the dots
    assert.equal(("1\n"):rep(100), list)
    assert.equal("204\n", curl(s, status, "/first?since=0&wait=0")) -- it had been quiet longest
    curl(s, "-d x -o /dev/null", "/c100?[1-104]")
    assert.equal('x 200 </c100?since=6>; rel="next"', curl(s, what, "/c100?since=2"))
    local all = "curl -sZ --parallel-immediate --parallel-max 100 '%s/w[1-100]?wait=20'"
    helper.start(all:format(s.url))
    assert.truthy(helper.wait_until(function()
      return curl(s, status, "/one-more?wait=0") == "503\n" -- somebody waits for each of them
    end))
    assert.matches("^neap: tcp://127.0.0.1:%d+: http: the body is too long\n$", s.process:err())
  end)
end)

local json_server = [[
const http = require("http");
let busy = 2, now = 0, most = 0;
const send = (res, status, value, headers) => {
  res.writeHead(status, { "Content-Type": "application/json; charset=utf-8", ...headers });
  res.end(typeof value === "string" ? value : JSON.stringify(value));
};
const server = http.createServer((req, res) => {
  const url = new URL(req.url, "http://" + req.headers.host);
  const page = Number(url.searchParams.get("page"));
  const item = n => ({ name: "item " + n, url: url.origin + "/items/" + n });
  if (req.headers.accept !== "application/json") return send(res, 406, {});
  if (url.pathname === "/items") {
    const link = page ? {} : { Link: `<${url.origin}/>; rel="last", </items?page=1>; rel="next"` };
    return send(res, 200, page ? [9, 10].map(item) : [1, 2, 3, 4, 5, 6, 7, 8].map(item), link);
  }
  if (url.pathname === "/odd") return send(res, 200, [
    { url: url.origin + "/missing" }, { url: "http://other.test/" }, { url: url.origin + "/html" },
    { url: url.origin + "/broken" }, { url: 7 }, "text", null, { url: url.origin + "/items/1" }]);
  if (url.pathname === "/html") return send(res, 200, "<p>", { "Content-Type": "text/html" });
  if (url.pathname === "/broken") return send(res, 200, '{"a":');
  if (url.pathname === "/away") return send(res, 200, [], { Link: '<http://o/>; rel=next' });
  const number = url.pathname.match(/^\/items\/(\d+)$/);
  if (!number) return send(res, 404, { message: "not found" });
  if (busy-- > 0) return send(res, 503, {}, { "Retry-After": "0" });
  most = Math.max(most, ++now);
  setTimeout(() => { now--; send(res, 200, { number: Number(number[1]), most }); }, 20);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));]]

describe("json_api", function()
  local function node()
    local p = helper.start("exec node -e " .. quote(json_server))
    return "http://127.0.0.1:" .. p:expect "(%d+)\n"
  end

  it("gets all pages and their items from Node, in order, a few at a time", function()
    local url = node()
    local out, err, status = run(example("json_api", url .. "/items"))
    assert.equal("", err)
    assert.equal(0, status)
    local most, n = 0, 0
    for line in out:gmatch "[^\n]+" do
      n = n + 1
      assert.equal(n, tonumber(line:match '"number":(%d+)'), line)
      most = math.max(most, tonumber(line:match '"most":(%d+)'))
    end
    assert.equal(10, n)
    assert.is_true(most >= 2 and most <= 4, "at once: " .. most)
  end)

  it("says what is not as it should be, and goes on", function()
    local url = node()
    local out, err, status = run(example("json_api", url .. "/odd"))
    assert.equal(1, status)
    assert.matches('^{"url":7}\n"text"\nnull\n{[^\n]*"number":1', out)
    for _, text in ipairs {
      "/missing: 404 Not Found", "http://other.test/: another server", "/html: text/html",
      "/broken: Expected value",
    } do assert.truthy(err:find(text, 1, true), text .. " in:\n" .. err) end
    for path, why in pairs { away = "another server", ["items/1x"] = "404" } do
      out, err, status = run(example("json_api", url .. "/" .. path))
      assert.same({ "", 1 }, { out, status })
      assert.truthy(err:find(why, 1, true), err)
    end
    out, err, status = run(example("json_api", "http://127.0.0.1:1/"))
    assert.same({ "", 1 }, { out, status })
    assert.matches("connection refused", err)
  end)
end)

local ws_server = [[
import asyncio, ssl, sys, websockets
async def talk(ws, path=None):
    async for m in ws:
        if m == "bye": await ws.close(4001, "as you like")
        else: await ws.send(m)
async def main():
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1], sys.argv[2])
    s = await websockets.serve(talk, "127.0.0.1", 0, ssl=tls)
    print(s.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()
asyncio.run(main())]]

local function python(arguments)
  local p = helper.start(("exec /usr/bin/python3 -c %s %s"):format(quote(ws_server),
    arguments or ""))
  return (p:expect "(%d+)\n")
end

describe("ws_client", function()
  it("talks to Python's websockets, also over TLS", function()
    local text = "hello\n\nü and " .. ("x"):rep(helper.hard and 2000 or 70000) .. "\n"
    local out, err, status = run(example("ws_client", "ws://127.0.0.1:" .. python()),
      { stdin = text })
    assert.same({ text, "", 0 }, { out, err, status })
    local port = python(certs.path "server.pem" .. " " .. certs.path "server.key")
    local url = "wss://localhost:" .. port .. "/"
    out, err, status = run(example("ws_client", url .. " " .. certs.path "ca.pem"),
      { stdin = text })
    assert.same({ text, "", 0 }, { out, err, status })
    out, err, status = run(example("ws_client", url), { stdin = text })
    assert.same({ "", 1 }, { out, status })
    assert.matches("certificate", err)
  end)

  it("ends when the server does, and says how", function()
    local command = "(echo bye; sleep 20) | %s scripts/examples/ws_client.lua ws://127.0.0.1:%s"
    local p = helper.start(command:format(quote(helper.neap), python()))
    p:expect "closed: 4001 as you like\n"
  end)

  it("talks to ws_echo", function()
    local s = serve "ws_echo"
    local out = run(example("ws_client", (s.url:gsub("^http", "ws"))), { stdin = "one\ntwo" })
    assert.equal("one\ntwo\n", out)
    assert.equal("", s.process:err())
  end)
end)

describe("http_proxy", function()
  local function front(url)
    return serve("http_proxy", ("127.0.0.1:0 %s %s %s"):format(url, certs.path "server.pem",
      certs.path "server.key"))
  end
  local handshake = "GET /x?y HTTP/1.1\r\nHost: front\r\nConnection: Upgrade, X-Secret\r\n" ..
    "X-Secret: 1\r\nUpgrade: %s\r\nSec-WebSocket-Version: 13\r\n" ..
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

  it("lets a WebSocket through to Python's server, over TLS outside", function()
    local s = front("http://127.0.0.1:" .. python())
    local command = "wss://localhost:%s/ %s"
    local text = ("x"):rep(helper.hard and 2000 or 200000) .. "\n"
    local out, err, status = run(example("ws_client", command:format(s.address:match "%d+$",
      certs.path "ca.pem")), { stdin = text .. "bye\n" })
    assert.same({ text, "closed: 4001 as you like\n", 1 },
      { out, err, status })
    assert.equal("", s.process:err())
  end)

  it("passes on what is compressed as it came, to those that asked for it", function()
    local text = ("some text\n"):rep(1000)
    local upstream = require("neap.http").serve("127.0.0.1:0", { compress = true },
      function(_, res) res:send(200, text, { ["Content-Type"] = "text/plain" }) end)
    helper.after(function() upstream:stop(0) end)
    local s = front((upstream.address:gsub("^tcp", "http")))
    local curl = ("curl -sS -D- --cacert %s https://localhost:%s/"):format(certs.path "ca.pem",
      s.address:match "%d+$")
    local plain = run(curl)
    assert.is_true(plain:find(text, 1, true) ~= nil)
    assert.is_nil(plain:lower():find "content%-encoding")
    local packed = run(curl .. " -H 'Accept-Encoding: gzip'")
    assert.matches("content%-encoding: gzip", packed:lower())
    assert.matches(("content%%-length: %d\r"):format(#packed:match "\r\n\r\n(.*)"),
      packed:lower())
    assert.equal(text, require("neap.zlib").decompress(packed:match "\r\n\r\n(.*)"))
  end)

  it("passes on no other upgrade, and none that was not asked for", function()
    local heads = {}
    local upstream = net.serve("127.0.0.1:0", function(conn)
      heads[#heads + 1] = conn:read_until "\r\n\r\n"
      conn:write("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "Set-Cookie: a=b\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello")
    end)
    helper.after(function() upstream:stop(0) end)
    local s = front((upstream.address:gsub("^tcp", "http")))
    local function ask(text)
      local conn <close> = assert(net.connect(s.address:gsub("^tcp", "tls"),
        { ca = certs.path "ca.pem", name = "localhost", timeout = 10 * helper.slow }))
      conn:write(text)
      local head = conn:read_until "\r\n\r\n"
      return head, conn:recv()
    end
    local head, rest = ask(handshake:format "WebSocket")
    assert.matches("^HTTP/1.1 101 .*\r\nsec%-websocket%-accept: s3pPLMBiTxaQ9kYGzzhZRbK%+xOo=$",
      head)
    assert.equal("hello", rest)
    assert.falsy(heads[1]:find "[Ss]ecret")
    assert.matches("^502", ask(handshake:format "h2c"):match "^HTTP/1.1 (.*)")
    assert.falsy(heads[2]:lower():find "upgrade")
    assert.equal(2, #heads)
  end)

  it("leaves the body as it is, compressed or not", function()
    local text = ("a line\n"):rep(3000)
    local upstream = http.serve("127.0.0.1:0", { compress = true }, function(_, res)
      res:send(200, text, { ["Content-Type"] = "text/plain" })
    end)
    helper.after(function() upstream:stop(0) end)
    local s = front((upstream.address:gsub("^tcp", "http")))
    local curl = "curl -sS --max-time 20 --cacert %s %s https://localhost:%s/ | %s"
    local function get(options, filter)
      return (run(curl:format(certs.path "ca.pem", options, s.url:match "%d+$", filter)))
    end
    assert.equal(text, get("", "cat"))
    assert.equal(text, get("--compressed", "cat"))
    assert.equal(text, get("-H 'Accept-Encoding: gzip'", "gzip -dc"))
  end)

  it("tells the server behind it who asks, and sends pieces as they come", function()
    local function take(pieces)
      local text = ""
      while #text < 3 do text = text .. assert(pieces(), "the end") end
      return text
    end
    local seen, got, go = nil, neap.event(), neap.event()
    local upstream = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
      seen = req.headers
      local pieces = req:chunks()
      local first = take(pieces)
      got:set()
      res:write(take(pieces))
      assert(not pieces())
      res:flush()
      go:wait()
      res:write(first)
    end)
    helper.after(function() upstream:stop(0) end)
    local s = front((upstream.address:gsub("^tcp", "http")))
    local body = coroutine.wrap(function()
      coroutine.yield "one"
      assert.is_true(got:wait { timeout = 10 * helper.slow })
      coroutine.yield "two"
    end)
    local reply = assert(http.post(s.url:gsub("^http", "https"), body, {
      tls = { ca = certs.path "ca.pem", name = "localhost" },
      headers = { ["X-Forwarded-For"] = "1.2.3.4", Forwarded = "for=1.2.3.4" },
    }))
    assert.equal("127.0.0.1 https true nil", ("%s %s %s %s"):format(seen["x-forwarded-for"],
      seen["x-forwarded-proto"], seen["x-forwarded-host"] == s.url:match "//(.*)$", seen.forwarded))
    local pieces = reply:chunks()
    assert.equal("two", take(pieces))
    go:set()
    assert.equal("one", take(pieces))
    assert.is_nil(pieces())
    http.forget()
  end)
end)
