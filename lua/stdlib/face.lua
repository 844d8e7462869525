-- face(f): f, whose argument errors are told at the line that called it.
--
-- A C function names the line of its caller. Where that is a function of the library, the line that
-- has to be found is the script's, one further out.

local function settle(ok, ...)
  if ok then return ... end
  local err = ...
  local text = type(err) == "string" and err:match "^[^\n]-:%d+: (bad argument .*)$"
  error(text or err, text and 2 or 0) -- the face itself is gone: it ended in a tail call
end

return function(f)
  return function(...) return settle(pcall(f, ...)) end
end
