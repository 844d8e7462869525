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

-- Seconds since 1970; nil: no such instant. Month by name, time as "hh:mm:ss".
local function instant(day, name, year, time)
  local month = MONTHS[name]
  if not month then return nil end
  day = tonumber(day)
  local hour, min, sec = time:match "(%d+):(%d+):(%d+)"
  hour, min, sec = tonumber(hour), tonumber(min), tonumber(sec)
  if not day or day < 1 or day > DAYS[month] then return nil end
  if hour > 23 or min > 59 or sec > 60 then return nil end
  return days(year, month, day) * 86400 + hour * 3600 + min * 60 + sec
end

-- Seconds since 1970; nil: no such date.
function date.parse(text) return instant(split(text)) end

-- The same of a cookie's date, which may be of any form in which a day, the name of a month, a year
-- and a time are found (RFC 6265 5.1.1): the first of each counts.
function date.parse_loose(text)
  local day, name, year, time
  for token in text:gmatch "[^\t -/;-@[-`{-~]+" do
    local clock = token:match "^(%d%d?:%d%d?:%d%d?)%f[%D]"
    local one = token:match "^(%d%d?)%f[%D]"
    local month = token:sub(1, 1):upper() .. token:sub(2, 3):lower()
    if not time and clock then time = clock
    elseif not day and one then day = one
    elseif not name and MONTHS[month] then name = month
    elseif not year then year = tonumber(token:match "^(%d%d%d?%d?)%f[%D]") end
  end
  if not (day and name and year and time) then return nil end
  if year < 100 then year = year + (year < 70 and 2000 or 1900) end
  if year < 1601 then return nil end
  return instant(day, name, year, time)
end

return date
