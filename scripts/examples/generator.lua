-- generator.lua: a client whose generator does I/O, under one deadline.
--
-- Shows: coroutine.wrap works around waiting calls as around any others; one deadline bounds the
-- lookup, the connect and every read inside the block, and comes back as a result, not as an
-- exception.
-- Try:   neap scripts/examples/upper.lua &
--        neap scripts/examples/generator.lua 127.0.0.1:9090 one two three

local neap = require "neap"
local net = require "neap.net"

local function answers(address, questions)
  return coroutine.wrap(function()
    local conn <close> = assert(net.connect(address))
    for _, q in ipairs(questions) do
      conn:write(q, "\n")
      coroutine.yield(q, assert(conn:read()))
    end
  end)
end

local address = table.remove(arg, 1) or "127.0.0.1:9090"
local ok, message = neap.timeout(2, function()
  for question, answer in answers(address, arg) do print(question .. " -> " .. answer) end
  return true
end)
if not ok then
  io.stderr:write(message, "\n")
  os.exit(1)
end
