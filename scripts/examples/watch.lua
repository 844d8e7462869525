-- watch.lua: prints what is added to a file, as `tail -F` does: also after it was moved away and
-- made again, as log rotation has it.
--
-- Shows: fs.watch on the directory wakes the task; reading at the end of a file goes on where it
--        stopped.
-- Try:   neap scripts/examples/watch.lua /tmp/log
--        echo hello >>/tmp/log

local fs = require "neap.fs"

local path = arg[1] or "/tmp/log"
local directory, name = path:match "^(.*/)([^/]+)$"
local watch <close> = assert(fs.watch(directory or "."))
name = name or path

local file = fs.open(path)
if file then file:seek "end" end

local function print_new()
  if not file then file = fs.open(path) end
  local text = file and file:read "a"
  if text and text ~= "" then
    io.write(text)
    io.flush()
  end
end

print("watching " .. path)
io.flush()
for what, which in watch:events() do
  if which == name then
    print_new()
    if what == "moved_from" or what == "delete" then
      if file then file:close() end
      file = nil
    end
  end
end
