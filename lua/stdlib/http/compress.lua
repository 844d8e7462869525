-- Compressed responses: gzip, for the clients that ask for it, of what gets smaller by it.
--
-- The one idea: a response says what it is before its head goes out; here is decided whether its
-- body goes compressed, and the head amended. What does not depend on the client's Accept-Encoding
-- is left alone; what does says so (Vary), so that no cache mixes the two up.
--
-- Secrets next to what a stranger may write should not be compressed: lengths tell (BREACH).

local limits = require "neap.http.limits"
local tasks = require "neap.task.core"
local zlib = require "neap.zlib"

local compress = {}

---@class neap.http.compress_options
---@field level? integer 1 (fast) to 9 (small); 6
---@field min_size? integer bytes of a body from which on it is worth it; 1024
---@field types? string[] content types besides text/*, JSON, XML, JavaScript, SVG, wasm, fonts

-- Smaller ones save no packet.
local MIN_SIZE <const> = 1024

-- What is not compressed already, and is no text/*.
local plain = {
  ["application/json"] = true, ["application/javascript"] = true, ["application/xml"] = true,
  ["application/ecmascript"] = true, ["application/x-javascript"] = true,
  ["application/x-ndjson"] = true, ["application/graphql"] = true, ["application/rtf"] = true,
  ["application/wasm"] = true, ["application/x-sh"] = true, ["application/x-tar"] = true,
  ["application/vnd.ms-fontobject"] = true, ["font/ttf"] = true, ["font/otf"] = true,
  ["image/bmp"] = true, ["image/vnd.microsoft.icon"] = true, ["image/x-icon"] = true,
}

local function compressible(content_type, more)
  local kind = content_type and content_type:lower():match "^%s*([^%s;]+)"
  if not kind then return false end
  return kind:find "^text/" ~= nil or plain[kind] or more[kind] or
    kind:find "%+json$" ~= nil or kind:find "%+xml$" ~= nil
end

-- The weight of an item: "gzip;q=0.5"; malformed ones weigh nothing.
local function weight(parameters)
  local text = parameters:match ";%s*[qQ]%s*=([^;]*)"
  if not text then return 1 end
  return tonumber(text:match "^%s*([01]%.?%d*)%s*$") or 0
end

-- Whether gzip is welcome, and not less so than nothing (RFC 9110 12.5.3).
function compress.accepts(list)
  local weights = {}
  for item in (list or ""):gmatch "[^,]+" do
    local name, parameters = item:match "^%s*([^%s;]+)(.*)$"
    if name then weights[name:lower()] = weight(parameters) end
  end
  local gzip = weights.gzip or weights["x-gzip"] or weights["*"] or 0
  return gzip > 0 and gzip >= (weights.identity or 0)
end

-- ---- the head ----

-- A field of the response, by its name in lower case: the call's own go before res.headers.
local function field(self, headers, name)
  for _, list in ipairs { headers or {}, self.extra or {} } do
    for key, value in pairs(list) do
      if type(key) == "string" and key:lower() == name then
        return type(value) == "table" and table.concat(value, ", ") or tostring(value)
      end
    end
  end
end

local names = {
  ["content-encoding"] = "Content-Encoding", vary = "Vary", etag = "ETag",
  ["accept-ranges"] = "Accept-Ranges",
}

-- Puts the changes (by names in lower case; false: none) into res.headers; the call's own headers
-- without them.
local function amend(self, headers, changes)
  local extra, rest = self.headers, {}
  for key in pairs(extra) do
    if type(key) == "string" and changes[key:lower()] ~= nil then extra[key] = nil end
  end
  for key, value in pairs(headers or {}) do
    if type(key) ~= "string" or changes[key:lower()] == nil then rest[key] = value end
  end
  for name, value in pairs(changes) do extra[names[name]] = value or nil end
  return rest
end

local function with_vary(given)
  if not given or given == "" then return "Accept-Encoding" end
  local list = "," .. given:lower():gsub("%s", "") .. ","
  if list:find(",*,", 1, true) or list:find(",accept-encoding,", 1, true) then return given end
  return given .. ", Accept-Encoding"
end

-- Another sequence of bytes is not the same strong entity (RFC 9110 8.8.3).
local function weak(tag)
  if not tag or tag:find "^W/" then return tag end
  return "W/" .. tag
end

-- Whether the body is of a kind that goes compressed to whoever wants it.
local function of_kind(self, status, headers, options, size)
  if size and size < options.min_size and status ~= 304 then return false end
  if status == 204 or field(self, headers, "content-encoding") then return false end
  local cache = field(self, headers, "cache-control")
  if cache and cache:lower():find "no%-transform" then return false end
  return compressible(field(self, headers, "content-type"), options.types)
end

-- Decides, and amends the head: true, or false: the body goes as it is; the call's own headers.
-- size: of the body, if it is known.
local function decide(self, status, headers, size)
  local req = self.req
  if not of_kind(self, status, headers, req.limits.compress, size) then return false, headers end
  local changes = { vary = with_vary(field(self, headers, "vary")) }
  local wanted = status ~= 206 and compress.accepts(req.headers["accept-encoding"])
  if wanted then changes.etag = weak(field(self, headers, "etag")) end
  local packed = wanted and status ~= 304 and req.method ~= "HEAD"
  if packed then
    changes["content-encoding"] = "gzip"
    changes["accept-ranges"] = false -- ranges are of what is not compressed
  end
  return packed, amend(self, headers, changes)
end

-- ---- the body ----

-- Deflaters that are used within one turn, by level: making one costs more than a page of text.
local spare = {}

local function whole(text, level)
  local d = spare[level] or zlib.deflater { format = "gzip", level = level }
  spare[level] = nil -- a finalizer may be here, too
  if #text <= limits.slice then
    local packed = d:finish(text)
    spare[level] = d:reset()
    return packed
  end
  local busy <close> = d
  local pieces = {}
  for at = 1, #text, limits.slice do
    pieces[#pieces + 1] = busy:compress(text:sub(at, at + limits.slice - 1))
    tasks.yield()
  end
  pieces[#pieces + 1] = busy:finish()
  return table.concat(pieces)
end

--- The body and the headers that response:send goes on with.
function compress.whole(self, status, text, headers)
  local packed, rest = decide(self, status, headers, #text)
  if packed then text = whole(text, self.req.limits.compress.level) end
  return text, rest
end

--- For a response that is written piece by piece: a deflater for its body, or nothing. It holds
--- 64 KiB until the response ends.
function compress.begin(self)
  if self.req.version == 10 then return nil end -- its end could not be told from a failure
  if not decide(self, self.status, nil, rawget(self, "content_length")) then return nil end
  local level = self.req.limits.compress.level
  return zlib.deflater { format = "gzip", level = level, window_bits = 13, memory = 6 }
end

-- ---- options ----

local function bad(text)
  error(("bad argument #2 to 'serve' (option 'compress': %s)"):format(text), 2)
end

local kinds = { level = "integer", min_size = "integer", types = "table" }

--- What http.serve was given: true, false, nil or a table of options.
function compress.options(given)
  if given ~= nil and type(given) ~= "boolean" and type(given) ~= "table" then
    bad("boolean or table expected, got " .. type(given))
  end
  local own = type(given) == "table" and given or {}
  for key, value in pairs(own) do
    if not kinds[key] then bad(("unknown option '%s'"):format(tostring(key))) end
    if (math.type(value) or type(value)) ~= kinds[key] then
      bad(("%s: %s expected"):format(key, kinds[key]))
    end
  end
  local level, min_size = own.level or 6, own.min_size or MIN_SIZE
  if level < 1 or level > 9 then bad "level: 1 to 9 expected" end
  if min_size < 0 then bad "min_size: 0 or more expected" end
  local types = {}
  for _, kind in ipairs(own.types or {}) do types[tostring(kind):lower()] = true end
  return { level = level, min_size = min_size, types = types }
end

return compress
