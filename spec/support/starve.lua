-- Memory that runs out, at each allocation of Lua's and of our own in turn: a run ends, well or
-- with an error; nothing crashes, hangs or leaks (the sanitized builds see to that). A new kind of
-- object adds a row to one of the spec/starve*_spec.lua.
--
-- starve(name, script) makes the test of a row. In the script BIG is more than the kernel's buffers
-- hold, TMPDIR a directory, CERTS/ where those of spec/support/certs.lua lie. Rows that move much
-- are sampled, every 3rd allocation or so: NEAP_STARVE=1 makes it each.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"

-- The hard build, which moves single bytes, has small queues.
local BIG <const> = helper.hard and "20000" or "(1 << 20)"

local sampled = helper.sanitized and 7 or 3

local function step(script)
  local long = script:find "BIG" or script:find "net.serve"
    or script:find "serve%(" or script:find "neap.dns"
  return tonumber(os.getenv "NEAP_STARVE") or long and sampled or 1
end

local function build()
  local program = helper.tmpdir() .. "/starve"
  local command = [[%s -g -Wall -Werror %s -Isrc $(pkg-config --cflags lua5.4) -o %s \
    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc spec/support/starve.c %s/libneap.a \
    $(pkg-config --libs lua5.4 libuv openssl libcares zlib) -lm -ldl -lpthread]]
  local out, err, status =
    helper.run(command:format(helper.cc, helper.cflags, program, helper.build), { limit = 120 })
  assert.equal("", out .. err)
  assert.equal(0, status)
  return program
end

return function(name, script)
  it("a run without memory ends in order: " .. name, function()
    local program = build()
    local text = script:gsub("BIG", BIG):gsub("TMPDIR", helper.tmpdir())
      :gsub("CERTS/", certs.path "")
    local path = helper.write_file(helper.tmpdir() .. "/script.lua", text)
    local whole, _, fine = helper.run(("%s %s 1000000"):format(program, path))
    assert.equal("1 runs: 0 without a runtime, 0 failed, 1 ended well\n", whole)
    assert.equal(0, fine)
    local by = step(script)
    local command = ("%s %s 1 %d"):format(program, path, by)
    local limit = os.getenv "NEAP_STARVE" and 1200 or 120
    local out, err, status = helper.run(command, { limit = limit })
    assert.equal(0, status, err)
    assert.is_nil(err:find("WRONG", 1, true), err)
    local runs, failed = out:match "^(%d+) runs: %d+ without a runtime, (%d+) failed"
    assert.is_true(tonumber(runs) > 300 // by and tonumber(failed) > 200 // by, out)
  end)
end
