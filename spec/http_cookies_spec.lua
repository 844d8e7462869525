-- The client's cookies: the tables of RFC 6265's rules, and servers that set them.

local cookie = require "neap.http.cookie"
local date = require "neap.http.date"
local helper = require "spec.support.helper"
local http = require "neap.http"
local net = require "neap.net"
local servers = require "spec.support.servers"

describe("a cookie's date", function()
  it("is found in whatever order", function()
    local at <const> = 784111777
    for _, text in ipairs {
      "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
      "Sun Nov  6 08:49:37 1994", "6 nov 1994 8:49:37", "08:49:37 1994 NOVEMBER 6",
      "Sun, 06-Nov-1994 08:49:37 GMT", "1994/Nov/6;8:49:37x", "Nov\t6th 94 08:49:37 +0000",
    } do
      assert.equal(at, date.parse_loose(text), text)
    end
    assert.equal(0, date.parse_loose "Thu, 01 Jan 1970 00:00:00 GMT")
    assert.equal(3155760000, date.parse_loose "1 Jan 2070 00:00:00")
    assert.equal(0, date.parse_loose "1 Jan 70 00:00:00")
    assert.equal(date.parse_loose "1 Jan 2069 00:00:00", date.parse_loose "1 Jan 69 00:00:00")
  end)

  it("is none where something is missing or impossible", function()
    for _, text in ipairs {
      "", "x", "0", "06 Nov 1994", "Nov 1994 08:49:37", "06 1994 08:49:37", "06 Nov 08:49:37",
      "32 Nov 1994 08:49:37", "0 Nov 1994 08:49:37", "6 Nov 1600 08:49:37", "6 Nov 1994 24:49:37",
      "6 Nov 1994 08:60:37", "6 Nov 1994 08:49:61", "6 Nov 1994 08:49", "6 Nov 1994 008:49:37",
      "6 Nov 19945 08:49:37", "6 Now 1994 08:49:37", "006 Nov 1994 08:49:37",
    } do
      assert.is_nil(date.parse_loose(text), text)
    end
  end)
end)

describe("Set-Cookie", function()
  local now <const> = 1000000

  it("is read", function()
    for line, want in pairs {
      ["a=b"] = { name = "a", value = "b" },
      ["  a\t=  b c\t "] = { name = "a", value = "b c" },
      ["a="] = { name = "a", value = "" },
      ["a=b=c"] = { name = "a", value = "b=c" },
      ['a="b"'] = { name = "a", value = '"b"' },
      ["a=b; secure"] = { name = "a", value = "b", secure = true },
      ["a=b;Secure=no;HTTPONLY"] = { name = "a", value = "b", secure = true, http_only = true },
      ["a=b; Path=/x"] = { name = "a", value = "b", path = "/x" },
      ["a=b; path=x"] = { name = "a", value = "b" },
      ["a=b; path=/x; path="] = { name = "a", value = "b" }, -- the last one counts
      ["a=b; Domain=.Example.ORG"] = { name = "a", value = "b", domain = "example.org" },
      ["a=b; Max-Age=60"] = { name = "a", value = "b", expires = now + 60 },
      ["a=b; Max-Age=0"] = { name = "a", value = "b", expires = 0 },
      ["a=b; Max-Age=-1"] = { name = "a", value = "b", expires = 0 },
      ["a=b; Max-Age=1e3"] = { name = "a", value = "b" },
      ["a=b; Max-Age=99999999999999999999"] = { name = "a", value = "b",
        expires = now + 400 * 86400 },
      ["a=b; Expires=Thu, 01 Jan 1970 00:00:10 GMT"] = { name = "a", value = "b", expires = 10 },
      ["a=b; Expires=Thu, 01 Jan 2099 00:00:10 GMT"] = { name = "a", value = "b",
        expires = now + 400 * 86400 },
      ["a=b; Expires=soon"] = { name = "a", value = "b" },
      ["a=b; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:10 GMT"] =
        { name = "a", value = "b", expires = now + 60 },
      ["a=b; SameSite=lax; Unknown=1;;;=;"] = { name = "a", value = "b", same_site = "Lax" },
      ["a=b; path=/" .. ("x"):rep(1024)] = { name = "a", value = "b" }, -- too long: absent
      ["a=" .. ("x"):rep(4095)] = { name = "a", value = ("x"):rep(4095) },
    } do
      want.secure, want.http_only = want.secure or false, want.http_only or false
      assert.same(want, cookie.parse(line, now), line)
    end
  end)

  it("is none without a name, with control characters, or too long", function()
    for _, line in ipairs {
      "", "a", "; a=b", "=b", " =b", "a\0=b", "a=b\r\nX: y", "a=b; path=/\1", "a=\127",
      "a=" .. ("x"):rep(4096),
    } do
      assert.is_nil(cookie.parse(line, now), line)
    end
  end)
end)

describe("a cookie jar", function()
  local function jar_with(...)
    local jar = http.cookies()
    for i = 1, select("#", ...), 2 do
      local url, line = select(i, ...)
      assert(jar:set(url, line))
    end
    return jar
  end

  it("gives cookies to the hosts and paths they are for, and to no others", function()
    for _, case in ipairs {
      -- set by, line, for, given?
      { "http://a.org/", "c=1", "http://a.org/", true },
      { "http://a.org/", "c=1", "http://A.ORG:8080/x?y", true }, -- ports are not told apart
      { "http://a.org/", "c=1", "https://a.org/", true },
      { "http://a.org/", "c=1", "http://b.a.org/", false }, -- of the host alone
      { "http://a.org/", "c=1", "http://xa.org/", false },
      { "http://a.org/", "c=1; Domain=a.org", "http://a.org/", true },
      { "http://a.org/", "c=1; Domain=a.org", "http://b.a.org/", true },
      { "http://a.org/", "c=1; Domain=.a.org", "http://c.b.a.org/", true },
      { "http://a.org/", "c=1; Domain=a.org", "http://xa.org/", false },
      { "http://b.a.org/", "c=1; Domain=a.org", "http://a.org/", true },
      { "http://b.a.org/", "c=1; Domain=a.org", "http://c.a.org/", true },
      { "http://localhost/", "c=1; Domain=localhost", "http://localhost/", true },
      { "http://localhost/", "c=1; Domain=localhost", "http://x.localhost/", false },
      { "http://127.0.0.1/", "c=1; Domain=127.0.0.1", "http://127.0.0.1:81/", true },
      { "http://127.0.0.1/", "c=1", "http://27.0.0.1/", false },
      { "http://[::1]/", "c=1", "http://[::1]:81/", true },
      { "http://[::1]/", "c=1", "http://[::2]/", false },
      { "http://a.org/x/y", "c=1", "http://a.org/x", true }, -- the directory
      { "http://a.org/x/y", "c=1", "http://a.org/x/z", true },
      { "http://a.org/x/y", "c=1", "http://a.org/xz", false },
      { "http://a.org/x/y?a/b", "c=1", "http://a.org/", false },
      { "http://a.org/x", "c=1", "http://a.org/", true },
      { "http://a.org/x", "c=1; Path=/y", "http://a.org/y/z", true },
      { "http://a.org/x", "c=1; Path=/y", "http://a.org/y?q", true },
      { "http://a.org/x", "c=1; Path=/y/", "http://a.org/y", false },
      { "http://a.org/x", "c=1; Path=/y/", "http://a.org/y/", true },
      { "https://a.org/", "c=1; Secure", "https://a.org/", true },
      { "https://a.org/", "c=1; Secure", "http://a.org/", false },
      { "https://a.org/", "c=1; HttpOnly", "http://a.org/", true },
      { "https://a.org/", "__Host-c=1; Secure; Path=/", "https://a.org/", true },
      { "https://a.org/", "__Secure-c=1; Secure", "https://a.org/", true },
    } do
      local given = jar_with(case[1], case[2]):get(case[3])
      assert.equal(case[4] and case[2]:match "^[^;]*" or nil, given, table.concat(case, " ", 1, 3))
    end
  end)

  it("refuses what is not the host's to set", function()
    for _, case in ipairs {
      { "http://a.org/", "c=1; Domain=b.org", "others" },
      { "http://a.org/", "c=1; Domain=b.a.org", "others" },
      { "http://xa.org/", "c=1; Domain=a.org", "others" },
      { "http://a.org/", "c=1; Domain=org", "public" },
      { "http://a.org./", "c=1; Domain=org.", "public" },
      { "http://127.0.0.1/", "c=1; Domain=0.0.1", "others" },
      { "http://127.0.0.1/", "c=1; Domain=1", "others" },
      { "http://[::1]/", "c=1; Domain=a.org", "others" },
      { "http://a.org/", "c=1; Secure", "Secure over http" },
      { "http://a.org/", "__Secure-c=1", "promises" },
      { "https://a.org/", "__secure-c=1", "promises" },
      { "https://a.org/", "__Host-c=1; Secure; Path=/x", "promises" },
      { "https://a.org/x/y", "__Host-c=1; Secure", "promises" },
      { "https://a.org/", "__Host-c=1; Secure; Path=/; Domain=a.org", "promises" },
      { "http://a.org/", "nothing", "not a cookie" },
    } do
      local jar = http.cookies()
      local ok, message, code = jar:set(case[1], case[2])
      assert.same({ nil, "EINVAL" }, { ok, code })
      assert.matches(case[3], message)
      assert.same({}, jar:all())
    end
  end)

  it("knows public suffixes if it is told", function()
    local jar = http.cookies { public_suffix = function(name) return name == "co.uk" end }
    assert.matches("public", select(2, jar:set("http://a.co.uk/", "c=1; Domain=co.uk")))
    assert(jar:set("http://a.co.uk/", "c=1; Domain=a.co.uk"))
    assert.equal("c=1", jar:get "http://b.a.co.uk/")
    assert(jar:set("http://co.uk/", "d=1; Domain=co.uk")) -- the suffix itself: its host alone
    assert.equal("d=1", jar:get "http://co.uk/")
    assert.is_nil(jar:get "http://b.co.uk/")
  end)

  it("gives longer paths first, then older cookies; a new value keeps the place", function()
    local jar = jar_with("http://a.org/", "one=1", "http://a.org/", "two=2",
      "http://a.org/x/", "three=3", "http://a.org/", "one=4", "http://a.org/", "x.y=5; Path=/x")
    assert.equal("three=3; x.y=5; one=4; two=2", jar:get "http://a.org/x/")
    assert.equal("one=4; two=2", jar:get "http://a.org/")
    assert.equal("neap.http.cookies{4}", tostring(jar))
  end)

  it("drops what has expired, at once and later", function()
    local jar = jar_with("http://a.org/", "a=1; Max-Age=1", "http://a.org/", "b=2")
    assert.equal("a=1; b=2", jar:get "http://a.org/")
    assert(jar:set("http://a.org/", "b=; Max-Age=0"))
    assert.equal("a=1", jar:get "http://a.org/")
    assert(jar:set("http://a.org/", "new=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"))
    assert.equal(1, #jar:all())
    helper.wait_until(function() return jar:get "http://a.org/" == nil end, 5)
    assert.same({}, jar:all())
    assert.equal(0, jar.count)
  end)

  it("keeps what was set in secrecy from what comes in the clear", function()
    local jar = jar_with("https://a.org/", "c=secret; Secure; Domain=a.org")
    for _, case in ipairs { { "http://a.org/", "c=1" }, { "http://b.a.org/", "c=1" },
      { "http://a.org/x/y", "c=1" }, { "http://a.org/", "c=1; Domain=a.org" } } do
      assert.matches("Secure one", select(2, jar:set(case[1], case[2])))
    end
    local below = jar_with("https://www.a.org/", "c=secret; Secure")
    assert.matches("Secure one",
      select(2, below:set("http://x.a.org/", "c=1; Domain=a.org; Path=/login")))
    assert(below:set("http://b.org/", "c=1"))
    assert(jar:set("http://a.org/", "d=1"))
    assert(jar:set("https://a.org/", "c=2; Domain=a.org"))
    assert.equal("c=2; d=1", jar:get "https://a.org/")
  end)

  it("has room for 50 of a domain and 3000 in all; what was not used goes first", function()
    local jar = http.cookies()
    for i = 1, 50 do assert(jar:set("http://a.org/", ("c%d=; Path=/%d"):format(i, i))) end
    assert.equal("c1=", jar:get "http://a.org/1")
    assert(jar:set("http://a.org/", "new="))
    assert.equal(50, #jar:all())
    assert.equal("c1=; new=", jar:get "http://a.org/1")
    assert.equal("new=", jar:get "http://a.org/2")
    for host = 1, 61 do
      for i = 1, 50 do assert(jar:set(("http://h%d.org/"):format(host), ("c%d="):format(i))) end
    end
    assert.equal(3000, #jar:all())
    assert.equal(3000, jar.count)
    assert.is_nil(jar:get "http://a.org/1")
    assert.is_nil(jar:get "http://h1.org/")
    assert.truthy(jar:get "http://h61.org/")
    jar:clear()
    assert.same({}, jar:all())
    assert(jar:set("http://a.org/", "c=1"))
    assert.equal("c=1", jar:get "http://a.org/")
  end)

  it("shows what it has", function()
    local jar = jar_with("https://b.a.org/x/", "c=1; Domain=a.org; Secure; HttpOnly; SameSite=none")
    assert.same({ { name = "c", value = "1", domain = "a.org", host_only = false, path = "/x",
      secure = true, http_only = true, same_site = "None" } }, jar:all())
    jar:all()[1].value = "other"
    assert.equal("c=1", jar:get "https://a.org/x")
  end)

  it("refuses wrong arguments", function()
    local jar = http.cookies()
    for _, f in ipairs {
      function() http.cookies(5) end, function() http.cookies { path = "x" } end,
      function() http.cookies { public_suffix = {} } end, function() jar:set("a.org", "c=1") end,
      function() jar:set("http://a.org/", 5) end, function() jar:get() end,
      function() http.get("http://127.0.0.1:1/", { cookies = {} }) end,
      function() http.get("http://127.0.0.1:1/", { cookies = true }) end,
    } do
      local ok, message = pcall(f)
      assert.is_false(ok)
      assert.matches("http_cookies_spec.lua:%d+: bad argument", message)
    end
  end)
end)

describe("requests with cookies", function()
  local function serve(handler) return (select(2, servers.http(handler))) end

  local function body(url, opts)
    local r <close> = assert(http.request(url, opts))
    return assert(r:body()), r
  end

  it("carry them along, over redirects and errors, where they belong", function()
    local url = serve(function(req, res)
      local sent = req.headers.cookie or "none"
      if req.path == "/login" then
        res.headers["Set-Cookie"] = { "session=abc; Path=/; HttpOnly", "theme=dark; Max-Age=60" }
        return res:redirect "/home/"
      elseif req.path == "/out" then
        res.headers["Set-Cookie"] = "session=; Path=/; Max-Age=0"
        return res:send(401, sent)
      elseif req.path == "/evil" then
        res.headers["Set-Cookie"] = { "x=1; Domain=example.org", "y=1; Secure", "z=1; Domain=1" }
      end
      res:send(200, sent)
    end)
    local jar = http.cookies()
    assert.equal("none", (body(url .. "/", { cookies = jar })))
    assert.equal("session=abc; theme=dark", (body(url .. "/login", { cookies = jar })))
    assert.equal("session=abc; theme=dark", (body(url .. "/", { cookies = jar })))
    assert.equal("own=1", (body(url, { cookies = jar, headers = { cookie = "own=1" } })))
    assert.equal("none", (body(url)))
    -- 127.0.0.1 and localhost are two hosts
    local there = url:gsub("127%.0%.0%.1", "localhost")
    assert.equal("none", (body(there, { cookies = jar })))
    local _, r = body(url .. "/out", { cookies = jar })
    assert.equal(401, r.status)
    assert.equal("theme=dark", (body(url, { cookies = jar })))
    body(url .. "/evil", { cookies = jar })
    assert.equal("theme=dark", (body(url, { cookies = jar })))
  end)

  it("are not taken to another host by a redirect", function()
    local second = serve(function(req, res) res:send(200, req.headers.cookie or "none") end)
      :gsub("127%.0%.0%.1", "localhost")
    local first = serve(function(_, res)
      res.headers["Set-Cookie"] = "secret=1; Path=/"
      res:redirect(second .. "/")
    end)
    local jar = http.cookies()
    assert.equal("none", (body(first, { cookies = jar, headers = { Cookie = "own=1" } })))
    assert.equal(1, #jar:all())
  end)

  it("work with nginx, which sees and sets them", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/nginx.conf", ([[
      user root; daemon off; pid %s/pid; error_log stderr;
      events {}
      http { access_log off; client_body_temp_path %s/b; proxy_temp_path %s/p;
        fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
        server { listen unix:%s/front;
          location /set { add_header Set-Cookie "a=1; Domain=.example.org; Path=/";
            add_header Set-Cookie "b=2"; return 302 /show/; }
          location /show { return 200 "$cookie_a $http_cookie"; } } }]]):gsub("%%s", dir))
    helper.start(("exec nginx -p %s -c %s/nginx.conf"):format(dir, dir))
    local opts = { via = "unix:" .. dir .. "/front", cookies = http.cookies() }
    helper.wait_until(function()
      local c = net.connect(opts.via)
      if c then c:abort() end
      return c ~= nil
    end, 20)
    assert.equal("1 a=1; b=2", (body("http://www.example.org/set", opts)))
    assert.equal("1 a=1", (body("http://example.org/show", opts)))
    assert.equal(" ", (body("http://example.com/show", opts)))
    http.forget()
  end)
end)
