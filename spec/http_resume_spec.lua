-- Reading a body that was given up in its middle, by a deadline around it or by cancellation: what
-- is read next is all of it, not the rest. Both sides, every coding, cut at every byte.

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local servers = require "spec.support.servers"
local zlib = require "neap.zlib"

local text <const> = ("What came before the deadline stays.\n"):rep(3)
local framed <const> = {
  ("Content-Length: %d\r\n\r\n%s"):format(#text, text),
  ("Transfer-Encoding: chunked\r\n\r\n" ..
    "5\r\n%s\r\n%x;x=y\r\n%s\r\n1\r\n%s\r\n0\r\nA: b\r\nC: d\r\n\r\n"):format(text:sub(1, 5),
    #text - 6, text:sub(6, -2), text:sub(-1)),
}

-- Writes the bytes one by one, each when `hungry` says that the reader has had its turn.
local function trickle(conn, bytes, hungry)
  for i = 1, #bytes do
    conn:write(bytes:sub(i, i))
    conn:flush()
    hungry()
  end
end

-- A turn for the reader: it has seen all that was sent, and waits.
local function turns()
  local ready = neap.channel(1)
  return ready, function() ready:get { timeout = 5 * helper.slow } end
end

-- Reads by deadlines that are over at once, until there is a result: it, and how many were met.
local function patiently(read, ready)
  local met = 0
  while true do
    local got, message, code = neap.timeout(0.002 * helper.slow, read)
    if code ~= "ETIMEDOUT" then
      ready:close()
      return got or message, met
    end
    met = met + 1
    assert(met < 1000, "no progress")
    ready:put(true)
  end
end

local function serve(handler) return (servers.http(handler)) end

-- Answers each connection with these fields and this body; step: is called after each byte of it.
local function canned(bytes, step)
  local head, body = bytes:match "^(.-\r\n\r\n)(.*)$"
  return servers.raw(function(conn)
    conn:write("HTTP/1.1 200 OK\r\n", head)
    if step then trickle(conn, body, step) else conn:write(body) end
    conn:shutdown()
    conn:read "a"
  end)
end

local function pieces_of(chunks)
  local list = {}
  for piece in chunks do list[#list + 1] = piece end
  return table.concat(list)
end

describe("a body that is read again after a deadline", function()
  it("is whole in a server, whatever byte the deadline came behind", function()
    for _, bytes in ipairs(framed) do
      local ready, hungry = turns()
      local got, met, trailer
      local server = serve(function(req, res)
        got, met = patiently(function() return req:body() end, ready)
        trailer = (req:trailers() or {}).c
        res:send(200, "fine")
      end)
      local conn <close> = assert(net.connect(server.address, { timeout = 20 * helper.slow }))
      conn:write "POST / HTTP/1.1\r\nHost: x\r\n"
      local head, body = bytes:match "^(.-\r\n\r\n)(.*)$"
      conn:write(head)
      trickle(conn, body, hungry)
      assert.matches("^HTTP/1.1 200 .*fine$", (conn:read_until "fine") .. "fine")
      assert.equal(text, got)
      assert.is_true(met > #body / 2, met)
      assert.equal(bytes:find "C: d" and "d" or nil, trailer)
    end
  end)

  it("is whole in a client, compressed too", function()
    local packed = zlib.compress(text, { format = "gzip" })
    local cases = { table.unpack(framed) }
    cases[3] = ("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"):format(#packed, packed)
    cases[4] = "Content-Encoding: gzip\r\n\r\n" .. packed -- until the end
    for _, bytes in ipairs(cases) do
      local ready, hungry = turns()
      local r = assert(http.get(canned(bytes, hungry)))
      local got, met = patiently(function() return r:body() end, ready)
      assert.equal(text, got)
      assert.is_true(met > 10, met)
      assert.equal(text, r:body())
    end
  end)

  it("comes whole out of an iterator too", function()
    local r <close> = assert(http.get(canned("Content-Length: 6\r\n\r\nabcdef",
      function() neap.sleep(0.01) end)))
    local got, _, code = neap.timeout(0.03, r.body, r)
    assert.is_nil(got)
    assert.equal("ETIMEDOUT", code)
    assert.equal("abcdef", pieces_of(r:chunks()))
  end)

  it("says why, again, when the time was its own", function()
    local r <close> = assert(http.get(canned("Content-Length: 6\r\n\r\nabcdef",
      function() neap.sleep(0.05) end), { timeout = 0.12 }))
    for _ = 1, 2 do
      local got, message, code = r:body()
      assert.is_nil(got)
      assert.equal("ETIMEDOUT", code)
      assert.matches("timed out", message)
    end
  end)

  it("is answered with 408 when the handler leaves it at that", function()
    local server = serve(function(req) neap.timeout(0.01, req.body, req) end)
    local conn <close> = assert(net.connect(server.address, { timeout = 20 * helper.slow }))
    conn:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc"
    assert.matches("^HTTP/1.1 408 .*\r\nConnection: close\r\n", (conn:read "a"))
  end)
end)

-- What a task gets of `read` that is cancelled in it after n turns, and then reads again; and
-- whether it was.
local function cancelled(read, n)
  local got, was
  local task = neap.spawn(function()
    local fine, first = pcall(read)
    was = not fine
    got = fine and first or read()
  end)
  for _ = 1, n do neap.yield() end
  task:cancel()
  task:join()
  return got, was
end

describe("a body that is read again after a cancellation", function()
  it("is whole in a server", function()
    for _, bytes in ipairs(framed) do
      local head, body = bytes:match "^(.-\r\n\r\n)(.*)$"
      for _, at in ipairs { 1, 20, #body - 10, #body - 1 } do
        local got, was
        local begun = neap.event()
        local server = serve(function(req, res)
          begun:set()
          got, was = cancelled(function() return req:body() end, 20)
          res:send(200, "fine")
        end)
        local conn <close> = assert(net.connect(server.address, { timeout = 20 * helper.slow }))
        conn:write("POST / HTTP/1.1\r\nHost: x\r\n", head, body:sub(1, at))
        begun:wait()
        neap.sleep(0.02)
        conn:write(body:sub(at + 1))
        assert.matches("fine", (conn:read_until "fine") .. "fine")
        assert.is_true(was)
        assert.equal(text, got)
      end
    end
  end)

  it("is whole in a client, at each turn of its decompression", function()
    -- 4 MiB: others have their turns meanwhile
    local long = ("0123456789abcdef"):rep(helper.hard and 1 << 10 or 1 << 18)
    local packed = zlib.compress(long, { format = "gzip" })
    local url = canned(("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s")
      :format(#packed, packed))
    local ends, turn = 0, 0
    repeat
      local r = assert(http.get(url))
      neap.sleep(0.01)
      local got, was = cancelled(function() return r:body() end, turn)
      if was then ends = ends + 1 end
      assert.is_true(got == long, turn)
      turn = turn + 1
    until not was and turn > 1
    assert.is_true(helper.hard or ends >= 3, ends)
  end)
end)
