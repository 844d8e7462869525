-- neap --trace: a line for what is listened to, accepted, connected, timed out, closed, with totals
-- and the script's line.

local helper = require "spec.support.helper"

local function trace(text)
  local path = helper.write_file(helper.tmpdir() .. "/script.lua", text)
  local out, err, status = helper.run_neap("--trace " .. path)
  return err:gsub("/tmp/neap%.%w+/", ""), out, status
end

describe("neap --trace", function()
  it("logs listen, connect, accept and close, with bytes and lines", function()
    local log, out, status = trace [[
      local neap = require "neap"
      local net = require "neap.net"
      local l = assert(net.listen "127.0.0.1:0")
      neap.spawn(function()
        local c = assert(l:accept())
        c:read()
        c:write "HELLO\n"
        c:close()
      end)
      local c = assert(net.connect(l.address))
      c:write "hello, world\n"
      c:flush()
      print(c:read())
      c:close()
      l:close()]]
    assert.equal("HELLO\n", out)
    assert.equal(0, status)
    assert.matches("neap: %d+%.%d+ listen [^\n]*127.0.0.1:%d+[^\n]* at script.lua:3\n", log)
    assert.matches("neap: %d+%.%d+ accept [^\n]* at script.lua:5\n", log)
    assert.matches("neap: %d+%.%d+ connect [^\n]* at script.lua:10\n", log)
    assert.matches(
      "close stream tcp://127.0.0.1:%d+<%->[^\n]* %(13 bytes read, 6 written%) at script.lua:8\n",
      log)
    assert.matches("close stream [^\n]*%(6 bytes read, 13 written%) at script.lua:14\n", log)
    assert.matches("close listener [^\n]* at script.lua:15\n", log)
  end)

  it("logs a timeout with the line that waited", function()
    local log = trace [[
      local net = require "neap.net"
      local a, b = net.pair "unix"
      a:read("l", { timeout = 0.002 })
      a:abort()
      b:close()]]
    assert.matches("neap: %d+%.%d+ timeout read unix:[^\n]*: timed out at script.lua:3\n", log)
    assert.matches("abort stream [^\n]* at script.lua:4\n", log)
  end)

  it("logs a connection that failed, with the reason", function()
    local log = trace [[
      local net = require "neap.net"
      local l = assert(net.listen "127.0.0.1:0")
      local address = l.address
      l:close()
      print(net.connect(address))]]
    assert.matches("connect [^\n]*: connection refused[^\n]* at script.lua:5\n", log)
  end)

  it("says nothing without the flag", function()
    local _, err = helper.run_script [[
      local l = require("neap.net").listen "127.0.0.1:0"
      l:close()]]
    assert.equal("", err)
  end)
end)
