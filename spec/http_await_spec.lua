-- Answers that are given later: what a handler waits for, and the client that has gone meanwhile.

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"

local GET = "GET %s HTTP/1.1\r\nHost: x\r\n\r\n"

-- A server whose handler waits for `source`; what the waits ended with goes into the channel.
local function serve(source, opts)
  local ends = neap.channel(10)
  local server = http.serve("127.0.0.1:0", function(req, res)
    if req.path == "/next" then return res:send(200, "next") end
    local result = table.pack(req:await(source, opts))
    ends:put(result)
    res:send(200, tostring(result[1]))
  end)
  helper.after(function() server:stop(0) end)
  return server, ends
end

local function answer(conn)
  local head = assert(conn:read_until "\r\n\r\n")
  return conn:read(tonumber(head:match "Content%-Length: (%d+)"))
end

describe("a request awaits", function()
  it("an event, and is answered", function()
    local event = neap.event()
    local server, ends = serve(event)
    local client = neap.spawn(function()
      return http.get((server.address:gsub("tcp", "http"))):body()
    end)
    neap.sleep(0.02)
    assert.equal(0, #ends)
    event:set()
    local _, body = client:join()
    assert.equal("true", body)
    http.forget()
  end)

  it("the value of a channel", function()
    local values = neap.channel(1)
    local server = serve({ values, "get" })
    values:put "news"
    local conn <close> = assert(net.connect(server.address))
    conn:write(GET:format "/")
    assert.equal("news", answer(conn))
  end)

  it("only as long as it is told to", function()
    local server, ends = serve(neap.event(), { timeout = 0.01 })
    local conn <close> = assert(net.connect(server.address))
    conn:write(GET:format "/")
    assert.equal("nil", answer(conn))
    assert.same({ nil, "await: timed out", "ETIMEDOUT", n = 3 }, ends:get())
  end)

  it("nothing any more when the client has gone", function()
    for _, leave in ipairs { "close", "abort", "shutdown" } do
      local server, ends = serve(neap.event())
      local conn <close> = assert(net.connect(server.address))
      conn:write(GET:format "/")
      conn:flush()
      neap.sleep(0.02)
      conn[leave](conn)
      assert.same({ nil, "await: the client is gone", "EPIPE", n = 3 }, ends:get { timeout = 5 })
    end
  end)

  it("while curl gives up", function()
    local server, ends = serve(neap.event())
    local _, _, status = helper.run("curl -s -m 0.2 " .. server.address:gsub("tcp", "http"))
    assert.equal(28, status)
    assert.equal("EPIPE", ends:get({ timeout = 5 })[3])
  end)

  it("and a request behind it waits for its turn", function()
    local event = neap.event()
    local server = serve(event)
    local conn <close> = assert(net.connect(server.address))
    conn:write(GET:format "/", GET:format "/next")
    conn:flush()
    neap.sleep(0.02)
    event:set()
    assert.equal("true", answer(conn))
    assert.equal("next", answer(conn))
  end)
end)
