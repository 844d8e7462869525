-- rest.lua: a key-value store over HTTP: PUT, GET, DELETE of /keys/NAME, and GET /keys for a list.
--
-- Shows: a router, what runs before its routes, bodies with a limit, status codes.
-- Try:   neap scripts/examples/rest.lua 127.0.0.1:8080
--        curl -X PUT -d 'some text' http://127.0.0.1:8080/keys/one
--        curl http://127.0.0.1:8080/keys/one

local http = require "neap.http"

local store = {}
local r = http.router()

r:use(function(_, res, next)
  res.headers["Cache-Control"] = "no-store"
  next()
end)

r:get("/keys", function(_, res)
  local names = {}
  for name in pairs(store) do names[#names + 1] = name .. "\n" end
  table.sort(names)
  res:send(200, table.concat(names), { ["Content-Type"] = "text/plain" })
end)

r:get("/keys/:name", function(req, res)
  local value = store[req.params.name]
  if value then return res:send(200, value) end
  res:send(404, "no such key\n")
end)

r:put("/keys/:name", function(req, res)
  local name, value, _, code = req.params.name, req:body()
  if not value then return res:send(code == "EMSGSIZE" and 413 or 400, "no value\n") end
  local status = store[name] and 204 or 201
  store[name] = value
  res:send(status)
end)

r:delete("/keys/:name", function(req, res)
  local name = req.params.name
  local status = store[name] and 204 or 404
  store[name] = nil
  res:send(status)
end)

local server = http.serve(arg[1] or "127.0.0.1:8080", { max_body = 65536 }, r)

print("rest: listening on " .. server.address)
