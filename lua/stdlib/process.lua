-- neap.process: child processes.
--
--   local p <close> = assert(process.spawn({ "sort", "-n" }, { stdin = "pipe", stdout = "pipe" }))
--   p.stdin:write("3\n1\n2\n"); p.stdin:close()
--   print(p.stdout:read "a", p:wait())            --> 1 2 3, true, "exit", 0
--
-- The child sees what it is given and nothing else: no other descriptor of ours, default signal
-- dispositions, an empty signal mask, the descriptor limit that neap was started with.

local core = require "neap.process.core"

local process = {}

---@alias neap.process.given "null"|"inherit"|"pipe"|integer|userdata

---@class neap.process.options
---@field stdin? neap.process.given default "null"
---@field stdout? neap.process.given default "inherit"
---@field stderr? neap.process.given|"stdout" default "inherit"; "stdout": where stdout goes
---@field listen? (neap.listener|integer|userdata)[] passed as systemd does: 3, 4 … of the child
---@field listen_names? string[] LISTEN_FDNAMES: as many as `listen` has listeners
---@field fds? (integer|userdata)[] the next descriptors of the child, from 3 on; at most 61
---@field env? table<string, string|number> the whole environment; default: environ()
---@field cwd? string working directory
---@field grace? number seconds between TERM and KILL in close; 1

--- Starts a program: argv[1], searched in the PATH of the child's environment unless it contains a
-- slash.
--
-- Each of the three standard descriptors is "null" (/dev/null), "inherit" (ours), "pipe" (a stream
-- in p.stdin, p.stdout, p.stderr), or something open: a stream, a socket, a listener, a descriptor
-- object, an io file, a number. What is given stays ours too: close it here if only the child is to
-- have it; that closes our copy and says no goodbye to the peer. As 0, 1 and 2
-- it is put into blocking mode, which programs expect; that holds for our end of it, too.
--
-- What is in `listen` the child finds by sd_listen_fds(3), as `systemd:name` when it is Neap:
-- LISTEN_FDS counts the sockets (a listener may have several), LISTEN_PID is the child, and names
-- (printable, without ':') go into LISTEN_FDNAMES. The sockets stay ours too, and stay
-- non-blocking, which is a property of both copies.
--
-- A running child whose object is collected without close is ended the same way, with a warning.
--
-- Codes: ENOENT, EACCES, E2BIG (the program), ENOENT, ENOTDIR (cwd), EMFILE, EAGAIN,
-- EBADF.
---@param argv (string|number)[]
---@param opts? neap.process.options
---@return neap.process|nil process
---@return string? message
---@return string? code
process.spawn = core.spawn

--- Our own process id.
---@type integer
process.pid = core.pid()

--- The absolute path of the program that runs, for starting another like it; nil when the system
-- does not tell.
---@type string|nil
process.executable = core.executable()

--- Our own environment, a new table on each call: to copy and change for the option `env`. Without
-- LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, which hold for this process only.
---@return table<string, string>
process.environ = core.environ

return process
