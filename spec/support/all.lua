-- all.lua [-j N] [busted options] [spec files and directories]: each spec file in a process of its
-- own, N at a time, long ones first: `build/neap spec/support/all.lua -j 2 spec`.
--
-- A crash or a hang costs its file only. A file that passes is one line, one that fails shows all
-- it printed; the sum has the form of busted's summary. One file alone runs as if called directly.

local lfs = require "lfs"
local neap = require "neap"
local process = require "neap.process"

local FILE_SECONDS = tonumber(os.getenv "SPEC_FILE_SECONDS") or 600

-- These take longest, and begin first; then the largest files.
local LONG = {
  ["spec/starve_tls_spec.lua"] = true,
  ["spec/starve_http_spec.lua"] = true,
  ["spec/starve_layers_spec.lua"] = true,
  ["spec/starve_sockets_spec.lua"] = true,
  ["spec/starve_spec.lua"] = true,
  ["spec/stream_conformance_spec.lua"] = true,
  ["spec/embed_spec.lua"] = true,
  ["spec/docs_spec.lua"] = true,
  ["spec/inject_spec.lua"] = true,
}

local options, files, jobs = {}, {}, 2

local function add(path)
  local mode = assert(lfs.attributes(path, "mode"), path .. ": no such file")
  if mode == "file" then
    files[#files + 1] = { name = path, size = lfs.attributes(path, "size") }
    return
  end
  for name in lfs.dir(path) do
    local below = path .. "/" .. name
    local folder = name:find "^[^.]" and lfs.attributes(below, "mode") == "directory"
    if folder or name:find "_spec%.lua$" then add(below) end
  end
end

do
  local i = 1
  while arg[i] do
    if arg[i] == "-j" then
      i = i + 1
      jobs = assert(math.tointeger(arg[i]), "-j takes a number")
    elseif arg[i]:find "^%-" then
      options[#options + 1] = arg[i]
    else
      add((arg[i]:gsub("/$", "")))
    end
    i = i + 1
  end
  local function rank(file) return (LONG[file.name] and 1 << 30 or 0) + file.size end
  table.sort(files, function(a, b) return rank(a) > rank(b) end)
end

local function command(file)
  local argv = { arg[-1], (arg[0]:gsub("all%.lua$", "run.lua")) }
  table.move(options, 1, #options, #argv + 1, argv)
  argv[#argv + 1] = file.name
  return argv
end

if #files == 1 then
  local p <close> = assert(process.spawn(command(files[1]), { stdin = "inherit" }))
  local _, how, number = p:wait()
  os.exit(how == "exit" and number or 1)
end

local sum = { 0, 0, 0, 0 } -- successes, failures, errors, pending

-- Adds busted's summary in the output: whether there was one, and nothing in it failed.
local function count(output)
  local found
  for a, b, c, d in
    output:gmatch "(%d+) success%a* / (%d+) failures? / (%d+) errors? / (%d+) pending"
  do
    found = { a, b, c, d }
  end
  if not found then return false end
  for i, n in ipairs(found) do
    sum[i] = sum[i] + n
  end
  return true, math.tointeger(found[1])
end

local function run(file)
  local log <close> = assert(io.tmpfile())
  local start = neap.now()
  local opts = { stdout = log, stderr = log, pgroup = true }
  local p <close> = assert(process.spawn(command(file), opts))
  local ok, how, number = p:wait { timeout = FILE_SECONDS }
  log:seek "set"
  local output = log:read "a"
  local counted, successes = count(output)
  local took = neap.now() - start
  if ok and counted then
    print(("%-44s %5d successes %7.1f s"):format(file.name, successes, took))
  elseif #options > 0 and output:find("no test was run", 1, true) then
    return
  else
    io.write(output, output:find "[^\n]$" and "\n" or "")
    if not counted then
      sum[3] = sum[3] + 1
      print(("Error -> %s: %s %s, without a summary"):format(file.name, how, number or ""))
    end
    print(("%-44s FAILED %15.1f s"):format(file.name, took))
  end
  io.stdout:flush()
end

local start = neap.now()
local places = neap.semaphore(jobs)
neap.group(function(g)
  for _, file in ipairs(files) do
    g:spawn(function()
      local _ <close> = assert(places:permit())
      run(file)
    end)
  end
end)

print(
  ("%d successes / %d failures / %d errors / %d pending : %.1f seconds"):format(
    sum[1], sum[2], sum[3], sum[4], neap.now() - start
  )
)
os.exit(sum[1] > 0 and sum[2] + sum[3] == 0)
