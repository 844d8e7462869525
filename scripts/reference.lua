-- reference.lua [FILE]: writes docs/reference.md from the annotations beside the code.
--
-- The annotations (LuaCATS) stand over Lua functions in lua/stdlib, and over declarations in
-- docs/luacats for what is C. This file only collects and prints them: it knows nothing of what
-- they say. Runs in the runtime, because the socket options come from the table in the core.

local SOURCES = {
  "docs/luacats/neap.lua", "lua/stdlib/structured.lua", "docs/luacats/coordination.lua",
  "docs/luacats/signals.lua", "docs/luacats/notify.lua", "lua/stdlib/net/init.lua",
  "lua/stdlib/net/serve.lua", "docs/luacats/streams.lua", "lua/stdlib/stream.lua",
  "docs/luacats/sockets.lua", "lua/stdlib/net/messages.lua",
  "lua/stdlib/checksum.lua", "lua/stdlib/tls/init.lua",
  "lua/stdlib/http/init.lua", "lua/stdlib/http/server.lua",
  "lua/stdlib/http/compress.lua", "lua/stdlib/http/request.lua",
  "lua/stdlib/http/response.lua", "lua/stdlib/http/file.lua", "lua/stdlib/http/router.lua",
  "lua/stdlib/http/client.lua",
  "lua/stdlib/http/cookies.lua",
  "lua/stdlib/websocket/init.lua", "lua/stdlib/websocket/limits.lua",
  "lua/stdlib/websocket/deflate.lua", "lua/stdlib/websocket/connection.lua",
  "docs/luacats/hub.lua", "lua/stdlib/process.lua", "docs/luacats/process.lua",
  "lua/stdlib/codec/init.lua", "lua/stdlib/codec/parts.lua",
  "lua/stdlib/codec/compose.lua", "docs/luacats/workers.lua", "lua/stdlib/dns/init.lua",
  "lua/stdlib/dns/resolve.lua",
  "lua/stdlib/dns/serve.lua", "lua/stdlib/dns/zone.lua", "lua/stdlib/dns/codec.lua",
  "docs/luacats/dns.lua", "lua/stdlib/zlib.lua", "docs/luacats/zlib.lua",
  "lua/stdlib/fs/init.lua", "docs/luacats/fs.lua",
}

-- What a file's variables mean where no @class stands over them.
local MODULES = {
  ["lua/stdlib/net/init.lua"] = { net = "module neap.net" },
  ["lua/stdlib/net/serve.lua"] = { [""] = "module neap.net" },
  ["lua/stdlib/checksum.lua"] = { checksum = "module neap.checksum" },
  ["lua/stdlib/zlib.lua"] = { zlib = "module neap.zlib" },
  ["lua/stdlib/tls/init.lua"] = { tls = "module neap.tls" },
  ["lua/stdlib/http/init.lua"] = { http = "module neap.http" },
  ["lua/stdlib/http/file.lua"] = { response = "neap.http.response" },
  ["lua/stdlib/websocket/init.lua"] = { websocket = "module neap.websocket" },
  ["lua/stdlib/process.lua"] = { process = "module neap.process" },
  ["lua/stdlib/fs/init.lua"] = { fs = "module neap.fs" },
  ["lua/stdlib/dns/init.lua"] = { dns = "module neap.dns" },
  ["lua/stdlib/dns/resolve.lua"] = { resolve = "module neap.dns" },
  ["lua/stdlib/dns/serve.lua"] = { [""] = "module neap.dns" },
  ["lua/stdlib/codec/init.lua"] = { codec = "module neap.codec" },
  ["lua/stdlib/codec/parts.lua"] = { parts = "module neap.codec" },
  ["lua/stdlib/codec/compose.lua"] = { compose = "module neap.codec" },
}

-- The order of the chapters, and their titles; classes that are not here are "Tables and types".
local CHAPTERS = {
  { "neap", "The module neap" },
  { "neap.task", "Tasks" }, { "neap.group", "Groups" }, { "neap.deadline", "Deadlines" },
  { "neap.channel", "Channels" }, { "neap.event", "Events" },
  { "neap.semaphore", "Semaphores" }, { "neap.permit", "Permits" },
  { "neap.signals", "Signals" },
  { "module neap.net", "The module neap.net" },
  { "neap.stream", "Streams" }, { "neap.listener", "Listeners" }, { "neap.server", "Servers" },
  { "neap.datagram", "Datagram and record sockets" }, { "neap.descriptor", "Descriptors" },
  { "neap.hub", "Hubs" },
  { "module neap.tls", "The module neap.tls" }, { "neap.tls.context", "TLS contexts" },
  { "module neap.http", "The module neap.http" }, { "neap.http.request", "HTTP requests" },
  { "neap.http.response", "HTTP responses" }, { "neap.http.reply", "HTTP replies" },
  { "neap.http.cookies", "Cookie jars" },
  { "neap.http.router", "HTTP routers" },
  { "module neap.websocket", "The module neap.websocket" }, { "neap.websocket", "WebSockets" },
  { "module neap.checksum", "The module neap.checksum" },
  { "module neap.process", "The module neap.process" },
  { "neap.process", "Processes" },
  { "module neap.codec", "The module neap.codec" },
  { "neap.Codec", "Codecs" }, { "neap.Scanner", "Scanners" },
  { "module neap.dns", "The module neap.dns" }, { "neap.resolver", "Resolvers" },
  { "module neap.zlib", "The module neap.zlib" },
  { "neap.deflater", "Deflaters" }, { "neap.inflater", "Inflaters" },
  { "module neap.fs", "The module neap.fs" },
  { "neap.file", "Files" }, { "neap.watch", "Watches" },
  { "neap.workers", "The module neap.workers" },
}

local classes, aliases, order = {}, {}, {}

local function class(name)
  if not classes[name] then
    classes[name] = { name = name, text = {}, fields = {}, functions = {} }
    order[#order + 1] = name
  end
  return classes[name]
end

-- Parsing.

-- A type at the start of s -> the type, the rest. Blanks inside brackets, around "|" and after ","
-- or ":" belong to it.
local function split_type(s)
  local depth, quoted = 0, false
  for i = 1, #s do
    local c = s:sub(i, i)
    if c == '"' then quoted = not quoted end
    if not quoted then
      if c:find "[%(%{%[]" then depth = depth + 1 end
      if c:find "[%)%}%]]" then depth = depth - 1 end
      local before, after = s:sub(1, i - 1), s:sub(i + 1)
      local goes_on = before:find "[|,:]$" or after:find "^%s*|"
      if c == " " and depth == 0 and not goes_on then return before, after end
    end
  end
  return s, ""
end

local function parse_param(s)
  local name, optional, rest = s:match "^([%w_%.%[%]]+)(%??)%s+(.*)$"
  assert(name, "not understood: " .. s)
  local kind, text = split_type(rest)
  return { name = name, optional = optional ~= "", type = kind, text = text }
end

local function parse_return(s)
  local kind, rest = split_type(s)
  local name, text = rest:match "^([%a_][%w_]*)%s*(.*)$"
  if not name then name, text = rest:match "^(%.%.%.)%s*(.*)$" end
  if not name then name, text = nil, rest end
  return { name = name, type = kind, text = (text:gsub("^#%s*", "")) }
end

-- A block of comment lines -> text lines, and tags { name, text } in their order.
local function parse_block(lines)
  local text, tags = {}, {}
  for _, line in ipairs(lines) do
    local tag, rest = line:match "^@(%a+)%s*(.*)$"
    if tag then
      tags[#tags + 1] = { tag, rest }
    elseif #tags == 0 then
      text[#text + 1] = line
    else
      local last = tags[#tags]
      last[2] = last[2] .. (line:sub(1, 1) == "|" and "\n" or " ") .. line
    end
  end
  return text, tags
end

local function add_class(text, tags)
  local name = tags[1][2]:match "^[%w_%.]+"
  local c = class(name)
  c.parent = tags[1][2]:match ":%s*([%w_%.]+)" or c.parent
  if #c.text == 0 then c.text = text end
  for _, tag in ipairs(tags) do
    if tag[1] == "field" then c.fields[#c.fields + 1] = parse_param(tag[2]) end
  end
  return c
end

local function add_alias(text, tags)
  local first, rest = tags[1][2]:match "^([%w_%.]+)%s*(.*)$"
  aliases[#aliases + 1] = { name = first, type = rest, text = text }
end

local function add_function(owner, call, name, text, tags)
  local f = { call = call, name = name, text = text, params = {}, returns = {} }
  for _, tag in ipairs(tags) do
    if tag[1] == "param" then f.params[#f.params + 1] = parse_param(tag[2]) end
    if tag[1] == "return" then f.returns[#f.returns + 1] = parse_return(tag[2]) end
  end
  local list = class(owner).functions
  list[#list + 1] = f
end

-- What the line below a block declares: variable, ".", ":" or "", name, parameters if it has them.
local function declaration(line)
  local var, sep, name, args = line:match "^function ([%w_]+)([%.:])([%w_]+)(%b())"
  if var then return var, sep, name, args end
  name, args = line:match "^local function ([%w_]+)(%b())"
  if name then return "", "", name, args end
  var, name = line:match "^([%w_]+)%.([%w_]+) = "
  if var then return var, ".", name end
  var = line:match "^local ([%w_]+) = "
  return var, "", nil
end

local function add_declared(vars, line, text, tags)
  local var, sep, name, args = declaration(line)
  local owner = vars[var or ""]
  if not (owner and name) then return end
  if tags[1] and tags[1][1] == "type" then
    local field = { name = name, type = tags[1][2], text = table.concat(text, " ") }
    table.insert(class(owner).fields, field)
    return
  end
  if not args then
    local names = {}
    for _, tag in ipairs(tags) do
      if tag[1] == "param" then names[#names + 1] = tag[2]:match "^[%w_%.]+" end
    end
    args = "(" .. table.concat(names, ", ") .. ")"
  end
  local prefix = sep == ":" and owner:match "[%w_]+$" .. ":" or owner:gsub("^module ", "") .. "."
  add_function(owner, prefix .. name .. args, prefix .. name, text, tags)
end

local function read_source(path)
  local vars, block = {}, nil
  for var, owner in pairs(MODULES[path] or {}) do vars[var] = owner end
  for line in io.lines(path) do
    local doc = line:match "^%-%-%- ?(.*)$" or block and line:match "^%-%- ?(.*)$"
    if doc then
      block = block or {}
      block[#block + 1] = doc
    elseif block then
      local text, tags = parse_block(block)
      local kind = tags[1] and tags[1][1]
      block = nil
      if kind == "class" then
        local c = add_class(text, tags)
        local var = declaration(line)
        if var then vars[var] = c.name end
      elseif kind == "alias" then
        add_alias(text, tags)
      else
        add_declared(vars, line, text, tags)
      end
    end
  end
end

-- Printing.

local out = {}
local function put(...) out[#out + 1] = table.concat { ... } end

local function code(s) return "`" .. s .. "`" end

local function put_text(lines)
  if #lines == 0 then return end
  put(table.concat(lines, "\n"))
  put ""
end

local function put_item(name, kind, optional, text)
  kind = kind:gsub("%s*\n%s*|%s*", " | "):gsub("^ | ", "")
  local head = name and code(name) .. " " or ""
  local tail = text ~= "" and ": " .. text or ""
  put("- ", head, "(", code(kind), optional and ", optional" or "", ")", tail)
end

local function put_function(f)
  put("### ", code(f.call))
  put ""
  put_text(f.text)
  for _, p in ipairs(f.params) do put_item(p.name, p.type, p.optional, p.text) end
  if #f.params > 0 then put "" end
  if #f.returns == 0 then return end
  put "Returns:"
  put ""
  for _, r in ipairs(f.returns) do put_item(r.name, r.type, false, r.text) end
  put ""
end

local function put_class(c, title)
  put(title)
  put ""
  local module = title:match "^## The module (.*)$"
  if module then put(('`local %s = require "%s"`\n'):format(module:match "%w+$", module)) end
  if c.parent then put("Also what ", code(c.parent), " has.\n") end
  put_text(c.text)
  for _, f in ipairs(c.fields) do put_item(f.name, f.type, f.optional, f.text) end
  if #c.fields > 0 then put "" end
  for _, f in ipairs(c.functions) do put_function(f) end
  c.done = true
end

local function put_options()
  put "## Socket options"
  put ""
  put "For `stream:option(name [, value])` and its likes, and in the options of `net.listen`,"
  put "`net.connect`, `net.datagram` and `net.serve`. Those marked *before* must be given there."
  put "The list is that of the platform this page was made on: Linux."
  put ""
  put "| name | type | unit | | |"
  put "|---|---|---|---|---|"
  for _, o in ipairs(require("neap.codec.core").options()) do
    local when = o.readonly and "read only" or o.before and "before" or ""
    put("| ", code(o.name), " | ", o.type, " | ", o.unit or "", " | ", when, " | ", o.doc, " |")
  end
  put ""
end

local function put_contents()
  local titles = {}
  for _, chapter in ipairs(CHAPTERS) do titles[#titles + 1] = chapter[2] end
  titles[#titles + 1] = "Tables and types"
  titles[#titles + 1] = "Socket options"
  for _, title in ipairs(titles) do
    local anchor = title:lower():gsub("[^%w ]", ""):gsub(" ", "-")
    put("- [", title, "](#", anchor, ")")
  end
  put ""
end

local function generate()
  for _, path in ipairs(SOURCES) do read_source(path) end
  put "# Reference"
  put ""
  put "Made by `make docs` from the annotations beside the code; the [manual](manual.md) has the"
  put "ideas. A type with `?`, and what is *optional*, may be nil. Failures are"
  put "`nil, message, code`."
  put ""
  put_contents()
  for _, chapter in ipairs(CHAPTERS) do put_class(class(chapter[1]), "## " .. chapter[2]) end
  put "## Tables and types"
  put ""
  for _, a in ipairs(aliases) do
    local words = a.type:gsub("^\n", ""):gsub("\n", "; "):gsub("| ", "")
    put_text(a.text)
    put("- ", code(a.name), ": ", words)
  end
  put ""
  for _, name in ipairs(order) do
    if not classes[name].done then put_class(classes[name], "### " .. code(name)) end
  end
  put_options()
  return (table.concat(out, "\n"):gsub("\n+$", "\n"))
end

local text = generate()
if arg[1] then
  local f = assert(io.open(arg[1], "w"))
  assert(f:write(text))
  assert(f:close())
else
  io.write(text)
end
