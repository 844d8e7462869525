-- What a peer writes is read in linear time: the longest fields that are let in, full of what makes
-- a pattern that goes back and forth stand still for seconds or for hours.

local cookie = require "neap.http.cookie"
local helper = require "spec.support.helper"
local http = require "neap.http"
local net = require "neap.net"

local LIMIT_S <const> = 5 * helper.slow

local function took(f)
  local start = os.clock()
  f()
  return os.clock() - start
end

local function serve(handler)
  local server = http.serve("127.0.0.1:0", { log = function() end }, handler)
  helper.after(function() server:stop(0) end)
  return server.address
end

local function status(address, request)
  local conn <close> = assert(net.connect(address, { timeout = 60 }))
  conn.timeout = 60
  conn:write(request)
  return conn:read():match " (%d+)"
end

describe("in linear time is read", function()
  it("a range", function()
    local path = helper.write_file(helper.tmpdir() .. "/f", "text")
    local address = serve(function(_, res) res:file(path) end)
    local blanks = (" "):rep(7500)
    for _, range in ipairs {
      "bytes=" .. blanks .. "-" .. blanks .. "x", "bytes" .. blanks .. "=" .. blanks .. "x",
      "bytes=" .. ("1"):rep(15000) .. "x",
    } do
      local request = ("GET / HTTP/1.1\r\nHost: x\r\nRange: %s\r\n\r\n"):format(range)
      assert.is_true(took(function() assert.equal("200", status(address, request)) end) < LIMIT_S)
    end
  end)

  it("a trailer", function()
    local address = serve(function(req, res) res:send(200, req:body()) end)
    local request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    local line = "A: x" .. (" "):rep(8000) .. "y\r\n"
    local time = took(function()
      assert.equal("200", status(address, request .. line .. "\r\n"))
    end)
    assert.is_true(time < LIMIT_S)
    local values
    address = serve(function(req, res)
      req:body()
      values = req:trailers()
      res:send(200)
    end)
    status(address, request .. "A:  \tb c \t\r\nB: \t \r\nC:d\r\n\r\n")
    assert.same({ a = "b c", b = "", c = "d" }, values)
  end)

  it("a cookie that is set", function()
    local line = "a=x" .. (" "):rep(60000) .. "y; Path=/" .. (" "):rep(60000) .. "z"
    assert.is_true(took(function() cookie.parse(line, 0) end) < 1)
  end)

  it("a cookie that is sent", function()
    local request = { headers = { cookie = ("a"):rep(60000) .. "; b=c;d = e; =f;g=" } }
    local cookies
    local address = serve(function(req, res)
      rawset(req, "headers", request.headers)
      cookies = req:cookies()
      res:send(200)
    end)
    local time = took(function() status(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") end)
    assert.same({ b = "c", g = "" }, cookies)
    assert.is_true(time < 1)
  end)
end)
