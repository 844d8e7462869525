-- neap.so in the stock interpreter: the same modules, inside run(f).

local helper = require "spec.support.helper"

local function stock(program)
  local dir = helper.tmpdir()
  helper.write_file(dir .. "/script.lua", program)
  return helper.run(("%sLUA_CPATH='%s/?.so;;' lua5.4 %s/script.lua"):format(helper.preload(), helper.build, dir))
end

describe("neap.so", function()
  it("leaves Lua's functions undefined, as two Luas must not meet in one process", function()
    local out = helper.run("nm -D --defined-only " .. helper.build .. "/neap.so")
    assert.is_nil(out:find " luaL?_%l")
    assert.matches(" T luaopen_neap\n", out)
    local undefined = helper.run("nm -D --undefined-only " .. helper.build .. "/neap.so")
    assert.matches(" lua_pushstring", undefined)
  end)

  it("runs tasks in a stock interpreter", function()
    local out, err, status = stock [[
      local neap = require "neap"
      print(neap.run(function(a, b)
        local net = require "neap.net"
        local l = assert(net.listen "127.0.0.1:0")
        local t = neap.spawn(function()
          local c <close> = assert(l:accept())
          c:write((c:read()):upper(), "\n")
        end)
        local c <close> = assert(net.connect(l.address))
        c:write(a, b, "\n")
        local answer = c:read()
        t:join()
        l:close()
        return answer, 2
      end, "hel", "lo"))]]
    assert.equal("", err)
    assert.equal("HELLO\t2\n", out)
    assert.equal(0, status)
  end)

  it("replaces the coroutine functions only while run lasts", function()
    local out, err = stock [[
      local before = {}
      for k, v in pairs(coroutine) do before[k] = v end
      local neap = require "neap"
      local inside
      neap.run(function()
        inside = coroutine.resume ~= before.resume
        local f = coroutine.wrap(function() neap.sleep(0.001) coroutine.yield(1) end)
        print(f())
      end)
      print(inside)
      for k, v in pairs(coroutine) do assert(before[k] == v, k) end
      print(pcall(neap.sleep, 1))]]
    assert.equal("", err)
    assert.matches("^1\ntrue\nfalse\t", out)
  end)

  it("raises from run what f raised", function()
    local out = stock [[local neap = require "neap"
      local e = {}
      local ok, got = pcall(neap.run, function() error(e) end) print(ok, got == e)
      print(pcall(neap.run, function() error("text", 0) end))
      print(neap.run(function() return "again" end))]]
    assert.equal("false\ttrue\nfalse\ttext\nagain\n", out)
  end)

  it("leaves objects behind that raise, instead of touching what was freed", function()
    local out, err, status = stock [[
      local neap = require "neap"
      local left = {}
      neap.run(function()
        local net = require "neap.net"
        left.scope = coroutine.wrap(function()
          local d <close> = neap.deadline(5)
          left.deadline = d
          coroutine.yield()
        end)
        left.scope()
        left.group = coroutine.wrap(function()
          neap.group(function(g)
            g:spawn(neap.sleep, 10)
            coroutine.yield()
          end)
        end)
        left.group()
        package.preload.halfway = function() coroutine.yield() end
        left.module = coroutine.wrap(function() require "halfway" end)
        left.module()
        left.stream = net.pair()
        left.listener = net.listen "127.0.0.1:0"
        neap.spawn(function() end)
      end)
      print(pcall(left.scope))
      print(pcall(left.deadline.remaining, left.deadline))
      print(pcall(left.group))
      print(pcall(left.stream.read, left.stream))
      print(pcall(left.listener.accept, left.listener))
      print(left.stream:close(), left.listener:close())
      left = nil
      collectgarbage()
      collectgarbage()
      print(neap.run(function() return "again" end))]]
    assert.equal("", err)
    assert.equal(0, status)
    assert.matches("^true\nfalse\tno neap runtime in this Lua state\nfalse\t[^\n]*no neap runtime[^\n]*\n" ..
      "false\t[^\n]*no neap runtime[^\n]*\nfalse\t[^\n]*no neap runtime[^\n]*\ntrue\ttrue\nagain\n$",
      (out:gsub("script.lua:%d+: ", "")))
  end)
end)
