-- Names and texts of errors: stable, complete, and nothing unknown is invented.

local codec = require "neap.codec.core"

describe("error codes", function()
  it("have the names that scripts compare with, and texts in lower case", function()
    for _, row in ipairs {
      { -111, "ECONNREFUSED", "connection refused" },
      { -110, "ETIMEDOUT", "timed out" }, -- deadlines, too: not only connections
      { -98, "EADDRINUSE", "address already in use" },
      { -90, "EMSGSIZE", "message too long" },
      { -74, "EBADMSG", "bad message" }, -- errno's
      { -42, "ENOMSG", "no message of desired type" }, -- not known to libuv
      { -122, "EDQUOT", "disk quota exceeded" }, -- nor this
      { -95, "EOPNOTSUPP", "operation not supported" },
      { -3008, "ENOTFOUND", "name not found" }, -- EAI_NONAME
      { -3007, "ENOTFOUND", "name has no address" }, -- EAI_NODATA
      { -3001, "EAI_AGAIN", "temporary failure in name resolution" },
      { -4095, "EOF", "end of file" },
      { -5001, "ECANCELED", "closed" }, -- our own
      { -5002, "EBADMSG", "bad message" },
      { -5010, "EOF", "end of file" },
    } do
      assert.same({ row[2], row[3] }, { codec.error(row[1]) })
    end
  end)

  it("are all known to this system's errno", function()
    for code = 1, 133 do
      if code ~= 41 and code ~= 58 then -- holes in Linux's list
        local name, text = codec.error(-code)
        assert.truthy(name:find "^E[%u%d]+$", code)
        assert.is_true(name ~= "EUNKNOWN", code)
        assert.is_nil(text:find "^%u%l", text)
        assert.is_nil(text:find "[%.\n]$", text)
      end
    end
  end)

  it("that are unknown say so", function()
    for _, code in ipairs { 0, 1, -9999, -41, math.mininteger, math.maxinteger } do
      assert.same({ "EUNKNOWN", "unknown error" }, { codec.error(code) })
    end
  end)
end)
