-- Tens of thousands of requests by ab, wrk, siege and h2load, and slowhttptest for a minute in each
-- manner with ab beside it: not one request fails.
-- Not one of `make test`: it takes minutes (make acceptance). ACCEPTANCE_SECONDS: how long a slow
-- attack lasts (60).

local helper = require "spec.support.helper"
local http = require "neap.http"
local neap = require "neap"

local SECONDS = tonumber(os.getenv "ACCEPTANCE_SECONDS") or 60

local function hello(more)
  local command = "exec %s scripts/examples/http_hello.lua 127.0.0.1:0"
  local p = helper.start(command:format(helper.neap), { limit = 2 * SECONDS + 60 })
  return "http://127.0.0.1:" .. p:expect "listening on tcp://127%.0%.0%.1:(%d+)" .. (more or "/"), p
end

local function run(command, ...)
  local out, err, status = helper.run(command:format(...), { limit = 120 })
  assert.equal(0, status, command .. "\n" .. out .. err)
  return out .. err
end

-- What ab says: how many it did, and that all of them were answered with 200 and the same length.
local function ab(options, url)
  local out = run("ab -q %s %s", options, url)
  assert.equal("0", out:match "Failed requests:%s+(%d+)", out)
  assert.is_nil(out:find "Non%-2xx")
  return tonumber(out:match "Complete requests:%s+(%d+)")
end

describe("an HTTP server under load", function()
  it("answers ab, with and without keep-alive", function()
    local url = hello()
    assert.equal(50000, ab("-k -n 50000 -c 64", url))
    assert.equal(20000, ab("-n 20000 -c 64", url))
    assert.equal(20000, ab("-k -n 20000 -c 1000", url))
  end)

  it("answers wrk", function()
    local out = run("wrk -t 1 -c 256 -d 10 %s", hello())
    assert.is_nil(out:find "Socket errors", out)
    assert.is_nil(out:find "Non%-2xx", out)
    assert.is_true(tonumber(out:match "(%d+) requests in") > 20000, out)
  end)

  it("answers siege", function()
    local home = helper.tmpdir() -- it writes its settings there
    local out = run("HOME=%s siege -b -q -c 50 -r 400 --log=%s/log %s 2>&1", home, home, hello())
    assert.matches("transactions\"?:%s+20000", out)
    assert.matches("failed_transactions\"?:%s+0", out)
  end)

  it("answers h2load with pipelines of HTTP/1.1", function()
    local out = run("h2load --h1 -n 50000 -c 50 -m 8 %s", hello())
    assert.matches("50000 done, 50000 succeeded, 0 failed, 0 errored, 0 timeout", out)
    assert.matches("50000 2xx, 0 3xx, 0 4xx, 0 5xx", out)
  end)
end)

local function serve()
  -- 1000 slow readers of larger ones fill the kernel's memory for TCP (tcp_mem), whoever serves
  local big = ("x"):rep(128 << 10)
  local server = http.serve("127.0.0.1:0", { log = function() end }, function(req, res)
    if req.method == "POST" and not req:body() then return end
    res:send(200, req.path == "/big" and big or "hello\n", { ["content-type"] = "text/plain" })
  end)
  helper.after(function() server:stop(0) end)
  return server.address:gsub("^tcp", "http")
end

local function resident()
  return tonumber(io.open("/proc/self/status"):read("a"):match "VmRSS:%s+(%d+)")
end

describe("slowhttptest beside ab", function()
  local manners = {
    { "slow heads", "-H -c 1000 -r 200 -i 5", "/" },
    { "slow bodies", "-B -c 1000 -r 200 -i 5 -s 8192", "/" },
    { "slow readers", "-X -c 1000 -r 200 -w 512 -y 1024 -n 5 -z 32 -k 3", "/big" },
  }
  for _, manner in ipairs(manners) do
    it(("leaves ab's requests at 200: %s"):format(manner[1]), function()
      local url = serve()
      local before = resident()
      local attack = helper.start(("exec slowhttptest %s -l %d -p 5 -u %s%s"):format(
        manner[2], SECONDS, url, manner[3]), { limit = SECONDS + 30 })
      local stop, done = neap.now() + SECONDS, 0
      while neap.now() < stop and not attack:status() do
        done = done + ab("-n 200 -c 4 -s 10", url .. "/") -- one that takes 10 s has failed
        neap.sleep(0.2)
      end
      assert.is_true(done >= 10 * SECONDS, done)
      assert(attack:wait(40))
      local said = attack:out():gsub("\27%[[%d;]*m", "")
      assert.matches("service available:%s+YES", said)
      assert.is_true(resident() - before < 200 << 10, resident() - before) -- KiB
    end)
  end
end)
