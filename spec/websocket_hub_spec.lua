-- A hub of WebSockets with a reader that is slow, under each policy: what it gets, what the others
-- get, and what sending costs. Real connections: `ws://` over TCP.

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"
local websocket = require "neap.websocket"

local LIMIT_S = 20 * helper.slow
local LIMIT = 50000 -- bytes that are queued for a member
local SIZE = 1000 -- of a message

-- A room: each connection joins the hub and leaves with its end, which is noted by its name.
local function room(opts)
  local hub, ends = net.hub(opts), {}
  local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
    local ws <close> = assert(websocket.accept(req, res))
    ws.conn:option("send_buffer", 4096)
    hub:add(ws.conn)
    ends[req.path] = table.pack(ws:receive())
  end)
  helper.after(function() server:stop(0) end)
  local url = server.address:gsub("^tcp", "ws")
  local function join(name)
    local members = #hub
    local ws = assert(websocket.connect(url .. "/" .. name, { timeout = LIMIT_S }))
    helper.after(function() ws.conn:abort() end)
    assert(helper.wait_until(function() return #hub == members + 1 end))
    return ws
  end
  return hub, join, ends
end

local function message(i) return ("%d "):format(i) .. ("x"):rep(SIZE) end

-- A task that receives until a message says "end": the numbers of what came.
local function reader(ws)
  return neap.spawn(function()
    local list = {}
    while true do
      local text, why, code = ws:receive { timeout = LIMIT_S }
      if not text then return list, why, code end
      if text == "end" then return list end
      assert.equal(message(tonumber(text:match "^%d+")), text)
      list[#list + 1] = tonumber(text:match "^%d+")
    end
  end)
end

local function finished(task)
  local fine, list, why, code = task:join { timeout = LIMIT_S }
  assert.is_true(fine, list)
  return list, why, code
end

-- Sends numbered messages until `over()`, no faster than the second member takes them: how many.
local function flood(hub, over)
  local n, quick = 0, hub:members()[2]
  repeat
    n = n + 1
    assert(hub:send(websocket.frame(message(n))))
    repeat neap.sleep(0) until quick.unsent_bytes < LIMIT / 4
  until over() or n == 50000
  assert.is_true(n < 50000, "nobody was slow")
  return n
end

local function in_order(list)
  for i = 2, #list do assert.is_true(list[i - 1] < list[i], list[i]) end
end

describe("a slow reader in a hub of WebSockets", function()
  it("misses whole messages under \"drop\", and is there for the next ones", function()
    local hub, join = room { policy = "drop", limit = LIMIT }
    local slow, quick = join "slow", join "quick"
    local reading = reader(quick)
    local n = flood(hub, function() return hub:stats().dropped >= 50 end)
    assert.equal(2, #hub)
    for _, conn in ipairs(hub:members()) do
      assert.is_true(conn.unsent_bytes <= LIMIT + SIZE + 20, conn.unsent_bytes)
    end
    local late = reader(slow)
    assert(helper.wait_until(function()
      local left = 0
      for _, conn in ipairs(hub:members()) do left = left + conn.unsent_bytes end
      return left == 0
    end, LIMIT_S))
    local before = hub:stats().dropped
    assert.equal(2, hub:send(websocket.frame(message(n + 1))))
    assert.equal(2, hub:send(websocket.frame "end"))
    local got, all = finished(late), finished(reading)
    in_order(got)
    assert.equal(n + 1, got[#got])
    assert.equal(n + 1, #all)
    assert.equal(n + 1, #got + before)
    assert.equal(before, hub:stats().dropped)
    assert.is_true(slow:close())
  end)

  it("is cut off under \"disconnect\"; the others do not notice", function()
    local hub, join, ends = room { policy = "disconnect", limit = LIMIT }
    local slow, quick = join "slow", join "quick"
    local reading = reader(quick)
    local n = flood(hub, function() return #hub == 1 end)
    assert.equal(1, hub:stats().disconnected)
    assert.equal(1, hub:send(websocket.frame "end"))
    local all = finished(reading)
    in_order(all)
    assert.equal(n, #all)
    assert(helper.wait_until(function() return ends["/slow"] end))
    assert.is_nil(ends["/slow"][1]) -- its task has heard of it
    assert.is_nil(ends["/quick"])
    local got, _, code = finished(reader(slow))
    in_order(got)
    assert.is_true(#got < n)
    assert.truthy(code) -- an end in the middle, no close that was agreed on
    assert.is_true(quick:close())
  end)

  it("holds the sender under \"wait\", and nobody misses anything", function()
    local hub, join = room { policy = "wait", limit = LIMIT }
    local slow, quick = join "slow", join "quick"
    local reading = reader(quick)
    local sent, total = 0, helper.hard and 300 or 20000
    local sender = neap.spawn(function()
      for i = 1, total do
        assert.equal(2, hub:send(websocket.frame(message(i))))
        sent = i
      end
      hub:send(websocket.frame "end")
    end)
    local last
    assert(helper.wait_until(function() -- it stands still
      local same = last == sent and sent > 0
      last = sent
      if not same then neap.sleep(0.05) end
      return same
    end, LIMIT_S))
    assert.is_true(sent < total, "it did not wait")
    local late = reader(slow)
    for _, list in ipairs { finished(late), finished(reading) } do
      assert.equal(total, #list)
      in_order(list)
    end
    assert.is_true((sender:join()))
    assert.equal(0, hub:stats().dropped + hub:stats().disconnected)
  end)

  it("is waited for no longer than `timeout`; nobody gets that message", function()
    local hub, join = room { policy = "wait", limit = LIMIT, timeout = 0.05 }
    local _, quick = join "slow", join "quick"
    local reading = reader(quick)
    local n, result = 0
    repeat
      n = n + 1
      result = table.pack(hub:send(websocket.frame(message(n))))
    until not result[1]
    assert.equal("ETIMEDOUT", result[3])
    hub:remove(hub:members()[1])
    assert.equal(1, hub:send(websocket.frame "end"))
    assert.equal(n - 1, #finished(reading))
  end)
end)
