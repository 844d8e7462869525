-- Servers for specs of HTTP: each ends with the test, and with it the connections that neap.http's
-- client keeps.

local helper = require "spec.support.helper"
local http = require "neap.http"
local net = require "neap.net"

local servers = {}

--- The URL of a server, which ends with the test.
function servers.url(server)
  helper.after(function()
    http.forget()
    server:stop(0)
  end)
  return (server.address:gsub("^tcp", "http"):gsub("^tls", "https"):gsub("^unix:.*", "http://x"))
end

--- http.serve on 127.0.0.1, or where `address` says: the server, its URL, the lines of its log.
function servers.http(handler, opts, address)
  local log, all = {}, {}
  for name, value in pairs(opts or {}) do all[name] = value end
  all.log = all.log or function(line) log[#log + 1] = line end
  local server = http.serve(address or "127.0.0.1:0", all, handler)
  return server, servers.url(server), log
end

--- A server whose connections are the handler's, which gets the head of a request, too: its URL.
function servers.raw(handler, address)
  local server = net.serve(address or "127.0.0.1:0", { log = function() end }, function(conn)
    handler(conn, conn:read_until "\r\n\r\n")
  end)
  return servers.url(server)
end

--- A server that says these bytes to each request: its URL.
function servers.canned(bytes)
  return servers.raw(function(conn) conn:write(bytes) end)
end

return servers
