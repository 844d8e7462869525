-- A client's cookie jar (RFC 6265): what servers have set, and which of it a request takes along.
--
-- The one idea: a cookie is for the host that set it, unless it names a domain of that host. There
-- is no list of public suffixes here: a domain of a single label is refused, and so is any for an
-- address; "co.uk" passes, unless the option `public_suffix` knows better.

local cookie = require "neap.http.cookie"
local urls = require "neap.http.url"

-- RFC 6265 6.1: at least so many, of one domain and in all.
local OF_DOMAIN <const> = 50
local OF_ALL <const> = 3000

--- A cookie jar, from http.cookies.
---@class neap.http.cookies
local jar = {}
jar.__index = jar
jar.__name = "neap.http.cookies"
function jar:__tostring() return ("neap.http.cookies{%d}"):format(self.count) end

---@class neap.http.cookie
---@field name string
---@field value string
---@field domain string the host that set it, or the domain it is for
---@field host_only boolean that host alone, none below it
---@field path string
---@field expires? integer seconds since 1970; none: as long as the jar
---@field secure boolean only for https://
---@field http_only boolean nothing here, but kept
---@field same_site? string "Strict", "Lax", "None": nothing here, but kept

local function host_of(url) return urls.bare(url.host):lower() end

-- Whether more than this very host may be meant.
local function is_domain(self, name)
  if cookie.is_address(name) or not name:find "%.[^.]+$" then return false end
  return not (self.public_suffix and self.public_suffix(name))
end

-- Settles what c is for: true; nil: it may not be, and why.
local function settle_domain(self, c, host)
  local domain = c.domain
  c.host_only = not domain or domain == "" or domain == host and not is_domain(self, domain)
  if c.host_only then
    c.domain = host
    return true
  end
  if not cookie.domain_matches(host, domain) then return nil, "a domain of others" end
  if not is_domain(self, domain) then return nil, "a public domain" end
  return true
end

-- Names that promise something (RFC 6265bis 4.1.3).
local function keeps_promise(c)
  local name = c.name:lower()
  if name:find "^__secure%-" then return c.secure end
  if name:find "^__host%-" then return c.secure and c.host_only and c.path == "/" end
  return true
end

local function remove(self, list, i)
  local domain = list[i].domain
  table.remove(list, i)
  self.count = self.count - 1
  if #list == 0 then self.domains[domain] = nil end
end

-- Drops what has expired of a list.
local function prune(self, list, now)
  for i = #list, 1, -1 do
    local expires = list[i].expires
    if expires and expires <= now then remove(self, list, i) end
  end
end

-- The cookies for a host, of its own and of the domains it is in.
local function of_host(self, host)
  local found, at, now = {}, 1, os.time()
  repeat
    local list = self.domains[host:sub(at)]
    if list then prune(self, list, now) end
    for _, c in ipairs(list or {}) do
      if at == 1 or not c.host_only then found[#found + 1] = c end
    end
    local dot = not cookie.is_address(host) and host:find(".", at, true)
    at = dot and dot + 1
  until not at
  return found
end

-- What came in the clear must not take the place of what was set in secrecy (RFC 6265bis 5.7).
local function hides_secure(self, c)
  for domain, list in pairs(self.domains) do
    if cookie.domain_matches(domain, c.domain) or cookie.domain_matches(c.domain, domain) then
      prune(self, list, os.time())
      for _, other in ipairs(list) do
        local same = other.secure and other.name == c.name
        if same and cookie.path_matches(c.path, other.path) then return true end
      end
    end
  end
  return false
end

-- The position of the cookie that was longest not used.
local function oldest(list)
  local found = 1
  for i, c in ipairs(list) do
    if c.used < list[found].used then found = i end
  end
  return found
end

-- Room for one more: of this domain, and in all (RFC 6265 5.3).
local function make_room(self, list)
  local now = os.time()
  prune(self, list, now)
  if #list >= OF_DOMAIN then remove(self, list, oldest(list)) end
  if self.count < OF_ALL then return end
  for _, all in pairs(self.domains) do prune(self, all, now) end
  if self.count < OF_ALL then return end
  local victim, at
  for _, other in pairs(self.domains) do
    local i = oldest(other)
    if not victim or other[i].used < victim[at].used then victim, at = other, i end
  end
  remove(self, victim, at)
end

-- The turn of a use: creation and access are told apart by it, however fast they follow.
local function turn(self)
  self.turns = self.turns + 1
  return self.turns
end

local function put(self, c)
  local list = self.domains[c.domain] or {}
  c.used, c.made = turn(self), self.turns
  for i, other in ipairs(list) do
    if other.name == c.name and other.path == c.path then
      c.made = other.made -- it keeps its place among the others
      remove(self, list, i)
      break
    end
  end
  if c.expires and c.expires <= os.time() then return end
  make_room(self, list)
  list[#list + 1] = c
  self.domains[c.domain], self.count = list, self.count + 1
end

-- Why a cookie of this URL is refused; nil: it is not.
local function refusal(self, c, url)
  local host = host_of(url)
  local ok, why = settle_domain(self, c, host)
  if not ok then return why end
  c.path = c.path or cookie.default_path(url.target)
  if not keeps_promise(c) then return "its name promises more" end
  if url.scheme == "https" then return nil end
  if c.secure then return "Secure over http://" end
  if hides_secure(self, c) then return "in the place of a Secure one" end
end

-- Takes over the Set-Cookie lines of a reply; url: as http.url has parsed it.
function jar:take(url, lines)
  for line in (lines or ""):gmatch "[^\n]+" do
    local c = cookie.parse(line, os.time())
    if c and not refusal(self, c, url) then put(self, c) end
  end
end

-- The Cookie header for a request; nil: none.
function jar:give(url)
  local path, found = url.target:match "^[^?]*", {}
  for _, c in ipairs(of_host(self, host_of(url))) do
    if cookie.path_matches(path, c.path) and (not c.secure or url.scheme == "https") then
      c.used = turn(self)
      found[#found + 1] = c
    end
  end
  if #found == 0 then return nil end
  table.sort(found, function(a, b) -- RFC 6265 5.4
    if #a.path ~= #b.path then return #a.path > #b.path end
    return a.made < b.made
  end)
  for i, c in ipairs(found) do found[i] = c.name .. "=" .. c.value end
  return table.concat(found, "; ")
end

local function parse(url, name)
  if type(url) ~= "string" then
    error(("bad argument #1 to '%s' (a URL expected)"):format(name), 3)
  end
  local parsed, why = urls.parse(url)
  if not parsed then error(("bad argument #1 to '%s' (%s)"):format(name, why), 3) end
  return parsed
end

--- Sets a cookie as a reply from that URL would: what is refused there is refused here.
---@param url string
---@param line string of Set-Cookie: "name=value; Path=/; Max-Age=60"
---@return boolean|nil true
---@return string? message
---@return string? code EINVAL
function jar:set(url, line)
  local from = parse(url, "set")
  if type(line) ~= "string" then error("bad argument #2 to 'set' (string expected)", 2) end
  local c = cookie.parse(line, os.time())
  local why = not c and "not a cookie" or refusal(self, c, from)
  if why then return nil, ("cookie for %s: %s"):format(url, why), "EINVAL" end
  put(self, c)
  return true
end

--- What a request for that URL takes along: "a=1; b=2".
---@param url string
---@return string|nil value of the header Cookie; nil: no cookie
function jar:get(url) return self:give(parse(url, "get")) end

--- All cookies, the oldest first, as tables of their own.
---@return neap.http.cookie[]
function jar:all()
  local found, now = {}, os.time()
  for _, list in pairs(self.domains) do
    prune(self, list, now)
    table.move(list, 1, #list, #found + 1, found)
  end
  table.sort(found, function(a, b) return a.made < b.made end)
  for i, c in ipairs(found) do
    found[i] = {
      name = c.name, value = c.value, domain = c.domain, host_only = c.host_only, path = c.path,
      expires = c.expires, secure = c.secure, http_only = c.http_only, same_site = c.same_site,
    }
  end
  return found
end

--- Forgets all cookies.
function jar:clear() self.domains, self.count = {}, 0 end

---@class neap.http.cookies_options
---@field public_suffix? fun(domain: string): boolean whether anybody may register names below that
--- domain (in lower case): no cookie is for all of it. Without it, only a domain of one label is
--- such a one: there is no list

local function new(opts)
  opts = opts or {}
  if type(opts) ~= "table" then
    error("bad argument #1 to 'cookies' (table expected, got " .. type(opts) .. ")", 2)
  end
  for key, value in pairs(opts) do
    if key ~= "public_suffix" then
      error(("bad argument #1 to 'cookies' (unknown option '%s')"):format(tostring(key)), 2)
    elseif type(value) ~= "function" then
      error("bad argument #1 to 'cookies' (option 'public_suffix': function expected)", 2)
    end
  end
  return setmetatable({
    domains = {}, count = 0, turns = 0, public_suffix = opts.public_suffix,
  }, jar)
end

return { meta = jar, new = new }
