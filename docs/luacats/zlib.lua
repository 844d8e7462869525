---@meta
-- Definitions for editors: compressors and decompressors, which are C (src/bindings/zlib.c).

--- A compressor, from zlib.deflater. What a flush means: "none" keeps bytes back as long as that
--- helps; "sync" gives all there is, ending with the bytes 00 00 ff ff (nothing is given when
--- nothing is new since the last one); "full" does, and forgets what came before; "finish" ends
--- the stream: what is compressed after that raises, until reset.
---@class neap.deflater
---@field ended boolean finished, and all was taken
---@field closed boolean
---@field total_in integer bytes taken
---@field total_out integer bytes given
local deflater = {}

--- Compresses s: what is ready, maybe nothing yet.
---@param s string
---@param flush? string "none" (the default), "sync", "full", "finish"
---@return string|nil bytes
---@return string? message
---@return string? code ECANCELED closed
function deflater:compress(s, flush) end

--- Takes s to be compressed by `next`, in pieces.
---@param s string
---@param flush? string as of compress
---@return neap.deflater|nil self
---@return string? message
---@return string? code ECANCELED closed
function deflater:feed(s, flush) end

--- At most max bytes of what is ready; nil: more has to be fed.
---@param max? integer 65536; at least 64
---@return string|nil bytes
---@return string? message
---@return string? code ECANCELED closed
function deflater:next(max) end

--- Compresses s and ends the stream: its last bytes.
---@param s? string
---@return string|nil bytes
---@return string? message
---@return string? code ECANCELED closed
function deflater:finish(s) end

--- Begins another stream, as a new object would, for a fraction of its cost.
---@return neap.deflater|nil self
---@return string? message
---@return string? code ECANCELED closed
function deflater:reset() end

--- Gives its memory back. Also at the end of a `<close>` variable.
---@return boolean true
function deflater:close() end

--- A decompressor, from zlib.inflater. After a failure it says so again, until reset.
---@class neap.inflater
---@field ended boolean the end of the stream was met, and nothing follows it yet
---@field closed boolean
---@field total_in integer bytes taken
---@field total_out integer bytes given
local inflater = {}

--- Decompresses s: all that it gives, which may be nothing yet.
---@param s string
---@param max? integer most bytes of the result; 67108864
---@return string|nil text
---@return string? message
---@return string? code EBADMSG corrupt, EMSGSIZE longer than max, ECANCELED closed
function inflater:decompress(s, max) end

--- Takes s to be decompressed by `next`, in pieces.
---@param s string
---@return neap.inflater|nil self
---@return string? message
---@return string? code ECANCELED closed
function inflater:feed(s) end

--- At most max bytes of what was fed; nil: more has to be fed, or it has ended.
---@param max? integer 65536
---@return string|nil text
---@return string? message
---@return string? code EBADMSG corrupt, EMSGSIZE after decompress said so, ECANCELED closed
function inflater:next(max) end

--- Asks whether the stream was whole, when all has been taken.
---@return boolean|nil true
---@return string? message
---@return string? code EPIPE cut short, EBADMSG bytes follow the end, EMSGSIZE, ECANCELED closed
function inflater:finish() end

--- What was fed and not taken: bytes behind the end.
---@return string
function inflater:rest() end

--- Begins another stream, as a new object would.
---@return neap.inflater|nil self
---@return string? message
---@return string? code ECANCELED closed
function inflater:reset() end

--- Gives its memory back. Also at the end of a `<close>` variable.
---@return boolean true
function inflater:close() end
