-- Ends of served connections that go another way than the handler's return: what the server counts,
-- and whether it still watches.

local helper = require "spec.support.helper"
local neap = require "neap"
local net = require "neap.net"

describe("a server's count of connections", function()
  it("goes down for a task that was killed while its error was logged", function()
    local logging = false
    local server = net.serve("127.0.0.1:0", { log = function()
      logging = true
      while true do pcall(neap.sleep, 0.01) end -- swallows its cancellation, until it is closed
    end }, function() error "out of order" end)
    local conn <close> = assert(net.connect(server.address))
    assert(helper.wait_until(function() return logging end))
    assert.equal(1, server.connections)
    assert.equal(1, server:stop(0))
    assert.equal(0, server.connections)
    assert.equal(1, server.total)
    assert.is_nil((conn:read())) -- closed all the same
  end)
end)

describe("a server that was waited for", function()
  it("watches its connections' ends no longer when the wait raises", function()
    local server = net.serve("127.0.0.1:0", function(conn) conn:read() end)
    local _ <close> = assert(net.connect(server.address))
    assert(helper.wait_until(function() return server.connections == 1 end))
    local watched = {}
    local group = server.group
    server.group = setmetatable({}, { __index = function(_, name)
      return function(_, ...)
        if name == "watch_ends" then watched[#watched + 1] = ... end
        return group[name](group, ...)
      end
    end })
    local stopping = neap.spawn(function() server:stop(60) end)
    assert(helper.wait_until(function() return #watched == 1 end))
    stopping:cancel()
    stopping:join()
    assert.same({ true, false }, watched)
    assert.equal(0, server.watchers)
    server.group = group
    assert.equal(1, server:stop(0))
  end)
end)
