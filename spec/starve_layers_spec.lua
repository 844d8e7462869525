-- Memory that runs out (see spec/support/starve.lua) among files and the layers above streams.

local starve = assert(loadfile("spec/support/starve.lua", "t", _ENV))()

starve("files, watches, sends of files", [[
  local neap, net, fs = require "neap", require "neap.net", require "neap.fs"
  local dir = assert(fs.mkdtemp "TMPDIR/XXXXXX")
  do
    local w <close> = assert(fs.watch(dir))
    assert(fs.write(dir .. "/a", "text\n", { atomic = true }))
    assert(w:event { timeout = 5 })
    local f <close> = assert(fs.open(dir .. "/a", "r+"))
    assert(f:read() == "text" and f:write("more\n"):seek "end" == 10)
    f:seek "set"
    for line in f:lines() do assert(#line == 4) end
    assert(fs.read(dir .. "/a") == "text\nmore\n" and f:stat().size == 10)
    for name in assert(fs.scandir(dir)) do assert(name == "a") end
    local a, b = assert(net.pair())
    local _ <close> = a
    local _ <close> = b
    assert(a:send_file(f, 5) == 5 and b:read() == "more")
    local t = neap.spawn(f.read, f, "a")
    t:cancel()
    t:join()
    assert(f:close())
  end
]])

starve("TLS and HTTP, a server and its client", [[
  local http, neap, tls = require "neap.http", require "neap", require "neap.tls"
  local cert, key = "CERTS/server.pem", "CERTS/server.key"
  local other = assert(tls.context { server = true, cert = cert, key = key })
  local server <close> = http.serve("tls://127.0.0.1:0", { cert = cert, key = key,
    names = { localhost = other }, log = function() end }, function(req, res)
    if req.path == "/all" then return res:send(200, req:body()) end
    for piece in req:chunks() do res:write(piece) end
    res:finish { ["X-End"] = "1" }
  end)
  local opts = { tls = { ca = "CERTS/ca.pem", name = "localhost" }, timeout = 5, body = "text" }
  for _, path in ipairs { "/all", "/pieces" } do
    local r <close>, message, code =
      http.request(server.address:gsub("^tls", "https") .. path, opts)
    if code == "ETIMEDOUT" then io.stderr:write("WRONG: no answer and no end of ", path, "\n") end
    assert(r, message)
    assert(r:body() == "text" and r.tls.peer)
  end
]])

starve("compressed HTTP with cookies, a server and its client", [[
  local http = require "neap.http"
  local text = ("some text "):rep(200)
  local server <close> = http.serve("127.0.0.1:0", { compress = true, log = function() end },
    function(req, res)
      local headers = { ["Content-Type"] = "text/plain", ["Set-Cookie"] = "a=b; Path=/" }
      if req.path == "/all" then return res:send(200, text, headers) end
      for name, value in pairs(headers) do res.headers[name] = value end
      res:write(text)
      res:write(req.headers.cookie or "")
    end)
  local url, jar = server.address:gsub("^tcp", "http"), http.cookies()
  for path, wanted in pairs { ["/all"] = text, ["/pieces"] = text } do
    local r <close> = assert(http.get(url .. path, { cookies = jar, timeout = 1 }))
    local body = r:body()
    assert(not body or body:sub(1, #text) == wanted)
  end
  http.forget()
]])

starve("compression, whole and as it comes", [[
  local zlib = require "neap.zlib"
  local text = ("some text "):rep(2000)
  for _, format in ipairs { "raw", "zlib", "gzip" } do
    local opts = { format = format, dictionary = format ~= "gzip" and "some" or nil }
    assert(zlib.decompress(zlib.compress(text, opts), opts) == text)
    local d <close> = zlib.deflater(opts)
    opts.joined = true
    local i <close> = zlib.inflater(opts)
    for n = 1, 3 do
      if n == 3 then d:reset() i:reset() end
      d:feed(text:sub(1, 5000)):feed(text:sub(5001), n == 2 and "finish" or "sync")
      local got = {}
      for piece in function() return d:next(500) end do
        i:feed(piece)
        for out in function() return i:next(1000) end do got[#got + 1] = out end
      end
      assert(table.concat(got) == text)
      if n == 2 then d:reset() end
    end
  end
]])
