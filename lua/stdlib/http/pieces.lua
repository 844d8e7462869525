-- Pieces that become one string at the end, of which there may be very many: bytes that come one by
-- one must cost neither a slot of a table each, nor a copy of all before them.

local pieces = {}

-- So many become one, once.
local JOIN = 1024

-- A list for table.concat; [1..joined] are joined ones.
function pieces.new() return { n = 0, joined = 0 } end

function pieces.add(list, piece)
  local n, joined = list.n + 1, list.joined
  list[n] = piece
  if n - joined == JOIN then
    joined = joined + 1
    list[joined] = table.concat(list, "", joined, n)
    for i = n, joined + 1, -1 do list[i] = nil end
    n = joined
  end
  list.n, list.joined = n, joined
end

return pieces
