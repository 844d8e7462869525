-- http_hello.lua: answers every HTTP request with a greeting.
--
-- Shows: http.serve; limits and deadlines are on, keep-alive and pipelining need no line.
-- Try:   neap scripts/examples/http_hello.lua 127.0.0.1:8080
--        curl -i http://127.0.0.1:8080/

local http = require "neap.http"

local server = http.serve(arg[1] or "127.0.0.1:8080", function(_, res)
  res:send(200, "Hello, World!\n", { ["Content-Type"] = "text/plain" })
end)

print("http: listening on " .. server.address)
