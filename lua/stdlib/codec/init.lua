-- neap.codec: framing as values. A codec says where a message begins and ends and what it means; it
-- does no I/O, so it serves streams (`conn:messages(codec)`), strings (`codec:decode`) and bytes
-- that come in pieces (`codec:scanner`) alike, and does not change: one serves any number of them.
--
-- The work is C (src/core/cond.c): each byte is looked at once, however they are split, and every
-- codec has a limit, because a peer must not fill memory with a message without an end.

local core = require "neap.codec.core"

local codec = {}

---@class neap.Codec
---@field decode fun(self: neap.Codec, bytes: string, pos?: integer, eof?: boolean): any, ...
--- The message at `pos` (1) and the position after it; `nil, "more"`: it is not complete; `nil`:
--- `eof` and nothing is left; `nil, message, code`: EMSGSIZE past the limit, EBADMSG no such
--- message, EPIPE the end came inside it. A record's values come one by one before the position.
---@field scanner fun(self: neap.Codec): neap.Scanner

---@class neap.Scanner
---@field feed fun(self: neap.Scanner, bytes: string): neap.Scanner adds bytes
---@field finish fun(self: neap.Scanner): neap.Scanner no more will come
---@field next fun(self: neap.Scanner): any, ... the next message, or as decode without it
---@field rest fun(self: neap.Scanner): string the bytes that no message took yet
---@field scanned fun(self: neap.Scanner): integer how many of them were looked at for good

--- Lines, without their "\n" unless `keep`; a "\r" before it stays, as with io.
---@param max? integer bytes before the "\n" (64 KiB)
---@param keep? boolean
---@return neap.Codec
codec.line = core.line

--- Bytes up to a delimiter, which is taken and not given. The rest at the end is a message, too.
---@param delimiter string at least one byte
---@param max? integer bytes before it (64 KiB)
---@return neap.Codec
codec.delim = core.delim

--- Messages of n bytes; the last may be shorter.
---@param n integer
---@return neap.Codec
codec.count = core.count

--- Records of string.pack, unpacked into their values; s1, s2, s4 and z included.
---@param format string up to 32 parts that give at least one value
---@param max? integer bytes of a record (16 MiB)
---@return neap.Codec
codec.record = core.record

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
