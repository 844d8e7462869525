-- Compressed responses: what is compressed and what is not, by tables; against curl, Node and zcat;
-- streams that arrive as they are written.

local compress = require "neap.http.compress"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"
local zlib = require "neap.zlib"

local text <const> = ("Some text that is worth compressing.\n"):rep(300)
local plain <const> = { ["Content-Type"] = "text/plain" }

local function serve(handler, opts)
  opts = opts or {}
  if opts.compress == nil then opts.compress = true end
  local server, url = servers.http(handler, opts)
  return url, server
end

-- The reply as it was sent; for what Accept-Encoding asks, "gzip" if nothing is said.
local function get(url, headers, method)
  headers = headers or { ["Accept-Encoding"] = "gzip" }
  local r <close> = assert(http.request(url, { headers = headers, method = method }))
  local body = assert(r:body())
  local coding = r.headers["content-encoding"]
  return coding == "gzip" and assert(zlib.decompress(body, { format = "gzip" })) or body, r, body
end

describe("Accept-Encoding", function()
  it("is understood, weights included", function()
    for list, wanted in pairs {
      gzip = true, GZIP = true, ["x-gzip"] = true, ["gzip, deflate, br"] = true,
      ["br, gzip;q=0.1"] = true, ["*"] = true, ["*;q=0.5"] = true, ["gzip;q=1.000"] = true,
      ["gzip ; q=1"] = true, ["gzip;Q=0.5"] = true, ["identity;q=0, gzip"] = true,
      ["identity;q=0.5, gzip;q=0.5"] = true, ["deflate;q=0.9, gzip;q=0.1"] = true,
      [""] = false, identity = false, br = false, ["gzip;q=0"] = false, ["gzip;q=0.000"] = false,
      ["*;q=0"] = false, ["gzip;q=0, *"] = false, ["gzip;q=x"] = false, ["gzip;q="] = false,
      ["gzip;q=-1"] = false, ["identity, gzip;q=0.5"] = false, gzipped = false,
      ["identity;q=1, *;q=0.5"] = false, [",,;,"] = false, ["gzip;q=2"] = false,
    } do
      assert.equal(wanted, compress.accepts(list), list)
    end
    assert.is_false(compress.accepts(nil))
  end)
end)

describe("a response", function()
  it("goes compressed to those that ask, and says what it depends on", function()
    local url = serve(function(_, res) res:send(200, text, plain) end)
    local body, r, packed = get(url)
    assert.equal(text, body)
    assert.is_true(#packed < 200)
    assert.equal("gzip", r.headers["content-encoding"])
    assert.equal(tostring(#packed), r.headers["content-length"])
    assert.equal("Accept-Encoding", r.headers.vary)
    body, r = get(url, { ["Accept-Encoding"] = "identity" })
    assert.equal(text, body)
    assert.is_nil(r.headers["content-encoding"])
    assert.equal("Accept-Encoding", r.headers.vary)
    assert.equal(text, assert(http.get(url)):body()) -- our own client, as it is by default
  end)

  it("is left alone where compression is of no use, or does harm", function()
    local answer
    local url = serve(function(_, res) answer(res) end)
    local function sent(f, wanted, vary)
      answer = f
      local body, r = get(url)
      assert.equal(wanted, r.headers["content-encoding"])
      assert.equal(vary, r.headers.vary)
      return body, r
    end
    local function typed(kind, more)
      local headers = { ["content-type"] = kind }
      for name, value in pairs(more or {}) do headers[name] = value end
      return function(res) res:send(200, text, headers) end
    end
    for _, kind in ipairs { "text/html; charset=utf-8", "TEXT/CSS", "application/json",
      "application/problem+json", "image/svg+xml", "application/wasm", "text/event-stream" } do
      sent(typed(kind), "gzip", "Accept-Encoding")
    end
    for _, kind in ipairs { "image/png", "application/octet-stream", "application/gzip",
      "video/mp4", "font/woff2", "multipart/mixed" } do
      sent(typed(kind), nil, nil)
    end
    sent(function(res) res:send(200, text) end, nil, nil) -- nobody knows what it is
    sent(function(res) res:send(200, text:sub(1, 1023), plain) end, nil, nil)
    sent(function(res) res:send(200, text:sub(1, 1024), plain) end, "gzip", "Accept-Encoding")
    sent(function(res) res:send(404, text, plain) end, "gzip", "Accept-Encoding")
    sent(typed("text/plain", { ["Content-Encoding"] = "br" }), "br", nil)
    sent(typed("text/plain", { ["Cache-Control"] = "public, No-Transform" }), nil, nil)
    sent(function(res) res:send(204, "", plain) end, nil, nil)
    sent(function(res)
      res.compress = false
      res:send(200, text, plain)
    end, nil, nil)
    sent(function(res) -- a part of what is not compressed
      res:send(206, text, { ["Content-Type"] = "text/plain", ["Content-Range"] = "bytes 0-9/10" })
    end, nil, "Accept-Encoding")
    -- The tables that the handler gave are its own.
    assert.same({ ["Content-Type"] = "text/plain" }, plain)
  end)

  it("keeps its other fields, with a weak tag", function()
    local url = serve(function(req, res)
      res.headers.Vary = req.query.vary
      res.headers["Set-Cookie"] = { "a=1", "b=2" }
      res:send(200, text, { ["content-type"] = "text/plain", etag = req.query.tag,
        ["X-Other"] = "kept" })
    end)
    for vary, wanted in pairs { Cookie = "Cookie, Accept-Encoding", ["%2a"] = "*",
      ["accept-encoding"] = "accept-encoding", ["A,%20Accept-Encoding"] = "A, Accept-Encoding" } do
      local _, r = get(url .. "/?vary=" .. vary .. "&tag=%22x%22")
      assert.equal(wanted, r.headers.vary)
      assert.equal('W/"x"', r.headers.etag)
      assert.equal("kept", r.headers["x-other"])
      assert.equal("a=1\nb=2", r.headers["set-cookie"])
    end
    local _, r = get(url .. "/?tag=W/%22x%22")
    assert.equal('W/"x"', r.headers.etag)
    _, r = get(url .. "/?tag=%22x%22", { ["Accept-Encoding"] = "br" })
    assert.equal('"x"', r.headers.etag)
  end)

  it("to HEAD has no body, and none that was compressed", function()
    local url = serve(function(_, res) res:send(200, text, plain) end)
    local body, r = get(url, nil, "HEAD")
    assert.equal("", body)
    assert.is_nil(r.headers["content-encoding"])
    assert.equal("Accept-Encoding", r.headers.vary)
    assert.equal(tostring(#text), r.headers["content-length"])
  end)

  it("is compressed if the handler says so, though the server does not", function()
    local url = serve(function(req, res)
      if req.path == "/packed" then res.compress = true end
      res:send(200, text, plain)
    end, { compress = false })
    assert.is_nil((select(2, get(url))).headers.vary)
    local body, r = get(url .. "/packed")
    assert.equal("gzip", r.headers["content-encoding"])
    assert.equal(text, body)
  end)

  it("obeys options, and wrong ones are refused", function()
    local url = serve(function(req, res)
      res:send(200, req.query.n and text:sub(1, tonumber(req.query.n)) or text,
        { ["Content-Type"] = req.query.type or "text/plain" })
    end, { compress = { level = 1, min_size = 10, types = { "application/X-Own" } } })
    assert.equal("gzip", select(2, get(url .. "/?n=10")).headers["content-encoding"])
    assert.is_nil(select(2, get(url .. "/?n=9")).headers["content-encoding"])
    assert.equal("gzip", select(2, get(url .. "/?type=application/x-own"))
      .headers["content-encoding"])
    for _, bad in ipairs { 5, "gzip", { level = 0 }, { level = 10 }, { level = 1.5 },
      { min_size = -1 }, { types = "x" }, { speed = 1 } } do
      local ok, message = pcall(http.serve, "127.0.0.1:0", { compress = bad }, function() end)
      assert.is_false(ok)
      assert.matches("option 'compress': ", message)
    end
  end)

  it("of megabytes goes whole, while others have their turn", function()
    local large = text:rep(helper.hard and 15 or 300)
    local turns, meanwhile = 0, nil
    local url = serve(function(_, res)
      local before = turns
      res:send(200, large, plain)
      meanwhile = turns - before
    end)
    local other = neap.spawn(function()
      while true do
        neap.yield()
        turns = turns + 1
      end
    end)
    local body, r = get(url)
    other:cancel()
    assert.is_true(body == large)
    assert.equal("gzip", r.headers["content-encoding"])
    assert.is_true(meanwhile >= #large // (128 << 10), meanwhile) -- limits.slice
  end)

  it("is read by curl, and is what zcat makes of it", function()
    local url = serve(function(req, res)
      if req.path == "/stream" then
        res.headers["Content-Type"] = "text/plain"
        for at = 1, #text, 1000 do res:write(text:sub(at, at + 999)) end
        return
      end
      res:send(200, text, plain)
    end)
    for _, path in ipairs { "/", "/stream" } do
      local out, err, status = helper.run("curl -sS --compressed " .. url .. path)
      assert.equal("", err)
      assert.equal(0, status)
      assert.is_true(out == text)
      out = helper.run("curl -sS -H 'Accept-Encoding: gzip' " .. url .. path .. " | zcat")
      assert.is_true(out == text)
      out = helper.run("curl -sS " .. url .. path)
      assert.is_true(out == text)
    end
    local both = helper.run(("curl -sS --compressed %s/ %s/stream"):format(url, url))
    assert.is_true(both == text .. text) -- one connection
  end)

  it("is read by Node", function()
    local url = serve(function(req, res)
      res.headers["Content-Type"] = "text/plain"
      if req.path == "/send" then return res:send(200, text) end
      for at = 1, #text, 1000 do res:write(text:sub(at, at + 999)) end
    end)
    local program = ([[
      const http = require('http'), zlib = require('zlib');
      for (const path of ['/send', '/stream'])
        http.get('%s' + path, { headers: { 'accept-encoding': 'gzip' } }, (r) => {
          let n = 0;
          r.pipe(zlib.createGunzip()).on('data', (d) => { n += d.length })
            .on('end', () => console.log(r.headers['content-encoding'], n));
        });]]):format(url)
    local out, err, status = helper.run("node -e " .. helper.quote(program))
    assert.equal(0, status, err)
    assert.equal(("gzip %d\n"):format(#text):rep(2), out)
  end)
end)

describe("a response in pieces", function()
  it("is compressed as it goes, and each piece arrives at once", function()
    local go = neap.channel(1)
    local url = serve(function(_, res)
      res.headers["Content-Type"] = "text/plain"
      for piece in go do res:write(piece) end
    end)
    go:put "first"
    local r <close> = assert(http.get(url))
    local pieces = r:chunks()
    assert.equal("first", pieces())
    assert.equal("gzip", r.decompressed)
    assert.equal("chunked", r.headers["transfer-encoding"])
    for _, piece in ipairs { "one", "two", text, "three" } do
      go:put(piece)
      local got = ""
      while #got < #piece do got = got .. assert(pieces()) end
      assert.equal(piece, got)
    end
    go:close()
    assert.is_nil(pieces())
  end)

  it("of events is one", function()
    local url = serve(function(_, res)
      local event = res:events()
      for i = 1, 3 do
        assert(event("number " .. i))
        neap.sleep(0.01)
      end
    end)
    local out = helper.run("curl -sSN --compressed " .. url)
    assert.equal("data: number 1\n\ndata: number 2\n\ndata: number 3\n\n", out)
    assert.equal(out, (get(url)))
  end)

  it("keeps its length to itself, and to it", function()
    local logged = {}
    local url = serve(function(req, res)
      res.headers["Content-Type"] = "text/plain"
      res.content_length = 2000
      res:write(text:sub(1, req.query.n))
    end, { access_log = function(line) logged[#logged + 1] = line end })
    local body, r, packed = get(url .. "/?n=2000")
    assert.equal(text:sub(1, 2000), body)
    assert.is_nil(r.headers["content-length"])
    assert.matches(("200 %d$"):format(#packed), logged[1]) -- what was sent
    assert.is_nil((http.get(url .. "/?n=1999"))) -- nothing looks whole that is not
    local short <close> = http.get(url .. "/?n=2001")
    assert.is_true(not short or not short:body())
  end)

  it("may have trailers, nothing in it, or nobody who wants it compressed", function()
    local url = serve(function(req, res)
      res.headers["Content-Type"] = "text/plain"
      if req.path == "/none" then return res:finish() end
      res:write "abc"
      res:finish { ["X-Sum"] = "1" }
    end)
    local r <close> = assert(http.get(url))
    assert.equal("abc", r:body())
    assert.equal("1", r:trailers()["x-sum"])
    assert.equal("", (get(url .. "/none")))
    local _, other = get(url, { ["Accept-Encoding"] = "identity" })
    assert.is_nil(other.headers["content-encoding"])
    assert.equal("", (get(url, nil, "HEAD")))
    -- HTTP/1.0 has no chunks.
    local c <close> = assert(net.connect((url:gsub("^http", "tcp"))))
    c:write "GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n"
    local all = c:read "a"
    assert.is_nil(all:find "Content%-Encoding")
    assert.matches("\r\n\r\nabc$", all)
  end)

  it("that breaks off does not look whole", function()
    local url = serve(function(_, res)
      res.headers["Content-Type"] = "text/plain"
      res:write(text)
      error "as asked"
    end)
    local r <close> = http.get(url)
    assert.is_true(not r or not r:body())
  end)

  it("costs little memory for each client", function()
    local count <const> = helper.hard and 10 or 200
    local ready, go = neap.channel(count), neap.event()
    local url, server = serve(function(_, res)
      local event = res:events()
      event "begun"
      ready:put(true)
      go:wait()
    end)
    local function resident()
      return tonumber(helper.read_file "/proc/self/statm":match "^%d+ (%d+)") * 4
    end
    local clients, address = {}, url:gsub("^http", "tcp")
    collectgarbage()
    local before = resident()
    for i = 1, count do
      clients[i] = assert(net.connect(address))
      clients[i]:write "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"
      ready:get()
    end
    local each = (resident() - before) / count
    assert.is_true(helper.sanitized or each < 128, each .. " KiB")
    go:set()
    for _, c in ipairs(clients) do c:abort() end
    assert(server)
  end)
end)

describe("a file", function()
  local function directory()
    local dir = helper.tmpdir()
    local long = text:rep(helper.hard and 2 or 30)
    helper.write_file(dir .. "/a.txt", long)
    helper.write_file(dir .. "/small.txt", "small")
    helper.write_file(dir .. "/a.png", long)
    os.execute("touch -d '1 hour ago' " .. dir .. "/*")
    return dir, long
  end

  it("goes compressed if it is of text", function()
    local dir, long = directory()
    for _, where in ipairs { "serve", "files" } do
      local url = serve(http.files(dir, where == "files" and { compress = true } or nil),
        { compress = where == "serve" })
      local body, r, packed = get(url .. "/a.txt")
      assert.is_true(body == long)
      assert.is_true(#packed < #long / 10)
      assert.equal("Accept-Encoding", r.headers.vary)
      assert.is_nil(r.headers["accept-ranges"])
      assert.matches('^W/"', r.headers.etag)
      local tag = r.headers.etag
      -- The tag is good for the next question, whatever was sent.
      for _, coding in ipairs { "gzip", "identity" } do
        _, r = get(url .. "/a.txt", { ["If-None-Match"] = tag, ["Accept-Encoding"] = coding })
        assert.equal(304, r.status)
        assert.equal("Accept-Encoding", r.headers.vary)
        assert.equal(coding == "gzip" and tag or tag:sub(3), r.headers.etag)
      end
      body, r = get(url .. "/a.txt", { ["Accept-Encoding"] = "identity" })
      assert.is_true(body == long)
      assert.equal("bytes", r.headers["accept-ranges"])
      assert.equal(tag:sub(3), r.headers.etag)
      body, r = get(url .. "/a.txt", { ["Accept-Encoding"] = "gzip", Range = "bytes=5-9" })
      assert.equal(206, r.status)
      assert.equal(long:sub(6, 10), body)
      assert.is_nil(r.headers["content-encoding"])
      assert.equal(tag:sub(3), r.headers.etag:gsub("^W/", ""))
      _, r = get(url .. "/a.txt", { ["Accept-Encoding"] = "gzip", Range = "bytes=5-9",
        ["If-Range"] = tag })
      assert.equal(200, r.status)
      body, r = get(url .. "/a.txt", nil, "HEAD")
      assert.equal("", body)
      assert.equal(tostring(#long), r.headers["content-length"])
      for _, name in ipairs { "/small.txt", "/a.png" } do
        _, r = get(url .. name)
        assert.is_nil(r.headers["content-encoding"])
        assert.is_nil(r.headers.vary)
      end
      assert.is_true(helper.run("curl -sS --compressed " .. url .. "/a.txt") == long)
    end
    local url = serve(http.files(dir, { compress = false }))
    assert.is_nil(select(2, get(url .. "/a.txt")).headers.vary)
    assert.has_error(function() http.files(dir, { compress = {} }) end)
  end)

  it("that becomes shorter on its way ends in a broken connection", function()
    local dir, long = directory()
    local url = serve(function(_, res)
      local write = res.write
      res.write = function(self, ...)
        helper.write_file(dir .. "/a.txt", "shorter")
        return write(self, ...)
      end
      local ok, _, code = res:file(dir .. "/a.txt")
      assert.is_nil(ok)
      assert.equal("ENODATA", code)
    end)
    local r <close> = http.get(url)
    local body = r and r:body()
    assert.is_true(not body or #body < #long)
    assert.is_nil(body)
  end)
end)
