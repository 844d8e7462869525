-- The two watchers behave alike: nothing is told twice to nobody, and nothing is lost.

local helper = require "spec.support.helper"

local function run(watcher, script, ...)
  local path = helper.write_file(helper.tmpdir() .. "/script.lua", script)
  local words = { "NEAP_POLL=" .. watcher, "timeout 20", helper.quote(helper.neap), path, ... }
  return helper.run(table.concat(words, " "))
end

describe("NEAP_POLL", function()
  it("that names no watcher is told, an empty one is none", function()
    local _, err, status = run("kqueue", "")
    assert.equal(
      "neap: cannot start: NEAP_POLL is 'kqueue': \"epoll\" (Linux) or \"uv\" expected\n", err)
    assert.equal(1, status)
    _, err, status = run("", "")
    assert.same({ "", 0 }, { err, status })
  end)
end)

local idle = [[
  local neap, net = require "neap", require "neap.net"
  local what = ...
  local s = net.serve("tcp://127.0.0.1:0", function(c)
    c:read(1)
    local before = os.clock()
    neap.sleep(0.3)
    print(os.clock() - before < 0.15 and "idle" or os.clock() - before)
    print((select(3, c:read "a")) or "end")
  end)
  local c = assert(net.connect(s.address))
  c:write "x"
  c:flush()
  neap.sleep(0.02)
  if what == "data" then c:write "unread" end
  if what == "end" then c:shutdown() end
  if what == "reset" then c:abort() end
  neap.sleep(0.35)
  c:close()
  s:stop()
]]

local results = { data = "end", ["end"] = "end", reset = "ECONNRESET" }

for _, watcher in ipairs { "epoll", "uv" } do
  describe("the watcher over " .. watcher, function()
    for what, result in pairs(results) do
      it("uses no processor time while a handler sleeps on: " .. what, function()
        local out, err, status = run(watcher, idle, what)
        assert.equal("", err)
        assert.equal("idle\n" .. result .. "\n", out)
        assert.equal(0, status)
      end)
    end

    it("does not lose what follows an urgent byte, at which a read stops short", function()
      local out, err = run(watcher, [[
        local neap, net = require "neap", require "neap.net"
        local s = net.serve("tcp://127.0.0.1:0", function(c)
          neap.sleep(0.1)
          print(c:read())
        end)
        local perl = "use IO::Socket::INET; $s = IO::Socket::INET->new($ARGV[0]); $s->send('ab');"
          .. "$s->send('!', MSG_OOB); $s->send(\"cd\\n\"); $s->read($x, 1)"
        local p = require("neap.process").spawn { "perl", "-e", perl, s.address:match "tcp://(.*)" }
        p:wait { timeout = 5 }
        s:stop(0)
      ]])
      assert.equal("", err)
      assert.equal("abcd\n", out)
    end)
  end)
end
