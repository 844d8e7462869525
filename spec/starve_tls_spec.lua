-- Memory that runs out (see spec/support/starve.lua) in TLS below HTTP.

local starve = assert(loadfile("spec/support/starve.lua", "t", _ENV))()

starve("TLS and HTTP, a server and its client", [[
  local http, neap, tls = require "neap.http", require "neap", require "neap.tls"
  local cert, key = "CERTS/server.pem", "CERTS/server.key"
  local other = assert(tls.context { server = true, cert = cert, key = key })
  local server <close> = http.serve("tls://127.0.0.1:0", { cert = cert, key = key,
    names = { localhost = other }, log = function() end }, function(req, res)
    if req.path == "/all" then return res:send(200, req:body()) end
    for piece in req:chunks() do res:write(piece) end
    res:finish { ["X-End"] = "1" }
  end)
  local opts = { tls = { ca = "CERTS/ca.pem", name = "localhost" }, timeout = 5, body = "text" }
  for _, path in ipairs { "/all", "/pieces" } do
    local r <close>, message, code =
      http.request(server.address:gsub("^tls", "https") .. path, opts)
    if code == "ETIMEDOUT" then io.stderr:write("WRONG: no answer and no end of ", path, "\n") end
    assert(r, message)
    assert(r:body() == "text" and r.tls.peer)
  end
]])
