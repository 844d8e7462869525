-- The response as a handler makes it: whole by send, or piece by piece by write.
--
-- The one idea: the head goes out with the first piece, in the same write; after that only the body
-- can be told to end. Names and values are checked, so nobody's input becomes a header of its own.

local compress = require "neap.http.compress"
local limits = require "neap.http.limits"
local status_text = require "neap.http.status"
local tasks = require "neap.task.core"

local DROP_MAX, SLICE = limits.drop_max, limits.slice

---@class neap.http.response
---@field status integer of a response that is written piece by piece; 200
---@field headers table<string, string|string[]> what is sent besides; names as they are to appear
---@field sent boolean the head has gone out
---@field compress boolean the body goes compressed to clients that ask for it; as http.serve says
local response = { __name = "neap.http.response" }

-- What each answer sets or asks for lies in slots of the table's array: a named field costs 200
-- instructions to make, a slot 20. Other files say res.size and so on.
local CONN <const>, REQ <const>, KEEP_ALIVE <const>, HAS_BODY <const> = 1, 2, 3, 4
local SENT <const>, DONE <const>, BROKEN <const>, CODE <const>, SIZE <const> = 5, 6, 7, 8, 9
local EXTRA <const>, COMPRESS <const>, HEAD_ONLY <const>, VERSION <const> = 10, 11, 12, 13
local slots = {
  conn = CONN, req = REQ, keep_alive = KEEP_ALIVE, has_body = HAS_BODY, sent = SENT, done = DONE,
  broken = BROKEN, code = CODE, size = SIZE, extra = EXTRA, compress = COMPRESS, headers = EXTRA,
}

-- A stream's method by its name costs 350 instructions.
local write = require("neap.stream.core").methods.write

local time, date = os.time, os.date

-- What begins an answer: the status line, Date, and for those with a length the field's name. Made
-- once a second (RFC 9110 6.6.1).
local made_at, date_text, plain, sized = -1, "", {}, {}

local function date_line()
  local now = time()
  if now ~= made_at then
    made_at, plain, sized = now, {}, {}
    date_text = date("!\r\nDate: %a, %d %b %Y %H:%M:%S GMT", now)
  end
  return date_text
end
response.date_line = date_line

local function beginning(status, has_length)
  local date_field = date_line()
  local list = has_length and sized or plain
  local text = list[status]
  if text then return text end
  text = ("HTTP/1.1 %d %s%s%s"):format(status, status_text[status] or "", date_field,
    has_length and "\r\nContent-Length: " or "")
  list[status] = text
  return text
end

local function check_status(status)
  if math.type(status) ~= "integer" or status < 200 or status > 599 then
    error(("bad status (an integer from 200 to 599 expected, got %s)"):format(tostring(status)), 3)
  end
end

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"
-- The framing is ours to say.
local framing = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true }

-- Lines that were checked, by name and value: most servers say the same few things again and again.
local LINES_MAX, LINE_MAX = 256, 128
local made, count = {}, 0

local function remember(name, value, line)
  if #line > LINE_MAX then return end
  if count == LINES_MAX then made, count = {}, 0 end
  local of_name = made[name] or {}
  made[name], of_name[value], count = of_name, line, count + 1
end

-- level: of the script's call, as add_fields' caller would give it to error.
local function make_line(name, value, level)
  if type(name) ~= "string" or not name:find(TOKEN) then
    error(("bad header name %q"):format(tostring(name)), level + 2)
  end
  local text = tostring(value)
  if text:find "[%z\1-\8\10-\31\127]" then
    error(("header %s: a character that no value may have"):format(name), level + 2)
  end
  if framing[name:lower()] then
    error(("header %s is set by what is sent"):format(name), level + 2)
  end
  local line = "\r\n" .. name .. ": " .. text
  if value == text then remember(name, value, line) end
  return line
end

-- The lines in `out`, and behind them those of the headers; most answers have one or two.
local function add_fields(out, headers, level)
  for name, value in pairs(headers) do
    local known = made[name]
    local line = known and known[value]
    if line then
      out = out .. line
    elseif type(value) == "table" then
      for _, one in ipairs(value) do out = out .. make_line(name, one, level) end
    else
      out = out .. make_line(name, value, level)
    end
  end
  return out
end

-- compresses: if asked; method, version, keep_alive: as the request says.
function response.new(compresses, conn, req, method, version, keep_alive, has_body)
  return setmetatable({
    conn, req, keep_alive, has_body, false, false, false, false, false, false,
    compresses, method == "HEAD", version,
  }, response)
end

-- All has gone, and nothing is left of the request: the next one may come at once.
function response.clean(self)
  return self[DONE] and self[KEEP_ALIVE] and not self[BROKEN] and not self[HAS_BODY]
end

-- A body is not sent with these, whatever was asked for (RFC 9112 6.3).
local function bodyless(status) return status == 204 or status == 304 end

-- Whether what is left of the request's body is too much to be dropped, unless the handler goes on
-- reading: then the client had better know (RFC 9112 9.6).
local function body_in_the_way(req)
  local input = rawget(req, "input")
  if input then
    return input.failed ~= nil or input.before ~= nil or
      math.type(input.left) == "integer" and input.left > DROP_MAX
  end
  return req.expects or req.length and req.length > DROP_MAX
end

-- Those of res.headers that the call does not give itself.
local function others(extra, headers)
  local given, rest = {}, {}
  for name in pairs(headers) do given[tostring(name):lower()] = true end
  for name, value in pairs(extra) do
    if type(name) ~= "string" or not given[name:lower()] then rest[name] = value end
  end
  return rest
end

-- The lines behind those that frame the message.
local function field_lines(self, headers, level)
  local out, extra = "", self[EXTRA]
  if extra and headers then extra = others(extra, headers) end
  if self[HAS_BODY] and body_in_the_way(self[REQ]) then self[KEEP_ALIVE] = false end
  if not self[KEEP_ALIVE] then out = "\r\nConnection: close"
  elseif self[VERSION] == 10 then out = "\r\nConnection: keep-alive" end
  if extra then out = add_fields(out, extra, level + 1) end
  if headers then out = add_fields(out, headers, level + 1) end
  return out
end

local function put_long(conn, first, piece, last)
  local ok, message, code = conn:write(first)
  for at = 1, #piece, SLICE do
    if ok then ok, message, code = conn:write(piece:sub(at, at + SLICE - 1)) end
  end
  if ok then ok, message, code = conn:write(last) end
  return ok, message, code
end

-- A failure leaves nothing to go on with.
local function outcome(self, ok, message, code)
  if ok then return self end
  self[BROKEN] = code
  return nil, message, code
end

local function put(self, first, piece, last)
  local conn = self[CONN]
  if #piece > SLICE then return outcome(self, put_long(conn, first, piece, last or "")) end
  return outcome(self, write(conn, first, piece, last or ""))
end

--- Sends a whole response. `headers` come before those of res.headers.
---@param status integer
---@param text? string the body; none
---@param headers? table<string, string|string[]>
---@return neap.http.response|nil self
---@return string? message
---@return string? code
function response:send(status, text, headers)
  check_status(status)
  if self[SENT] then error("a response was sent already", 2) end
  text = text or ""
  if type(text) ~= "string" then
    error(("bad argument #2 to 'send' (string expected, got %s)"):format(type(text)), 2)
  end
  if self[COMPRESS] then text, headers = compress.whole(self, status, text, headers) end
  local empty = bodyless(status)
  local first, size = beginning(status, not empty), empty and "" or #text
  local rest = field_lines(self, headers, 2)
  self[SENT], self[DONE], self[CODE] = true, true, status
  if self[HAS_BODY] then self[REQ].answered = true end
  if empty or self[HEAD_ONLY] then text = "" end
  self[SIZE] = #text
  if #text > SLICE then return put(self, first .. size .. rest .. "\r\n\r\n", text) end
  local ok, message, code = write(self[CONN], first, size, rest, "\r\n\r\n", text)
  if ok then return self end
  return outcome(self, ok, message, code)
end

local function begin(self)
  check_status(self.status)
  local length = rawget(self, "content_length")
  if length and (math.type(length) ~= "integer" or length < 0) then
    error(("bad content_length (bytes expected, got %s)"):format(tostring(length)), 3)
  end
  if self[COMPRESS] then self.encoder = compress.begin(self) end
  if rawget(self, "encoder") then length = nil end
  local empty = bodyless(self.status)
  self.chunked = not length and not empty and self[VERSION] == 11
  if not length and not empty and not self.chunked then self[KEEP_ALIVE] = false end
  local framed = empty and "" or length and "\r\nContent-Length: " .. length or
    self.chunked and "\r\nTransfer-Encoding: chunked" or ""
  local rest = field_lines(self, nil, 3)
  self[SENT], self[CODE], self[SIZE] = true, self.status, 0
  if self[HAS_BODY] then self[REQ].answered = true end
  self.mute = empty or self[HEAD_ONLY]
  return beginning(self.status, false) .. framed .. rest .. "\r\n\r\n"
end

-- A piece of the body on its way, with the head before it; `piece` may be empty.
local function put_piece(self, first, piece)
  local ok, message, code
  if piece == "" then
    if first == "" then return self end
    ok, message, code = put(self, first, "")
  elseif self.chunked then
    ok, message, code = put(self, ("%s%x\r\n"):format(first, #piece), piece, "\r\n")
  else
    ok, message, code = put(self, first, piece)
  end
  return ok, message, code
end

-- The same through the encoder. A client sees what was written when it would have seen it without:
-- all is flushed, unless more follows at once.
local function put_packed(self, first, piece, more)
  for at = 1, #piece, SLICE do
    local last = at + SLICE > #piece
    local packed = self.encoder:compress(piece:sub(at, at + SLICE - 1),
      last and not more and "sync" or "none")
    self.packed = (rawget(self, "packed") or 0) + #packed
    local ok, message, code = put_piece(self, first, packed)
    if not ok then return nil, message, code end
    first = ""
    if not last then tasks.yield() end
  end
  return self
end
response.put_packed = put_packed

--- Sends pieces of the body; the head goes first, with `status` and `headers` as they are then.
-- Waits while the client does not keep up. The handler's return, or finish(), ends the body.
---@param ... string|number
---@return neap.http.response|nil self
---@return string? message
---@return string? code
function response:write(...)
  if self[DONE] then error("the response has ended", 2) end
  local piece = table.concat({ ... })
  local first = self[SENT] and "" or begin(self)
  local ok, message, code
  local length = rawget(self, "content_length")
  if length and not self.mute and self[SIZE] + #piece > length then
    if first ~= "" then self[CONN]:write(first) end
    error(("more than content_length (%d) says"):format(length), 2) -- the client would take it for
  end                                                       -- the next answer
  self[SIZE] = self[SIZE] + #piece
  if self.mute then piece = "" end
  if piece ~= "" and rawget(self, "encoder") then
    ok, message, code = put_packed(self, first, piece)
  else
    ok, message, code = put_piece(self, first, piece)
  end
  return ok, message, code
end

--- Sends what was written to the client now, instead of when this task waits.
function response:flush()
  local ok, message, code = self, nil, nil
  if not self[SENT] then ok, message, code = put(self, begin(self), "") end
  if ok then ok, message, code = self[CONN]:flush() end
  if not ok then return nil, message, code end
  return self
end

-- The encoder's last bytes, as a chunk. What is told as the response's size is what was sent.
local function last_of(self)
  local last = self.encoder:finish()
  self.encoder:close()
  self[SIZE] = (rawget(self, "packed") or 0) + #last
  return ("%x\r\n%s\r\n"):format(#last, last)
end

--- Ends the body, with trailer fields if it is chunked.
---@param trailers? table<string, string>
function response:finish(trailers)
  if self[DONE] then return self end
  local first = self[SENT] and "" or begin(self)
  self[DONE] = true
  local length = rawget(self, "content_length")
  if length and not self.mute and self[SIZE] ~= length then
    self[KEEP_ALIVE] = false -- the client waits for the rest: it must see that none comes
    self[BROKEN] = self[BROKEN] or true
  end
  if rawget(self, "encoder") then
    first = first .. last_of(self)
    if self[BROKEN] then return self end -- whole it must not look
  end
  if not self.chunked or self.mute then
    if first == "" then return self end
    local ok, message, code = put(self, first, "")
    return ok, message, code
  end
  local last = first .. "0"
  if trailers then last = add_fields(last, trailers, 2) end
  local ok, message, code = put(self, last .. "\r\n\r\n", "")
  return ok, message, code
end

--- Answers with a redirection.
---@param location string
---@param status? integer 302
function response:redirect(location, status)
  return self:send(status or 302, "", { Location = location })
end

-- What an event stream's fields may not hold (HTML, server-sent events).
local function one_line(s, what)
  s = tostring(s)
  if s:find "[\r\n%z]" then error(("%s: no line ends expected"):format(what), 3) end
  return s
end

--- Begins a stream of server-sent events: a function that sends one and returns what write does;
-- for HEAD, which no event goes to, nil, message, EPIPE: nothing else would end that stream.
---@return fun(data: string, fields?: { event?: string, id?: string, retry?: integer })
function response:events()
  local headers = self.headers
  headers["Content-Type"] = "text/event-stream"
  headers["Cache-Control"] = "no-cache"
  self:flush()
  return function(data, fields)
    if self.mute then return nil, "events: the answer has no body", "EPIPE" end
    local out = {}
    for _, name in ipairs { "event", "id", "retry" } do
      local value = fields and fields[name]
      if value then out[#out + 1] = name .. ": " .. one_line(value, name) .. "\n" end
    end
    for line in (tostring(data):gsub("\r\n?", "\n") .. "\n"):gmatch "([^\n]*)\n" do
      out[#out + 1] = "data: " .. line .. "\n"
    end
    out[#out + 1] = "\n"
    local ok, message, code = self:write(table.concat(out))
    if ok then ok, message, code = self:flush() end
    return ok, message, code
  end
end

-- `headers` is made when it is first asked for: most responses have their fields with send. Only a
-- status that was set is there.
response.__index = function(self, key)
  local method = response[key]
  if method ~= nil then return method end
  if key == "headers" and not self[EXTRA] then self[EXTRA] = {} end
  local slot = slots[key]
  if slot then return self[slot] end
  return key == "status" and 200 or nil
end

response.__newindex = function(self, key, value)
  local slot = slots[key]
  if slot then self[slot] = value or false
  else rawset(self, key, value) end
end

return response
