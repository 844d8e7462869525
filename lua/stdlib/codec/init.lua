-- neap.codec: framing as values. A codec says where a message begins and ends and what it means; it
-- does no I/O, so it serves streams (`conn:messages(codec)`), strings (`codec:decode`) and bytes
-- that come in pieces (`codec:scanner`) alike, and does not change: one serves any number of them.
--
-- The work is C (src/core/cond*.c): each byte is looked at once, however they are split, and every
-- codec has a limit, because a peer must not fill memory with a message without an end. What they
-- are made to with functions and each other is Lua (compose.lua, parts.lua), once per message.

local core = require "neap.codec.core"
local compose = require "neap.codec.compose"
local parts = require "neap.codec.parts"

local face = require "neap.face"

local codec = { sequence = parts.sequence, choice = parts.choice, parse = compose.parse,
  new = compose.new }

---@class neap.Codec
---@field decode fun(self: neap.Codec, bytes: string, pos?: integer, eof?: boolean): any, ...
--- The message at `pos` (1) and the position after it; `nil, "more", n`: at least n bytes are
--- missing; `nil`: `eof` and nothing is left; `nil, message, code`: EMSGSIZE past the limit,
--- EBADMSG no such message, EPIPE the end came inside it. A message of several values (of record,
--- tlv, choice) has them one by one before the position.
---@field encode fun(self: neap.Codec, ...): string
--- The bytes of a message, given as decode gives it (several values also as a list); `nil, message,
--- code`: EMSGSIZE past the limit, EINVAL what would be read as another message (a delimiter
--- inside) or values that have no room.
---@field scanner fun(self: neap.Codec): neap.Scanner

---@class neap.Scanner
---@field feed fun(self: neap.Scanner, bytes: string): neap.Scanner adds bytes
---@field finish fun(self: neap.Scanner): neap.Scanner no more will come
---@field next fun(self: neap.Scanner): any, ... the next message, or as decode without it
---@field rest fun(self: neap.Scanner): string the bytes that no message took yet
---@field scanned fun(self: neap.Scanner): integer how many of them were looked at for good (only of
--- codecs in C)

--- Lines, without their "\n" unless `keep`; a "\r" before it stays, as with io.
---@param max? integer bytes before the "\n" (64 KiB)
---@param keep? boolean
---@return neap.Codec
codec.line = core.line

--- Bytes up to a delimiter, which is taken and not given. The rest at the end is a message, too.
---@param delimiter string at least one byte
---@param max? integer bytes before it (64 KiB)
---@return neap.Codec
codec.until_ = core.delim

--- Messages of n bytes; the last may be shorter.
---@param n integer
---@return neap.Codec
codec.count = core.count

--- Messages of n bytes, the last one too (EPIPE).
---@param n integer at least 1
---@return neap.Codec
codec.fixed = core.fixed

--- Netstrings: "3:abc," (https://cr.yp.to/proto/netstrings.txt). EBADMSG for zeros in front.
---@param max? integer bytes within (16 MiB)
---@return neap.Codec
codec.netstring = core.netstring

--- Bytes behind their length, an integer of at most 8 bytes as string.pack has it: ">I2", "<i4".
-- EBADMSG for one below zero.
---@param format string
---@param max? integer bytes behind the length (16 MiB)
---@param adjust? integer is added to the length read (0): -4 where 4 bytes of length count, too
---@return neap.Codec
codec.prefixed = core.prefixed

--- A tag, a length and as many bytes: two values, the tag (an integer) and the bytes.
---@param format string two integers of at most 8 bytes, the tag and the length: ">I1I2"
---@param max? integer bytes behind the length (16 MiB)
---@param adjust? integer is added to the length read (0)
---@return neap.Codec
codec.tlv = core.tlv

--- Records of string.pack, s1, s2, s4 and z included: their values, or with names one table.
---@param format string up to 32 parts that give at least one value
---@param names? string[] a name for each value
---@param max? integer bytes of a record (16 MiB)
---@return neap.Codec
function codec.record(format, names, max)
  if type(names) == "table" then return compose.named(format, names, max) end
  return core.record(format, max or names)
end
codec.record = face(codec.record)

--- Requests of RESP2 (redis): a table of strings each, from arrays and from inline commands.
---@param max? integer bytes of a request (16 MiB); inline commands have at most 64 KiB
---@return neap.Codec
codec.resp = core.resp

--- Numerals as io.read("n") reads them; nil for what is none.
---@param max? integer blanks before it (64 KiB)
---@return neap.Codec
codec.number = core.number

--- Whatever is there.
---@param max? integer bytes of a message (no limit)
---@return neap.Codec
codec.any = core.any

--- Everything until the end, as one message.
---@param max? integer (16 MiB)
---@return neap.Codec
codec.all = core.all

return codec
