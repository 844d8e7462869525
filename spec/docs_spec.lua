-- The documents: what they show runs and prints what they say, what they name exists, and the
-- reference is that of the present code.

local helper = require "spec.support.helper"
local neap = require "neap"

local function read(path) return assert(helper.read_file(path), path .. " is missing") end

-- The blocks of a document that begin with ```lua run: { text, line }.
local function runnable(path)
  local blocks, block, number = {}, nil, 0
  for line in read(path):gmatch "([^\n]*)\n" do
    number = number + 1
    if block and line == "```" then
      block.text = table.concat(block, "\n") .. "\n"
      blocks[#blocks + 1], block = block, nil
    elseif block then
      block[#block + 1] = line
    elseif line == "```lua run" then
      block = { line = number }
    end
  end
  assert(not block, path .. ": a block without an end")
  return blocks
end

-- What a block says it prints: the text of its --> comments, a line each.
local function promised(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    local said = line:match "%-%-> (.*)$"
    if said then lines[#lines + 1] = said end
  end
  return #lines > 0 and table.concat(lines, "\n") .. "\n"
end

local function run_block(path, block)
  local where = ("%s:%d"):format(path, block.line)
  local out, err, status = helper.run_script(block.text, { limit = 30 })
  assert.equal(0, status, where .. ": " .. err)
  assert.equal("", err, where)
  local said = promised(block.text)
  if said then assert.equal(said, (out:gsub("\t", " ")), where) end
end

describe("the documents", function()
  for _, path in ipairs { "README.md", "docs/manual.md", "docs/cookbook.md" } do
    for _, block in ipairs(runnable(path)) do
      it(("run: %s:%d"):format(path, block.line), function() run_block(path, block) end)
    end
  end

  it("have enough of them", function()
    assert.is_true(#runnable "docs/manual.md" >= 15)
    assert.is_true(#runnable "docs/cookbook.md" >= 12)
  end)

  it("begin with a server that works", function()
    local path = helper.socket_path()
    local program = read("README.md"):match "```lua\n(.-)```"
    local text, n = program:gsub('"tcp://127.0.0.1:9090"', ("%q"):format("unix:" .. path))
    assert.equal(1, n)
    helper.start_script(text)
    local conn <close> = helper.wait_until(function()
      return (require("neap.net").connect("unix:" .. path))
    end)
    conn:write "hello\n"
    assert.equal("HELLO", conn:read { timeout = 10 })
  end)

  it("embed as the manual does", function()
    local dir = helper.tmpdir()
    helper.write_file(dir .. "/host.c", read("docs/manual.md"):match "```c\n(.-)```")
    local compile = "%s %s -Isrc -o %s/host %s/host.c %s/libneap.a"
      .. " $(pkg-config --libs lua5.4 libuv openssl libcares zlib) -lm -ldl -lpthread && %s/host"
    local out, err, status = helper.run(
      compile:format(helper.cc, helper.cflags, dir, dir, helper.build, dir), { limit = 60 })
    assert.equal("hello from a task\n", out, err)
    assert.equal(0, status)
  end)

  it("name files that exist", function()
    for _, path in ipairs { "README.md", "docs/manual.md", "docs/cookbook.md" } do
      local dir = path:match "^(.*/)" or ""
      local text = read(path)
      for target in text:gmatch "%]%(([^%)#:]+)[^%)]*%)" do
        assert.is_true(io.open(dir .. target) ~= nil, path .. " links to " .. target)
      end
      for word in text:gmatch "SPECS=(%S+)" do assert.is_true(io.open(word) ~= nil, word) end
      for word in text:gmatch "`([%w_%-%./]+)`" do
        local root = word:match "^([%w_%-%.]+)/"
        local ours = root and (io.open(root) or io.open("src/" .. root))
        if ours and not word:find "^/" then
          local there = io.open(word) or io.open("src/" .. word)
          assert.is_true(there ~= nil, ("%s names %s"):format(path, word))
        end
      end
    end
  end)

  it("link to headings that exist", function()
    local docs = { "README.md", "docs/manual.md", "docs/cookbook.md", "docs/reference.md" }
    local anchors = {}
    for _, path in ipairs(docs) do
      anchors[path] = {}
      for title in read(path):gmatch "\n##+ ([^\n]+)" do
        anchors[path][title:lower():gsub("[^%w %-]", ""):gsub(" ", "-")] = true
      end
    end
    for _, path in ipairs(docs) do
      for file, anchor in read(path):gmatch "%]%(([^%)#:]*)#([^%)]+)%)" do
        local target = file == "" and path or (path:match "^(.*/)" or "") .. file
        assert.is_true(anchors[target][anchor], ("%s: %s#%s"):format(path, file, anchor))
      end
    end
  end)

  it("tell the version", function()
    local version = neap.version:gsub("%p", "%%%0")
    assert.truthy(read("docs/neap.1"):find("Neap " .. version))
  end)

  it("name targets of make that exist", function()
    local targets = read "Makefile"
    for _, path in ipairs { "README.md", "docs/manual.md" } do
      for target in read(path):gmatch "%f[%w]make ([a-z]+)[%s`#]-[`\n#]" do
        local found = targets:find("\n" .. target .. ":", 1, true)
        assert.is_true(found ~= nil, path .. ": make " .. target)
      end
    end
  end)

  it("have the options of the command in the manual page", function()
    local help, page = helper.run_neap "--help", read("docs/neap.1"):gsub("\\%-", "-")
    for line in help:gmatch "\n  (%-[^\n]*)" do
      for option in line:match "^(.-)%s%s":gmatch "%-+%a*" do
        assert.is_true(page:find(option, 1, true) ~= nil, option)
      end
    end
  end)
end)

-- The reference.

local modules = {
  "neap", "neap.net", "neap.process", "neap.codec", "neap.dns", "neap.fs", "neap.workers",
  "neap.checksum", "neap.zlib", "neap.tls", "neap.http", "neap.websocket",
}

-- What is public by accident of where it stands, with its reason.
local internal = {
  ["neap.dns.reply"] = "described in lua/stdlib/dns/init.lua",
  ["neap.dns.zone"] = "described in lua/stdlib/dns/zone.lua",
  ["group:connections"] = "net.serve's own",
  ["group:watch_ends"] = "net.serve's own",
  ["group:on_connection_end"] = "net.serve's own",
  ["neap.workers.begin"] = "for src/main.c",
  ["neap.tls.start"] = "stream:starttls",
  ["neap.tls.connect"] = "net.connect's own",
  ["neap.tls.listen"] = "net.listen's own",
  ["neap.tls.serving"] = "net.serve's own",
  ["neap.tls.for_others"] = "the HTTP client's own",
  ["cookies:take"] = "the client's own",
  ["cookies:give"] = "the client's own",
  ["response:put_packed"] = "response:file's own",
  ["response:new"] = "http.serve's own",
  ["response:clean"] = "http.serve's own",
  ["response:date_line"] = "http.serve's own",
}

local function methods_of(metatable)
  local index = metatable.__index
  if type(index) ~= "function" then return index or {} end
  for i = 1, 3 do
    local _, value = debug.getupvalue(index, i)
    if type(value) == "table" then return value end
  end
  return {}
end

-- One object of each type that exists only when first made; the other types are there already.
local function make_types()
  local net = require "neap.net"
  local semaphore = neap.semaphore(1)
  local permit <close> = semaphore:permit()
  local deadline <close> = neap.deadline(10)
  local a, b = net.pair "mem"
  neap.signals("HUP"):close()
  local server <close> = net.serve("mem:docs", function() end)
  local scanner = require("neap.codec").line():scanner()
  local hub = net.hub and net.hub()
  a:close()
  b:close()
  return permit, deadline, scanner, hub, getmetatable(server)
end

-- { ["stream:read"] = true, ["neap.net.connect"] = true, ... } of the runtime as it is.
local function public()
  local names = {}
  for _, module in ipairs(modules) do
    for name, value in pairs(require(module)) do
      if type(value) == "function" then names[module .. "." .. name] = true end
    end
  end
  for _, name in ipairs { "serve", "pipe", "hub", "fault" } do
    if require("neap.net")[name] then names["neap.net." .. name] = true end
  end
  if neap.notify then names["neap.notify"] = true end
  local function add(metatable)
    local class = metatable.__name:match "^neap%.[%w_.]-([%w_]+)$"
    for name in pairs(class and methods_of(metatable) or {}) do
      if not name:find "^__" then names[class:lower() .. ":" .. name] = true end
    end
  end
  add((select(-1, make_types())))
  add(require("neap.http.request").meta)
  add(require "neap.http.response")
  add(require("neap.http.client").reply)
  add(require("neap.http.cookies").meta)
  add(require("neap.http.router").meta)
  add(require("neap.websocket.connection").meta)
  add(getmetatable(assert(require("neap.tls").context())))
  for key, value in pairs(debug.getregistry()) do
    local ours = type(key) == "userdata" or type(key) == "number" -- by a type's address
    if ours and type(value) == "table" and value.__name then add(value) end
  end
  return names
end

-- The same names, as the reference has them: headings, and fields of a chapter that are functions.
local function documented(text)
  local names, class = {}, nil
  for line in text:gmatch "[^\n]+" do
    local name = line:match "^### `([^`%(]+)%("
    if name then names[name:gsub("^%w+:", string.lower)] = true end
    if line:find "^## " then class = line:match "^## (%a+)$" end
    local field = line:match "^%- `([%w_]+)` %(`fun%("
    if field and class then names[class:lower():gsub("e?s$", "") .. ":" .. field] = true end
  end
  return names
end

describe("the reference", function()
  it("is that of the present code (make docs)", function()
    local out, err, status = helper.run_neap "scripts/reference.lua"
    assert.equal(0, status, err)
    assert.is_true(out == read "docs/reference.md", "docs/reference.md is old: make docs")
  end)

  it("has every public function and method", function()
    local there, missing, count = documented(read "docs/reference.md"), {}, 0
    for name in pairs(public()) do
      count = count + 1
      if not there[name] and not internal[name] then missing[#missing + 1] = name end
    end
    table.sort(missing)
    assert.equal("", table.concat(missing, " "))
    assert.is_true(count > 100, "only " .. count .. " were found")
  end)

  it("has no function that does not exist", function()
    local real, extra = public(), {}
    for name in pairs(documented(read "docs/reference.md")) do
      if not real[name] then extra[#extra + 1] = name end
    end
    table.sort(extra)
    assert.equal("", table.concat(extra, " "))
  end)
end)
