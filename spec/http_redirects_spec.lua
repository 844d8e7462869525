-- What a redirect to another origin is not told: fields with secrets, and the certificate that says
-- who the client is. Real TLS servers, which ask for one.

local certs = require "spec.support.certs"
local http = require "neap.http"
local servers = require "spec.support.servers"
local tls = require "neap.tls"

local A_CLIENT <const> = "CN=a client,O=Neap"
local asks = { ca = certs.path "ca.pem", verify = "request" }

local function serve(...) return (select(2, servers.http(...))) end

-- Who asked, with which fields.
local function tell(req, res)
  local peer = req.conn.tls and req.conn.tls.peer
  res:send(200, table.concat({ peer and peer.subject or "nobody", req.headers.authorization or "-",
    req.headers.cookie or "-", req.headers["x-own"] or "-" }, "|"))
end

-- Two servers over TLS: the first one leads to where its path says.
local function two()
  local there = serve(tell, certs.server(asks), "tls://127.0.0.1:0")
  local here = serve(function(req, res)
    if req.path == "/there" then return res:redirect(there .. "/", 307) end
    if req.path == "/here" then return res:redirect("/", 307) end
    local to = req.path:match "^/to/(.*)$"
    if to then return res:redirect(http.decode(to), 307) end
    tell(req, res)
  end, certs.server(asks), "tls://127.0.0.1:0")
  return here, there
end

local function get(url, own)
  local r = assert(http.get(url, { tls = own, headers = { Authorization = "a", Cookie = "c",
    ["X-Own"] = "x" } }))
  return assert(r:body())
end

local function identity(more)
  local own = certs.client { cert = certs.path "client.pem", key = certs.path "client.key" }
  for key, value in pairs(more or {}) do own[key] = value end
  return own
end

describe("a redirect to another origin", function()
  it("is made without the client's certificate, and trusts whom the first one trusted", function()
    local here, there = two()
    local both = A_CLIENT .. "|a|c|x"
    assert.equal(both, get(here, identity()))
    assert.equal(both, get(here .. "/here", identity()))
    assert.equal("nobody|-|-|x", get(here .. "/there", identity()))
    assert.equal(both, get(there, identity())) -- who is asked for it gets it
    -- The authority is still ours alone: without it there is no trust.
    local none, _, code = http.get(here .. "/there")
    assert.is_nil(none)
    assert.equal("ECERT", code)
  end)

  it("leaves the certificate of a context behind too, on the way back also", function()
    local here, there = two()
    local context = assert(tls.context(identity()))
    assert.equal(A_CLIENT .. "|a|c|x", get(here .. "/here", { context = context }))
    assert.equal("nobody|-|-|x", get(here .. "/there", { context = context }))
    local back = serve(function(_, res) res:redirect(here .. "/", 307) end, certs.server(asks),
      "tls://127.0.0.1:0")
    assert.equal("nobody|-|-|x", get(here .. "/to/" .. back .. "/", { context = context }))
    assert.equal(A_CLIENT .. "|a|c|x", get(there, { context = context })) -- it is as it was
  end)

  it("goes to a server that is checked for its own name, not for the first one's", function()
    local here = two()
    local leaf = serve(tell, { cert = certs.path "chain.pem", key = certs.path "leaf.key" },
      "tls://localhost:0")
    local named = certs.client { name = "x.example.test" } -- no name of the leaf's
    assert.equal("nobody|-|-|x", get(("%s/to/https://localhost:%s/"):format(here,
      leaf:match ":(%d+)$"), named))
    local other = { cert = certs.path "other.pem", key = certs.path "other.key" }
    local to
    local first = serve(function(_, res) res:redirect(to, 307) end, other, "tls://127.0.0.1:0")
    to = serve(tell, other, "tls://127.0.0.1:0")
    local r, _, code = http.get(first, { tls = certs.client { name = "other.test" } })
    assert.is_nil(r)
    assert.equal("ECERT", code)
  end)

  it("is one when only the scheme changes, and none when only letters do", function()
    local plain = serve(tell, {}, "tcp://localhost:0")
    local port = plain:match ":(%d+)$"
    local here = two()
    assert.equal("nobody|-|-|x", get(here .. "/to/" .. plain .. "/", identity()))
    local first = serve(function(req, res)
      if req.path == "/" then return tell(req, res) end
      res:redirect(("http://LOCALHOST:%s/"):format(req.host:match "%d+$"), 307)
    end, {}, "tcp://localhost:0")
    assert.equal("nobody|a|c|x", get(("http://localhost:%s/x"):format(first:match "%d+$")))
    assert.equal("nobody|a|c|x", get("http://localhost:" .. port))
  end)

  it("speaks of no body that it does not have", function()
    local url
    url = serve(function(req, res)
      local status = tonumber(req.path:match "^/(%d+)$")
      if status then return res:redirect("end", status) end
      local named = {}
      for name in pairs(req.headers) do
        if name:find "^content" or name == "x-own" then named[#named + 1] = name end
      end
      table.sort(named)
      res:send(200, req.method .. " " .. table.concat(named, " "))
    end, {}, "tcp://127.0.0.1:0")
    local opts = { headers = { ["Content-Type"] = "text/x", ["Content-Language"] = "de",
      ["X-Own"] = "x" } }
    assert.equal("GET x-own", assert(http.post(url .. "/303", "b", opts)):body())
    assert.equal("POST content-language content-length content-type x-own",
      assert(http.post(url .. "/307", "b", opts)):body())
  end)
end)
