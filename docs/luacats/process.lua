---@meta
-- Definitions for editors: child processes, which are C (src/bindings/process.c). See neap.process.

---@class neap.process
---@field pid integer
---@field name string the program, argv[1]
---@field stdin? neap.stream our ends of the pipes that were asked for
---@field stdout? neap.stream
---@field stderr? neap.stream
---@field pty? neap.stream the other side of its terminal, for both directions
---@field status "running"|"exit"|"signal"
---@field code? integer exit status or signal, when it has ended
local process = {}

--- Waits for the end; as often and by as many tasks as you like. The results are os.execute's.
---@param opts? neap.timeout
---@return true? ok true: it exited with 0
---@return string how "exit" or "signal"; past a deadline the message
---@return integer|string code exit status or signal; past a deadline "ETIMEDOUT", the child goes on
function process:wait(opts) end

--- Sends a signal. A number that was given to another process meanwhile cannot be hit: the child is
--- signalled by its pidfd where the system has them, and not after it was reaped.
---@param signal? string|integer default "TERM"; 0 only asks whether it runs
---@param opts? {group: boolean?} group: to all of the process group that it leads
---@return true? ok
---@return string? message
---@return string? code "ESRCH" it has ended, "EPERM", "EINVAL" it leads no group
function process:kill(signal, opts) end

--- Gives its pseudo-terminal another size, which the programs on it are told by WINCH.
---@param rows integer
---@param cols integer
---@return true? ok
---@return string? message
---@return string? code "ENOTTY" it has none, "ECANCELED" it is closed
function process:resize(rows, cols) end

--- Ends it, and the group that it leads: closes the pipes and the terminal, TERM, after the grace
--- KILL, and waits; what is left of the group when it has ended is killed. `<close>` does the same.
--- Where waiting is impossible the end goes on by itself and the result is true. Idempotent.
---@return true? ok
---@return "exit"|"signal" how
---@return integer code
function process:close() end
