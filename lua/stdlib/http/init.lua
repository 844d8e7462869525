-- neap.http: HTTP/1.1 (RFC 9110, RFC 9112), server and client, over any stream.

local client = require "neap.http.client"
local cookies = require "neap.http.cookies"
local face = require "neap.face"
local files = require "neap.http.file"
local net = require "neap.net"
local pool = require "neap.http.pool"
local proxy = require "neap.http.proxy"
local request = require "neap.http.request"
local router = require "neap.http.router"
local server = require "neap.http.server"

local http = {}

--- Serves HTTP: returns at once with a server that listens, as net.serve does, whose options it
-- takes too (`cert` and `key` for tls:// addresses among them).
--
-- The handler runs once per request; requests of one connection run one after the other. Without
-- an answer the client gets 404, after an error 500. Malformed and ambiguous requests never reach
-- it: they are answered (400, 408, 413 …, 431, 501, 505), logged, and end their connection.
--
-- Its stop(grace) lets connections between two requests go at once, and waits for requests alone.
---@param addr string|neap.listener
---@param opts? neap.http.serve_options
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return neap.server
http.serve = face(function(addr, opts, handler)
  local on_connection, rest, wind_down = server.handler(opts, handler)
  local s = net.serve(addr, rest, on_connection)
  s.on_stop = wind_down
  return s -- no tail call: face() looks for the line that made an error
end)

--- A handler for net.serve that speaks HTTP on the connections it is given.
---@param opts? neap.http.serve_options
---@param handler fun(req: neap.http.request, res: neap.http.response)
---@return fun(conn: neap.stream)
http.handler = face(function(opts, handler) return (server.handler(opts, handler)) end)

--- A handler that answers GET and HEAD with the files of a directory, as response:file does.
-- Nothing leads out of it: no "..", encoded or not, and no link (absolute ones are refused
-- wherever they lead). A directory's name without its slash is redirected; with it its index
-- answers, or 404: nothing is listed.
---@param root string the directory, looked up at each request
---@param opts? neap.http.files_options
---@return fun(req: neap.http.request, res: neap.http.response)
http.files = face(function(root, opts) return (files(root, opts)) end)

--- A router: a handler that chooses among others by method and path.
---@return neap.http.router
function http.router() return router.new() end

--- "a%20b" -> "a b"; with `plus`, "+" is a blank, as in forms.
---@param s string
---@param plus? boolean
---@return string
http.decode = request.decode

--- "a=1&b=x+y" -> { a = "1", b = "x y" }; the last one of a name counts.
---@param s string
---@return table<string, string>
http.decode_form = request.decode_form

--- Sends a request and waits for the head of its reply; the body is read with reply:body() or
-- reply:chunks(). `local reply <close> = …`, or reading to the end, lets go of the connection,
-- which is kept for the next request to that server with the same options (http.pool says for how
-- long).
--
-- Redirects are followed; Authorization, Cookie and the client's certificate are left out for
-- another server. A request that may be repeated (GET, HEAD, OPTIONS, TRACE, PUT, DELETE, with a
-- body that is no iterator) is sent again when a kept connection turns out to be closed. An answer
-- that comes before the body has gone ends the sending. Codes: EINVAL (URL), ELOOP (redirects),
-- EBADMSG (no HTTP), EPIPE (closed without answer), EPROXY (the proxy makes no connection: the
-- message has its status), ETIMEDOUT, those of net.connect.
---@param url string http:// or https://
---@param opts? neap.http.request_options
---@return neap.http.reply|nil reply
---@return string? message
---@return string? code
http.request = face(function(url, opts)
  local r, message, code = client.request(url, opts, "request")
  return r, message, code
end)

--- http.request with GET.
---@param url string
---@param opts? neap.http.request_options
---@return neap.http.reply|nil reply
---@return string? message
---@return string? code
http.get = face(function(url, opts)
  local r, message, code = client.request(url, opts, "get")
  return r, message, code
end)

--- http.request with POST and a body.
---@param url string
---@param body string|fun(): string|nil
---@param opts? neap.http.request_options
---@return neap.http.reply|nil reply
---@return string? message
---@return string? code
http.post = face(function(url, body, opts)
  local all = { method = "POST", body = body }
  for key, value in pairs(opts or {}) do all[key] = value end
  local r, message, code = client.request(url, all, "post")
  return r, message, code
end)

--- Credentials for the header Authorization (RFC 7617): "Basic dTpw".
---@param user string without ":"
---@param password string
---@return string
http.basic = face(function(user, password)
  if type(user) ~= "string" or user:find ":" then
    error("bad argument #1 to 'basic' (a name without ':' expected)", 2)
  elseif type(password) ~= "string" then
    error("bad argument #2 to 'basic' (string expected, got " .. type(password) .. ")", 2)
  end
  return (proxy.basic(user, password))
end)

--- A cookie jar (RFC 6265) for the option `cookies` of requests. It lives in memory; at most 50
-- cookies of a domain and 3000 in all, 4096 bytes each, those that were longest not used go first.
---@param opts? neap.http.cookies_options
---@return neap.http.cookies
http.cookies = face(function(opts) return (cookies.new(opts)) end)

--- Sets how many connections are kept for further requests and how long, for all of this runtime.
-- Those that are too many or too old now are closed, the oldest first; what grows too old later is
-- closed by the next request. 0 keeps none.
---@param opts neap.http.pool_options
http.pool = face(function(opts) pool.configure(opts) end)

--- Closes the connections that are kept for further requests.
http.forget = pool.forget

return http
