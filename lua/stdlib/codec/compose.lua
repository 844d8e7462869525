-- neap.codec.compose: codecs made of codecs. No I/O, and no state: what is under way is the bytes.
--
-- A frame of a codec in C that goes through functions keeps its framing (`framing`, `through`): a
-- stream waits for the frame in C and calls Lua once per message. What has none of C decodes in Lua
-- (sequences and choices are in parts.lua).

local core = require "neap.codec.core"
local matcher = require "neap.codec.grammar"
local scanner = require "neap.codec.scanner"

local Composed = { __name = "neap.codec", scanner = scanner }
Composed.__index = Composed

local compose = { Composed = Composed }

---@class neap.Codec
local methods = core.methods -- of codecs in C; those in Lua have the composing ones, too

function Composed:__tostring() return ("neap.codec{%s}"):format(self.name) end

local function is_codec(c)
  return type(c) == "userdata" and core.is_codec(c)
    or type(c) == "table" and type(c.decode) == "function"
end

local function check(c, n, what)
  if not is_codec(c) then
    error(("bad argument #%d to '%s' (codec expected, got %s)"):format(n, what, type(c)), 3)
  end
  return c
end

compose.is_codec = is_codec

local function name_of(c)
  return type(c) == "table" and c.name or tostring(c):match "{(.*)}" or "messages"
end

-- A function's answer, where nil stands before what is wrong, as a codec's failure.
local function settled(name, first, ...)
  if first ~= nil then return first, ... end
  local text, code = ...
  return nil, ("decode %s: %s"):format(name, text or "bad message"), code or "EBADMSG"
end

compose.settled = settled

-- inner:encode(...), for the codec above it.
local function encode_by(inner, ...)
  if not inner.encode then error(("cannot encode: %s has no encoder"):format(name_of(inner)), 0) end
  return inner:encode(...)
end

-- ---- frames through functions

-- The message of c:decode(...) through f, the position after it kept.
local function decode_through(self, ...)
  local first = ...
  if first == nil then return ... end
  local r = table.pack(...)
  local m = table.pack(self.through_one(table.unpack(r, 1, r.n - 1)))
  if m[1] == nil then return table.unpack(m, 1, m.n) end
  m[m.n + 1] = r[r.n]
  return table.unpack(m, 1, m.n + 1)
end

function Composed:decode(bytes, pos, eof)
  return decode_through(self, self.inner:decode(bytes, pos, eof))
end

local function encode_through(self, first, ...)
  if first == nil then return nil, ... end
  return encode_by(self.inner, first, ...)
end

function Composed:encode(...)
  if not self.back then return encode_by(self.inner, ...) end
  return encode_through(self, self.back(...))
end

local function through(inner, name, forth, back)
  local function through_one(...) return settled(name, forth(...)) end
  local whole = through_one
  if type(inner) == "table" and inner.through then
    local before = inner.through
    local function after(first, ...)
      if first == nil then return nil, ... end
      return through_one(first, ...)
    end
    function whole(...) return after(before(...)) end
  end
  local framing = type(inner) == "userdata" and inner or inner.framing
  return setmetatable({ name = name, inner = inner, framing = framing,
    through = framing and whole, through_one = through_one, back = back }, Composed)
end

--- The codec with a function behind it: `decode` gets the values of a message and returns those of
-- another, or nil and a text (and a code, EBADMSG) for what is none; `encode` the other way round.
---@param decode fun(...): any, ...
---@param encode? fun(...): any, ... absent: messages are encoded as they are
---@return neap.Codec
function methods:map(decode, encode)
  check(self, 1, "map")
  if type(decode) ~= "function" then error("bad argument #1 to 'map' (function expected)", 2) end
  if encode ~= nil and type(encode) ~= "function" then
    error("bad argument #2 to 'map' (function expected)", 2)
  end
  return through(self, name_of(self), decode, encode)
end

--- Frames that an LPeg pattern has to match whole: its captures (a table where all have names),
-- without captures the text. EBADMSG for others, also such as nest deeper than LPeg goes or have
-- more than 100000 captures.
---@param pattern userdata
---@param back? function the text of a message; absent: the message is the text
---@return neap.Codec
function methods:grammar(pattern, back)
  local lpeg = require "lpeg"
  check(self, 1, "grammar")
  if lpeg.type(pattern) ~= "pattern" then
    error(("bad argument #1 to 'grammar' (LPeg pattern expected, got %s)"):format(type(pattern)), 2)
  end
  local match = matcher(lpeg.Ct(pattern) * -1)
  local function forth(text)
    local captures, why = match(text)
    if not captures then return nil, why or "the grammar does not match" end
    if captures[1] == nil and next(captures) == nil then return text end
    if captures[1] == nil then return captures end -- groups with names
    return table.unpack(captures)
  end
  return through(self, name_of(self), forth, back)
end

-- Takes the position off the end; the frame must end there.
local function whole_frame(bytes, first, ...)
  if first == nil then
    local text, code = ...
    if text == "more" then text = "it is not complete" end
    return nil, text or "it is empty", code == "EMSGSIZE" and code or "EBADMSG"
  end
  local after = select(-1, ...)
  if after <= #bytes then
    return nil, ("%d bytes follow the message"):format(#bytes - after + 1)
  end
  local r = table.pack(first, ...)
  return table.unpack(r, 1, r.n - 1)
end

--- Frames that another codec decodes, one message each; EBADMSG where it leaves bytes over or lacks
-- some.
---@param inner neap.Codec|table
---@return neap.Codec
function methods:of(inner)
  check(self, 1, "of")
  check(inner, 1, "of")
  local function forth(frame) return whole_frame(frame, inner:decode(frame, 1, true)) end
  local name = ("%s of %s"):format(name_of(self), name_of(inner))
  return through(self, name, forth, function(...) return encode_by(inner, ...) end)
end

-- All messages of the bytes, as a list.
local function list_of(inner, frame)
  local list, pos = {}, 1
  while pos <= #frame do
    local r = table.pack(inner:decode(frame, pos, true))
    if r[1] == nil then
      return nil, ("message %d: %s"):format(#list + 1, r[2] or "is none"),
        r[3] == "EMSGSIZE" and r[3] or "EBADMSG"
    end
    if r[r.n] <= pos then return nil, ("message %d takes no bytes"):format(#list + 1) end
    pos = r[r.n]
    list[#list + 1] = r.n == 2 and r[1] or { table.unpack(r, 1, r.n - 1) }
  end
  return list
end

local function encoded_list(inner, list)
  local parts = {}
  for i, m in ipairs(list) do
    local bytes, text, code = encode_by(inner, m)
    if not bytes then return nil, text, code end
    parts[i] = bytes
  end
  return table.concat(parts)
end

--- Frames that are any number of messages of another codec: a list of them. One of several values
-- (a record, a tag and its bytes) is a list itself.
---@param inner neap.Codec|table
---@return neap.Codec
function methods:each(inner)
  check(self, 1, "each")
  check(inner, 1, "each")
  local name = ("%s of many %s"):format(name_of(self), name_of(inner))
  return through(self, name, function(frame) return list_of(inner, frame) end,
    function(list) return encoded_list(inner, list) end)
end

for name, f in pairs { map = methods.map, grammar = methods.grammar, of = methods.of,
  each = methods.each } do Composed[name] = f end

-- ---- records with names, whole strings

-- How many values a record has: zeros are a record of any format.
local function count_values(format)
  local c, size = core.record(format, 1 << 40), 64
  while true do
    local r = table.pack(c:decode(("\0"):rep(size)))
    if r[2] ~= "more" or r[1] ~= nil then return r.n - 1 end
    size = size + r[3]
  end
end

-- Records as tables: the values of string.pack with names (codec.record).
function compose.named(format, names, max)
  local n = #names
  for i = 1, n do
    if type(names[i]) ~= "string" then
      error("bad argument #2 to 'record' (a list of names expected)", 3)
    end
  end
  local inner = core.record(format, max)
  local count = count_values(format)
  if count ~= n then
    local text = "bad argument #2 to 'record' (%d names for %d values)"
    error(text:format(n, count), 3)
  end
  local function forth(...)
    local m = {}
    for i = 1, n do m[names[i]] = (select(i, ...)) end
    return m
  end
  local function back(m)
    if type(m) ~= "table" then
      error("bad argument #1 to 'encode' (a table of the fields expected)", 3)
    end
    local list = {}
    for i = 1, n do
      list[i] = m[names[i]]
      if list[i] == nil then
        return nil, ("encode record: no field '%s'"):format(names[i]), "EINVAL"
      end
    end
    return table.unpack(list, 1, n)
  end
  return through(inner, "record", forth, back)
end

--- Decodes bytes that are one message and nothing else, such as a datagram.
---@param c neap.Codec|table
---@param bytes string
---@return any ... the message; nil, text, code: EBADMSG, EMSGSIZE
function compose.parse(c, bytes)
  check(c, 1, "parse")
  if type(bytes) ~= "string" then error("bad argument #2 to 'parse' (string expected)", 2) end
  return settled(name_of(c), whole_frame(bytes, c:decode(bytes, 1, true)))
end

--- A codec of functions of your own, with the methods that all have (map, of, scanner …).
---@param definition { decode: function, encode: function?, name: string? }
---@return neap.Codec
function compose.new(definition)
  if type(definition) ~= "table" or type(definition.decode) ~= "function" then
    error("bad argument #1 to 'new' (a table with decode expected)", 2)
  end
  return setmetatable({ name = definition.name or "codec", decode = definition.decode,
    encode = definition.encode }, Composed)
end

return compose
