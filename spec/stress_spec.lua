-- The scheduler under random nesting of everything it offers: no crash, no hang, an orderly end.

local helper = require "spec.support.helper"

describe("the scheduler", function()
  for _, seed in ipairs { 1, 7, 37 } do
    it("stands random programs, seed " .. seed, function()
      local out, err, status = helper.run_neap(("spec/support/stress.lua %d 1.5"):format(seed),
        { limit = 30 })
      assert.equal(0, status, err:sub(-2000))
      assert.equal("ok\ttrue\n", out)
      assert.is_nil(err:find "assert", err:sub(-2000))
    end)
  end
end)
