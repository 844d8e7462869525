-- tls_proxy.lua: ends TLS in front of a server that has none; HUP reads the certificate again.
--
-- Shows: a tls:// address, one context that is reloaded while connections stay, net.pipe.
-- Try:   openssl req -x509 -nodes -days 9 -keyout k.pem -out c.pem -subj /CN=localhost
--        neap scripts/examples/tls_proxy.lua c.pem k.pem 127.0.0.1:9443 127.0.0.1:6379
--        redis-cli -p 9443 --tls --cacert c.pem --sni localhost ping; kill -HUP the proxy

local neap = require "neap"
local net = require "neap.net"
local tls = require "neap.tls"

local cert, key = arg[1] or "c.pem", arg[2] or "k.pem"
local from, to = arg[3] or "127.0.0.1:9443", arg[4] or "127.0.0.1:6379"

local context = assert(tls.context { server = true, cert = cert, key = key })
local server = net.serve("tls://" .. from, { context = context }, function(conn)
  local upstream <close> = assert(net.connect(to, { timeout = 5 }))
  net.pipe(conn, upstream)
end)

print("tls proxy: listening on " .. server.address .. ", for " .. to)

for _ in neap.signals "HUP" do
  local ok, message = context:reload()
  print(ok and "tls proxy: certificate reloaded" or "tls proxy: " .. message)
end
