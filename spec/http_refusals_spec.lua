-- What neap.http's server refuses, and what it does not: each row with its status, its line in the
-- log, and whether the connection goes on; all at once, and again a byte at a time.
--
-- Two readers of one connection must not see two requests (RFC 9112 11.2): the rows are what
-- llhttp, hyper, h11 and PortSwigger's catalogue of request smuggling list as ways to make them.

local certs = require "spec.support.certs"
local codec = require "neap.codec.core"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"

local LIMIT_S = 20 * helper.slow

local function serve(...)
  local server, _, logged = servers.http(...)
  return server, logged
end

-- A request with this line or these lines in its head, and a body.
local function get(line) return "GET / HTTP/1.1\r\nHost: a\r\n" .. line .. "\r\n\r\n" end
local function post(line, body)
  return "POST / HTTP/1.1\r\nHost: a\r\n" .. line .. "\r\n\r\n" .. (body or "0\r\n\r\n")
end
local function chunked(body) return post("Transfer-Encoding: chunked", body) end
local function first(line) return line .. "\r\nHost: a\r\n\r\n" end
local function host(value) return "GET / HTTP/1.1\r\nHost:" .. value .. "\r\n\r\n" end

local TE <const> = "Transfer-Encoding: "
local CL <const> = "Content-Length: "

local version, method = "malformed version", "malformed method"
local target, line_end = "malformed target", "a line that does not end in CRLF"
local request, authority = "malformed request line", "malformed authority"
local bad_host, in_target = "malformed Host", "malformed host in the target"
local name, value = "a character that no field name has", "a character that no field value has"
local blanks, no_colon = "blanks between field name and colon", "a field line without colon"
local length, twice = "malformed Content-Length", "Content-Length stands there twice"
local both, after = "Content-Length beside Transfer-Encoding", "a transfer coding after chunked"
local unknown, folded = "unknown transfer coding", "a folded field line"
local size, trailer = "malformed chunk size", "malformed trailer"
local chunk_end, old = "malformed end of chunk", "version is not supported"

-- Request, status, why.
local refused = {
  -- RFC 9112 2.2, 3: lines and their ends
  { "GET / HTTP/1.1\nHost: a\n\n", 400, line_end },
  { "GET / HTTP/1.1\r\nHost: a\n\r\n", 400, line_end },
  { "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, line_end },
  { "GET / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n", 400, line_end },
  { "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\n", 400, line_end },
  { "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, method },
  { "GET / HTTP/1.1\rHost: a\r\n\r\n", 400, version },
  { " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, method },
  { first "GET  / HTTP/1.1", 400, target }, { first "GET /  HTTP/1.1", 400, target },
  { first "GET / x HTTP/1.1", 400, target }, { first "GET\t/ HTTP/1.1", 400, request },
  { first "GET / HTTP/1.1 ", 400, version }, { first "GET /\tHTTP/1.1", 400, request },
  { first "GET /", 400, request }, { first "GET", 400, request }, { first "GET ", 400, request },
  -- 2.3: versions
  { first "GET / HTTP/1.2", 505, old }, { first "GET / HTTP/2.0", 505, old },
  { first "GET / HTTP/0.9", 505, old }, { first "GET / http/1.1", 400, version },
  { first "GET / HTTP/1", 400, version }, { first "GET / HTTP/1.10", 400, version },
  { first "GET / HTTP/01.1", 400, version }, { first "GET / HTTP/1,1", 400, version },
  { first "GET / HTTPS/1.1", 400, version }, { first "GET / HTTP/1.x", 505, old },
  { first "GET / ICY/1.1", 400, version }, { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, old },
  { "\x16\x03\x01\x02\r\n\r\n", 400, request },
  -- 3.1: methods
  { first "G(T / HTTP/1.1", 400, method }, { first "G\0T / HTTP/1.1", 400, method },
  { first "G\xc3T / HTTP/1.1", 400, method }, { first "GET: / HTTP/1.1", 400, method },
  -- 3.2: targets
  { first "GET x HTTP/1.1", 400, target }, { first "GET /#x HTTP/1.1", 400, target },
  { first "GET /\0 HTTP/1.1", 400, target }, { first "GET /\xff HTTP/1.1", 400, target },
  { first "GET /\127 HTTP/1.1", 400, target }, { first "GET ftp://a/x HTTP/1.1", 400, target },
  { first "GET http: HTTP/1.1", 400, target }, { first "GET a:80 HTTP/1.1", 400, target },
  { first "GET http:///x HTTP/1.1", 400, in_target },
  { first "GET http://u@a/x HTTP/1.1", 400, in_target },
  { first "GET http://a:b/x HTTP/1.1", 400, in_target },
  { first "GET http://[::1/x HTTP/1.1", 400, in_target },
  { first "GET http://a\\b/x HTTP/1.1", 400, in_target },
  { first "GET * HTTP/1.1", 400, "only OPTIONS is asked of *" },
  { first "CONNECT / HTTP/1.1", 400, authority }, { first "CONNECT a HTTP/1.1", 400, authority },
  { first "CONNECT a: HTTP/1.1", 400, authority }, { first "CONNECT :1 HTTP/1.1", 400, authority },
  { first "CONNECT [::1] HTTP/1.1", 400, authority },
  { first "CONNECT http://a:1/ HTTP/1.1", 400, authority },
  { first "CONNECT u@a:1 HTTP/1.1", 400, authority },
  -- Host
  { "GET / HTTP/1.1\r\n\r\n", 400, "no Host" },
  { get "Host: a", 400, "Host stands there twice" },
  { get "hOST: b", 400, "Host stands there twice" },
  { host " a b", 400, bad_host }, { host " a/b", 400, bad_host }, { host " u@a", 400, bad_host },
  { host " a:b", 400, bad_host }, { host " a:1:2", 400, bad_host }, { host " a]", 400, bad_host },
  { host " [::1", 400, bad_host }, { host " [::1]a", 400, bad_host },
  { host " ::1", 400, bad_host }, { host " a?b", 400, bad_host },
  { host " a\\b", 400, bad_host }, { host " \xe9", 400, bad_host },
  -- 5: field lines
  { get "A: b\r\n c", 400, folded }, { get "A: b\r\n\tc", 400, folded },
  { "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, folded },
  { get "A: b\r\n ", 400, folded }, { get "A", 400, no_colon },
  { get ": b", 400, "an empty field name" }, { get "A : b", 400, blanks },
  { get "A\t: b", 400, blanks }, { get "A B: c", 400, name }, { get "A(b): c", 400, name },
  { get "A\0: c", 400, name }, { get "\xe9: c", 400, name }, { get "A\x0b: c", 400, name },
  { get "A\r: b", 400, name }, { get "A: b\rc", 400, value }, { get "A: b\r\rc", 400, value },
  { get "A: b\0c", 400, value }, { get "A: b\127c", 400, value }, { get "A: b\x0bc", 400, value },
  { get(("A: b\r\n"):rep(99) .. "A: b"), 431, "too many fields" },
  { get(("A"):rep(257) .. ": b"), 431, "too long a field name" },
  { first("GET /" .. ("a"):rep(20000) .. " HTTP/1.1"), 431, "the head is too long" },
  -- 6.1, 6.3: Transfer-Encoding
  { post(TE .. "gzip"), 501, unknown }, { post(TE .. "identity"), 501, unknown },
  { post(TE .. "xchunked"), 501, unknown }, { post(TE .. "chunkedx"), 501, unknown },
  { post(TE .. "chunke"), 501, unknown }, { post(TE .. '"chunked"'), 501, unknown },
  { post(TE .. "'chunked'"), 501, unknown }, { post(TE .. "chunked;q=1"), 501, unknown },
  { post(TE .. "gzip, chunked"), 501, unknown }, { post(TE .. "identity, chunked"), 501, unknown },
  { post(TE .. "chunked chunked"), 501, unknown }, { post(TE .. "chunked, gzip"), 400, after },
  { post(TE .. "chunked, chunked"), 400, after }, { post(TE .. "chunked, identity"), 400, after },
  { post(TE .. "chunked\r\n" .. TE .. "x"), 400, after },
  { post(TE .. "chunked\r\n" .. TE .. "chunked"), 400, after },
  { post(TE .. "x\r\n" .. TE .. "chunked"), 501, unknown },
  { post "Transfer-Encoding:", 400, "empty Transfer-Encoding" },
  { post(TE .. ","), 400, "empty Transfer-Encoding" },
  { post "Transfer-Encoding : chunked", 400, blanks },
  { post(" " .. TE .. "chunked"), 400, folded },
  { post "X: y\r\n Transfer-Encoding: chunked", 400, folded },
  { post "Transfer-Encoding\n: chunked", 400, line_end },
  { post(TE .. "\x0bchunked"), 400, value }, { post(TE .. "chunked\x0c"), 400, value },
  { post(TE .. "chunked\0"), 400, value }, { post(TE .. "\xa0chunked"), 501, unknown },
  { post(TE .. "chunked\r\n" .. CL .. "5"), 400, both },
  { post(CL .. "5\r\n" .. TE .. "chunked"), 400, both },
  { post(CL .. "0\r\n" .. TE .. "chunked"), 400, both },
  { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    "Transfer-Encoding in HTTP/1.0" },
  -- 6.2: Content-Length
  { post(CL .. "1\r\n" .. CL .. "2", "ab"), 400, twice },
  { post(CL .. "1\r\n" .. CL .. "1", "a"), 400, twice },
  { post(CL .. "1\r\ncontent-length: 1", "a"), 400, twice },
  { post(CL .. "1, 1", "a"), 400, length }, { post(CL .. "1,", "a"), 400, length },
  { post(CL .. "+1", "a"), 400, length }, { post(CL .. "-1", "a"), 400, length },
  { post(CL .. "-0", "a"), 400, length }, { post(CL .. "0x1", "a"), 400, length },
  { post(CL .. "1e0", "a"), 400, length }, { post(CL .. "1.0", "a"), 400, length },
  { post(CL .. "1_0", "a"), 400, length }, { post(CL .. "1 1", "a"), 400, length },
  { post(CL .. "1;", "a"), 400, length }, { post(CL .. '"1"', "a"), 400, length },
  { post(CL .. "\xef\xbc\x91", "a"), 400, length }, { post(CL .. "a", "a"), 400, length },
  { post("Content-Length:", "a"), 400, length }, { post(CL .. "9999999999999999999"), 400, length },
  { post(CL .. "18446744073709551617", "a"), 400, length },
  { post(CL .. "\x0b1", "a"), 400, value }, { post(CL .. "1\0", "a"), 400, value },
  { post("Content-Length : 1", "a"), 400, blanks }, { post("Content Length: 1", "a"), 400, name },
  { post("Content-Length\0: 1", "a"), 400, name },
  -- RFC 9110 10.1.1
  { post "Expect: tea", 417, "unknown expectation" },
  { post "Expect: 100-continue, tea", 417, "unknown expectation" },
  -- 7.1: chunks, which a handler reads that leaves the answer to the server
  { chunked "x\r\n", 400, size }, { chunked "\r\n", 400, size },
  { chunked "-1\r\nab\r\n", 400, size },
  { chunked "+1\r\na\r\n", 400, size }, { chunked "0x1\r\na\r\n", 400, size },
  { chunked "1 \r\na\r\n", 400, size }, { chunked " 1\r\na\r\n", 400, size },
  { chunked "1\na\r\n0\r\n\r\n", 400, size }, { chunked "1;a\nb\r\na\r\n0\r\n\r\n", 400, size },
  { chunked "1\r\r\na\r\n", 400, size }, { chunked "1.0\r\na\r\n", 400, size },
  { chunked "1,1\r\na\r\n", 400, size }, { chunked "1\0\r\na\r\n", 400, size },
  { chunked "1;\0\r\na\r\n", 400, size }, { chunked "1;a=\x0b\r\na\r\n", 400, size },
  { chunked "1;a\rb\r\na\r\n", 400, size }, { chunked ";a\r\n", 400, size },
  { chunked "\xef\xbc\x91\r\na\r\n", 400, size }, { chunked "10000000000000000\r\na", 400, size },
  { chunked "ffffffffffffffff1\r\na\r\n", 400, size },
  { chunked "1000000000000000\r\na\r\n", 400, size },
  { chunked(("0"):rep(300) .. "\r\n"), 413, "too long" },
  { chunked("1;" .. ("x"):rep(300) .. "\r\na\r\n"), 413, "too long" },
  { chunked "1\r\nab\r\n", 400, chunk_end }, { chunked "1\r\na\n0\r\n\r\n", 400, chunk_end },
  { chunked "1\r\na\r0\r\n\r\n", 400, chunk_end },
  { chunked "2\r\na\r\n0\r\n\r\n", 400, chunk_end },
  { chunked "100001\r\n", 413, "the body is too long" },
  { chunked "0\r\nA\r\n\r\n", 400, trailer }, { chunked "0\r\nA : b\r\n\r\n", 400, trailer },
  { chunked "0\r\n A: b\r\n\r\n", 400, trailer }, { chunked "0\r\nA: b\0\r\n\r\n", 400, trailer },
  { chunked "0\r\nA: b\n\r\n\r\n", 400, trailer }, { chunked "0\r\n: b\r\n\r\n", 400, trailer },
  { chunked "0\r\n", 400, trailer }, -- the next request is no trailer
  { chunked("0\r\nA: " .. ("x"):rep(9000) .. "\r\n\r\n"), 413, "too long" },
  { post(CL .. "1048577", ""), 413, "the body is too long" },
}

local function quoted(bytes)
  local text = ("%q"):format(bytes:sub(1, 120)):gsub("\\\n", "\\n"):gsub("\\13", "\\r")
  return text
end

-- All that the server says to these bytes until it ends the connection, or we do.
local function exchange(server, bytes, one_by_one)
  local c <close> = assert(net.connect(server.address, { timeout = LIMIT_S }))
  c.timeout = LIMIT_S
  if one_by_one then
    for at = 1, #bytes do
      if not c:write(bytes:sub(at, at)) or not c:flush() then break end
      neap.yield()
    end
  else
    c:write(bytes)
  end
  c:shutdown()
  return c:read "a"
end

local function without_date(answer) return (answer:gsub("Date: [^\r]*\r\n", "")) end

describe("an HTTP server refuses", function()
  local reached, lines
  local function start()
    reached, lines = 0, {}
    return serve(function(req, res)
      if req:body() then
        reached = reached + 1
        res:send(200)
      end
    end, { access_log = function(line) lines[#lines + 1] = line end })
  end

  it("every row, says why in the log, and ends the connection", function()
    local server, logged = start()
    for i, case in ipairs(refused) do
      local what = quoted(case[1])
      local answer = exchange(server, case[1] .. "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
      assert.equal("HTTP/1.1 " .. case[2], answer:sub(1, 12), what)
      assert.truthy(answer:find("\r\nConnection: close\r\n", 1, true), what)
      local _, answers = answer:gsub("HTTP/1%.1 %d%d%d", "")
      assert.equal(1, answers, what)
      assert.equal(i, #logged, what)
      assert.matches("^neap: tcp://127%.0%.0%.1:%d+: http: [^\n]*$", logged[i])
      assert.truthy(logged[i]:find(case[3], 1, true), what .. " " .. logged[i])
      assert.equal(i, #lines, what)
      assert.truthy(lines[i]:find(('" %d '):format(case[2]), 1, true), lines[i])
    end
    assert.equal(0, reached)
  end)

  if not helper.hard then -- where every byte comes alone anyway
    it("every row just so when it comes a byte at a time", function()
      local server, logged = start()
      for i, case in ipairs(refused) do
        local whole = exchange(server, case[1])
        assert.equal(2 * i - 1, #logged, quoted(case[1]))
        local answer = exchange(server, case[1], true)
        assert.equal(without_date(whole), without_date(answer), quoted(case[1]))
        assert.equal(2 * i, #logged, quoted(case[1]))
        assert.equal(logged[2 * i - 1]:gsub(":%d+: ", ""), logged[2 * i]:gsub(":%d+: ", ""))
      end
      assert.equal(0, reached)
    end)
  end
end)

-- Looks odd, and is right: method, path, query, host, body.
local taken = {
  { "\r\n\r\nGET / HTTP/1.1\r\nhOST:a\r\n\r\n", "GET / - a" },
  { "GET http://b:1/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x y b:1" },
  { "GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / - b" },
  { "GET http://b?y=/?z HTTP/1.1\r\nHost: a\r\n\r\n", "GET / y=/?z b" },
  { "GET https://[::1]:8/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET / - [::1]:8" },
  { "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * - a" },
  { "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS / - b" },
  { "CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT b:443 - b:443" },
  { "CONNECT [::1]:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT [::1]:443 - [::1]:443" },
  { "GET //x HTTP/1.1\r\nHost:\r\n\r\n", "GET //x - " },
  { "GET /?a?b HTTP/1.0\r\n\r\n", "GET / a?b -" },
  { "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET /  a" },
  { "get / HTTP/1.1\r\nHost: a\r\n\r\n", "get / - a" },
  { "M-SEARCH / HTTP/1.0\r\n\r\n", "M-SEARCH / - -" },
  { host " a:", "GET / - a:" }, { host "\t[fe80::1%25eth0]:1 ", "GET / - [fe80::1%25eth0]:1" },
  { host " a,b;c!$&'()*+=~%41", "GET / - a,b;c!$&'()*+=~%41" },
  { get "A: b\xe9\xff", "GET / - a" }, { get "A:", "GET / - a" },
  { get "!#$%&'*+-.^_`|~: b", "GET / - a" },
  { get "A:\t b\t ", "GET / - a" }, { get "Transfer_Encoding: chunked", "GET / - a" },
  { get(CL .. "0"), "GET / - a" }, { post(CL .. "003", "abc"), "POST / - a abc" },
  { post(CL .. "\t3 \t", "abc"), "POST / - a abc" },
  { post("tRANSFER-eNCODING:\tChunked", "1\r\na\r\n0\r\n\r\n"), "POST / - a a" },
  { post("Transfer-Encoding:,chunked ,",
      "5;a=b;c\r\nhello\r\n000A\r\n0123456789\r\n0\r\nX: y\r\n\r\n"),
    "POST / - a hello0123456789" },
  { chunked '1 ;a="b"\r\na\r\n0;x\r\nContent-Length: 9\r\nHost: b\r\n\r\n', "POST / - a a" },
  { chunked "00000000001\r\na\r\n000\r\n\r\n", "POST / - a a" },
  { chunked("aB\r\n" .. ("x"):rep(0xab) .. "\r\n0\r\n\r\n"), "POST / - a " .. ("x"):rep(0xab) },
}

describe("an HTTP server takes", function()
  it("every row as what it is, at once and a byte at a time", function()
    local seen
    local server, logged = serve(function(req, res)
      seen = ("%s %s %s %s %s"):format(req.method, req.path, req.query_string or "-",
        req.host or "-", req:body()):gsub(" +$", "")
      res:send(200)
    end)
    for _, case in ipairs(taken) do
      for round = 1, helper.hard and 1 or 2 do
        seen = nil
        assert.matches("^HTTP/1%.1 200 ", (exchange(server, case[1], round == 2)))
        assert.equal(case[2]:gsub(" +$", ""), seen, quoted(case[1]))
      end
    end
    assert.same({}, logged)
  end)

  it("the next request after an answer that is no refusal", function()
    local router = http.router()
    router:post("/here", function(_, res) res:send(200) end)
    local server, logged = serve(function(req, res)
      if req.path == "/touched" then
        res.status = 418
        return
      end
      return router(req, res)
    end)
    local cases = {
      { "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404 },
      { "GET /here HTTP/1.1\r\nHost: a\r\n\r\n", 405 },
      { "GET /touched HTTP/1.1\r\nHost: a\r\n\r\n", 418 },
      { "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 404 },
      { "POST /here HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" ..
        "1\r\na\r\n0\r\n\r\n", 200 },
    }
    for _, case in ipairs(cases) do
      local answer = exchange(server, case[1] .. "POST /here HTTP/1.1\r\nHost: a\r\n" ..
        "Connection: close\r\n\r\n")
      assert.same({ tostring(case[2]), "200" },
        { answer:match "^HTTP/1.1 (%d+) .*HTTP/1.1 (%d+) [^\n]*\r\n" }, quoted(case[1]))
    end
    assert.same({}, logged)
  end)
end)

-- The answers are small, the uploads are not, and nobody reads them.
describe("a refusal arrives, every time,", function()
  local ways = {
    { "TCP", "tcp://127.0.0.1:0" }, { "TLS", "tls://127.0.0.1:0" }, { "AF_UNIX", "unix:" },
  }
  local heads = {
    { post(CL .. "2000000000", ""), 413 }, { post("Transfer-Encoding: gzip", ""), 501 },
    { post("A : b", ""), 400 }, { chunked "7fffffff\r\n", 413 }, { chunked "x\r\n", 400 },
    { post(CL .. "1048000", ""), 401 }, -- the handler's own, which reads nothing
  }
  local big = ("x"):rep(helper.hard and 20000 or 4 << 20)

  for _, way in ipairs(ways) do
    it("while the client is still sending, over " .. way[1], function()
      local opts, mine = {}, { timeout = LIMIT_S }
      local address = way[2]
      if way[1] == "TLS" then opts, mine = certs.server(), certs.client { timeout = LIMIT_S } end
      if way[1] == "AF_UNIX" then address = address .. helper.socket_path() end
      local server = serve(function(req, res)
        if req.length == 1048000 then return res:send(401, "no\n") end
        req:body()
      end, opts, address)
      for round = 1, helper.hard and 1 or helper.sanitized and 4 or 15 do
        for _, case in ipairs(heads) do
          local c <close> = assert(net.connect(server.address, mine))
          c.timeout = LIMIT_S
          c:write(case[1])
          local writer = neap.spawn(function()
            c:write(big)
            c:flush()
          end)
          local head, message = c:read(codec.http_response())
          assert(head, message)
          assert.equal(case[2], head.status, round)
          assert.equal(head.length, #assert(c:read(head.length)))
          writer:cancel()
          writer:join()
          c:abort()
        end
      end
    end)
  end
end)
