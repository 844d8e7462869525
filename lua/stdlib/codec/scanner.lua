-- neap.codec.scanner: a codec in Lua over bytes that come in pieces, as codecs in C have it.
--
-- Where the framing is C's, its scanner is used and each byte is looked at once. Else the codec is
-- asked again when as many bytes have come as it said are missing.

local Scanner = { __name = "neap.scanner" }
Scanner.__index = Scanner

function Scanner:feed(bytes)
  if self.ended then error("bad argument #1 to 'feed' (scanner was finished)", 2) end
  self.parts[#self.parts + 1] = bytes
  self.have = self.have + #bytes
  return self
end

function Scanner:finish()
  self.ended = true
  return self
end

function Scanner:rest()
  if self.parts[2] or self.pos > 1 then
    self.parts, self.pos = { table.concat(self.parts):sub(self.pos) }, 1
  end
  return self.parts[1] or ""
end

local function scanned(self, first, ...)
  if first == nil then
    local text, lack = ...
    if text == "more" then self.need = self.have + (lack or 1) end
    return nil, ...
  end
  local r = table.pack(first, ...)
  self.have = self.have - (r[r.n] - self.pos)
  self.pos, self.need = r[r.n], 0
  return table.unpack(r, 1, r.n - 1)
end

function Scanner:next()
  if self.have < self.need and not self.ended then return nil, "more", self.need - self.have end
  if self.parts[2] then self:rest() end
  return scanned(self, self.codec:decode(self.parts[1] or "", self.pos, self.ended))
end

function Scanner:__tostring()
  return ("neap.scanner{%s in=%d}"):format(self.codec.name, self.have)
end

local Through = setmetatable({ __name = "neap.scanner" }, { __index = Scanner })
Through.__index = Through

local function through(self, first, ...)
  if first == nil then return nil, ... end
  return self.codec.through(first, ...)
end

function Through:feed(bytes)
  self.frames:feed(bytes)
  return self
end

function Through:finish()
  self.frames:finish()
  return self
end

function Through:next() return through(self, self.frames:next()) end
function Through:rest() return self.frames:rest() end
Through.__tostring = function(self) return tostring(self.frames) end

return function(self)
  if self.framing then
    return setmetatable({ codec = self, frames = self.framing:scanner() }, Through)
  end
  return setmetatable({ codec = self, parts = {}, pos = 1, have = 0, need = 0, ended = false },
    Scanner)
end

