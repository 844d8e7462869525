-- Forward proxies of the client: which one a request goes through, and the tunnel that CONNECT
-- makes (RFC 9110 7.3.2, 9.3.6).
--
-- The one idea: nobody's environment decides unless the script says so. http:// is asked of the
-- proxy itself, in absolute form; https:// and upgrades go through a tunnel, in which the proxy
-- reads nothing and learns no field of the request.

local codec = require "neap.codec.core"
local networks = require "neap.proxy.core"
local tls = require "neap.tls.core"
local urls = require "neap.http.url"

local proxy = {}

-- What a proxy says before its tunnel.
local ANSWER_MAX <const> = 16384
local INTERIM_MAX <const> = 10

local answer_head = codec.http_response(ANSWER_MAX)

local function decode(s)
  return (s:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- Credentials for Authorization and Proxy-Authorization (RFC 7617).
function proxy.basic(user, password) return "Basic " .. tls.base64(user .. ":" .. password) end

-- "http://user:password@host:port" -> what is needed of it; nil and why. `text` has no secrets.
function proxy.parse(given)
  local scheme, secret, rest = given:match "^(%a[%w+.-]*://)([^/?#]*)@(.*)$"
  local whole = scheme and scheme .. rest or given
  if not whole:find "^%a[%w+.-]*://" then whole = "http://" .. whole end
  local url, why = urls.parse(whole)
  if not url then return nil, why end
  if url.target ~= "/" then return nil, "a proxy has no path" end
  local user, password = (secret or ""):match "^([^:]*):?(.*)$"
  if not given:find(":%d+/?$") then return nil, "a proxy's port expected" end
  return {
    address = url.address, key = given, text = url.scheme .. "://" .. url.authority,
    authorization = secret and proxy.basic(decode(user), decode(password)),
  }
end

-- An entry of no_proxy: "*", a name and all below it, an address, a network; with a port, that one.
local function excludes(entry, url)
  local host = urls.bare(url.host):lower()
  if entry == "*" then return true end
  local name, port = entry:match "^(.*[^:]):(%d+)$"
  if name and (not name:find ":" or name:find "^%[.*%]$") then
    if port ~= url.port then return false end
    entry = urls.bare(name)
  end
  if networks.within(host, urls.bare(entry)) then return true end
  entry = entry:lower():gsub("^%*?%.", "")
  return entry ~= "" and (host == entry or host:sub(-#entry - 1) == "." .. entry)
end

local function variable(name, upper)
  local value = os.getenv(name)
  if not value and upper then value = os.getenv(name:upper()) end
  return value ~= "" and value or nil
end

-- HTTP_PROXY in capitals is left out: a CGI's client sets it (httpoxy, CVE-2016-5385).
local function from_environment(url)
  for entry in (variable("no_proxy", true) or ""):gmatch "[^,%s]+" do
    if excludes(entry, url) then return nil end
  end
  local own = variable(url.scheme .. "_proxy", url.scheme == "https")
  return own or variable("all_proxy", true)
end

--- The proxy for a URL, of the option `proxy`: nothing; false and why.
function proxy.choose(option, url)
  local given = option
  if option == "environment" then given = from_environment(url) end
  if not given then return nil end
  local found, why = proxy.parse(given)
  if not found then return false, ("proxy: %s"):format(why) end
  return found
end

-- Reads up to the proxy's own answer: true, or why there is no tunnel.
local function read_answer(conn, left)
  for _ = 1, INTERIM_MAX do
    local head, message, code = conn:read(answer_head, { timeout = left() })
    if not head then return nil, message or "it closed the connection", code or "EPIPE" end
    if head.refusal then return nil, "malformed response: " .. head.why, "EBADMSG" end
    if head.status >= 300 then return nil, head.status .. " " .. (head.reason or ""), "EPROXY" end
    if head.status >= 200 then return true end
  end
  return nil, "too many interim responses", "EBADMSG"
end

--- Asks the proxy at the other end of conn for the URL's server: true; nil, message, code.
--- left(): the seconds there are for it.
function proxy.tunnel(conn, through, url, left)
  local there = url.host .. ":" .. url.port
  local secret = through.authorization
  local ok, message, code = conn:write("CONNECT ", there, " HTTP/1.1\r\nHost: ", there, "\r\n",
    secret and ("Proxy-Authorization: %s\r\n"):format(secret) or "", "User-Agent: neap\r\n\r\n")
  if ok then ok, message, code = read_answer(conn, left) end
  if ok then return true end
  return nil, ("proxy %s: CONNECT %s: %s"):format(through.text, there, message), code
end

return proxy
