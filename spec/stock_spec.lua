-- A script that knows nothing of Neap must not notice it: programs run under the stock interpreter and under the command,
-- both called "neap", and output, errors and status have to be the same, byte for byte. Differences are listed below.

local helper = require "spec.support.helper"

-- name -> program, or { program, args = "shell words", stdin = "text", options = "before the script" }
local programs = {
  { "prints", [[print(1, 1.5, "x", nil, true, 2^53, 1e100, -0.0, 1/0 == math.huge) io.write("no newline")]] },
  { "arguments", [[print(#arg, arg[0], ...) for i = 1, #arg do print(i, arg[i]) end]], args = "a 'b c' ''" },
  { "version", [[print(_VERSION, math.type(1), #package.path > 0, package.config)]] },
  { "search path", [[print(package.path) print(package.cpath)]] },
  { "reads standard input", [[for l in io.lines() do print(#l, l) end print(io.read(), io.read("a"), io.read(0))]],
    stdin = "one\ntwo\n\nfour" },
  { "numbers from standard input", [[print(io.read("n", "n", "l", "L", 3))]], stdin = "12 0x1p4 rest\nline\nabcdef" },

  -- errors and tracebacks
  { "error", [[error("boom")]] },
  { "error in a function", [[local function f() error("deep") end
    local function g() f() end
    g()]] },
  { "error in a tail call", [[local function f() error("deep") end
    local function g() return f() end
    g()]] },
  { "error in a method", [[local t = {} function t.a.b() end]] },
  { "error in a global function", [[function alpha() local x = nil; return x.y end
    function beta() alpha() end beta()]] },
  { "error level 2", [[local function check() error("bad use", 2) end
    check()]] },
  { "error level 0", [[error("bare", 0)]] },
  { "error without position", [[error({})]] },
  { "error nil", [[error()]] },
  { "error number", [[error(42)]] },
  { "error boolean", [[error(true)]] },
  { "error with __tostring", [[error(setmetatable({}, { __tostring = function() return "as text" end }))]] },
  { "error in C", [[string.rep()]] },
  { "error through C", [[table.sort({ 3, 2, 1 }, function(a, b) error("in sort") end)]] },
  { "error in gsub", [[string.gsub("abc", ".", function() error("in gsub") end)]] },
  { "arithmetic", [[local t = {} print(t + 1)]] },
  { "concatenation", [[local a = {} print("x" .. a)]] },
  { "call a nil field", [[local m = {} m.missing()]] },
  { "call a nil global", [[nothing()]] },
  { "compare", [[print({} < {})]] },
  { "index upvalue", [[local u; local function f() return u.x end f()]] },
  { "for limits", [[for i = 1, 10, 0 do end]] },
  { "stack overflow", [[local function f() return 1 + f() end print(pcall(f) == false, select(2, pcall(f)):match("stack overflow"))]] },
  { "message handler", [[print(xpcall(function() error("x") end, function(m) return "handled " .. m end))]] },
  { "error in a handler", [[print(xpcall(error, function() error("again") end))]] },
  { "pcall of C", [[print(pcall(string.rep)) print(pcall(error)) print(pcall(error, nil)) print(select("#", pcall(error)))]] },
  { "assert", [[print(pcall(assert, false)) print(pcall(assert, nil, "why")) print(pcall(assert)) assert(false, "last")]] },
  { "syntax error", [[x = = 1]] },
  { "unfinished", [[if true then]] },
  { "goto", [[goto nowhere]] },
  { "attributes", [[local x <const> = 1; x = 2]] },
  { "traceback text", [[local function f() print(debug.traceback("here")) end
    local co = coroutine.create(function() f() coroutine.yield() end)
    coroutine.resume(co) print(debug.traceback(co)) print(debug.traceback(co, nil, 1)) print(debug.traceback("msg", 2))]] },
  { "traceback of the main function", [[print(debug.traceback())]] },
  { "debug info", [[local i = debug.getinfo(1, "nSltf") print(i.short_src, i.currentline, i.what, i.namewhat, i.istailcall)
    local f = debug.getinfo(print) print(f.what, f.short_src, f.nparams, f.isvararg)]] },

  { "unknown globals", options = "-e 'x = 1'", [[for _ = 1, 3 do assert(nothere == nil) end collectgarbage() collectgarbage()
    local before = collectgarbage "count" for _ = 1, 1000 do assert(nothere == nil) end collectgarbage() collectgarbage()
    print(collectgarbage "count" <= before + 1)]] },

  -- coroutines
  { "generators", [[local function gen(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i, i * i) end end) end
    for i, s in gen(5) do print(i, s) end]] },
  { "passing values", [[local co = coroutine.create(function(a, b) print(a, b)
      local c = coroutine.yield(a + b) print(c) local d, e = coroutine.yield(c * 2) print(d, e) return d + e, "end" end)
    print(coroutine.resume(co, 1, 2)) print(coroutine.resume(co, 10)) print(coroutine.resume(co, 3, 4))
    print(coroutine.resume(co)) print(coroutine.status(co))]] },
  { "statuses", [[local co; co = coroutine.create(function() print(coroutine.status(co))
      local inner = coroutine.wrap(function() print(coroutine.status(co)) end) inner() coroutine.yield() end)
    print(coroutine.status(co)) coroutine.resume(co) print(coroutine.status(co)) coroutine.resume(co)
    print(coroutine.status(co), coroutine.resume(co))]] },
  { "the main program", [[local co, main = coroutine.running() print(type(co), main, coroutine.isyieldable())
    print(coroutine.status(co)) print(pcall(coroutine.yield, 1)) print(coroutine.resume(co)) print(pcall(coroutine.close, co))]] },
  { "running inside", [[coroutine.wrap(function() local co, main = coroutine.running()
      print(type(co), main, coroutine.isyieldable(), coroutine.isyieldable(co)) end)()]] },
  { "yield from outside", [[coroutine.yield()]] },
  { "errors inside", [[local co = coroutine.create(function() local x = nil; x() end)
    print(coroutine.resume(co)) print(coroutine.status(co)) print(debug.traceback(co)) print(coroutine.resume(co))]] },
  { "error objects through wrap", [[local e = {} local f = coroutine.wrap(function() error(e) end)
    local ok, got = pcall(f) print(ok, got == e) print(pcall(f))]] },
  { "dead wrap", [[local f = coroutine.wrap(function() end) f() f()]] },
  { "resume oneself", [[local co; co = coroutine.create(function() print(coroutine.resume(co)) end) coroutine.resume(co)
    local w; w = coroutine.wrap(function() w() end) print(pcall(w))]] },
  { "resume the resumer", [[local a, b; a = coroutine.create(function() coroutine.resume(b) end)
    b = coroutine.create(function() print(coroutine.resume(a)) print(pcall(coroutine.close, a)) end) coroutine.resume(a)]] },
  { "yield across pcall", [[local co = coroutine.wrap(function() print(pcall(function() coroutine.yield(1) error("after") end)) return 2 end)
    print(co()) print(co())]] },
  { "yield across metamethods", [[local mt = { __add = function(a, b) return coroutine.yield("add") end,
      __index = function(t, k) return coroutine.yield(k) end, __lt = function() return coroutine.yield("lt") end,
      __concat = function() return coroutine.yield("cat") end, __call = function(_, x) return coroutine.yield(x) end }
    local o = setmetatable({}, mt)
    local co = coroutine.wrap(function() return o + 1, o.key, o < o, o .. "x", o("called") end)
    print(co()) print(co(1)) print(co(2)) print(co(true)) print(co("c")) print(co("end"))]] },
  { "yield across a for iterator", [[local co = coroutine.wrap(function()
      for i in function(_, i) i = (i or 0) + 1 coroutine.yield("step " .. i) if i < 4 then return i end end do print("body", i) end
      return "done" end)
    for _ = 1, 5 do print(co()) end]] },
  { "yield across C", [[local co = coroutine.wrap(function() table.sort({ 1, 2, 3 }, function() coroutine.yield() end) end)
    print(pcall(co)) print(pcall(coroutine.wrap(function() string.gsub("a", "a", coroutine.yield) end)))]] },
  { "close", [[local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function(_, e) print("closed", e) end })
      coroutine.yield() end)
    coroutine.resume(co) print(coroutine.close(co), coroutine.status(co)) print(coroutine.close(co))
    print(coroutine.close(coroutine.create(print)))]] },
  { "close with an error", [[local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() error("in close") end })
      coroutine.yield() end)
    coroutine.resume(co) print(coroutine.close(co)) print(coroutine.status(co))]] },
  { "close a failed one", [[local co = coroutine.create(function() error("failed") end) coroutine.resume(co)
    print(coroutine.close(co)) print(coroutine.close(co))]] },
  { "close the running one", [[coroutine.wrap(function() print(pcall(coroutine.close, coroutine.running())) end)()]] },
  { "yield in __close", [[local co = coroutine.wrap(function()
      do local x <close> = setmetatable({}, { __close = function() coroutine.yield("closing") end }) end return "end" end)
    print(co()) print(co())]] },
  { "many values", [[local co = coroutine.wrap(function(...) return select("#", coroutine.yield(...)) end)
    print(select("#", co(table.unpack({}, 1, 200)))) print(co(table.unpack({}, 1, 150)))]] },
  { "deep nesting", [[local function nest(n) if n == 0 then coroutine.yield("bottom") return 0 end
      local co = coroutine.wrap(nest) co(n - 1) coroutine.yield(n) return n end
    print(coroutine.wrap(nest)(100))]] },
  { "too deep nesting", [[local function nest() return coroutine.wrap(nest)() end
    local ok, err = pcall(nest) print(ok, (tostring(err):gsub("^.*: ", "")))]] },
  { "bad arguments", [[print(pcall(coroutine.create)) print(pcall(coroutine.resume, 1)) print(pcall(coroutine.wrap, {}))
    print(pcall(coroutine.status)) print(pcall(coroutine.close, "x")) print(pcall(coroutine.isyieldable, 1))]] },
  { "names in errors", [[coroutine.resume("x")]] },
  { "a coroutine as an iterator's state", [[local function iter(co) local ok, v = coroutine.resume(co) if v then return v end end
    for v in iter, coroutine.create(function() for _, x in ipairs { "a", "b" } do coroutine.yield(x) end end) do print(v) end]] },
  { "hooks", [[local n = 0 local co = coroutine.create(function() for i = 1, 3 do n = n + 1 end end)
    local lines = {} debug.sethook(co, function(_, l) lines[#lines + 1] = l end, "l") coroutine.resume(co) print(n, #lines)
    print(debug.gethook(co) ~= nil)]] },

  -- ending
  { "exit", [[os.exit(3)]] },
  { "exit true", [[io.write("bye") os.exit(true)]] },
  { "exit false", [[io.write("bye") os.exit(false)]] },
  { "exit 0 with close", [[local x <close> = setmetatable({}, { __close = function() print("closed") end })
    setmetatable({}, { __gc = function() print("collected") end }) os.exit(0, true)]] },
  { "exit without close", [[kept = setmetatable({}, { __gc = function() print("collected") end }) os.exit(5)]] },
  { "exit in a coroutine", [[coroutine.wrap(function() print("in") os.exit(4) end)()]] },
  { "exit in pcall", [[print(pcall(os.exit, 6)) print("not here")]] },
  { "exit with a float", [[os.exit(7.0)]] },
  { "exit with a bad value", [[os.exit("x")]] },
  { "exit with output pending", [[io.stdout:setvbuf("full") io.write(("x"):rep(100000)) os.exit(0)]] },
  { "exit wraps", [[os.exit(256 + 9)]] },
  { "collected at the end", [[kept = setmetatable({}, { __gc = function() print("collected") end }) print("end")]] },
  { "collected after an error", [[kept = setmetatable({}, { __gc = function() print("collected") end }) error("x")]] },
  { "closed at the end", [[local a <close> = setmetatable({}, { __close = function() print("a") end })
    local b <close> = setmetatable({}, { __close = function() print("b") end }) print("body")]] },
  { "a return value", [[return 5]] },
  { "output is flushed", [[io.stdout:setvbuf("full") io.write("late") io.stderr:write("early\n")]] },

  { "LUA_INIT", [[print(initialized, ...)]], env = { LUA_INIT = "initialized = arg[1]" }, args = "a" },
  { "LUA_INIT_5_4", [[print(initialized)]], env = { LUA_INIT = "initialized = 1", LUA_INIT_5_4 = "initialized = 2" } },
  { "LUA_INIT of a file", [[print(initialized) initialized = true]], env = { LUA_INIT = "@script.lua" } },
  { "LUA_INIT that does not compile", [[print "not reached"]], env = { LUA_INIT = "x = =" } },
  { "LUA_INIT of no file", [[print "not reached"]], env = { LUA_INIT = "@no-such-file" } },
  { "no environment", [[print(initialized, package.path, package.cpath)]], options = "-E",
    env = { LUA_INIT = "initialized = 1", LUA_PATH = "x", LUA_CPATH = "y" } },
  { "search paths of the environment", [[print(package.path, package.cpath)]], env = { LUA_PATH = "x;;", LUA_CPATH_5_4 = "y" } },
  { "arguments changed by -e", [[print(#arg, ...)]], options = "-e 'arg[1], arg[3] = 100, 3'", args = "a b" },
  { "arguments taken away by -e", [[print(...)]], options = "-e 'arg = {}'", args = "a b" },
  { "no arguments for -e", [[print(...)]], options = "-e 'print(...)'", args = "a b" },

  -- warnings, loading, files
  { "warn", [[warn("not shown") warn("@on") warn("shown ", "in ", "pieces") warn("@off") warn("hidden") warn("@unknown")]] },
  { "warn by -W", [[warn("shown")]], options = "-W" },
  { "warn in a finalizer", [[warn("@on") setmetatable({}, { __gc = function() error("in gc") end }) collectgarbage()]] },
  { "load", [[print(load("x =")) print(load("return ...", "chunk", "t", {})(8)) print(pcall(load("error('e')", "=name")))
    print(load(function() return nil end)) print(load("\27bad", "b", "t"))]] },
  { "require", [[package.preload.m = function(...) print(...) return { v = 1 } end print(require("m").v, select(2, require("m")))
    print(package.loaded.m.v)]] },
  { "require what is not there", [[require "no.such.module"]] },
  { "require in pcall", [[print(pcall(require, "no_such_module"))]] },
  { "require with an error", [[package.preload.bad = function() error("while loading") end print(pcall(require, "bad"))
    print(package.loaded.bad)]] },
  { "require true and false", [[package.preload.a = function() end package.preload.b = function() return false end
    print(require "a", require "b", package.loaded.a, package.loaded.b) print(pcall(require)) print(pcall(require, {}))]] },
  { "dofile", [[print(pcall(dofile, "/no/such/file.lua"))]] },
  { "files", [[print(io.open("/no/such/file")) local f = io.tmpfile() f:write("abc\n12") f:seek("set")
    print(f:read("l", "n", "l")) f:close() print(pcall(f.read, f)) print(io.type(f), tostring(f))]] },
  { "popen", [[local p = io.popen("cat; exit 3") print(p:read("a")) print(p:close())]], stdin = "through a pipe" },
  { "execute", [[print(os.execute("exit 3")) print(os.execute("kill -9 $$")) print(os.execute())]] },
  { "environment", [[print(os.getenv("HOME"), os.getenv("NO_SUCH_VARIABLE"))]] },
  { "strings", [[print(("x"):rep(3, ","), ("%5.2f|%-5d|%q"):format(1.234, 42, "a\nb\0c"), ("abc"):byte(1, -1))
    print(string.pack("<i4z", 7, "q"):byte(1, -1)) print(utf8.char(228, 8364), utf8.len("\xff"))]] },
  { "garbage", [[print(collectgarbage("count") > 0, collectgarbage("step") ~= nil, collectgarbage("isrunning"))]] },
  { "ephemerons", [[local t = setmetatable({}, { __mode = "k" }) for i = 1, 100 do t[{}] = i end collectgarbage() print(next(t))]] },
  { "a shebang line", "#!/usr/bin/env neap\nprint('after the first line', debug.getinfo(1, 'l').currentline)" },
  { "globals", [[local names = {} for k in pairs(_G) do names[#names + 1] = k end table.sort(names) print(table.concat(names, " "))]] },
  { "library tables", [[for _, lib in ipairs { "coroutine", "debug", "io", "math", "os", "package", "string", "table", "utf8" } do
    local names = {} for k, v in pairs(_G[lib]) do names[#names + 1] = k .. ":" .. type(v) end table.sort(names)
    print(lib, table.concat(names, " ")) end]] },
  { "no script", false },
}

-- What differs, each with its reason and with what is wanted instead.
local differences = {
  { "traceback of an error that came through coroutine.wrap",
    [[local function f() error("inside") end local g = coroutine.wrap(f) g()]],
    of = "stderr", stock = false, neap = true,
    reason = "the traceback begins where the error did, inside the coroutine" },
  { "the error given to __close", [[local a <close> = setmetatable({}, { __close = function(_, e)
    print(not e:find "traceback") end }) error("x")]], stock = "false\n", neap = "true\n",
    reason = "an error stays as it was raised; its traceback is kept beside it" },
  { "os.exit with something to close", [[local a <close> = setmetatable({}, { __close = function() print("closed") end })
    os.exit(0)]], stock = "", neap = "closed\n", reason = "os.exit cancels the tasks: what they hold is closed" },
  { "collector mode", [[print(collectgarbage("incremental"))]], stock = "generational\n", neap = "incremental\n",
    reason = "with many tasks each young collection scans all their stacks: 3 to 16 ms at 10 to 20 thousand" },
  { "status of bad usage", false, options = "--no-such-option", stock = 1, neap = 2,
    reason = "a bad command line can be told from a failed script" },
}

local function run(interpreter, dir, program)
  local script = ""
  if program[2] then
    helper.write_file(dir .. "/script.lua", program[2])
    script = "script.lua"
  elseif not program.options then
    script = "no-such-script.lua"
  end
  local command = ("exec -a neap %s %s %s %s"):format(interpreter, program.options or "", script, program.args or "")
  local out, err, status = helper.run(command, { cwd = dir, stdin = program.stdin, env = program.env })
  -- addresses are nobody's business
  return out:gsub("0x%x+", "0x"), err:gsub("0x%x+", "0x"), status
end

local function begins_inside(trace) return trace:find "traceback:\n%s*%[C%]: in function 'error'" ~= nil end

describe("a stock program", function()
  for _, program in ipairs(programs) do
    it("is not disturbed: " .. program[1], function()
      local dir = helper.tmpdir()
      local out, err, status = run("lua5.4", dir, program)
      assert.is_number(status)
      local our_out, our_err, our_status = run(helper.neap, dir, program)
      assert.equal(out, our_out)
      assert.equal(err, our_err)
      assert.equal(status, our_status)
    end)
  end

  for _, program in ipairs(differences) do
    it("differs knowingly: " .. program[1] .. " (" .. program.reason .. ")", function()
      local dir = helper.tmpdir()
      local out, err, status = run("lua5.4", dir, program)
      local our_out, our_err, our_status = run(helper.neap, dir, program)
      if type(program.stock) == "number" then out, our_out = status, our_status end
      if program.of == "stderr" then out, our_out = begins_inside(err), begins_inside(our_err) end
      assert.equal(program.stock, out)
      assert.equal(program.neap, our_out)
    end)
  end
end)
