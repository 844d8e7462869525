---@meta
-- Definitions for editors: open files and watches, which are C (src/bindings/file.c, watch.c).

--- An open regular file, from neap.fs.open. It behaves like io's, and reads as a stream does: the
--- same formats, limits and codes. It has one position, which all calls share. At the end a read
--- looks again: what was added since is read. Each waiting call takes {timeout = s} last.
---@class neap.file
---@field path string as it was opened
---@field fd? integer the descriptor's number; nil: closed
---@field closed boolean
---@field timeout? number default of each wait, seconds; can be set, nil: none
---@field line_max integer most bytes of a line or delimited read, 65536; can be set
---@field read_max integer most bytes of a counted read, record or "a", 16777216; can be set
---@field unread_bytes? integer read ahead and not taken
local file = {}

--- As stream:read.
---@param ... neap.format|neap.timeout
---@return any ... a value per format; nil alone at the end
---@return string? message
---@return string? code
function file:read(...) end

--- As stream:lines.
---@param ... neap.format at most 250
---@return fun(): any, ...
function file:lines(...) end

--- As stream:recv: what comes with one read of the system, at most `max`.
---@param max? integer|neap.timeout
---@param opts? neap.timeout
---@return string? bytes nil alone at the end
---@return string? message
---@return string? code
function file:recv(max, opts) end

--- As stream:peek.
---@param n? integer|neap.timeout
---@param opts? neap.timeout
---@return string? bytes
---@return string? message
---@return string? code
function file:peek(n, opts) end

--- As stream:read_until.
---@param delimiter string
---@param max? integer|neap.timeout
---@param opts? neap.timeout
---@return string? bytes
---@return string? message
---@return string? code
function file:read_until(delimiter, max, opts) end

--- As stream:unread: the position goes back, the file does not change.
---@param bytes string
---@return neap.file? self
---@return string? message
---@return string? code
function file:unread(bytes) end

--- As stream:unpack.
---@param format string
---@param opts? neap.timeout
---@return any ...
---@return string? message
---@return string? code
function file:unpack(format, opts) end

--- As stream:match.
---@param pattern userdata an LPeg pattern
---@param max? integer
---@param opts? neap.timeout
---@return any ...
---@return string? message
---@return string? code
function file:match(pattern, max, opts) end

--- As stream:messages.
---@param codec neap.Codec|table
---@return fun(): any, ...
function file:messages(codec) end

--- Writes at the position (or the end: "a"), all pieces or a failure, and waits until the system
--- has them: nothing is kept back. Several tasks' writes take turns. One that is cancelled
--- may still be written. After a failure the position is behind what was written.
---@param ... string|number|neap.timeout
---@return neap.file? self
---@return string? message
---@return string? code ENOSPC, EFBIG, EIO, EBADF (opened for reading), ECANCELED (closed) …
function file:write(...) end

--- Does nothing: `write` keeps nothing back.
---@return neap.file? self
---@return string? message
---@return string? code ECANCELED (closed)
function file:flush() end

--- Waits until what was written is on the disk.
---@param opts? neap.timeout
---@return neap.file? self
---@return string? message
---@return string? code EIO, ENOSPC …
function file:sync(opts) end

--- The same without the times and the like.
---@param opts? neap.timeout
---@return neap.file? self
---@return string? message
---@return string? code
function file:datasync(opts) end

--- Cuts the file, or lengthens it with zeros.
---@param size? integer bytes; up to the position
---@param opts? neap.timeout
---@return neap.file? self
---@return string? message
---@return string? code EINVAL (opened for reading), EFBIG …
function file:truncate(size, opts) end

--- As neap.fs.stat.
---@param opts? neap.timeout
---@return neap.fs.stat_result? result
---@return string? message
---@return string? code
function file:stat(opts) end

--- Moves the position, as io's: seek() tells it, seek("set") goes to the beginning.
---@param whence? "set"|"cur"|"end"
---@param offset? integer bytes
---@param opts? neap.timeout
---@return integer? position from the beginning
---@return string? message
---@return string? code EINVAL: before the beginning
function file:seek(whence, offset, opts) end

--- Closes, and waits for what the system says then. Where waiting is impossible it goes on by
--- itself. Idempotent, as is `<close>`.
---@param opts? neap.timeout
---@return true? ok
---@return string? message
---@return string? code EIO, ENOSPC, EDQUOT …
function file:close(opts) end

--- From neap.fs.watch.
---@class neap.watch
local watch = {}

--- Waits for the next event: "create", "delete", "modify", "written" (closed after writing),
--- "attrib", "moved_from", "moved_to"; "moved" and "gone" of what is watched itself; "overflow":
--- some were lost.
---@param opts? neap.timeout
---@return string? what nil alone: what was watched is gone
---@return string? name in a directory: whose; nil: of what is watched itself. Or the message
---@return boolean|string|nil is_directory or the code: ETIMEDOUT, ECANCELED (closed)
function watch:event(opts) end

--- An iterator of event(). Ends when what was watched is gone, or our own side closes.
---@return fun(): string?, string?, boolean?
function watch:events() end

--- Idempotent, as is `<close>`.
---@return true
function watch:close() end
