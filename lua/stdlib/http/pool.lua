-- Connections that are kept for the next request, by what they reach.
--
-- Few, and not for long: servers close theirs after a minute or so. One that says something unasked
-- is not used again.

local tasks = require "neap.task.core"

local pool = {}

-- Kept connections: of one key, of all, and how long.
local KEEP = 4
local KEEP_ALL = 64
local KEEP_S = 30

-- { {key, conn, since}, ... }, the last used at the end; of one runtime.
local kept = {}

-- Nobody has anything to say on an idle connection: bytes belong to no request, an end is the end.
local function is_idle(conn)
  if conn.closed or conn.unread_bytes > 0 then return false end
  local bytes, _, code = conn:peek(1, { timeout = 0 })
  return not bytes and code == "ETIMEDOUT"
end

-- A connection that can be used, or nothing.
function pool.take(key)
  for i = #kept, 1, -1 do
    local entry = kept[i]
    if entry and entry.key == key then
      table.remove(kept, i)
      if tasks.now() - entry.since < KEEP_S and is_idle(entry.conn) then return entry.conn end
      entry.conn:abort()
    end
  end
end

function pool.keep(key, conn)
  local now, same = tasks.now(), 0
  for i = #kept, 1, -1 do
    local entry = kept[i]
    if entry.key == key then same = same + 1 end
    if now - entry.since >= KEEP_S or same >= KEEP then
      table.remove(kept, i)
      entry.conn:abort()
    end
  end
  if #kept >= KEEP_ALL then table.remove(kept, 1).conn:abort() end
  kept[#kept + 1] = { key = key, conn = conn, since = now }
end

-- http.forget.
function pool.forget()
  while #kept > 0 do table.remove(kept).conn:close() end
end

return pool
