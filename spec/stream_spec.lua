-- Streams beyond the conformance suite: grammars, codecs in Lua, standard streams, leaks,
-- lingering, descriptors at odds.

local codec = require "neap.codec"
local helper = require "spec.support.helper"
local lpeg = require "lpeg"
local net = require "neap.net"
local neap = require "neap"

local function pair(kind)
  local a, b = net.pair(kind)
  helper.after(function()
    a:abort()
    b:abort()
  end)
  return a, b
end

describe("match", function()
  local P, R, C = lpeg.P, lpeg.R, lpeg.C
  local assignment = C(R "az" ^ 1) * "=" * C(R "09" ^ 1) * ";"

  it("takes what a grammar matches, and gives its captures", function()
    local a, b = pair()
    a:write "width=40;height=3;plain|rest"
    assert.same({ "width", "40" }, { b:match(assignment) })
    assert.same({ "height", "3" }, { b:match(assignment) })
    assert.equal("plain|", b:match(P "plain|"))
    assert.equal("rest", b:read(4))
  end)

  it("waits for the rest, however the bytes come", function()
    local text = "abc=123;"
    for at = 1, #text - 1 do
      local a, b = pair "mem"
      a:write(text:sub(1, at))
      local task = neap.spawn(function() return b:match(assignment) end)
      neap.sleep(0.001)
      a:write(text:sub(at + 1))
      assert.same({ true, "abc", "123" }, { task:join { timeout = 5 } })
    end
  end)

  it("answers a long message that is complete without twice the bytes", function()
    local a, b = pair()
    local body = P(1 - P ";") ^ 0 * ";"
    local task = neap.spawn(function() return b:match(C(body), 1 << 20) end)
    a:write(("x"):rep(50000)):flush()
    neap.sleep(0.01)
    a:write(("y"):rep(100) .. ";"):flush()
    local ok, text = task:join { timeout = 2 * helper.slow }
    assert.is_true(ok)
    assert.equal(50101, #text)
  end)

  it("tries boundedly often", function()
    local a, b = pair()
    local size, piece = helper.hard and 64 << 10 or 256 << 10, helper.hard and 7 or 64
    local tries = 0
    local counting = lpeg.Cmt(P(true), function()
      tries = tries + 1
      return true
    end) * (1 - P "\n") ^ 0 * "\n"
    neap.spawn(function()
      for _ = 1, size // 64 do a:write(("x"):rep(64)):flush() end
      a:write "\n"
    end)
    assert.equal(size + 1, #b:match(C(counting), 1 << 20))
    local events = size // piece -- each would be an attempt
    assert.is_true(tries < events // (helper.hard and 4 or 10), tries .. " attempts")
  end)

  it("says how it ended without a match; the bytes stay", function()
    local a, b = pair()
    a:write "0123456789"
    assert.equal("EMSGSIZE", select(3, b:match(P "x", 10)))
    assert.equal("ETIMEDOUT", select(3, b:match(P "x", 100, { timeout = 0.005 })))
    a:shutdown()
    assert.equal("EPIPE", select(3, b:match(P "x")))
    assert.equal("0123456789", b:read "a")
    assert.same({ nil, n = 1 }, table.pack(b:match(P "x")))
    b:close()
    assert.equal("ECANCELED", select(3, b:match(P "x")))
    assert.has_error(function() a:match "x" end)
    assert.has_error(function() a:match(P "x", 0) end)
  end)

  it("answers what goes too deep or has too many captures with a code, not an error", function()
    local V, Ct = lpeg.V, lpeg.Ct
    local nested, many = P { Ct("(" * V(1) ^ -1 * ")") }, C(1) * (C(1) - ".") ^ 0 * "."
    local cases = { { nested, ("("):rep(5000) }, { nested, ("("):rep(300) .. (")"):rep(300) },
      { many, ("x"):rep(100001) .. "." } }
    if helper.hard then table.remove(cases) end -- a byte at a time it takes a minute
    for _, case in ipairs(cases) do
      local a, b = pair()
      neap.spawn(function() a:write(case[2]) end)
      local none, message, code = b:match(case[1], 1 << 20, { timeout = 10 })
      assert.is_nil(none)
      assert.equal("EBADMSG", code, message)
      assert.equal(case[2]:sub(1, 300), b:read(300)) -- the bytes stay
    end
    local a, b = pair()
    a:write((("x"):rep(2000)) .. ".")
    assert.equal(2000, select("#", b:match(many)))
    a:write "y."
    local broken = lpeg.Cmt(C "y", function() error "broken" end)
    local ok, err = pcall(b.match, b, broken)
    assert.is_false(ok)
    assert.matches("broken", err)
  end)
end)

describe("a codec written in Lua", function()
  -- "3:abc" and an encoder
  local netstring = {
    encode = function(_, s) return #s, ":", s end,
    decode = function(_, bytes, pos)
      local n, at = bytes:match("^(%d+):()", pos)
      if not n then
        if bytes:find("^%d*$", pos) then return nil, "more" end
        return nil, "not a netstring", "EBADMSG"
      end
      if #bytes < at + n - 1 then return nil, "more" end
      return bytes:sub(at, at + n - 1), at + tonumber(n)
    end,
  }

  it("sends and iterates", function()
    local a, b = pair "mem"
    neap.spawn(function()
      for _, s in ipairs { "one", "", ("x"):rep(30000) } do
        assert.equal(a, a:send_message(netstring, s))
      end
      a:shutdown()
    end)
    local list = {}
    for m in b:messages(netstring) do list[#list + 1] = m end
    assert.same({ "one", "", ("x"):rep(30000) }, list)
  end)

  it("raises what does not fit, and an end inside a message", function()
    for text, code in pairs { ["x"] = "EBADMSG", ["5:abc"] = "EPIPE" } do
      local a, b = pair "mem"
      a:write(text)
      a:shutdown()
      local ok, err = pcall(b:messages(netstring))
      assert.is_false(ok)
      assert.equal(code, err.code)
    end
    local a = pair()
    assert.has_error(function() a:messages {} end)
    assert.has_error(function() a:messages() end)
    assert.has_error(function() a:send_message({}, "x") end)
  end)
end)

describe("a codec in Lua", function()
  -- Counts how often it is asked.
  local function counted(c)
    return { asked = 0, seen = 0, decode = function(self, bytes, ...)
      self.asked, self.seen = self.asked + 1, self.seen + #bytes
      return c:decode(bytes, ...)
    end }
  end

  local function feed(text, step)
    local a, b = pair()
    neap.spawn(function()
      for i = 1, #text, step do a:write(text:sub(i, i + step - 1)):flush() end
      a:shutdown()
    end)
    return b
  end

  it("is asked again when what it lacks has come", function()
    local size = helper.hard and 4096 or 256 << 10
    local c = counted(codec.sequence { codec.record(">I1I4", { "kind", "size" }),
      function(h) return h.size end })
    local text = string.pack(">I1s4", 7, ("x"):rep(size))
    local m = feed(text, 64):read_message(c)
    assert.equal(size, #m[2])
    assert.truthy(c.asked <= 3, c.asked .. " times")
  end)

  it("is asked boundedly often when it does not say", function()
    local size = helper.hard and 4096 or 64 << 10
    local c = counted(codec.new { decode = function(_, bytes, pos)
      local at = bytes:find("\n", pos, true)
      if not at then return nil, "more" end
      return bytes:sub(pos, at - 1), at + 1
    end })
    assert.equal(size, #feed(("x"):rep(size) .. "\n", 64):read_message(c))
    assert.truthy(c.asked < 300, c.asked .. " times")
    -- all is here already: the window doubles
    local b = feed(("y"):rep(size) .. "\n", size + 1)
    b:peek(size + 1)
    c.asked = 0
    assert.equal(size, #b:read_message(c))
    assert.truthy(c.asked < 20, c.asked .. " times")
  end)

  it("is not shown all that is here for each of many small messages", function()
    local count = helper.hard and 50 or 1000
    local c = counted(codec.choice { h = codec.line() })
    local b = feed(("hello\n"):rep(count), 6 * count)
    b:peek(6 * count)
    local n = 0
    for _, line in b:messages(c) do
      assert(line == "hello")
      n = n + 1
    end
    assert.equal(count, n)
    assert.truthy(c.seen <= count * 1100, c.seen .. " bytes")
  end)
end)

describe("a stream that is collected open", function()
  it("warns with the line that made it", function()
    local _, err = helper.run_script [[
warn "@on"
local net = require "neap.net"
do local a, b = net.pair() end
collectgarbage() collectgarbage()
]]
    local n = select(2,
      err:gsub("an open stream was collected without close %(made at [^\n]*script%.lua:3%)", ""))
    assert.equal(2, n, err)
  end)
end)

describe("a stream that a finalizer closes while its frames are taken", function()
  it("gives what it has, then says closed", function()
    local out, err, status = helper.run_script [[
      local neap, net = require "neap", require "neap.net"
      collectgarbage "generational"
      local record = (("x"):rep(300) .. "\n"):rep(8)
      for _ = 1, 300 do
        local a, b = net.pair()
        for _ = 1, 40 do a:write(record) end
        repeat
          setmetatable({}, { __gc = function() b:close() end })
          local first, second = b:read("l", "l", "l", "l", "l", "l", "l", "l")
          assert(not first or #first == 300)
        until not first or second == "closed"
        a:close()
      end
      print "alive"
    ]]
    assert.equal("", err)
    assert.equal("alive\n", out)
    assert.equal(0, status)
  end)
end)

describe("standard streams", function()
  local echo = [[
local neap = require "neap"
local text, message, code = neap.stdin:read "a"
local ok, message2, code2 = neap.stdout:write("out:", text or code, "\n")
if ok then ok, message2, code2 = neap.stdout:flush() end
io.stderr:write(code2 or "written")
]]
  local function run(redirection, stdin)
    local path = helper.write_file(helper.tmpdir() .. "/s.lua", echo)
    return helper.run(("timeout 10 %s %s %s"):format(helper.quote(helper.neap), path, redirection),
      { stdin = stdin })
  end

  it("are files", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/in", "from a file")
    local _, err, status = run(("<%s/in >%s/out"):format(dir, dir))
    assert.same({ "written", 0 }, { err, status })
    assert.equal("out:from a file\n", helper.read_file(dir .. "/out"))
  end)

  it("are /dev/null", function()
    local out, err, status = run "</dev/null"
    assert.same({ "out:\n", "written", 0 }, { out, err, status })
    out, err, status = run("</dev/null >/dev/null")
    assert.same({ "", "written", 0 }, { out, err, status })
  end)

  it("are closed descriptors", function()
    local out, err, status = run "<&-"
    assert.same({ "out:EBADF\n", "written", 0 }, { out, err, status })
    out, err, status = run(">&-", "x")
    assert.same({ "", "EBADF", 0 }, { out, err, status })
  end)

  it("are pipes", function()
    local dir = helper.tmpdir()
    local path = helper.write_file(dir .. "/s.lua", echo)
    local command = helper.quote(helper.neap) .. " " .. path
    local out, _, status = helper.run(
      "(printf one; sleep 0.05; printf two) | " .. command .. " | cat")
    assert.same({ "out:onetwo\n", 0 }, { out, status })
    out = helper.run("head -c 3000000 /dev/zero | " .. command .. " | (sleep 0.1; wc -c)")
    assert.equal(3000000 + 5, tonumber(out))
  end)

  it("are a terminal", function()
    local path = helper.write_file(helper.tmpdir() .. "/s.lua", [[
local neap = require "neap"
local line = neap.stdin:read()
neap.stdout:write("<", line:upper(), ">\n")
neap.stdout:flush()
]])
    local out = helper.run(
      ("(sleep 0.2; echo typed; sleep 0.2) | timeout 10 script -qec '%s %s' /dev/null"):format(
        helper.neap, path))
    assert.truthy(out:find "<TYPED>", out)
  end)

  it("stay in the mode they came in", function()
    local out = helper.run(
      ([[sleep 0.1 | (%s -e 'neap.stdin:read "a"'; cat /proc/self/fdinfo/0) | grep flags]])
        :format(helper.quote(helper.neap)))
    local flags = tonumber(out:match "flags:%s*(%d+)", 8)
    assert.equal(0, flags & tonumber("4000", 8), out)
  end)
end)

describe("standard input", function()
  it("costs nothing while more is there than anybody reads", function()
    local out = helper.run(([[(echo one; sleep 0.1; echo two; sleep 0.4) | %s -e '
      local n = require "neap"
      n.stdin:read()
      local t = os.clock()
      n.sleep(0.4)
      print(os.clock() - t < 0.1, n.stdin:read())']]):format(helper.quote(helper.neap)))
    assert.equal("true\ttwo\n", out)
  end)
end)

describe("lingering", function()
  it("is bounded: past the bound the oldest goes", function()
    local out, err, status = helper.run_script([[
local net, neap = require "neap.net", require "neap"
local ends = {}
for i = 1, 1030 do
  local a, b = net.pair()
  ends[i] = b
  a:write "bye"
  a:close()
end
neap.yield()
for i = 1, 1030 do
  assert(ends[i]:read(3) == "bye", i)
  ends[i]:close()
end
print "all said"
]], { limit = 60 })
    assert.equal("all said\n", out, err)
    assert.equal(0, status)
  end)

  it("lets a program end that leaves a peer hanging", function()
    local l <close> = assert(net.listen "tcp://127.0.0.1:0")
    local child = helper.start_script(([[
local net = require "neap.net"
local c = assert(net.connect(%q))
c:write "last words"
c:close()
]]):format(l.address))
    local c <close> = assert(l:accept { timeout = 5 })
    assert.equal("last words", c:read(10))
    assert.equal(0, child:wait(5))
  end)
end)

describe("shutdown of a pipe", function()
  it("closes its writing end", function()
    local out, err = helper.run_script [[
local process = require "neap.process"
local p = assert(process.spawn({ "cat" }, { stdin = "pipe", stdout = "pipe" }))
p.stdin:write "through cat"
p.stdin:shutdown()
print(p.stdout:read "a", p.stdin:write "more")
p:wait()
]]
    assert.truthy(out:find("through cat\tnil\t", 1, true), out .. err)
  end)
end)
