-- neap.codec.parts: messages of several parts, and messages of several sorts.
--
-- They decode in Lua, from the first byte on each time, and say how many bytes they lack at least:
-- streams and scanners ask again when these have come, so a header and its body are two attempts.

local compose = require "neap.codec.compose"

local Composed, is_codec, settled = compose.Composed, compose.is_codec, compose.settled

local READ_MAX <const> = 16 << 20

local parts = {}

local Sequence = setmetatable({ __name = "neap.codec", __tostring = Composed.__tostring },
  { __index = Composed })
Sequence.__index = Sequence

local function too_long(self)
  return settled(self.name, nil, ("longer than %d bytes"):format(self.max), "EMSGSIZE")
end

-- The i-th part, once those before it are known: a codec, or a count of bytes; nil, text, code.
local function part_of(self, i, list)
  local part = self.parts[i]
  if type(part) == "function" then
    local text, code
    part, text, code = part(table.unpack(list, 1, i - 1))
    if part == nil then return settled(self.name, nil, text, code) end
  end
  if math.type(part) == "integer" then
    if part < 0 then return settled(self.name, nil, ("part %d has %d bytes"):format(i, part)) end
    if part > self.max then return too_long(self) end
  elseif not is_codec(part) then
    error(("part %d of a sequence is no codec and no count of bytes"):format(i), 0)
  end
  return part
end

local function decode_part(part, bytes, at, eof)
  if math.type(part) ~= "integer" then return part:decode(bytes, at, eof) end
  local lack = part - (#bytes - at + 1)
  if lack <= 0 then return bytes:sub(at, at + part - 1), at + part end
  if eof then return nil end
  return nil, "more", lack
end

function Sequence:decode(bytes, pos, eof)
  pos = pos or 1
  if eof and pos > #bytes then return nil end
  local list, at = {}, pos
  for i = 1, #self.parts do
    local part, text, code = part_of(self, i, list)
    if part == nil then return nil, text, code end
    local r = table.pack(decode_part(part, bytes, at, eof))
    local more = r[1] == nil and r[2] == "more"
    if r[1] == nil and not r[2] then
      return settled(self.name, nil, "the end came inside it", "EPIPE")
    elseif r[1] == nil and not more then
      return table.unpack(r, 1, r.n)
    end
    local size = more and #bytes + 1 + (r[3] or 1) - pos or r[r.n] - pos
    if size > self.max then return too_long(self) end
    if more then return table.unpack(r, 1, r.n) end
    list[i] = r.n == 2 and r[1] or { table.unpack(r, 1, r.n - 1) }
    at = r[r.n]
  end
  return list, at
end

function Sequence:encode(list)
  if type(list) ~= "table" then
    error("bad argument #1 to 'encode' (a list of the parts expected)", 2)
  end
  local out, size = {}, 0
  for i = 1, #self.parts do
    local part, text, code = part_of(self, i, list)
    if part == nil then return nil, (text:gsub("^decode", "encode")), code end
    if math.type(part) ~= "integer" then out[i], text, code = part:encode(list[i])
    elseif type(list[i]) == "string" and #list[i] == part then out[i] = list[i]
    else text, code = ("encode %s: part %d is not of %d bytes"):format(self.name, i, part), "EINVAL"
    end
    if not out[i] then return nil, text, code end
    size = size + #out[i]
  end
  if size <= self.max then return table.concat(out) end
  return nil, ("encode %s: longer than %d bytes"):format(self.name, self.max), "EMSGSIZE"
end

--- Parts one after the other, the message is a list of them. A part is a codec, a count of bytes,
-- or a function of the parts before it that returns one of these, or nil, text for what cannot be:
-- a header tells how long the body is. `max` bounds all of it.
---@param list (neap.Codec|integer|function)[] and the field `max`: bytes (16 MiB)
---@return neap.Codec
function parts.sequence(list)
  if type(list) ~= "table" or #list == 0 then
    error("bad argument #1 to 'sequence' (a list of codecs expected)", 2)
  end
  for i, part in ipairs(list) do
    if not is_codec(part) and type(part) ~= "function"
      and not (math.type(part) == "integer" and part >= 0) then
      error(("bad argument #1 to 'sequence' (part %d is no codec)"):format(i), 2)
    end
  end
  if list.max ~= nil and (math.type(list.max) ~= "integer" or list.max < 0) then
    error("bad argument #1 to 'sequence' (field 'max': a size expected)", 2)
  end
  local self = { name = "sequence", parts = table.move(list, 1, #list, 1, {}),
    max = list.max or READ_MAX }
  return setmetatable(self, Sequence)
end

-- ---- choices


local Choice = setmetatable({ __name = "neap.codec", __tostring = Composed.__tostring },
  { __index = Composed })
Choice.__index = Choice

local function chosen(key, first, ...)
  if first == nil then return nil, ... end
  return key, first, ...
end

function Choice:decode(bytes, pos, eof)
  pos = pos or 1
  if pos > #bytes then
    if eof then return nil end
    return nil, "more", 1
  end
  local key = bytes:sub(pos, pos)
  local c = self.rows[key] or self.other
  if not c then return settled(self.name, nil, ("no message begins with %q"):format(key)) end
  return chosen(key, c:decode(bytes, pos, eof))
end

function Choice:encode(key, ...)
  local c = self.rows[key] or type(key) == "string" and #key == 1 and self.other
  if not c then
    return nil, ("encode %s: no message begins with %s"):format(self.name, tostring(key)), "EINVAL"
  end
  local bytes, text, code = c:encode(...)
  if not bytes then return nil, text, code end
  if bytes:sub(1, 1) == key then return bytes end
  return nil, ("encode %s: the message does not begin with %q"):format(self.name, key), "EINVAL"
end

--- The first byte chooses the codec, which gets it too. A message is this byte, then the values of
-- the chosen codec; so it is encoded.
---@param rows table<string, neap.Codec> by the byte; `other` is for all other bytes (EBADMSG)
---@return neap.Codec
function parts.choice(rows)
  if type(rows) ~= "table" then error("bad argument #1 to 'choice' (a table expected)", 2) end
  local self = { name = "choice", rows = {}, other = rows.other }
  for key, c in pairs(rows) do
    if key ~= "other" and (type(key) ~= "string" or #key ~= 1) or not is_codec(c) then
      local text = "bad argument #1 to 'choice' (one byte to a codec expected, got %s)"
      error(text:format(tostring(key)), 2)
    end
    if key ~= "other" then self.rows[key] = c end
  end
  return setmetatable(self, Choice)
end

return parts
