-- Memory that runs out (see spec/support/starve.lua) among files and in compression.

local starve = assert(loadfile("spec/support/starve.lua", "t", _ENV))()

starve("files, watches, sends of files", [[
  local neap, net, fs = require "neap", require "neap.net", require "neap.fs"
  local dir = assert(fs.mkdtemp "TMPDIR/XXXXXX")
  do
    local w <close> = assert(fs.watch(dir))
    assert(fs.write(dir .. "/a", "text\n", { atomic = true }))
    assert(w:event { timeout = 5 })
    local f <close> = assert(fs.open(dir .. "/a", "r+"))
    assert(f:read() == "text" and f:write("more\n"):seek "end" == 10)
    f:seek "set"
    for line in f:lines() do assert(#line == 4) end
    assert(fs.read(dir .. "/a") == "text\nmore\n" and f:stat().size == 10)
    for name in assert(fs.scandir(dir)) do assert(name == "a") end
    local a, b = assert(net.pair())
    local _ <close> = a
    local _ <close> = b
    assert(a:send_file(f, 5) == 5 and b:read() == "more")
    local t = neap.spawn(f.read, f, "a")
    t:cancel()
    t:join()
    assert(f:close())
  end
]])

starve("compression, whole and as it comes", [[
  local zlib = require "neap.zlib"
  local text = ("some text "):rep(2000)
  for _, format in ipairs { "raw", "zlib", "gzip" } do
    local opts = { format = format, dictionary = format ~= "gzip" and "some" or nil }
    assert(zlib.decompress(zlib.compress(text, opts), opts) == text)
    local d <close> = zlib.deflater(opts)
    opts.joined = true
    local i <close> = zlib.inflater(opts)
    for n = 1, 3 do
      if n == 3 then d:reset() i:reset() end
      d:feed(text:sub(1, 5000)):feed(text:sub(5001), n == 2 and "finish" or "sync")
      local got = {}
      for piece in function() return d:next(500) end do
        i:feed(piece)
        for out in function() return i:next(1000) end do got[#got + 1] = out end
      end
      assert(table.concat(got) == text)
      if n == 2 then d:reset() end
    end
  end
]])
