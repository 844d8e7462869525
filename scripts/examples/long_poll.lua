-- long_poll.lua: channels of messages over plain HTTP: POST adds one, GET waits for the next.
--
-- Shows: an answer that waits for an event; a history for who is between two polls; a bound on
--        all that a client can make grow. The answer's Link says where to go on.
-- Try:   neap scripts/examples/long_poll.lua 127.0.0.1:8080
--        curl -i 'http://127.0.0.1:8080/news?wait=25', and elsewhere
--        curl -d hello http://127.0.0.1:8080/news; curl -i 'http://127.0.0.1:8080/news?since=0'

local http = require "neap.http"
local neap = require "neap"

local KEEP = 100 -- messages of a channel
local CHANNELS = 100
local WAIT_S, WAIT_MAX_S = 25, 60

local channels, count = {}, 0 -- name -> { [id] = message, last, posted, waiting, at }

-- Makes room for a channel: the one that has been quiet longest goes, if nobody waits for it.
local function forget_one()
  local oldest
  for name, c in pairs(channels) do
    local quiet = c.waiting == 0 and (not oldest or c.at < channels[oldest].at)
    if quiet then oldest = name end
  end
  if not oldest then return false end
  channels[oldest], count = nil, count - 1
  return true
end

-- The channel of a request; nothing when it was answered because there is none.
local function channel_of(req, res)
  local name = req.params.channel
  if #name > 64 or name:find "[^%w._-]" then return res:send(404, "no such name\n") and nil end
  if not channels[name] then
    if count >= CHANNELS and not forget_one() then
      return res:send(503, "too many channels\n", { ["Retry-After"] = "5" }) and nil
    end
    channels[name] = { last = 0, posted = neap.event(), waiting = 0 }
    count = count + 1
  end
  channels[name].at = neap.now()
  return channels[name]
end

local function post(req, res)
  local text, _, code = req:body()
  if not text then return res:send(code == "EMSGSIZE" and 413 or 400, "no message\n") end
  local c = channel_of(req, res)
  if not c then return end
  c.last = c.last + 1
  c[c.last], c[c.last - KEEP] = text, nil
  c.posted:set() -- who waits now has seen it
  c.posted:clear()
  res:send(201, c.last .. "\n")
end

-- One message after `since`; without it the next that comes.
local function get(req, res)
  local c = channel_of(req, res)
  if not c then return end
  local since = math.tointeger(tonumber(req.query.since)) or c.last
  if since < 0 or since > c.last then since = 0 end -- told by a server before this one
  if since == c.last then
    local wait = math.max(0, math.min(tonumber(req.query.wait) or WAIT_S, WAIT_MAX_S))
    c.waiting = c.waiting + 1
    req:await(c.posted, { timeout = wait }) -- or until the client has gone
    c.waiting = c.waiting - 1
  end
  local id = math.max(since, c.last - KEEP) + 1
  if id > c.last then id = since end
  res:send(id > since and 200 or 204, c[id], {
    ["Content-Type"] = "text/plain", ["X-Content-Type-Options"] = "nosniff",
    ["Cache-Control"] = "no-store",
    Link = ('<%s?since=%d>; rel="next"'):format(req.path, id),
  })
end

local r = http.router()
r:get("/:channel", get)
r:post("/:channel", post)

local server = http.serve(arg[1] or "127.0.0.1:8080", { max_body = 16384 }, r)

print("long_poll: listening on " .. server.address)
