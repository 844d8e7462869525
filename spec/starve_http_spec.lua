-- Memory that runs out (see spec/support/starve.lua) in HTTP.

local starve = assert(loadfile("spec/support/starve.lua", "t", _ENV))()

starve("compressed HTTP with cookies, a server and its client", [[
  local http = require "neap.http"
  local text = ("some text "):rep(200)
  local server <close> = http.serve("127.0.0.1:0", { compress = true, log = function() end },
    function(req, res)
      local headers = { ["Content-Type"] = "text/plain", ["Set-Cookie"] = "a=b; Path=/" }
      if req.path == "/all" then return res:send(200, text, headers) end
      for name, value in pairs(headers) do res.headers[name] = value end
      res:write(text)
      res:write(req.headers.cookie or "")
    end)
  local url, jar = server.address:gsub("^tcp", "http"), http.cookies()
  for path, wanted in pairs { ["/all"] = text, ["/pieces"] = text } do
    local r <close> = assert(http.get(url .. path, { cookies = jar, timeout = 1 }))
    local body = r:body()
    assert(not body or body:sub(1, #text) == wanted)
  end
  http.forget()
]])
