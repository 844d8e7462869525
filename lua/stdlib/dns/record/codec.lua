-- neap.dns.record.codec: the parts of a DNS message: names, addresses and the data of each type.
--
-- A reader is { bytes, base, at, stop, names }: offsets count from the message's first byte, which
-- is bytes[base + 1]; a writer is { parts, size, names }. A type is a row of fields, a field is a
-- name and a kind. Failures are raised as tables, { text = … } or { more = … }, for the codec of
-- messages, which catches them; nothing else calls these functions.

local lpeg = require "lpeg"

local NAME_MAX, POINTER_MAX, HEADER <const> = 255, 0x3fff, 12

local record = {}

function record.bad(format, ...) error({ text = format:format(...) }, 0) end
local bad = record.bad

--- The next n bytes are taken: the index of the first one in r.bytes.
function record.take(r, n, what)
  local at = r.at
  if at + n > r.stop then
    if r.data then bad("%s ends inside %s", r.data, what) end
    error({ more = what }, 0)
  end
  r.at = at + n
  return r.base + at + 1
end
local take = record.take

function record.put(w, bytes)
  w.parts[#w.parts + 1] = bytes
  w.size = w.size + #bytes
end
local put = record.put

-- ---- names: "www.example.org", without the last dot; the root is "."; "\." "\\" "\065" in labels

local root = { text = ".", length = 1 }

local function escape(label)
  label = label:gsub("[.\\]", "\\%0")
  return (label:gsub("[^!-~]", function(c) return ("\\%03d"):format(c:byte()) end))
end

local function short(r, start, jumped)
  if jumped then bad("the name at offset %d points to one that runs past the pointer", start) end
  take(r, r.stop - r.at + 1, "a name")
end

local function too_long(at) bad("the name at offset %d is longer than 255 bytes", at) end

-- The places of the labels and pointers of the name at r.at, and its known or empty rest. Each
-- pointer leads to before the run of labels that it ends (RFC 1035 4.1.4: a prior occurrence), and
-- a run ends before the one that led to it: no loop can be said.
local function walk(r)
  local bytes, base, names = r.bytes, r.base, r.names
  local start, at, stop, jumped = r.at, r.at, r.stop, false
  local first, length, places = at, 1, {}
  while true do
    if jumped and names[at] then return places, names[at] end
    local n = at < stop and bytes:byte(base + at + 1) or short(r, start, jumped)
    local size = n < 64 and n + 1 or 2
    if n >= 64 and n < 192 then bad("the label at offset %d is of unknown kind %d", at, n >> 6) end
    if at + size > stop then short(r, start, jumped) end
    if n == 0 then
      if not jumped then r.at = at + 1 end
      return places, root
    end
    places[#places + 1] = at
    if n < 64 then
      at, length = at + size, length + size
      if length > NAME_MAX then too_long(start) end
    else
      local target = (n & 63) << 8 | bytes:byte(base + at + 2)
      if target >= first then
        bad("the name at offset %d points to %d, which is not before it", start, target)
      elseif target < HEADER then
        bad("the name at offset %d points into the header", start)
      end
      if not jumped then r.at, jumped = at + 2, true end
      stop, first, at = first, target, target
    end
  end
end

--- Reads a name. Each place is looked at once in a message, however many names point to it.
function record.get_name(r)
  local start = r.at
  local places, rest = walk(r)
  for i = #places, 1, -1 do
    local at = places[i]
    local first = r.base + at + 1
    local n = r.bytes:byte(first)
    if n < 64 then
      local label = escape(r.bytes:sub(first + 1, first + n))
      local text = rest == root and label or label .. "." .. rest.text
      rest = { text = text, length = rest.length + n + 1 }
      if rest.length > NAME_MAX then too_long(start) end
    end
    r.names[at] = rest
  end
  return rest.text
end

local digit = lpeg.R "09"
local code = lpeg.S "01" * digit * digit + "2" * lpeg.R "04" * digit + "25" * lpeg.R "05"
local char = (lpeg.P "\\" * lpeg.C(code)) / function(d) return string.char(tonumber(d)) end
  + (lpeg.P "\\" * lpeg.C(1 - digit)) / 1 + (1 - lpeg.S ".\\")
local label = lpeg.Cs(char ^ 1)
local name = lpeg.Ct(label * ("." * label) ^ 0) * lpeg.P "." ^ -1 * -1 + lpeg.Ct "." * -1

--- The labels of a name, unescaped.
---@param text string
---@return string[]
function record.labels(text)
  local labels = type(text) == "string" and name:match(text)
  if not labels then bad("a domain name expected, got %s", tostring(text)) end
  local length = 1
  for _, l in ipairs(labels) do
    if #l > 63 then bad("a label of %s is longer than 63 bytes", text) end
    length = length + 1 + #l
  end
  if length > NAME_MAX then bad("%s is longer than 255 bytes", text) end
  return labels
end

--- The same name written one way only: lower case (of ASCII), no last dot, no needless escapes.
function record.canonical(text)
  local labels = record.labels(text)
  for i, l in ipairs(labels) do labels[i] = escape(l:gsub("%u", string.lower)) end
  return #labels == 0 and "." or table.concat(labels, ".")
end

--- Writes a name; its rest may be a pointer only where `compress` (RFC 3597: types of RFC 1035).
function record.put_name(w, text, compress)
  local labels, wire = record.labels(text), {}
  for i, l in ipairs(labels) do wire[i] = string.pack("s1", l) end
  for i = 1, #wire do
    local rest = table.concat(wire, "", i)
    local at = w.names[rest]
    if at and compress then return put(w, string.pack(">I2", 0xc000 | at)) end
    if not at and w.size <= POINTER_MAX then w.names[rest] = w.size end
    put(w, wire[i])
  end
  put(w, "\0")
end

-- ---- addresses

local function ipv4_bytes(text)
  local parts = { text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
  for i, d in ipairs(parts) do
    if #d > 3 or tonumber(d) > 255 then return nil end
    parts[i] = string.char(tonumber(d))
  end
  return #parts == 4 and table.concat(parts) or nil
end

-- "1:2:0" -> its bytes, nil for what is no such list
local function groups(text)
  if text == "" then return "" end
  local list = {}
  for g in (text .. ":"):gmatch "([^:]*):" do
    if not g:find "^%x%x?%x?%x?$" then return nil end
    list[#list + 1] = string.pack(">I2", tonumber(g, 16))
  end
  return table.concat(list)
end

local function ipv6_bytes(text)
  local head, last = text:match "^(.*:)([%d.]+%.%d+)$" -- the dotted form of the last four bytes
  if head then
    local four = ipv4_bytes(last)
    if not four then return nil end
    text = ("%s%x:%x"):format(head, string.unpack(">I2I2", four))
  end
  local before, after = text:match "^(.-)::(.*)$"
  local a, b = groups(before or text), groups(after or "")
  if not a or not b then return nil end
  if not before then return #a == 16 and a or nil end
  return #a + #b <= 14 and a .. ("\0"):rep(16 - #a - #b) .. b or nil
end

-- RFC 5952: the longest run of two or more zero groups, the first of equals, is "::".
local function ipv6_text(bytes)
  local g = { string.unpack(">I2I2I2I2I2I2I2I2", bytes) }
  local from, count = 0, 1
  local i = 1
  while i <= 8 do
    local j = i
    while j <= 8 and g[j] == 0 do j = j + 1 end
    if j - i > count then from, count = i, j - i end
    i = math.max(j, i + 1)
  end
  for k = 1, 8 do g[k] = ("%x"):format(g[k]) end
  if from == 0 then return table.concat(g, ":", 1, 8) end
  return table.concat(g, ":", 1, from - 1) .. "::" .. table.concat(g, ":", from + count, 8)
end

-- ---- kinds of fields: get(r) -> value, put(w, value, field)

local function wrong(field, expected, value)
  bad("field '%s': %s expected, got %s", field, expected, tostring(value))
end

local function integer(size)
  local format, most = ">I" .. size, (1 << 8 * size) - 1
  return {
    get = function(r) return (string.unpack(format, r.bytes, take(r, size, "a number"))) end,
    put = function(w, value, field)
      local n = math.type(value) == "integer" and value
      if not n or n < 0 or n > most then wrong(field, "an integer of 0 to " .. most, value) end
      put(w, string.pack(format, n))
    end,
  }
end

local function a_name(compress)
  return {
    get = record.get_name,
    put = function(w, value) record.put_name(w, value, compress) end,
    is_name = true,
  }
end

local function address(size, what, text, bytes)
  return {
    get = function(r)
      local first = take(r, size, "an address")
      return text(r.bytes:sub(first, first + size - 1))
    end,
    put = function(w, value, field)
      put(w, type(value) == "string" and bytes(value) or wrong(field, what, value))
    end,
  }
end

local function get_string(r)
  local n = r.bytes:byte(take(r, 1, "a string"))
  local first = take(r, n, "a string")
  return r.bytes:sub(first, first + n - 1)
end

local function put_string(w, value, field)
  if type(value) ~= "string" or #value > 255 then
    wrong(field, "a string of at most 255 bytes", value)
  end
  put(w, string.pack("s1", value))
end

-- One or more; a long text may be given as one string, which is cut.
local strings = {
  get = function(r)
    local list = {}
    repeat list[#list + 1] = get_string(r) until r.at >= r.stop
    return list
  end,
  put = function(w, value, field)
    if type(value) == "string" then
      local list = {}
      for from = 1, math.max(1, #value), 255 do list[#list + 1] = value:sub(from, from + 254) end
      value = list
    end
    if type(value) ~= "table" or #value == 0 then wrong(field, "one or more strings", value) end
    for _, s in ipairs(value) do put_string(w, s, field) end
  end,
}

local rest = {
  get = function(r)
    local first = take(r, r.stop - r.at, "data")
    return r.bytes:sub(first, r.base + r.stop)
  end,
  put = function(w, value, field)
    put(w, type(value) == "string" and value or wrong(field, "a string", value))
  end,
}

local u8, u16, u32 = integer(1), integer(2), integer(4)
local prior, plain = a_name(true), a_name(false)
local ipv4 = address(4, "an IPv4 address",
  function(bytes) return ("%d.%d.%d.%d"):format(bytes:byte(1, 4)) end, ipv4_bytes)
local ipv6 = address(16, "an IPv6 address", ipv6_text, ipv6_bytes)

-- ---- types: number, whether they are the internet's alone, and the fields of their data in order;
-- without fields the data is one string, `data`, as it is for types that have no row

local raw = { { "data", rest } }
record.raw = { name = "data", fields = raw }

record.types = {
  A = { 1, internet = true, { "address", ipv4 } },
  NS = { 2, { "target", prior } },
  CNAME = { 5, { "target", prior } },
  SOA = { 6, { "mname", prior }, { "rname", prior }, { "serial", u32 }, { "refresh", u32 },
    { "retry", u32 }, { "expire", u32 }, { "minimum", u32 } },
  PTR = { 12, { "target", prior } },
  HINFO = { 13, { "cpu", { get = get_string, put = put_string } },
    { "os", { get = get_string, put = put_string } } },
  MX = { 15, { "preference", u16 }, { "exchange", prior } },
  TXT = { 16, { "strings", strings } },
  AAAA = { 28, internet = true, { "address", ipv6 } },
  SRV = { 33, internet = true, { "priority", u16 }, { "weight", u16 }, { "port", u16 },
    { "target", plain } },
  DNAME = { 39, { "target", plain } },
  OPT = { 41 }, DS = { 43 }, RRSIG = { 46 }, NSEC = { 47 }, DNSKEY = { 48 }, NSEC3 = { 50 },
  TLSA = { 52 }, SVCB = { 64 }, HTTPS = { 65 }, TSIG = { 250 }, IXFR = { 251 }, AXFR = { 252 },
  ANY = { 255 },
  CAA = { 257, { "flags", u8 }, { "tag", { get = get_string, put = put_string } },
    { "value", rest } },
}

for type_name, row in pairs(record.types) do
  row.name, row.number = type_name, table.remove(row, 1)
  row.fields = row[1] and row or raw
end

return record
