-- dig.lua: asks name servers, as dig(1) does.
--
-- Shows: records by type from the system's name servers or a given one, all types at once.
-- Try:   neap scripts/examples/dig.lua example.org MX
--        neap scripts/examples/dig.lua @127.0.0.1:5353 www.example.org      (dns_server.lua's)
--        neap scripts/examples/dig.lua -x 192.0.2.1

local dns = require "neap.dns"
local neap = require "neap"

local server, name, kinds, reverse = nil, nil, {}, false
for _, word in ipairs(arg) do
  if word:sub(1, 1) == "@" then server = word:sub(2)
  elseif word == "-x" then reverse = true
  elseif not name then name = word
  else kinds[#kinds + 1] = word:upper() end
end
if not name then
  io.stderr:write "usage: dig.lua [@server] [-x] name [type ...]\n"
  os.exit(2)
end

-- What stands behind the type of a record, in the order of zone files.
local order = { "address", "priority", "weight", "preference", "port", "target", "exchange",
  "mname", "rname", "serial", "refresh", "retry", "expire", "minimum", "flags", "tag", "value" }

local function text_of(rr)
  local words = { ("%s. %d %s"):format(rr.name, rr.ttl, rr.type) }
  for _, field in ipairs(order) do words[#words + 1] = rr[field] end
  for _, s in ipairs(rr.strings or {}) do words[#words + 1] = ("%q"):format(s) end
  return table.concat(words, " ")
end

local resolver <close> = assert(dns.resolver { servers = server })
local failed = false

local function ask(kind)
  local list, why = resolver:resolve(name, kind)
  if not list then
    io.stderr:write("; ", why, "\n")
    failed = true
  end
  for _, rr in ipairs(list or {}) do print(text_of(rr)) end
end

if reverse then
  for _, found in ipairs(assert(resolver:reverse(name))) do print(found .. ".") end
else
  if not kinds[1] then kinds = { "A", "AAAA", "MX", "TXT" } end
  neap.group(function(g)
    for _, kind in ipairs(kinds) do g:spawn(ask, kind) end
  end)
end
if failed then os.exit(1) end
