-- A finalizer may run whenever Lua allocates, so also while a call makes values of the bytes of an
-- object: it closes that object, or puts bytes before those that are read. The call then fails as
-- closed, or begins again; nothing is read where no bytes are any more.
--
-- Every allocation of the script is a whole collection, so the n-th finalizer after arming runs at
-- the n-th place where the call may be interrupted; each place is tried.

local helper = require "spec.support.helper"

local frame = [[
local neap, net, codec = require "neap", require "neap.net", require "neap.codec"
collectgarbage("incremental", 1, 1000, 20)
collectgarbage()
local left, act, fired
local function step()
  left = left - 1
  if left == 0 then fired = true return act() end
  if left > 0 then setmetatable({}, { __gc = step }) end
end
-- Calls f with f's interruption by a at each place in turn; `made` gives the arguments of both.
local function each(made, a, f)
  local places = 0
  repeat
    local args <close> = made()
    act, left, fired = function() a(table.unpack(args)) end, places + 1, false
    setmetatable({}, { __gc = step })
    f(table.unpack(args))
    left = 0
    places = places + 1
  until not fired or places == 60
  assert(places > 1, "no finalizer ran in time")
end
local function closing(...)
  return setmetatable({ ... }, { __close = function(list) for _, x in ipairs(list) do x:close() end end })
end
local function with(kind, bytes)
  return function()
    local a, b = net.pair(kind)
    a:write(bytes)
    b:peek(#bytes)
    neap.sleep(0) -- from the loop's buffer to one of its own, which goes with it
    return closing(b, a)
  end
end
local function close(x) x:close() end
local function closed_or(ok, first, second)
  if not ok then assert(first == nil and second == "closed", second) end
end
]]

local rows = {
  { "receives a batch", [[
local function two()
  local s = assert(net.datagram "udp://127.0.0.1:0")
  for i = 1, 3 do assert(s:send("message " .. i, s.address)) end
  return closing(s)
end
each(two, close, function(s)
  local msgs, froms = s:recv_batch { info = true, timeout = 1 }
  if not msgs then return assert(froms == "closed", froms) end
  for i, m in ipairs(msgs) do assert(m == "message " .. i and #froms[i] > 10) end
  assert(#msgs >= 1 and #msgs == #froms)
end)
each(two, function(s) s:recv() end, function(s)
  local msgs, why = s:recv_batch { info = true, timeout = 0.05 }
  assert(msgs and #msgs >= 1 or why:find "timed out", why)
end)
]] },
  { "sends a batch", [[
local function one()
  local s = assert(net.datagram "udp://127.0.0.1:0")
  return closing(s)
end
each(one, close, function(s)
  local ok, to = pcall(function() return s.address end)
  if not ok or not to then return end
  local n, why = s:send_batch({ "a", "b", "c" }, { to, to, to }, { ttl = 9, from = "127.0.0.1" })
  assert(n == 3 or why == "closed", why)
end)
]] },
  { "reads a RESP request", [[
local text = ("*20\r\n" .. ("$50\r\n" .. ("x"):rep(50) .. "\r\n"):rep(20))
each(with("unix", text), close, function(b)
  local args, why = b:read(codec.resp())
  closed_or(args and #args == 20 and args[20] == ("x"):rep(50), args, why)
end)
local one = "*1\r\n$1\r\nU\r\n"
each(with("unix", text), function(b) b:unread(one) end, function(b)
  local n = #b:read(codec.resp())
  assert(n == 20 or n == 1, n)
  if b.unread_bytes > 0 then assert(#b:read(codec.resp()) == 21 - n) end
end)]] },
  { "reads an inline command", [[
local text = ('"' .. ("y"):rep(55) .. '" ' .. ("z"):rep(45) .. " "):rep(8) .. "\r\n"
each(with("unix", text), close, function(b)
  local args, why = b:read(codec.resp())
  closed_or(args and #args == 16 and args[15] == ("y"):rep(55), args, why)
end)
each(with("unix", text), function(b) b:unread("U\r\n") end, function(b)
  local n = #b:read(codec.resp())
  assert(n == 16 or n == 1, n)
end)]] },
  { "reads by several formats", [[
local text = ("line " .. ("x"):rep(50) .. "\n 12 "):rep(4)
each(with("unix", text), close, function(b)
  local line, why = b:read("l", "n", 1, "l", "n", 1, "L", "n")
  closed_or(line == "line " .. ("x"):rep(50), line, why)
end)
each(with("unix", text), function(b) b:unread("line U\n 13 ") end, function(b)
  local line, number = b:read("l", "n", 1, "l", "n")
  assert(line == "line U" and number == 13 or #line == 55 and number == 12, line)
end)]] },
  { "begins a read inside it, which is refused", [[
each(with("unix", "line one\nline two\n"), function(b)
  local ok, why = pcall(b.read, b, 3)
  assert(not ok and why:find("cannot wait", 1, true), why)
  assert(not pcall(b.recv, b) and not pcall(b.unpack, b, "s1") and not pcall(b.peek, b))
end, function(b)
  assert(b:read() == "line one" and b:read() == "line two")
end)]] },
  { "receives, peeks, iterates, unpacks, matches", [[
local lpeg = require "lpeg"
local text = "\4" .. ("a"):rep(4) .. "\3bbb\n" .. ("c"):rep(60) .. "\0\n"
local soon = { timeout = 0.001 }
for _, read in ipairs {
  function(b) return b:recv(soon) end,
  function(b) return b:peek(5, soon) end,
  function(b) return b:lines()() end,
  function(b) return b:unpack("s1s1Bz", soon) end,
  function(b) return b:unpack("s1", soon) end,
  function(b) return b:read_until("\n", soon) end,
  function(b) return b:read("a", soon) end,
  function(b) return b:match(lpeg.C(lpeg.P(1) * "aaaa"), 100, soon) end,
} do
  each(with("unix", text), close, function(b) pcall(read, b) end)
  each(with("unix", text), function(b) b:unread("\1U") end, function(b) pcall(read, b) end)
end]] },
  { "receives descriptors", [[
local function made()
  local a, b = net.pair()
  local c, d = net.pair()
  a:send(("m"):rep(60), { fds = { c, d } })
  c:close()
  d:close()
  return closing(b, a)
end
each(made, close, function(b)
  local msg, fds = b:recv(100, { fds = 2 })
  if msg then assert(#fds == 2) getmetatable(fds).__close(fds)
  else assert(fds == "closed", fds) end
end)
each(made, function(b) b:unread(("u"):rep(7)) end, function(b)
  local msg, fds = b:recv(100, { fds = 2 })
  assert(#fds == 2 or #msg == 7, #msg)
  getmetatable(fds).__close(fds)
end)]] },
  { "writes and sends", [[
local pieces = {}
for i = 1, 20 do pieces[i] = ("p"):rep(50) end
each(with("unix", "-"), close, function(b)
  local ok, why = b:write(table.unpack(pieces))
  closed_or(ok == b, ok, why)
end)
each(with("unix", "-"), close, function(b)
  local c, d = net.pair()
  local _ <close> = closing(c, d)
  local ok, why = b:send("message", { fds = { c } })
  closed_or(ok == b, ok, why)
end)]] },
  { "gathers descriptors to pass", [[
for _, kind in ipairs { "unix", "unix-dgram" } do
  local a, b = net.pair(kind)
  local others = {} -- whose numbers are asked for by their field fd
  local _ <close> = closing(a, b)
  local _ <close> = setmetatable(others, getmetatable(closing()))
  for i = 1, 5 do others[i] = assert(net.datagram "udp://127.0.0.1:0") end
  local function made()
    local c, d = net.pair()
    d:close()
    return closing((assert(c:take())))
  end
  each(made, close, function(first)
    local ok, sent, why = pcall(a.send, a, "m", { fds = { first, table.unpack(others) } })
    if ok then -- all or none: the kernel never meets a number that is closed, or another's by now
      assert(sent, why)
      local msg, fds, info = b:recv(10, { fds = 10 })
      local list <close> = info and info.fds or fds
      assert(msg == "m" and #list == 6)
    else
      assert(tostring(sent):find "item 1 is not an open descriptor", sent)
    end
  end)
end]] },
  { "sends to a hub", [[
each(function()
  local a, b = net.pair()
  local hub = net.hub()
  return closing(setmetatable({ hub = hub:add(b), b = b }, { __index = { close = function(x) x.b:close() end } }), a)
end, close, function(x)
  x.hub:send("message " .. left)
  x.hub:stats()
  x.hub:members()
  x.hub:add(x.b)
end)]] },
  { "closes a failed stream, takes its descriptor", [[
each(function()
  local a, b = net.pair()
  a:abort()
  b:write "x"
  b:flush()
  return closing(b)
end, close, function(b)
  local ok, why = b:close()
  assert(ok or why:find "close", why)
end)
each(with("unix", ("x"):rep(100)), close, function(b)
  b:peek(100)
  local fd, rest = b:take()
  if fd then assert(#rest == 100) fd:close() else assert(rest == "closed", rest) end
end)
each(with("unix", ("x"):rep(100)), function(b) b:unread "y" end, function(b)
  b:peek(100)
  local fd, rest = b:take()
  assert(#rest >= 100)
  fd:close()
end)]] },
  { "sends and receives datagrams", [[
local function made()
  local a = assert(net.datagram "udp://127.0.0.1:0")
  local b = assert(net.datagram "udp://127.0.0.1:0")
  a:send(("d"):rep(60), b.address)
  return closing(b, a)
end
each(made, close, function(b)
  local msg, from = b:recv(100, { info = true })
  closed_or(msg == ("d"):rep(60), msg, from)
end)
each(made, close, function(b, a)
  local ok, why = b:send(12345678901234, a.address, setmetatable({}, { __index = function() return ({})[1] end }))
  closed_or(ok, ok, why)
end)
each(function()
  local a, b = net.pair "unix-dgram"
  return closing(b, a)
end, close, function(b)
  local c, d = net.pair()
  local _ <close> = closing(c, d)
  local ok, why = b:send("m", { fds = { c, d } })
  closed_or(ok, ok, why)
end)]] },
  { "asks a scanner", [[
local text = "*9\r\n" .. ("$50\r\n" .. ("x"):rep(50) .. "\r\n"):rep(9)
local function made()
  local s = codec.resp():scanner():feed(text)
  return setmetatable({ s }, { __close = function() end })
end
each(made, function(s) s:feed(text:rep(20)) end, function(s) assert(#s:next() == 9) end)
each(made, function(s) s:next() end, function(s)
  local args, more = s:next()
  assert(args and #args == 9 or more == "more", more)
  s:feed(text)
  args, more = s:next()
  assert((args and #args == 9 or more == "more") and #s:rest() == 0)
end)
each(made, function(s) s:feed(text) end, function(s)
  s:feed(text)
  local n = 0
  while s:next() do n = n + 1 end
  assert(n == 2 or n == 3, n)
end)]] },
}

describe("a finalizer that interferes while a call", function()
  for _, row in ipairs(rows) do
    local name, text = row[1], row[2]
    it(name, function()
      local out, err, status = helper.run_script(frame .. text .. "\nprint 'alive'", { limit = 60 })
      assert.equal("", err)
      assert.equal("alive\n", out)
      assert.equal(0, status)
    end)
  end
end)
