-- neap.zlib: compression by zlib, of whole strings and of streams as they come.

local core = require "neap.zlib.core"

local zlib = {}

---@class neap.zlib.compress_options
---@field format? string "zlib" (RFC 1950, the default), "gzip" (RFC 1952) or "raw" (RFC 1951)
---@field level? integer 0 (stored), 1 (fast) to 9 (small); 6
---@field window_bits? integer 8 to 15: references reach back at most 2^bits bytes; 15
---@field memory? integer 1 to 9: of the tables, 1 KiB to 256 KiB; 8
---@field strategy? string "default", "filtered", "huffman", "rle", "fixed"
---@field dictionary? string at most 32768 bytes that references may reach into; not with gzip

---@class neap.zlib.decompress_options
---@field format? string "auto" (gzip or zlib by the first byte; the default), "gzip", "zlib", "raw"
---@field window_bits? integer 8 to 15: the largest window that is accepted; 15
---@field joined? boolean what follows the end is another stream: of gzip the next member (that is
--- the default), of raw one whose references may reach into what came before
---@field dictionary? string the one that was used to compress
---@field max? integer of zlib.decompress: most bytes of the result; 67108864

--- Compresses a whole string.
---@param s string
---@param opts? neap.zlib.compress_options
---@return string bytes
zlib.compress = core.compress

--- Decompresses a whole string, which has to end where the stream in it ends.
---@param s string
---@param opts? neap.zlib.decompress_options
---@return string|nil text
---@return string? message
---@return string? code EBADMSG corrupt, EPIPE cut short, EMSGSIZE longer than max
zlib.decompress = core.decompress

--- A compressor of a stream. It holds 256 KiB as the options are by default (2^(window_bits + 2)
--- and 2^(memory + 9) bytes) until it is closed or collected.
---@param opts? neap.zlib.compress_options
---@return neap.deflater
zlib.deflater = core.deflater

--- A decompressor of a stream; it holds at most 2^window_bits bytes and 7 KiB.
---@param opts? neap.zlib.decompress_options without max
---@return neap.inflater
zlib.inflater = core.inflater

return zlib
