---@meta
-- Definitions for editors: neap.workers (lua/stdlib/workers.lua): what a script can know of
-- `neap --workers N`.

--- Under --workers, `net.listen` and `net.datagram` (bound to a port or a path) give all workers
--- the same address: passed by the supervisor, or bound by each with SO_REUSEPORT ("N,reuseport").
--- The n-th listener on a port 0 is the same in all workers. Asking the supervisor waits, so it is
--- impossible where tasks cannot wait. A worker that exits with 0 stays away; any other end starts
--- it again.
---@class neap.workers
---@field id? integer this worker's number, 1 to `count`, kept by its successors; nil: no worker
---@field count? integer how many there are; nil: no worker
local workers = {}

--- As net.listen, for this worker alone: a port told to one client, something only one worker does.
---@param addr neap.address|neap.address[]
---@param opts? neap.net.listen_options
---@return neap.listener|nil listener
---@return string? message
---@return string? code
function workers.listen(addr, opts) end

return workers
