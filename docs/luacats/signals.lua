---@meta
-- Definitions for editors: neap.signals, which is C (src/bindings/signal.c).

---@class neap
local neap = {}

--- An iterator over the signals that come: `for name in neap.signals("TERM", "HUP") do`. It gives
--- names without SIG. Any number of iterators may name the same signal, each gets it; one that
--- several tasks wait on gives each signal to one of them. A signal that comes faster than it is
--- asked for may count once. While an iterator is open the signal's default action is off.
---
--- The `for` closes it; otherwise `close`, or `local s <close> = neap.signals(...)`.
--- Raises for unknown names, listing the known, and for those that cannot be caught (KILL, STOP,
--- SEGV, BUS, FPE, ILL).
---@param ... string|integer "TERM", "SIGTERM" or a number
---@return neap.signals
function neap.signals(...) end

--- Called, it waits for the next signal; nil once it was closed; raises (`.code`) at a deadline.
---@class neap.signals
---@operator call: string?
local signals = {}

--- Waits for the next signal.
---@param opts? neap.timeout
---@return string? name
---@return string? message
---@return string? code "ETIMEDOUT"; "ECANCELED" it was closed
function signals:wait(opts) end

--- Ends it: waiting tasks are woken. Idempotent.
---@return true
function signals:close() end
