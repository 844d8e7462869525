---@meta
-- Definitions for editors: neap.notify, which loads when it is first named (lua/stdlib/notify.lua).

---@class neap
local neap = {}

---@class neap.notify_fields
---@field ready? boolean start-up, or a reload, is complete
---@field reloading? boolean a reload begins; `ready` ends it
---@field stopping? boolean the end begins
---@field status? string a line for people
---@field watchdog? boolean|"trigger" a sign of life; "trigger": act as if none had come in time
---@field mainpid? integer the process to watch from now on
---@field fdstore? (neap.descriptor|userdata|integer)[] for our successor; at most 253
---@field fdname? string the name of those in `fdstore`
---@field fdstore_remove? string forgets the kept descriptors of that name
---@field barrier? boolean wait until the manager has handled this and all before
---@field timeout? number seconds for sending and for the barrier; 5

--- Tells the service manager ($NOTIFY_SOCKET, a path or an abstract name) about this process:
--- sd_notify(3), sd_notify_barrier(3). Unknown fields raise. What is in `fdstore` stays ours too;
--- of a listener it is the first socket. The variable stays set: leave it out of the environment of
--- children that shall not speak for us.
---@param fields neap.notify_fields
---@return true? ok
---@return string? message
---@return string? code "ENOTCONN": nobody to tell; "ENOENT", "ECONNREFUSED": gone; "ETIMEDOUT"
function neap.notify(fields) end
