-- file_server.lua: sends the file that each line asks for, below one directory.
--
-- Shows: send_file leaves the bytes to the kernel; realpath keeps who asks inside; a failure is an
--        answer.
-- Try:   neap scripts/examples/file_server.lua 127.0.0.1:9096 docs
--        echo manual.md | nc -N 127.0.0.1 9096

local fs = require "neap.fs"
local net = require "neap.net"

local root = assert(fs.realpath(arg[2] or "."))

-- An open file below the root; nil and what to say.
local function find(name)
  local path, message = fs.realpath(root .. "/" .. name)
  if not path then return nil, (message:gsub("^.*: ", "")) end
  if path:sub(1, #root + 1) ~= root .. "/" then return nil, "not below the directory" end
  local file, why = fs.open(path)
  if file and not file.stat then -- a FIFO or a device
    file:close()
    return nil, "no file"
  end
  return file, why and why:gsub("^.*: ", "")
end

local server = net.serve(arg[1] or "127.0.0.1:9096", { timeout = 60 }, function(client)
  for name in client:lines() do
    local file <close>, why = find(name:gsub("\r$", ""))
    if file then
      local size = assert(file:stat()).size
      client:write(size, "\n")
      assert(client:send_file(file, 0, size))
    else
      client:write("error ", why, "\n")
    end
  end
end)

print("file_server: listening on " .. server.address .. ", for " .. root)
