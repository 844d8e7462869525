-- bake.lua DIR OUT: writes the Lua modules below DIR (lua/stdlib) into the C file OUT (see
-- src/bindings/baked.h).
--
-- A module's name is its path: init.lua stands for its directory and DIR itself is `neap`, so
-- DIR/net/init.lua is `neap.net` and DIR/process.lua is `neap.process`.  Each source is compiled
-- once here: a syntax error stops the build.

local dir, out = arg[1], arg[2]
assert(dir and out, "usage: bake.lua DIR OUT")

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read("a")
  f:close()
  return text
end

local function module_name(path)
  local rest = path:sub(#dir + 2):gsub("%.lua$", ""):gsub("/", ".")
  rest = ("." .. rest):gsub("%.init$", "")
  return "neap" .. rest
end

local function modules()
  local found = {}
  local p = assert(io.popen(("find '%s' -name '*.lua' -type f"):format(dir)))
  for path in p:lines() do
    found[#found + 1] = { name = module_name(path), path = path, source = read(path) }
  end
  p:close()
  table.sort(found, function(a, b) return a.name < b.name end)
  for i = 2, #found do
    local a, b = found[i - 1], found[i]
    if a.name == b.name then error(("%s and %s are both %s"):format(a.path, b.path, a.name), 0) end
  end
  return found
end

local named = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["?"] = "\\?" }

local function escaped(c) return named[c] or ("\\%03o"):format(c:byte()) end

-- One C string per source line: the generated file can be read.
local function literal(source)
  local lines = {}
  for line in source:gmatch("[^\n]*\n?") do
    if line ~= "" then
      local s = line:gsub('[%c\\"?\128-\255]', escaped)
      lines[#lines + 1] = '  "' .. s .. '"'
    end
  end
  return #lines > 0 and table.concat(lines, "\n") or '  ""'
end

local function emit(w, list)
  w("/* Made by scripts/bake.lua from " .. dir .. ": do not edit. */\n")
  w('#include <string.h>\n\n#include "bindings/baked.h"\n')
  for i, m in ipairs(list) do
    w(("\n/* %s */\nstatic const char source_%d[] =\n%s;\n"):format(m.path, i, literal(m.source)))
  end
  w("\nstatic const np_baked modules[] = {\n")
  for i, m in ipairs(list) do
    w(('  {"%s", source_%d, sizeof source_%d - 1, "%s"},\n'):format(m.name, i, i, m.path))
  end
  w("  {0, 0, 0, 0},\n};\n\n")
  w("const np_baked *np_baked_find(const char *module) {\n")
  w("  for (const np_baked *m = modules; m->name; m++)\n")
  w("    if (strcmp(m->name, module) == 0) return m;\n")
  w("  return NULL;\n}\n")
end

local list = modules()
for _, m in ipairs(list) do assert(load(m.source, "@" .. m.path)) end
local f = assert(io.open(out .. ".new", "w"))
emit(function(s) assert(f:write(s)) end, list)
assert(f:close())
assert(os.rename(out .. ".new", out))
