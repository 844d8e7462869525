-- testssl.sh against a server with the settings that nobody chose: no finding of MEDIUM or worse.
-- Not one of `make test`: it takes minutes (make acceptance).

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"

local LIMIT_S = 600

-- What says nothing about the server: of certificates made by openssl(1) for the 30 days of a spec,
-- and of HTTP, where these headers are the script's to set.
local justified = {
  cert_revocation = "an authority of one day publishes no list of revocations",
  cert_expirationStatus = "made for 30 days",
  cert_notAfter = "made for 30 days",
  security_headers = "headers that the script sets",
}

local function findings(path)
  local list = {}
  for line in assert(io.lines(path)) do
    local id, severity, what = line:match '^"(.-)",".-",".-","(.-)","(.-)"'
    if id and id ~= "id" then
      list[#list + 1] = { id = id:gsub(" .*", ""), severity = severity, what = what }
    end
  end
  return list
end

local grave = { MEDIUM = true, HIGH = true, CRITICAL = true, FATAL = true }

describe("testssl.sh", function()
  it("finds nothing in a server with default settings", function()
    local server = helper.start(("exec %s scripts/examples/http_files.lua docs 127.0.0.1:0 %s %s")
      :format(helper.neap, certs.path "server.pem", certs.path "server.key"), { limit = LIMIT_S })
    local port = server:expect "listening on tls://127%.0%.0%.1:(%d+)"
    local csv = helper.tmpdir() .. "/found.csv"
    local command = "exec testssl --quiet --color 0 --warnings off --add-ca %s --csvfile %s " ..
      "--ip 127.0.0.1 localhost:%s"
    local out, err, status = helper.run(command:format(certs.path "ca.pem", csv, port),
      { limit = LIMIT_S })
    local list = findings(csv)
    assert.is_true(#list > 100, out .. err) -- it has looked
    local protocols, ciphers = 0, 0
    for _, f in ipairs(list) do
      if grave[f.severity] and not justified[f.id] then
        error(("%s %s: %s (status %s)"):format(f.severity, f.id, f.what, status))
      end
      if f.id == "TLS1_2" or f.id == "TLS1_3" then
        assert.equal("OK", f.severity)
        protocols = protocols + 1
      end
      if f.id:find "^cipher" then ciphers = ciphers + 1 end
    end
    assert.equal(2, protocols)
    assert.is_true(ciphers > 0)
    local alive = helper.run(("curl -sS --cacert %s https://localhost:%s/manual.md | head -n 1")
      :format(certs.path "ca.pem", port))
    assert.equal("# The manual\n", alive)
  end)
end)
