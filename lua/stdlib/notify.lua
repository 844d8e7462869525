-- neap.notify: telling the service manager about this process (sd_notify(3)).
--
-- One datagram to $NOTIFY_SOCKET, then perhaps a second one, the barrier. It tells and does not
-- manage: no unit files, no bus.

local datagrams = require "neap.dgram.core"
local pair = require("neap.pair.core").pair
local now = require("neap.task.core").now

local BARRIER_SECONDS = 5 -- as systemd-notify(1)

local function bad(format, ...)
  return ("bad argument #1 to 'notify' (" .. format .. ")"):format(...)
end

-- Each makes its lines from its field's value, or returns nil and what it wants.
local function flag(line)
  return function(value)
    if type(value) ~= "boolean" then return nil, "true or false" end
    return value and line or ""
  end
end

local function text(name)
  return function(value)
    if type(value) ~= "string" or value:find "[\n%z]" then return nil, "a string of one line" end
    return name .. "=" .. value
  end
end

local function name(prefix)
  return function(value)
    local fits = type(value) == "string" and #value >= 1 and #value <= 255
    if not fits or value:find "[^ -9;-~]" then return nil, "a name (printable, without ':')" end
    return prefix .. value
  end
end

local write = {
  ready = flag "READY=1",
  stopping = flag "STOPPING=1",
  status = text "STATUS",
  fdstore_remove = name "FDSTOREREMOVE=1\nFDNAME=",
  fdname = name "FDNAME=",
}

function write.watchdog(value)
  if value == "trigger" then return "WATCHDOG=trigger" end
  local line = flag "WATCHDOG=1"(value)
  return line, "true, false or 'trigger'"
end

-- Type=notify-reload compares the time with that of its request.
function write.reloading(value)
  local line, wanted = flag "RELOADING=1"(value)
  if not line or line == "" then return line, wanted end
  return ("%s\nMONOTONIC_USEC=%d"):format(line, now() * 1000000 // 1)
end

function write.mainpid(value)
  if math.type(value) ~= "integer" or value < 1 then return nil, "a process id" end
  return "MAINPID=" .. value
end

function write.fdstore(value)
  if type(value) ~= "table" then return nil, "a list of descriptors" end
  return #value > 0 and "FDSTORE=1" or ""
end

function write.barrier(value)
  if type(value) ~= "boolean" then return nil, "true or false" end
  return ""
end

function write.timeout(value)
  if type(value) ~= "number" or value < 0 then return nil, "seconds" end
  return ""
end

-- READY=1 and what else the fields say, in an order that does not depend on hashing; or nil and
-- the error's text.
local function message_of(fields)
  if type(fields) ~= "table" then return nil, bad("table expected, got %s", type(fields)) end
  local lines = {}
  for key, value in pairs(fields) do
    local f = write[key]
    if not f then return nil, bad("unknown field '%s'", key) end
    local line, wanted = f(value)
    if not line then return nil, bad("field '%s': %s expected", key, wanted) end
    if line ~= "" then lines[#lines + 1] = line end
  end
  if fields.fdname and fields.fdstore_remove then
    return nil, bad "field 'fdname': not together with 'fdstore_remove'"
  end
  if fields.fdname and not fields.fdstore then
    return nil, bad "field 'fdname': only with 'fdstore'"
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

-- $NOTIFY_SOCKET as an address, or nil, message, code.
local function address()
  local path = os.getenv "NOTIFY_SOCKET"
  if not path or path == "" then
    return nil, "notify: nobody asked to be told (NOTIFY_SOCKET is not set)", "ENOTCONN"
  end
  if not path:find "^[/@]." then
    return nil, ("notify: NOTIFY_SOCKET is '%s', no AF_UNIX address"):format(path), "EAFNOSUPPORT"
  end
  return "unix-dgram:" .. path
end

-- The manager closes the descriptor when it has handled all that came before
-- (sd_notify_barrier(3)). Our copy is closed without the shutdown of a stream's close, which all
-- copies would see.
local function barrier(socket, timeout)
  local ours, theirs = pair "unix"
  if not ours then return nil, theirs, "EMFILE" end
  local _ <close> = ours
  local copy <close> = theirs:take()
  local ok, message, code = socket:send("BARRIER=1", { fds = { copy }, timeout = timeout })
  copy:close()
  if not ok then return nil, message, code end
  local data
  data, message, code = ours:read(1, { timeout = timeout })
  if data or not code or code == "ECONNRESET" then return true end
  ours:abort() -- a close would wait for the manager in the background
  return nil, "barrier: " .. message, code
end

local function send(to, message, fields)
  local timeout = fields.timeout or BARRIER_SECONDS
  local socket, why, code = datagrams.datagram(nil, { connect = to })
  if not socket then return nil, why, code end
  local _ <close> = socket
  if message ~= "" then
    local ok
    ok, why, code = socket:send(message, { fds = fields.fdstore, timeout = timeout })
    if not ok then return nil, why, code end
  end
  if fields.barrier then return barrier(socket, timeout) end
  return true
end

return function(fields)
  local message, wrong = message_of(fields)
  if not message then error(wrong, 2) end
  local to, why, code = address()
  if not to then return nil, why, code end
  local ok
  ok, why, code = send(to, message, fields)
  if ok then return true end
  return nil, "notify: " .. why, code
end
