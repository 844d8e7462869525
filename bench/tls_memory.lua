-- neap tls_memory.lua [N [AT_ONCE [VERSION]]]: what an idle TLS connection holds, on each side.
--
-- Resident bytes per connection, with its task, of a server and of a client in a process of its
-- own, after a line and its answer; of N (2000) that were opened AT_ONCE (1) at a time.

local neap = require "neap"
local net = require "neap.net"
local process = require "neap.process"
local tls = require "neap.tls"

if arg[1] == "serve" then
  local opts = { cert = arg[2], timeout = 600, handshake_timeout = 60, log = function() end }
  local server = net.serve("tls://127.0.0.1:0", opts, function(conn)
    for line in conn:lines() do conn:write(line, "\n") end
  end)
  neap.stdout:write(server.address, "\n")
  return
end

local count, at_once, version = tonumber(arg[1] or 2000), tonumber(arg[2] or 1), arg[3]

local function resident(pid)
  for line in io.lines(("/proc/%s/status"):format(pid)) do
    local kib = line:match "^VmRSS:%s+(%d+)"
    if kib then return tonumber(kib) * 1024 end
  end
end

local cert = os.tmpname()
assert(process.run { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
  "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", cert,
  "-out", cert .. ".pem" })
assert(os.execute(("cat %s.pem >> %s"):format(cert, cert)))
local server <close> = assert(process.spawn({ "/proc/self/exe", arg[0], "serve", cert },
  { stdout = "pipe" }))
local address = assert(server.stdout:read())
os.remove(cert)
os.remove(cert .. ".pem")

local context = assert(tls.context { verify = false, max_version = version })
local held = {}

local function open()
  local conn = assert(net.connect(address, { context = context, timeout = 60 }))
  conn:write "hello\n"
  assert(conn:read())
  held[#held + 1] = conn
end

for _ = 1, 100 do open() end
collectgarbage()
local server_before, client_before = resident(server.pid), resident "self"
local left = count
neap.group(function(g)
  for _ = 1, at_once do
    g:spawn(function()
      while left > 0 do
        left = left - 1
        open()
      end
    end)
  end
end)
neap.sleep(0.2)
collectgarbage()
print(("%s, %d connections: server %.0f, client %.0f bytes each"):format(held[1].tls.version, count,
  (resident(server.pid) - server_before) / count, (resident "self" - client_before) / count))
for _, conn in ipairs(held) do conn:abort() end
