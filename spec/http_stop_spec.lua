-- What server:stop of http.serve ends at once, and what it waits for.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"

local LIMIT_S = 10 * helper.slow
local GRACE_S = 30 * helper.slow -- longer than any test may take

local get <const> = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

local function serve(...)
  local server, _, log = servers.http(...)
  return server, log
end

local function connect(server, opts)
  local conn = assert(net.connect(server.address, opts))
  helper.after(function() conn:abort() end)
  conn.timeout = LIMIT_S
  return conn
end

-- One whole answer with a body of "fine": its head.
local function answer(conn) return assert(conn:read_until "\r\n\r\n"), assert(conn:read(4)) end

local function fine(_, res) res:send(200, "fine") end

-- In a task: stop, which tells how many it had to cancel.
local function stopping(server)
  local task = neap.spawn(server.stop, server, GRACE_S)
  neap.yield()
  return function()
    local ok, cancelled = task:join { timeout = LIMIT_S }
    assert.is_true(ok)
    return cancelled
  end
end

describe("a server of HTTP that stops", function()
  it("lets go of connections between two requests, and of those that have sent nothing", function()
    for way, opts in pairs { tcp = {}, tls = certs.server() } do
      local client = way == "tls" and { verify = false } or nil
      local server, log = serve(fine, opts, way .. "://127.0.0.1:0")
      local used = connect(server, client)
      used:write(get)
      answer(used)
      local fresh = connect(server, client) -- its handshake has not ended there
      helper.wait_until(function() return server.connections == 2 end)
      local stopped = stopping(server)
      assert.equal("", used:read "a")
      assert.equal("", fresh:read "a")
      assert.equal(0, stopped())
      assert.same({}, log)
    end
  end)

  it("finishes a request that it has, and says that it is the last", function()
    local begun, go = neap.event(), neap.event()
    local server, log = serve(function(_, res)
      begun:set()
      go:wait()
      res:send(200, "fine")
    end)
    local conn = connect(server)
    conn:write(get, get) -- the second one is not answered
    begun:wait()
    local stopped = stopping(server)
    go:set()
    local head, body = answer(conn)
    assert.matches("\r\nConnection: close\r\n", head .. "\r\n")
    assert.equal("fine", body)
    assert.equal("", conn:read "a")
    assert.equal(0, stopped())
    assert.same({}, log)
  end)

  it("takes in a request whose head has begun", function()
    local server = serve(fine)
    local conn = connect(server)
    conn:write(get:sub(1, 10))
    conn:flush()
    helper.wait_until(function() return server.connections == 1 end)
    neap.sleep(0.05)
    local stopped = stopping(server)
    conn:write(get:sub(11))
    local head = answer(conn)
    assert.matches("\r\nConnection: close\r\n", head .. "\r\n")
    assert.equal("", conn:read "a")
    assert.equal(0, stopped())
  end)

  it("cancels a handler that takes longer than the grace", function()
    local begun = neap.event()
    local server = serve(function()
      begun:set()
      neap.event():wait()
    end)
    local conn = connect(server)
    conn:write(get)
    begun:wait()
    assert.equal(1, server:stop(0.05))
    assert.equal(0, server.connections)
  end)
end)
