---@meta neap
-- Definitions for editors: tasks, groups, deadlines, time and looking inside, which are C
-- (src/bindings/task.c, group.c, scope.c, deadline.c, inspect.c, ending.c, watchdog.c). See neap.

---@class neap
---@field version string "0.1.0"
---@field stdin neap.stream descriptor 0 as a stream, made when first named; io.* blocks
---@field stdout neap.stream descriptor 1
---@field stderr neap.stream descriptor 2
---@field cancelled any what a cancelled wait raises: one value, compare with ==
local neap = {}

--- A coroutine that the scheduler runs. Made by spawn; the script itself is the first one.
---@class neap.task
---@field name? string can be set; shown in listings and tracebacks
---@field id integer
---@field state "ready"|"running"|"waiting"|"returned"|"failed"|"cancelled"
local task = {}

--- Starts a task in the nearest group. It runs when the caller waits, gives way or ends.
---@param f function
---@param ... any its arguments
---@return neap.task
function neap.spawn(f, ...) end

--- Waits for the end of the task. An error is delivered once: to the tasks that are in join at that
--- moment, else to the task's group.
---@param opts? neap.timeout
---@return boolean? ok as pcall: true; false when it failed or was cancelled; nil past a deadline
---@return any ... its results; the error (neap.cancelled, then the reason); or the message
---@return string? code "ETIMEDOUT"; the task goes on
function task:join(opts) end

--- Asks the task to end: its present or next wait raises neap.cancelled once. Then waits work for
--- one second more, for goodbyes; after that every wait raises. Never waits itself.
---@param reason? any join's third result
---@return boolean requested false: it had ended or was cancelled before
function task:cancel(reason) end

--- Waits. 1 ms granularity, never early.
---@param seconds number 0 or more
---@return true? slept
---@return string? message "sleep: timed out"
---@return string? code "ETIMEDOUT": a deadline scope ended it
function neap.sleep(seconds) end

--- Lets the other ready tasks run. A cancellation is raised here.
function neap.yield() end

--- The monotonic clock.
---@return number seconds since some instant
function neap.now() end

---@return neap.task? task the one that runs
function neap.current() end

--- Tasks that end before the function that opened them returns.
---@class neap.group
local group = {}

--- Runs f(g) and returns its results when all tasks spawned inside have ended. The first error, of
--- f or of a task, cancels the others and is raised with its traceback. A cancelled
--- task is no error.
---@param f fun(g: neap.group): any
---@return any ... f's results; or nil
---@return string? message
---@return string? code "ETIMEDOUT": a deadline scope ended it; "ECANCELED": g:cancel() ended f
function neap.group(f) end

--- Starts a task in this group. Raises when the group has ended.
---@param f function
---@param ... any
---@return neap.task
function group:spawn(f, ...) end

--- Cancels its tasks, and f when it still runs.
function group:cancel() end

---@return neap.task[] tasks of the group, oldest first
function group:tasks() end

--- A bound for every wait of the block: `local d <close> = neap.deadline(2)`. It counts for the
--- coroutine that opened it and those that coroutine resumes. Scopes nest, the nearest instant
--- wins; a spawned task inherits none. A wait that meets it returns nil, message,
--- "ETIMEDOUT"; the 100th such result in a row is raised.
---@class neap.deadline
local deadline = {}

---@param seconds number
---@return neap.deadline
function neap.deadline(seconds) end

---@return number? seconds left, 0 when expired; nil: none
function deadline:remaining() end

--- Ends the scope before the block does; again is fine.
function deadline:close() end

--- Calls f under a deadline.
---@param seconds number
---@param f function
---@param ... any its arguments
---@return any ... f's results; or nil when a wait inside met this deadline
---@return string? message
---@return string? code "ETIMEDOUT"
function neap.timeout(seconds, f, ...) end

--- Calls f hidden from cancellation and outer deadlines, for at most so long: to finish what must
--- not be left half done.
---@param seconds number
---@param f function
---@param ... any
---@return any ... f's results
function neap.shield(seconds, f, ...) end

--- f runs in a task of its own when the main group has ended, also after an error or os.exit; the
--- last registered first.
---@param f function
function neap.on_exit(f) end

---@class neap.task_info
---@field task neap.task
---@field id integer
---@field name? string
---@field state "running"|"ready"|"waiting"
---@field waiting? string what for: "sleep", "read tcp://…"
---@field where string file:line

--- All tasks that have not ended.
---@return neap.task_info[]
function neap.tasks() end

---@class neap.stats
---@field tasks integer that have not ended
---@field ready integer of them, waiting to run
---@field objects integer sockets, listeners, processes … that are open
---@field lingering integer closed connections whose last bytes are on their way
---@field threads_pooled integer finished coroutines that are kept for reuse
---@field lua_bytes integer memory of Lua

---@return neap.stats
function neap.stats() end

--- One line per open object.
---@return string[]
function neap.objects() end

--- Where a task is, its innermost coroutine first; of a failed one, where it failed.
---@param t neap.task
---@param message? string put in front
---@return string
function neap.traceback(t, message) end

--- Warns (standard error) of a task that keeps the loop longer, with its line; once for each time
--- it does. Off it costs nothing.
---@param seconds number|nil|false nil or false turn it off
---@return true? on
---@return string? message
---@return string? code "EOPNOTSUPP": the host program has not opted in (src/neap.h)
function neap.watchdog(seconds) end

return neap
