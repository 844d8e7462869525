-- neap.dns.codec: DNS messages as tables (RFC 1035, 3596, 2782, 6844, EDNS0 of RFC 6891).
--
-- Pure: bytes in, a table out, and back. Three results: a message, bad, or more is needed. A
-- message carries its own end (its counts), so `message` serves bytes that come in pieces, `decode`
-- whole datagrams, `frame` the two length bytes of TCP. The work is bounded: a pointer leads
-- backwards, each place is looked at once, counts that no message can keep are refused at once.

local record = require "neap.dns.record.codec"

local MESSAGE_MAX, HEADER, QUESTION_MIN, RECORD_MIN <const> = 65535, 12, 5, 11
local TTL_MAX <const> = 0x7fffffff

local bad, take, put = record.bad, record.take, record.put

local codec = {}

---@class neap.dns.question
---@field name string
---@field type? string "A", "MX" … "ANY", "TYPE1234" for those without a name
---@field class? string "IN" (default), "CH", "HS", "NONE", "ANY", "CLASS12"

---@class neap.dns.record: neap.dns.question
---@field ttl? integer seconds (0); one with the highest bit set is read as 0 (RFC 2181)
---@field address? string A, AAAA
---@field target? string NS, CNAME, PTR, DNAME, SRV (with priority, weight, port)
---@field exchange? string MX (with preference)
---@field strings? string[] TXT; to encode: or a string of any length
---@field data? string the bytes, of types that are not read
--- SOA has mname, rname, serial, refresh, retry, expire, minimum; CAA flags, tag, value

---@class neap.dns.message
---@field id integer
---@field qr? boolean it is a response
---@field opcode? string "QUERY" (default), "NOTIFY", "UPDATE" … "OPCODE7"
---@field aa? boolean authoritative answer
---@field tc? boolean truncated
---@field rd? boolean recursion desired
---@field ra? boolean recursion available
---@field ad? boolean authentic data
---@field cd? boolean checking disabled
---@field rcode? string "NOERROR" (default), "NXDOMAIN" … "BADVERS", "RCODE11"
---@field questions neap.dns.question[]
---@field answers neap.dns.record[]
---@field authority neap.dns.record[]
---@field additional neap.dns.record[] without the OPT record, which is `edns`
---@field edns? { size: integer, version: integer, dnssec_ok: boolean, options: table[] }

-- ---- numbers with names

local function names(prefix, most, list)
  local by_name = {}
  for number, name in pairs(list) do by_name[name] = number end
  return { prefix = prefix, most = most, by_number = list, by_name = by_name }
end

local classes = names("CLASS", 65535,
  { [1] = "IN", [3] = "CH", [4] = "HS", [254] = "NONE", [255] = "ANY" })
local opcodes = names("OPCODE", 15,
  { [0] = "QUERY", [1] = "IQUERY", [2] = "STATUS", [4] = "NOTIFY", [5] = "UPDATE" })
local rcodes = names("RCODE", 4095, { [0] = "NOERROR", [1] = "FORMERR", [2] = "SERVFAIL",
  [3] = "NXDOMAIN", [4] = "NOTIMP", [5] = "REFUSED", [6] = "YXDOMAIN", [7] = "YXRRSET",
  [8] = "NXRRSET", [9] = "NOTAUTH", [10] = "NOTZONE", [16] = "BADVERS", [23] = "BADCOOKIE" })
local type_names = {}
for name, row in pairs(record.types) do type_names[row.number] = name end
local types = names("TYPE", 65535, type_names)

local function name_of(kind, number) return kind.by_number[number] or kind.prefix .. number end

local function number_of(kind, value, default)
  if value == nil then value = default end
  local number = kind.by_name[value]
  if not number and type(value) == "string" then
    number = tonumber(value:match("^" .. kind.prefix .. "(%d+)$"))
  end
  if not number or number > kind.most then
    bad("unknown %s %s", kind.prefix:lower(), tostring(value))
  end
  return number
end

local flags = { qr = 0x8000, aa = 0x400, tc = 0x200, rd = 0x100, ra = 0x80, ad = 0x20, cd = 0x10 }
local sections = { "answers", "authority", "additional" }

-- The fields of the data; A, AAAA and SRV mean something else outside the internet class, and
-- updates (RFC 2136) name types with empty data.
local function layout(type_name, class, empty)
  local row = record.types[type_name]
  if not row or row.internet and class ~= "IN" then return record.raw.fields end
  if empty and (class == "ANY" or class == "NONE") then return record.raw.fields end
  return row.fields
end

-- ---- decoding

local function get_question(r)
  local name = record.get_name(r)
  local type_number, class = string.unpack(">I2I2", r.bytes, take(r, 4, "a question"))
  return { name = name, type = name_of(types, type_number), class = name_of(classes, class) }
end

local function get_options(r)
  local list = {}
  while r.at < r.stop do
    local code, n = string.unpack(">I2I2", r.bytes, take(r, 4, "an option"))
    local first = take(r, n, "an option")
    list[#list + 1] = { code = code, data = r.bytes:sub(first, first + n - 1) }
  end
  return list
end

-- The OPT record says with its class and TTL what the header has no room for (RFC 6891 6.1.3).
local function get_edns(r, m, name, size, ttl)
  if r.section ~= "additional" then bad "it is an OPT record outside the additional section" end
  if m.edns then bad "it is a second OPT record" end
  if name ~= "." then bad("it is an OPT record of %s, not of the root", name) end
  m.edns = { size = size, version = ttl >> 16 & 0xff, dnssec_ok = ttl & 0x8000 ~= 0,
    options = get_options(r) }
  m.rcode = name_of(rcodes, ttl >> 24 << 4 | number_of(rcodes, m.rcode))
end

-- nil for the OPT record, which is not of the list.
local function get_record(r, m)
  local name = record.get_name(r)
  local number, class, ttl, length =
    string.unpack(">I2I2I4I2", r.bytes, take(r, 10, "a record"))
  local first, stop = r.at, r.stop
  take(r, length, "the data of a record")
  r.at, r.stop = first, first + length
  local rr = { name = name, type = name_of(types, number), class = name_of(classes, class),
    ttl = ttl <= TTL_MAX and ttl or 0 }
  r.data = "the data of " .. rr.type
  if rr.type == "OPT" then
    get_edns(r, m, name, class, ttl)
    rr = nil
  else
    for _, field in ipairs(layout(rr.type, rr.class, length == 0)) do
      rr[field[1]] = field[2].get(r)
    end
  end
  if r.at ~= r.stop then bad("%s has %d bytes too many", r.data, r.stop - r.at) end
  r.data, r.stop = nil, stop
  return rr
end

local function get_header(bytes, at)
  local id, word, qd, an, ns, ar = string.unpack(">I2I2I2I2I2I2", bytes, at)
  local m = { id = id, opcode = name_of(opcodes, word >> 11 & 15),
    rcode = name_of(rcodes, word & 15),
    questions = {}, answers = {}, authority = {}, additional = {} }
  for flag, bit in pairs(flags) do m[flag] = word & bit ~= 0 end
  return m, qd, { an, ns, ar }
end

local function get_message(r)
  local m, questions, counts = get_header(r.bytes, take(r, HEADER, "the header"))
  local least = HEADER + questions * QUESTION_MIN + (counts[1] + counts[2] + counts[3]) * RECORD_MIN
  if least > MESSAGE_MAX then
    bad("its counts promise at least %d bytes, a message has at most 65535", least)
  end
  for i = 1, questions do
    r.section, r.number = "questions", i
    m.questions[i] = get_question(r)
  end
  for s, section in ipairs(sections) do
    local list = m[section]
    for i = 1, counts[s] do
      r.section, r.number = section, i
      list[#list + 1] = get_record(r, m)
    end
  end
  return m
end

-- f(...) -> its result; nil and what it raised as a table
local function try(f, ...)
  local ok, result = pcall(f, ...)
  if ok then return result end
  if type(result) ~= "table" or not (result.text or result.more) then error(result, 0) end
  return nil, result
end

local function described(text, section, number)
  return (section and ("%s[%d]: "):format(section, number) or "") .. text
end

-- The message at pos and the position after it; nil, text, how many bytes more are needed or not
local function parse(bytes, pos)
  local r = { bytes = bytes, base = pos - 1, at = 0, names = {} }
  r.stop = math.min(#bytes - r.base, MESSAGE_MAX)
  local m, why = try(get_message, r)
  if m then return m, r.base + r.at + 1 end
  local more = why.more and r.stop < MESSAGE_MAX
  local lack = more and "the end came inside " or "65535 bytes end inside "
  local text = why.text or lack .. why.more
  return nil, "bad DNS message: " .. described(text, r.section, r.number), more
end

--- Decodes a message that is all of `bytes`, such as a datagram.
---@param bytes string
---@return neap.dns.message|nil message
---@return string? text what is wrong and where
---@return string? code "EBADMSG"
function codec.decode(bytes)
  local m, after = parse(bytes, 1)
  if not m then return nil, after, "EBADMSG" end
  if after <= #bytes then
    local text = "bad DNS message: %d bytes follow its end"
    return nil, text:format(#bytes - after + 1), "EBADMSG"
  end
  return m
end

--- Decodes the header alone, for an answer to what cannot be read.
---@param bytes string
---@return neap.dns.message|nil message without questions and records; nil: fewer than 12 bytes
function codec.header(bytes)
  if #bytes < HEADER then return nil end
  return (get_header(bytes, 1))
end

-- ---- encoding

local function put_record(w, rr)
  local type_number = number_of(types, rr.type)
  local class = number_of(classes, rr.class, "IN")
  local ttl = rr.ttl or 0
  if math.type(ttl) ~= "integer" or ttl < 0 or ttl > TTL_MAX then
    bad("field 'ttl': an integer of 0 to %d expected, got %s", TTL_MAX, tostring(ttl))
  end
  record.put_name(w, rr.name, true)
  put(w, string.pack(">I2I2I4", type_number, class, ttl))
  put(w, "\0\0") -- the length, when it is known
  local place, start = #w.parts, w.size
  for _, field in ipairs(layout(name_of(types, type_number), name_of(classes, class), rr.data)) do
    field[2].put(w, rr[field[1]], field[1])
  end
  if w.size - start > 65535 then bad "its data is longer than 65535 bytes" end
  w.parts[place] = string.pack(">I2", w.size - start)
end

local function put_question(w, q)
  record.put_name(w, q.name, true)
  put(w, string.pack(">I2I2", number_of(types, q.type), number_of(classes, q.class, "IN")))
end

-- Takes back what was written since the mark.
local function take_back(w, parts, size)
  for i = #w.parts, parts + 1, -1 do w.parts[i] = nil end
  w.size = size
  for suffix, at in pairs(w.names) do
    if at >= size then w.names[suffix] = nil end
  end
end

-- As many records as there is room for: how many, and whether that is all.
local function put_section(w, section, list)
  for i, item in ipairs(list or {}) do
    w.section, w.number = section, i
    local parts, size = #w.parts, w.size
    if type(item) ~= "table" then bad("a table expected, got %s", type(item)) end
    if section == "questions" then put_question(w, item) else put_record(w, item) end
    if w.size > w.room then
      take_back(w, parts, size)
      return i - 1, false
    end
  end
  return list and #list or 0, true
end

local function opt_record(edns, rcode)
  local list = {}
  for i, option in ipairs(edns.options or {}) do
    list[i] = string.pack(">I2s2", option.code, option.data)
  end
  local ttl = rcode >> 4 << 24 | (edns.version or 0) << 16 | (edns.dnssec_ok and 0x8000 or 0)
  return string.pack(">BI2I2I4s2", 0, 41, edns.size or 1232, ttl, table.concat(list))
end

-- What does not fit is left out; a cut answer or authority says so by TC, additional records are a
-- courtesy (RFC 2181 9).
local function put_message(w, m, max)
  local rcode = number_of(rcodes, m.rcode, "NOERROR")
  if math.type(m.id) ~= "integer" or m.id < 0 or m.id > 65535 then
    bad("field 'id': an integer of 0 to 65535 expected, got %s", tostring(m.id))
  end
  local opt = m.edns and opt_record(m.edns, rcode) or ""
  if rcode > 15 and not m.edns then bad("the code %s needs edns", m.rcode) end
  w.room = max - #opt
  local counts, whole = {}, true
  for i, section in ipairs { "questions", "answers", "authority", "additional" } do
    local tried = whole
    counts[i] = 0
    if tried then counts[i], whole = put_section(w, section, m[section]) end
    if tried and not whole and section == "questions" then bad("no room in %d bytes", max) end
    w.cut = w.cut or tried and not whole and section ~= "additional"
  end
  w.section = nil
  if #opt > 0 then
    put(w, opt)
    counts[4] = counts[4] + 1
  end
  local word = number_of(opcodes, m.opcode, "QUERY") << 11 | rcode & 15
  for flag, bit in pairs(flags) do
    if m[flag] or flag == "tc" and w.cut then word = word | bit end
  end
  w.parts[1] = string.pack(">I2I2I2I2I2I2", m.id, word, table.unpack(counts))
  return table.concat(w.parts)
end

--- Encodes a message. Names are compressed. Records that do not fit into `max` bytes are left out,
--- from the end; TC is set if they were answers or authority.
---@param m neap.dns.message; absent lists are empty
---@param max? integer bytes, 12 to 65535 (65535)
---@return string|nil bytes
---@return string? text
---@return string? code "EINVAL": a name, type or field that no message can have
function codec.encode(m, max)
  local w = { parts = { "" }, size = HEADER, names = {} }
  local bytes, why = try(put_message, w, m, math.min(max or MESSAGE_MAX, MESSAGE_MAX))
  if bytes then return bytes end
  return nil, "DNS message: " .. described(why.text, w.section, w.number), "EINVAL"
end

--- The beginning of an answer to a query: its id, flags and question.
---@param query neap.dns.message
---@param rcode? string "NOERROR"
---@return neap.dns.message
function codec.reply(query, rcode)
  return { id = query.id, qr = true, opcode = query.opcode, rd = query.rd, cd = query.cd,
    rcode = rcode, questions = #query.questions == 1 and query.questions or {},
    answers = {}, authority = {}, additional = {}, edns = query.edns and { size = 1232 } }
end

-- ---- the codecs (neap.Codec)

local message = {}
codec.message = message

--- As neap.Codec: the message at `pos` and the position after it; nil, "more"; nil at the end; nil,
--- text, "EBADMSG" or "EPIPE" (the end came inside it).
function message:decode(bytes, pos, eof)
  pos = pos or 1
  if eof and pos > #bytes then return nil end
  local m, after, more = parse(bytes, pos)
  if m then return m, after end
  if more and not eof then return nil, "more" end
  return nil, after, more and "EPIPE" or "EBADMSG"
end

function message:encode(m) return codec.encode(m) end

local frame = {}
codec.frame = frame

--- The same with the two length bytes of TCP (RFC 1035 4.2.2) before each message.
function frame:decode(bytes, pos, eof)
  pos = pos or 1
  local here = #bytes - pos + 1
  if eof and here <= 0 then return nil end
  local length = here >= 2 and string.unpack(">I2", bytes, pos)
  if not length or here < 2 + length then
    if not eof then return nil, "more" end
    return nil, "bad DNS message: the end came inside a frame", "EPIPE"
  end
  local m, text, code = codec.decode(bytes:sub(pos + 2, pos + 1 + length))
  if not m then return nil, text, code end
  return m, pos + 2 + length
end

---@return string|nil bytes
---@return string? text
---@return string? code
function frame:encode(m)
  local bytes, text, code = codec.encode(m)
  if not bytes then return nil, text, code end
  return string.pack(">s2", bytes)
end

--- A name as keys of tables need it: lower case, no last dot; nil, text, "EINVAL" for what is none.
---@param name string
---@return string|nil canonical
---@return string? text
---@return string? code
function codec.canonical(name)
  local text, why = try(record.canonical, name)
  if text then return text end
  return nil, why.text, "EINVAL"
end

return codec
