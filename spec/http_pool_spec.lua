-- The connections that neap.http's client keeps: how many, for how long, which go first, and what
-- tells them apart.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local tls = require "neap.tls"

local defaults = { per_origin = 8, total = 64, idle_timeout = 30 }

-- A server whose answers wait for those of its path until `n` of them are asked for: so many
-- connections are needed at once.
local function serve(opts, address)
  opts = opts or {}
  opts.log = function() end
  local together = {}
  local server = http.serve(address or "127.0.0.1:0", opts, function(req, res)
    local n = tonumber(req.query.n or 1)
    together[n] = (together[n] or 0) + 1
    helper.wait_until(function() return together[n] % n == 0 end)
    res:send(200, "x")
  end)
  helper.after(function()
    http.forget()
    http.pool(defaults)
    server:stop(0)
  end)
  return server, (server.address:gsub("^tcp", "http"):gsub("^tls", "https"))
end

local function get(url, opts) return assert(assert(http.get(url, opts)):body()) end

-- n connections to it, each of which was used.
local function fill(url, n)
  neap.group(function(g)
    for _ = 1, n do g:spawn(get, url .. "/?n=" .. n) end
  end)
end

-- Waits until it has so many connections.
local function comes_to(server, n)
  helper.wait_until(function() return server.connections == n end)
  assert.equal(n, server.connections)
end

describe("the connections that are kept", function()
  it("are bounded per origin: one below, at it, one above", function()
    for n, left in pairs { [7] = 7, [8] = 8, [9] = 8 } do
      local server, url = serve()
      fill(url, n)
      assert.equal(n, server.total)
      comes_to(server, left)
      http.forget()
    end
  end)

  it("do not go for those of another origin", function()
    local first, a = serve()
    local second, b = serve()
    fill(a, 5)
    fill(b, 12)
    comes_to(second, 8)
    comes_to(first, 5)
    fill(a, 5)
    assert.equal(5, first.total)
  end)

  it("go oldest first when they are too many in all", function()
    http.pool { total = 4 }
    local servers, urls = {}, {}
    for i = 1, 5 do servers[i], urls[i] = serve() end
    for i = 1, 4 do get(urls[i]) end
    get(urls[1]) -- used again: the second one is the oldest now
    get(urls[5])
    comes_to(servers[2], 0)
    for i, n in ipairs { 1, 0, 1, 1, 1 } do assert.equal(n, servers[i].connections, i) end
  end)

  it("go when nobody used them for a while, at the next request to anybody", function()
    local soon <const> = 0.05 * helper.slow
    http.pool { idle_timeout = soon }
    local first, a = serve()
    local second, b = serve()
    fill(a, 3)
    comes_to(first, 3)
    neap.sleep(2 * soon)
    get(b)
    comes_to(first, 0)
    neap.sleep(2 * soon)
    get(b)
    assert.equal(2, second.total) -- the old one was not used again
  end)

  it("go at once when the bounds become smaller, and none is kept if they are 0", function()
    local server, url = serve()
    fill(url, 6)
    http.pool { per_origin = 4 }
    comes_to(server, 4)
    http.pool { total = 2 }
    comes_to(server, 2)
    http.pool { per_origin = 0 }
    comes_to(server, 0)
    get(url)
    comes_to(server, 0)
    http.pool { per_origin = 8, idle_timeout = 0 }
    get(url)
    comes_to(server, 0)
  end)

  it("are told apart by what TLS was asked for", function()
    local server, url = serve(certs.server { ca = certs.path "ca.pem", verify = "request" },
      "tls://127.0.0.1:0")
    local function count(own, n)
      get(url, { tls = own })
      assert.equal(n, server.total)
    end
    count(certs.client(), 1)
    count(certs.client(), 1) -- another table, the same options
    count({ verify = false }, 2) -- what was not checked is not for those who want it checked
    count(certs.client { alpn = { "http/1.1" } }, 3)
    count(certs.client { alpn = { "http/1.1" } }, 3)
    count(certs.client { cert = certs.path "client.pem", key = certs.path "client.key" }, 4)
    local context = assert(tls.context(certs.client()))
    count({ context = context }, 5)
    count({ context = context }, 5)
    count(certs.client(), 5)
    assert(context:reload())
    count({ context = context }, 6) -- its certificates may be others now
    local r, _, code = http.get(url)
    assert.is_nil(r)
    assert.equal("ECERT", code)
  end)

  it("are none of a server that has ended them", function()
    local server = net.serve("127.0.0.1:0", { log = function() end }, function(conn)
      conn:read_until "\r\n\r\n"
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    end)
    helper.after(function()
      http.forget()
      server:stop(0)
    end)
    local url = server.address:gsub("^tcp", "http")
    for i = 1, 5 do
      get(url)
      comes_to(server, 0)
      assert.equal(i, server.total)
    end
  end)

  it("are closed with a task that ends while it looks at one", function()
    local server, url = serve()
    get(url .. "/")
    collectgarbage "stop" -- which would close it, some time
    helper.after(function() collectgarbage "restart" end)
    local task = neap.spawn(http.get, url .. "/")
    neap.yield()
    task:cancel()
    assert.is_false((task:join()))
    comes_to(server, 0)
    assert.equal(1, server.total)
  end)

  it("have bounds that are checked", function()
    for name, value in pairs { total = 1025, per_origin = -1, idle_timeout = "1", other = 1 } do
      local ok, message = pcall(function() http.pool { [name] = value } end)
      assert.is_false(ok)
      assert.matches("^spec/http_pool_spec.lua:%d+: bad argument #1 to 'pool'", message)
      assert.matches("option '" .. name, message)
    end
    http.pool { total = 1024 }
  end)
end)
