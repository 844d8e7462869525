-- What a worker and its supervisor say to each other: one record is a flat list of values.
--
-- Each value is a letter for its type and its bytes, so booleans, integers, numbers and strings
-- arrive as what they were. Both sides are the same program: this is no public format.

local wire = {}

local letters = { string = "s", boolean = "b", integer = "j", float = "n" }

--- The values as one record.
---@param ... string|number|boolean
---@return string record
function wire.pack(...)
  local parts = {}
  for i, value in ipairs { ... } do
    local kind = math.type(value) or type(value)
    if kind == "boolean" then value = value and "yes" or "" end
    if type(value) == "number" then value = string.pack(letters[kind], value) end
    parts[i] = string.pack("s4", letters[kind] .. value)
  end
  return table.concat(parts)
end

local function value_of(letter, bytes)
  if letter == "s" then return bytes end
  if letter == "b" then return bytes ~= "" end
  return (string.unpack(letter, bytes))
end

--- The list of values in a record that `pack` made.
---@param record string
---@return (string|number|boolean)[]
function wire.unpack(record)
  local list, at = {}, 1
  while at <= #record do
    local item, next_at = string.unpack("s4", record, at)
    list[#list + 1] = value_of(item:sub(1, 1), item:sub(2))
    at = next_at
  end
  return list
end

return wire
