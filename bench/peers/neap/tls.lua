-- tls.lua ADDR: TLS; answers "GET /big" with bytes without end, everything else with a few.

local net = require "neap.net"

local piece = ("x"):rep(65536)

net.serve("tls://" .. arg[1], {
  cert = os.getenv "BENCH_CERT", key = os.getenv "BENCH_KEY", backlog = 4096,
  tickets = false, -- as the other servers here: each handshake is a whole one
}, function(conn)
  local request = assert(conn:read_until "\r\n\r\n")
  if not request:find "^GET /big " then
    conn:write "HTTP/1.0 200 OK\r\nContent-Length: 14\r\n\r\nHello, World!\n"
    return
  end
  conn:write "HTTP/1.0 200 OK\r\n\r\n"
  while conn:write(piece) do end
end)
