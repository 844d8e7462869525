-- neap.http and those it meets: ab, siege, h2load, slowhttptest, nginx in front of it, and Node's
-- http both ways. Short runs; wrk, curl and wget are in http_spec.lua.

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local servers = require "spec.support.servers"

local REQUESTS <const> = helper.hard and 40 or helper.sanitized and 200 or 1000

local serve = servers.http

-- Text, pieces, bytes of what was sent.
local function various(req, res)
  if req.path == "/pieces" then
    for i = 1, 3 do res:write("piece ", i, "\n") end
  elseif req.path == "/count" then
    local n = 0
    for piece in req:chunks() do n = n + #piece end
    res:send(200, n .. "\n")
  elseif req.path == "/big" then
    res:send(200, ("0123456789"):rep(helper.hard and 1000 or 100000))
  else
    res:send(200, "hello\n", { ["Content-Type"] = "text/plain" })
  end
end

local function run(command, opts)
  local out, err, status = helper.run(command, opts)
  assert.equal(0, status, command .. "\n" .. out .. err)
  return out .. err
end

describe("an HTTP server answers", function()
  it("ab, with and without keep-alive", function()
    local _, url, logged = serve(various)
    for _, how in ipairs { "", "-k", "-i", "-k -p /etc/passwd -T text/plain" } do
      for _, path in ipairs { "/", "/pieces" } do
        local out = run(("ab -q -n %d -c 8 %s %s%s"):format(REQUESTS // 4, how, url, path))
        assert.matches("Complete requests: +" .. REQUESTS // 4 .. "\n", out)
        assert.matches("Failed requests: +0\n", out)
        assert.not_matches("Non%-2xx", out)
      end
    end
    assert.same({}, logged)
  end)

  it("siege", function()
    local _, url, logged = serve(various)
    local home = helper.tmpdir()
    -- Of a kept connection siege reads no chunks, whoever sends them.
    for how, paths in pairs { ["keep-alive"] = "/ /big /count", close = "/ /pieces /big" } do
      helper.write_file(home .. "/rc", "verbose = false\nlogging = false\nparser = false\n" ..
        "json_output = true\nprotocol = HTTP/1.1\nconnection = " .. how .. "\n")
      local urls = {}
      for path in paths:gmatch "%S+" do
        urls[#urls + 1] = url .. path .. (path == "/count" and " POST a=1" or "") .. "\n"
      end
      helper.write_file(home .. "/urls", table.concat(urls))
      local out = run(("siege -q -b -c 4 -r %d -R %s/rc -f %s/urls"):format(REQUESTS // 10, home,
        home), { env = { HOME = home } })
      assert.equal(REQUESTS // 10 * 4, tonumber(out:match '"transactions":%s*(%d+)'), out)
      assert.matches('"failed_transactions":%s*0%D', out)
      assert.matches('"availability":%s*100.00', out)
    end
    assert.same({}, logged)
  end)

  it("h2load, without HTTP/2", function()
    local server, url, logged = serve(various)
    for _, path in ipairs { "/", "/pieces", "/big" } do
      local out = run(("h2load --h1 -n %d -c 4 %s%s"):format(REQUESTS // 4, url, path))
      local succeeded = ("%d succeeded, 0 failed, 0 errored"):format(REQUESTS // 4)
      assert.truthy(out:find(succeeded, 1, true), out)
    end
    assert.equal(12, server.total)
    assert.same({}, logged)
  end)

  it("nginx, over connections that are kept, to TCP and to a path", function()
    local dir, path = helper.tmpdir(), helper.socket_path()
    local tcp, url = serve(various)
    local unix = serve(various, nil, "unix:" .. path)
    helper.write_file(dir .. "/nginx.conf", ([[
      user root; daemon off; pid DIR/pid; error_log stderr; worker_processes 1;
      events { worker_connections 64; }
      http {
        access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p;
        fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
        client_max_body_size 10m; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_request_buffering off;
        upstream tcp { server ADDRESS; keepalive 4; }
        upstream unix { server unix:SOCKET; keepalive 4; }
        server { listen unix:DIR/front;
          location /tcp/ { proxy_pass http://tcp/; }
          location /unix/ { proxy_pass http://unix/; }
        }
      }]]):gsub("%u+", { DIR = dir, ADDRESS = url:match "//(.*)", SOCKET = path }))
    helper.start(("exec nginx -p %s -c %s/nginx.conf"):format(dir, dir))
    helper.answers(("unix:%s/front"):format(dir))
    local opts = { via = ("unix:%s/front"):format(dir), timeout = 20 * helper.slow }
    local size = helper.hard and 3000 or 1000000
    for _, way in ipairs { "tcp", "unix" } do
      local to = "http://x/" .. way
      for _ = 1, 5 do
        assert.equal("hello\n", assert(http.get(to .. "/", opts)):body())
        assert.equal("piece 1\npiece 2\npiece 3\n", assert(http.get(to .. "/pieces", opts)):body())
        opts.method, opts.body = "POST", ("x"):rep(size)
        assert.equal(size .. "\n", assert(http.request(to .. "/count", opts)):body())
        local left = 10
        opts.body = function()
          left = left - 1
          return left >= 0 and ("y"):rep(size // 10) or nil
        end
        assert.equal(size // 10 * 10 .. "\n", assert(http.request(to .. "/count", opts)):body())
        opts.method, opts.body = nil, nil
      end
    end
    assert.is_true(tcp.total <= 2 and unix.total <= 2, tcp.total .. " " .. unix.total)
  end)
end)

describe("slowhttptest", function()
  -- Heads, bodies and readers that never come to an end, 3 s of each at once.
  local attacks = {
    "-H -i 1", "-B -i 1 -s 8192", "-X -w 1 -y 2 -n 1 -z 8 -k 3",
  }

  it("keeps ab's requests from nothing", function()
    local server, url = serve(various, {
      head_timeout = 1, body_timeout = 1, write_timeout = 1, idle_timeout = 1,
    })
    local started = {}
    for i, attack in ipairs(attacks) do
      started[i] = helper.start(("slowhttptest %s -c 100 -r 100 -l 4 -p 3 -u %s/big"):format(attack,
        url))
    end
    assert(helper.wait_until(function() return server.total > 100 end))
    for _ = 1, 4 do
      local out = run(("ab -q -n %d -c 4 -s 10 %s/"):format(REQUESTS // 10, url))
      assert.matches("Failed requests: +0\n", out)
      assert.not_matches("Non%-2xx", out)
    end
    for i, process in ipairs(started) do
      assert.equal(0, process:wait(20), attacks[i])
      local said = process:out():gsub("\27%[[%d;]*m", "")
      assert.not_matches("service available: +NO", said)
      assert.matches("service available: +YES", said)
    end
    assert(helper.wait_until(function() return server.connections == 0 end, 20))
  end)
end)

describe("Node", function()
  local function node(script, ...)
    local path = helper.write_file(helper.tmpdir() .. "/script.js", script)
    return helper.start(("exec node %s %s"):format(path, table.concat({ ... }, " ")))
  end

  local client = [[
    const http = require("http"), url = process.argv[2], agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    function ask(path, opts, body) {
      return new Promise((resolve, reject) => {
        const req = http.request(url + path, { agent, ...opts }, (res) => {
          let text = "";
          res.on("data", (d) => text += d);
          res.on("end", () => resolve([res.statusCode, text, JSON.stringify(res.trailers)].join(" ")));
          res.on("error", reject);
        });
        req.on("continue", () => { console.log("continue"); if (body) body(req); });
        req.on("error", reject);
        if (body && !(opts.headers || {}).Expect) body(req); else if (!body) req.end();
        if ((opts.headers || {}).Expect) req.flushHeaders();
      });
    }
    (async () => {
      for (let i = 0; i < 3; i++) console.log(await ask("/hello", {}));
      console.log(await ask("/echo", { method: "POST", headers: { Trailer: "x-sum", "Transfer-Encoding": "chunked" } }, (req) => {
        req.write("one "); req.write("two"); req.addTrailers({ "x-sum": "7" }); req.end();
      }));
      console.log(await ask("/echo", { method: "POST", headers: { Expect: "100-continue" } },
        (req) => req.end("asked")));
      console.log(await ask("/refuse", { method: "POST", headers: { Expect: "100-continue" } }, () => {}));
      console.log(await ask("/hello", {}));
      agent.destroy();
      const early = await new Promise((resolve) => {
        const req = http.request(url + "/early", { method: "POST" }, (res) => {
          res.resume();
          res.on("end", () => { req.destroy(); resolve(res.statusCode); });
        });
        req.on("error", () => {});
        const piece = Buffer.alloc(65536);
        (function more() { while (!req.destroyed && req.write(piece)); req.once("drain", more); })();
      });
      console.log(early);
    })().catch((e) => { console.log("failed", e); process.exit(1); });
  ]]

  it("is served: kept connections, chunks and trailers, 100-continue, early answers", function()
    local server, url, logged = serve(function(req, res)
      if req.path == "/hello" then return res:send(200, "hello") end
      if req.path == "/refuse" then return res:send(403, "no") end
      if req.path == "/early" then return res:send(401, "early") end
      local body = req:body()
      res.headers.Trailer = "X-End"
      res:write(body:upper(), " ", (req:trailers() or {})["x-sum"] or "-")
      res:finish { ["X-End"] = "yes" }
    end)
    local process = node(client, url)
    assert.equal(0, process:wait(30), process:err())
    assert.equal("200 hello {}\n200 hello {}\n200 hello {}\n" ..
      '200 ONE TWO 7 {"x-end":"yes"}\n' ..
      'continue\n200 ASKED - {"x-end":"yes"}\n403 no {}\n200 hello {}\n401\n', process:out())
    assert.is_true(server.total <= 3) -- the 403 ends its connection, and so does the early answer
    assert.same({}, logged)
  end)

  local served = [[
    const http = require("http");
    const server = http.createServer((req, res) => {
      if (req.url === "/early") { res.writeHead(413, { Connection: "close" }); return res.end("early"); }
      if (req.url === "/close") { res.writeHead(200, { Connection: "close" }); return res.end("bye"); }
      let text = "";
      req.on("data", (d) => text += d);
      req.on("end", () => {
        res.writeHead(200, { Trailer: "X-End", "X-Port": req.socket.remotePort });
        res.write(req.method + " " + text.length);
        res.addTrailers({ "X-End": "yes" });
        res.end();
      });
    });
    server.on("checkContinue", (req, res) => {
      if (req.url === "/refuse") { res.writeHead(403); return res.end("no"); }
      res.writeContinue();
      server.emit("request", req, res);
    });
    server.listen(0, "127.0.0.1", () => console.log("port " + server.address().port));
  ]]

  it("serves: kept connections, chunks and trailers, 100-continue, early answers", function()
    local process = node(served)
    local url = "http://127.0.0.1:" .. process:expect "port (%d+)"
    helper.after(http.forget)
    local size, ports = helper.hard and 3000 or 1000000, {}
    for _ = 1, 3 do
      local r = assert(http.get(url))
      ports[r.headers["x-port"]] = true
      assert.equal("GET 0", r:body())
      assert.same({ ["x-end"] = "yes" }, r:trailers())
      local left = 10
      r = assert(http.post(url, function()
        left = left - 1
        return left >= 0 and ("x"):rep(size // 10) or nil
      end))
      ports[r.headers["x-port"]] = true
      assert.equal("POST " .. size // 10 * 10, r:body())
    end
    assert.is_nil(next(ports, next(ports))) -- one
    assert.equal("POST 5", assert(http.post(url, "asked", { expect = true })):body())
    assert.equal("no", assert(http.post(url .. "/refuse", "asked", { expect = true })):body())
    assert.equal("bye", assert(http.get(url .. "/close")):body())
    local pieces = 0
    local r = assert(http.post(url .. "/early", function()
      pieces = pieces + 1
      neap.sleep(0.001)
      return ("x"):rep(10000)
    end, { timeout = 20 * helper.slow }))
    assert.equal(413, r.status)
    assert.equal("early", r:body())
    assert.is_true(pieces > 0)
    assert.equal("GET 0", assert(http.get(url)):body())
  end)
end)
