-- rest.lua: a key-value store over HTTP: PUT, GET, DELETE of /keys/NAME, and GET /keys for a list.
--
-- Shows: methods and paths, bodies with a limit, status codes.
-- Try:   neap scripts/examples/rest.lua 127.0.0.1:8080
--        curl -X PUT -d 'some text' http://127.0.0.1:8080/keys/one
--        curl http://127.0.0.1:8080/keys/one

local http = require "neap.http"

local store = {}

local methods = {}

function methods.GET(_, res, name)
  local value = store[name]
  if value then return res:send(200, value) end
  res:send(404, "no such key\n")
end

function methods.PUT(req, res, name)
  local value, _, code = req:body()
  if not value then return res:send(code == "EMSGSIZE" and 413 or 400, "no value\n") end
  local status = store[name] and 204 or 201
  store[name] = value
  res:send(status)
end

function methods.DELETE(_, res, name)
  local status = store[name] and 204 or 404
  store[name] = nil
  res:send(status)
end

local server = http.serve(arg[1] or "127.0.0.1:8080", { max_body = 65536 }, function(req, res)
  if req.path == "/keys" then
    local names = {}
    for name in pairs(store) do names[#names + 1] = name .. "\n" end
    table.sort(names)
    return res:send(200, table.concat(names), { ["Content-Type"] = "text/plain" })
  end
  local name = req.path:match "^/keys/([^/]+)$"
  if not name then return res:send(404, "not found\n") end
  local method = methods[req.method]
  if not method then return res:send(405, "not allowed\n", { Allow = "GET, PUT, DELETE" }) end
  method(req, res, http.decode(name))
end)

print("rest: listening on " .. server.address)
