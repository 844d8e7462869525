-- neap.process: child processes.
--
--   print(process.run({ "sort", "-n" }, { input = "3\n1\n2\n", timeout = 5 }).stdout)   --> 1 2 3
--
--   local p <close> = assert(process.spawn({ "sort", "-n" }, { stdin = "pipe", stdout = "pipe" }))
--   p.stdin:write("3\n1\n2\n"); p.stdin:close()
--   print(p.stdout:read "a", p:wait())            --> 1 2 3, true, "exit", 0
--
-- The child sees what it is given and nothing else: no other descriptor of ours, default signal
-- dispositions, an empty signal mask, the descriptor limit that neap was started with.

local core = require "neap.process.core"
local scope = require "neap.scope.core"
local deadline, shield = scope.deadline, scope.shield
local event = require("neap.event.core").event
local group = require("neap.group.core").group

local process = {}

---@alias neap.process.given "null"|"inherit"|"pipe"|integer|userdata

---@alias neap.process.limit integer|"unlimited" in the units of setrlimit(2)

---@class neap.process.options
---@field stdin? neap.process.given default "null"
---@field stdout? neap.process.given default "inherit"
---@field stderr? neap.process.given|"stdout" default "inherit"; "stdout": where stdout goes
---@field listen? (neap.listener|integer|userdata)[] passed as systemd does: 3, 4 … of the child
---@field listen_names? string[] LISTEN_FDNAMES: as many as `listen` has listeners
---@field fds? (integer|userdata)[] the next descriptors of the child, from 3 on
---@field fds_at? table<integer, integer|userdata> descriptors by their number in the child, 3-255
---@field pty? true|{rows?: integer, cols?: integer} a pseudo-terminal (24 rows, 80 columns) as its
---controlling terminal, in p.pty for us; the default of stdin, stdout and stderr then; a session
---@field session? boolean setsid: a session and process group of its own, no terminal
---@field pgroup? true|integer a process group of its own, or the one it joins
---@field uid? string|integer user, by name or number; brings the user's group and groups
---@field gid? string|integer group
---@field groups? (string|integer)[] supplementary groups; with `uid`, default: those of the user
---@field umask? integer
---@field rlimits? table<string, neap.process.limit|neap.process.limit[]> setrlimit(2): `nofile`,
---`core`, `as`, `cpu` …; the soft limit (cut to the hard one), or {soft, hard}
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
-- On its pseudo-terminal the child finds a terminal: line editing, an echo, "\3" written to p.pty
-- interrupts it. p.pty is one stream for both directions; its end comes when every process has
-- closed the terminal. Closing it hangs the session up.
--
-- A child that leads a process group (`pgroup = true`, `session`, `pty`) is ended with all of it.
-- `uid`, `gid` and `groups` need the right to change them; of a user whom the system does not know
-- the `gid` has to be given. `cwd` is entered before. Names are looked up where nsswitch.conf says,
-- which blocks while that takes.
--
-- A running child whose object is collected without close is ended the same way, with a warning.
--
-- The message names the step that failed. Codes: ENOENT, EACCES, ENOEXEC, E2BIG (the program);
-- ENOENT, ENOTDIR, EACCES (cwd); ENOENT (no such user or group); EPERM (uid, gid, groups, limits,
-- process group); EMFILE, EAGAIN, ENOSPC (pseudo-terminals), EBADF.
---@param argv (string|number)[]
---@param opts? neap.process.options
---@return neap.process|nil process
---@return string? message
---@return string? code
process.spawn = core.spawn

local RUN_MAX = 16 << 20

local function bad(format, ...)
  error(("bad argument #2 to 'run' (" .. format .. ")"):format(...), 4)
end

-- The options of run, and what is left for spawn.
local function read_options(opts)
  if opts ~= nil and type(opts) ~= "table" then bad("table expected, got %s", type(opts)) end
  local job, given = { output_max = RUN_MAX }, { stdout = "pipe", stderr = "pipe", pgroup = true }
  for key, value in pairs(opts or {}) do
    if key == "input" or key == "timeout" or key == "output_max" then job[key] = value
    else given[key] = value end
  end
  if job.input ~= nil and type(job.input) ~= "string" then
    bad "option 'input': a string expected"
  end
  local seconds = job.timeout
  if seconds ~= nil and (type(seconds) ~= "number" or seconds < 0 or seconds ~= seconds) then
    bad "option 'timeout': seconds (a number, 0 or more) expected"
  end
  if math.type(job.output_max) ~= "integer" or job.output_max < 0 then
    bad "option 'output_max': bytes (an integer, 0 or more) expected"
  end
  if job.input and given.stdin ~= nil then bad "option 'input': not together with 'stdin'" end
  if given.pty then bad "option 'pty': only of spawn" end
  if job.input then given.stdin = "pipe" end
  return job, given
end

-- Who does not read it all has had enough: no failure of ours.
local function feed(stream, input)
  stream:write(input)
  stream:flush()
  stream:close()
end

-- False when there was more than may be kept.
local function collect(stream, job, pieces)
  for chunk in function() return stream:recv() end do
    local keep = math.min(#chunk, job.output_max - job.len)
    job.len = job.len + keep
    pieces[#pieces + 1] = chunk:sub(1, keep)
    if keep < #chunk then return false end
  end
  return true
end

-- Feeds and collects until the child and its output have ended: true, or the failure of the wait.
local function exchange(p, job)
  local done, left, tasks = event(), 0, {}
  local _ <close> = job.timeout and deadline(job.timeout) or nil
  local ok, message, code = true, nil, nil
  group(function(g)
    local function start(f, stream, ...)
      if not stream then return end
      left = left + 1
      tasks[left] = g:spawn(function(...)
        if f(...) == false then job.over = true end
        left = left - 1
        if left == 0 or job.over then done:set() end
      end, stream, ...)
    end
    start(collect, p.stdout, job, job.stdout)
    start(collect, p.stderr, job, job.stderr)
    start(feed, p.stdin, job.input)
    if left > 0 then ok, message, code = done:wait() end
    for _, task in ipairs(tasks) do task:cancel() end
  end)
  if not ok then return nil, message, code end
  if job.over then return true end
  local how
  ok, how, code = p:wait()
  if how == "exit" or how == "signal" then return true end
  return ok, how, code
end

---@class neap.process.result
---@field ok boolean it exited with 0
---@field status "exit"|"signal"|"running" "running": not even KILL ended it in time
---@field code? integer exit status or signal
---@field stdout string|nil what it wrote; nil where it went elsewhere
---@field stderr string|nil

---@class neap.process.run_options: neap.process.options
---@field input? string its standard input; default: empty
---@field timeout? number seconds for all of it
---@field output_max? integer bytes of stdout and stderr together; 16 MiB

--- Runs a program to its end, with an input, and collects what it writes.
--
-- The other options are spawn's, but stdout and stderr are collected by default ("pipe") and the
-- program has a process group of its own (`pgroup = false`: ours). It is over when the program has
-- ended *and* every process that it left behind has closed the outputs. At the deadline, or when
-- there is more output than `output_max`, the program and its group are ended as by close (TERM,
-- after `grace` KILL), and the failure comes with a result of what there was. An input that is not
-- read to its end is no failure.
--
-- Codes: those of spawn; ETIMEDOUT; EMSGSIZE, more output.
---@param argv (string|number)[]
---@param opts? neap.process.run_options
---@return neap.process.result|nil result
---@return string? message
---@return string? code
---@return neap.process.result? partial past a deadline, and when there was too much
function process.run(argv, opts)
  local job, given = read_options(opts)
  local fine, child, message, code = pcall(core.spawn, argv, given)
  if not fine then error(tostring(child):gsub("to '[^']*'", "to 'run'", 1), 2) end
  if not child then return nil, message, code end
  local p <close> = child
  job.stdout, job.stderr, job.len = p.stdout and {}, p.stderr and {}, 0
  local ok
  ok, message, code = exchange(p, job)
  if not p.code then shield((given.grace or 1) + 1, p.close, p) end -- an outer deadline has passed
  local result = {
    ok = p.code == 0 and p.status == "exit",
    status = p.status,
    code = p.code,
    stdout = job.stdout and table.concat(job.stdout),
    stderr = job.stderr and table.concat(job.stderr),
  }
  if job.over then
    local text = ("run %s: more than %d bytes of output"):format(p.name, job.output_max)
    return nil, text, "EMSGSIZE", result
  end
  if ok then return result end
  if code == "ETIMEDOUT" then message = "timed out" end
  return nil, ("run %s: %s"):format(p.name, message), code, result
end

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
