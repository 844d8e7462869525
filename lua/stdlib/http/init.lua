-- neap.http: HTTP/1.1 (RFC 9110, RFC 9112), server and client, over any stream.

local face = require "neap.face"
local net = require "neap.net"
local request = require "neap.http.request"
local server = require "neap.http.server"

local http = {}

--- Serves HTTP: returns at once with a server that listens, as net.serve does, whose options it
-- takes too (`cert` and `key` for tls:// addresses among them).
--
-- The handler runs once per request; requests of one connection run one after the other. Without
-- an answer the client gets 404, after an error 500. Malformed and ambiguous requests never reach
-- it: they are answered (400, 408, 413 …, 431, 501, 505), logged, and end their connection.
---@param addr string|neap.listener
---@param opts? neap.http.serve_options
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.server
http.serve = face(function(addr, opts, handler)
  local on_connection, rest = server.handler(opts, handler)
  local s = net.serve(addr, rest, on_connection)
  return s -- no tail call: face() looks for the line that made an error
end)

--- A handler for net.serve that speaks HTTP on the connections it is given.
---@param opts? neap.http.serve_options
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return fun(conn: neap.stream)
http.handler = face(function(opts, handler) return (server.handler(opts, handler)) end)

--- "a%20b" -> "a b"; with `plus`, "+" is a blank, as in forms.
---@param s string
---@param plus? boolean
---@return string
http.decode = request.decode

--- "a=1&b=x+y" -> { a = "1", b = "x y" }; the last one of a name counts.
---@param s string
---@return table<string, string>
http.decode_form = request.decode_form

return http
