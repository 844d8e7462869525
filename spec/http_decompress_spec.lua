-- Compressed replies: from nginx and Node, and from servers that lie, cut, or send bombs.

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"
local zlib = require "neap.zlib"

local text <const> = ("Some text of a reply, compressed on its way.\n"):rep(3000)

local function gzip(s) return zlib.compress(s, { format = "gzip" }) end

-- A server that says for each connection what f(head) returns.
local function canned(f)
  return servers.raw(function(conn, head) conn:write(f(head)) end) .. "/"
end

local function response(coding, body, more)
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s%s\r\n%s"):format(#body,
    coding and "Content-Encoding: " .. coding .. "\r\n" or "", more or "", body)
end

-- What the client makes of a reply: the body, or message and code; and the reply.
local function outcome(coding, body, opts, more)
  local url = canned(function() return response(coding, body, more) end)
  local r <close> = assert(http.get(url, opts))
  local got, message, code = r:body()
  return got, message, code, r
end

-- Until somebody listens there.
local function wait_for(address)
  helper.wait_until(function()
    local c = net.connect(address)
    if c then c:abort() end
    return c ~= nil
  end, 20)
end

describe("a compressed reply", function()
  it("is decompressed, whatever of gzip and deflate it is", function()
    for coding, body in pairs {
      gzip = gzip(text), ["x-gzip"] = gzip(text), GZIP = gzip(text):rep(1),
      deflate = zlib.compress(text), [" Deflate "] = zlib.compress(text, { format = "raw" }),
      ["deflate, gzip"] = gzip(zlib.compress(text)), ["gzip,gzip"] = gzip(gzip(text)),
      ["identity, gzip"] = gzip(text), identity = text,
    } do
      local got, message, _, r = outcome(coding, body)
      assert.is_true(got == text, message)
      assert.is_true(r.headers["content-encoding"] == nil or coding == "identity")
      assert.is_true(r.headers["content-length"] == nil or coding == "identity")
      assert.equal(coding ~= "identity", r.decompressed ~= nil)
    end
    assert.equal(text .. text, (outcome("gzip", gzip(text):rep(2)))) -- members
    assert.equal("gzip, deflate", (select(4, outcome("deflate, gzip", gzip(zlib.compress "x")))
      .decompressed))
    local _, _, _, r = outcome(nil, "x")
    assert.is_nil(r.decompressed)
  end)

  it("is left alone as far as its coding is unknown", function()
    local got, _, _, r = outcome("br", "\1\2\3")
    assert.equal("\1\2\3", got)
    assert.equal("br", r.headers["content-encoding"])
    assert.equal("3", r.headers["content-length"])
    got, _, _, r = outcome("gzip, br", "\1\2\3") -- br is outside
    assert.equal("\1\2\3", got)
    assert.equal("gzip, br", r.headers["content-encoding"])
    got, _, _, r = outcome("br, gzip", gzip "\1\2\3")
    assert.equal("\1\2\3", got)
    assert.equal("br", r.headers["content-encoding"])
    assert.equal("gzip", r.decompressed)
    local seven = text
    for _ = 1, 7 do seven = gzip(seven) end
    got, _, _, r = outcome(("gzip,"):rep(7), seven)
    assert.equal(gzip(gzip(text)), got) -- five are taken off
    assert.equal("gzip, gzip", r.headers["content-encoding"])
  end)

  it("is asked for, unless the script asks or reads for itself", function()
    local seen
    local url = canned(function(head)
      seen = head .. "\r\n"
      return response("gzip", gzip "text")
    end)
    local function ask(opts)
      local r <close> = assert(http.request(url, opts))
      return r:body(), seen:match "\n[Aa]ccept%-[Ee]ncoding: ([^\r]*)\r"
    end
    assert.same({ "text", "gzip, deflate" }, { ask() })
    assert.same({ "text", "gzip, deflate" }, { ask { decompress = true } })
    assert.same({ gzip "text" }, { ask { decompress = false } })
    local own = { ["accept-encoding"] = "br, gzip" }
    assert.same({ gzip "text", "br, gzip" }, { ask { headers = own } })
    assert.same({ "text", "br, gzip" }, { ask { headers = own, decompress = true } })
    assert.same({ gzip "text" }, { ask { headers = { Range = "bytes=0-" } } })
    assert.same({ "" }, { ask { method = "HEAD" } })
    assert.has_error(function() http.get(url, { decompress = "gzip" }) end)
  end)

  it("in parts is not decompressed", function()
    local url = canned(function()
      return "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n" ..
        "Content-Range: bytes 5-7/100\r\n\r\nxyz"
    end)
    local opts = { headers = { Range = "bytes=5-7" }, decompress = true }
    local r <close> = assert(http.get(url, opts))
    assert.equal("xyz", r:body())
    assert.equal("gzip", r.headers["content-encoding"])
  end)

  it("without a body is one", function()
    assert.equal("", (outcome("gzip", "")))
    local url = canned(function()
      return "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" ..
        "0\r\n\r\n"
    end)
    local r <close> = assert(http.get(url))
    assert.equal("", r:body())
    for _, status in ipairs { 204, 304 } do
      local none = canned(function()
        return ("HTTP/1.1 %d X\r\nContent-Encoding: gzip\r\n\r\n"):format(status)
      end)
      local empty <close> = assert(http.get(none))
      assert.equal("", empty:body())
    end
  end)

  it("that is corrupt or cut fails, and says so again", function()
    local whole = gzip(text)
    for body, case in pairs {
      ["no gzip"] = "EBADMSG", [whole:sub(1, -9) .. "12345678"] = "EBADMSG",
      [whole .. "trailing"] = "EBADMSG", [whole:sub(1, -2)] = "EPIPE", [whole:sub(1, 1)] = "EPIPE",
    } do
      local got, message, code, r = outcome("gzip", body)
      assert.is_nil(got)
      assert.equal(case, code)
      assert.matches("^compressed body: ", message)
      assert.same({ nil, message, code }, { r:body() })
      local ok, err = pcall(r:chunks())
      assert.is_false(ok)
      assert.equal(code, err.code)
    end
    -- The connection's own failure stays what it is.
    local url = canned(function()
      return "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10000\r\n\r\n" ..
        whole:sub(1, 100)
    end)
    local r <close> = assert(http.get(url))
    local got, message, code = r:body()
    assert.same({ nil, "the end came inside the body", "EPIPE" }, { got, message, code })
  end)

  it("that is a bomb is met at max_body, with a few pieces of memory", function()
    local zeros, d, parts = ("\0"):rep(1 << 20), zlib.deflater { format = "gzip" }, {}
    for _ = 1, helper.hard and 8 or 100 do parts[#parts + 1] = d:compress(zeros) end
    parts[#parts + 1] = d:finish()
    local bomb = gzip(table.concat(parts)) -- hundreds of megabytes in a few hundred bytes
    assert.is_true(#bomb < 2000)
    local url = canned(function() return response("gzip, gzip", bomb) end)
    local r <close> = assert(http.get(url, { max_body = 1 << 20 }))
    collectgarbage()
    local before, n = collectgarbage "count", 0
    local ok, err = pcall(function()
      for piece in r:chunks() do n = n + #piece end
    end)
    assert.is_false(ok)
    assert.equal("EMSGSIZE", err.code)
    assert.is_true(n <= 1 << 20)
    assert.is_true(collectgarbage "count" - before < 8192)
    local got, _, code = outcome("gzip", gzip(("x"):rep(101)), { max_body = 100 })
    assert.same({ nil, "EMSGSIZE" }, { got, code })
    assert.equal(100, #outcome("gzip", gzip(("x"):rep(100)), { max_body = 100 }))
  end)

  it("is the same in chunks of a byte, and comes as it is flushed", function()
    local d, go = zlib.deflater { format = "gzip" }, neap.event()
    local server = net.serve("127.0.0.1:0", { log = function() end }, function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
      local function send(bytes)
        for c in bytes:gmatch "." do conn:write("1\r\n", c, "\r\n") end
        conn:flush()
      end
      send(d:compress("first", "sync"))
      assert(go:wait { timeout = 10 })
      send(d:finish "second")
      conn:write "0\r\n\r\n"
    end)
    helper.after(function() server:stop(0) end)
    local r <close> = assert(http.get((server.address:gsub("^tcp", "http"))))
    local next_piece, got = r:chunks(), ""
    while got ~= "first" do got = got .. assert(next_piece()) end
    go:set()
    for piece in next_piece do got = got .. piece end
    assert.equal("firstsecond", got)
    http.forget()
  end)

  it("leaves the connection to the next request", function()
    local count = 0
    local server = net.serve("127.0.0.1:0", { log = function() end }, function(conn)
      count = count + 1
      while conn:read_until "\r\n\r\n" do conn:write(response("gzip", gzip(text))) end
    end)
    helper.after(function()
      http.forget()
      server:stop(0)
    end)
    local url = server.address:gsub("^tcp", "http")
    for i = 1, 3 do
      local r <close> = assert(http.get(url))
      if i == 1 then
        assert.equal(text, r:body())
      else
        local n = 0
        for piece in r:chunks() do n = n + #piece end
        assert.equal(#text, n)
      end
    end
    assert.equal(1, count)
    -- Read to its middle it is not.
    do
      local r <close> = assert(http.get(url, { max_body = 1000 }))
      assert.is_nil((r:body()))
    end
    assert(assert(http.get(url)):body())
    assert.is_true(count <= 2)
  end)

  it("comes from nginx", function()
    local dir = helper.tmpdir()
    os.execute("chmod 755 " .. dir)
    helper.write_file(dir .. "/t.txt", text)
    helper.write_file(dir .. "/small.txt", "small")
    helper.write_file(dir .. "/nginx.conf", ([[
      daemon off; master_process off; pid %s/pid; error_log %s/error.log;
      events {}
      http { access_log off; client_body_temp_path %s; proxy_temp_path %s; fastcgi_temp_path %s;
        uwsgi_temp_path %s; scgi_temp_path %s; gzip on; gzip_types *;
        server { listen unix:%s/sock; root %s; } }]]):format(
      dir, dir, dir, dir, dir, dir, dir, dir, dir))
    helper.start(("exec nginx -p %s -c %s/nginx.conf"):format(dir, dir))
    local opts = { via = "unix:" .. dir .. "/sock" }
    wait_for(opts.via)
    for _ = 1, 2 do
      local r <close> = assert(http.get("http://nginx/t.txt", opts))
      assert.equal("gzip", r.decompressed)
      assert.equal("chunked", r.headers["transfer-encoding"])
      assert.is_true(r:body() == text)
    end
    local r <close> = assert(http.get("http://nginx/small.txt", opts))
    assert.equal("small", r:body())
    assert.is_nil(r.decompressed)
    http.forget()
  end)

  it("comes from Node, in each of its formats", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/server.js", ([[
      const zlib = require('zlib'), http = require('http');
      const text = '%s\n'.repeat(3000);
      http.createServer((req, res) => {
        const name = req.url.slice(1);
        const make = { gzip: zlib.gzipSync, deflate: zlib.deflateSync, raw: zlib.deflateRawSync,
          br: zlib.brotliCompressSync }[name];
        if (name == 'stream') {
          res.writeHead(200, { 'content-encoding': 'gzip' });
          const gz = zlib.createGzip();
          gz.pipe(res);
          gz.end(text);
          return;
        }
        res.writeHead(200, { 'content-encoding': name == 'raw' ? 'deflate' : name,
          'x-asked': req.headers['accept-encoding'] });
        res.end(make(text));
      }).listen('%s/sock');]]):format(text:match "^[^\n]*", dir))
    helper.start("exec node " .. dir .. "/server.js")
    local opts = { via = "unix:" .. dir .. "/sock" }
    wait_for(opts.via)
    for _, name in ipairs { "gzip", "deflate", "raw", "stream" } do
      local r <close> = assert(http.get("http://node/" .. name, opts))
      assert.is_true(r:body() == text, name)
      if name ~= "stream" then assert.equal("gzip, deflate", r.headers["x-asked"]) end
    end
    local r <close> = assert(http.get("http://node/br", opts))
    assert.equal("br", r.headers["content-encoding"])
    assert.is_true(#r:body() < 1000)
    http.forget()
  end)
end)
