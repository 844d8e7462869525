-- URLs of requests: taken apart, and joined with a redirect's target (RFC 3986).

local url = {}

local usual = { http = "80", https = "443" }

-- "host:80", "[::1]" -> host, port ("": none was given); nil: malformed.
local function split(authority)
  local host, port = authority:match "^(.-):(%d*)$"
  if not host or authority:find "%]$" then host, port = authority, "" end
  if host == "" or host:find "[^%w%-._~%[%]:%%]" then return nil end
  return host, port
end

-- "http://host:80/path?query#x" -> its parts; nil and why.
function url.parse(text)
  local scheme, rest = text:match "^(%a[%w+.-]*)://(.*)$"
  scheme = scheme and scheme:lower()
  if not usual[scheme] then return nil, "http:// or https:// expected" end
  local authority, target = rest:match "^([^/?#]*)([^#]*)"
  local host, port = split(authority)
  if not host then return nil, "malformed host" end
  host = host:lower() -- a name in other letters is no other server
  if target:find "[%z\1-\32\127]" then return nil, "a blank or control character" end
  if target == "" or target:sub(1, 1) == "?" then target = "/" .. target end
  if port == "" then port = usual[scheme] end
  return {
    text = text, scheme = scheme, host = host, port = port, target = target,
    authority = port == usual[scheme] and host or host .. ":" .. port,
    address = ("%s://%s:%s"):format(scheme == "http" and "tcp" or "tls", host, port),
  }
end

-- The target of a Location, which may be relative (RFC 3986 5.2).
function url.join(base, location)
  if location:find "^%a[%w+.-]*://" then return location end
  if location:sub(1, 2) == "//" then return base.scheme .. ":" .. location end
  local origin = base.scheme .. "://" .. base.authority
  if location:sub(1, 1) == "/" then return origin .. location end
  local path = base.target:match "^[^?]*"
  local relative, rest = location:match "^([^?#]*)(.*)$"
  if relative == "" then
    return origin .. (rest:sub(1, 1) == "?" and path or base.target) .. rest
  end
  local parts = {}
  for part in (path:match "^(.*/)" .. relative):gmatch "[^/]*/?" do
    if part == "../" or part == ".." then parts[#parts] = nil
    elseif part ~= "./" and part ~= "." then parts[#parts + 1] = part end
  end
  return origin .. "/" .. table.concat(parts):gsub("^/", "") .. rest
end

-- Without its brackets, if it is an IPv6 literal.
function url.bare(host) return host:match "^%[(.*)%]$" or host end

return url
