-- What a request asks of a representation besides itself: conditions and a range (RFC 9110 13, 14).
--
-- Pure: header fields and a file's validators in, a verdict out. One range is answered with a part;
-- several, and what is no range, with the whole, as RFC 9110 14.2 allows.

local date = require "neap.http.date"

local condition = {}

-- Some tag of the list is this one. strong: neither may be weak (RFC 9110 8.8.3.2).
local function tag_matches(list, tag, strong)
  if list:match "^%s*%*%s*$" then return true end
  if strong and tag:sub(1, 2) == "W/" then return false end
  local plain = tag:gsub("^W/", "")
  for weak, one in list:gmatch '(W?/?)("[^"]*")' do
    if one == plain and not (strong and weak ~= "") then return true end
  end
  return false
end

-- Of dates: true, false; nil: it is no date, and counts as absent.
local function unchanged_since(text, entity)
  local at = date.parse(text)
  if not at then return nil end
  return entity.modified // 1 <= at
end

-- 412, 304, or nothing: go on (RFC 9110 13.2.2).
local function precondition(method, headers, entity)
  local match, none = headers["if-match"], headers["if-none-match"]
  if match then
    if not tag_matches(match, entity.tag, true) then return 412 end
  elseif headers["if-unmodified-since"] then
    if unchanged_since(headers["if-unmodified-since"], entity) == false then return 412 end
  end
  local reading = method == "GET" or method == "HEAD"
  if none then
    if tag_matches(none, entity.tag, false) then return reading and 304 or 412 end
  elseif reading and headers["if-modified-since"] then
    if unchanged_since(headers["if-modified-since"], entity) then return 304 end
  end
end

-- Numbers with more digits than an integer are just large.
local function number(digits)
  return #digits > 18 and math.maxinteger or tonumber(digits)
end

-- "bytes=a-b" -> first, length; false: not satisfiable; nil: to be ignored.
local function parse_range(text, size)
  local unit, from, to = text:match "^(%a+)=[ \t]*(%d*)%-(%d*)$" -- in linear time
  if not unit or unit:lower() ~= "bytes" then return nil end
  if from == "" then
    if to == "" or size == 0 and number(to) > 0 then return nil end
    local length = math.min(number(to), size)
    if length == 0 then return false end
    return size - length, length
  end
  local first, last = number(from), to == "" and math.maxinteger or number(to)
  if last < first then return nil end
  if first >= size then return false end
  return first, math.min(last, size - 1) - first + 1
end

-- The range is only wanted of the representation that the client knows already, and of that for
-- sure: a strong tag, or the very date when it is one (RFC 9110 13.1.5).
local function if_range(value, entity)
  if not value then return true end
  if value:find '"' then
    return value == entity.tag and value:sub(1, 2) ~= "W/"
  end
  return not entity.fresh and date.parse(value) == entity.modified // 1
end

--- entity: `size`, `modified` (seconds), `tag`, `fresh` (its date may still hold for another one).
--- 200; 206, first, length; 304; 412; 416.
function condition.evaluate(method, headers, entity)
  local status = precondition(method, headers, entity)
  if status then return status end
  local range = headers.range
  if not range or method ~= "GET" or not if_range(headers["if-range"], entity) then return 200 end
  local first, length = parse_range(range, entity.size)
  if first == nil then return 200 end
  if not first then return 416 end
  return 206, first, length
end

return condition
