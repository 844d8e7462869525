-- neap.codec.grammar: LPeg patterns over a peer's bytes, which must not make a script raise.
--
-- LPeg raises for bytes that nest deeper than its backtrack stack (lpeg.setmaxstack) or its
-- captures go, Lua for more values than a call can return. Whoever sends the bytes chooses that, so
-- it is a result here; what the pattern's own functions raise is raised.

local CAPTURES_MAX <const> = 100000 -- a tenth of what Lua's stack holds

local too_much = { "stack overflow", "nesting too deep" } -- what LPeg says then

local function settle(ok, captures, ...)
  if ok then
    if captures and #captures > CAPTURES_MAX then
      return nil, ("more than %d captures"):format(CAPTURES_MAX)
    end
    return captures, ...
  end
  for _, text in ipairs(too_much) do
    if type(captures) == "string" and captures:find(text, 1, true) then
      return nil, "nested too deep"
    end
  end
  error(captures, 0)
end

--- match(text) of lpeg.Ct(pattern): its results; nil and a text where the bytes ask for too much.
return function(pattern)
  return function(text) return settle(pcall(pattern.match, pattern, text)) end
end
