-- http_files.lua: a directory over HTTPS, or HTTP where no certificate is given.
--
-- Shows: http.files as the whole handler; the address decides about TLS; an access log.
-- Try:   openssl req -x509 -nodes -days 9 -keyout k.pem -out c.pem -subj /CN=localhost
--        neap scripts/examples/http_files.lua docs 127.0.0.1:8443 c.pem k.pem
--        curl -k -r 0-99 https://127.0.0.1:8443/manual.md; wget --no-check-certificate -c …

local http = require "neap.http"

local root, address, cert, key = arg[1] or ".", arg[2] or "127.0.0.1:8080", arg[3], arg[4]

local opts = { access_log = print }
if cert then
  address = "tls://" .. address
  opts.cert, opts.key = cert, key
end
local server = http.serve(address, opts, http.files(root))

print("http_files: listening on " .. server.address .. ", for " .. root)
