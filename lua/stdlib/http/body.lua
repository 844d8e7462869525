-- Bodies of HTTP/1 messages as they are read: by length, in chunks, until the end.
--
-- The one idea: a body is an iterator of pieces that knows whether it has ended; the whole body is
-- its pieces joined. What is left unread decides what may follow on the connection. Time that is
-- spent waiting for the peer is the peer's: so many seconds, and more for what it has sent. A wait
-- that its own task gives up (a deadline around it, cancellation) takes nothing away: whatever is
-- read next begins where that began.

local pieces = require "neap.http.pieces"
local tasks = require "neap.task.core"

local body = {}
body.__index = body

-- A chunk's size line with its extensions, which nobody uses: long ones only cost memory.
local SIZE_LINE_MAX = 256
-- Trailer fields are bounded like a head.
local TRAILERS_MAX = 8192
-- What a piece has at most, so that a large body never stands in memory as a whole.
local PIECE_MAX = 65536
local failure = { __name = "neap.error", __tostring = function(e) return e.message end }
local function fail(message, code) return nil, message, code end

-- What stands in `failed`, and is raised by iterators.
function body.failure(message, code)
  return setmetatable({ message = message, code = code, common = true }, failure)
end

-- length: bytes; "chunked"; or "end": until the peer closes. max: EMSGSIZE past it. timeout:
-- seconds for each wait. Its user may set
--   rate    bytes a second: all waits together may last `timeout`, and what that much needs;
--   by      the instant at which waiting ends;
--   before  called once before the first byte is read (100 Continue).
function body.new(conn, length, max, timeout)
  return setmetatable({
    conn = conn, left = length, max = max, got = 0, timeout = timeout,
    ended = length == 0, chunk = 0, waited = 0, options = {},
  }, body)
end

-- conn:name(a, b) within the time that is left.
local function timed(self, name, a, b)
  local conn, began, left = self.conn, tasks.now(), self.timeout
  if self.rate then left = math.min(left, left - self.waited + self.got / self.rate) end
  if self.by then left = math.min(left, self.by - began) end
  local options = self.options -- read when the call begins, and used again
  options.timeout = math.max(left, 0)
  local result, message, code
  if b then result, message, code = conn[name](conn, a, b, options)
  else result, message, code = conn[name](conn, a, options) end
  local took = tasks.now() - began
  self.waited, self.overdue = self.waited + took, took >= options.timeout
  return result, message, code
end

-- The next chunk's size, after the line end that closed the last one.
local function chunk_size(self)
  local line, message, code = timed(self, "read_until", "\r\n", SIZE_LINE_MAX)
  if not line then
    if message == nil then return fail("the end came inside a chunked body", "EPIPE") end
    return fail(message, code)
  end
  local digits = line:match "^(%x+)$" or line:match "^(%x+)[ \t]*;[\t\x20-\x7e\x80-\xff]*$"
  if not digits or #digits > 15 then return fail("malformed chunk size", "EBADMSG") end
  return tonumber(digits, 16)
end

local function read_trailers(self)
  local trailing = self.trailing or { fields = {}, size = 0 }
  self.trailing = trailing
  while true do
    local line, message, code = timed(self, "read_until", "\r\n", TRAILERS_MAX)
    if not line then return fail(message or "the end came inside the trailers", code or "EPIPE") end
    if line == "" then break end
    trailing.size = trailing.size + #line
    if trailing.size > TRAILERS_MAX then return fail("trailers too long", "EMSGSIZE") end
    local name, value = line:match "^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.*)$"
    if not name or value:find "[%z\1-\8\10-\31\127]" then
      return fail("malformed trailer", "EBADMSG")
    end
    trailing.fields[name:lower()] = value:match "^.*[^ \t]" or "" -- in linear time
  end
  self.trailers, self.trailing = trailing.fields, nil
  self.ended = true
  return nil
end

local function counted(self, piece, message, code)
  if not piece then
    if message == nil and self.left ~= "end" then
      return fail("the end came inside the body", "EPIPE")
    end
    self.ended = message == nil
    return nil, message, code
  end
  self.got = self.got + #piece
  if self.got > self.max then return fail("the body is too long", "EMSGSIZE") end
  return piece
end

-- The line end behind a chunk: not waited for before its bytes are given out.
local function end_chunk(self)
  local crlf, message, code = timed(self, "read", 2)
  if crlf ~= "\r\n" then return fail(message or "malformed end of chunk", code or "EBADMSG") end
  self.chunk = 0
  return true
end

-- self.chunk: bytes left of the present one; 0: a size comes; "end": its line end.
local function next_chunk(self)
  if self.trailing then return read_trailers(self) end
  if self.chunk == "end" then
    local ok, message, code = end_chunk(self)
    if not ok then return nil, message, code end
  end
  if self.chunk == 0 then
    local size, message, code = chunk_size(self)
    if not size then return nil, message, code end
    if size == 0 then return read_trailers(self) end
    if self.got + size > self.max then return fail("the body is too long", "EMSGSIZE") end
    self.chunk = size
  end
  local piece, message, code =
    counted(self, timed(self, "recv", math.min(self.chunk, PIECE_MAX)))
  if not piece then return nil, message, code end
  local left = self.chunk - #piece
  self.chunk = left > 0 and left or "end"
  return piece
end

local function next_piece(self)
  local left = self.left
  if left == "chunked" then return next_chunk(self) end
  if left == "end" then return counted(self, timed(self, "recv", PIECE_MAX)) end
  if left > self.max then return fail("the body is too long", "EMSGSIZE") end
  local piece, message, code = counted(self, timed(self, "recv", math.min(left, PIECE_MAX)))
  if piece then
    self.left = left - #piece
    self.ended = self.left == 0
  end
  return piece, message, code
end

-- The next piece of what was not read yet; nil at the end; nil, message, code. `failed` is what it
-- has failed with; `passing`: that was a deadline of the caller's, and reading may go on.
function body:read()
  if self.ended then return nil end
  local failed = self.failed
  if failed and not failed.passing then return nil, failed.message, failed.code end
  if self.before then
    local before = self.before
    self.before = nil
    before()
  end
  local piece, message, code = next_piece(self)
  self.failed = nil
  if not piece and code then
    self.failed = body.failure(message, code)
    self.failed.passing = code == "ETIMEDOUT" and not self.overdue
  end
  return piece, message, code
end

-- A piece; nil at the end; nil, message, code. What `all` had read when it was given up is first.
function body:next()
  local kept = self.kept
  if not kept or kept.n == 0 then return self:read() end
  self.kept = nil
  return table.concat(kept)
end

-- All of it as one string.
function body:all()
  if self.text then return self.text end -- it was read before
  local kept = self.kept or pieces.new()
  self.kept = kept
  while true do
    local piece, message, code = self:read()
    if not piece then
      if not code then break end
      if not self.failed.passing then self.kept = nil end
      return nil, message, code
    end
    pieces.add(kept, piece)
  end
  self.kept = nil
  self.text = kept.n == 1 and kept[1] or table.concat(kept)
  return self.text
end

-- An iterator of pieces, which raises what is no end.
function body:pieces()
  return function()
    local piece, _, code = self:next()
    if not piece and code then error(self.failed, 2) end
    return piece
  end
end

-- Whether its end is known to be at most so many bytes away.
function body:ends_within(bytes)
  return self.ended or math.type(self.left) == "integer" and self.left <= bytes
end

-- Drops what nobody has read, if that is little: true when the connection can go on.
function body:drop(most)
  self.kept = nil
  while not self.ended do
    if self.before or self.got > most then return false end
    if not self:next() and not self.ended then return false end
  end
  return true
end

return body
