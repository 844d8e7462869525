-- tidy.lua BUILD: what `make tidy` checks, over the files of the tree and the objects of a plain
-- build in BUILD.
--
-- The floors are proven by what the compiler saw (headers) and what the linker would need
-- (symbols), not by reading. The limits are ratchets: what is past them stands in a table with its
-- reason and its size, which may only shrink.

local build = arg[1] or "build-tidy"
local cc = os.getenv "CC" or "cc"

local COLUMNS_MAX, FUNCTION_MAX, FILE_MAX = 100, 60, 400

-- path -> { lines it may have, why it is long }
local long_files = {
  ["src/core/ares.c"] = { 500, "all of c-ares in the one file that wraps it" },
}

-- A library's headers are seen by one file only.
local wrapped = { ["openssl/"] = "OpenSSL", ["zlib.h"] = "zlib", ["nghttp2/"] = "nghttp2",
  ["ares.h"] = "c-ares" }

local complaints = 0
local function complain(where, format, ...)
  complaints = complaints + 1
  io.stderr:write(where, ": ", format:format(...), "\n")
end

local function lines_of(command)
  local list = {}
  local p = assert(io.popen(command))
  for line in p:lines() do list[#list + 1] = line end
  local ok = p:close()
  return list, ok
end

local function read_lines(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "a"
  f:close()
  return text
end

-- ---- floors ------------------------------------------------------------

local function source_of(object) return "src" .. object:sub(#build + 1):gsub("%.o$", ".c") end

local function objects(floor) return lines_of(("ls %s/%s/*.o 2>/dev/null"):format(build, floor)) end

local function undefined(object, pattern)
  for _, line in ipairs(lines_of("nm -u " .. object)) do
    local name = line:match "U ([%w_]+)"
    if name and name:find(pattern) then
      complain(source_of(object), "uses %s, which its floor must not", name)
    end
  end
end

local flags = table.concat(lines_of "pkg-config --cflags lua5.4 libuv", " ")

local function headers(source, patterns)
  local command = ("%s -std=gnu11 -D_GNU_SOURCE -Isrc %s -M %s"):format(cc, flags, source)
  local text = table.concat(lines_of(command), " ")
  for path in text:gmatch "%S+" do
    for _, p in ipairs(patterns) do
      if path:find(p) then complain(source, "includes %s, which its floor must not", path) end
    end
  end
end

local function check_floors()
  for _, o in ipairs(objects "core") do
    undefined(o, "^luaL?_")
    headers(source_of(o), { "/lua%.h$", "/lauxlib%.h$", "/lualib%.h$" })
  end
  for _, o in ipairs(objects "bindings") do
    undefined(o, "^uv_")
    headers(source_of(o), { "/uv%.h$" })
  end
end

-- Two runtimes fit in one process only if nothing they use can be written.
local function check_globals()
  local list = objects "core"
  table.move(objects "bindings", 1, #objects "bindings", #list + 1, list)
  list[#list + 1] = build .. "/baked.o"
  for _, o in ipairs(list) do
    for _, line in ipairs(lines_of("objdump -h " .. o)) do
      local name, size = line:match "^%s*%d+%s+(%S+)%s+(%x+)"
      local data = name and (name:find "^%.t?data" or name:find "^%.t?bss")
      local writable = data and not name:find "^%.data%.rel%.ro"
      if writable and tonumber(size, 16) > 0 then
        complain(source_of(o), "has mutable globals: %s of %d bytes", name, tonumber(size, 16))
      end
    end
  end
end

local function check_wrapped(files)
  for pattern, library in pairs(wrapped) do
    local users = {}
    for _, path in ipairs(files) do
      if path:find "^src/.*%.[ch]$" and read(path):find("#include <" .. pattern, 1, true) then
        users[#users + 1] = path
      end
    end
    -- the files of one stem are one wrapper: tls.c, tls_bio.c, tls_impl.h
    local stem = users[1] and users[1]:match "^(.-/[%a%d]+)[_.][^/]*$"
    for _, path in ipairs(users) do
      if not path:find("^" .. stem:gsub("%p", "%%%0") .. "[_.]") then
        complain(path, "%s is already wrapped by %s", library, users[1])
      end
    end
  end
end

-- A codec is apart from I/O.
local pure = { ["neap.codec.core"] = true }
for name in ("lpeg re string table math utf8"):gmatch "%l+" do pure[name] = true end
local function check_codec(path, lines)
  for i, line in ipairs(lines) do
    local where = path .. ":" .. i
    for module in line:gmatch "require%s*%(?%s*[\"']([^\"']+)" do
      local codec = module:find "^neap%." and module:find "%.codec$"
      if not pure[module] and not codec then
        complain(where, "a codec must not require %s", module)
      end
    end
    if line:find "%f[%w_]io%.%l" or line:find "%f[%w_]os%.%l" then
      complain(where, "a codec does no I/O")
    end
  end
end

-- ---- style ------------------------------------------------------------

local function columns(line) return utf8.len(line) or #line end

local marks = { "TO" .. "DO", "FIX" .. "ME", "XX" .. "X" }

local function check_line(where, line)
  if line:find "[ \t]$" then complain(where, "ends in white space") end
  if line:find "\t" then complain(where, "has a tab") end
  if line:find "\r" then complain(where, "has a carriage return") end
  local c = where:find "%.[ch]:" -- luacheck measures Lua, where long strings may be long
  if c and columns(line) > COLUMNS_MAX then complain(where, "is %d columns wide", columns(line)) end
  for _, mark in ipairs(marks) do
    if line:find("%f[%w_]" .. mark .. "%f[^%w_]") then
      complain(where, "says %s: finish it or leave it out", mark)
    end
  end
end

-- Functions begin and end at column 0 in this tree.
local function check_functions(path, lines)
  local lua = { "^local function ", "^function " }
  local open = path:find "%.lua$" and lua or { "^[%a_].*[%)%w]%s*{$" }
  local close = path:find "%.lua$" and "^end" or "^}$"
  local begun
  for i, line in ipairs(lines) do
    for _, p in ipairs(open) do
      local kind = line:match "^%l+" -- of data: struct, enum, typedef
      local data = kind == "typedef" or line:find "^%l+ [%w_]+ {$"
      if line:find(p) and not line:find "%f[%w]end%)?$" and not data then
        begun = i
      end
    end
    if begun and line:find(close) then
      if i - begun + 1 > FUNCTION_MAX then
        local count = i - begun + 1
        local where = path .. ":" .. begun
        complain(where, "a function of %d lines; the most is %d", count, FUNCTION_MAX)
      end
      begun = nil
    end
  end
end

local function check_length(path, count)
  local allowed = long_files[path]
  local most = allowed and allowed[1] or FILE_MAX
  if count > most then
    local way_out = allowed and "" or " (or owe a reason in tidy.lua)"
    complain(path, "%d lines; the most is %d%s", count, most, way_out)
  end
  if allowed and count <= FILE_MAX then
    complain(path, "is short enough now: take it out of tidy.lua")
  end
end

local headings = { c = "^/%*", h = "^/%*", lua = "^%-%-", sh = "^#" }
local function check_heading(path, lines, ext)
  local first = lines[1] and lines[1]:find "^#!" and 2 or 1
  if not (lines[first] or ""):find(headings[ext]) then
    complain(path, "does not begin with a comment that says what it is")
  end
end

local function check_file(path)
  local ext = path:match "%.(%w+)$"
  if not headings[ext] or path:find "^bench/" then return end
  local lines = read_lines(path)
  local text = read(path)
  if text ~= "" and text:sub(-1) ~= "\n" then complain(path, "does not end with a newline") end
  for i, line in ipairs(lines) do check_line(path .. ":" .. i, line) end
  check_heading(path, lines, ext)
  check_functions(path, lines)
  if not path:find "^spec/" then check_length(path, #lines) end
  if path:find "^lua/stdlib/.*codec%.lua$" then check_codec(path, lines) end
  if path:find "_spec%.lua$" and ("\n" .. text):find "\n%s*pending%s*[%(\"']" then
    complain(path, "has a pending test")
  end
end

-- ---- tools ------------------------------------------------------------

local function check_tool(name, command, select_files)
  if #select_files == 0 then return end
  local list, ok = lines_of(command .. " " .. table.concat(select_files, " ") .. " 2>&1")
  if ok then return end
  for _, line in ipairs(list) do io.stderr:write(line, "\n") end
  complain(name, "complains")
end

local function matching(files, pattern)
  local list = {}
  for _, path in ipairs(files) do
    if path:find(pattern) and not path:find "^bench/" then list[#list + 1] = path end
  end
  return list
end

local files = lines_of [[git ls-files 2>/dev/null ||
  find . -type f -not -path './build*' -printf '%P\n']]
assert(#objects "core" > 0, "no objects in " .. build .. ": run make tidy")
check_floors()
check_globals()
check_wrapped(files)
for _, path in ipairs(files) do
  if io.open(path) then check_file(path) end
end
check_tool("clang-format", "clang-format --dry-run -Werror", matching(files, "%.[ch]$"))
check_tool("luacheck", "luacheck -q --no-color", matching(files, "%.lua$"))
print(("tidy: %d files, %d complaints"):format(#files, complaints))
os.exit(complaints == 0)
