-- Certificates for specs, made by openssl(1): an authority, a server signed by it, a
-- client, and such as must be refused.

local helper = require "spec.support.helper"
local lfs = require "lfs"

local certs = {}

local script = [[
set -e
cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
sign() { # name subject days extensions
  key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  printf '%s' "$4" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$3" \
    -extfile "$1.ext" -out "$1.pem"
}
key ca.key
openssl req -x509 -key ca.key -subj "/CN=neap spec authority" -days 30 -out ca.pem
sign server "/CN=localhost" 30 "subjectAltName=DNS:localhost,DNS:*.example.test,IP:127.0.0.1,IP:::1"
sign other "/CN=other.test" 30 "subjectAltName=DNS:other.test,DNS:fo*.other.test"
sign client "/O=Neap/CN=a client" 30 "subjectAltName=email:client@example.test"
sign expired "/CN=localhost" -1 "subjectAltName=DNS:localhost,IP:127.0.0.1"
key self.key
openssl req -x509 -key self.key -subj "/CN=localhost" -days 30 -addext "subjectAltName=DNS:localhost" \
  -out self.pem
sign mid "/CN=neap spec intermediate" 30 "basicConstraints=critical,CA:TRUE"
key leaf.key
openssl req -new -key leaf.key -subj "/CN=localhost" -out leaf.csr
printf 'subjectAltName=DNS:localhost' > leaf.ext
openssl x509 -req -in leaf.csr -CA mid.pem -CAkey mid.key -CAcreateserial -days 30 -extfile leaf.ext \
  -out leaf.pem
cat leaf.pem mid.pem > chain.pem
mkdir -p trust
cp ca.pem trust/
openssl rehash trust
openssl ec -in server.key -aes128 -passout pass:secret -out locked.key
cat server.pem server.key > both.pem
]]

local dir

--- The directory with ca.pem, server.pem, server.key, other.*, client.*, expired.*, self.*,
-- locked.key (password "secret"), both.pem; leaf.*, signed by mid.*, both in chain.pem; trust/, a
-- directory as c_rehash makes them with ca.pem. In the build directory, made anew every day: apart,
-- then given its name, because the files of specs run at the same time and one of them is first.
local function directory()
  if dir then return dir end
  local named = helper.build .. os.date "/certs-%Y%m%d"
  if not lfs.attributes(named) then
    local new = helper.build .. "/new-certs-" .. helper.tmpdir():match "[^/]+$"
    assert(lfs.mkdir(new))
    helper.write_file(new .. "/make.sh", script)
    local made = os.execute(("sh %s/make.sh %s >%s/log 2>&1"):format(new, new, new))
    assert(made, "openssl failed: " .. (helper.read_file(new .. "/log") or ""))
    if not os.rename(new, named) then os.execute("rm -rf " .. new) end
  end
  assert(lfs.attributes(named .. "/both.pem"))
  dir = named
  return dir
end

function certs.path(name) return directory() .. "/" .. name end

--- Options of a server with the usual certificate, or the context that is in `more`, plus `more`.
function certs.server(more)
  local opts = { cert = certs.path "server.pem", key = certs.path "server.key" }
  if more and more.context then opts = {} end
  for key, value in pairs(more or {}) do opts[key] = value end
  return opts
end

--- Options of a client that trusts the authority, plus `more`.
function certs.client(more)
  local opts = { ca = certs.path "ca.pem" }
  for key, value in pairs(more or {}) do opts[key] = value end
  return opts
end

--- The flag by which Chromium believes a certificate of ours: the hash of its key.
function certs.chromium_flag(name)
  local pin = helper.run(("openssl x509 -in %s -pubkey -noout | openssl pkey -pubin -outform der"
    .. " | openssl dgst -sha256 -binary | base64"):format(certs.path(name)))
  return "--ignore-certificate-errors-spki-list=" .. pin:match "%S+"
end

return certs
