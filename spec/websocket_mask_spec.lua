-- The masks of a WebSocket client's frames (RFC 6455 5.3, 10.3): nobody foresees one, no child
-- repeats its parent's, and they do not cost a system call each.

local helper = require "spec.support.helper"
local net = require "neap.net"

local core = require "neap.websocket.core"
local BINARY <const> = 0x82

-- The masks of n frames, as a server sees them.
local function masks(n)
  local a, b = assert(net.pair "mem")
  helper.after(function()
    a:abort()
    b:abort()
  end)
  local list = {}
  for i = 1, n do
    assert(core.send(a, "x", BINARY, true))
    local first, second, mask = b:unpack "BBc4"
    assert.same({ BINARY, 0x81 }, { first, second })
    b:read(1)
    list[i] = mask
  end
  return list
end

describe("a client's masks", function()
  it("are random in every byte, past what is drawn at once too", function()
    local n <const> = helper.hard and 2500 or 6000
    local seen, again, ones = {}, 0, 0
    local values = { {}, {}, {}, {} }
    for _, mask in ipairs(masks(n)) do
      if seen[mask] then again = again + 1 end
      seen[mask] = true
      for i = 1, 4 do
        local byte = mask:byte(i)
        values[i][byte] = (values[i][byte] or 0) + 1
        for bit = 0, 7 do ones = ones + (byte >> bit & 1) end
      end
    end
    assert.is_true(again <= 2, again) -- of 2^32; none is 99.6 %
    -- Half of the bits, within six deviations.
    assert.is_true(math.abs(ones - 16 * n) < 6 * math.sqrt(8 * n), ones)
    for i = 1, 4 do
      for byte = 0, 255 do
        local count = values[i][byte] or 0
        assert.is_true(count < n / 256 + 8 * math.sqrt(n / 256), ("%d: %d"):format(byte, count))
      end
    end
  end)

  it("take a system call for 64 of them, no more", function()
    local script = helper.write_file(helper.tmpdir() .. "/send.lua", [[
      local net = require "neap.net"
      local core = require "neap.websocket.core"
      local a, b = assert(net.pair "mem")
      for _ = 1, 4000 do
        core.send(a, "x", 0x82, true)
        b:read(7)
      end
      print "sent"
    ]])
    local summary = helper.tmpdir() .. "/calls"
    local command = "ASAN_OPTIONS=detect_leaks=0 strace -f -qq -e trace=getrandom -o %s %s %s"
    command = command:format(summary, helper.quote(helper.neap), script)
    local out, err = helper.run(command, { limit = 60 })
    assert.equal("sent\n", out, err)
    local _, calls = assert(helper.read_file(summary)):gsub("getrandom%(", "")
    assert.is_true(calls < 100, calls .. " calls")
  end)

  it("are not repeated by a child, whatever was drawn before", function()
    local dir = helper.tmpdir()
    local build = "%s -shared -fPIC $(pkg-config --cflags lua5.4) -o %s/fork.so spec/support/fork.c"
    local said, err, status = helper.run(build:format(helper.cc, dir))
    assert.equal(0, status, said .. err)
    -- A key of a handshake is drawn as masks are.
    local out
    out, err = helper.run_script(([[
      package.cpath = %q
      local posix = require "fork"
      local core = require "neap.websocket.core"
      for _ = 1, 10 do core.key() end
      local function tell(who)
        io.write(who, " ", core.key(), "\n")
        io.flush()
      end
      for _, who in ipairs { "one", "two" } do
        local pid = posix.fork()
        if pid == 0 then
          tell(who)
          tell(who)
          posix.leave()
        end
        posix.wait(pid)
      end
      tell "parent"
      tell "parent"
    ]]):format(dir .. "/?.so"))
    local seen, count = {}, 0
    for key in out:gmatch "%l+ (%S+)\n" do
      assert.is_nil(seen[key], out)
      seen[key], count = true, count + 1
    end
    assert.equal(6, count, out .. err)
  end)
end)
