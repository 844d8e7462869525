-- Content codings taken off the bodies of replies (RFC 9110 8.4).
--
-- The one idea: a decompressed body is a body whose pieces come from another body; each coding is
-- one more of them. What comes out is counted like what comes in: a few bytes may stand for many.

local bodies = require "neap.http.body"
local tasks = require "neap.task.core"
local zlib = require "neap.zlib"

-- More in a row are nobody's honest answer.
local CODINGS_MAX = 5
local PIECE_MAX = 65536
-- So much comes out of what was read already before others have their turn.
local SLICE = 1 << 20

local decompressed = { all = bodies.all, next = bodies.next, pieces = bodies.pieces }
decompressed.__index = decompressed

-- "deflate" is the zlib format, which some servers never learnt: theirs is raw. A zlib header is a
-- multiple of 31 (RFC 1950 2.2).
local function deflate_inflater(bytes)
  local a, b = bytes:byte(1, 2)
  local zlib_header = a & 15 == 8 and (a << 8 | b) % 31 == 0
  return zlib.inflater { format = zlib_header and "zlib" or "raw" }
end

local formats = {
  gzip = function() return zlib.inflater { format = "gzip" } end,
  ["x-gzip"] = function() return zlib.inflater { format = "gzip" } end,
  deflate = deflate_inflater,
}

local function new(source, format, max)
  return setmetatable({
    source = source, format = format, max = max, got = 0, run = 0, before = "",
    ended = source.ended,
  }, decompressed)
end

local function fail(self, message, code)
  self.failed = bodies.failure(message, code)
  self:close()
  return nil, message, code
end

-- The source's end: true when the last stream in it was whole. Nothing at all is no stream.
local function at_end(self)
  if self.before ~= "" then return nil, "the end is missing", "EPIPE" end
  if not self.inflater then return true end
  return self.inflater:finish()
end

-- More of the source for the inflater; false: its end; nil, message, code.
local function refill(self)
  local source = self.source
  local piece, message, code = source:read()
  self.run = 0
  if not piece then
    if code and source.failed.passing then
      self.failed = source.failed
      return nil, message, code
    end
    if code then return fail(self, message, code) end
    local ok
    ok, message, code = at_end(self)
    if not ok then return fail(self, "compressed body: " .. message, code) end
    self.ended = true
    self:close()
    return false
  end
  local inflater = self.inflater
  if not inflater then
    piece = self.before .. piece
    self.before = #piece < 2 and piece or ""
    if #piece < 2 then return true end
    inflater = self.format(piece)
    self.inflater = inflater
  end
  inflater:feed(piece)
  return true
end

-- As body:read.
function decompressed:read()
  local failed = self.failed
  if failed and not failed.passing then return nil, failed.message, failed.code end
  self.failed = nil
  if self.run >= SLICE then
    self.run = 0
    tasks.yield() -- with nothing in hand that a cancellation here would lose
  end
  while not self.ended do
    local piece, message, code
    if self.inflater then piece, message, code = self.inflater:next(PIECE_MAX) end
    if code then return fail(self, "compressed body: " .. message, code) end
    if not piece and self.inflater and self.inflater.ended and self.inflater:rest() ~= "" then
      return fail(self, "compressed body: bytes behind its end", "EBADMSG")
    end
    if piece then
      self.got, self.run = self.got + #piece, self.run + #piece
      if self.got > self.max then return fail(self, "the body is too long", "EMSGSIZE") end
      return piece
    end
    local more
    more, message, code = refill(self)
    if more == nil then return nil, message, code end
  end
end

-- Frees the window; what is not read by now never will be.
function decompressed:close()
  if self.inflater then self.inflater:close() end
  self.inflater = nil
end

--- headers: those of the reply, which are changed to what is left; input: its body. The body
--- without the codings we know, from the outermost inwards; max: of its bytes.
return function(headers, input, max)
  local given = headers["content-encoding"]
  if not given then return input end
  local names, off = {}, {}
  for name in given:lower():gmatch "[^,%s]+" do
    if name ~= "identity" then names[#names + 1] = name end
  end
  while #names > 0 and formats[names[#names]] and #off < CODINGS_MAX do
    off[#off + 1] = table.remove(names)
    input = new(input, formats[off[#off]], max)
  end
  if #off == 0 then return input end
  headers["content-length"] = nil
  headers["content-encoding"] = #names > 0 and table.concat(names, ", ") or nil
  return input, table.concat(off, ", ")
end
