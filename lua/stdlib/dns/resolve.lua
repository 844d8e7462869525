-- neap.dns.resolve: records from name servers, by c-ares; the messages are neap.dns.codec's.
--
-- A resolver knows its servers and carries any number of questions at once; c-ares asks again, goes
-- on to the next server and comes back over TCP for what was truncated. What an answer holds beside
-- the records asked for and the aliases that lead to them is left out.

local core = require "neap.dns.core"
local codec = require "neap.dns.codec"
local face = require "neap.face"
local address = require("neap.codec.core").address

local RESOLVE_S, TRIES, TRIES_MAX, EDNS_SIZE, ALIASES_MAX <const> = 5, 3, 10, 1232, 16

local resolve = {}

---@class neap.resolver
local methods = core.methods

-- What a resolver was made with: seconds of a question, whether it has an OPT record.
local settings = setmetatable({ [core.default] = { timeout = RESOLVE_S, edns = true } },
  { __mode = "k" })

-- "127.0.0.1", "::1", "[::1]:5353", "udp://host:53" … -> "host:port"
function resolve.host_and_port(server)
  local rest = server:gsub("^%l+://", "")
  if rest:find ":.*:" and not rest:find "^%[" then rest = "[" .. rest .. "]" end
  return rest:find "[^:]:%d+$" and not rest:find "%]$" and rest or rest .. ":53"
end

-- Told at the line of the public function's caller (neap.face).
local function argument(n, what, format, ...)
  error(("bad argument #%d to '%s' (%s)"):format(n, what, format:format(...)))
end

local function server_list(servers, n, what)
  if type(servers) == "string" then servers = { servers } end
  if type(servers) ~= "table" or #servers == 0 then
    argument(n, what, "option 'servers': addresses of name servers expected")
  end
  local list = {}
  for i, s in ipairs(servers) do
    local place = type(s) == "string" and resolve.host_and_port(s)
    local a = place and address(place, "udp")
    if not a or not a.literal then
      argument(n, what, "option 'servers': an IP address expected, got %s", tostring(s))
    end
    list[i] = place
  end
  return table.concat(list, ",")
end

local function check_seconds(opts, n, what)
  local s = opts.timeout
  if s == nil then return nil end
  if type(s) ~= "number" or s < 0 or s ~= s then
    argument(n, what, "option 'timeout': seconds expected, got %s", tostring(s))
  end
  return s
end

local known = { servers = true, timeout = true, tries = true, tcp = true, edns = true }

local function check_options(opts, n, what)
  if type(opts) ~= "table" then
    argument(n, what, "table expected, got %s", type(opts))
  end
  for key in pairs(opts) do
    if not known[key] then
      argument(n, what, "unknown option '%s'; known: edns, servers, tcp, timeout, tries",
        tostring(key))
    end
  end
  local tries = opts.tries
  if tries ~= nil and (math.type(tries) ~= "integer" or tries < 1 or tries > TRIES_MAX) then
    argument(n, what, "option 'tries': an integer of 1 to %d expected", TRIES_MAX)
  end
end

local function make(opts, n, what)
  check_options(opts, n, what)
  local timeout = check_seconds(opts, n, what) or RESOLVE_S
  local tries = opts.tries or TRIES
  local servers = opts.servers ~= nil and server_list(opts.servers, n, what) or nil
  -- each round waits twice as long as the one before: 1, 2 and 4 sevenths of the time
  local first_s = math.min(math.max(timeout, 0.001), 3600) / (2 ^ tries - 1)
  local edns = opts.edns ~= false
  local r, text, code = core.open(servers, math.max(math.ceil(first_s * 1000), 1), tries,
    edns and EDNS_SIZE or 0, opts.tcp == true)
  if not r then return nil, text, code end
  settings[r] = { timeout = timeout, edns = edns }
  return r
end

---@class neap.dns.resolver_options
---@field servers? string|string[] name servers: "127.0.0.1", "[::1]:5353" (those of resolv.conf)
---@field timeout? number seconds for a question, with all its tries (5)
---@field tries? integer rounds over the servers, 1 to 10; each waits twice as long as the last (3)
---@field tcp? boolean not over UDP; without it TCP follows when an answer was truncated
---@field edns? boolean announce room for 1232 bytes (true)

--- A resolver of its own, to be closed. Without `servers` it asks those of /etc/resolv.conf as they
-- are now. It also serves `net.connect(addr, {resolver = r})`.
---@param opts? neap.dns.resolver_options
---@return neap.resolver|nil resolver
---@return string? message there was no memory for it
---@return string? code
function resolve.resolver(opts) return make(opts or {}, 1, "resolver") end

-- ---- answers

-- Records of the type that belong to the name or to what its aliases lead to.
local function matching(reply, name, kind)
  local keys, wanted = {}, { [codec.canonical(name)] = true }
  local function key_of(text)
    keys[text] = keys[text] or codec.canonical(text)
    return keys[text]
  end
  for _ = 1, ALIASES_MAX do
    local found = false
    for _, rr in ipairs(reply.answers) do
      if rr.type == "CNAME" and wanted[key_of(rr.name)] and not wanted[key_of(rr.target)] then
        wanted[key_of(rr.target)], found = true, true
      end
    end
    if not found then break end
  end
  local list = {}
  for _, rr in ipairs(reply.answers) do
    if (rr.type == kind or kind == "ANY") and wanted[key_of(rr.name)] then list[#list + 1] = rr end
  end
  return list
end

-- A number that nobody can guess (RFC 5452); the source port is the kernel's choice.
function resolve.random_id()
  local f = io.open("/dev/urandom", "rb")
  if not f then return math.random(0, 65535) end
  f:setvbuf("full", 2)
  local bytes = f:read(2)
  f:close()
  return (string.unpack(">I2", bytes))
end

-- Sends the question -> the reply; nil, message, code.
local function ask(resolver, question, what, edns, opts)
  local query, text, code = codec.encode { id = resolve.random_id(), rd = true,
    questions = { question }, edns = edns and { size = EDNS_SIZE } or nil }
  if not query then return nil, ("resolve %s: %s"):format(what, text), code end
  local bytes
  bytes, text, code = resolver:ask(query, what, opts)
  if not bytes then return nil, text, code end
  local reply
  reply, text, code = codec.decode(bytes)
  if reply and not reply.qr then
    reply, text, code = nil, "a query in place of the answer", "EBADMSG"
  end
  if not reply then return nil, ("resolve %s: %s"):format(what, text), code end
  return reply
end

local function resolve_by(resolver, name, kind, timeout)
  local what = ("%s %s"):format(name, kind)
  local set = settings[resolver]
  local question = { name = name, type = kind, class = "IN" }
  local by = require("neap").now() + (timeout or set.timeout)
  local opts = { timeout = timeout or set.timeout }
  local reply, text, code = ask(resolver, question, what, set.edns, opts)
  -- a server from before EDNS, when the resolver has met it before
  if reply and reply.rcode == "FORMERR" and not reply.edns and set.edns then
    opts.timeout = math.max(0, by - require("neap").now())
    reply, text, code = ask(resolver, question, what, false, opts)
  end
  if not reply then return nil, text, code end
  if reply.rcode ~= "NOERROR" then
    return nil, ("resolve %s: %s"):format(what, reply.rcode), reply.rcode, reply
  end
  local list = matching(reply, name, kind)
  if list[1] then return list, reply end
  return nil, ("resolve %s: no such records"):format(what), "NODATA", reply
end

local function check_question(name, kind, what)
  if type(name) ~= "string" then argument(1, what, "string expected, got %s", type(name)) end
  if kind ~= nil and type(kind) ~= "string" then
    argument(2, what, "the name of a type expected, got %s", type(kind))
  end
end

-- The question by a resolver made for it where the options ask for one, else by the default one.
local function once(name, kind, opts, n, what)
  opts = opts or {}
  check_options(opts, n, what)
  local timeout = check_seconds(opts, n, what)
  local plain = opts.servers == nil and opts.tries == nil and opts.tcp == nil and opts.edns == nil
  if plain then return resolve_by(core.default, name, kind, timeout) end
  local r <close>, text, code = make(opts, n, what)
  if not r then return nil, text, code end
  local list, reply, why, message = resolve_by(r, name, kind, timeout)
  return list, reply, why, message
end

--- Looks records up. The name is taken whole: no search domains, no /etc/hosts (net.resolve has
-- them).
--
-- Codes: NXDOMAIN (no such name), NODATA (no such records), SERVFAIL, REFUSED, NOTIMP (every server
-- said so) and the other codes of DNS, with the reply as fourth result where there is one; EINVAL
-- (name or type), ETIMEDOUT, ECONNREFUSED (no server answers), ENETUNREACH, EMFILE (no socket),
-- EBADMSG (an answer that is none), ENOBUFS (4096 questions are under way).
---@param name string
---@param kind? string "A" (default), "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT",
--- "CAA", "ANY", "TYPE1234" …
---@param opts? neap.dns.resolver_options with other than `timeout` a resolver is made for it
---@return neap.dns.record[]|nil records of the type; of the name its aliases lead to
---@return neap.dns.message|string reply or what went wrong
---@return string? code
---@return neap.dns.message? reply
function resolve.resolve(name, kind, opts)
  check_question(name, kind, "resolve")
  return once(name, kind or "A", opts, 3, "resolve")
end

-- "192.0.2.1" -> "1.2.0.192.in-addr.arpa"; nil for what is no address.
local function reverse_name(ip)
  local a, b, c, d = ip:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
  local kind = a and "A" or "AAAA"
  local bytes = codec.encode { id = 0,
    answers = { { name = ".", type = kind, address = ip } } }
  if not bytes then return nil end
  if a then return ("%s.%s.%s.%s.in-addr.arpa"):format(d, c, b, a) end
  local nibbles = bytes:sub(-16):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
  return (nibbles:reverse():gsub(".", "%0.")) .. "ip6.arpa"
end

local function names_of(list, ...)
  if not list then return nil, ... end
  local names = {}
  for i, rr in ipairs(list) do names[i] = rr.target end
  return names, ...
end

local function check_ip(ip)
  if type(ip) ~= "string" then argument(1, "reverse", "string expected, got %s", type(ip)) end
  local name = reverse_name(ip)
  if name then return name end
  return nil, ("reverse %s: not an IP address"):format(ip), "EINVAL"
end

--- The names of an IP address (its PTR records).
---@param ip string "192.0.2.1", "2001:db8::1"
---@param opts? neap.dns.resolver_options
---@return string[]|nil names
---@return neap.dns.message|string reply or what went wrong
---@return string? code as resolve
---@return neap.dns.message? reply
function resolve.reverse(ip, opts)
  local name, text, code = check_ip(ip)
  if not name then return nil, text, code end
  return names_of(once(name, "PTR", opts, 2, "reverse"))
end

-- ---- methods

local function check_timeout(opts, n, what)
  if opts == nil then return nil end
  if type(opts) ~= "table" then argument(n, what, "table expected, got %s", type(opts)) end
  return check_seconds(opts, n, what)
end

--- As dns.resolve, by this resolver. ECANCELED once it is closed.
---@param name string
---@param kind? string "A"
---@param opts? { timeout: number }
---@return neap.dns.record[]|nil records
---@return neap.dns.message|string reply or what went wrong
---@return string? code
---@return neap.dns.message? reply
function methods:resolve(name, kind, opts)
  check_question(name, kind, "resolve")
  return resolve_by(self, name, kind or "A", check_timeout(opts, 3, "resolve"))
end

--- As dns.reverse, by this resolver.
---@param ip string
---@param opts? { timeout: number }
---@return string[]|nil names
---@return neap.dns.message|string reply or what went wrong
---@return string? code
function methods:reverse(ip, opts)
  local name, text, code = check_ip(ip)
  if not name then return nil, text, code end
  return names_of(resolve_by(self, name, "PTR", check_timeout(opts, 2, "reverse")))
end

for _, name in ipairs { "resolver", "resolve", "reverse" } do
  resolve[name] = face(resolve[name])
end
for _, name in ipairs { "resolve", "reverse" } do methods[name] = face(methods[name]) end

return resolve
