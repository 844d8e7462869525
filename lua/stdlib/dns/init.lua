-- neap.dns: asking a name server, being one.
--
-- resolve looks records up (neap.dns.resolve, by c-ares: the servers of resolv.conf or given
-- ones); query asks one given server, in Lua, and shows its whole answer; serve answers over UDP
-- and TCP by a function or by a zone (neap.dns.zone). The messages are neap.dns.codec's. Names for
-- connecting are neap.net's to look up.

local neap = require "neap"
local net = require "neap.net"
local codec = require "neap.dns.codec"
local resolve = require "neap.dns.resolve"

local QUERY_S, TRIES, EDNS_SIZE <const> = 5, 3, 1232 -- 1232: what every path carries whole

local dns = { codec = codec, reply = codec.reply, zone = require "neap.dns.zone",
  resolve = resolve.resolve, reverse = resolve.reverse, resolver = resolve.resolver }

local function argument(n, what, text)
  error(("bad argument #%d to '%s' (%s)"):format(n, what, text), 3)
end

local host_and_port, random_id = resolve.host_and_port, resolve.random_id

-- Whether the message answers the query: id and question (RFC 5452 4).
local function answers(reply, query)
  if not reply or not reply.qr or reply.id ~= query.id then return false end
  local asked, echoed = query.questions[1], reply.questions[1]
  if not echoed then return reply.rcode ~= "NOERROR" end -- FORMERR has none
  return #reply.questions == 1 and asked.type == echoed.type and asked.class == echoed.class
    and codec.canonical(asked.name) == codec.canonical(echoed.name)
end

local function timed_out(q) return nil, q.what .. ": timed out", "ETIMEDOUT" end

local function left(q) return math.max(0, q.by - neap.now()) end

local function fresh(q)
  q.message.id = random_id()
  return codec.encode(q.message)
end

-- One datagram, from a port of its own. What answers something else is ignored.
local function ask_once(q, patience)
  local by = math.min(q.by, neap.now() + patience)
  local socket <close>, message, code = net.datagram(nil, { connect = "udp://" .. q.server })
  if not socket then return nil, message, code end
  local ok
  ok, message, code = socket:send(fresh(q), { timeout = math.max(0, by - neap.now()) })
  while ok do
    local bytes
    bytes, message, code = socket:recv { timeout = math.max(0, by - neap.now()) }
    if not bytes then break end
    local reply = codec.decode(bytes) or codec.header(bytes)
    if reply and reply.tc and reply.qr and reply.id == q.message.id then return reply end
    if answers(reply, q.message) then return reply end
  end
  return nil, ("%s: %s"):format(q.what, message), code
end

-- Each try waits longer than the one before: 1, 2 and 4 sevenths of the time.
local function ask_udp(q)
  local whole = left(q)
  for try = 1, TRIES do
    local reply, message, code = ask_once(q, whole * 2 ^ (try - 1) / (2 ^ TRIES - 1))
    if reply or code ~= "ETIMEDOUT" then return reply, message, code end
  end
  return timed_out(q)
end

local function ask_tcp(q)
  local conn <close>, message, code = net.connect("tcp://" .. q.server, { timeout = left(q) })
  if not conn then return nil, ("%s: %s"):format(q.what, message), code end
  conn:write(string.pack(">s2", (fresh(q))))
  local bytes
  bytes, message, code = conn:unpack(">s2", { timeout = left(q) })
  if not bytes then
    return nil, ("%s: %s"):format(q.what, message or "the server closed"), code or "EPIPE"
  end
  local reply
  reply, message = codec.decode(bytes)
  if answers(reply, q.message) then return reply end
  return nil, ("%s: %s"):format(q.what, message or "the answer is to another query"), "EBADMSG"
end

local function ask(q, tcp)
  local reply, message, code
  if not tcp then
    reply, message, code = ask_udp(q)
    if not reply or not reply.tc then return reply, message, code end
  end
  return ask_tcp(q)
end

-- Servers from before EDNS refuse what they do not know (RFC 6891 7).
local function ask_with_edns(q, opts)
  if opts.edns ~= false then q.message.edns = { size = EDNS_SIZE } end
  local reply, message, code = ask(q, opts.tcp)
  local old = reply and not reply.edns and (reply.rcode == "FORMERR" or reply.rcode == "NOTIMP")
  if not old or not q.message.edns then return reply, message, code end
  q.message.edns = nil
  return ask(q, opts.tcp)
end

---@class neap.dns.query_options
---@field server string address of the name server: "127.0.0.1", "[::1]:5353", "udp://host:53"
---@field timeout? number seconds for everything together (5); datagrams are sent up to three times
---@field tcp? boolean not over UDP; without it TCP follows when an answer was truncated
---@field recurse? boolean ask the server to ask others (true)
---@field edns? boolean announce room for 1232 bytes (true)
---@field class? string "IN"

--- Asks a name server and waits for the answer.
--
-- An empty list: the name exists, without records of that type. Codes: NXDOMAIN, SERVFAIL, REFUSED
-- and the other codes of DNS, with the reply as fourth result; EINVAL (name or type), ETIMEDOUT,
-- ECONNREFUSED, EBADMSG, EPIPE and what connecting gives.
---@param name string
---@param kind? string "A" (default), "AAAA", "MX", "ANY", "TYPE1234" …
---@param opts neap.dns.query_options
---@return neap.dns.record[]|nil answers all of the answer, aliases (CNAME) included
---@return neap.dns.message|string reply or what went wrong
---@return string? code
---@return neap.dns.message? reply
function dns.query(name, kind, opts)
  if type(name) ~= "string" then argument(1, "query", "string expected, got " .. type(name)) end
  kind = kind or "A"
  if type(opts) ~= "table" or type(opts.server) ~= "string" then
    argument(3, "query", "option 'server': the address of a name server expected")
  end
  local timeout = opts.timeout or QUERY_S
  if type(timeout) ~= "number" or timeout < 0 or timeout ~= timeout then
    argument(3, "query", "option 'timeout': seconds expected, got " .. tostring(timeout))
  end
  local question = { name = name, type = kind, class = opts.class or "IN" }
  local q = { server = host_and_port(opts.server), by = neap.now() + timeout,
    message = { id = 0, rd = opts.recurse ~= false, questions = { question } } }
  q.what = ("query %s %s at %s"):format(name, tostring(kind), q.server)
  local ok, text, code = codec.encode(q.message)
  if not ok then return nil, ("%s: %s"):format(q.what, text), code end
  local reply
  reply, text, code = ask_with_edns(q, opts)
  if not reply then return nil, text, code end
  if reply.rcode == "NOERROR" then return reply.answers, reply end
  return nil, ("%s: %s"):format(q.what, reply.rcode), reply.rcode, reply
end

local later = { serve = "neap.dns.serve" }

return setmetatable(dns, {
  __index = function(_, key)
    if not later[key] then return nil end
    dns[key] = require(later[key])
    return dns[key]
  end,
})
