-- The PROXY protocol: with curl, and byte by byte; who is believed, what is refused.

local certs = require "spec.support.certs"
local core = require "neap.proxy.core"
local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local net = require "neap.net"

local LIMIT_S = 10 * helper.slow
local SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"

local function serve(list, address, seconds)
  local logged = {}
  local server = net.serve(address or "127.0.0.1:0", {
    proxy_protocol = list, proxy_timeout = seconds,
    log = function(line) logged[#logged + 1] = line end,
  }, function(conn)
    conn:write(tostring(conn.peer), "|", conn:read "a")
  end)
  helper.after(function() server:stop(0) end)
  return server, logged
end

-- What a handler that is told these bytes answers; nil: the connection ended without.
local function say(server, ...)
  local c <close> = assert(net.connect(server.address, { timeout = LIMIT_S }))
  c.timeout = LIMIT_S
  for _, piece in ipairs { ... } do
    c:write(piece)
    c:flush()
  end
  c:shutdown()
  local text = c:read "a"
  return text ~= "" and text or nil
end

local function v2(command, family, body)
  return SIGNATURE .. (">BBs2"):pack(0x20 | command, family, body)
end

local v4 = "\1\2\3\4\127\0\0\1\x12\x34\0\80"
local v6 = ("\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\7"):rep(2) .. "\x12\x34\0\80"

describe("the PROXY protocol", function()
  -- header, the peer that it makes (false: the proxy itself)
  local good = {
    { "PROXY TCP4 1.2.3.4 127.0.0.1 4660 80\r\n", "tcp://1.2.3.4:4660" },
    { "PROXY TCP6 2001:db8::7 ::1 4660 80\r\n", "tcp://[2001:db8::7]:4660" },
    { "PROXY TCP6 ::ffff:1.2.3.4 ::1 1 80\r\n", "tcp://[::ffff:1.2.3.4]:1" },
    { "PROXY UNKNOWN\r\n", false },
    { "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", false },
    { v2(1, 0x11, v4), "tcp://1.2.3.4:4660" },
    { v2(1, 0x21, v6), "tcp://[2001:db8::7]:4660" },
    { v2(1, 0x11, v4 .. "\4\0\3abc"), "tcp://1.2.3.4:4660" },
    { v2(0, 0, ""), false }, { v2(0, 0x11, v4), false }, { v2(1, 0, "more"), false },
    { v2(1, 0x31, ("\0"):rep(216)), false },
  }

  for _, case in ipairs(good) do
    it(("names the client: %q"):format(case[1]:sub(1, 24)), function()
      local server = serve { "127.0.0.0/8" }
      local want = case[2] or "tcp://127.0.0.1:"
      local text = say(server, case[1] .. "hello")
      assert.equal(want, text:sub(1, #want))
      assert.matches("|hello$", text)
      local bytes = {}
      for byte in case[1]:gmatch "." do bytes[#bytes + 1] = byte end
      bytes[#bytes + 1] = "hello"
      assert.equal(want, say(server, table.unpack(bytes)):sub(1, #want))
    end)
  end

  local bad = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", "PROXY", "PROXY TCP4 1.2.3.4\r\n",
    "PROXY \r\n\r\n\r\n\r\n",
    "PROXY TCP4 1.2.3.4 127.0.0.1 4660\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n",
    "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.400 127.0.0.1 1 2\r\n",
    "PROXY TCP4 1.2.3.4 127.0.0.1 65536 2\r\n", "PROXY TCP5 1.2.3.4 127.0.0.1 1 2\r\n",
    "proxy TCP4 1.2.3.4 127.0.0.1 1 2\r\n", "PROXY TCP4 abc 127.0.0.1 1 2\r\n",
    "PROXY TCP4 1.2.3.4 127.0.0.1 1 2" .. (" "):rep(100) .. "\r\n",
    "PROXY TCP4 1.2.3.4 127.0.0.1 1 2\n", SIGNATURE, SIGNATURE .. "\x31\x11\0\12" .. v4,
    v2(2, 0x11, v4), v2(1, 0x11, v4:sub(1, 11)), v2(1, 0x21, v6:sub(1, 35)),
    SIGNATURE .. "\x21\x11\0\12" .. v4:sub(1, 5), v2(1, 0x11, v4 .. ("x"):rep(5000)),
  }

  it("ends connections without a proper header, with one line of log", function()
    local server, logged = serve { "127.0.0.1" }
    for i, bytes in ipairs(bad) do
      assert.is_nil(say(server, bytes), ("%q"):format(bytes))
      helper.wait_until(function() return #logged == i end)
      assert.matches("^neap: tcp://127%.0%.0%.1:%d+: PROXY protocol: [^\n]+$", logged[i])
    end
  end)

  it("ends a header that drips at its deadline, and gives what follows another", function()
    local server, logged = serve({ "127.0.0.1" }, nil, 0.3)
    local c <close> = assert(net.connect(server.address))
    local dripping = neap.spawn(function()
      for byte in ("PROXY TCP4 1.2.3.4 127.0.0.1 4660" .. (" "):rep(60)):gmatch "." do
        if not (c:write(byte) and c:flush()) then return end
        neap.sleep(0.02)
      end
    end)
    assert.is_nil((c:read("l", { timeout = LIMIT_S })))
    dripping:join()
    helper.wait_until(function() return #logged == 1 end)
    assert.matches("PROXY protocol: .*timed out$", logged[1])
    local late <close> = assert(net.connect(server.address))
    late:write "PROXY TCP4 1.2.3.4 127.0.0.1 4660 80\r\n"
    late:flush()
    neap.sleep(0.5)
    late:write "late"
    late:shutdown()
    assert.equal("tcp://1.2.3.4:4660|late", late:read "a")
  end)

  it("believes nobody but those that are named", function()
    local header = "PROXY TCP4 1.2.3.4 127.0.0.1 4660 80\r\n"
    for _, list in ipairs { {}, { "10.0.0.0/8", "::1", "unix" }, { "127.0.0.2/32" } } do
      assert.matches("^tcp://127%.0%.0%.1:%d+|PROXY TCP4", say(serve(list), header))
    end
    local path = helper.socket_path()
    assert.matches("^tcp://1%.2%.3%.4:4660|$", say(serve({ "unix" }, "unix:" .. path), header))
  end)

  it("stands before TLS, also in one piece with it (curl)", function()
    for _, scheme in ipairs { "tcp", "tls" } do
      local opts = scheme == "tls" and certs.server() or {}
      opts.proxy_protocol = { "127.0.0.0/8" }
      opts.log = function() end
      local peer
      local server = http.serve(scheme .. "://127.0.0.1:0", opts, function(req, res)
        peer = req.conn.peer
        res:send(200, req.conn.tls and "secret" or "plain")
      end)
      helper.after(function() server:stop(0) end)
      assert.matches("^" .. scheme .. "://", server.address)
      local url = server.address:gsub("^tcp", "http"):gsub("^tls", "https")
      local out = helper.run(("curl -sS --cacert %s --haproxy-protocol %s"):format(
        certs.path "ca.pem", url))
      assert.equal(scheme == "tls" and "secret" or "plain", out)
      assert.matches("^tcp://127%.0%.0%.1:%d+$", peer)
    end
  end)

  it("knows networks", function()
    for _, case in ipairs {
      { "10.1.2.3", "10.0.0.0/8", true }, { "11.1.2.3", "10.0.0.0/8", false },
      { "10.1.2.3", "10.1.2.3", true }, { "10.1.2.3", "10.1.2.2/31", true },
      { "10.1.2.4", "10.1.2.2/31", false }, { "1.2.3.4", "0.0.0.0/0", true },
      { "::1", "0.0.0.0/0", false }, { "::ffff:10.1.2.3", "10.0.0.0/8", true },
      { "fe80::1", "fe80::/10", true }, { "fec0::1", "fe80::/10", false }, { "::1", "::/0", true },
      { "::1", "10.0.0.0/33" }, { "::1", "::/129" }, { "::1", "::/" }, { "::1", "::/-1" },
      { "::1", "x" }, { "::1", "::/1x" }, { "::1", "" }, { "::1", "10.0.0.0/ 8" },
    } do
      assert.equal(case[3], core.within(case[1], case[2]), case[1] .. " " .. case[2])
    end
  end)

  it("raises for wrong options at the caller's line", function()
    for _, list in ipairs { "unix", { "x" }, { 1 }, { "10.0.0.0/99" } } do
      local ok, message = pcall(function()
        local _ = net.serve("127.0.0.1:0", { proxy_protocol = list }, print)
      end)
      assert.is_false(ok)
      assert.matches("^spec/net/proxy_spec.lua:%d+: .*option 'proxy_protocol'", message)
    end
  end)
end)
