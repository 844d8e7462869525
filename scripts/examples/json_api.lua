-- json_api.lua: gets a list from a JSON API, page by page, and what its items link to, a few at a
-- time; prints one line of JSON for each.
--
-- Shows: http.get with a deadline and a bound on what comes; paging by Link (RFC 8288); 429
--        and 503 with Retry-After; a semaphore in a group; nothing is asked of another server.
-- Try:   (with Debian's lua-cjson)
--        neap scripts/examples/json_api.lua 'https://api.github.com/users/lua/repos?per_page=5'

local cjson = require "cjson.safe"
local http = require "neap.http"
local neap = require "neap"

local TRIES, SECONDS, AT_ONCE, PAGES = 3, 20, 4, 10

local function origin(url) return url:match "^%a+://[^/?#]+" end

local options = {
  headers = { Accept = "application/json" }, max_body = 4 << 20, redirects = 0, timeout = SECONDS,
}

-- The first answer that does not ask for patience.
local function patiently(url)
  for try = 1, TRIES do
    local reply, message = http.get(url, options)
    if not reply then return nil, message end
    local busy = reply.status == 429 or reply.status == 503
    if not busy or try == TRIES then return reply end
    reply:close()
    neap.sleep(tonumber(reply.headers["retry-after"]) or 1)
  end
end

-- The decoded body and the URL of the next page, if there is one; or nil and why not.
local function fetch(url)
  local reply <close>, message = patiently(url)
  if not reply then return nil, message end
  local kind = reply.headers["content-type"] or "nothing"
  if reply.status ~= 200 then return nil, ("%s: %d %s"):format(url, reply.status, reply.reason) end
  if not kind:find "^application/[%w.+-]*json" then return nil, url .. ": " .. kind end
  local text
  text, message = reply:body()
  if not text then return nil, message end
  local value
  value, message = cjson.decode(text)
  if value == nil then return nil, url .. ": " .. message end
  local link = (reply.headers.link or ""):match '<([^>]*)>[^,]*rel="?next"?'
  if link and link:sub(1, 1) == "/" then link = origin(url) .. link end
  return value, link
end

-- What an item links to, or the item itself.
local function details(item, home)
  local url = type(item) == "table" and item.url
  if type(url) ~= "string" then return item end
  if origin(url) ~= home then return nil, url .. ": another server" end
  return fetch(url)
end

local failed = false
local function fail(message)
  io.stderr:write("json_api: ", message, "\n")
  failed = true
end

local function page(list, home)
  local slots, results = neap.semaphore(AT_ONCE), {}
  neap.group(function(g)
    for i, item in ipairs(list) do
      g:spawn(function()
        local _ <close> = slots:permit()
        local value, message = details(item, home)
        if value == nil then fail(message) else results[i] = cjson.encode(value) end
      end)
    end
  end)
  for i = 1, #list do
    if results[i] then print(results[i]) end
  end
end

local url = assert(arg[1], "which URL?")
local home = origin(url)
for _ = 1, PAGES do
  local list, link = fetch(url)
  if type(list) ~= "table" then fail(link or url .. ": a list expected") break end
  page(list, home)
  if not link then break end
  if origin(link) ~= home then fail(link .. ": another server") break end
  url = link
end
http.forget()
os.exit(not failed)
