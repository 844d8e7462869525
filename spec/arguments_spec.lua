-- Wrong types and unknown option names raise at the line of the script, naming the argument,
-- whichever floor finds them out.

local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"

-- What is wrong, a call, the argument named.
local rows = {
  { "an unknown option of listen",
    function() local l = net.listen("127.0.0.1:0", { nodely = true }) return l end, 2 },
  { "an unknown option of connect",
    function() local c = net.connect("127.0.0.1:1", { nodely = true }) return c end, 2 },
  { "an address that is a table", function() local c = net.connect {} return c end, 1 },
  { "an unknown option of datagram",
    function() local s = net.datagram("udp://127.0.0.1:0", { x = 1 }) return s end, 2 },
  { "an unknown option of serve",
    function() local s = net.serve("127.0.0.1:0", { x = 1 }, print) return s end, 2 },
  { "a handler that is a string",
    function() local s = net.serve("127.0.0.1:0", {}, "x") return s end, 3 },
  { "an unknown option of hub", function() local h = net.hub { x = 1 } return h end, 1 },
  { "pipe of a number", function() local n = net.pipe(1, 2) return n end, 1 },
  { "an unknown kind of pair", function() local p = net.pair "foo" return p end, 1 },
  { "a command line as a string", function() local p = process.spawn "ls" return p end, 1 },
  { "an unknown option of spawn",
    function() local p = process.spawn({ "true" }, { stdn = "pipe" }) return p end, 2 },
  { "sleep of a word", function() local s = neap.sleep "x" return s end, 1 },
  { "an unknown signal", function() local s = neap.signals "FOO" return s end, 1 },
  { "a select of a number", function() local s = neap.select { 1 } return s end, 1 },
  { "all of a number", function() local a = neap.all(1) return a end, 1 },
  { "a negative deadline", function() local d = neap.deadline(-1) return d end, 1 },
  { "spawn of nothing", function() local t = neap.spawn() return t end, 1 },
}

-- The same for methods of a stream.
local methods = {
  { "an unknown format", function(a) local l = a:read "x" return l end, 1 },
  { "a negative count", function(a) local l = a:read(-1) return l end, 1 },
  { "an unknown option of read",
    function(a) local l = a:read("l", { timout = 1 }) return l end, 2 },
  { "a table to write", function(a) local l = a:write({}, 2) return l end, 1 },
  { "an empty delimiter", function(a) local l = a:read_until "" return l end, 1 },
  { "a bad pack format", function(a) local l = a:unpack "q" return l end, 1 },
  { "a pattern that is a number", function(a) local l = a:match(5) return l end, 1 },
  { "a codec that is a number", function(a) local l = a:messages(5) return l end, 1 },
  { "an unknown socket option", function(a) local l = a:option "nodely" return l end, 1 },
}

local function check(f, argument, ...)
  local line = debug.getinfo(f, "S").linedefined
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(("spec/arguments_spec.lua:%d: bad argument #%d"):format(line, argument),
    tostring(err):match "spec/arguments_spec.lua:%d+: bad argument #%d+", tostring(err))
end

describe("at the script's line", function()
  for _, row in ipairs(rows) do
    it(row[1], function() check(row[2], row[3]) end)
  end

  for _, row in ipairs(methods) do
    it(row[1] .. ", of a stream", function()
      local a, b = net.pair()
      check(row[2], row[3], a)
      a:close()
      b:close()
    end)
  end
end)
