-- Heads of HTTP requests: the parser in C (src/core/http.c) beside an LPeg grammar for the same
-- strict language, which gives the same tables.
--
--     build/neap bench/head_parser.lua
--
-- First both read every head below, the refused ones too, and must agree; then each is timed on the
-- same heads, in turns, and the median of the ratios counts.

local codec = require "neap.codec.core"
local lpeg = require "lpeg"

local P, R, S = lpeg.P, lpeg.R, lpeg.S
local C, Ct, Cg, Cc = lpeg.C, lpeg.Ct, lpeg.Cg, lpeg.Cc

-- ---- the grammar ----

local crlf = P "\r\n"
local alnum = R("az", "AZ", "09")
local token = (alnum + S "!#$%&'*+-.^_`|~") ^ 1
local text = R("\33\126", "\128\255")
local blank = S " \t"
local value = C((text ^ 1 * (blank ^ 1 * text ^ 1) ^ 0) ^ -1)
local field = C(token) * ":" * blank ^ 0 * value * blank ^ 0 * crlf
local regname = (alnum + S "-._~!$&'()*+,;=%") ^ 0
local literal = "[" * (alnum + S "-._~!$&'()*+,;=:%[") ^ 0 * "]"
local host = (literal + regname) * (":" * R "09" ^ 0) ^ -1
local target_byte = R "\33\126" - "#"
local path = C((target_byte - "?") ^ 0)
local query = ("?" * Cg(C(target_byte ^ 0), "query")) ^ -1
local origin = #P "/" * Cg(path, "path") * query
local web = (S "hH" * S "tT" * S "tT" * S "pP" * S "sS" ^ -1) * "://"
local absolute = web * Cg(C(host - S "/? "), "host") *
  Cg(#P "/" * path + Cc "/" * #S "? ", "path") * query
local target = Cg(C(#(origin + absolute + "*") * target_byte ^ 1), "target")
local form = #(origin + absolute + Cg(C "*", "path")) * target
local line = Cg(C(token), "method") * " " * (form * P(true)) * " HTTP/1." *
  Cg(S "01" / { ["0"] = 10, ["1"] = 11 }, "version") * crlf
local head = crlf ^ 0 * Ct(line * Cg(Ct(field ^ 0), "fields")) * crlf * -1

-- What the grammar has no word for: fields that stand there twice, and framing.

local function add(headers, key, one)
  local before = headers[key]
  if not before then headers[key] = one
  else headers[key] = before .. (key == "cookie" and "; " or ", ") .. one end
  return before ~= nil
end

local function options(list, h)
  local close, keep
  for word in (list or ""):lower():gmatch "[^,%s]+" do
    if word == "close" then close = true
    elseif word == "keep-alive" then keep = true
    elseif word == "upgrade" then h.upgrade = true end
  end
  h.keep_alive = not close and (h.version == 11 or keep) or nil
end

local function framing(h)
  local headers = h.headers
  local length, coding = headers["content-length"], headers["transfer-encoding"]
  if length then
    if coding or not length:find "^%d+$" or #length > 18 then return nil end
    h.length = tonumber(length)
  end
  if coding then
    if h.version == 10 or not coding:lower():find "^[%s,]*chunked[%s,]*$" then return nil end
    h.chunked = true
  end
  if headers.expect then
    if headers.expect:lower() ~= "100-continue" then return nil end
    h.expects = h.version == 11 or nil
  end
  options(headers.connection, h)
  return h
end

local whole_host = host * -1
local split = Ct(origin + absolute + Cg(C "*", "path"))

local function grammar(bytes)
  local h = head:match(bytes)
  if not h then return nil end
  local fields, headers = h.fields, {}
  for i = 1, #fields, 2 do
    local key = fields[i]:lower()
    local twice = add(headers, key, fields[i + 1])
    if twice and (key == "host" or key == "content-length") or #key > 256 then return nil end
  end
  if #fields > 200 then return nil end
  h.fields, h.headers = nil, headers
  local of_target = split:match(h.target)
  h.path, h.query = of_target.path, of_target.query
  h.host = of_target.host or headers.host
  if h.version == 11 and not headers.host then return nil end
  if headers.host and not whole_host:match(headers.host) then return nil end
  if h.path == "*" and h.method ~= "OPTIONS" then return nil end
  return framing(h)
end

-- ---- the heads ----

local function request(...) return table.concat({ ... }, "\r\n") .. "\r\n\r\n" end

local small = request("GET /hello?name=world HTTP/1.1", "Host: 127.0.0.1:8080",
  "User-Agent: curl/7.88.1", "Accept: */*")
local browser = request("GET /assets/app.js?v=1234567890 HTTP/1.1", "Host: www.example.org",
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) " ..
  "Chrome/120.0.0.0 Safari/537.36", "Accept: text/html,application/xhtml+xml,application/xml;" ..
  "q=0.9,image/avif,image/webp,*/*;q=0.8", "Accept-Language: en-US,en;q=0.5",
  "Accept-Encoding: gzip, deflate, br", "Referer: https://www.example.org/some/page.html",
  "Connection: keep-alive", "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
  "Upgrade-Insecure-Requests: 1", "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate",
  "Sec-Fetch-Site: same-origin", "If-None-Match: \"5f3-1234\"", "Cache-Control: max-age=0")
local long = request("POST /upload HTTP/1.1", "Host: a", "Content-Length: 12",
  "Cookie: " .. ("name=0123456789abcdef; "):rep(160) .. "end=1", "X-A: b", "X-a: c")

local taken = {
  small, browser, long, request("GET / HTTP/1.0"), request("OPTIONS * HTTP/1.1", "Host: a"),
  request("GET HTTP://b:80?q HTTP/1.1", "Host: a"), request("get //?? HTTP/1.1", "Host: [::1]:8"),
  request("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: , Chunked", "Expect: 100-continue"),
  request("GET / HTTP/1.1", "Host: a", "Connection: x, Close", "A:", "B: c\tb\xff ", "A: d"),
}
local refused = {
  request "GET / HTTP/1.1", request("GET / HTTP/1.1", "Host: a", "Host: a"),
  request("GET  / HTTP/1.1", "Host: a"), request("GET / HTTP/1.1", "Host : a"),
  request("GET / HTTP/1.1", "Host: a/b"), request("GET / HTTP/1.1", "Host: a:b"),
  request("GET /#x HTTP/1.1", "Host: a"), request("GET x HTTP/1.1", "Host: a"),
  request("GET / HTTP/1.1", "Host: a", "A: b\rc"), request("GET / HTTP/1.1", "Host: a", " A: b"),
  request("GET / HTTP/1.1", "Host: a", "A(: b"), request("GET / HTTP/1.1", "Host: a", "A: \0"),
  request("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Content-Length: 1"),
  request("POST / HTTP/1.1", "Host: a", "Content-Length: +1"),
  request("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"),
  request("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, gzip"),
  request("POST / HTTP/1.0", "Transfer-Encoding: chunked"), request("GET / HTTP/2.0", "Host: a"),
}

local c = codec.http_request(1 << 16)
local function compiled(bytes)
  local h = c:decode(bytes)
  return h and not h.refusal and h or nil
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, one in pairs(a) do if not same(one, b[key]) then return false, key end end
  for key in pairs(b) do if a[key] == nil then return false, key end end
  return true
end

for _, bytes in ipairs(taken) do
  local mine, its = compiled(bytes), grammar(bytes)
  assert(mine and its and same(mine, its), "the two read another thing in " .. bytes)
end
for _, bytes in ipairs(refused) do
  assert(not compiled(bytes) and not grammar(bytes), "not refused by both: " .. bytes)
end

-- ---- the clock ----

local ROUNDS <const> = 15

local function seconds(f, bytes, n)
  local began = os.clock()
  for _ = 1, n do f(bytes) end
  return (os.clock() - began) / n
end

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

print("head                       C        LPeg     ratio")
for _, row in ipairs { { "3 fields", small }, { "14 fields", browser }, { "a long one", long } } do
  local name, bytes = row[1], row[2]
  local n = 4000000 // (#bytes + 200)
  local ours, theirs, ratios = {}, {}, {}
  for i = 1, ROUNDS do
    ours[i], theirs[i] = seconds(compiled, bytes, n), seconds(grammar, bytes, n)
    ratios[i] = theirs[i] / ours[i]
  end
  print(("%-10s %5d bytes  %5.2f us  %6.2f us  %5.1f"):format(name, #bytes, median(ours) * 1e6,
    median(theirs) * 1e6, median(ratios)))
end
