-- What specs of TLS share: a server of ours, openssl(1) as its client and as a server for ours.

local certs = require "spec.support.certs"
local helper = require "spec.support.helper"
local net = require "neap.net"

local peers = {}

function peers.upper(conn)
  for line in conn:lines() do conn:write(line:upper(), "\n") end
end

--- A server with the usual certificate and `more` options, until the test ends: it, its port, the
-- lines of its log.
function peers.serve(more, handler)
  local logged = {}
  local opts = certs.server(more)
  opts.log = function(line) logged[#logged + 1] = line end
  local server = net.serve("tls://127.0.0.1:0", opts, handler or peers.upper)
  helper.after(function() server:stop(0) end)
  return server, server.address:match ":(%d+)$", logged
end

--- openssl s_client as a client of ours: what it said, and its exit status.
function peers.s_client(port, args, stdin)
  local command = "openssl s_client -connect 127.0.0.1:%s -CAfile %s -verify_return_error %s"
  command = command:format(port, certs.path "ca.pem", args or "")
  local p = helper.start(command, { stdin = stdin or "" })
  local status = p:wait()
  return p:out() .. p:err(), status
end

--- A port that is free now.
function peers.free_port()
  local l = assert(net.listen "127.0.0.1:0")
  local port = l.address:match ":(%d+)$"
  l:close()
  return port
end

--- openssl s_server, which answers each line reversed: its address, and the process. `cert`: the
-- name of the certificate, "server".
function peers.s_server(args, cert)
  local port = peers.free_port()
  local command = "openssl s_server -accept 127.0.0.1:%s -rev -cert %s -key %s %s"
  local path = certs.path(cert or "server")
  local p = helper.start(command:format(port, path .. ".pem", path .. ".key", args or ""))
  p:expect "ACCEPT"
  return "tls://127.0.0.1:" .. port, p
end

return peers
