-- Dates of HTTP (RFC 9110 5.6.7): one is written, three are read.

local MONTHS <const> = {
  Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10,
  Nov = 11, Dec = 12,
}
local DAYS <const> = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local date = {}

-- Seconds since 1970 -> "Sun, 06 Nov 1994 08:49:37 GMT"
function date.format(seconds) return os.date("!%a, %d %b %Y %H:%M:%S GMT", seconds // 1 | 0) end

-- Days since 1970 of a day of the Gregorian calendar, whose years begin in March here.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local leaps = year // 4 - year // 100 + year // 400
  return 365 * year + leaps + (153 * (month - 3) + 2) // 5 + day - 719469
end

-- Two digits of a year: the one at most 50 years ahead.
local function full_year(two)
  local now = tonumber(os.date "!%Y")
  local year = now - now % 100 + two
  return year > now + 50 and year - 100 or year
end

local function split(text)
  local d, m, y, time = text:match "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d:%d%d:%d%d) GMT$"
  if d then return d, m, tonumber(y), time end
  d, m, y, time = text:match "^%a+day, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d:%d%d:%d%d) GMT$" -- RFC 850
  if d then return d, m, full_year(tonumber(y)), time end
  m, d, time, y = text:match "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d:%d%d:%d%d) (%d%d%d%d)$" -- asctime
  return d, m, tonumber(y), time
end

-- Seconds since 1970; nil: no such date.
function date.parse(text)
  local day, name, year, time = split(text)
  local month = MONTHS[name]
  if not month then return nil end
  day = tonumber(day)
  local hour, min, sec = time:match "(%d+):(%d+):(%d+)"
  hour, min, sec = tonumber(hour), tonumber(min), tonumber(sec)
  if not day or day < 1 or day > DAYS[month] then return nil end
  if hour > 23 or min > 59 or sec > 60 then return nil end
  return days(year, month, day) * 86400 + hour * 3600 + min * 60 + sec
end

return date
