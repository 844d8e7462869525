---@meta
-- Definitions for editors: child processes, which are C (src/bindings/process.c). See neap.process.

---@class neap.process
---@field pid integer
---@field name string the program, argv[1]
---@field stdin? neap.stream our ends of the pipes that were asked for
---@field stdout? neap.stream
---@field stderr? neap.stream
---@field status "running"|"exit"|"signal"
---@field code? integer exit status or signal, when it has ended
local process = {}

--- Waits for the end; as often and by as many tasks as you like. The results are os.execute's.
---@param opts? neap.timeout
---@return true? ok true: it exited with 0
---@return string how "exit" or "signal"; past a deadline the message
---@return integer|string code exit status or signal; past a deadline "ETIMEDOUT", the child goes on
function process:wait(opts) end

---@param signal? string|integer default "TERM"; 0 only asks whether it runs
---@return true? ok
---@return string? message
---@return string? code "ESRCH" it has ended, "EPERM"
function process:kill(signal) end

--- Ends it: closes the pipes, TERM, after the grace KILL, and waits; `<close>` does the same. Where
--- waiting is impossible the end goes on by itself and the result is true. Idempotent.
---@return true? ok
---@return "exit"|"signal" how
---@return integer code
function process:close() end
