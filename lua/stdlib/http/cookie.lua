-- Set-Cookie, read as RFC 6265 section 5 tells a client to read it; and what matches what.
--
-- Pure: strings in, a table or nothing out. What is not understood is left out, attribute by
-- attribute, as browsers do; a line without a name, or with control characters, is no cookie.

local date = require "neap.http.date"

local cookie = {}

-- A name and its value; a longer one is no cookie (RFC 6265 6.1: at least so many).
local SIZE_MAX <const> = 4096
-- An attribute's value; a longer one is as good as absent (RFC 6265bis 5.6).
local ATTRIBUTE_MAX <const> = 1024
-- Nothing is kept for longer (RFC 6265bis 5.5).
local AGE_MAX <const> = 400 * 86400

-- In linear time, whoever wrote it.
local function trim(s)
  return s:match("^[ \t]*(.*)$"):match "^.*[^ \t]" or ""
end

-- Seconds since 1970 at which it ends; nil: the end of the session. Max-Age goes before Expires.
local function expiry(attributes, now)
  local age = attributes["max-age"]
  if age and age:find "^%-?%d+$" then
    if age:sub(1, 1) == "-" then return 0 end
    local seconds = #age > 15 and AGE_MAX or math.min(tonumber(age), AGE_MAX)
    return seconds == 0 and 0 or now + seconds
  end
  local at = attributes.expires and date.parse_loose(attributes.expires)
  return at and math.min(at, now + AGE_MAX)
end

local sites = { strict = "Strict", lax = "Lax", none = "None" }

-- "name=value; Path=/; …" -> the cookie as it says; nil: it is none.
function cookie.parse(line, now)
  if line:find "[%z\1-\8\10-\31\127]" then return nil end
  local pair, rest = line:match "^([^;]*)(.*)$"
  local name, value = pair:match "^([^=]*)=(.*)$"
  if not name then return nil end
  name, value = trim(name), trim(value)
  if name == "" or #name + #value > SIZE_MAX then return nil end
  local attributes = {}
  for one in rest:gmatch ";([^;]*)" do
    local key, text = one:match "^([^=]*)=?(.*)$"
    text = trim(text)
    if #text <= ATTRIBUTE_MAX then attributes[trim(key):lower()] = text end -- the last one counts
  end
  local path = attributes.path
  return {
    name = name, value = value,
    domain = attributes.domain and attributes.domain:gsub("^%.", ""):lower(),
    path = path and path:sub(1, 1) == "/" and path or nil,
    expires = expiry(attributes, now),
    secure = attributes.secure ~= nil, http_only = attributes.httponly ~= nil,
    same_site = sites[(attributes.samesite or ""):lower()],
  }
end

-- Addresses have no domains: an IPv6 one has a colon, an IPv4 one ends in a number.
local function is_address(host)
  return host:find(":", 1, true) ~= nil or host:match "[^.]*$":find "^%d+$" ~= nil
end
cookie.is_address = is_address

-- RFC 6265 5.1.3. Both in lower case.
function cookie.domain_matches(host, domain)
  if host == domain then return true end
  return not is_address(host) and host:sub(-#domain - 1) == "." .. domain
end

-- RFC 6265 5.1.4.
function cookie.path_matches(path, prefix)
  if path:sub(1, #prefix) ~= prefix then return false end
  return #path == #prefix or prefix:sub(-1) == "/" or path:sub(#prefix + 1, #prefix + 1) == "/"
end

-- The directory of a target (RFC 6265 5.1.4): "/a/b?c" -> "/a".
function cookie.default_path(target)
  local path = target:match "^[^?]*"
  local directory = path:match "^(/.*)/[^/]*$"
  return directory or "/"
end

return cookie
