---@meta
-- Definitions for editors: channels, events, semaphores and select, which are C
-- (src/bindings/channel.c, event.c, semaphore.c, select.c).

---@class neap
local neap = {}

---@class neap.timeout
---@field timeout? number seconds; default: none. A deadline scope may end the wait earlier.

--- Values handed from task to task. `for value in channel do` runs until it is closed and drained;
--- it raises (`.code` is "ETIMEDOUT") when a deadline scope ends it. `#channel`: buffered values.
--- `local ch <close> = neap.channel()` closes it at the end of the block.
---
--- Waiters are served first come, first served. A value belongs to the getter from the moment it
--- is woken: a cancellation or deadline that comes later counts from that task's next wait.
---@class neap.channel
---@operator call: any
local channel = {}

---@param n? integer how many values it buffers, 0 to 2^24; default 0: put and get meet
---@return neap.channel
function neap.channel(n) end

--- Hands the value to the first waiting get, else to the buffer, else waits for a get.
---@param value any not nil: nil is how get says "closed"
---@param opts? neap.timeout
---@return true? put
---@return string? message "closed", "put on a channel: timed out"; then nothing was put
---@return string? code "EPIPE" closed, also while waiting; "ETIMEDOUT"
function channel:put(value, opts) end

--- The oldest value, waiting for one. After close what is buffered, then nil alone.
---@param opts? neap.timeout
---@return any value
---@return string? message "get from a channel: timed out"
---@return string? code "ETIMEDOUT"
function channel:get(opts) end

--- Ends the putting: waiting puts fail, waiting gets return nil. Never waits; again is fine.
---@return true
function channel:close() end

--- For `for`; the channel itself does the same.
---@return fun(): any, neap.channel
function channel:iter() end

---@return boolean
function channel:is_closed() end

---@return integer n how many values it buffers; 0: a rendezvous
function channel:capacity() end

--- A flag that tasks wait for.
---@class neap.event
local event = {}

---@return neap.event # not set
function neap.event() end

--- Wakes all who wait, in the order in which they came; all of them have seen it, even if clear
--- follows at once.
---@return true
function event:set() end

---@return true
function event:clear() end

---@return boolean
function event:is_set() end

---@param opts? neap.timeout
---@return true? set
---@return string? message "wait for an event: timed out"
---@return string? code "ETIMEDOUT"
function event:wait(opts) end

--- Permits, first come, first served: a release hands its permit to the first waiter, and nobody
--- overtakes.
---@class neap.semaphore
local semaphore = {}

---@param n integer permits, 0 or more
---@return neap.semaphore
function neap.semaphore(n) end

---@param opts? neap.timeout
---@return true? acquired
---@return string? message "acquire a semaphore: timed out"
---@return string? code "ETIMEDOUT"
function semaphore:acquire(opts) end

--- Never waits.
---@return boolean acquired
function semaphore:try_acquire() end

--- Gives permits back, or adds them.
---@param n? integer default 1
---@return true
function semaphore:release(n) end

--- For a block: `local permit <close> = sem:permit()`.
---@param opts? neap.timeout
---@return neap.permit? permit
---@return string? message as acquire
---@return string? code
function semaphore:permit(opts) end

---@return integer free
function semaphore:available() end

---@class neap.permit
local permit = {}

--- Gives the permit back before the block ends; again is fine. A permit that is collected
--- unreleased goes back with a warning.
---@return true
function permit:release() end

---@class neap.select.list: neap.timeout
---@field [integer] neap.channel | neap.event | neap.semaphore | neap.task | neap.select.case

--- {object, operation, value}: {channel, "put", v}, {channel, "get"}, {event, "wait"},
--- {semaphore, "acquire"}, {task, "join"}. A bare object means its get, wait, acquire or join.
---@class neap.select.case
---@field [1] any the object
---@field [2]? string the operation
---@field [3]? any what to put

--- Waits for several operations, of which exactly one happens; the others have not begun. If
--- several are ready, the first of the list happens. A closed channel is ready. At most 1000 cases.
---@param list neap.select.list
---@return integer? index of the case that happened
---@return any ... what its operation returns; or "select: timed out", "ETIMEDOUT"
function neap.select(list) end

return neap
