-- scgi.lua: an application server behind nginx, by SCGI (https://python.ca/scgi/protocol.txt).
--
-- Shows: a codec made of codecs: a netstring of headers, which says how long the body is.
-- Try:   neap scripts/examples/scgi.lua [address]
--        nginx with: location / { include scgi_params; scgi_pass 127.0.0.1:4000; }

local codec = require "neap.codec"
local net = require "neap.net"
local lpeg = require "lpeg"

local word = lpeg.C((1 - lpeg.P "\0") ^ 0) * "\0"
local fields = lpeg.Cf(lpeg.Ct "" * lpeg.Cg(word * word) ^ 1, rawset)
local headers = codec.netstring(64 << 10):grammar(fields)

local function body(h)
  local length = math.tointeger(tonumber(h.CONTENT_LENGTH))
  if h.SCGI ~= "1" or not length then return nil, "no SCGI request" end
  return length
end

local request = codec.sequence { headers, body, max = 1 << 20 }

local server = net.serve(arg[1] or "127.0.0.1:4000", { timeout = 30 }, function(conn)
  local message = conn:read_message(request)
  if not message then return end
  local h, text = table.unpack(message)
  conn:write("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n",
    h.REQUEST_METHOD, " ", h.REQUEST_URI, "\n", text:upper())
end)
print("scgi: listening on " .. server.address)
