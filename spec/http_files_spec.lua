-- Files over HTTP: against curl and wget, and byte by byte where no client would ask so.

local condition = require "neap.http.condition"
local date = require "neap.http.date"
local fs = require "neap.fs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local net = require "neap.net"
local servers = require "spec.support.servers"

local LIMIT_S = 10 * helper.slow
local OLD <const> = 784111777 -- Sun, 06 Nov 1994 08:49:37 GMT
local OLD_TEXT <const> = "Sun, 06 Nov 1994 08:49:37 GMT"

local function serve(...)
  local server = servers.http(...)
  return server, server.address:match ":(%d+)$"
end

local function run(command)
  local out, err, status = helper.run(command, { limit = 60 })
  return out, status, err
end

-- A directory with a secret beside it.
local function tree()
  local dir = helper.tmpdir()
  local root = dir .. "/root"
  assert(fs.mkdir(root) and fs.mkdir(root .. "/sub") and fs.mkdir(root .. "/bare"))
  assert(fs.mkdir(root .. "/.well-known") and fs.mkdir(root .. "/sub/.well-known"))
  helper.write_file(dir .. "/secret", "secret")
  for name, text in pairs {
    ["a.txt"] = "0123456789", ["index.html"] = "<p>root", ["sub/index.html"] = "<p>sub",
    ["a b%.json"] = "{}", [".hidden"] = "hidden", [".well-known/x"] = "known", empty = "",
    ["sub/.well-known/x"] = "deep", ["UP.HTML"] = "up", ["bare/only"] = "only",
  } do
    helper.write_file(root .. "/" .. name, text)
    assert(fs.utime(root .. "/" .. name, OLD, OLD))
  end
  assert(fs.symlink("../secret", root .. "/out"))
  assert(fs.symlink(root .. "/a.txt", root .. "/absolute"))
  assert(fs.symlink("..", root .. "/up"))
  assert(fs.symlink("a.txt", root .. "/within"))
  assert(fs.symlink("loop", root .. "/loop"))
  assert(os.execute(("mkfifo %s/fifo"):format(root)))
  return root, dir
end

-- status, headers in lower case, body
local function ask(server, target, headers, method)
  local c <close> = assert(net.connect(server.address, { timeout = LIMIT_S }))
  c.timeout = LIMIT_S
  local first = ("%s %s HTTP/1.1"):format(method or "GET", target)
  local lines = { first, "Host: a", "Connection: close" }
  for name, value in pairs(headers or {}) do lines[#lines + 1] = name .. ": " .. value end
  assert(c:write(table.concat(lines, "\r\n"), "\r\n\r\n"))
  local text = assert(c:read "a")
  local head, body = text:match "^(.-)\r\n\r\n(.*)$"
  local fields = {}
  for name, value in head:gmatch "\n([^:]+): ([^\r]*)" do fields[name:lower()] = value end
  return tonumber(head:match " (%d+)"), fields, body
end

describe("fs.open beneath a directory", function()
  local function check(open)
    local root = tree()
    local function try(path) return open(path, root) end
    assert.equal("0123456789", try "a.txt")
    assert.equal("0123456789", try "within")
    assert.equal("0123456789", try "sub/../a.txt")
    for path, code in pairs {
      ["../secret"] = "EXDEV", ["sub/../../secret"] = "EXDEV", out = "EXDEV",
      ["up/secret"] = "EXDEV", ["/etc/passwd"] = "EXDEV", none = "ENOENT", loop = "ELOOP",
      sub = "EISDIR", ["a.txt/x"] = "ENOTDIR",
    } do
      local text, got = try(path)
      assert.is_nil(text, path)
      assert.equal(code, got, path)
    end
  end

  it("stays there", function()
    check(function(path, root)
      local f <close>, message, code = fs.open(path, "r", { beneath = root })
      if not f then
        assert.matches(" beneath ", message, 1, true)
        return nil, code
      end
      return f:read "a"
    end)
  end)

  it("stays there without openat2", function()
    local script = helper.write_file(helper.tmpdir() .. "/s.lua", [[
      local f, _, code = require "neap.fs".open(arg[1], "r", { beneath = arg[2] })
      print(f and f:read "a" or code, f ~= nil)
      os.exit(0)]])
    local command = "ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o /dev/null " ..
      "-e inject=openat2:error=ENOSYS %s %s %s %s"
    check(function(path, root)
      local out = run(command:format(helper.neap, script, path, root))
      local text, good = out:match "^(%S*)\t(%S+)\n$"
      if good == "true" then return text end
      return nil, text
    end)
  end)

  it("does not wait for a FIFO", function()
    local f <close> = assert(fs.open("fifo", "r", { beneath = tree(), timeout = LIMIT_S }))
    assert.is_nil(f.stat)
  end)
end)

describe("HTTP dates", function()
  it("are written and read", function()
    assert.equal(OLD_TEXT, date.format(OLD + 0.7))
    for _, text in ipairs {
      OLD_TEXT, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
    } do
      assert.equal(OLD, date.parse(text), text)
    end
    for seconds = 0, 4e9, 86400 * 13 + 4801 do
      assert.equal(seconds, date.parse(date.format(seconds)))
    end
  end)

  it("are refused when they are none", function()
    for _, text in ipairs {
      "", "x", OLD_TEXT .. " ", " " .. OLD_TEXT, (OLD_TEXT:gsub("GMT", "UTC")),
      (OLD_TEXT:gsub("Nov", "Nev")), (OLD_TEXT:gsub("06", "31")), (OLD_TEXT:gsub("08:", "24:")),
      (OLD_TEXT:gsub("49", "60")), (OLD_TEXT:gsub("06", "6")), "1994-11-06", "784111777",
    } do
      assert.is_nil(date.parse(text), text)
    end
  end)
end)

describe("conditions", function()
  local entity = { size = 10, modified = OLD + 0.5, tag = '"t"' }
  local weak = { size = 10, modified = OLD + 0.5, tag = 'W/"t"', fresh = true }
  local before, after = date.format(OLD - 1), date.format(OLD + 1)

  -- fields, what comes of them, of what (else `entity`), method (else GET)
  local cases = {
    { {}, { 200 } },
    { { ["if-none-match"] = '"t"' }, { 304 } },
    { { ["if-none-match"] = 'W/"t"' }, { 304 } },
    { { ["if-none-match"] = '"x", "t"' }, { 304 } },
    { { ["if-none-match"] = "*" }, { 304 } },
    { { ["if-none-match"] = "*" }, { 412 }, nil, "PUT" },
    { { ["if-none-match"] = '"x"' }, { 200 } },
    { { ["if-none-match"] = "t" }, { 200 } },
    { { ["if-none-match"] = '"t"' }, { 304 }, weak },
    { { ["if-modified-since"] = OLD_TEXT }, { 304 } },
    { { ["if-modified-since"] = OLD_TEXT }, { 304 }, nil, "HEAD" },
    { { ["if-modified-since"] = before }, { 200 } },
    { { ["if-modified-since"] = "yesterday" }, { 200 } },
    { { ["if-modified-since"] = OLD_TEXT, ["if-none-match"] = '"x"' }, { 200 } },
    { { ["if-match"] = '"t"' }, { 200 } },
    { { ["if-match"] = '"x"' }, { 412 } },
    { { ["if-match"] = 'W/"t"' }, { 412 } },
    { { ["if-match"] = 'W/"t"' }, { 412 }, weak },
    { { ["if-match"] = "*" }, { 200 } },
    { { ["if-unmodified-since"] = before }, { 412 } },
    { { ["if-unmodified-since"] = OLD_TEXT }, { 200 } },
    { { ["if-unmodified-since"] = before, ["if-match"] = '"t"' }, { 200 } },
    { { range = "bytes=0-3" }, { 206, 0, 4 } },
    { { range = "Bytes=3-3" }, { 206, 3, 1 } },
    { { range = "bytes=4-" }, { 206, 4, 6 } },
    { { range = "bytes=-3" }, { 206, 7, 3 } },
    { { range = "bytes=-99" }, { 206, 0, 10 } },
    { { range = "bytes=8-99999999999999999999999" }, { 206, 8, 2 } },
    { { range = "bytes=10-" }, { 416 } },
    { { range = "bytes=99999999999999999999999-" }, { 416 } },
    { { range = "bytes=-0" }, { 416 } },
    { { range = "bytes=3-2" }, { 200 } },
    { { range = "bytes=-" }, { 200 } },
    { { range = "bytes=a-b" }, { 200 } },
    { { range = "bytes=0x1-2" }, { 200 } },
    { { range = "bytes=-1-2" }, { 200 } },
    { { range = "lines=0-1" }, { 200 } },
    { { range = "bytes 0-1" }, { 200 } },
    { { range = "bytes=0-1,3-4" }, { 200 } },
    { { range = "bytes=0-3" }, { 200 }, nil, "HEAD" },
    { { range = "bytes=0-3", ["if-range"] = '"t"' }, { 206, 0, 4 } },
    { { range = "bytes=0-3", ["if-range"] = '"x"' }, { 200 } },
    { { range = "bytes=0-3", ["if-range"] = 'W/"t"' }, { 200 } },
    { { range = "bytes=0-3", ["if-range"] = 'W/"t"' }, { 200 }, weak },
    { { range = "bytes=0-3", ["if-range"] = OLD_TEXT }, { 206, 0, 4 } },
    { { range = "bytes=0-3", ["if-range"] = OLD_TEXT }, { 200 }, weak },
    { { range = "bytes=0-3", ["if-range"] = after }, { 200 } },
    { { range = "bytes=99-", ["if-none-match"] = '"t"' }, { 304 } },
    { { range = "bytes=0-0" }, { 416 }, { size = 0, modified = OLD, tag = '"t"' } },
    { { range = "bytes=-1" }, { 200 }, { size = 0, modified = OLD, tag = '"t"' } },
  }

  it("are weighed as RFC 9110 says", function()
    for i, case in ipairs(cases) do
      local got = { condition.evaluate(case[4] or "GET", case[1], case[3] or entity) }
      assert.same(case[2], got, "case " .. i)
    end
  end)
end)

describe("http.files", function()
  it("answers with files and their types", function()
    local root = tree()
    local server = serve(http.files(root, { cache = "max-age=60", types = { txt = "text/x" } }))
    local status, fields, body = ask(server, "/a.txt")
    assert.same({ 200, "0123456789", "10", "text/x", "max-age=60", OLD_TEXT, "bytes" },
      { status, body, fields["content-length"], fields["content-type"], fields["cache-control"],
        fields["last-modified"], fields["accept-ranges"] })
    assert.matches('^"a%-%x+"$', fields.etag)
    for target, want in pairs {
      ["/"] = { 200, "<p>root", "text/html; charset=utf-8" },
      ["/sub/"] = { 200, "<p>sub", "text/html; charset=utf-8" },
      ["/UP.HTML?x=/.."] = { 200, "up", "text/html; charset=utf-8" },
      ["/a%20b%25.json"] = { 200, "{}", "application/json" },
      ["/within"] = { 200, "0123456789", "application/octet-stream" },
      ["/empty"] = { 200, "", "application/octet-stream" },
      ["/.well-known/x"] = { 200, "known", "application/octet-stream" },
    } do
      status, fields, body = ask(server, target)
      assert.same(want, { status, body, fields["content-type"] }, target)
    end
    status, fields, body = ask(server, "/a.txt", nil, "HEAD")
    assert.same({ 200, "10", "" }, { status, fields["content-length"], body })
  end)

  -- target, status; nothing of what stands outside, or is hidden
  local kept = {
    { "/../secret", 404 }, { "/%2e%2e/secret", 404 }, { "/.%2E/secret", 404 },
    { "/sub/../../secret", 404 }, { "/sub/..%2f..%2fsecret", 404 }, { "/..%2Fsecret", 404 },
    { "/..\\secret", 404 }, { "/..%5csecret", 404 }, { "/%252e%252e/secret", 404 },
    { "/%c0%ae%c0%ae/secret", 404 }, { "/..%00/secret", 404 }, { "/a.txt%00.html", 404 },
    { "/a%zz.txt", 404 }, { "/a.txt%", 404 }, { "/./a.txt", 404 }, { "//etc/passwd", 404 },
    { "///etc/passwd", 404 }, { "/%2fetc/passwd", 404 }, { "/sub//index.html", 404 },
    { "//sub", 404 }, { "/out", 404 }, { "/up/secret", 404 }, { "/up", 404 },
    { "/absolute", 404 }, { "/loop", 404 }, { "/fifo", 404 }, { "/none", 404 },
    { "/a.txt/", 404 }, { "/a.txt/x", 404 }, { "/.hidden", 404 }, { "/sub/.well-known/x", 404 },
    { "/bare/", 404 }, { "/" .. ("x"):rep(300), 404 }, { "/" .. ("x/"):rep(3000), 404 },
    { "http://a/../secret", 404 },
  }

  it("keeps inside", function()
    local server = serve(http.files((tree())))
    for _, case in ipairs(kept) do
      local status, _, body = ask(server, case[1])
      assert.equal(case[2], status, case[1])
      assert.equal("404 Not Found\n", body, case[1])
    end
    for _, args in ipairs { "/../secret", "/%2e%2e/secret", "/sub/../../secret" } do
      assert.equal("404", (run(("curl -sS -o /dev/null -w '%%{http_code}' --path-as-is %s%s")
        :format(server.address:gsub("^tcp", "http"), args))))
    end
  end)

  it("shows what is hidden when told, redirects directories, refuses methods", function()
    local root = tree()
    local server = serve(http.files(root, { hidden = true, index = false, prefix = "/p/" }))
    assert.equal("hidden", select(3, ask(server, "/p/.hidden")))
    for _, target in ipairs { "/p/", "/p/sub/", "/p/sub", "/.hidden", "/pp/.hidden", "/p" } do
      assert.equal(404, (ask(server, target)), target)
    end
    server = serve(http.files(root, { prefix = "/p" }))
    local status, fields = ask(server, "/p/sub?a=b")
    assert.same({ 301, "/p/sub/?a=b" }, { status, fields.location })
    status, fields = ask(server, "/p/a.txt", nil, "DELETE")
    assert.same({ 405, "GET, HEAD" }, { status, fields.allow })
    assert.is_truthy(fs.stat(root .. "/a.txt"))
    local url = server.address:gsub("^tcp", "http")
    assert.equal("<p>sub", (run(("curl -sSL %s/p/sub"):format(url))))
  end)

  it("answers 404 when the directory has gone, 403 to what it may not read", function()
    assert.equal(404, (ask(serve(http.files "/nowhere/at/all"), "/x")))
    local root = tree()
    local server = serve(function(req, res)
      local file = http.files(root)
      local real = fs.open
      fs.open = function() return nil, "injected", "EACCES" end -- permissions are nothing to root
      local ok, message = pcall(file, req, res)
      fs.open = real
      assert(ok, message)
    end)
    assert.equal(403, (ask(server, "/a.txt")))
  end)

  it("answers conditions and ranges", function()
    local server = serve(http.files((tree())))
    local _, fields = ask(server, "/a.txt")
    local status, body
    status, fields, body = ask(server, "/a.txt", { ["If-None-Match"] = fields.etag })
    assert.same({ 304, "", nil }, { status, body, fields["content-length"] })
    assert.matches('^"', fields.etag)
    status, fields, body = ask(server, "/a.txt", { ["If-Match"] = '"other"' })
    assert.same({ 412, "" }, { status, body })
    assert.is_nil(fields.etag)
    status, fields, body = ask(server, "/a.txt", { Range = "bytes=2-4" })
    assert.same({ 206, "234", "bytes 2-4/10", "3" },
      { status, body, fields["content-range"], fields["content-length"] })
    status, fields, body = ask(server, "/a.txt", { Range = "bytes=10-" })
    assert.same({ 416, "", "bytes */10" }, { status, body, fields["content-range"] })
    status, _, body = ask(server, "/a.txt", { Range = "bytes=0-1,4-5" })
    assert.same({ 200, "0123456789" }, { status, body })
  end)

  it("gives a weak tag to what has just changed", function()
    local root = tree()
    helper.write_file(root .. "/new", "new")
    local server = serve(http.files(root))
    local _, fields = ask(server, "/new")
    assert.matches('^W/"3%-%x+"$', fields.etag)
    assert.equal(200, (ask(server, "/new", { Range = "bytes=0-1", ["If-Range"] = fields.etag })))
    assert.equal(304, (ask(server, "/new", { ["If-None-Match"] = fields.etag })))
  end)
end)

describe("large files", function()
  local size <const> = helper.hard and 20000 or 5000000

  local function big()
    local root = helper.tmpdir()
    assert(os.execute(("head -c %d /dev/urandom > %s/big"):format(size, root)))
    assert(fs.utime(root .. "/big", OLD, OLD))
    return root, (run(("sha256sum < %s/big"):format(root)))
  end

  for _, kind in ipairs { "tcp", "tls", "unix" } do
    it("arrive whole over " .. kind, function()
      local root, sum = big()
      local address = kind == "unix" and "unix:" .. helper.socket_path() or kind .. "://127.0.0.1:0"
      local opts = kind == "tls" and require("spec.support.certs").server() or {}
      local server = serve(http.files(root), opts, address)
      local url = kind == "unix" and "--unix-socket " .. address:sub(6) .. " http://a/big"
        or server.address:gsub("^tcp", "http"):gsub("^tls", "https") .. "/big"
      assert.equal(sum, (run("curl -sSk " .. url .. " | sha256sum")))
    end)
  end

  it("go on with curl and wget", function()
    local root, sum = big()
    local _, port = serve(http.files(root))
    local url = ("http://127.0.0.1:%s/big"):format(port)
    local dir = helper.tmpdir()
    run(("cd %s && head -c 7000 %s/big > big && cp big b2 && wget -q -c %s && " ..
      "curl -sS -C - -o b2 %s")
      :format(dir, root, url, url))
    assert.equal(sum, (run(("sha256sum < %s/big"):format(dir))))
    assert.equal(sum, (run(("sha256sum < %s/b2"):format(dir))))
    assert.equal((run(("tail -c 100 %s/big | sha256sum"):format(root))),
      (run(("curl -sS -r -100 %s | sha256sum"):format(url))))
    local code = "curl -sS -o /dev/null -w '%{http_code}' "
    assert.equal("416", (run(code .. ("-r 9000000- %s"):format(url))))
    assert.equal("304", (run(code .. ("-z '%s' %s"):format(OLD_TEXT, url))))
    assert.equal("200", (run(code .. ("-z 'Sat, 05 Nov 1994 08:49:37 GMT' %s"):format(url))))
    local tags = ("--etag-save %s/e --etag-compare %s/e %s"):format(dir, dir, url)
    run(("touch %s/e"):format(dir))
    assert.equal("200", (run(code .. tags)))
    assert.equal("304", (run(code .. tags)))
  end)

  it("that shrink end in a broken connection", function()
    local root = big()
    local conn_end
    local server = serve(function(req, res)
      res.status, res.content_length = 200, size * 2
      res:write ""
      conn_end = table.pack(req.conn:send_file(root .. "/big", 0, size * 2))
      res.size = 0
    end)
    local c <close> = assert(net.connect(server.address, { timeout = LIMIT_S }))
    c.timeout = LIMIT_S
    c:write "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local text, _, code = c:read "a"
    assert.is_true(text == nil and code == "ECONNRESET" or #text < size)
    assert.equal("ENODATA", conn_end[3])
  end)
end)

describe("res:file", function()
  it("answers with one file, keeps what was set, or leaves the answer to the handler", function()
    local root = tree()
    local results
    local server = serve(function(req, res)
      res.headers["content-type"] = "text/y"
      results = table.pack(res:file(root .. req.path, { type = "text/z" }))
      if not results[1] then res:send(404, "none") end
    end)
    local status, fields, body = ask(server, "/a.txt")
    assert.same({ 200, "text/y", "0123456789" }, { status, fields["content-type"], body })
    status, fields, body = ask(server, "/none")
    assert.same({ 404, "text/y", "none" }, { status, fields["content-type"], body })
    assert.equal("ENOENT", results[3])
    ask(server, "/sub")
    assert.equal("EISDIR", results[3])
  end)

  it("goes on with the connection", function()
    local root = tree()
    local server = serve(http.files(root))
    local c <close> = assert(net.connect(server.address, { timeout = LIMIT_S }))
    c.timeout = LIMIT_S
    c:write(("GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n"):rep(3),
      "HEAD /a.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /empty HTTP/1.0\r\n\r\n")
    local text = c:read "a"
    assert.equal(3, select(2, text:gsub("\r\n\r\n0123456789", "")))
    assert.equal(5, select(2, text:gsub("200 OK", "")))
  end)

  it("raises for wrong arguments at the caller's line", function()
    local server = serve(function(_, res)
      local lines = {}
      for _, case in ipairs { {}, { 1 }, { "a\0b" }, { "x", { nonsense = 1 } } } do
        lines[#lines + 1] = select(2, pcall(function() res:file(case[1], case[2]) end))
      end
      res:send(200, table.concat(lines, "\n"))
    end)
    for line in (select(3, ask(server, "/"))):gmatch "[^\n]+" do
      assert.matches("^spec/http_files_spec.lua:%d+: bad argument #%d to 'file'", line)
    end
    for _, case in ipairs {
      {}, { "" }, { "a\0" }, { "x", { nonsense = 1 } }, { "x", { index = 1 } },
      { "x", { types = 1 } },
    } do
      local ok, message = pcall(function()
        local _ = http.files(case[1], case[2])
      end)
      assert.is_false(ok)
      assert.matches("^spec/http_files_spec.lua:%d+: bad argument #%d to 'files'", message)
    end
  end)
end)
