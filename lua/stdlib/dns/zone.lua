-- neap.dns.zone: a table of records that answers queries, as RFC 1034 4.3.2 says.
--
-- Pure: a query in, a reply out. Aliases are followed inside the zone, missing names and types are
-- denied with the zone's SOA, "*" stands for names that do not exist (RFC 4592). It delegates
-- nothing, signs nothing and transfers nothing.

local codec = require "neap.dns.codec"

local ALIASES_MAX <const> = 16

local zone = {}
zone.__index = zone
zone.__name = "neap.dns.zone"

-- "www" and "@" are of the zone, "www.example.org." is whole.
local function absolute(name, origin)
  if type(name) ~= "string" or name:sub(-1) == "." then return name end
  if name == "@" then return origin end
  return origin == "." and name or name .. "." .. origin
end

local named = { "target", "exchange", "mname", "rname" }

-- What follows the first label, whose dots are escaped; nil after the last.
local function parent(key)
  local from = 1
  while true do
    local at = key:find("[.\\]", from)
    if not at then return nil end
    if key:sub(at, at) == "." then return key:sub(at + 1) end
    from = at + 2
  end
end

-- Names between the zone and its records exist, though without records (RFC 8020).
local function make_ancestors(self, key)
  while key ~= self.key do
    key = parent(key) or self.key
    self.nodes[key] = self.nodes[key] or {}
  end
end

local function add(self, given)
  local rr = {}
  for k, v in pairs(given) do rr[k] = v end
  rr.name = absolute(rr.name or "@", self.origin)
  for _, field in ipairs(named) do rr[field] = absolute(rr[field], self.origin) end
  rr.ttl = rr.ttl or self.ttl
  local ok, text = codec.encode { id = 0, answers = { rr } }
  if not ok then return nil, text end
  local key = codec.canonical(rr.name)
  if not self:contains(key) then return nil, rr.name .. " is not in the zone" end
  make_ancestors(self, key)
  local node = self.nodes[key] or {}
  self.nodes[key] = node
  node[rr.type] = node[rr.type] or {}
  table.insert(node[rr.type], rr)
  if node.CNAME and (next(node) ~= "CNAME" or next(node, "CNAME") or node.CNAME[2]) then
    return nil, rr.name .. " has other records beside a CNAME"
  end
  return true
end

--- Whether a name (as codec.canonical gives it) lies in the zone.
function zone:contains(key)
  while key and key ~= self.key do key = parent(key) end
  return key ~= nil or self.key == "."
end

-- The node of a name; that of the wildcard beneath its closest existing ancestor; nil.
local function find(self, key)
  if self.nodes[key] then return self.nodes[key] end
  while key and key ~= self.key do
    key = parent(key) or self.key
    if self.nodes[key] then return self.nodes[key == "." and "*" or "*." .. key] end
  end
end

local function append(list, node, kind, name)
  for _, rr in ipairs(node[kind] or {}) do
    local copy = rr
    if rr.name ~= name and codec.canonical(rr.name) ~= codec.canonical(name) then -- a wildcard's
      copy = {}
      for k, v in pairs(rr) do copy[k] = v end
      copy.name = name
    end
    list[#list + 1] = copy
  end
end

local function kinds_of(node)
  local list = {}
  for kind in pairs(node) do list[#list + 1] = kind end
  table.sort(list)
  return list
end

-- How long that there is no such thing may be remembered (RFC 2308 3).
local function deny(self, reply)
  local soa = {}
  for k, v in pairs(self.soa) do soa[k] = v end
  soa.ttl = math.min(soa.ttl, soa.minimum)
  reply.authority = { soa }
end

-- Addresses of what the answers name, which would be asked for next.
local function add_addresses(self, reply)
  local seen = {}
  for _, rr in ipairs(reply.answers) do
    local name = rr.type ~= "CNAME" and rr.type ~= "PTR" and (rr.exchange or rr.target)
    local key = name and codec.canonical(name)
    if key and not seen[key] and self:contains(key) then
      seen[key] = true
      local node = find(self, key) or {}
      append(reply.additional, node, "A", name)
      append(reply.additional, node, "AAAA", name)
    end
  end
end

-- Answers for the name, along its aliases while they stay in the zone.
local function answer(self, reply, name, kind)
  for _ = 1, ALIASES_MAX do
    local key = codec.canonical(name)
    if not self:contains(key) then return end
    local node = find(self, key)
    if not node then
      reply.rcode = "NXDOMAIN"
      return deny(self, reply)
    end
    local before = #reply.answers
    for _, k in ipairs(kind == "ANY" and kinds_of(node) or { kind }) do
      append(reply.answers, node, k, name)
    end
    if #reply.answers > before then return end
    if not node.CNAME then return deny(self, reply) end
    append(reply.answers, node, "CNAME", name)
    name = node.CNAME[1].target
  end
end

--- Answers a query: a reply to send. Names outside the zone and classes other than IN are REFUSED.
---@param query neap.dns.message
---@return neap.dns.message reply
function zone:answer(query)
  local reply = codec.reply(query)
  local q = query.questions[1]
  if query.opcode ~= "QUERY" then
    reply.rcode = "NOTIMP"
  elseif #query.questions ~= 1 then
    reply.rcode = "FORMERR"
  elseif q.class ~= "IN" or q.type == "AXFR" or q.type == "IXFR"
    or not self:contains(codec.canonical(q.name)) then
    reply.rcode = "REFUSED"
  else
    reply.aa = true
    answer(self, reply, q.name, q.type)
    add_addresses(self, reply)
  end
  return reply
end

zone.__call = zone.answer

function zone:__tostring() return ("neap.dns.zone{%s}"):format(self.origin) end

--- A zone of records. Names in them, also those in their data, are relative to the origin, as in a
-- zone file: "www", "@" for the origin itself, "other.example." with a last dot for others. One SOA
-- record is needed. Raises for records that cannot be.
---@param origin string "example.org"
---@param records neap.dns.record[] name ("@"), type, ttl and the fields of the type
---@param opts? { ttl: integer } ttl: of records without one (3600)
---@return neap.dns.zone
return function(origin, records, opts)
  local key, text = codec.canonical(origin)
  if not key then error(("bad argument #1 to 'zone' (%s)"):format(text), 2) end
  if type(records) ~= "table" then
    error("bad argument #2 to 'zone' (a list of records expected)", 2)
  end
  local bare = key == "." and "." or (origin:gsub("%.$", ""))
  local self = setmetatable({ origin = bare, key = key, nodes = { [key] = {} },
    ttl = opts and opts.ttl or 3600 }, zone)
  for i, rr in ipairs(records) do
    local ok, why = add(self, rr)
    if not ok then error(("bad argument #2 to 'zone' (record %d: %s)"):format(i, why), 2) end
  end
  local soa = self.nodes[key].SOA
  if not soa or soa[2] then
    error("bad argument #2 to 'zone' (one SOA record of the origin expected)", 2)
  end
  self.soa = soa[1]
  return self
end
