-- net.pipe: two streams become one way through, in C; nothing is lost, and whoever waits is told
-- how it ended.

local helper = require "spec.support.helper"
local net = require "neap.net"
local neap = require "neap"

-- A client's end, a server's end, and the task of the pipe between them.
local function between(kind, wrap, opts)
  wrap = wrap or function(s) return s end
  local client, a = net.pair(kind)
  local b, server = net.pair(kind)
  helper.after(function()
    for _, s in ipairs { client, a, b, server } do s:abort() end
  end)
  local task = neap.spawn(function() return table.pack(net.pipe(wrap(a), wrap(b), opts)) end)
  return client, server, task, a, b
end

local function result(task) return select(2, assert(task:join { timeout = 10 * helper.slow })) end

for _, kind in ipairs { "unix", "mem" } do
  describe("pipe over " .. kind, function()
    it("passes bytes and half-closes both ways and counts", function()
      local client, server, task, a = between(kind)
      client:write "question"
      client:shutdown()
      assert.equal("question", server:read "a")
      server:write "the answer"
      server:close()
      assert.equal("the answer", client:read "a")
      assert.same({ 8, 10, n = 2 }, result(task))
      assert.is_false(a.closed)
    end)

    it("passes what was unread before", function()
      local client, a = net.pair(kind)
      local b, server = net.pair(kind)
      client:write "line\nrest"
      assert.equal("line", a:read())
      a:peek(4)
      local task = neap.spawn(net.pipe, a, b)
      assert.equal("rest", server:read(4))
      client:close()
      server:close()
      assert.same({ true, 4, 0 }, { task:join() })
      a:close()
      b:close()
    end)

    it("keeps the pace of the slower side", function()
      local client, server, task, a, b = between(kind)
      local size = helper.hard and 1 << 20 or 8 << 20
      local writer = neap.spawn(function()
        for _ = 1, size >> 16 do client:write(("x"):rep(1 << 16)) end
        client:shutdown()
      end)
      neap.sleep(0.05)
      assert.is_true(b.unsent_bytes <= 256 << 10, tostring(b))
      assert.is_true(a.unread_bytes <= 256 << 10, tostring(a))
      assert.is_true(client.unsent_bytes > 0)
      assert.equal(size, #server:read "a")
      server:shutdown()
      assert.same({ size, 0, n = 2 }, result(task))
      writer:join()
    end)

    it("moves a lot both ways under the fault layer", function()
      local client, server, task = between(kind, function(s) return net.fault(s, { seed = 5,
        cut = 9000, again = 0.3 }) end)
      local text = ("0123456789abcdef"):rep(helper.hard and 1000 or 20000)
      local function talk(s)
        return neap.spawn(function()
          for i = 1, #text, 7001 do s:write(text:sub(i, i + 7000)) end
          s:shutdown()
        end)
      end
      talk(client)
      talk(server)
      local got = neap.spawn(function() return server:read "a" end)
      assert.is_true(client:read "a" == text)
      assert.is_true(result(got) == text)
      assert.same({ #text, #text, n = 2 }, result(task))
    end)

    it("keeps others from the two streams meanwhile, and gives them back after a deadline",
      function()
      local opts = { timeout = 0.3 * math.min(helper.slow, 5) }
      local client, server, task, a, b = between(kind, nil, opts)
      neap.yield()
      for _, f in ipairs { function() a:read() end, function() b:write "x" end,
        function() a:flush() end, function() b:take() end,
        function() net.pipe(a, b) end } do
        local ok, err = pcall(f)
        assert.is_false(ok)
        assert.truthy(err:find "another task is already piping", err)
      end
      client:write "on the way"
      assert.equal("on the way", server:read(10, { timeout = 10 * helper.slow }))
      local r = result(task)
      assert.equal("ETIMEDOUT", r[3])
      assert.equal(10, r[4])
      client:write "later\n"
      assert.equal("later", a:read())
      a:write "back\n"
      assert.equal("back", client:read())
    end)

    it("ends when one of the two is closed, or its task cancelled", function()
      local _, server, task, a = between(kind)
      neap.yield()
      a:close()
      assert.equal("ECANCELED", result(task)[3])
      server:write "x"
      local _, _, second, c, d = between(kind)
      neap.yield()
      second:cancel()
      assert.is_false((second:join()))
      c:write "usable"
      c:flush()
      d:close()
    end)

    it("ends with the failure of either side", function()
      local client, server, task = between(kind)
      server:abort()
      for _ = 1, 100 do
        if not client:write "x" or task:join { timeout = 0.001 } then break end
      end
      client:close()
      local r = result(task)
      if r.n > 2 then assert.is_true(r[3] == "ECONNRESET" or r[3] == "EPIPE", r[3]) end
    end)
  end)
end

describe("pipe", function()
  it("raises for what cannot be connected", function()
    local a, b = net.pair()
    assert.has_error(function() net.pipe(a, a) end)
    assert.has_error(function() net.pipe(a) end)
    assert.has_error(function() net.pipe(a, b, { speed = 1 }) end)
    a:close()
    assert.equal("ECANCELED", select(3, net.pipe(a, b)))
    b:close()
  end)

  it("connects a real client with a real server", function()
    local dir = helper.tmpdir()
    local text = ("line of text\n"):rep(helper.hard and 1000 or 20000)
    helper.write_file(dir .. "/in", text)
    local server = helper.start("exec socat -T 20 UNIX-LISTEN:" .. dir
      .. "/s,fork SYSTEM:'tr a-z A-Z'")
    assert(helper.wait_until(function() return net.connect("unix:" .. dir .. "/s") end)):close()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local task = neap.spawn(function()
      local c <close> = assert(l:accept())
      local up <close> = assert(net.connect("unix:" .. dir .. "/s"))
      return net.pipe(c, up)
    end)
    local port = l.address:match ":(%d+)$"
    local out, err, status = helper.run(("nc -N 127.0.0.1 %s < %s/in"):format(port, dir))
    assert.equal(0, status, err)
    assert.is_true(out == text:upper(), #out .. " bytes")
    assert.same({ true, #text, #text }, { task:join { timeout = 10 } })
    server:kill()
  end)
end)
