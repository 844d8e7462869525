-- When neap.http's client stops waiting for a server that goes on talking, or says nothing more.

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"
local servers = require "spec.support.servers"
local zlib = require "neap.zlib"

local raw = servers.raw

describe("an HTTP client", function()
  local step <const> = 0.1 * helper.slow

  -- Says 103 again and again, each time within the limit of one wait.
  local function talk(conn)
    for _ = 1, 8 do
      conn:write "HTTP/1.1 103 Early Hints\r\n\r\n"
      conn:flush()
      neap.sleep(step)
    end
    conn:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
  end

  it("gives up at its deadline, however many interim answers come before it", function()
    local url = raw(talk)
    local start = neap.now()
    local none, _, code = http.get(url, { timeout = 2.5 * step })
    assert.is_nil(none)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(neap.now() - start < 5 * step, neap.now() - start)
    assert.equal(200, assert(http.get(url, { timeout = 60 * step })).status)
  end)

  it("gives up at its deadline when the proxy talks on", function()
    local start = neap.now()
    local none, _, code = http.get("https://127.0.0.1:1/", { proxy = raw(talk),
      timeout = 2.5 * step })
    assert.is_nil(none)
    assert.equal("ETIMEDOUT", code)
    assert.is_true(neap.now() - start < 5 * step, neap.now() - start)
  end)

  it("tells of bytes behind a compressed body at once, without waiting for the end", function()
    local packed = zlib.compress("text", { format = "gzip" })
    for _, framing in ipairs { "\r\n", "Content-Length: 100000\r\n\r\n" } do
      local url = raw(function(conn)
        conn:write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", framing, packed, "more")
        conn:flush()
        conn:read "a" -- and keeps quiet
      end)
      local start = neap.now()
      local r <close> = assert(http.get(url, { stall_timeout = 20 * step }))
      local none, message, code = r:body()
      assert.is_nil(none)
      assert.equal("EBADMSG", code)
      assert.matches("bytes behind its end", message)
      assert.is_true(neap.now() - start < 10 * step)
    end
  end)
end)
