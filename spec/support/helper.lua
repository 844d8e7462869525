-- What specs share: temporary directories, real processes, waiting for something to become true.
--
-- Processes are started through the shell, not through neap.process: a spec must not rest on what
-- it tests. Whatever is made here goes away when the test that made it ends.

local neap = require "neap"
local house = require "spec.support.house"

local helper = {}

local function shell(command)
  local p = assert(io.popen(command))
  local out = p:read "a"
  p:close()
  return (out:gsub("\n$", ""))
end

helper.root = shell "pwd"
helper.build = os.getenv "NEAP_BUILD" or "build"
if helper.build:sub(1, 1) ~= "/" then helper.build = helper.root .. "/" .. helper.build end
helper.neap = helper.build .. "/neap" -- the command under test
helper.cc = os.getenv "CC" or "cc"
helper.cflags = os.getenv "NEAP_CFLAGS" or "" -- the sanitizers of this build
helper.sanitized = helper.cflags:find "sanitize" ~= nil
helper.hard = helper.build:find "hard" ~= nil

-- Deadlines of specs are multiplied by this: sanitizers and the hard build are slow.
helper.slow = helper.hard and 20 or helper.sanitized and 5 or 1

--- Runs f when the present test ends, whatever its outcome; last registered first.
function helper.after(f) table.insert(house.ending, f) end

--- A word of the shell.
function helper.quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local made = 0
--- A new directory, removed with its contents when the test ends. Short enough for socket paths.
function helper.tmpdir()
  made = made + 1
  local dir = shell "mktemp -d /tmp/neap.XXXXXX"
  assert(dir ~= "", "mktemp failed")
  helper.after(function() os.execute("rm -rf " .. helper.quote(dir)) end)
  return dir
end

--- A path for a socket in a directory of its own.
function helper.socket_path(name) return helper.tmpdir() .. "/" .. (name or "s") end

function helper.read_file(path)
  local f = io.open(path, "rb")
  if not f then return nil end
  local text = f:read "a"
  f:close()
  return text
end

function helper.write_file(path, text)
  local f = assert(io.open(path, "wb"))
  assert(f:write(text))
  assert(f:close())
  return path
end

--- Calls f until it returns something true, which is returned; nil after `seconds` (10).
function helper.wait_until(f, seconds)
  local limit, pause = neap.now() + (seconds or 10) * helper.slow, 0.001
  while true do
    local result = f()
    if result then return result end
    if neap.now() > limit then return nil end
    neap.sleep(pause)
    pause = math.min(pause * 1.5, 0.02)
  end
end

--- Waits until somebody listens on an AF_UNIX path, without connecting: a path that is there may be
-- bound and not yet listening.
function helper.listening(path)
  local row = "^%x+: %x+ %x+ 00010000 .* " .. path:gsub("%p", "%%%0") .. "$" -- SO_ACCEPTCON
  assert(helper.wait_until(function()
    for line in io.lines "/proc/net/unix" do
      if line:find(row) then return true end
    end
  end), "nobody listens on " .. path)
end

--- The same by connecting, of any address.
function helper.answers(address)
  assert(helper.wait_until(function()
    local c = require("neap.net").connect(address)
    return c and c:abort()
  end), "nobody listens on " .. address)
end

local process = {}
process.__index = process

--- Starts a command of the shell in a session of its own; other tasks go on. Its output goes to
-- files.
-- opts: stdin (text; default: empty), env (a table), cwd, limit (seconds until it is killed, 60)
-- The process is killed when the test ends.
function helper.start(command, opts)
  opts = opts or {}
  local dir = helper.tmpdir()
  local self = setmetatable({ dir = dir, command = command }, process)
  helper.write_file(dir .. "/in", opts.stdin or "")
  local lines = {}
  for name, value in pairs(opts.env or {}) do
    lines[#lines + 1] = ("export %s=%s"):format(name, helper.quote(value))
  end
  if opts.cwd then lines[#lines + 1] = "cd " .. helper.quote(opts.cwd) .. " || exit 127" end
  lines[#lines + 1] = command
  helper.write_file(dir .. "/cmd", table.concat(lines, "\n") .. "\n")
  helper.write_file(dir .. "/run", ([[cd %s
d=%s
bash $d/cmd <$d/in >$d/out 2>$d/err
echo $? >$d/rc.new
mv $d/rc.new $d/rc
]]):format(helper.quote(helper.root), dir))
  local line = "setsid timeout -k 1 %d sh %s/run >/dev/null 2>&1 </dev/null & echo $!"
  self.pid = tonumber(shell(line:format((opts.limit or 60) * helper.slow, dir)))
  helper.after(function() self:kill "KILL" end)
  return self
end

--- What it has written so far.
function process:out() return helper.read_file(self.dir .. "/out") or "" end
function process:err() return helper.read_file(self.dir .. "/err") or "" end

--- Its exit status (128 + signal), or nil while it runs.
function process:status()
  local rc = helper.read_file(self.dir .. "/rc")
  return rc and tonumber(rc)
end

--- Waits for its end: its exit status, or nil when it still runs after `seconds` (10).
function process:wait(seconds)
  return helper.wait_until(function() return self:status() end, seconds)
end

--- Waits until its output (standard output, then error) matches the Lua pattern: the captures;
-- raises after `seconds`.
function process:expect(pattern, seconds)
  local found = helper.wait_until(function()
    local text = self:out() .. self:err()
    return text:find(pattern) and { text:match(pattern) }
  end, seconds)
  if not found then
    error(("%s did not say %q but:\n%s%s"):format(self.command, pattern, self:out(), self:err()), 2)
  end
  return table.unpack(found)
end

--- Sends a signal to it and all it started.
function process:kill(signal)
  if self:status() and signal ~= "KILL" then return end
  os.execute(("kill -s %s -- -%d 2>/dev/null"):format(signal or "TERM", self.pid))
end

--- Runs a command of the shell to its end while other tasks go on: output, errors, exit status
-- (nil: killed after `limit`). opts as helper.start.
function helper.run(command, opts)
  local p = helper.start(command, opts)
  local status = p:wait((opts and opts.limit or 30) + 5)
  return p:out(), p:err(), status
end

--- Runs the command under test with the arguments of a shell line.
function helper.run_neap(arguments, opts)
  return helper.run(helper.quote(helper.neap) .. " " .. arguments, opts)
end

--- Runs Lua text as a script of the command under test.
function helper.run_script(text, opts)
  local path = helper.write_file(helper.tmpdir() .. "/script.lua", text)
  return helper.run_neap(path, opts)
end

--- Starts Lua text as a script of the command under test; it goes on while the test does.
function helper.start_script(text, opts)
  local path = helper.write_file(helper.tmpdir() .. "/script.lua", text)
  return helper.start("exec " .. helper.quote(helper.neap) .. " " .. path, opts)
end

--- The environment of a child whose names are answered by spec/support/names.c.
function helper.resolver()
  local lib = helper.tmpdir() .. "/names.so"
  local command = "%s -shared -fPIC -o %s spec/support/names.c -ldl"
  local out, err, status = helper.run(command:format(helper.cc, lib))
  assert(status == 0, out .. err)
  local asan = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0"
  return { LD_PRELOAD = lib, ASAN_OPTIONS = asan }
end

--- What the shell needs before a stock `lua5.4` that loads neap.so: a sanitized module wants its
-- sanitizer loaded first.
function helper.preload()
  if not helper.sanitized then return "" end
  return "LD_PRELOAD=" .. shell(helper.cc .. " -print-file-name=libasan.so") .. " "
end

--- For `setup` below: a second network namespace, reached by `nsenter -n -t $other`. It ends with
-- the test.
helper.second_network = [[
unshare -n sleep 60 & other=$!
while test "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/$$/ns/net)"; do sleep 0.01; done
]]

--- Runs Lua text as a script of the command under test, as root of a user and network namespace of
-- its own, after the lines of the shell in `setup` (lo is up).
function helper.run_isolated(text, setup, opts)
  local dir = helper.tmpdir()
  local script = helper.write_file(dir .. "/script.lua", text)
  local lines = { "set -e", "ip link set lo up", setup or "",
    "exec " .. helper.quote(helper.neap) .. " " .. script }
  local start = helper.write_file(dir .. "/start", table.concat(lines, "\n") .. "\n")
  return helper.run("exec unshare -Urn sh " .. start, opts)
end

return helper
