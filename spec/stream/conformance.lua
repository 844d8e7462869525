-- What every stream promises, whatever moves its bytes. Nothing here knows the transport but by a
-- few words about it:
--
--   conformance(name, {
--     pair = function() return a, b end,  -- two connected streams; both are closed by the suite
--     one_way = true,     -- only a -> b (pipes)
--     reset = true,       -- abort() of one end is ECONNRESET at the other
--     socket = true,      -- has a descriptor and can be taken
--     slow = n,           -- repetitions are divided by this
--   })

local helper = require "spec.support.helper"
local neap = require "neap"
local codec = require "neap.codec"

local LIMIT_S = 10 * helper.slow

-- Runs f in a task of its own: task, and what it returned once it ended.
local function later(f, ...)
  local task = neap.spawn(f, ...)
  return function() return select(2, assert(task:join { timeout = LIMIT_S })) end, task
end

local function turns(n)
  for _ = 1, n or 5 do neap.yield() end
end

-- True if what is queued does not move: neither the kernel nor a layer takes more.
local function stuck(s)
  local before = s.unsent_bytes
  if before == 0 then return false end
  for _ = 1, 3 do
    neap.sleep(0.01)
    if s.unsent_bytes ~= before then return false end
  end
  return true
end

-- The results of f as a list with n.
local function pack_of(f, ...) return table.pack(f(...)) end

return function(name, kind)
  -- in the hard build each byte is a system call of its own
  local slow = (kind.slow or 1) * (not helper.hard and 1 or name:find "mem" and 4 or 40)

  local function pair()
    local a, b = kind.pair()
    helper.after(function()
      a:abort()
      b:abort()
    end)
    return a, b
  end

  -- Feeds pieces with a turn between them, then ends the direction unless `keep`.
  local function feed(s, pieces, keep)
    return neap.spawn(function()
      for _, piece in ipairs(pieces) do
        if not s:write(piece) or not s:flush() then return end
        neap.yield()
      end
      if not keep then s:shutdown() end
    end)
  end

  local function fed(text, ...)
    local a, b = pair()
    feed(a, { text, ... })
    return b, a
  end

  describe("a stream over " .. name, function()
    -- ---- reading, as io has it ----

    describe("reads as a file does", function()
      local texts = {
        "", "\n", "one", "one\n", "one\ntwo", "one\n\ntwo\n", "a\0b\nc\0\n",
          "  42 0x1F -1.5e3\n7 end", "12abc 1e+ x",
        ("x"):rep(300) .. "\ny", "0x\n", "99999999999999999999 1", "\r\n\r\n", "-", "nan", "  ",
          ".5 5.",
      }
      local formats = { "l", "L", "a", "n", 0, 1, 3, 1000, "*l" }

      local function all_of(f, fmt)
        local list = {}
        for i = 1, 20 do
          local v = f:read(fmt)
          if fmt == 0 and v == "" then
            list[i] = v
            break
          end
          list[i] = v == nil and "end" or v
          if v == nil or (fmt == "a" and v == "") then break end
        end
        return list
      end

      for _, fmt in ipairs(formats) do
        it(("by %q"):format(tostring(fmt)), function()
          for _, text in ipairs(texts) do
            local path = helper.write_file(helper.tmpdir() .. "/f", text)
            local f = assert(io.open(path, "rb"))
            local wanted = all_of(f, fmt)
            f:close()
            local b = fed(text)
            assert.same(wanted, all_of(b, fmt))
            b:close()
          end
        end)
      end

      it("by lines", function()
        for _, text in ipairs(texts) do
          local path, list, wanted = helper.write_file(helper.tmpdir() .. "/f", text), {}, {}
          for l in io.lines(path, "L") do wanted[#wanted + 1] = l end
          for l in fed(text):lines "L" do list[#list + 1] = l end
          assert.same(wanted, list)
        end
      end)
    end)

    it("gives several formats all or nothing", function()
      local b = fed "7 left\nright\n12345tail"
      assert.same({ 7, " left", "right\n", "123", n = 4 }, pack_of(b.read, b, "n", "l", "L", 3))
      assert.same({ nil, n = 1 }, pack_of(b.read, b, 3, "l", "l"))
      assert.equal("45tail", b:read "a")
      assert.equal("", b:read "a")
      assert.is_nil(b:read "l")
    end)

    it("keeps what several formats had when their time is over", function()
      local a, b = pair()
      a:write "first\nsec"
      local v, message, code = b:read("l", "l", { timeout = 0.01 })
      assert.is_nil(v)
      assert.truthy(message:find "timed out$")
      assert.equal("ETIMEDOUT", code)
      a:write "ond\n"
      assert.same({ "first", "second", n = 2 }, pack_of(b.read, b, "l", "l"))
    end)

    it("reads until a delimiter of any length", function()
      local b = fed "key: value\r\n\r\n--edge--body----edge--rest"
      assert.equal("key", b:read_until ": ")
      assert.equal("value", b:read_until "\r\n\r\n")
      assert.equal("", b:read_until "--edge--")
      assert.equal("body--", b:read_until "--edge--")
      assert.equal("rest", b:read_until "--edge--")
      assert.is_nil(b:read_until "--edge--")
      assert.has_error(function() b:read_until "" end)
    end)

    it("unpacks records", function()
      local b = fed(string.pack(">I2 s1 s2 s4 z i4 d", 7, "one", "two", "four", "zero", -5, 0.25)
        .. "\1\2")
      assert.same({ 7, "one", "two", "four", "zero", -5, 0.25, n = 7 }, pack_of(b.unpack, b,
        ">I2 s1 s2 s4 z i4 d"))
      local v, message, code = b:unpack ">I4"
      assert.is_nil(v)
      assert.equal("EPIPE", code)
      assert.is_string(message)
      assert.equal("\1\2", b:recv())
      assert.is_nil(b:unpack ">I4")
      assert.has_error(function() b:unpack "q" end)
    end)

    it("reads by codecs", function()
      local b = fed "*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING x\r\nlast\n"
      assert.same({ "GET", "k" }, b:read(codec.resp()))
      local cmd, line = b:read(codec.resp(), "l")
      assert.same({ "PING", "x" }, cmd)
      assert.equal("last", line)
      local list = {}
      for m in fed("\0\1a\0\2bb"):messages(codec.record ">s2") do list[#list + 1] = m end
      assert.same({ "a", "bb" }, list)
    end)

    it("peeks and puts back", function()
      local b = fed "abcdef"
      assert.equal("abc", b:peek(3))
      assert.equal("a", b:peek(1))
      assert.equal("abcdef", b:peek(6))
      assert.equal("abcdef", b:peek())
      assert.equal("abcdef", b:peek(100))
      assert.equal("ab", b:read(2))
      assert.equal(b, b:unread "AB")
      assert.equal(b, b:unread "")
      assert.equal(b, b:unread(("z"):rep(5000) .. "\n"))
      assert.equal(("z"):rep(5000), b:read())
      assert.equal("ABcdef", b:read "a")
      b:unread "after the end\n"
      assert.equal("after the end", b:read())
      assert.is_nil(b:read())
    end)

    it("receives what is there, at most max", function()
      local a, b = pair()
      a:write "abcdef"
      a:flush()
      assert.equal("abcdef", b:peek(6))
      assert.equal("ab", b:recv(2))
      assert.equal("cdef", b:recv())
      a:shutdown()
      assert.is_nil(b:recv())
      assert.has_error(function() b:recv(0) end)
      assert.has_error(function() b:recv(-1) end)
    end)

    it("gives the same frames however the bytes are cut", function()
      local text = "line one\r\nn: -12.5e1 |" .. string.pack(">s2", "rec\0ord")
        .. "*1\r\n$4\r\nPING\r\n" .. "end"
      local function frames(b)
        return { b:read(), b:read_until ":", b:read "n", b:read_until "|", b:unpack ">s2",
          b:read(codec.resp())[1], b:read(1),
          b:peek(2), b:read "a" }
      end
      local wanted = frames((fed(text)))
      assert.equal(9, #wanted)
      for at = 1, #text - 1, slow do
        local a, b = pair()
        feed(a, { text:sub(1, at), text:sub(at + 1) })
        assert.same(wanted, frames(b))
        a:abort()
        b:abort()
      end
      local bytes = {}
      for c in text:gmatch "." do bytes[#bytes + 1] = c end
      local a, b = pair()
      feed(a, bytes)
      assert.same(wanted, frames(b))
    end)

    it("reads a long line in small pieces in linear time", function()
      local function run(size)
        local a, b = pair()
        b.line_max = 1 << 20
        local piece = ("x"):rep(64)
        neap.spawn(function()
          for _ = 1, size // 64 do a:write(piece):flush() end
          a:write "\n"
        end)
        local from = os.clock()
        assert.equal(size, #assert(b:read()))
        return os.clock() - from
      end
      local size = (256 << 10) // slow // 512 * 512
      run(size // 8)
      local small, large = run(size // 8), run(size)
      assert.is_true(large < 40 * small + 0.05, ("%g s for an eighth, %g s for all"):format(small,
        large))
    end)

    -- ---- limits ----

    it("keeps limits exactly, and the bytes", function()
      local a, b = pair()
      b.line_max, b.read_max = 10, 20
      feed(a, { ("x"):rep(10) .. "\n" .. ("y"):rep(11) .. "\n" .. ("z"):rep(30) })
      assert.equal(("x"):rep(10), b:read())
      local v, message, code = b:read()
      assert.is_nil(v)
      assert.equal("EMSGSIZE", code)
      assert.is_string(message)
      assert.equal("EMSGSIZE", select(3, b:read_until "\n"))
      assert.equal(("y"):rep(11), b:read_until("\n", 11))
      assert.equal("EMSGSIZE", select(3, b:read(21)))
      assert.equal("EMSGSIZE", select(3, b:read "a"))
      assert.equal("EMSGSIZE", select(3, b:unpack "c21"))
      assert.equal(("z"):rep(20), b:read(20))
      assert.equal(("z"):rep(10), b:read "a")
      assert.has_error(function() b:unread(("u"):rep(21)) end)
      assert.has_error(function() b.line_max = 0 end)
      assert.has_error(function() b.nothing = 1 end)
    end)

    it("raises for wrong arguments and takes nothing", function()
      local b, a = fed "kept\n"
      for _, bad in ipairs { function() b:read "q" end, function() b:read(-1) end,
        function() b:read(1.5) end, function() b:read("l", {}, 1) end,
        function() b:read({ timeout = "x" }) end, function() b:read({ tiemout = 1 }) end,
          function() b:lines "q" end,
        function() a:write({}, "x") end, function() a:write(nil) end, function() b:peek(-1) end,
          function() b:messages "l" end,
        function() b:read_until() end, function() a.write({}) end } do
        assert.has_error(bad)
      end
      assert.has_error(function() b:read("l", { tiemout = 1 }) end,
        "bad argument #2 to 'read' (unknown option 'tiemout' (known: timeout))")
      assert.equal("kept", b:read())
    end)

    -- ---- time, cancellation, one reader ----

    it("loses nothing when time runs out", function()
      local a, b = pair()
      a:write("par"):flush()
      for _, read in ipairs { function() return b:read { timeout = 0.002 } end, function()
        return b:read(5, { timeout = 0.002 }) end,
        function() return b:read("a", { timeout = 0 }) end, function() return b:read_until("|",
          { timeout = 0.002 }) end,
        function() return b:unpack("s1", { timeout = 0.002 }) end, function()
          return neap.timeout(0.002, b.read, b) end } do
        local v, message, code = read()
        assert.is_nil(v)
        assert.truthy(message:find "timed out")
        assert.equal("ETIMEDOUT", code)
      end
      b.timeout = 0.003
      assert.equal(0.003, b.timeout)
      assert.equal("ETIMEDOUT", select(3, b:read()))
      b.timeout = nil
      do
        local _ <close> = neap.deadline(0.003)
        assert.equal("ETIMEDOUT", select(3, b:read { timeout = 100 }))
      end
      a:write "tial\n"
      assert.equal("partial", b:read())
    end)

    it("waits for writes as long as write_timeout says, where it is set", function()
      local a, b = pair()
      assert.is_nil(a.write_timeout)
      a.timeout, a.write_timeout = 100, 0.003
      assert.same({ 100, 0.003 }, { a.timeout, a.write_timeout })
      assert.equal("ETIMEDOUT", select(3, a:write(("x"):rep(16 << 20))))
      b:close()
    end)

    it("raises the hundredth ignored failure in a row", function()
      local a, b = pair()
      b.timeout = 0
      local ok, err = pcall(function()
        for i = 1, 1000 do
          local v, _, code = b:read()
          assert(v == nil and code == "ETIMEDOUT")
        end
      end)
      assert.is_false(ok)
      assert.truthy(tostring(err):find "timed out")
      b.timeout = nil
      a:write "x\n"
      assert.equal("x", b:read())
      b:close()
      local n = 0
      ok = pcall(function()
        while true do
          b:read()
          n = n + 1
        end
      end)
      assert.is_false(ok)
      assert.equal(99, n)
    end)

    it("loses nothing when a read is cancelled, also two coroutines deep", function()
      for depth = 0, 2 do
        local a, b = pair()
        local function body() return b:read() end
        for _ = 1, depth do
          local inner = body
          body = function() return coroutine.wrap(inner)() end
        end
        local task = neap.spawn(body)
        a:write("half"):flush()
        turns()
        task:cancel()
        assert.is_false((task:join()))
        a:write " whole\n"
        assert.equal("half whole", b:read())
      end
    end)

    it("refuses a second reader, also while the first has been woken and did not run yet",
      function()
      local a, b = pair()
      local first = later(function() return b:read() end)
      turns()
      local ok, err = pcall(b.read, b)
      assert.is_false(ok)
      assert.truthy(err:find "another task is already reading")
      assert.has_error(function() b:unread "x" end)
      assert.has_error(function() b:lines()() end)
      a:write "for the first\n"
      local tries, refused = 0, 0
      local hasty = later(function()
        for _ = 1, 50 do
          tries = tries + 1
          if not pcall(b.recv, b, { timeout = 0 }) then refused = refused + 1 end
          neap.yield()
        end
      end)
      assert.equal("for the first", first())
      hasty()
      assert.equal(50, tries)
      assert.is_true(refused > 0)
      a:write "next\n"
      assert.equal("next", b:read())
    end)

    it("lets another task read in the moment a deadline has passed", function()
      local a, b = pair()
      for _ = 1, 20 do
        local one = later(function() return select(3, b:read { timeout = 0.001 }) end)
        local two = later(function()
          while true do
            local ok, v = pcall(b.read, b)
            if ok then return v end
            neap.yield()
          end
        end)
        assert.equal("ETIMEDOUT", one())
        a:write "x\n"
        assert.equal("x", two())
      end
    end)

    -- ---- writing ----

    it("writes strings and numbers and returns itself", function()
      local a, b = pair()
      assert.equal(a, a:write("a", 1, 2.5, ""))
      assert.equal(a, a:write())
      assert.equal(a, a:flush())
      a:shutdown()
      assert.equal("a12.5", b:read "a")
    end)

    it("never interleaves whole writes of several tasks", function()
      local a, b = pair()
      local writers, rounds = 5, math.max(2, 12 // slow)
      neap.spawn(function()
        neap.group(function(g)
          for w = 1, writers do
            g:spawn(function()
              for r = 1, rounds do
                local size = r % 3 == 0 and 70000 or r % 3 == 1 and 3000 or 300000 // slow
                local body = string.char(96 + w):rep(size)
                assert(a:write(string.pack(">I4", size), body:sub(1, 10), body:sub(11)))
              end
            end)
          end
        end)
        a:shutdown()
      end)
      local n = 0
      while true do
        local size = b:unpack ">I4"
        if not size then break end
        local body = b:read(size)
        assert.equal(size, #body)
        assert.equal(body:sub(1, 1):rep(size), body)
        n = n + 1
      end
      assert.equal(writers * rounds, n)
    end)

    it("gives each write its own deadline", function()
      if helper.hard and kind.slow then return end -- half a minute of single bytes
      local a, b = pair()
      a:option("send_buffer", 1 << 15) -- where there is such a thing
      b:option("receive_buffer", 1 << 15)
      local big = ("x"):rep(helper.hard and 1 << 19 or 4 << 20)
      local first = later(function() return a:write(big) end)
      turns()
      local second = later(function() return select(3, a:write("late", { timeout = 0.02 })) end)
      turns()
      local third = later(function() return a:write "patient" end)
      assert.equal("ETIMEDOUT", second()) -- its turn never came: nothing breaks
      local reader = later(function() return #b:read(#big) end)
      assert.equal(#big, reader())
      assert.equal(a, first())
      assert.equal(a, third())
      a:shutdown()
      assert.equal("patient", b:read "a")
    end)

    it("makes a writer wait while more than the limit is queued", function()
      local a, b = pair()
      local sent = 0
      local writer, task = later(function()
        for _ = 1, 4096 // slow do
          if not a:write(("x"):rep(4096)) then return end
          sent = sent + 4096
        end
        a:shutdown()
        return sent
      end)
      helper.wait_until(function() return sent == 4096 * (4096 // slow)
        or tostring(task):find "write" and stuck(a) end, 5)
      local before = sent
      turns(20)
      if before < 4096 * (4096 // slow) then
        assert.is_true(a.unsent_bytes > 0 and a.unsent_bytes <= (256 << 10) + 4096, tostring(a))
        assert.equal(before, sent)
      end
      assert.equal(4096 * (4096 // slow), #b:read "a")
      assert.equal(4096 * (4096 // slow), writer())
    end)

    it("does not wait while less is queued", function()
      local a, b = pair()
      local step = later(function()
        a:write(("x"):rep(200000))
        b:write(("y"):rep(kind.one_way and 0 or 200000))
        return true
      end)
      if kind.one_way then return end
      assert.is_true(step())
      assert.equal(200000, #b:read(200000))
      assert.equal(200000, #a:read(200000))
    end)

    it("is broken by a deadline that ends a waiting write", function()
      local a, b = pair()
      local v, message, code = a:write(("x"):rep(8 << 20), { timeout = 0.02 })
      assert.is_nil(v)
      assert.truthy(message:find "timed out")
      assert.equal("ETIMEDOUT", code)
      assert.equal("ETIMEDOUT", select(3, a:write "more"))
      assert.equal("ETIMEDOUT", select(3, a:flush()))
      assert.equal("ETIMEDOUT", select(3, a:shutdown()))
      assert.truthy(tostring(a):find "ETIMEDOUT")
      assert.equal("ETIMEDOUT", select(3, a:close()))
      assert.is_true(a:close())
      assert.is_true(#b:recv() > 0)
    end)

    it("is broken by a cancellation that ends a waiting write, and tells those behind it",
      function()
      local a = pair()
      local _, task = later(function() a:write(("x"):rep(8 << 20)) end)
      turns()
      local second = later(function() return select(3, a:write "me too") end)
      turns()
      task:cancel()
      assert.is_false((task:join()))
      assert.equal("ECANCELED", second())
      assert.equal("ECANCELED", select(3, a:write "more"))
    end)

    it("flushes; a deadline of a flush breaks nothing", function()
      local a, b = pair()
      local size = 0
      repeat
        if a.unsent_bytes < 200000 then -- a write that waited would have its deadline
          a:write(("x"):rep(50000))
          size = size + 50000
        end
      until stuck(a)
      assert.equal("ETIMEDOUT", select(3, a:flush { timeout = 0.01 }))
      local flusher = later(function() return a:flush() end)
      local reader = later(function() return #b:read "a" end)
      b.read_max = 128 << 20
      assert.equal(a, flusher())
      assert.equal(0, a.unsent_bytes)
      a:shutdown()
      assert.is_true(reader() == size)
    end)

    it("sends what a task wrote when the task waits", function()
      local a, b = pair()
      for _ = 1, 10 do a:write "x" end
      -- there a task gives way more often
      if not helper.hard then assert.equal(10, a.unsent_bytes) end
      assert.equal(("x"):rep(10), b:read(10))
      assert.equal(0, a.unsent_bytes)
    end)

    -- ---- ending ----

    it("ends each way by itself", function()
      local a, b = pair()
      a:write "question"
      assert.is_true(a:shutdown())
      assert.is_true(a:shutdown())
      assert.equal("EPIPE", select(3, a:write "more"))
      assert.equal("question", b:read "a")
      assert.is_nil(b:read())
      if kind.one_way then return end
      b:write "answer"
      b:shutdown()
      assert.equal("answer", a:read "a")
      assert.is_nil(a:read())
      assert.is_true(a:close())
      assert.is_true(b:close())
    end)

    it("wakes every kind of waiter when it is closed", function()
      local closed = { nil, "closed", "ECANCELED", n = 3 }
      local readers = {
        function(s) return s:read() end, function(s) return s:read("n", "l") end, function(s)
          return s:recv() end,
        function(s) return s:read_until "x" end, function(s) return s:unpack ">s4" end, function(s)
          return s:peek(3) end,
        function(s) return s:read(codec.resp()) end,
      }
      for _, f in ipairs(readers) do
        local _, b = pair()
        local waiter = later(function() return table.pack(f(b)) end)
        turns()
        assert.is_true(b:close())
        assert.same(closed, waiter())
        assert.same(closed, pack_of(f, b))
      end
      local a = pair()
      local waiters = {}
      for i, f in ipairs { function() return a:write(("x"):rep(8 << 20)) end, function()
        return a:write "turn" end,
        function() return a:flush() end } do
        waiters[i] = later(function() return table.pack(f()) end)
        turns()
      end
      assert.is_true(a:close())
      for i = 1, 3 do assert.same(closed, waiters[i]()) end
      for _, f in ipairs { "write", "flush", "shutdown" } do assert.same(closed, pack_of(a[f],
        a)) end
      assert.is_true(a:close())
      assert.is_true(a:abort())
      assert.equal("neap.stream{closed}", tostring(a))
      assert.is_true(a.closed)
    end)

    it("ends iterators at the end and at our own close, and raises what fails", function()
      local list = {}
      for l in fed("a\nb\nc"):lines() do list[#list + 1] = l end
      assert.same({ "a", "b", "c" }, list)
      local a, b = pair()
      local n = 0
      local counter = later(function()
        for _ in b:lines() do n = n + 1 end
        return n
      end)
      a:write("x\ny\n"):flush()
      helper.wait_until(function() return n == 2 end)
      b:close()
      assert.equal(2, counter())
      local c, d = pair()
      d.timeout = 0.005
      local ok, err = pcall(function()
        for _ in d:lines() do end
      end)
      assert.is_false(ok)
      assert.equal("ETIMEDOUT", err.code)
      assert.truthy(tostring(err):find "timed out")
      c:close()
    end)

    it("delivers what was written before close", function()
      local a, b = pair()
      local size = 3000000 // slow
      local reader = later(function() return #b:read "a" end)
      a:write(("x"):rep(size))
      assert.is_true(a:close())
      assert.equal(size, reader())
    end)

    it("delivers what a closed stream's waiting writer had begun", function()
      local a, b = pair()
      local size = 3000000 // slow
      neap.spawn(function() a:write(("x"):rep(size)) end)
      turns()
      a:close()
      collectgarbage()
      local n = 0
      for chunk in function() return b:recv() end do n = n + #chunk end
      assert.equal(size, n)
    end)

    it("knows the end of a peer that is gone", function()
      if kind.one_way then return end
      local a, b = pair()
      b:close()
      assert.is_nil(a:read())
      a:close()
      local c, d = pair()
      d:abort()
      local code
      for _ = 1, 100 do
        local ok
        ok, _, code = c:write "into the void"
        if ok then ok, _, code = c:flush() end
        if not ok then break end
        neap.sleep(0.001)
      end
      assert.is_true(code == "EPIPE" or code == "ECONNRESET", tostring(code))
    end)

    it("delivers a reply before close although the request is unread", function()
      if kind.one_way then return end
      for i = 1, math.max(20, 1000 // (slow * slow)) do
        local a, b = pair()
        a:write(("request "):rep(1 + i % 50))
        a:flush()
        b:write "reply\n"
        b:close()
        local reply, message = a:read()
        assert.equal("reply", reply, message)
        assert.is_nil((a:read()))
        a:close()
      end
    end)

    it("reads what came before a reset first", function()
      if not kind.reset then return end
      for _ = 1, 20 do
        local a, b = pair()
        a:write("data\nrest"):flush()
        b:peek(9)
        a:abort()
        neap.sleep(0.002)
        assert.equal("data", b:read())
        local v, _, code = b:read()
        assert.is_nil(v)
        assert.equal("ECONNRESET", code)
        assert.equal("rest", b:recv())
        assert.equal("ECONNRESET", select(3, b:recv()))
        assert.equal("ECONNRESET", select(3, b:close()))
      end
    end)

    it("hands out its descriptor and the unread bytes", function()
      local a, b = pair()
      a:write("line\nunread"):flush()
      assert.equal("line", b:read())
      b:peek(6)
      if not kind.socket then
        assert.equal("EOPNOTSUPP", select(3, b:take()))
        assert.equal("unread", b:read(6))
        return
      end
      local fd, rest = b:take()
      assert.equal("unread", rest)
      assert.is_true(b.closed)
      local c = fd:adopt()
      helper.after(function() c:abort() end)
      a:write "more\n"
      assert.equal("more", c:read())
    end)

    it("cannot be taken while a task waits on it", function()
      local _, b = pair()
      local waiter = later(function() return b:read() end)
      turns()
      assert.has_error(function() b:take() end)
      b:close()
      waiter()
    end)

    it("uses no CPU after the peer's end while nobody reads", function()
      local a, b = pair()
      a:write "unread"
      a:close()
      neap.sleep(0.01)
      local from, at = os.clock(), neap.now()
      neap.sleep(0.25)
      local used, took = os.clock() - from, neap.now() - at
      assert.is_true(used < 0.2 * took, ("%g s of CPU in %g s"):format(used, took))
      assert.equal("unread", b:read "a")
    end)

    it("says what it is in one line", function()
      local a, b = pair()
      a:write "four"
      assert.truthy(tostring(a):find "^neap%.stream{.* in=0 out=4}$")
      local waiter = later(function() return b:read() end)
      turns()
      assert.truthy(tostring(b):find " reading")
      a:close()
      waiter()
    end)

    it("moves a lot, both ways at once", function()
      local a, b = pair()
      local size = 2000000 // (slow * slow)
      local block = {}
      for i = 1, size // 4 do block[i] = string.pack(">I4", i * 2654435761 % 4294967296) end
      local text = table.concat(block)
      local function send(s)
        return later(function()
          local at, step = 1, 1
          while at <= #text do
            assert(s:write(text:sub(at, at + step - 1)))
            at, step = at + step, step * 3 % 65521 + 1
          end
          s:shutdown()
        end)
      end
      local one, two = send(a), not kind.one_way and send(b)
      local got = later(function() return b:read "a" end)
      if two then assert.is_true(text == a:read "a") end
      assert.is_true(text == got())
      one()
      if two then two() end
    end)
  end)
end
