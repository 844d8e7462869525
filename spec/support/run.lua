-- run.lua [busted options] [specs]: stock busted, started in a task of the runtime: `build/neap
-- spec/support/run.lua`.
--
-- Specs may therefore wait wherever they like. Options are busted's own; house.lua adds the house
-- check, and a run without a single test fails: a filter that matches nothing must not look like
-- success.

package.path = "./?.lua;./?/init.lua;" .. package.path

local own = { "--helper=spec/support/house.lua" }
local function absent(pattern)
  for _, a in ipairs(arg) do
    if a:find(pattern) then return false end
  end
  return true
end
if absent "^%-o" and absent "^%-%-output" then own[#own + 1] = "--output=plainTerminal" end
table.move(arg, 1, #arg, #own + 1)
table.move(own, 1, #own, 1, arg)

-- busted ends a failed run by this function; the last words are the same for both ways out.
local compatibility = require "busted.compatibility"
compatibility.exit = function(code)
  io.stdout:flush()
  os.exit(code == 0)
end

require "busted.runner" { standalone = false }

local house = require "spec.support.house"
if house.tests == 0 and absent "^%-%-list$" and absent "^%-%-help$" and absent "^%-%-version$" then
  io.stderr:write "no test was run\n"
  os.exit(false)
end
os.exit(true)
