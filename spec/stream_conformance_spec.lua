-- Every transport, and every transport under the fault layer, passes the one suite of
-- spec/stream/conformance.lua.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local net = require "neap.net"
local neap = require "neap"
local suite = assert(loadfile("spec/stream/conformance.lua", "t", _ENV))()

local function through(addr)
  return function()
    local l <close> = assert(net.listen(type(addr) == "function" and addr() or addr))
    local task = neap.spawn(function() return assert(l:accept()) end)
    local a = assert(net.connect(l.address))
    local _, b = assert(task:join { timeout = 10 })
    return a, b
  end
end

local serial = 0
local function abstract()
  serial = serial + 1
  return ("unix:@neap-conformance-%d-%d"):format(math.floor(neap.now() * 1e6), serial)
end

-- Both ends of a FIFO.
local function fifo()
  local path = helper.socket_path "fifo"
  assert(os.execute("mkfifo " .. helper.quote(path)))
  local both = assert(io.open(path, "r+")) -- so that neither open waits
  local r, w = assert(io.open(path, "r")), assert(io.open(path, "w"))
  both:close()
  local function own(f)
    local fd = assert(require("neap.descriptor.core").dup(f))
    f:close()
    return assert(net.adopt(fd))
  end
  local b, a = own(r), own(w)
  return a, b
end

local kinds = {
  ["mem"] = { pair = function() return net.pair "mem" end, reset = true },
  ["an AF_UNIX pair"] = { pair = function() return net.pair "unix" end, socket = true },
  ["TCP v4"] = { pair = through "tcp://127.0.0.1:0", socket = true, reset = true },
  ["TCP v6"] = { pair = through "tcp://[::1]:0", socket = true, reset = true },
  ["an AF_UNIX path"] = { pair = through(function() return "unix:" .. helper.socket_path() end),
    socket = true },
  ["an abstract AF_UNIX name"] = { pair = through(abstract), socket = true },
  ["a pipe"] = { pair = fifo, one_way = true, socket = true },
}
local names = { "mem", "an AF_UNIX pair", "TCP v4", "TCP v6", "an AF_UNIX path",
  "an abstract AF_UNIX name", "a pipe" }

-- The hard build moves single bytes: one kind of each transport is enough there.
if helper.hard then names = { "mem", "an AF_UNIX pair", "TCP v4", "a pipe" } end

for _, name in ipairs(names) do suite(name, kinds[name]) end

-- TLS over a transport, which then has no descriptor to be taken.
local function with_tls(below)
  return function()
    local a, b = below()
    local served = neap.spawn(function()
      return assert(b:starttls(certs.server { server = true }))
    end)
    assert(a:starttls(certs.client { name = "localhost" }))
    assert(served:join())
    return a, b
  end
end

local secured = {
  { "TLS over mem", kinds["mem"].pair, reset = true },
  { "TLS over TCP v4", kinds["TCP v4"].pair, reset = true },
  { "TLS in TLS over an AF_UNIX pair", with_tls(kinds["an AF_UNIX pair"].pair) },
  { "TLS over a fault layer", function()
    local a, b = net.pair "mem"
    return net.fault(a, { seed = 4, cut = 300, again = 0.3 }),
      net.fault(b, { seed = 5, cut = 500, again = 0.2 })
  end },
  { "a fault layer over TLS", kinds["mem"].pair, fault = { seed = 6, cut = 40, again = 0.3 } },
}
if helper.hard then secured = { secured[1] } end

for _, k in ipairs(secured) do
  local pair = with_tls(k[2])
  suite(k[1], {
    reset = k.reset,
    slow = 4,
    pair = function()
      local a, b = pair()
      if k.fault then return net.fault(a, k.fault), net.fault(b, k.fault) end
      return a, b
    end,
  })
end

-- The layer hides the descriptor. Seeds: one that mostly cuts, one that mostly refuses, one that
-- also waits.
local faults = {
  { seed = 1, cut = 7 },
  { seed = 2, again = 0.6 },
  { seed = 3, cut = 4000, again = 0.3, delay = 0.0002 },
}
-- Where each byte is a call and every third of them waits, a test takes minutes.
if helper.hard then table.remove(faults) end

-- All of them over memory, where a run is the same each time; one each over what the kernel has a
-- say in.
for i, name in ipairs(helper.hard and { "mem" } or { "mem", "an AF_UNIX pair", "TCP v4",
  "a pipe" }) do
  for _, f in ipairs(i == 1 and faults or { faults[i - 1] }) do
    local kind = {}
    for k, v in pairs(kinds[name]) do kind[k] = v end
    kind.socket = false
    kind.slow = f.cut and f.cut < 100 and 8 or f.delay and 8 or 4
    kind.pair = function()
      local a, b = kinds[name].pair()
      a:option("send_buffer", 1 << 16) -- so that less makes a writer wait; not every kind has it
      b:option("receive_buffer", 1 << 16)
      return net.fault(a, f), net.fault(b, { seed = f.seed + 100, cut = f.cut, again = f.again,
        delay = f.delay })
    end
    suite(("fault: %d over %s"):format(f.seed, name), kind)
  end
end
