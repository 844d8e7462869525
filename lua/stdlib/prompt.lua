-- neap.prompt: what `neap -i` and `neap -e` add to a program: modules as globals, and a prompt
-- whose task waits.
--
-- The prompt is an ordinary task that reads lines from neap.stdin: servers started at it go on
-- serving while it waits.

local neap = require "neap"

local prompt = {}

local function not_found(name, err)
  return type(err) == "string" and err:find(("module '%s' not found"):format(name), 1, true)
end

local missing = {} -- names that were looked for: a program may ask for a nil global in a loop

-- An unknown global that is the name of a module of Neap becomes that module; any other stays nil.
local function find_global(globals, name)
  if missing[name] or type(name) ~= "string" or not name:find "^%l[%l%d_]*$" then return nil end
  local module = "neap." .. name
  local ok, value = pcall(require, module)
  if not ok then
    missing[name] = not_found(module, value)
    if missing[name] then return nil end
    error(value, 2)
  end
  rawset(globals, name, value)
  return value
end

--- Makes Neap's modules globals, each loaded when it is first named.
function prompt.globals()
  local mt = getmetatable(_G) or {}
  mt.__index = mt.__index or find_global
  setmetatable(_G, mt)
  rawset(_G, "neap", neap)
end

local function message_of(err)
  if type(err) == "string" then return debug.traceback(err, 2) end
  local mt = getmetatable(err)
  if mt and mt.__tostring then return tostring(err) end
  return ("(error object is a %s value)"):format(type(err))
end

local function show(ok, ...)
  if not ok then return io.stderr:write((...), "\n") end
  if select("#", ...) == 0 then return end
  local printed, err = pcall(print, ...)
  if not printed then io.stderr:write("neap: error calling 'print' (", tostring(err), ")\n") end
end

local function read_line(continued)
  io.write(tostring(continued and (_PROMPT2 or ">> ") or (_PROMPT or "> ")))
  io.flush()
  return neap.stdin:read "l"
end

local function incomplete(err) return err:sub(-5) == "<eof>" end

-- Reads lines until they make a chunk, an expression's values being what it returns. nil at the end
-- of input.
local function read_chunk()
  local text = read_line(false)
  if not text then return nil end
  text = text:gsub("^=", "return ")
  local f = load("return " .. text, "=stdin")
  if f then return f end
  while true do
    local err
    f, err = load(text, "=stdin")
    if f or not incomplete(err) then return f, err end
    local more = read_line(true)
    if not more then return f, err end
    text = text .. "\n" .. more
  end
end

--- Reads, runs and prints until the end of input, then ends the program.
function prompt.run()
  while true do
    local f, err = read_chunk()
    if f then
      show(xpcall(f, message_of))
    elseif err then
      io.stderr:write(err, "\n")
    else
      break
    end
  end
  io.write "\n"
  os.exit(true)
end

return prompt
